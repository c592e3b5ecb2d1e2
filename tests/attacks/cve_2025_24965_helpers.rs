//! CVE-2025-24965, CVE-2026-84042: helper programs that were looked up where the image or the bundle could put its own.

use super::{Guard, as_caller, common::Bundle, control_with};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// An ordinary user, whose maps of more than one id need newuidmap(1) and newgidmap(1).
const CALLER: [&str; 4] = ["--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=-all"];

#[test]
fn the_map_helpers_are_the_hosts_whatever_path_says() {
    let bundle = Bundle::new(&["true"]).with(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        config["linux"]["uidMappings"] = json!([
            { "containerID": 0, "hostID": 1000, "size": 1 }, { "containerID": 1, "hostID": 100_000, "size": 10 }
        ]);
        config["linux"]["gidMappings"] = config["linux"]["uidMappings"].clone();
        config["process"]["env"] = json!(["PATH=/bin"]);
    });
    let guard = Guard::new(&bundle);
    let (fake, mark) = (bundle.rootfs().join("bin"), bundle.dir.join("mark"));
    fs::create_dir(&mark).unwrap();
    fs::set_permissions(&mark, fs::Permissions::from_mode(0o777)).unwrap();
    for name in ["newuidmap", "newgidmap"] {
        for dir in [&fake, &bundle.dir] {
            fs::write(dir.join(name), format!("#!/bin/sh\necho called > {}/$$\n", mark.display())).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    fs::create_dir(bundle.state_root()).unwrap();
    std::os::unix::fs::chown(bundle.state_root(), Some(1000), Some(1000)).unwrap();
    bundle.write();
    // The caller's PATH names the image's programs first, and the working directory is the bundle.
    let path = format!("PATH={}:.:/usr/bin:/bin", fake.display());
    let keel = bundle.command(&["--cgroup-manager", "disabled", "run", &bundle.id()]);
    let mut command = std::process::Command::new("setpriv");
    command.args(CALLER).args(["env", &path]).arg(keel.get_program()).args(keel.get_args()).current_dir(&bundle.dir);
    let said = super::said(command.output().unwrap());
    assert_eq!(fs::read_dir(&mark).unwrap().count(), 0, "a helper of the image was executed: {said:?}");
    // The look-up was reached: the host's helper did it, or refused, or is missing.
    assert!(said.code == 0 || said.err.contains("newuidmap") || said.err.contains("map"), "{said:?}");
    assert!(as_caller(&bundle, &CALLER, &["--version"]).code == 0);
    guard.unchanged();
    control_with(&bundle, &guard, |peer| {
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(bundle.dir.join("control"), open).unwrap();
        peer.said(&[&CALLER[..], &["env", &path]].concat(), &["run", "ID"]);
        fs::read_dir(&mark).unwrap().count() > 0
    });
}
