//! CVE-2026-31431: a hole of the kernel behind AF_ALG sockets, which few programs need; the default profile denies them.

use super::{add_mount, common::Bundle};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};
use serde_json::{Value, json};
use std::path::Path;

/// The program in the container: this test binary, with the host's libraries. Prints what socket(2) says.
#[test]
#[ignore = "runs in the container of the test below"]
fn inside() {
    for (name, family) in [("unix", libc::AF_UNIX), ("alg", libc::AF_ALG), ("vsock", libc::AF_VSOCK)] {
        let result = socket(AddressFamily::from_raw(family as u16), SocketType::SEQPACKET, None).map(drop);
        println!("{name} {result:?}");
    }
}

#[test]
fn the_sample_profile_denies_af_alg_sockets() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/seccomp/config.json");
    let sample: Value = serde_json::from_slice(&std::fs::read(sample).unwrap()).unwrap();
    let test = std::env::current_exe().unwrap();
    let bundle = Bundle::new(&["/test", "--exact", "cve_2026_31431_af_alg::inside", "--ignored", "--nocapture"]).with(|config| {
        config["linux"]["seccomp"] = sample["linux"]["seccomp"].clone();
        config["process"]["rlimits"] = json!([]);
        add_mount(config, "bind", &test, "/test");
        for dir in ["/lib", "/lib64", "/usr/lib"].map(Path::new).iter().filter(|dir| dir.is_dir()) {
            add_mount(config, "bind", dir, dir.to_str().unwrap());
        }
    });
    let out = bundle.run().ok();
    let without = bundle.with(|config| drop(config["linux"].as_object_mut().unwrap().remove("seccomp"))).run().ok();
    assert!(!without.contains(&format!("{:?}", Errno::PERM)), "it is not the profile that denies: {without}");
    assert!(out.contains("unix Ok"), "{out}");
    for family in ["alg", "vsock"] {
        assert!(out.contains(&format!("{family} Err({:?})", Errno::PERM)), "{family} is not denied by the profile: {out}");
    }
}
