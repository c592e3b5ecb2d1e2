//! `update`: limits of a running container, changed all or not at all, and remembered.

mod common;

use common::{Bundle, eventually};
use keel::cgroup::{Layout, Version};
use keel::plan::update;
use keel::spec::Resources;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::process::Stdio;

fn v1() -> bool {
    Layout::detect().unwrap().version == Version::V1
}

/// The contents of a control file of the container, by its name on either version.
fn file(bundle: &Bundle, name_v1: &str, name_v2: &str) -> String {
    let name = if v1() { name_v1 } else { name_v2 };
    let controller = name.split('.').next().unwrap();
    let text = fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
    let paths = text.lines().map(|line| line.splitn(3, ':').skip(1).collect::<Vec<_>>());
    let found = paths.into_iter().find(|line| if v1() { line[0].split(',').any(|have| have == controller) } else { line[0].is_empty() });
    let found = found.unwrap_or_else(|| panic!("{controller} in {text}"));
    let mount = if v1() { format!("/sys/fs/cgroup/{}", found[0]) } else { "/sys/fs/cgroup".into() };
    let path = format!("{mount}{}/{name}", found[1]);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).trim().to_owned()
}

fn memory(bundle: &Bundle) -> String {
    file(bundle, "memory.limit_in_bytes", "memory.max")
}

/// What keel remembers of `linux.resources`.
fn kept(bundle: &Bundle) -> Value {
    bundle.kept("config")["linux"]["resources"].clone()
}

/// A write of the record that a kill has cut short, by chance where a document could end: an update keeps the whole one before it.
#[test]
fn an_update_keeps_the_last_record_that_is_one() {
    let bundle = sleeper(&json!({}));
    let record = bundle.kept("record");
    let path = bundle.state_root().join(bundle.id()).join("record.jsonl");
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("\n{\"record\":{\"init\":{\"pid\":1}\n");
    fs::write(&path, text).unwrap();
    bundle.keel(&["update", "--pids-limit", "77", "ID"]).ok();
    assert_eq!(bundle.kept("record"), record);
    assert_eq!(kept(&bundle)["pids"]["limit"], 77);
    assert_eq!(bundle.status(), "running");
}

fn sleeper(resources: &Value) -> Bundle {
    let bundle = Bundle::new(&["sleep", "1000"]).with(|c| {
        for (key, value) in resources.as_object().unwrap() {
            c["linux"]["resources"][key] = value.clone();
        }
    });
    bundle.start();
    bundle
}

#[track_caller]
fn updated(bundle: &Bundle, flags: &[&str]) {
    let args: Vec<&str> = ["update"].iter().chain(flags).chain(&["ID"]).copied().collect();
    let said = bundle.keel(&args);
    assert_eq!((said.err.as_str(), said.out.as_str()), ("", ""), "{said:?}");
    said.ok();
}

