//! The host's /dev/null comes into a container as a mask and as stdio. Its permissions are the inode's, and so everybody's: a
//! container's root with CAP_FOWNER must not reach them (seen with keel's own masks; runc binds the container's node).

use super::{Guard, common::Bundle, control};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;

fn with_fowner(config: &mut Value) {
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set].as_array_mut().unwrap().extend([json!("CAP_FOWNER"), json!("CAP_CHOWN")]);
    }
}

/// The mode that it has anyway: were the attack to work, the host would lose nothing but the time of its last change.
#[test]
fn a_mask_does_not_lend_the_hosts_node() {
    let masks = ["/etc/one", "/etc/two"];
    let bundle = Bundle::new(&["sh", "-c", "echo x > /etc/one; cat /etc/one; chmod 666 /etc/one; chown 0 /etc/two"]).with(|config| {
        with_fowner(config);
        config["linux"]["maskedPaths"] = json!(masks);
    });
    for mask in masks {
        fs::write(bundle.rootfs().join(&mask[1..]), "secret\n").unwrap();
    }
    let before = fs::metadata("/dev/null").unwrap();
    let guard = Guard::new(&bundle);
    let said = bundle.run();
    assert_eq!(said.out, "", "{said:?}");
    said.fails(1, &["chmod: /etc/one: Read-only file system", "chown: /etc/two: Read-only file system"]);
    let after = fs::metadata("/dev/null").unwrap();
    assert_eq!((before.ctime(), before.ctime_nsec(), before.mode()), (after.ctime(), after.ctime_nsec(), after.mode()));
    guard.unchanged_and_empty(&bundle);
    control(&bundle, &guard, |said| said.code == 0);
}

/// Stdio that was the host's is the container's own node when the program runs.
#[test]
fn stdin_is_the_containers_node() {
    let bundle = Bundle::new(&["stat", "-L", "-c", "%d:%i", "/proc/self/fd/0", "/dev/null"]).with(with_fowner);
    let out = bundle.run().ok();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert_eq!(lines[0], lines[1], "stdin is the host's /dev/null");
    let host = fs::metadata("/dev/null").unwrap();
    assert_ne!(lines[0], format!("{}:{}", host.dev(), host.ino()));
}
