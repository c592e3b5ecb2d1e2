//! CVE-2024-21626: a descriptor of a host directory stayed open in the container's process, and `cwd` named it.

use super::{Guard, common::Bundle, common::Said, control, said};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde_json::json;
use std::fs;
use std::process::Stdio;

/// The canary directory, open 20 times without close-on-exec: what a careless caller hands to every child.
fn leak(guard: &Guard) -> Vec<OwnedFd> {
    (0..20).map(|_| openat(CWD, &guard.canary, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()).collect()
}

/// A keel command whose stdin is the canary directory itself.
fn with_directory_as_stdin(bundle: &Bundle, guard: &Guard, args: &[&str]) -> Said {
    let stdin = fs::File::open(&guard.canary).unwrap();
    said(bundle.command(args).stdin(Stdio::from(stdin)).output().unwrap())
}

#[test]
fn no_descriptor_as_working_directory_leads_a_new_container_out() {
    let mut bundle = Bundle::new(&["ls"]);
    let guard = Guard::new(&bundle);
    let _leaked = leak(&guard);
    std::os::unix::fs::symlink("/proc/self/fd/0", bundle.rootfs().join("link")).unwrap();
    let id = bundle.id();
    for cwd in (0..64).map(|n| format!("/proc/self/fd/{n}")).chain(["/link".into(), "/proc/self/fd/0/..".into()]) {
        bundle.config["process"]["cwd"] = json!(cwd);
        bundle.write();
        let said = with_directory_as_stdin(&bundle, &guard, &["run", &id]);
        assert_eq!(said.out, "", "cwd {cwd}: {said:?}");
        said.fails(1, &["change to the working directory", "process.cwd"]);
    }
    guard.unchanged_and_empty(&bundle);
    control(&bundle);
}

#[test]
fn nor_an_exec() {
    let bundle = Bundle::new(&["sleep", "60"]);
    let guard = Guard::new(&bundle);
    let _leaked = leak(&guard);
    std::os::unix::fs::symlink("/proc/self/fd/0", bundle.rootfs().join("link")).unwrap();
    bundle.start();
    let id = bundle.id();
    for cwd in (0..64).map(|n| format!("/proc/self/fd/{n}")).chain(["/link".into(), "/proc/self/fd/0/..".into()]) {
        let said = with_directory_as_stdin(&bundle, &guard, &["exec", "--cwd", &cwd, &id, "ls"]);
        assert_eq!(said.out, "", "--cwd {cwd}: {said:?}");
        said.fails(255, &["change to the working directory"]);
    }
    guard.unchanged();
}

#[test]
fn the_callers_descriptors_do_not_reach_the_program() {
    let bundle = Bundle::new(&["ls", "/proc/self/fd"]);
    let guard = Guard::new(&bundle);
    let _leaked = leak(&guard);
    // ls itself has the directory open as 3.
    assert_eq!(bundle.run().ok(), "0\n1\n2\n3\n");
    guard.unchanged_and_empty(&bundle);
}

#[test]
fn nor_the_program_of_create_and_start_nor_that_of_exec() {
    let bundle = Bundle::new(&["sh", "-c", "ls /proc/self/fd; exec sleep 60"]);
    let guard = Guard::new(&bundle);
    let _leaked = leak(&guard);
    bundle.create();
    // Parked, keel holds the socket to its parent and the one on which it waits: no file, no directory, no namespace.
    for entry in fs::read_dir(format!("/proc/{}/fd", bundle.pid())).unwrap().flatten() {
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let target = fs::read_link(entry.path()).unwrap();
        assert!(number < 3 || target.to_str().unwrap().starts_with("socket:"), "{number} -> {}", target.display());
    }
    let inside = |what: &str| fs::read_link(format!("/proc/{}/{what}", bundle.pid())).unwrap();
    assert_eq!((inside("cwd").to_str(), inside("root").to_str()), (Some("/"), Some("/")));
    bundle.keel(&["start", "ID"]).ok();
    super::common::eventually("the program has listed its descriptors", || bundle.out().ends_with("3\n"));
    assert_eq!(bundle.out(), "0\n1\n2\n3\n");
    assert_eq!(bundle.keel(&["exec", "ID", "ls", "/proc/self/fd"]).ok(), "0\n1\n2\n3\n");
    guard.unchanged();
}
