//! Whoever may write where keel keeps its records, or may point a link elsewhere, decides what keel
//! does to which process as root.

use super::{Census, as_caller, common::Bundle};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

/// Every command that opens a state root.
const COMMANDS: [&[&str]; 17] = [
    &["create", "ID"],
    &["run", "ID"],
    &["run", "--detach", "ID"],
    &["start", "ID"],
    &["exec", "ID", "true"],
    &["state", "ID"],
    &["kill", "ID"],
    &["delete", "ID"],
    &["delete", "--force", "ID"],
    &["delete", "--regex", ".*"],
    &["list"],
    &["ps", "ID"],
    &["pause", "ID"],
    &["resume", "ID"],
    &["update", "--pids-limit", "10", "ID"],
    &["events", "--stats", "ID"],
    &["restore", "--image-path", "images", "ID"],
];

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Asserts that every command refuses the root with these words, and leaves nothing.
fn refused(bundle: &Bundle, root: &str, words: &[&str]) {
    let census = Census::of(bundle);
    for args in COMMANDS.iter().chain(&[&["checkpoint", "ID"][..]]) {
        let (id, mut command) = (bundle.id(), Command::new(super::KEEL));
        command.arg("--root").arg(root).args(args.iter().map(|arg| if *arg == "ID" { &id } else { *arg })).current_dir(&bundle.dir);
        let said = super::said(command.output().unwrap());
        assert_ne!(said.code, 0, "{args:?} with {root}: {said:?}");
        assert!(words.iter().all(|word| said.err.contains(word)), "{args:?}: {said:?}");
        assert_eq!(said.err.lines().count(), 1, "{args:?}: {said:?}");
    }
    census.nothing_left(bundle);
}

#[test]
fn a_state_root_that_others_decide_about_is_refused() {
    let bundle = Bundle::new(&["true"]);
    bundle.write();
    fs::create_dir(bundle.dir.join("images")).unwrap();
    fs::write(bundle.dir.join("images/descriptors.json"), r#"["", "", ""]"#).unwrap();
    let real = bundle.dir.join("real");
    fs::create_dir(&real).unwrap();
    for mode in [0o777, 0o775, 0o707, 0o1777] {
        set(&real, mode);
        refused(&bundle, "real", &["state root", "may be written by others", &format!("{mode:04o}")]);
    }
    set(&real, 0o700);
    chown(&real, Some(1000), Some(1000)).unwrap();
    refused(&bundle, "real", &["state root", "belongs to user 1000"]);
    chown(&real, Some(0), Some(0)).unwrap();
    symlink("real", bundle.dir.join("link")).unwrap();
    for root in ["link", "link/", "./link/."] {
        refused(&bundle, root, &["state root", "is a symbolic link"]);
    }
    refused(&bundle, "config.json", &["state root", "is not a directory"]);
    assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
}

/// Docker's is /var/run/docker/runtime-runc/moby, where /var/run is a link; containerd's is 0711.
#[test]
fn a_state_root_below_a_link_is_none_of_others() {
    let bundle = Bundle::new(&["true"]);
    bundle.write();
    fs::create_dir_all(bundle.dir.join("var")).unwrap();
    fs::create_dir_all(bundle.dir.join("run")).unwrap();
    symlink("../run", bundle.dir.join("var/run")).unwrap();
    let keel = |args: &[&str]| {
        let mut command = Command::new(super::KEEL);
        command.args(["--root", "var/run/docker/runtime-runc/moby"]).args(args).current_dir(&bundle.dir);
        super::said(command.output().unwrap())
    };
    let id = bundle.id();
    keel(&["run", &id]).ok();
    set(&bundle.dir.join("run/docker/runtime-runc/moby"), 0o711);
    keel(&["run", "--keep", &id]).ok();
    assert!(keel(&["list", "--quiet"]).ok().contains(&id));
    keel(&["delete", &id]).ok();
}

/// An ordinary user's own, root's, which he only reads, and his own as root of a user namespace.
#[test]
fn a_users_state_root_is_his_own() {
    let bundle = Bundle::new(&["true"]);
    set(&bundle.dir, 0o755);
    let root = bundle.state_root();
    fs::create_dir(&root).unwrap();
    let user = ["--reuid", "1000", "--regid", "1000", "--clear-groups"];
    assert_eq!(as_caller(&bundle, &user, &["list", "--quiet"]).ok(), "", "root's");
    chown(&root, Some(1000), Some(1000)).unwrap();
    assert_eq!(as_caller(&bundle, &user, &["list", "--quiet"]).ok(), "");
    let keel = bundle.command(&["list", "--quiet"]);
    let mut command = Command::new("setpriv");
    command.args(user).args(["unshare", "--user", "--map-root-user", "--"]).arg(keel.get_program()).args(keel.get_args());
    assert_eq!(super::said(command.output().unwrap()).ok(), "", "it is root's there");
    chown(&root, Some(1001), Some(1001)).unwrap();
    as_caller(&bundle, &user, &["list"]).fails(1, &["belongs to user 1001"]);
}
