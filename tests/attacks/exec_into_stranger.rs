//! A pid that was reused: commands that trusted it reached a process that is not the container's. No CVE; runc and crun
//! both keep the start time for it, as keel does.

use super::{Guard, common::Bundle};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command};

/// A process of ours that is no container's; it must live through the test.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    /// Field 22 of proc_pid_stat(5).
    fn start_time(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap()
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn file(bundle: &Bundle) -> PathBuf {
    bundle.state_root().join(bundle.id()).join("record.jsonl")
}

fn remember(bundle: &Bundle, record: &Value) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(file(bundle)).unwrap();
    writeln!(file, "{{\"record\":{record}}}").unwrap();
}

#[test]
fn a_record_with_a_strangers_pid_is_of_a_stopped_container() {
    let bundle = Bundle::new(&["sleep", "600"]);
    let guard = Guard::new(&bundle);
    bundle.start();
    let mut record = bundle.kept("record");
    // The container's own process goes first, as before a pid is reused.
    bundle.keel(&["kill", "ID", "KILL"]).ok();
    super::common::eventually("the container stops", || bundle.status() == "stopped");
    assert!(record["init"]["pid"].is_i64(), "{record}");
    let mut stranger = Stranger::new();
    // Start times count in ticks of 10 ms: a pid is never used again so soon, but our stranger may be.
    while stranger.start_time() == record["init"]["start_time"].as_u64().unwrap() {
        stranger = Stranger::new();
    }
    record["init"]["pid"] = json!(stranger.0.id());
    remember(&bundle, &record);
    let state: Value = serde_json::from_str(&bundle.keel(&["state", "ID"]).ok()).unwrap();
    assert_eq!((&state["status"], &state["pid"]), (&json!("stopped"), &json!(0)));
    bundle.keel(&["exec", "ID", "true"]).fails(255, &["container not running"]);
    for signal in ["TERM", "KILL", "0"] {
        assert_ne!(bundle.keel(&["kill", "ID", signal]).code, 0);
    }
    bundle.keel(&["kill", "--all", "ID", "KILL"]).ok();
    assert_ne!(bundle.keel(&["pause", "ID"]).code, 0);
    assert_ne!(bundle.keel(&["start", "ID"]).code, 0);
    bundle.delete();
    assert!(stranger.lives(), "a process that is not the container's was signalled");
    guard.unchanged_and_empty(&bundle);
}

/// `linux.cgroupsPath` may name a cgroup that is in use. A create that is killed before it sees that leaves a record with
/// that path: whoever is in there is no process of the container.
#[test]
fn a_create_that_was_killed_early_owns_nobody_in_its_cgroup() {
    let other = Bundle::new(&["sleep", "600"]);
    other.start();
    let mut text = other.kept("record");
    let killed = Bundle::new(&["true"]);
    killed.write();
    text["id"] = json!(killed.id());
    text["init"] = Value::Null;
    text["creator"] = json!({ "pid": 1, "start_time": u64::MAX });
    fs::create_dir_all(file(&killed).parent().unwrap()).unwrap();
    remember(&killed, &text);
    assert_eq!(killed.status(), "stopped");
    killed.keel(&["kill", "--all", "ID", "KILL"]).ok();
    killed.keel(&["delete", "ID"]).ok();
    killed.keel(&["state", "ID"]).fails(1, &["does not exist"]);
    assert_eq!(other.status(), "running");
    other.keel(&["exec", "ID", "true"]).ok();
}
