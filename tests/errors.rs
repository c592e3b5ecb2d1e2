//! Bad input: one clear sentence that names the place, the right exit code, and nothing left.

mod common;

use common::{Bundle, Census};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// `run` fails with 1, says all words in one line, and leaves nothing.
#[track_caller]
fn refused(change: impl FnOnce(&mut Value), words: &[&str]) {
    let bundle = Bundle::new(&["true"]).with(change);
    let error = bundle.run().fails(1, words);
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("error"), "{error}");
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_missing_or_malformed_configuration_is_refused() {
    let bundle = Bundle::new(&["true"]);
    fs::remove_file(bundle.dir.join("config.json")).unwrap();
    bundle.keel(&["run", "ID"]).fails(1, &["config.json", "no such file or directory"]);
    bundle.keel(&["run", "--bundle", "/no/such/bundle", "ID"]).fails(1, &["/no/such/bundle"]);
    for (text, word) in
        [("", "EOF"), ("{", "EOF"), ("[]", "config.json"), ("{\"ociVersion\": 1}", "ociVersion"), ("\u{0}\u{1}", "config.json")]
    {
        fs::write(bundle.dir.join("config.json"), text).unwrap();
        bundle.keel(&["run", "ID"]).fails(1, &["config.json", word]);
    }
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn fifty_megabytes_of_configuration_are_refused_at_once() {
    let bundle = Bundle::new(&["true"]);
    let text = format!("{{\"ociVersion\": \"1.0.0\", \"annotations\": {{\"x\": \"{}\"}}}}", "y".repeat(50 << 20));
    fs::write(bundle.dir.join("config.json"), text).unwrap();
    let before = std::time::Instant::now();
    bundle.keel(&["run", "ID"]).fails(1, &["config.json"]);
    assert!(before.elapsed().as_secs() < 10);
    Census::of(&bundle).nothing_left(&bundle);
}

/// keel's words are the same whatever it is linked with. This program is linked with glibc.
#[test]
fn an_errno_has_the_words_of_glibc() {
    for number in 1..=133 {
        let theirs = std::io::Error::from_raw_os_error(number).to_string();
        let theirs = theirs.split(" (os error").next().unwrap().to_lowercase();
        let theirs = if theirs.starts_with("unknown error") { format!("errno {number}") } else { theirs };
        let ours = keel::sys::Error::new("it").errno(rustix::io::Errno::from_raw_os_error(number)).to_string();
        assert_eq!(ours.to_lowercase(), format!("it: {theirs}"));
    }
}

/// conmon reads 8,191 bytes of it, and who reads it wants the cause.
#[test]
fn a_message_has_its_cause_within_four_kilobytes() {
    let bundle = Bundle::new(&["true"]).with(|c| c["process"]["user"]["additionalGids"] = (0..65_537).collect());
    bundle.write();
    for args in [&["run", "ID"][..], &["--log", "log", "--log-format", "json", "run", "ID"]] {
        let error = bundle.keel(args).fails(1, &["additionalGids", "invalid argument"]);
        assert!(error.len() <= 4096, "{} bytes", error.len());
    }
    let line = fs::read_to_string(bundle.dir.join("log")).unwrap();
    assert!(line.len() <= 4096 && line.contains("invalid argument"), "{} bytes", line.len());
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn fields_with_impossible_values_are_named() {
    refused(|c| c["ociVersion"] = json!("2.0.0"), &["2.0.0", "ociVersion"]);
    refused(|c| c["ociVersion"] = json!("one"), &["one", "ociVersion"]);
    refused(|c| drop(c.as_object_mut().unwrap().remove("root")), &["root"]);
    refused(|c| drop(c.as_object_mut().unwrap().remove("process")), &["process"]);
    refused(|c| c["root"]["path"] = json!("/no/such/root"), &["/no/such/root", "root.path", "no such file or directory"]);
    refused(|c| c["root"]["path"] = json!("config.json"), &["not a directory", "root.path"]);
    refused(|c| c["process"]["args"] = json!([]), &["process.args"]);
    refused(|c| c["process"]["cwd"] = json!("../.."), &["process.cwd"]);
    refused(|c| c["process"]["rlimits"][0]["type"] = json!("RLIMIT_NONE"), &["RLIMIT_NONE", "process.rlimits[0]"]);
    refused(|c| c["process"]["oomScoreAdj"] = json!(2000), &["2000", "process.oomScoreAdj"]);
    refused(|c| c["process"]["user"]["uid"] = json!(-1), &["uid"]);
    refused(|c| c["linux"]["namespaces"][0]["type"] = json!("bogus"), &["bogus", "linux.namespaces[0]"]);
    refused(|c| c["hostname"] = json!("h".repeat(65)), &["65", "hostname"]);
    refused(|c| c["linux"]["maskedPaths"][0] = json!(""), &["the path is empty", "linux.maskedPaths[0]"]);
    refused(|c| c["mounts"][0]["destination"] = json!(""), &["mounts[0]"]);
}

#[test]
fn ids_that_are_no_file_names_are_refused() {
    let bundle = Bundle::new(&["true"]);
    bundle.write();
    for id in ["a/b", "../x", ".", "..", "", "with space", "ü"] {
        for command in ["run", "create", "state", "delete", "kill", "start"] {
            bundle.keel(&[command, "--", id]).fails(1, &["invalid container ID"]);
        }
        bundle.keel(&["exec", "--", id, "true"]).fails(255, &["invalid container ID"]);
    }
    assert!(!bundle.state_root().exists(), "nothing is made for a wrong id");
}

#[test]
fn programs_that_cannot_be_executed_are_told_apart() {
    let run = |args: &[&str], prepare: &dyn Fn(&Bundle), words: &[&str]| {
        let bundle = Bundle::new(args);
        prepare(&bundle);
        bundle.run().fails(1, words);
        Census::of(&bundle).nothing_left(&bundle);
    };
    let write = |text: &'static str, mode: u32| {
        move |bundle: &Bundle| {
            let path = bundle.rootfs().join("program");
            fs::write(&path, text).unwrap();
            rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(mode)).unwrap();
        }
    };
    run(&["nonesuch"], &|_| (), &["nonesuch", "executable file not found"]);
    run(&["/no/such"], &|_| (), &["/no/such", "no such file or directory"]);
    run(&["/etc"], &|_| (), &["/etc", "is a directory"]);
    run(&["/program"], &write("#!/bin/sh\n", 0o644), &["/program", "permission denied"]);
    run(&["/program"], &write("#!/no/interpreter\n", 0o755), &["/program", "no such file or directory", "interpreter"]);
    run(&["/program"], &write("neither ELF nor script\n", 0o755), &["/program", "exec format error"]);
    run(&["/etc/passwd/x"], &|_| (), &["not a directory"]);
}

