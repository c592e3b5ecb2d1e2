//! CVE-2026-88265: the runtime changed the owner of what it took for /dev/null or for the container's stdio.

use super::{Guard, common::Bundle, common::Said, control, said, without_mount};
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

fn as_user(args: &[&str]) -> Bundle {
    Bundle::new(args).with(|config| config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }))
}

/// `run` with all three standard descriptors on the canary's secret file.
fn run_on_secret(bundle: &Bundle, guard: &Guard) -> Said {
    bundle.write();
    let open = || Stdio::from(File::open(guard.secret()).unwrap());
    said(bundle.command(&["run", &bundle.id()]).stdin(open()).stdout(open()).stderr(open()).output().unwrap())
}

#[test]
fn files_as_stdio_keep_their_owner() {
    let bundle = as_user(&["true"]);
    let guard = Guard::new(&bundle);
    assert_eq!(run_on_secret(&bundle, &guard).code, 0);
    guard.unchanged_and_empty(&bundle);
}

#[test]
fn an_image_whose_null_device_is_a_link_changes_no_owner() {
    let bundle = as_user(&["true"]).with(|config| without_mount(config, "/dev"));
    let guard = Guard::new(&bundle);
    std::os::unix::fs::symlink(guard.secret(), bundle.rootfs().join("dev/null")).unwrap();
    // Refused or not: stdio that is a pipe, the null device, the host's file.
    bundle.run();
    guard.unchanged_and_empty(&bundle);
    run_on_secret(&bundle, &guard);
    guard.unchanged_and_empty(&bundle);
    control(&bundle, &guard, |_| false);
}

#[test]
fn the_hosts_null_device_keeps_its_owner() {
    let before = fs::metadata("/dev/null").unwrap();
    let bundle = as_user(&["true"]);
    bundle.write();
    let null = || Stdio::from(File::options().read(true).write(true).open("/dev/null").unwrap());
    let id = bundle.id();
    assert_eq!(bundle.command(&["run", &id]).stdin(null()).stdout(null()).stderr(null()).status().unwrap().code(), Some(0));
    let bundle = bundle.with(|config| config["process"]["terminal"] = json!(true));
    bundle.write();
    assert_eq!(bundle.command(&["run", &id]).stdin(null()).stdout(null()).stderr(null()).status().unwrap().code(), Some(0));
    let after = fs::metadata("/dev/null").unwrap();
    assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
}

#[test]
fn pipes_can_be_opened_again_by_the_user() {
    let bundle = as_user(&["sh", "-c", "echo again > /dev/stdout"]);
    assert_eq!(bundle.run().ok(), "again\n");
}
