//! What podman, containerd and docker were seen to rely on (hack/engines runs them), said without them.

mod common;

use common::Bundle;
use serde_json::json;
use std::fs;
use std::process::Stdio;

/// containerd's shim gives one descriptor of /dev/null, opened for reading, as all three (`ctr run --null-io`,
/// `docker exec --detach`): the program must be able to write.
#[test]
fn stdio_of_dev_null_can_be_written() {
    let mut bundle = Bundle::new(&["sh", "-c", "echo gone && echo gone >&2; echo $? > /status"]);
    bundle.write();
    let id = bundle.id();
    let null = || Stdio::from(fs::File::open("/dev/null").unwrap());
    let status = bundle.command(&["run", &id]).stdin(null()).stdout(null()).stderr(null()).status().unwrap();
    assert!(status.success(), "{status:?}");
    assert_eq!(fs::read_to_string(bundle.rootfs().join("status")).unwrap(), "0\n");
    bundle.config["process"]["args"] = json!(["sleep", "100"]);
    bundle.start();
    let args = ["exec", &id, "sh", "-c", "echo gone && echo written > /exec"];
    let status = bundle.command(&args).stdin(null()).stdout(null()).stderr(null()).status().unwrap();
    assert!(status.success(), "{status:?}");
    assert_eq!(fs::read_to_string(bundle.rootfs().join("exec")).unwrap(), "written\n");
}

/// A container whose /dev/null is something else keeps what it was given: its file must not fill with stdout.
#[test]
fn a_false_dev_null_is_not_opened() {
    let bundle = Bundle::new(&["sh", "-c", "rm /dev/null; : > /dev/null; sleep 100"]);
    bundle.start();
    common::eventually("the device is replaced", || bundle.sh("test -f /dev/null && echo file || true") == "file\n");
    let id = bundle.id();
    let out = fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
    assert!(bundle.command(&["exec", &id, "echo", "hello"]).stdout(out).status().unwrap().success());
    assert_eq!(bundle.sh("cat /dev/null"), "");
}

/// runc makes the working directory (`ctr run --cwd`, `workingDir` of a pod), also below a read-only root.
#[test]
fn a_missing_working_directory_is_made() {
    let bundle = Bundle::new(&["sh", "-c", "pwd; stat -c %a:%u ."]).with(|config| {
        config["process"]["cwd"] = json!("/srv/new/place");
        config["root"]["readonly"] = json!(true);
    });
    assert_eq!(bundle.run().ok(), "/srv/new/place\n755:0\n");
    assert!(bundle.rootfs().join("srv/new/place").is_dir());
}

/// As exec: there it is an error, as in runc.
#[test]
fn exec_makes_no_working_directory() {
    let bundle = Bundle::new(&["sleep", "100"]);
    bundle.start();
    bundle.keel(&["exec", "--cwd", "/nowhere", "ID", "true"]).fails(255, &["/nowhere", "no such file or directory"]);
    assert!(!bundle.rootfs().join("nowhere").exists());
}

/// A link at the working directory is followed inside the root only: nothing is made on the host.
#[test]
fn a_working_directory_is_made_inside_the_root() {
    let bundle = Bundle::new(&["pwd"]);
    let outside = bundle.dir.join("outside");
    std::os::unix::fs::symlink(&outside, bundle.rootfs().join("work")).unwrap();
    let bundle = bundle.with(|config| config["process"]["cwd"] = json!("/work/deep"));
    assert_eq!(bundle.run().ok(), format!("{}/deep\n", outside.display()));
    assert!(!outside.exists(), "made on the host");
}

/// The words by which docker and podman choose 127 and 126, in create and in exec.
#[test]
fn what_cannot_be_executed_is_told_in_the_words_engines_look_for() {
    let cases: [(&str, &[&str]); 4] = [
        ("nosuch", &["exec: \"nosuch\": executable file not found in $PATH"]),
        ("/nosuch", &["exec: \"/nosuch\"", "no such file or directory"]),
        ("/etc", &["exec: \"/etc\": is a directory", "permission denied"]),
        ("/etc/passwd", &["exec: \"/etc/passwd\"", "permission denied"]),
    ];
    let running = Bundle::new(&["sleep", "100"]);
    running.start();
    for (program, words) in cases {
        Bundle::new(&[program]).run().fails(1, words);
        running.keel(&["exec", "ID", program]).fails(255, words);
    }
}