/// `update --resources -`.
fn from_stdin(bundle: &Bundle, flags: &[&str], document: &str) -> common::Said {
    let id = bundle.id();
    let args: Vec<&str> = ["update", "-r", "-"].iter().chain(flags).chain(&[id.as_str()]).copied().collect();
    let mut child = bundle.command(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
    common::Said::of(child.wait_with_output().unwrap())
}

#[test]
fn each_flag_reaches_its_file() {
    let bundle = sleeper(&json!({}));
    let quota = |v1: &'static str, v2: &'static str| (v1, v2);
    let mut rows = vec![
        (vec!["--memory", "64m", "--memory-swap=128m"], quota("memory.limit_in_bytes", "memory.max"), "67108864", "67108864"),
        (vec![], ("memory.memsw.limit_in_bytes", "memory.swap.max"), "134217728", "67108864"),
        (vec!["--memory-reservation", "32MiB"], ("memory.soft_limit_in_bytes", "memory.low"), "33554432", "33554432"),
        (vec!["--cpu-share", "512"], ("cpu.shares", "cpu.weight"), "512", "59"),
        (vec!["--cpu-period", "200000", "--cpu-quota", "50000"], ("cpu.cfs_quota_us", "cpu.max"), "50000", "50000 200000"),
        (vec![], ("cpu.cfs_period_us", "cpu.max"), "200000", "50000 200000"),
        (vec!["--cpu-burst", "10000"], ("cpu.cfs_burst_us", "cpu.max.burst"), "10000", "10000"),
        (vec!["--cpu-quota", "-1", "--cpu-burst=0"], ("cpu.cfs_quota_us", "cpu.max"), "-1", "max 200000"),
        (vec!["--pids-limit", "44"], ("pids.max", "pids.max"), "44", "44"),
        (vec!["--pids-limit=-1"], ("pids.max", "pids.max"), "max", "max"),
        (vec!["--cpu-idle", "1"], ("cpu.idle", "cpu.idle"), "1", "1"),
        // Out of idle, the shares that it had come back.
        (vec!["--cpu-idle", "0"], ("cpu.shares", "cpu.weight"), "512", "59"),
        (vec!["--memory", "-1"], ("memory.limit_in_bytes", "memory.max"), "9223372036854771712", "max"),
        (vec![], ("memory.memsw.limit_in_bytes", "memory.swap.max"), "9223372036854771712", "max"),
    ];
    if v1() {
        rows.push((vec!["--cpuset-cpus", "0", "--cpuset-mems=0"], ("cpuset.cpus", ""), "0", ""));
    }
    for (flags, (name_v1, name_v2), first, second) in rows {
        if !flags.is_empty() {
            updated(&bundle, &flags);
        }
        assert_eq!(file(&bundle, name_v1, name_v2), if v1() { first } else { second }, "{name_v1} after {flags:?}");
    }
    let resources = kept(&bundle);
    assert_eq!(resources["cpu"]["shares"], 512);
    assert_eq!(resources["pids"]["limit"], -1);
    assert_eq!((&resources["memory"]["limit"], &resources["memory"]["reservation"]), (&json!(-1), &json!(32 << 20)));
}

#[test]
fn limits_that_depend_on_each_other_find_their_order() {
    let bundle = sleeper(&json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}, "cpu": {"quota": 50000, "period": 100000}}));
    for (limit, swap) in [("256m", "512m"), ("32m", "32m"), ("128m", "128m")] {
        updated(&bundle, &["--memory", limit, "--memory-swap", swap]);
        assert_eq!(memory(&bundle), (limit.trim_end_matches('m').parse::<u64>().unwrap() << 20).to_string());
    }
    // Half of each pair keeps the other half.
    updated(&bundle, &["--cpu-period", "50000"]);
    assert_eq!(file(&bundle, "cpu.cfs_quota_us", "cpu.max"), if v1() { "50000" } else { "50000 50000" });
    updated(&bundle, &["--cpu-quota", "20000"]);
    assert_eq!(file(&bundle, "cpu.cfs_quota_us", "cpu.max"), if v1() { "20000" } else { "20000 50000" });
    for (quota, period, burst) in [("2000", "4000", "1000"), ("500000", "1000000", "400000"), ("50000", "100000", "0")] {
        updated(&bundle, &["--cpu-quota", quota, "--cpu-period", period, "--cpu-burst", burst]);
    }
    // memory.swap alone is a sum with the limit that is there.
    updated(&bundle, &["--memory-swap", "192m"]);
    let expected = if v1() { 192 << 20 } else { 64 << 20 };
    assert_eq!(file(&bundle, "memory.memsw.limit_in_bytes", "memory.swap.max"), expected.to_string());
    if v1() {
        let said = bundle.keel(&["update", "--memory", "256m", "ID"]);
        said.fails(1, &["memory.limit_in_bytes", "memory and swap together", "--memory-swap"]);
    }
}

