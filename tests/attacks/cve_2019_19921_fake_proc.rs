//! CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-52881: an image or volume in place of /proc or
//! /sys, so that labels and sysctls were written into a fake file, or into another than was meant.

use super::{Guard, add_mount, common::Bundle, control, without_mount};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

#[test]
fn proc_and_sys_are_not_mounted_through_a_link() {
    for name in ["proc", "sys"] {
        for target in ["/tmp", "tmp", "/canary", "/", "../canary", "/etc/passwd"] {
            let bundle = Bundle::new(&["true"]);
            let guard = Guard::new(&bundle);
            fs::remove_dir(bundle.rootfs().join(name)).unwrap();
            symlink(target, bundle.rootfs().join(name)).unwrap();
            bundle.run().fails(1, &[&format!("at /{name}"), "not a link"]);
            guard.unchanged_and_empty(&bundle);
        }
    }
}

/// Runs a bundle with one more mount, after the others (over the mounted proc) and before them (under it).
fn refused(kind: &str, destination: &str, change: impl Fn(&Bundle)) {
    for first in [false, true] {
        let bundle = Bundle::new(&["echo", "ran"]);
        let guard = Guard::new(&bundle);
        fs::create_dir_all(guard.canary.join("attr")).unwrap();
        change(&bundle);
        let before = Guard::new(&bundle);
        let bundle = bundle.with(|config| {
            add_mount(config, kind, &guard.canary, destination);
            let mounts = config["mounts"].as_array_mut().unwrap();
            if first {
                mounts.rotate_right(1);
            }
        });
        let said = bundle.run();
        assert!(said.code == 1 && said.out.is_empty(), "{kind} on {destination}, before the others: {first}: {said:?}");
        assert!(said.err.contains("/proc") && said.err.lines().count() == 1, "{said:?}");
        before.unchanged_and_empty(&bundle);
    }
}

#[test]
fn nothing_is_mounted_on_proc_or_below_it() {
    for destination in ["/proc", "/proc/self", "/proc/self/attr", "/proc/sys", "/proc/1/attr", "/proc/thread-self/attr/exec", "proc/self"] {
        refused("tmpfs", destination, |_| {});
        refused("bind", destination, |_| {});
    }
}

#[test]
fn not_by_another_spelling() {
    for destination in ["//proc//self", "/proc/.", "/./proc/self/", "/tmp/../proc/sys", "/../proc/self/attr", "/proc/cpuinfo/../self"] {
        refused("bind", destination, |_| {});
    }
}

#[test]
fn nor_through_a_link_of_the_image() {
    for (target, destination) in [
        ("/proc/self", "/link/attr"),
        ("/proc", "/link"),
        ("/proc", "/link/sys"),
        ("../../../proc/sys", "/link"),
        ("/proc/self/root/proc", "/link"),
    ] {
        let bundle = Bundle::new(&["echo", "ran"]);
        let guard = Guard::new(&bundle);
        symlink(target, bundle.rootfs().join("link")).unwrap();
        for kind in ["tmpfs", "bind"] {
            let mut bundle = Bundle::new(&["echo", "ran"]);
            symlink(target, bundle.rootfs().join("link")).unwrap();
            add_mount(&mut bundle.config, kind, &guard.canary, destination);
            let said = bundle.run();
            assert!(said.code == 1 && said.out.is_empty(), "{kind} on {destination} with a link to {target}: {said:?}");
            guard.unchanged();
        }
    }
}

#[test]
fn nor_through_a_link_of_a_volume() {
    let bundle = Bundle::new(&["echo", "ran"]);
    let volume = bundle.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    symlink("/proc/self", volume.join("link")).unwrap();
    let guard = Guard::new(&bundle);
    let bundle = bundle.with(|config| {
        add_mount(config, "bind", &volume, "/vol");
        add_mount(config, "tmpfs", Path::new("tmpfs"), "/vol/link/attr");
    });
    bundle.run().fails(1, &["/proc"]);
    guard.unchanged_and_empty(&bundle);
    control(&bundle, &guard, |said| said.out.contains("ran"));
}

#[test]
fn what_lxcfs_mounts_is_let_through() {
    let files = ["cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg"];
    let names: String = files.iter().map(|name| format!(" /proc/{name}")).collect();
    let bundle = Bundle::new(&["sh", "-c", &format!("cat{names}")]);
    let guard = Guard::new(&bundle);
    let bundle =
        bundle.with(|config| files.iter().for_each(|f| add_mount(config, "bind", &guard.canary.join("secret"), &format!("/proc/{f}"))));
    assert_eq!(bundle.run().ok(), "tweet\n".repeat(files.len()));
    guard.unchanged_and_empty(&bundle);
}

#[test]
fn a_real_procfs_may_be_bound_to_proc() {
    let bundle = Bundle::new(&["test", "-e", "/proc/self/stat"]).with(|config| {
        without_mount(config, "/proc");
        add_mount(config, "bind", Path::new("/proc"), "/proc");
        // The host's processes are seen, so the masks of the sample would cover the host's files: only in this container.
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    });
    bundle.run().ok();
}

#[test]
fn sysctls_are_written_to_the_kernel_and_not_to_the_images_proc() {
    let bundle = Bundle::new(&["cat", "/real/sys/kernel/msgmax"]);
    let guard = Guard::new(&bundle);
    let fake = bundle.rootfs().join("proc/sys/kernel/msgmax");
    fs::create_dir_all(fake.parent().unwrap()).unwrap();
    symlink(guard.secret(), &fake).unwrap();
    fs::write(bundle.rootfs().join("canary"), "").unwrap();
    let bundle = bundle.with(|config| {
        without_mount(config, "/proc");
        add_mount(config, "proc", Path::new("proc"), "/real");
        config["linux"]["sysctl"] = json!({ "kernel.msgmax": "4321" });
    });
    assert_eq!(bundle.run().ok(), "4321\n");
    guard.unchanged_and_empty(&bundle);
}
