//! A container that may write to the freezer of cgroup v1 holds its own processes there, so that nobody ends them: a process
//! that is frozen takes not even SIGKILL, and its pid namespace waits for it. It must not outlive `delete --force`.

use super::{Guard, add_mount};
use crate::common::{Bundle, eventually};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

const FREEZER: &str = "/sys/fs/cgroup/freezer";

/// A container with its own part of the freezer, writable, that says `held` once `script` is done.
fn holding(script: &str) -> Option<Bundle> {
    if !Path::new(FREEZER).join("tasks").exists() {
        crate::common::skipped("the freezer of cgroup v1 is not mounted here, and that of v2 does not hold against SIGKILL");
        return None;
    }
    let bundle = Bundle::new(&["sh", "-c", script]).with(|c| {
        super::without_mount(c, FREEZER);
        add_mount(c, "cgroup", Path::new("cgroup"), "/sys/fs/cgroup");
        c["mounts"].as_array_mut().unwrap().last_mut().unwrap()["options"] = json!(["rw"]);
    });
    bundle.write();
    bundle.detached(&["run", "--detach", "--pid-file", "pid", "ID"]).ok();
    Some(bundle)
}

fn state(bundle: &Bundle, of: &str) -> String {
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
    let path = own.lines().find_map(|line| line.split_once(":freezer:")).unwrap().1.trim_end_matches("/held").to_owned();
    std::fs::read_to_string(format!("{FREEZER}{path}/{of}/freezer.state")).unwrap_or_default().trim().to_owned()
}

fn ends_at_once(bundle: &Bundle, guard: &Guard) {
    let begun = Instant::now();
    bundle.keel(&["delete", "--force", "ID"]).ok();
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    guard.unchanged_and_empty(bundle);
}

const HOLD: &str = "mkdir -p /sys/fs/cgroup/freezer/held/below; cd /sys/fs/cgroup/freezer/held;";

#[test]
fn a_process_that_the_container_froze_is_ended() {
    let script = format!("{HOLD} sleep 1000 & echo $! > below/tasks; echo FROZEN > freezer.state; sleep 1000");
    let Some(bundle) = holding(&script) else { return };
    let guard = Guard::new(&bundle);
    eventually("it is frozen", || state(&bundle, "held/below") == "FROZEN");
    ends_at_once(&bundle, &guard);
}

#[test]
fn so_is_the_first_process_by_a_kill() {
    let script = format!("{HOLD} (sleep 0.1; echo FROZEN > freezer.state; sleep 1000) & echo 1 > tasks; sleep 1000");
    let Some(bundle) = holding(&script) else { return };
    eventually("it is frozen", || state(&bundle, "held") == "FROZEN");
    bundle.keel(&["kill", "ID", "KILL"]).ok();
    eventually("it has ended", || bundle.status() == "stopped");
    ends_at_once(&bundle, &Guard::new(&bundle));
}

#[test]
fn though_another_one_freezes_it_again_and_again() {
    let script = format!("{HOLD} (while :; do echo FROZEN > freezer.state; done) & echo 1 > tasks; sleep 1000");
    let Some(bundle) = holding(&script) else { return };
    let guard = Guard::new(&bundle);
    eventually("it is frozen", || state(&bundle, "held") == "FROZEN");
    ends_at_once(&bundle, &guard);
}
