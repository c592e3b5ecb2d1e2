//! CVE-2022-29162, CVE-2022-27650, CVE-2025-27612: programs started with inheritable capabilities that nobody had
//! asked for, or with a bounding set that nobody had dropped.

use super::{Guard, as_caller, common::Bundle, control_with};
use serde_json::json;
use std::fs;

const STATUS: [&str; 4] = ["grep", "-h", "Cap", "/proc/self/status"];
const NET_RAW: u64 = 1 << 13;
/// `keel spec`'s: CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE.
const SAMPLE: u64 = 1 << 5 | 1 << 10 | 1 << 29;

/// A caller with much inheritable, as docker once was: only then can something leak.
const INHERITABLE: [&str; 1] = ["--inh-caps=+chown,+kill,+setuid,+net_raw,+sys_admin,+sys_ptrace"];

/// Inheritable, permitted, effective, bounding and ambient of a `/proc/self/status`.
fn sets(status: &str) -> [u64; 5] {
    ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(|name| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is missing in {status:?}"));
        u64::from_str_radix(line[name.len()..].trim(), 16).unwrap()
    })
}

#[test]
fn a_program_of_run_inherits_nothing() {
    let bundle = Bundle::new(&STATUS);
    let guard = Guard::new(&bundle);
    bundle.write();
    let said = as_caller(&bundle, &INHERITABLE, &["run", &bundle.id()]);
    assert_eq!(sets(&said.ok()), [0, SAMPLE, SAMPLE, SAMPLE, 0]);
    guard.unchanged_and_empty(&bundle);
    control_with(&bundle, &guard, |peer| {
        let said = peer.said(&INHERITABLE, &["run", "ID"]);
        said.code == 0 && sets(&said.out)[0] != 0
    });
}

#[test]
fn without_capabilities_in_the_configuration_it_has_none() {
    for uid in [0, 1000] {
        let bundle = Bundle::new(&STATUS).with(|config| {
            config["process"].as_object_mut().unwrap().remove("capabilities");
            config["process"]["user"] = json!({ "uid": uid, "gid": uid });
        });
        bundle.write();
        let said = as_caller(&bundle, &INHERITABLE, &["run", &bundle.id()]);
        assert_eq!(sets(&said.ok()), [0; 5], "as user {uid}");
    }
}

#[test]
fn nor_does_one_of_create_and_start_or_of_exec() {
    let bundle = Bundle::new(&["sh", "-c", "grep Cap /proc/self/status; exec sleep 60"]);
    let guard = Guard::new(&bundle);
    bundle.start();
    super::common::eventually("the program has told its capabilities", || bundle.out().contains("CapAmb"));
    assert_eq!(sets(&bundle.out()), [0, SAMPLE, SAMPLE, SAMPLE, 0]);
    let id = bundle.id();
    let exec = |args: &[&str]| {
        let args: Vec<&str> = ["exec"].iter().chain(args).copied().collect();
        sets(&as_caller(&bundle, &INHERITABLE, &args).ok())
    };
    let status =
        |flags: &[&'static str]| -> Vec<String> { flags.iter().copied().chain([id.as_str()]).chain(STATUS).map(str::to_owned).collect() };
    let run = |flags: &[&'static str]| exec(&status(flags).iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(run(&[]), [0, SAMPLE, SAMPLE, SAMPLE, 0]);
    let more = SAMPLE | NET_RAW;
    assert_eq!(run(&["--cap", "CAP_NET_RAW"]), [0, more, more, more, 0]);
    // An ordinary user has what the specification permits as permitted and effective, until its program is executed.
    let [inheritable, _, _, bounding, ambient] = run(&["--cap", "CAP_NET_RAW", "--user", "1000:1000"]);
    assert_eq!((inheritable, bounding, ambient), (0, more, 0));
    let document = bundle.dir.join("process.json");
    let mut process = json!({ "args": STATUS, "cwd": "/", "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/bin"] });
    fs::write(&document, process.to_string()).unwrap();
    assert_eq!(exec(&["--process", document.to_str().unwrap(), &id]), [0; 5]);
    process["capabilities"] = json!({ "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"] });
    fs::write(&document, process.to_string()).unwrap();
    assert_eq!(exec(&["--process", document.to_str().unwrap(), &id]), [0, 1 << 5, 1 << 5, 1 << 5, 0]);
    guard.unchanged();
}
