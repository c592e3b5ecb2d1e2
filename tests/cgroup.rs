//! The room `cgroup` against the real kernel, as root: on the host as it is (hybrid v1 or v2), and again in a view of
//! it that shows nothing but cgroup2 (a private mount and cgroup namespace; no controllers there, but devices, freezer
//! and kill).

mod common {
    pub mod place;
}

use common::place::{Place, as_nobody, in_plain_v1_view, in_v2_view, shell};
use keel::cgroup::{Cgroup, Devices, Layout, Version};
use keel::plan::limits::{Limits, Missing, Write, writes};
use keel::spec::Resources;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;

fn resources(value: Value) -> Resources {
    serde_json::from_value(value).expect("resources of the test")
}

fn limits(value: Value) -> Limits {
    writes(&resources(value), Layout::detect().expect("layout").version).expect("limits")
}

#[test]
fn the_layout_agrees_with_mountinfo() {
    let layout = Layout::detect().expect("layout");
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mut expected: Vec<String> = mountinfo
        .lines()
        .filter(|line| line.contains(" - cgroup ") || line.contains(" - cgroup2 "))
        .map(|line| line.split(' ').nth(4).expect("mount point").to_string())
        .collect();
    let mut found: Vec<_> = layout.hierarchies.iter().map(|h| h.mount.clone()).collect();
    expected.sort();
    expected.dedup();
    found.sort();
    assert!(!found.is_empty());
    assert_eq!(found, expected);
    assert_eq!(layout.is_hybrid(), expected.len() > 1 && expected.iter().any(|m| m.ends_with("/unified")));
}

#[test]
fn paths_follow_runcs_rules() {
    let layout = Layout::detect().expect("layout");
    let inner = |cgroups_path: &str| -> Vec<String> {
        let cgroup = Cgroup::locate(&layout, cgroups_path, "id").expect("place");
        cgroup
            .paths()
            .zip(&layout.hierarchies)
            .map(|((_, path), h)| path.strip_prefix(&h.mount).expect("below its mount").to_string())
            .collect()
    };
    for (given, clean) in [("/a/b", "/a/b"), ("//a/./b/", "/a/b"), ("/../../a", "/a"), ("/a/../../b", "/b"), ("/s:p:n", "/s:p:n")] {
        assert!(inner(given).iter().all(|path| path == clean), "{given}: {:?}", inner(given));
    }
    let own = |h: &keel::cgroup::Hierarchy| match layout.version {
        Version::V1 => h.path.trim_end_matches('/').to_string(),
        Version::V2 => h.path.rsplit_once('/').expect("absolute").0.to_string(),
    };
    for (given, below) in [("", "/id"), ("a", "/a"), ("../../a", "/a"), ("s.slice:p:n", "/s.slice:p:n")] {
        let expected: Vec<_> = layout.hierarchies.iter().map(|h| own(h) + below).collect();
        assert_eq!(inner(given), expected, "{given:?}");
    }
    for refused in ["/", "..", "/a/..", "/a\0b", "/a\nb"] {
        let error = Cgroup::locate(&layout, refused, "id").expect_err(refused).to_string();
        assert!(error.contains("linux.cgroupsPath"), "{error}");
    }
}

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
    let error = place.cgroup.set(&limits(json!({"memory": {"limit": 1, "checkBeforeUpdate": true}})), None, false);
    let process = place.process("exec sleep 100");
    assert!(error.is_ok(), "nobody uses memory yet: {error:?}");
    drop(process);
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
    entry.undo();
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
fn a_process_is_in_every_hierarchy_and_the_record_finds_it() {
    let mut place = Place::new("enter");
    place.create();
    let process = place.process("exec sleep 100");
    let text = fs::read_to_string(format!("/proc/{}/cgroup", process.pid())).expect("cgroup of the process");
    for (name, dir) in place.cgroup.paths() {
        let path = dir.strip_prefix("/sys/fs/cgroup").expect("below the root").split_once("/keeltest").expect("ours").1;
        assert!(text.lines().any(|line| line.contains(&format!(":{name}:/keeltest{path}"))), "{name} {dir}: {text}");
    }
    let record = serde_json::to_string(&place.cgroup).expect("record");
    let again: Cgroup = serde_json::from_str(&record).expect("cgroup of the record");
    assert_eq!(again, place.cgroup);
    assert_eq!(again.procs().expect("procs"), [process.pid()]);
    let error = Place::new("enter").cgroup.create(&Limits::default(), None, false).expect_err("occupied").to_string();
    assert!(error.contains("container's cgroup is not empty: 1 process(es) found"), "{error}");
}

