//! The systemd cgroup driver, against the systemd of this machine: that of the system, and that of a user.
//!
//! Where none runs there is nothing to test, and each test says so. `hack/test v2` runs them where they must not be skipped:
//! on cgroup v2, and on v1 with and without the unified hierarchy beside it.

mod common;

use common::{Bundle, Census, KEEL, Said, eventually};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

/// Whether there is a systemd to talk to.
fn here() -> bool {
    let runs = Path::new("/run/systemd/system").is_dir();
    assert!(runs || std::env::var_os("KEEL_V2_MACHINE").is_none(), "the machine for these tests has no systemd");
    if !runs {
        common::skipped("no systemd runs here; hack/test v2 runs this test");
    }
    runs
}

/// Whether its controllers are those of cgroup v1.
fn v1() -> bool {
    !Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Whether v1 has a memory controller: the user-mode kernel of hack/v2 does not.
fn memory_v1() -> bool {
    Path::new("/sys/fs/cgroup/memory").exists()
}

macro_rules! need_systemd {
    () => {
        if !here() {
            return;
        }
    };
}

fn systemctl(args: &[&str]) -> String {
    let output = Command::new("systemctl").args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A property of a unit.
fn shown(unit: &str, property: &str) -> String {
    systemctl(&["show", "--value", "--property", property, unit])
}

fn loaded(unit: &str) -> bool {
    shown(unit, "LoadState") == "loaded"
}

/// A container that sleeps, as a scope.
fn sleeper(resources: &Value) -> Bundle {
    let bundle = Bundle::new(&["sleep", "1000"]).with(|c| merge(c, resources));
    start(&bundle);
    bundle
}

fn merge(config: &mut Value, resources: &Value) {
    for (key, value) in resources.as_object().unwrap() {
        config["linux"]["resources"][key] = value.clone();
    }
}

fn create(bundle: &Bundle) -> Said {
    bundle.write();
    bundle.detached(&["--systemd-cgroup", "create", "--pid-file", "pid", "ID"])
}

fn start(bundle: &Bundle) {
    create(bundle).ok();
    bundle.keel(&["start", "ID"]).ok();
}

fn unit(bundle: &Bundle) -> String {
    format!("keel-{}.scope", bundle.id())
}

/// Where a container is, by `/proc/PID/cgroup`: the same path in all hierarchies. On v1 its devices are one directory below,
/// where systemd does not look.
#[track_caller]
fn place(bundle: &Bundle) -> String {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
    let path = |line: &str| match line.splitn(3, ':').collect::<Vec<_>>()[..] {
        [_, "devices", path] => path.strip_suffix("/container").unwrap_or_else(|| panic!("{line}")).to_owned(),
        [_, _, path] => path.to_owned(),
        _ => panic!("{line}"),
    };
    let mut paths: Vec<String> = text.lines().map(path).collect();
    paths.dedup();
    assert_eq!(paths.len(), 1, "{text}");
    paths.remove(0)
}

/// A control file of a container.
#[track_caller]
fn file(bundle: &Bundle, name: &str) -> String {
    let hierarchy = match name.split_once('.') {
        _ if !v1() => "",
        Some(("cgroup", _)) | None => "/systemd",
        Some(("cpu", _)) => "/cpu",
        Some(("pids", _)) => "/pids",
        Some(("memory", _)) => "/memory",
        Some((other, _)) => panic!("no hierarchy for {other}"),
    };
    let path = format!("/sys/fs/cgroup{hierarchy}{}/{name}", place(bundle));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

#[track_caller]
fn gone(bundle: &Bundle, unit: &str) {
    assert!(!loaded(unit), "{unit} is still known to systemd: {}", systemctl(&["status", unit]));
    Census::of(bundle).nothing_left(bundle);
}

#[test]
fn where_there_is_none_it_is_refused() {
    if Path::new("/run/systemd/system").is_dir() {
        common::skipped("systemd runs here, and the test is about none; hack/test unit runs it where there is none");
        return;
    }
    let bundle = Bundle::new(&["true"]);
    create(&bundle).fails(1, &["systemd does not run on this host"]);
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_container_is_a_scope_from_create_to_delete() {
    need_systemd!();
    let bundle = Bundle::new(&["sleep", "1000"]);
    let unit = unit(&bundle);
    // Twice: the name can be used again at once.
    for _ in 0..2 {
        create(&bundle).ok();
        assert_eq!(place(&bundle), format!("/system.slice/{unit}"));
        assert_eq!(file(&bundle, "cgroup.procs"), bundle.pid().to_string(), "only the container's process");
        for (property, value) in
            [("ActiveState", "active"), ("Slice", "system.slice"), ("Delegate", "yes"), ("CollectMode", "inactive-or-failed")]
        {
            assert_eq!(shown(&unit, property), value, "{property}");
        }
        bundle.keel(&["start", "ID"]).ok();
        let inside = bundle.sh("cat /proc/self/cgroup");
        let scope = if v1() { unit.as_str() } else { "0::/" };
        assert!(inside.lines().all(|line| line.contains(scope)), "an exec is in the scope: {inside}");
        bundle.keel(&["pause", "ID"]).ok();
        assert_eq!(bundle.status(), "paused");
        bundle.keel(&["resume", "ID"]).ok();
        bundle.keel(&["delete", "--force", "ID"]).ok();
        gone(&bundle, &unit);
    }
}

#[test]
fn run_gives_the_exit_code_and_leaves_nothing() {
    need_systemd!();
    let bundle = Bundle::new(&["sh", "-c", "echo hello; exit 42"]);
    bundle.write();
    let said = bundle.keel(&["--cgroup-manager", "systemd", "run", "ID"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (42, "hello\n", ""), "{said:?}");
    gone(&bundle, &unit(&bundle));
}

#[test]
fn cgroups_path_names_slice_and_unit() {
    need_systemd!();
    let bundle = Bundle::new(&["sleep", "1000"]);
    let top = format!("kt{}", std::process::id());
    let (slice, unit) = (format!("{top}-inner.slice"), format!("cri-containerd-{}.scope", bundle.id()));
    let id = bundle.id();
    let bundle = bundle.with(|c| c["linux"]["cgroupsPath"] = json!(format!("{slice}:cri-containerd:{id}")));
    start(&bundle);
    assert_eq!(place(&bundle), format!("/{top}.slice/{slice}/{unit}"));
    // Nobody else gets the same unit, and its owner keeps it.
    let second = Bundle::new(&["sleep", "1000"]).with(|c| c["linux"]["cgroupsPath"] = bundle.config["linux"]["cgroupsPath"].clone());
    create(&second).fails(1, &["start the systemd unit", &unit, "linux.cgroupsPath", "another container or service uses it"]);
    second.keel(&["delete", "--force", "ID"]).ok();
    assert_eq!((bundle.status().as_str(), shown(&unit, "ActiveState").as_str()), ("running", "active"));
    bundle.delete();
    gone(&bundle, &unit);
    gone(&second, &unit);
    systemctl(&["stop", &format!("{top}.slice")]);
}

/// The container has these properties and files. The `exact` ones are said by file alone, until systemd looks again, as it does for
/// a neighbour too: then with its own rounding to 1 % of a CPU.
#[track_caller]
fn limited(bundle: &Bundle, properties: &[(&str, &str)], files: &[(&str, &str)], exact: &[(&str, &str)]) {
    let unit = unit(bundle);
    for (property, value) in properties {
        assert_eq!(shown(&unit, property), *value, "{property}");
    }
    for (name, value) in files.iter().chain(exact) {
        let seen = file(bundle, name);
        // Seen where v1 has its memory controller, as there is more to look at again.
        let seen = if memory_v1() { seen.replace("34000", "33333") } else { seen };
        assert_eq!(seen, *value, "{name}");
    }
    systemctl(&["daemon-reload"]);
    for (name, value) in files {
        assert_eq!(file(bundle, name), *value, "{name} after a daemon-reload");
    }
}

#[test]
fn limits_are_properties_and_files_and_survive_a_daemon_reload() {
    need_systemd!();
    let mut asked = json!({"pids": {"limit": 50}, "cpu": {"shares": 512, "quota": 33333, "period": 100_000, "burst": 1000}});
    let both = [("TasksMax", "50"), ("CPUQuotaPerSecUSec", "340ms")];
    if v1() {
        let mut properties = vec![both[0], both[1], ("CPUShares", "512")];
        let mut files = vec![("pids.max", "50"), ("cpu.shares", "512")];
        if memory_v1() {
            asked["memory"] = json!({"limit": 64 << 20});
            properties.push(("MemoryLimit", "67108864"));
            files.push(("memory.limit_in_bytes", "67108864"));
        }
        let bundle = sleeper(&asked);
        let exact = [("cpu.cfs_quota_us", "33333"), ("cpu.cfs_period_us", "100000"), ("cpu.cfs_burst_us", "1000")];
        limited(&bundle, &properties, &files, &exact);
        return;
    }
    asked["memory"] = json!({"limit": 64 << 20, "swap": 96 << 20, "reservation": 16 << 20});
    asked["unified"] = json!({"memory.high": "50331648"});
    let bundle = sleeper(&asked);
    let memory = [("MemoryMax", "67108864"), ("MemorySwapMax", "33554432"), ("MemoryLow", "16777216"), ("MemoryHigh", "50331648")];
    let properties: Vec<_> = memory.into_iter().chain(both).chain([("CPUWeight", "59")]).collect();
    let files =
        [("memory.max", "67108864"), ("memory.swap.max", "33554432"), ("memory.low", "16777216"), ("pids.max", "50"), ("cpu.weight", "59")];
    limited(&bundle, &properties, &files, &[("cpu.max", "33333 100000"), ("cpu.max.burst", "1000")]);
}

#[test]
fn an_update_reaches_systemd_or_nothing() {
    need_systemd!();
    let bundle = sleeper(&json!({"cpu": {"shares": 1024}, "pids": {"limit": 50}}));
    let unit = unit(&bundle);
    let (property, name, asked) = if v1() { ("CPUShares", "cpu.shares", "512") } else { ("CPUWeight", "cpu.weight", "59") };
    let seen = || [shown(&unit, property), file(&bundle, name), shown(&unit, "TasksMax"), file(&bundle, "pids.max")];
    bundle.keel(&["update", "--cpu-share", "512", "--pids-limit", "60", "--cpu-quota", "44444", "ID"]).ok();
    assert_eq!(seen(), [asked, asked, "60", "60"]);
    let quota = if v1() { file(&bundle, "cpu.cfs_quota_us") + " " + &file(&bundle, "cpu.cfs_period_us") } else { file(&bundle, "cpu.max") };
    assert_eq!((quota.as_str(), shown(&unit, "CPUQuotaPerSecUSec").as_str()), ("44444 100000", "450ms"));
    // The kernel refuses what systemd took.
    bundle.keel(&["update", "--cpu-share", "2048", "--pids-limit", "99999999999", "ID"]).fails(1, &["set pids.max to 99999999999"]);
    assert_eq!(seen(), [asked, asked, "60", "60"]);
    systemctl(&["daemon-reload"]);
    assert_eq!(seen(), [asked, asked, "60", "60"]);
}

#[test]
fn memory_is_updated_in_systemd_too() {
    need_systemd!();
    if v1() && !memory_v1() {
        common::skipped("the memory controller of cgroup v1 is not in the machine's kernel (hack/v2 -k bookworm has it)");
        return;
    }
    let bundle = sleeper(&json!({"memory": {"limit": 64 << 20}}));
    let (property, name) = if v1() { ("MemoryLimit", "memory.limit_in_bytes") } else { ("MemoryMax", "memory.max") };
    let seen = || [shown(&unit(&bundle), property), file(&bundle, name)];
    bundle.keel(&["update", "--memory", "96m", "ID"]).ok();
    assert_eq!(seen(), ["100663296", "100663296"]);
    bundle.keel(&["update", "--memory", "128m", "--pids-limit", "99999999999", "ID"]).fails(1, &["set pids.max to 99999999999"]);
    assert_eq!(seen(), ["100663296", "100663296"]);
    systemctl(&["daemon-reload"]);
    assert_eq!(seen(), ["100663296", "100663296"]);
}

#[test]
fn device_rules_survive_a_daemon_reload() {
    need_systemd!();
    let node = |minor: i64| json!({"type": "c", "path": format!("/dev/x{minor}"), "major": 240, "minor": minor, "fileMode": 0o666});
    let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 240, "minor": 7, "access": "rw"}]);
    let bundle = Bundle::new(&["sleep", "1000"]).with(|c| {
        c["linux"]["devices"] = json!([node(7), node(8)]);
        c["linux"]["resources"] = json!({"devices": rules});
    });
    start(&bundle);
    // Nobody drives them: who may open one is told that it is not there.
    let check = |when: &str| {
        let said = bundle.sh("exec 2>&1; (: < /dev/x7) || true; (: < /dev/x8) || true; : < /dev/null");
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines.len() == 2 && lines[0].contains("No such device") && lines[1].contains("not permitted"), "{when}: {said}");
    };
    check("at first");
    systemctl(&["daemon-reload"]);
    check("after a daemon-reload");
    systemctl(&["set-property", "--runtime", &unit(&bundle), "CPUWeight=77"]);
    bundle.keel(&["update", "--pids-limit", "30", "ID"]).ok();
    check("after other properties were set");
    if v1() {
        // What systemd does at its next look, and did just now: every device is allowed in the directory it knows.
        let own = fs::read_to_string(format!("/sys/fs/cgroup/devices{}/devices.list", place(&bundle))).unwrap();
        assert_eq!(own.trim(), "a *:* rwm");
        let unit = unit(&bundle);
        bundle.delete();
        assert!(!Path::new(&format!("/sys/fs/cgroup/devices/system.slice/{unit}")).exists());
    }
}

#[test]
fn annotations_are_properties() {
    need_systemd!();
    let bundle = Bundle::new(&["sleep", "1000"]).with(|c| {
        c["annotations"] = json!({
            "org.systemd.property.Description": "'a box'", "org.systemd.property.TimeoutStopSec": "1.5", "org.systemd.property.KillSignal": "10",
        });
    });
    start(&bundle);
    let unit = unit(&bundle);
    assert_eq!((shown(&unit, "Description").as_str(), shown(&unit, "TimeoutStopUSec").as_str()), ("a box", "1.500000s"));
    assert_eq!(shown(&unit, "KillSignal"), "10");
    bundle.delete();
    let refused = [("KillSignal", "ten", "cannot be read"), ("No Such", "1", "not the name of a property"), ("NoSuch", "1", "NoSuch")];
    for (name, value, words) in refused {
        let bundle = Bundle::new(&["true"]).with(|c| c["annotations"] = json!({format!("org.systemd.property.{name}"): value}));
        create(&bundle).fails(1, &[words]);
        gone(&bundle, &self::unit(&bundle));
    }
}

#[test]
fn a_start_that_fails_leaves_no_unit() {
    need_systemd!();
    let missing = Bundle::new(&["/no/such/program"]);
    create(&missing).fails(1, &["/no/such/program", "no such file or directory"]);
    gone(&missing, &unit(&missing));
    let limit = Bundle::new(&["true"]).with(|c| merge(c, &json!({"pids": {"limit": 99_999_999_999i64}})));
    create(&limit).fails(1, &["set pids.max to 99999999999", "linux.resources.pids.limit"]);
    gone(&limit, &unit(&limit));
    let hook = Bundle::new(&["true"]).with(|c| c["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]}));
    create(&hook).fails(1, &["createRuntime"]);
    gone(&hook, &unit(&hook));
    for path in
        ["/a/b", "a:b", "system:keel:x", "a/b.slice:keel:x", "system.slice:keel:x.slice", "system.slice:keel:../x", "system.slice:keel:"]
    {
        let bundle = Bundle::new(&["true"]).with(|c| c["linux"]["cgroupsPath"] = json!(path));
        create(&bundle).fails(1, &["linux.cgroupsPath"]);
        gone(&bundle, &unit(&bundle));
    }
}

#[test]
fn a_limit_of_one_process_leaves_room_for_that_one() {
    need_systemd!();
    let bundle = sleeper(&json!({"pids": {"limit": 1}}));
    assert_eq!(file(&bundle, "pids.max"), "1");
    eventually("the helper's end", || file(&bundle, "pids.current") == "1");
    assert_eq!(shown(&unit(&bundle), "TasksMax"), "1");
}

#[test]
fn a_killed_create_is_deleted_whole() {
    need_systemd!();
    for moment in 0..8 {
        let bundle = Bundle::new(&["sleep", "1000"]);
        bundle.write();
        let id = bundle.id();
        let mut keel = bundle.command(&["--systemd-cgroup", "create", &id]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(moment * 15));
        let _ = keel.kill();
        let _ = keel.wait();
        bundle.keel(&["delete", "--force", "ID"]).ok();
        // What was asked of systemd before the kill may be on its way.
        eventually("the unit is gone", || !loaded(&unit(&bundle)));
        gone(&bundle, &unit(&bundle));
    }
}

#[test]
fn without_a_bus_nothing_is_begun() {
    need_systemd!();
    let bundle = Bundle::new(&["true"]);
    bundle.write();
    for (address, words) in [("unix:path=/nonexistent/bus", "no such file or directory"), ("tcp:host=localhost", "names no unix socket")] {
        let mut command = bundle.command(&["--systemd-cgroup", "run", &bundle.id()]);
        let said = Said::of(command.env("DBUS_SYSTEM_BUS_ADDRESS", address).output().unwrap());
        said.fails(1, &["connect to the message bus at", words]);
        gone(&bundle, &unit(&bundle));
    }
}

/// The user of hack/v2's machine.
const USER: u32 = 1000;

/// keel as that user, who has a systemd of his own.
fn as_user(bundle: &Bundle, args: &[&str]) -> Said {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &USER.to_string(), "--regid", &USER.to_string(), "--clear-groups"]);
    let id = bundle.id();
    command.arg(bundle.dir.join("keel")).args(args.iter().map(|arg| if *arg == "ID" { id.as_str() } else { arg }));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("XDG_RUNTIME_DIR", format!("/run/user/{USER}"));
    let file = |name: &str| fs::File::create(bundle.dir.join(name)).unwrap();
    let status = command.current_dir(&bundle.dir).stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).status().unwrap();
    let read = |name: &str| fs::read_to_string(bundle.dir.join(name)).unwrap();
    Said { code: status.code().unwrap_or(-1), out: read("out"), err: read("err") }
}