#[test]
fn an_update_that_fails_changes_nothing() {
    let bundle = sleeper(&json!({"memory": {"limit": 64 << 20}, "cpu": {"shares": 300}, "pids": {"limit": 50}}));
    let before = (memory(&bundle), file(&bundle, "cpu.shares", "cpu.weight"), file(&bundle, "pids.max", "pids.max"), kept(&bundle));
    let same = || {
        assert_eq!(
            (memory(&bundle), file(&bundle, "cpu.shares", "cpu.weight"), file(&bundle, "pids.max", "pids.max"), kept(&bundle)),
            before
        )
    };
    // The kernel refuses the last of three (PIDS_MAX is 4194304).
    let refused = ["update", "--memory", "128m", "--cpu-share", "2000", "--pids-limit", "99999999999", "ID"];
    bundle.keel(&refused).fails(1, &["set pids.max to 99999999999", "linux.resources.pids.limit", "invalid argument"]);
    same();
    // Out of idle and back.
    updated(&bundle, &["--cpu-idle", "1"]);
    let said = bundle.keel(&["update", "--cpu-idle", "0", "--pids-limit", "99999999999", "ID"]).fails(1, &["set pids.max to"]);
    assert!(!said.contains("not all back"), "{said}");
    assert_eq!(file(&bundle, "cpu.idle", "cpu.idle"), "1");
    updated(&bundle, &["--cpu-idle", "0"]);
    let before = (before.0, before.1, before.2, kept(&bundle));
    let same = || {
        assert_eq!(
            (memory(&bundle), file(&bundle, "cpu.shares", "cpu.weight"), file(&bundle, "pids.max", "pids.max"), kept(&bundle)),
            before
        )
    };
    same();
    // Refused before the first write.
    for (flags, words) in [
        (&["--memory", "128m", "--blkio-weight", "5"][..], "weight 5 is outside of 10 to 1000"),
        (&["--memory", "128m", "--memory-swap", "64m"], "memory.swap 67108864 is below memory.limit 134217728"),
        (&["--memory", "128m", "--cpu-idle", "3"], "3 is neither 0 nor 1"),
        (&["--memory", "128m", "--l3-cache-schema", "L3:0=f"], "Intel RDT/CAT: l3 cache schema is not enabled"),
        (&["--memory", "128m", "--mem-bw-schema", "MB:0=20"], "Intel RDT/MBA: memory bandwidth schema is not enabled"),
        (&["--memory", "12x"], "invalid value for memory: \"12x\""),
        (&["--cpu-share", "many"], "invalid value for cpu-share: \"many\""),
        (&["--cpu-period=-5"], "invalid value for cpu-period"),
        (&["--resources", "/nonexistent"], "no such file or directory"),
    ] {
        let args: Vec<&str> = ["update"].iter().chain(flags).chain(&["ID"]).copied().collect();
        bundle.keel(&args).fails(1, &[words]);
        same();
    }
    for document in ["", "[]", "{\"memory\": {\"limit\": \"64m\"}}", "{\"memory\": 5}", "{\"hugepageLimits\": [{\"pageSize\": \"../x\"}]}"]
    {
        from_stdin(&bundle, &[], document).fails(1, &["error"]);
        same();
    }
}

#[test]
fn a_document_sets_what_it_names_and_flags_beside_it_do_nothing() {
    let bundle = sleeper(&json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}}));
    let zeros = json!({"memory": {"limit": 96 << 20, "swap": 0, "kernel": 0}, "cpu": {"shares": 0, "quota": 0}, "blockIO": {"weight": 0}});
    assert_eq!(from_stdin(&bundle, &["--pids-limit", "7"], &zeros.to_string()).err, "");
    assert_eq!((memory(&bundle).as_str(), file(&bundle, "pids.max", "pids.max").as_str()), ("100663296", "50"));
    let path = bundle.dir.join("resources.json");
    fs::write(&path, json!({"pids": {"limit": 60}, "memory": {"kernel": 5, "colour": 1}}).to_string()).unwrap();
    let said = bundle.keel(&["update", "ID", "--resources", path.to_str().unwrap()]);
    assert!(said.err.contains("memory.kernel is deprecated") && said.err.contains("memory.colour is not in runtime-spec"), "{said:?}");
    said.ok();
    assert_eq!((memory(&bundle).as_str(), file(&bundle, "pids.max", "pids.max").as_str()), ("100663296", "60"));
    let kernel = bundle.keel(&["update", "--kernel-memory", "5m", "--kernel-memory-tcp", "5m", "ID"]);
    assert_eq!(kernel.err.matches("is ignored").count(), 2, "{kernel:?}");
    kernel.ok();
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_if_asked_to() {
    let bundle = sleeper(&json!({"memory": {"limit": 64 << 20}}));
    let document = json!({"memory": {"limit": 8192, "checkBeforeUpdate": true}}).to_string();
    from_stdin(&bundle, &[], &document).fails(1, &["rejecting memory limit 8192", "bytes are in use", "memory.checkBeforeUpdate"]);
    assert_eq!((memory(&bundle).as_str(), bundle.status().as_str()), ("67108864", "running"));
}

