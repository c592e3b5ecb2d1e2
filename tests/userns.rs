//! User, time and joined namespaces.

mod common;

use common::{Bundle, Census};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn add_namespace(config: &mut Value, kind: &str) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    // On v2 the sample has a cgroup namespace already.
    namespaces.retain(|namespace| namespace["type"] != kind);
    namespaces.push(json!({"type": kind}));
}

/// Ids 0 to 65535 are 100000 to 165535 outside.
fn mapped(args: &[&str]) -> Bundle {
    let bundle = Bundle::new(args).with(|c| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        add_namespace(c, "user");
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
    });
    let owner = (Some(rustix::fs::Uid::from_raw(100_000)), Some(rustix::fs::Gid::from_raw(100_000)));
    rustix::fs::chown(bundle.rootfs(), owner.0, owner.1).unwrap();
    bundle
}

/// Joins the namespace of `pid` instead of making one.
fn join(config: &mut Value, kind: &str, pid: i32) {
    let file = match kind {
        "network" => "net",
        "mount" => "mnt",
        other => other,
    };
    let path = format!("/proc/{pid}/ns/{file}");
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|n| n["type"] != kind);
    list.push(json!({"type": kind, "path": path}));
}

#[test]
fn root_inside_is_an_ordinary_user_outside() {
    let bundle = mapped(&["sh", "-c", "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map; touch /made; exec sleep 1000"]);
    bundle.start();
    common::eventually("the output", || bundle.out().lines().count() == 4);
    let out = bundle.out();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "0", "100000", "65536", "0", "100000", "65536"]);
    let outside = fs::metadata(format!("/proc/{}", bundle.pid())).unwrap();
    assert_eq!((outside.uid(), outside.gid()), (100_000, 100_000));
    common::eventually("the file", || bundle.rootfs().join("made").exists());
    assert_eq!(fs::metadata(bundle.rootfs().join("made")).unwrap().uid(), 100_000);
    assert_eq!(bundle.sh("id -u; stat -c %u /made"), "0\n0\n");
    bundle.delete();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn users_groups_and_limits_work_inside() {
    let bundle =
        mapped(&["sh", "-c", "id -u; id -G; ulimit -n; cat /proc/self/setgroups /proc/self/oom_score_adj; grep CapEff /proc/self/status"]);
    let bundle = bundle.with(|c| {
        c["process"]["user"] = json!({"uid": 33, "gid": 34, "additionalGids": [35, 36]});
        c["process"]["oomScoreAdj"] = json!(500);
    });
    assert_eq!(bundle.run().ok(), "33\n34 35 36\n1024\nallow\n500\nCapEff:\t0000000000000000\n");
    let bundle = mapped(&["id"]).with(|c| c["process"]["user"] = json!({"uid": 70000, "gid": 0}));
    bundle.run().fails(1, &["70000", "not mapped", "process.user.uid"]);
}

#[test]
fn devices_are_the_hosts_own_and_work() {
    let line = "cd /dev; stat -c '%n %F %t:%T' null zero full random urandom tty; echo x > null; head -c 2 zero | od -An -tx1; readlink ptmx; ls /dev/pts";
    let said = mapped(&["sh", "-c", line]).run().ok();
    for (name, numbers) in [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("urandom", "1:9"), ("tty", "5:0")] {
        assert!(said.contains(&format!("{name} character special file {numbers}\n")), "{said}");
    }
    assert!(said.contains(" 00 00\n") && said.contains("pts/ptmx"), "{said}");
}

#[test]
fn a_device_that_the_host_does_not_have_is_said_to_be_the_hosts() {
    for (path, words) in [("/dev/no-such-device", "node of that path, which is not there"), ("/dev/zero", "which is another device")] {
        let bundle = mapped(&["true"]);
        let bundle = bundle.with(|c| c["linux"]["devices"] = json!([{"path": path, "type": "c", "major": 10, "minor": 200}]));
        bundle.run().fails(1, &[&format!("make the device {path} (config.json: linux.devices[0])"), "a bind of the host's", words]);
        Census::of(&bundle).nothing_left(&bundle);
    }
}

#[test]
fn all_mounts_of_the_sample_work_inside() {
    let said = mapped(&["sh", "-c", "mount; hostname; touch /dev/shm/a /dev/mqueue/b; ls /sys/class/net"]).run().ok();
    for part in
        ["proc on /proc type proc", "devpts on /dev/pts", "mqueue on /dev/mqueue", "sysfs on /sys", "on /sys/fs/cgroup", "keel\n", "lo"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn hooks_and_masks_work_with_a_user_namespace() {
    let bundle = mapped(&[
        "sh",
        "-c",
        "cat /proc/keys; touch /proc/sys/kernel/hostname 2>/dev/null; echo x > /proc/sys/kernel/hostname || echo refused",
    ]);
    let seen = bundle.dir.join("seen");
    let line = format!("readlink /proc/self/ns/user > {}", seen.display());
    fs::write(&seen, "").unwrap();
    rustix::fs::chmod(&seen, rustix::fs::Mode::from_raw_mode(0o666)).unwrap();
    let bundle = bundle.with(|c| {
        c["hooks"] = json!({"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/bin:/bin"]}]});
    });
    assert_eq!(bundle.run().ok(), "refused\n");
    let ours = fs::read_link("/proc/self/ns/user").unwrap();
    let hooks = fs::read_to_string(&seen).unwrap();
    assert!(hooks.starts_with("user:[") && hooks.trim() != ours.to_str().unwrap(), "{hooks}");
}

