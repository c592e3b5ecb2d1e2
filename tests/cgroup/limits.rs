//! Limits as the kernel has them, and what is left when it refuses one.

use crate::place::{Place, limits};
use keel::cgroup::{Layout, Version};
use keel::plan::limits::{Limits, Missing, Write};
use serde_json::json;
use std::fs;

#[test]
fn every_limit_is_read_back() {
    let mut place = Place::new("limits");
    let v1 = Layout::detect().expect("layout").version == Version::V1;
    let disk = fs::read_dir("/sys/block").expect("disks").filter_map(Result::ok).map(|e| e.path()).find(|p| !p.join("loop").exists());
    let mut asked = json!({
        "memory": {"limit": 64 << 20, "swap": 128 << 20, "reservation": 32 << 20},
        "cpu": {"shares": 512, "quota": 50000, "period": 200000, "burst": 10000},
        "pids": {"limit": 33},
    });
    let mut expected = if v1 {
        asked["memory"]["swappiness"] = json!(7);
        asked["memory"]["disableOOMKiller"] = json!(true);
        asked["cpu"]["cpus"] = json!("0");
        asked["cpu"]["mems"] = json!("0");
        vec![
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.memsw.limit_in_bytes", "134217728"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("memory", "memory.swappiness", "7"),
            ("memory", "memory.oom_control", "oom_kill_disable 1"),
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpu", "cpu.cfs_period_us", "200000"),
            ("cpu", "cpu.cfs_burst_us", "10000"),
            ("cpuset", "cpuset.cpus", "0"),
            ("cpuset", "cpuset.mems", "0"),
            ("pids", "pids.max", "33"),
        ]
    } else {
        vec![
            ("memory", "memory.max", "67108864"),
            ("memory", "memory.swap.max", "67108864"),
            ("memory", "memory.low", "33554432"),
            ("cpu", "cpu.weight", "59"),
            ("cpu", "cpu.max", "50000 200000"),
            ("cpu", "cpu.max.burst", "10000"),
            ("pids", "pids.max", "33"),
        ]
    };
    let number = disk.map(|disk| fs::read_to_string(disk.join("dev")).expect("number").trim().to_string());
    let rate = number.as_ref().map(|number| format!("{number} {}", if v1 { "1048576" } else { "rbps=1048576" }));
    if let Some((number, rate)) = number.as_ref().zip(rate.as_ref()) {
        let (major, minor) = number.split_once(':').expect("number");
        let (major, minor): (i64, i64) = (major.parse().expect("major"), minor.parse().expect("minor"));
        asked["blockIO"] = json!({"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1 << 20}]});
        expected.push(if v1 { ("blkio", "blkio.throttle.read_bps_device", rate) } else { ("io", "io.max", rate) });
    }
    let entry = place.cgroup.create(&limits(asked), None, false).expect("create");
    assert_eq!(entry.warnings, [""; 0]);
    for (controller, file, value) in expected {
        let text = place.read(controller, file);
        assert!(text.lines().any(|line| line.starts_with(value)), "{file}: {text:?}, not {value}");
    }
}

#[test]
fn an_update_finds_its_own_order() {
    let mut place = Place::new("update");
    let memory = |limit: i64, swap: i64| limits(json!({"memory": {"limit": limit << 20, "swap": swap << 20}}));
    place.cgroup.create(&memory(64, 64), None, false).expect("create");
    // Up, where memory+swap must move first on v1; down, where memory must.
    for (limit, swap) in [(256, 512), (32, 32), (128, 128)] {
        place.cgroup.set(&memory(limit, swap), None, false).unwrap_or_else(|e| panic!("{limit} {swap}: {e}"));
        let file = if place.cgroup.version() == Version::V1 { "memory.limit_in_bytes" } else { "memory.max" };
        assert_eq!(place.read("memory", file).trim(), (limit << 20).to_string());
    }
    let cpu = |quota: i64, period: u64, burst: u64| limits(json!({"cpu": {"quota": quota, "period": period, "burst": burst}}));
    for (quota, period, burst) in [(50_000, 100_000, 50_000), (2_000, 4_000, 1_000), (500_000, 1_000_000, 400_000)] {
        place.cgroup.set(&cpu(quota, period, burst), None, false).unwrap_or_else(|e| panic!("{quota} {period} {burst}: {e}"));
    }
    let mut process = place.process("x=$(echo y); echo ready; exec sleep 100");
    process.wait_for("ready");
    let too_low = json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}});
    let error = place.cgroup.set(&limits(too_low), None, false).expect_err("in use").to_string();
    assert!(error.contains("rejecting memory limit 4096: ") && error.contains("bytes are in use"), "{error}");
}

