//! What is renamed into the place of a device takes it away from the whole host (bazel#31038). keel
//! writes pid files and recorded profiles that way. The devices here are nodes of our own, never
//! those in /dev.

use super::{Census, Guard, common::Bundle};
use rustix::fs::{CWD, FileType, makedev, mknodat};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// A node with the number of /dev/null.
fn null(path: &Path) {
    mknodat(CWD, path, FileType::CharacterDevice, 0o666.into(), makedev(1, 3)).unwrap();
}

fn identity(path: &Path) -> (u64, u64, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.ino(), meta.rdev(), meta.mode())
}

/// Puts something else than a regular file there, and says how messages call it.
fn put(kind: &str, file: &Path, secret: &Path) -> &'static str {
    match kind {
        "device" => null(file),
        "FIFO" => mknodat(CWD, file, FileType::Fifo, 0o644.into(), 0).unwrap(),
        "socket" => drop(UnixListener::bind(file).unwrap()),
        "directory" => fs::create_dir(file).unwrap(),
        "link to a file" => symlink(secret, file).unwrap(),
        "link to a device" => {
            null(&file.with_extension("node"));
            symlink(file.with_extension("node"), file).unwrap();
        }
        _ => symlink(file.with_extension("none"), file).unwrap(),
    }
    match kind {
        "device" => "a device",
        "FIFO" => "a FIFO",
        "socket" => "a socket",
        "directory" => "a directory",
        _ => "a symbolic link",
    }
}

#[test]
fn pid_files_and_profiles_take_the_place_of_nothing_but_files() {
    for kind in ["device", "FIFO", "socket", "directory", "link to a file", "link to a device", "dangling link"] {
        let bundle = Bundle::new(&["sleep", "1000"]);
        bundle.write();
        let guard = Guard::new(&bundle);
        let file = bundle.dir.join("file");
        let word = put(kind, &file, &guard.secret());
        let (before, census) = (identity(&file), Census::of(&bundle));
        let why = format!("it is {word}, which a file must not replace");
        for args in [
            &["create", "--pid-file", "file", "ID"][..],
            &["run", "--detach", "--pid-file", "file", "ID"],
            &["run", "--seccomp-record", "file", "ID"],
        ] {
            bundle.detached(args).fails(1, &["write the", &file.display().to_string(), &why]);
            census.nothing_left(&bundle);
        }
        bundle.start();
        bundle.keel(&["exec", "--pid-file", "file", "ID", "touch", "/ran"]).fails(255, &["write the pid file", &why]);
        assert!(!bundle.rootfs().join("ran").exists(), "the program ran");
        bundle.delete();
        assert_eq!(identity(&file), before, "{kind}");
        guard.unchanged();
    }
}

#[test]
fn a_pid_file_takes_the_place_of_a_file_and_leaves_no_other_name() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    fs::write(bundle.dir.join("pid"), "an earlier one").unwrap();
    bundle.start();
    assert!(Path::new(&format!("/proc/{}", bundle.pid())).exists());
    bundle.delete();
    let hidden =
        fs::read_dir(&bundle.dir).unwrap().map(|entry| entry.unwrap().file_name()).filter(|name| name.as_encoded_bytes()[0] == b'.');
    assert_eq!(hidden.collect::<Vec<_>>(), Vec::<std::ffi::OsString>::new());
}

/// Other files that the caller names are written in place, or not at all if there is one.
#[test]
fn logs_and_timelines_are_written_in_place() {
    let bundle = Bundle::new(&["true"]);
    bundle.write();
    let node = bundle.dir.join("node");
    null(&node);
    let before = identity(&node);
    bundle.keel(&["--log", "node", "--debug", "run", "--trace", "node", "ID"]).ok();
    bundle.keel(&["spec"]).fails(1, &["config.json", "file exists"]);
    fs::rename(&node, bundle.dir.join("config.json")).unwrap();
    bundle.keel(&["spec"]).fails(1, &["config.json", "file exists"]);
    assert_eq!(identity(&bundle.dir.join("config.json")), before);
}