#[test]
fn wrong_maps_are_refused_by_name() {
    let bundle = mapped(&["true"]).with(|c| c["linux"]["uidMappings"] = json!([]));
    bundle.run().fails(1, &["linux.uidMappings"]);
    let bundle = mapped(&["true"]).with(|c| c["linux"]["gidMappings"][0]["size"] = json!(0));
    bundle.run().fails(1, &["linux.gidMappings[0]"]);
    let bundle = Bundle::new(&["true"]).with(|c| c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    bundle.run().fails(1, &["linux.uidMappings", "user namespace"]);
    let many: Vec<Value> = (0..341).map(|n| json!({"containerID": n, "hostID": 100_000 + n, "size": 1})).collect();
    let bundle = mapped(&["true"]).with(|c| c["linux"]["uidMappings"] = json!(many));
    bundle.run().fails(1, &["341", "340", "linux.uidMappings"]);
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn namespaces_of_another_container_are_joined_by_path() {
    let first = Bundle::new(&["sleep", "1000"]).with(|c| c["hostname"] = json!("first"));
    first.start();
    let of = |kind: &str| fs::read_link(format!("/proc/{}/ns/{kind}", first.pid())).unwrap().to_str().unwrap().to_owned();
    let line = "for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done; hostname; cat /proc/1/comm";
    let second = Bundle::new(&["sh", "-c", line]).with(|c| {
        c.as_object_mut().unwrap().remove("hostname");
        for kind in ["network", "ipc", "uts", "pid"] {
            join(c, kind, first.pid());
        }
    });
    let said = second.run().ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..4], [of("net"), of("ipc"), of("uts"), of("pid")], "{said}");
    assert_ne!(lines[4], of("mnt"));
    assert_eq!(lines[5..], ["first", "sleep"], "{said}");
    Census::of(&second).nothing_left(&second);
    assert_eq!(first.status(), "running");
}

#[test]
fn the_user_namespace_of_another_container_is_joined() {
    let first = mapped(&["sleep", "1000"]);
    first.start();
    let own = |kind: &str| fs::read_link(format!("/proc/{}/ns/{kind}", first.pid())).unwrap().to_str().unwrap().to_owned();
    let second =
        Bundle::new(&["sh", "-c", "readlink /proc/self/ns/user; readlink /proc/self/ns/net; id -u; cat /proc/self/uid_map"]).with(|c| {
            join(c, "user", first.pid());
            join(c, "network", first.pid());
        });
    let said = second.run().ok();
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, [&own("user"), &own("net"), "0", "0", "100000", "65536"]);
    Census::of(&second).nothing_left(&second);
}

#[test]
fn a_joined_pid_namespace_does_not_outlive_the_containers_own_end() {
    let first = Bundle::new(&["sleep", "1000"]);
    first.start();
    let second = Bundle::new(&["sh", "-c", "sleep 1000 & exec sleep 1000"]).with(|c| join(c, "pid", first.pid()));
    second.start();
    common::eventually("two processes", || second.keel(&["ps", "--format", "json", "ID"]).ok().split(',').count() == 2);
    second.keel(&["delete", "--force", "ID"]).ok();
    Census::of(&second).nothing_left(&second);
    assert_eq!(first.status(), "running");
}

#[test]
fn a_time_namespace_has_its_offsets() {
    let line = "cat /proc/uptime; readlink /proc/self/ns/time";
    let bundle = Bundle::new(&["sh", "-c", line]).with(|c| {
        add_namespace(c, "time");
        c["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}, "monotonic": {"secs": 5, "nanosecs": 7}});
    });
    let said = bundle.run().ok();
    let uptime: f64 = said.split_whitespace().next().unwrap().parse().unwrap();
    let host: f64 = fs::read_to_string("/proc/uptime").unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!((uptime - host - 1_000_000.0).abs() < 60.0, "{uptime} {host}");
    let own = fs::read_link("/proc/self/ns/time").unwrap();
    assert_ne!(said.lines().nth(1).unwrap(), own.to_str().unwrap());
    let bundle = Bundle::new(&["true"]).with(|c| c["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1}}));
    bundle.run().fails(1, &["time namespace", "linux.timeOffsets"]);
}

#[test]
fn a_cgroup_namespace_is_rooted_at_the_container() {
    let bundle = Bundle::new(&["cat", "/proc/self/cgroup"]).with(|c| add_namespace(c, "cgroup"));
    let said = bundle.run().ok();
    assert!(!said.contains(&bundle.id()) && said.lines().any(|line| line.ends_with(":/")), "{said}");
}

#[test]
fn shared_namespaces_are_the_hosts() {
    let said = Bundle::new(&["sh", "-c", "for n in net ipc uts pid; do readlink /proc/self/ns/$n; done"])
        .with(|c| {
            c.as_object_mut().unwrap().remove("hostname");
            c["linux"]["namespaces"] = json!([{"type": "mount"}]);
        })
        .run()
        .ok();
    let ours: Vec<String> = ["net", "ipc", "uts", "pid"]
        .iter()
        .map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap().into())
        .collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), ours);
}

