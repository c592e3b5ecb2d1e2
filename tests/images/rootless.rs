//! In a user namespace with one id: no owners, no devices, `user.` attributes for overlayfs.

use super::archives::{load, old_docker};
use super::{Archive, Overlay, Store, names, quiet, read};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// Set for the helper, which is this test in a user namespace.
const INSIDE: &str = "KEEL_TEST_INSIDE";

#[test]
#[ignore = "the helper of the test below"]
fn helper() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let store = Store::new();
    let lower = Archive::new()
        .dir("read-only", 0o555)
        .file("read-only/file", "x")
        .with(tar::EntryType::Regular, "owned", "", b"x", |header| header.set_uid(1234))
        .with(tar::EntryType::Char, "null", "", b"", |header| {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        })
        .dir("fresh", 0o755)
        .file("fresh/old", "x")
        .file("gone", "x")
        .done();
    let upper = Archive::new().file(".wh.gone", "").file("fresh/.wh..wh..opq", "").file("fresh/new", "new").done();
    let image = load(&store, &old_docker(&[&lower, &upper], "x")).unwrap().remove(0);
    let layers = store.images.layers(&image, &mut quiet).unwrap();
    assert_eq!(names(&layers[1]), ["fresh", "gone", "owned", "read-only"], "devices are left out");
    assert_eq!(fs::metadata(layers[1].join("owned")).unwrap().uid(), 0);
    let overlay = Overlay::with(&layers, "userxattr");
    assert_eq!(overlay.names(""), ["fresh", "owned", "read-only"]);
    assert_eq!((overlay.names("fresh"), read(overlay.dir.join("fresh/new"))), (vec!["new".to_owned()], "new".to_owned()));
    drop(overlay);
    store.images.remove("x", true, &|_| None).unwrap();
    assert!(store.files().is_empty());
}

#[test]
fn layers_are_unpacked_and_mounted_in_a_user_namespace() {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap());
    let said = command.args(["--exact", "rootless::helper", "--ignored"]).env(INSIDE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&said.stderr));
}