#[test]
fn device_rules_stay_as_they_are() {
    let node = json!({"type": "c", "path": "/dev/x", "major": 240, "minor": 7, "fileMode": 0o666});
    let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 240, "minor": 7, "access": "rwm"}]);
    let bundle = Bundle::new(&["sleep", "1000"]).with(|c| {
        c["linux"]["devices"] = json!([node]);
        c["linux"]["resources"] = json!({"devices": rules});
    });
    bundle.start();
    // Nobody drives 240:7: who may open it is told that it is not there.
    let opens = || bundle.sh("exec 2>&1; (: < /dev/x) || true").contains("No such device");
    assert!(opens());
    assert_eq!(
        from_stdin(&bundle, &[], &json!({"devices": rules, "pids": {"limit": 60}}).to_string()).err,
        "",
        "engines send what they know"
    );
    let other = from_stdin(&bundle, &[], &json!({"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 61}}).to_string());
    assert!(other.err.contains("linux.resources.devices is ignored"), "{other:?}");
    other.ok();
    assert_eq!((opens(), file(&bundle, "pids.max", "pids.max").as_str()), (true, "61"));
    assert_eq!(kept(&bundle)["devices"][1]["major"], 240);
}

/// On a view of this host in which cgroup2 has no CPU controller, and so no file for bursts.
#[test]
fn what_a_new_cgroup_cannot_keep_is_told() {
    if !v1() {
        common::skipped("on cgroup v2 every file of the test is there");
        return;
    }
    let bundle = Bundle::new(&["echo", "hello"]).with(|c| c["linux"]["resources"]["cpu"] = json!({"burst": 1000}));
    bundle.write();
    let view = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"";
    let keel = bundle.command(&["--log", "keel.log", "run", &bundle.id()]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", view, "sh"]).arg(keel.get_program()).args(keel.get_args());
    let said = common::Said::of(command.current_dir(&bundle.dir).stdin(Stdio::null()).output().unwrap());
    let log = fs::read_to_string(bundle.dir.join("keel.log")).unwrap();
    assert!(log.contains("linux.resources.cpu.burst is ignored: cpu bursts need Linux 5.14"), "{log}");
    assert_eq!(said.ok(), "hello\n");
}

#[test]
fn only_a_living_container_is_updated() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.keel(&["update", "--memory", "64m", "ID"]).fails(1, &["does not exist"]);
    bundle.create();
    updated(&bundle, &["--memory", "64m"]);
    assert_eq!((memory(&bundle).as_str(), bundle.status().as_str()), ("67108864", "created"));
    bundle.keel(&["start", "ID"]).ok();
    bundle.keel(&["pause", "ID"]).ok();
    updated(&bundle, &["--memory", "96m"]);
    assert_eq!((memory(&bundle).as_str(), bundle.status().as_str()), ("100663296", "paused"));
    bundle.keel(&["kill", "ID", "KILL"]).ok();
    eventually("the container's end", || bundle.status() == "stopped");
    bundle.keel(&["update", "--memory", "64m", "ID"]).fails(1, &["container not running"]);
}

#[test]
fn the_whole_is_remembered() {
    let resources = |value: &Value| -> Resources { serde_json::from_value(value.clone()).unwrap() };
    let rate = |minor: i64, rate: u64| json!({"major": 8, "minor": minor, "rate": rate});
    let old = json!({
        "memory": {"limit": 100, "swap": 150, "swappiness": 3}, "cpu": {"shares": 9, "quota": 5, "period": 7, "idle": 1}, "pids": {"limit": 5},
        "blockIO": {"throttleReadBpsDevice": [rate(0, 1), rate(16, 2)]}, "hugepageLimits": [{"pageSize": "2MB", "limit": 4}],
        "unified": {"memory.high": "5", "io.latency": "1"}, "devices": [{"allow": true, "type": "c", "access": "r"}],
    });
    let new = json!({
        "memory": {"limit": 200}, "cpu": {"quota": -1, "idle": 0}, "pids": {"limit": 0},
        "blockIO": {"throttleReadBpsDevice": [rate(16, 0), rate(32, 3)]}, "hugepageLimits": [{"pageSize": "1GB", "limit": 1}],
        "unified": {"memory.high": "max"},
    });
    let mut keep = json!({
        "memory": {"limit": 200, "swap": 150, "swappiness": 3}, "cpu": {"shares": 9, "quota": -1, "period": 7, "idle": 0}, "pids": {"limit": 0},
        "blockIO": {"throttleReadBpsDevice": [rate(0, 1), rate(16, 0), rate(32, 3)]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4}, {"pageSize": "1GB", "limit": 1}],
        "unified": {"memory.high": "max", "io.latency": "1"}, "devices": [{"allow": true, "type": "c", "access": "r"}],
    });
    let done = |version| update(&resources(&old), &resources(&new), version).unwrap();
    assert_eq!(done(Version::V1).keep, resources(&keep));
    // v2 limits swap alone, so 50 bytes of it stay.
    keep["memory"]["swap"] = json!(250);
    assert_eq!(done(Version::V2).keep, resources(&keep));
    let write = done(Version::V2).write;
    assert_eq!((write.cpu.quota, write.cpu.period, write.cpu.shares), (Some(-1), Some(7), Some(9)));
    assert_eq!((write.memory.swap, write.devices.len(), done(Version::V2).warnings.len()), (None, 0, 0));
}