#[test]
fn an_exec_that_fails_after_start_is_told_by_start() {
    let bundle = Bundle::new(&["/program"]);
    fs::write(bundle.rootfs().join("program"), "neither ELF nor script\n").unwrap();
    rustix::fs::chmod(bundle.rootfs().join("program"), rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    bundle.create();
    bundle.keel(&["start", "ID"]).fails(1, &["/program", "exec format error"]);
    common::eventually("the container's end", || bundle.status() == "stopped");
    bundle.keel(&["delete", "ID"]).ok();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_namespace_path_of_the_wrong_kind_is_refused() {
    let with = |path: &str| {
        let path = path.to_owned();
        move |c: &mut Value| {
            let list = c["linux"]["namespaces"].as_array_mut().unwrap();
            list.iter_mut().find(|n| n["type"] == "network").unwrap()["path"] = json!(path);
        }
    };
    refused(with("/proc/self/ns/ipc"), &["/proc/self/ns/ipc", "linux.namespaces[1]", "invalid argument"]);
    refused(with("/etc/passwd"), &["/etc/passwd", "linux.namespaces[1]"]);
    refused(with("/no/such/ns"), &["/no/such/ns", "linux.namespaces[1]", "no such file or directory"]);
    refused(with("relative"), &["relative", "linux.namespaces[1]"]);
}

/// In a mount namespace of the test's own, where the state root is a tmpfs of so many bytes.
fn on_a_small_disk(bundle: &Bundle, size: &str, line: &str) -> std::process::Output {
    let root = bundle.state_root();
    fs::create_dir_all(&root).unwrap();
    bundle.write();
    let script = format!(
        "mount -t tmpfs -o mode=700,{size} tmpfs {root} || exit 99; {line}; code=$?; ls {root} >&2; exit $code",
        root = root.display(),
    );
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).current_dir(&bundle.dir);
    command.env("KEEL", common::KEEL).env("ROOT", &root).env("ID", bundle.id()).output().unwrap()
}

#[test]
fn a_full_disk_fails_create_and_leaves_nothing() {
    for size in ["size=4k", "nr_inodes=1", "nr_inodes=2", "nr_inodes=3"] {
        let bundle = Bundle::new(&["true"]);
        // More than one page, so that the record or the configuration does not fit.
        let bundle = bundle.with(|c| c["annotations"] = json!({"long": "x".repeat(9000)}));
        let output = on_a_small_disk(&bundle, size, "$KEEL --root $ROOT create $ID");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{size}: {text}");
        assert!(text.contains("no space left on device"), "{size}: {text}");
        assert_eq!(text.lines().count(), 1, "{size}: the state root must be empty again: {text}");
        Census::of(&bundle).nothing_left(&bundle);
    }
}

#[test]
fn a_read_only_state_root_is_named() {
    let bundle = Bundle::new(&["true"]);
    let output = on_a_small_disk(&bundle, "ro", "$KEEL --root $ROOT create $ID");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("read-only file system") && text.contains(bundle.state_root().to_str().unwrap()), "{text}");
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_pid_file_that_cannot_be_written_fails_create_and_leaves_nothing() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    for command in ["create", "run"] {
        bundle.detached(&[command, "--pid-file", "/no/such/dir/pid", "ID"]).fails(1, &["/no/such/dir/pid", "no such file or directory"]);
        Census::of(&bundle).nothing_left(&bundle);
    }
}

#[test]
fn what_is_not_there_yet_is_refused_and_not_dropped() {
    refused(|c| c["process"]["scheduler"] = json!({"policy": "SCHED_BOGUS"}), &["process.scheduler"]);
    refused(|c| c["linux"]["intelRdt"] = json!({"l3CacheSchema": "L3:0=f"}), &["linux.intelRdt"]);
}

/// What a document or an image says may be part of a message; it must not end the line or give the terminal orders.
#[test]
fn control_characters_are_written_as_escapes() {
    let hostile = "\u{1b}[2J\nkeel: error: another\u{7f}";
    let bundle = Bundle::new(&["true"]).with(|c| {
        c[hostile] = json!(true);
        c["linux"]["seccomp"] = json!({"defaultAction": hostile});
    });
    bundle.write();
    for (args, lines) in [(&["run", "ID"][..], 1), (&["validate", "--bundle", "."], 2)] {
        let said = bundle.keel(args);
        let text = format!("{}{}", said.out, said.err);
        assert!(said.code == 1 && text.contains(r"\u{1b}[2J\nkeel: error: another\u{7f}"), "{said:?}");
        assert!(!text.contains(['\u{1b}', '\u{7f}']) && text.lines().count() == lines, "{said:?}");
    }
}