#[test]
fn a_refused_limit_leaves_no_directory() {
    let mut place = Place::below("refused", "a/b");
    let mut asked = limits(json!({"pids": {"limit": 5}, "cpu": {"shares": 100}}));
    let (controller, file) = ("pids".to_string(), "pids.max".to_string());
    asked.writes.push(Write {
        controller,
        file,
        value: "many".into(),
        at: "linux.resources.pids.limit".into(),
        missing: Missing::Refuse(""),
    });
    assert!(asked.writes.len() >= 3);
    let error = place.cgroup.create(&asked, None, false).expect_err("refused").to_string();
    assert!(
        error.contains("set pids.max to many in ") && error.contains("linux.resources.pids.limit") && error.contains("invalid argument"),
        "{error}"
    );
    assert_eq!(place.leftovers(), [""; 0]);
}

#[test]
fn undo_removes_what_was_made_and_nothing_else() {
    let mut first = Place::below("undo", "mine");
    first.cgroup.create(&Limits::default(), None, false).expect("create");
    let mut second = Place::below("undo", "other/x");
    let entry = second.cgroup.create(&Limits::default(), None, false).expect("create");
    assert!(second.leftovers().iter().any(|dir| dir.ends_with("/other/x")));
    second.cgroup.abandon(entry);
    assert!(second.leftovers().iter().all(|dir| !dir.contains("/other")), "{:?}", second.leftovers());
    assert!(first.leftovers().iter().any(|dir| dir.ends_with("/mine")), "the neighbour's parent is not ours to remove");
}

#[test]
fn a_controller_the_host_lacks_is_named() {
    let mut place = Place::new("lacking");
    let (controller, file) = ("nosuch".to_string(), "nosuch.max".to_string());
    let write = Write { controller, file, value: "1".into(), at: "linux.resources.nosuch".into(), missing: Missing::Refuse("") };
    let error = place.cgroup.create(&Limits { writes: vec![write], ..Limits::default() }, None, false).expect_err("refused").to_string();
    assert!(error.contains("set nosuch.max to 1") && error.contains("controller nosuch is not"), "{error}");
    assert_eq!(place.leftovers(), [""; 0]);
}

#[test]
fn a_nested_cpuset_takes_processes() {
    let root = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let present = root.map_or(true, |v2| v2.contains("cpuset"));
    for asked in [json!({}), json!({"cpus": "0"}), json!({"mems": "0"})].into_iter().take(if present { 3 } else { 1 }) {
        let mut place = Place::below("cpuset", "a/b");
        place.cgroup.create(&limits(json!({"cpu": asked})), None, false).unwrap_or_else(|e| panic!("{asked}: {e}"));
        let process = place.process("exec sleep 100");
        assert_eq!(place.cgroup.procs().expect("procs"), [process.pid()]);
    }
}

#[test]
fn oom_kills_are_counted() {
    let mut place = Place::new("oom");
    place.cgroup.create(&limits(json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}})), None, false).expect("create");
    assert_eq!(place.cgroup.oom_kill_count().expect("count"), 0);
    let mut process = place.process("head -c 100000000 /dev/zero 2>/dev/null | tail 2>/dev/null");
    process.reap();
    assert!(place.cgroup.oom_kill_count().expect("count") > 0);
}

#[test]
fn a_missing_file_means_what_its_limit_says() {
    let mut place = Place::new("missing");
    let write = |missing: Missing| {
        let (controller, file, value, at) = ("pids".into(), "pids.nosuch".into(), "1".into(), "linux.resources.x".into());
        Limits { writes: vec![Write { controller, file, value, at, missing }], ..Limits::default() }
    };
    let entry = place.cgroup.create(&write(Missing::Warn("it is new")), None, false).expect("warned");
    assert_eq!(entry.warnings, ["linux.resources.x is ignored: it is new"]);
    let set = |missing: Missing| place.cgroup.set(&write(missing), None, false).map(|change| change.warnings);
    assert_eq!(set(Missing::Skip).expect("skipped"), [""; 0]);
    assert_eq!(set(Missing::Instead { file: "pids.max", value: "77".into() }).expect("replaced"), [""; 0]);
    assert_eq!(place.read("pids", "pids.max"), "77\n");
    let error = set(Missing::Refuse("ask your kernel")).expect_err("refused").to_string();
    assert!(error.ends_with("(config.json: linux.resources.x): no such file or directory (ask your kernel)"), "{error}");
}
