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
    let cases: [(&str, &[&str]); 5] = [
        ("nosuch", &["exec: \"nosuch\": executable file not found in $PATH"]),
        ("", &["exec: \"\": executable file not found in $PATH"]),
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

/// `podman run --read-only` and `--tmpfs`: the image's content is there, with its modes, owners and links, and can be changed
/// without touching the image.
#[test]
fn tmpcopyup_copies_what_it_covers() {
    let line = "cd /data; cat a/b/deep; stat -c %a:%u:%g . a a/b/deep; readlink link; test -p fifo && echo fifo; ls | wc -l; \
                echo new > new && rm link; df . | tail -n 1 | cut -d ' ' -f 1";
    let bundle = Bundle::new(&["sh", "-c", line]).with(|config| {
        config["root"]["readonly"] = json!(true);
        let options = json!(["tmpcopyup", "nosuid", "nodev", "size=1m"]);
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": options }));
    });
    let data = bundle.rootfs().join("data");
    fs::create_dir_all(data.join("a/b")).unwrap();
    fs::write(data.join("a/b/deep"), "content\n").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", data.join("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, data.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for (path, mode, owner) in [(data.join("a/b/deep"), 0o4644, 1000), (data.join("a"), 0o1755, 1001), (data.clone(), 0o711, 0)] {
        std::os::unix::fs::chown(&path, Some(owner), Some(owner)).unwrap();
        rustix::fs::chmod(&path, mode.into()).unwrap();
    }
    let out = bundle.run().ok();
    assert_eq!(out, "content\n711:0:0\n1755:1001:1001\n4644:1000:1000\n/etc/passwd\nfifo\n3\ntmpfs\n");
    assert!(!data.join("new").exists());
    assert!(data.join("link").is_symlink());
}

/// A read-only one holds the copy too; a link in the image is copied as a link, never followed to the host.
#[test]
fn tmpcopyup_of_a_read_only_tmpfs() {
    let bundle = Bundle::new(&["sh", "-c", "cat /data/file; touch /data/new; cat /data/out"]).with(|config| {
        let options = json!(["tmpcopyup", "ro"]);
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": options }));
    });
    let secret = bundle.dir.join("secret");
    fs::write(&secret, "host\n").unwrap();
    fs::create_dir(bundle.rootfs().join("data")).unwrap();
    fs::write(bundle.rootfs().join("data/file"), "kept\n").unwrap();
    std::os::unix::fs::symlink(&secret, bundle.rootfs().join("data/out")).unwrap();
    let said = bundle.run();
    said.fails(1, &["Read-only file system", "No such file or directory"]);
}

/// What does not fit is told, and the depth of a hostile image has a bound.
#[test]
fn tmpcopyup_that_cannot_be_done_is_an_error() {
    let with = |option: &str| {
        let bundle = Bundle::new(&["true"]).with(|config| {
            let options = json!(["tmpcopyup", option]);
            config["mounts"]
                .as_array_mut()
                .unwrap()
                .push(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": options }));
        });
        fs::create_dir(bundle.rootfs().join("data")).unwrap();
        bundle
    };
    let large = with("size=64k");
    fs::write(large.rootfs().join("data/large"), vec![1; 1 << 20]).unwrap();
    large.run().fails(1, &["/data", "no space left"]);
    let deep = with("size=1m");
    fs::create_dir_all(deep.rootfs().join("data").join("d/".repeat(100))).unwrap();
    deep.run().fails(1, &["mounts[", "file name too long"]);
}

/// CRIU brings back a slave of the host's only where the host has a mount of its own there, and systemd shares all mounts
/// (`podman container restore`).
#[test]
fn the_mask_of_a_file_is_no_slave_of_the_hosts_mounts() {
    let bundle = Bundle::new(&["grep", " /proc/[ku]", "/proc/self/mountinfo"]).with(|config| {
        config["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/uptime"]);
    });
    bundle.write();
    let keel = bundle.command(&["run", &bundle.id()]);
    let mut shared = std::process::Command::new("unshare");
    shared.args(["--mount", "--propagation", "shared"]).arg(keel.get_program()).args(keel.get_args()).current_dir(&bundle.dir);
    let said = common::Said::of(shared.output().unwrap()).ok();
    assert!(said.contains(" /proc/keys ") && said.contains(" /proc/uptime ") && !said.contains("master:"), "{said}");
}

/// containerd's shim raises its own score, and with CAP_SYS_RESOURCE that is the least its children can have: a container in a
/// user namespace gets its lower one all the same (docker's `userns-remap`).
#[test]
fn a_user_namespace_does_not_keep_the_oom_score_of_the_shim() {
    let bundle = Bundle::new(&["cat", "/proc/self/oom_score_adj"]).with(|config| {
        config["process"]["oomScoreAdj"] = json!(100);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
        (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
    });
    bundle.write();
    let keel = bundle.command(&["run", &bundle.id()]);
    let mut shim = std::process::Command::new("sh");
    shim.args(["-c", "echo 500 > /proc/self/oom_score_adj && exec \"$@\"", "shim"]).arg(keel.get_program()).args(keel.get_args());
    assert_eq!(common::Said::of(shim.current_dir(&bundle.dir).output().unwrap()).ok(), "100\n");
}

/// A process for a pod that shares its pid namespace is cloned twice (`crictl exec`), and only who has opened the attribute of
/// the label may write it.
#[test]
fn an_apparmor_profile_outlives_the_second_clone() {
    if !fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y')) {
        assert!(std::env::var_os("KEEL_V2_MACHINE").is_none(), "the machine for this test has no AppArmor");
        common::skipped("this kernel has no AppArmor; hack/test v2 runs this test");
        return;
    }
    let name = format!("keel-test-{}", std::process::id());
    let parser = |flag: &str| {
        let text =
            format!("profile {name} flags=(attach_disconnected,mediate_deleted) {{ file, capability, signal, ptrace, mount, umount, }}\n");
        let mut parser = std::process::Command::new("apparmor_parser").arg(flag).stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut parser.stdin.take().unwrap(), text.as_bytes()).unwrap();
        assert!(parser.wait().unwrap().success());
    };
    parser("--replace");
    let pause = Bundle::new(&["sleep", "100"]);
    pause.start();
    let bundle = Bundle::new(&["sh", "-c", "cat /proc/self/attr/current > /label; sleep 100"]).with(|config| {
        config["process"]["apparmorProfile"] = json!(name);
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
        namespaces.push(json!({ "type": "pid", "path": format!("/proc/{}/ns/pid", pause.pid()) }));
    });
    bundle.start();
    let label = format!("{name} (enforce)\n");
    common::eventually("the label", || fs::read_to_string(bundle.rootfs().join("label")).is_ok_and(|text| text == label));
    assert_eq!(bundle.sh("cat /proc/self/attr/current"), label);
    drop((bundle, pause));
    parser("--remove");
}