fn freeze_and_thaw(name: &str) {
    let mut place = Place::new(name);
    place.create();
    let process = place.process("while :; do :; done");
    assert!(!place.cgroup.is_frozen().expect("state"));
    place.cgroup.freeze().expect("freeze");
    assert!(place.cgroup.is_frozen().expect("state"));
    let ticks = process.ticks();
    std::thread::sleep(std::time::Duration::from_millis(60));
    assert_eq!(process.ticks(), ticks, "a frozen process used the CPU");
    place.cgroup.thaw().expect("thaw");
    assert!(!place.cgroup.is_frozen().expect("state"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(process.ticks() > ticks, "a thawed process does not run");
}

/// A shell with children in sub-cgroups that it makes itself, as systemd in a container would.
fn kill_and_remove(name: &str) {
    let mut place = Place::new(name);
    place.create();
    let mkdirs: Vec<_> = place.cgroup.paths().map(|(_, dir)| format!("mkdir -p {dir}/sub/subsub;")).collect();
    let mut process = place.process(&format!("{} sleep 100 & sleep 100 & echo ready; wait", mkdirs.concat()));
    process.wait_for("ready");
    let all = place.cgroup.procs().expect("procs");
    assert_eq!(all.len(), 3, "{all:?}");
    place.move_below("sub/subsub", all[2]);
    assert_eq!(place.cgroup.procs().expect("procs"), all, "a process in a sub-cgroup belongs to the container");

    place.cgroup.kill_all(Signal::CONT).expect("signal 18");
    assert_eq!(place.cgroup.procs().expect("procs"), all);
    place.cgroup.freeze().expect("freeze");
    place.cgroup.kill_all(Signal::KILL).expect("kill");
    process.reap();
    place.cgroup.remove().expect("remove");
    assert_eq!(place.leftovers(), [""; 0]);
    assert_eq!(place.cgroup.procs().expect("procs"), [0; 0]);
    place.cgroup.kill_all(Signal::KILL).expect("killing nobody");
    place.cgroup.remove().expect("removing nothing");
}

fn kill_forkers(name: &str) {
    let mut place = Place::new(name);
    place.create();
    let mut process = place.process("f() { while :; do ( : ); done; }; f & f & f & echo ready; wait");
    process.wait_for("ready");
    place.cgroup.kill_all(Signal::KILL).expect("kill");
    process.reap();
    place.cgroup.remove().expect("remove");
}

/// What a shell in the cgroup may do with device nodes: `open` gives EPERM where the rules deny, whatever else where
/// they do not. (Opening a device that does not exist is ENXIO.)
fn device_verdicts(name: &str) {
    let deny_all = json!({"allow": false, "access": "rwm"});
    let rule = |allow: bool, kind: &str, major: i64, minor: i64, access: &str| json!({"allow": allow, "type": kind, "major": major, "minor": minor, "access": access});
    type Verdicts = Vec<(&'static str, bool)>;
    let table: Vec<(Vec<Value>, Verdicts)> = vec![
        // Nothing said: the defaults of every container.
        (
            vec![],
            vec![
                ("r c 1:3", true),
                ("w c 1:3", true),
                ("rw c 1:5", true),
                ("rw c 1:9", true),
                ("rw c 136:99", true),
                ("m c 240:7", true),
                ("m b 241:7", true),
                ("r c 1:11", false),
                ("r c 240:7", false),
                ("r b 7:0", false),
                ("r c 10:200", false),
            ],
        ),
        // Each kind of access by itself.
        (
            vec![deny_all.clone(), rule(true, "c", 240, 7, "r"), rule(true, "b", 241, 7, "w")],
            vec![
                ("r c 240:7", true),
                ("w c 240:7", false),
                ("rw c 240:7", false),
                ("r c 240:8", false),
                ("r b 240:7", false),
                ("w b 241:7", true),
                ("r b 241:7", false),
                ("rw b 241:7", false),
            ],
        ),
        // Two rules that together allow a request, and one that takes half of it back.
        (
            vec![rule(true, "c", 240, 7, "r"), rule(true, "c", 240, 7, "w"), rule(true, "c", 240, 8, "rw"), rule(false, "c", 240, 8, "w")],
            vec![("rw c 240:7", true), ("r c 240:8", true), ("w c 240:8", false), ("rw c 240:8", false)],
        ),
        // Wildcards.
        (
            vec![rule(true, "c", 240, -1, "rwm"), rule(true, "b", -1, 3, "r")],
            vec![
                ("rw c 240:0", true),
                ("rw c 240:200", true),
                ("r c 241:0", false),
                ("r b 241:3", true),
                ("r b 9:3", true),
                ("r b 9:4", false),
            ],
        ),
        // All allowed (a privileged container), all but some.
        (vec![json!({"allow": true, "access": "rwm"})], vec![("rw c 240:7", true), ("rw b 241:7", true), ("m b 241:7", true)]),
        (
            vec![
                deny_all.clone(),
                json!({"allow": true, "type": "a", "access": "rwm"}),
                rule(false, "c", 240, 7, "rwm"),
                rule(false, "b", 241, -1, "w"),
            ],
            vec![
                ("r c 240:7", false),
                ("m c 240:7", true),
                ("r c 240:8", true),
                ("w b 241:1", false),
                ("r b 241:1", true),
                ("w b 242:1", true),
            ],
        ),
        // The last word counts: everything before a rule for all is void.
        (vec![rule(true, "c", 240, 7, "rwm"), deny_all], vec![("r c 240:7", false), ("r c 1:3", true)]),
        (vec![rule(true, "c", 240, 7, "rwm"), rule(false, "c", 240, 7, "rwm")], vec![("r c 240:7", false)]),
        (vec![rule(false, "c", 240, 7, "rwm"), rule(true, "c", 240, 7, "rwm")], vec![("rw c 240:7", true)]),
    ];
    let mut place = Place::new(name);
    place.create();
    for (rules, verdicts) in table {
        let devices = Devices::new(&resources(json!({"devices": &rules})).devices).expect("rules");
        place.cgroup.set(&Limits::default(), Some(&devices), false).expect("set the rules");
        for (request, expected) in verdicts {
            assert_eq!(place.may(request), expected, "{request} under {}", Value::from(rules.clone()));
        }
    }
}

#[test]
fn frozen_processes_stand_still() {
    freeze_and_thaw("freeze");
}

#[test]
fn killing_and_removing_leave_nothing() {
    kill_and_remove("kill");
}

#[test]
fn forkers_do_not_escape() {
    kill_forkers("forkers");
}

#[test]
fn device_rules_deny_and_allow() {
    device_verdicts("devices");
}

#[test]
fn v2_view_of_it_all() {
    if !in_v2_view("v2_view_of_it_all") {
        return;
    }
    assert_eq!(Layout::detect().expect("layout").version, Version::V2);
    the_layout_agrees_with_mountinfo();
    paths_follow_runcs_rules();
    a_process_is_in_every_hierarchy_and_the_record_finds_it();
    freeze_and_thaw("v2freeze");
    kill_and_remove("v2kill");
    kill_forkers("v2forkers");
    device_verdicts("v2devices");
}

#[test]
fn plain_v1_view_of_it_all() {
    if !in_plain_v1_view("plain_v1_view_of_it_all") {
        return;
    }
    let layout = Layout::detect().expect("layout");
    assert!(layout.version == Version::V1 && !layout.is_hybrid());
    the_layout_agrees_with_mountinfo();
    a_process_is_in_every_hierarchy_and_the_record_finds_it();
    freeze_and_thaw("v1freeze");
    kill_and_remove("v1kill");
    kill_forkers("v1forkers");
    exec_enters_sub_cgroups_that_exist();
}

#[test]
fn v2_can_cut_a_hole_that_v1_cannot() {
    let hole = json!([{"allow": true, "type": "c", "major": 240, "access": "rw"}, {"allow": false, "type": "c", "major": 240, "minor": 7, "access": "w"}]);
    let devices = Devices::new(&resources(json!({"devices": hole})).devices).expect("rules");
    if Layout::detect().expect("layout").version == Version::V1 {
        let mut place = Place::new("hole");
        let error = place.cgroup.create(&Limits::default(), Some(&devices), false).expect_err("refused").to_string();
        assert!(error.contains("cannot deny c 240:7 w as an exception from c 240:* rw"), "{error}");
        assert_eq!(place.leftovers(), [""; 0]);
    }
    if !in_v2_view("v2_can_cut_a_hole_that_v1_cannot") {
        return;
    }
    let mut place = Place::new("v2hole");
    place.cgroup.create(&Limits::default(), Some(&devices), false).expect("create");
    for (request, expected) in [("rw c 240:8", true), ("r c 240:7", true), ("w c 240:7", false), ("rw c 240:7", false)] {
        assert_eq!(place.may(request), expected, "{request}");
    }
    // An update replaces the program: were the old one still there, both would have to allow.
    let other = json!({"devices": [{"allow": true, "type": "c", "major": 240, "minor": 7, "access": "w"}]});
    let other = Devices::new(&resources(other).devices).expect("rules");
    place.cgroup.set(&Limits::default(), Some(&other), false).expect("update");
    assert!(place.may("w c 240:7") && !place.may("r c 240:7") && !place.may("r c 240:8"));
}

#[test]
fn bad_device_rules_are_refused_with_their_place() {
    let table = [
        (json!({"allow": true, "access": ""}), "device access is empty"),
        (json!({"allow": true, "access": "rx"}), "is not made of r, w and m"),
        (json!({"allow": true, "type": "p", "access": "r"}), "is not a, b or c"),
        (json!({"allow": true, "type": "c", "major": -2, "access": "r"}), "no device number"),
        (json!({"allow": true, "type": "c", "minor": 4294967296i64, "access": "r"}), "no device number"),
    ];
    for (rule, words) in table {
        let rules = resources(json!({"devices": [{"allow": false, "access": "rwm"}, &rule]})).devices;
        let error = Devices::new(&rules).expect_err(&rule.to_string()).to_string();
        assert!(error.contains(words) && error.contains("linux.resources.devices[1]"), "{error}");
    }
}

#[test]
fn exec_enters_sub_cgroups_that_exist() {
    let mut place = Place::new("sub");
    place.create();
    shell(&place.cgroup.paths().map(|(_, dir)| format!("mkdir {dir}/sub;")).collect::<String>());
    for (given, fails) in
        [("sub", false), ("/sub/", false), ("", false), ("nosuch", true), ("../sub", true), ("sub/../..", true), ("bogus:sub", true)]
    {
        assert_eq!(place.cgroup.entry(&[given.to_string()]).is_err(), fails, "{given:?}");
    }
    if place.cgroup.version() == Version::V1 {
        place.cgroup.entry(&["memory,pids:sub".into()]).expect("sub-cgroups of two controllers");
        place.cgroup.entry(&["systemd:sub".into()]).expect("sub-cgroup of a named hierarchy");
    }
    let entry = place.cgroup.entry(&[]).expect("entry");
    assert_eq!(entry.tasks.len() + usize::from(entry.into.is_some()), place.cgroup.paths().count());
    let process = place.process("exec sleep 100");
    let beside = place.cgroup.entry_beside(process.pid()).expect("beside the first process");
    assert_eq!(beside.tasks.len(), entry.tasks.len());
}

#[test]
fn mounts_name_every_hierarchy() {
    let place = Place::new("mounts");
    let mounts = place.cgroup.mounts();
    assert_eq!(mounts.len(), place.cgroup.paths().count());
    for (mount, (_, dir)) in mounts.iter().zip(place.cgroup.paths()) {
        assert_eq!(mount.source, dir);
        let expected = format!("/sys/fs/cgroup{}{}/keeltest", if mount.name.is_empty() { "" } else { "/" }, mount.name);
        assert!(dir.starts_with(&expected), "{mount:?}");
    }
}

#[test]
fn controllers_mounted_together_are_linked() {
    let record = json!({"version": "V1", "explicit": true, "trees": [
        {"controllers": ["cpu", "cpuacct"], "mount": "/sys/fs/cgroup/cpu,cpuacct", "path": "/x"},
        {"controllers": ["name=systemd"], "mount": "/sys/fs/cgroup/systemd", "path": "/x"}]});
    let cgroup: Cgroup = serde_json::from_value(record).expect("record");
    let mounts = cgroup.mounts();
    let links = [("cpu", "cpu,cpuacct"), ("cpuacct", "cpu,cpuacct")].map(|(a, b)| (a.to_string(), b.to_string()));
    assert_eq!((mounts[0].name.as_str(), mounts[0].links.as_slice()), ("cpu,cpuacct", links.as_slice()));
    assert_eq!((mounts[1].name.as_str(), mounts[1].links.len()), ("systemd", 0));
    assert_eq!(cgroup.dir("cpuacct").as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct/x"));
}

#[test]
fn a_nested_cpuset_takes_processes() {
    for asked in [json!({}), json!({"cpus": "0"}), json!({"mems": "0"})] {
        let mut place = Place::below("cpuset", "a/b");
        place.cgroup.create(&limits(json!({"cpu": asked})), None, false).unwrap_or_else(|e| panic!("{asked}: {e}"));
        let process = place.process("exec sleep 100");
        assert_eq!(place.cgroup.procs().expect("procs"), [process.pid()]);
    }
}

#[test]
fn who_may_make_none_stays_where_he_is_unless_he_asked() {
    if !as_nobody("who_may_make_none_stays_where_he_is_unless_he_asked") {
        return;
    }
    let layout = Layout::detect().expect("layout");
    let place = |path: &str| Cgroup::locate(&layout, path, "keeltest").expect("place");
    let devices = Devices::new(&[]).expect("defaults");
    let mut cgroup = place("");
    cgroup.create(&Limits::default(), Some(&devices), true).expect("tolerated");
    assert!(cgroup.is_none());
    let refused =
        |mut cgroup: Cgroup, limits: &Limits, rootless: bool| cgroup.create(limits, None, rootless).expect_err("refused").to_string();
    let error = refused(place("/keeltest"), &Limits::default(), true);
    assert!(error.contains("permission denied (an unprivileged user needs a cgroup that was delegated to him"), "{error}");
    let error = refused(place(""), &limits(json!({"pids": {"limit": 5}})), true);
    assert!(
        error.contains("set pids.max to 5: permission denied to make a cgroup for it (config.json: linux.resources.pids.limit)"),
        "{error}"
    );
    let error = refused(place(""), &Limits::default(), false);
    assert!(error.contains("make the cgroup /sys/fs/cgroup/"), "{error}");
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
fn a_container_without_a_cgroup_is_nobodys() {
    let layout = Layout::detect().expect("layout");
    let mut cgroup = Cgroup::none(&layout);
    let entry = cgroup.create(&Limits::default(), None, false).expect("nothing to make");
    assert!(cgroup.is_none() && entry.into.is_none() && entry.tasks.is_empty() && cgroup.mounts().is_empty());
    assert_eq!(cgroup.procs().expect("nobody"), [0; 0]);
    cgroup.kill_all(Signal::KILL).expect("nobody");
    cgroup.remove().expect("nothing");
    let error = cgroup.create(&limits(json!({"pids": {"limit": 5}})), None, false).expect_err("a limit").to_string();
    assert!(error.contains("set pids.max to 5: the container has no cgroup of its own"), "{error}");
}