#[test]
fn an_ordinary_user_has_scopes_of_his_own_systemd() {
    need_systemd!();
    if std::env::var_os("KEEL_V2_MACHINE").is_none() {
        common::skipped("it starts a user's systemd; hack/test v2 runs this test");
        return;
    }
    systemctl(&["start", &format!("user@{USER}.service")]);
    let bundle = Bundle::new(&["sleep", "1000"]);
    common::copy_program(KEEL.as_ref(), &bundle.dir.join("keel"));
    fs::remove_file(bundle.dir.join("config.json")).unwrap();
    chown(&bundle.dir, Some(USER), Some(USER)).unwrap();
    as_user(&bundle, &["spec", "--rootless"]).ok();
    let mut config: Value = serde_json::from_slice(&fs::read(bundle.dir.join("config.json")).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sleep", "1000"]);
    config["linux"]["resources"]["pids"] = json!({"limit": 40});
    fs::write(bundle.dir.join("config.json"), config.to_string()).unwrap();

    let run = || as_user(&bundle, &["--systemd-cgroup", "run", "--detach", "--pid-file", "pid", "ID"]);
    if v1() {
        run().fails(1, &["the systemd of a user has no controllers on cgroup v1"]);
        Census::of(&bundle).nothing_left(&bundle);
        return;
    }
    run().ok();
    let place = format!("/user.slice/user-{USER}.slice/user@{USER}.service/user.slice/{}", unit(&bundle));
    let path = fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
    assert_eq!(path.trim(), format!("0::{place}"));
    assert_eq!(file(&bundle, "pids.max"), "40");
    assert_eq!(fs::metadata(format!("/sys/fs/cgroup{place}")).unwrap().uid(), USER);
    as_user(&bundle, &["exec", "ID", "cat", "/proc/self/cgroup"]).ok();
    as_user(&bundle, &["update", "--pids-limit", "41", "ID"]).ok();
    assert_eq!(file(&bundle, "pids.max"), "41");
    as_user(&bundle, &["delete", "--force", "ID"]).ok();
    assert!(!Path::new(&format!("/sys/fs/cgroup{place}")).exists());
    // What his systemd has no controller for is said, with who keeps it back.
    let no_cpuset = if fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap().contains("cpuset") {
        "controller cpuset is not delegated: /sys/fs/cgroup/user.slice"
    } else {
        "controller cpuset is not among those that cgroup v2 has on this host"
    };
    let refusals = [
        (json!({"cpu": {"cpus": "0"}}), "linux.resources.cpu.cpus", no_cpuset),
        (
            json!({"blockIO": {"throttleReadBpsDevice": [{"major": 98, "minor": 0, "rate": 9}]}}),
            "linux.resources.blockIO.throttleReadBpsDevice[0]",
            "controller io is not delegated: /sys/fs/cgroup/user.slice",
        ),
    ];
    for (resources, at, reason) in refusals {
        config["linux"]["resources"] = resources;
        fs::write(bundle.dir.join("config.json"), config.to_string()).unwrap();
        let err = run().fails(1, &[at, reason]);
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    let mut left = Command::new("setpriv");
    left.args([
        "--reuid",
        "1000",
        "--regid",
        "1000",
        "--clear-groups",
        "systemctl",
        "--user",
        "list-units",
        "--all",
        "--plain",
        "--no-legend",
        "keel-*",
    ]);
    let left = Said::of(left.env("XDG_RUNTIME_DIR", format!("/run/user/{USER}")).output().unwrap());
    assert_eq!(left.ok(), "", "units of the user's systemd");
}

/// Neighbours in one slice with other limits each, as a pod's containers are: whenever one comes or goes, systemd gives the others
/// other controllers. An exec is on its way when the container ends, and a kill comes before `start` or after it.
#[test]
fn a_hundred_rounds_leave_no_scope() {
    need_systemd!();
    let slice = format!("kt{}soak.slice", std::process::id());
    let directory = |name: &str| {
        let top = if v1() { "/sys/fs/cgroup/systemd" } else { "/sys/fs/cgroup" };
        Path::new(top).join(&slice).join(name)
    };
    let limits =
        [json!({"pids": {"limit": 50}}), json!({"cpu": {"shares": 512}}), json!({"cpu": {"quota": 50_000, "period": 100_000}}), json!({})];
    std::thread::scope(|scope| {
        for limits in &limits {
            let (slice, directory) = (&slice, &directory);
            scope.spawn(move || {
                let bundle = Bundle::new(&["sleep", "1000"]);
                let id = bundle.id();
                let bundle = bundle.with(|c| {
                    c["linux"]["cgroupsPath"] = json!(format!("{slice}:soak:{id}"));
                    merge(c, limits);
                });
                for round in 0..25 {
                    create(&bundle).ok();
                    if round % 3 > 0 {
                        bundle.keel(&["start", "ID"]).ok();
                    }
                    let exec = bundle.command(&["exec", &id, "sleep", "1000"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
                    let mut exec = exec.unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(round % 7));
                    if round % 2 > 0 {
                        bundle.keel(&["kill", "ID", "KILL"]).ok();
                    }
                    bundle.keel(&["delete", "--force", "ID"]).ok();
                    let left = directory(&format!("soak-{id}.scope"));
                    assert!(!left.exists(), "round {round}: {}", left.display());
                    exec.wait().unwrap();
                }
                gone(&bundle, &format!("soak-{id}.scope"));
            });
        }
    });
    let scopes = || {
        let entries = fs::read_dir(directory("")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name.ends_with(".scope")).collect::<Vec<_>>()
    };
    assert_eq!(scopes(), Vec::<String>::new());
    systemctl(&["stop", &slice]);
}