#[test]
fn a_time_namespace_works_with_a_user_namespace() {
    let bundle = mapped(&["cat", "/proc/self/timens_offsets"]).with(|c| {
        add_namespace(c, "time");
        c["linux"]["timeOffsets"] = json!({"monotonic": {"secs": 7881, "nanosecs": 2718}});
    });
    let said = bundle.run().ok();
    assert!(said.lines().any(|line| line.split_whitespace().eq(["monotonic", "7881", "2718"])), "{said}");
}

/// runc leaves this device out: the container's terminals are those of its own devpts.
#[test]
fn a_ptmx_among_the_devices_is_the_link_to_the_containers_own() {
    for path in ["/dev/ptmx", "/dev//./ptmx"] {
        for bundle in [mapped(&["sh", "-c", "readlink /dev/ptmx"]), Bundle::new(&["sh", "-c", "readlink /dev/ptmx"])] {
            let bundle =
                bundle.with(|c| c["linux"]["devices"] = json!([{"path": path, "type": "c", "major": 5, "minor": 2, "fileMode": 0o666}]));
            assert_eq!(bundle.run().ok(), "pts/ptmx\n");
            Census::of(&bundle).nothing_left(&bundle);
        }
    }
}

const LIMITS: &str = "ulimit -Sn; ulimit -Hn";

/// A program may get fewer descriptors than keel needs to make its container: the limit comes last,
/// also where only the parent has the right to raise it.
#[test]
fn a_small_limit_of_descriptors_is_the_programs_alone() {
    for bundle in [mapped(&["sh", "-c", LIMITS]), Bundle::new(&["sh", "-c", LIMITS])] {
        let bundle = bundle.with(|c| c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 24, "hard": 25}]));
        assert_eq!(bundle.run().ok(), "24\n25\n");
        let bundle = bundle.with(|c| c["process"]["args"] = json!(["sleep", "1000"]));
        bundle.start();
        assert_eq!(bundle.sh(LIMITS), "24\n25\n");
        bundle.delete();
        Census::of(&bundle).nothing_left(&bundle);
    }
}

/// Each mount takes a descriptor; keel takes as many as the caller's hard limit lets it, and gives
/// the program and hooks the limits that the caller had.
#[test]
fn many_mounts_need_no_higher_soft_limit_of_the_caller() {
    let shared = || Bundle::new(&["sh", "-c", LIMITS]).with(|c| c["linux"]["rootfsPropagation"] = json!("rshared"));
    for bundle in [mapped(&["sh", "-c", LIMITS]), shared()] {
        let source = bundle.dir.join("source");
        fs::create_dir(&source).unwrap();
        let log = bundle.dir.join("log");
        fs::write(&log, "").unwrap();
        fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("ulimit -Sn >> {}", log.display())]}]);
        let inside = json!([{"path": "/bin/sh", "args": ["sh", "-c", "test $(ulimit -Sn) = 256"]}]);
        let bundle = bundle.with(|c| {
            let binds = (0..300).map(|i| json!({"destination": format!("/m/{i}"), "type": "bind", "source": source, "options": ["rbind"]}));
            c["mounts"].as_array_mut().unwrap().extend(binds);
            c["process"].as_object_mut().unwrap().remove("rlimits");
            c["hooks"] = json!({"createRuntime": hook, "createContainer": hook, "startContainer": inside, "poststart": hook});
        });
        bundle.write();
        let run = |line: &str| {
            let keel = bundle.command(&["run", &bundle.id()]);
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &format!("{line}; exec \"$@\""), "sh"]).arg(keel.get_program()).args(keel.get_args());
            common::Said::of(command.current_dir(&bundle.dir).stdin(std::process::Stdio::null()).output().unwrap())
        };
        assert_eq!(run("ulimit -Sn 256; ulimit -Hn 4096").ok(), "256\n4096\n");
        assert_eq!(fs::read_to_string(&log).unwrap(), "256\n".repeat(3));
        run("ulimit -n 256").fails(1, &["too many open files"]);
        Census::of(&bundle).nothing_left(&bundle);
    }
}
