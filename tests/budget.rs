//! Budgets are counted, not timed: processes and system calls of each command on the bundle of `keel spec`.
//!
//! Counted is what keel's sources ask for: neither the dynamic loader of a debug build nor the C library's memory (see
//! `strace::own`), and of the container's process what it does before its program runs. `--nocapture` prints the numbers
//! by which to lower a ceiling.

mod common;
mod strace;

use common::{Bundle, Census, eventually};
use std::collections::BTreeMap;
use strace::{Trace, own, trace};

// Ceilings, a few calls above what is measured on eleven hybrid v1 hierarchies (the dearest host: v2 costs less).
// A change that saves calls lowers them; one that raises them says why.
// Of these and of EXEC, six are for the caller's closed stdio and ignored signals, four so that nothing of the caller's memory is
// left (docs/decisions/0024). Of all of them, four are to see whose the state root is.
const RUN: usize = 422;
const CREATE: usize = 425; // four of them so that signals end it while it waits
const START: usize = 30; // one of them takes the socket away, two are there so that the caller may have closed stdio and ignore SIGCHLD
const EXEC: usize = 177; // five for the second clone, two of them for the container's session keyring, three to know whether setgroups(2) is forbidden here
const STATE: usize = 25;
// Each of a list's containers: its directory, its record, /proc/PID/stat, and its freezer or its socket.
const LISTED: usize = 12;
// Each tmpfs beyond the first, whose mount point has to be made, and whose mode is that of what it covers.
const TMPFS: usize = 8;
const DELETE: usize = 54; // two for what the caller has closed and ignores, four of them to let go what a container froze itself

#[track_caller]
fn within(command: &str, trace: &Trace, ceiling: usize, forks: usize) {
    assert_eq!(trace.said.code, 0, "{:?}", trace.said);
    let counts: Vec<usize> = trace.processes.iter().map(|calls| own(calls).len()).collect();
    let total: usize = counts.iter().sum();
    println!("{command}: {total} system calls {counts:?}, {} processes forked", trace.forks);
    assert_eq!(trace.forks, forks, "processes forked by {command}");
    assert!(total > 0 && total <= ceiling, "{command} makes {total} system calls, more than {ceiling}:\n{}", by_name(trace));
}

fn by_name(trace: &Trace) -> String {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for call in trace.processes.iter().flat_map(|calls| own(calls)) {
        *names.entry(call.name).or_default() += 1;
    }
    let mut rows: Vec<_> = names.into_iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.1));
    rows.iter().map(|(name, count)| format!("{count:>5} {name}\n")).collect()
}

#[test]
fn run_forks_once() {
    let bundle = Bundle::new(&["true"]);
    bundle.write();
    let trace = trace(&bundle, &["run", "ID"], || ());
    within("run", &trace, RUN, 1);
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn create_start_exec_state_delete() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    // strace waits for the container, so everything else happens meanwhile.
    let created = trace(&bundle, &["create", "--pid-file", "pid", "ID"], || {
        eventually("create", || bundle.dir.join("pid").exists() && bundle.status() == "created");
        within("state (created)", &trace(&bundle, &["state", "ID"], || ()), STATE, 0);
        within("start", &trace(&bundle, &["start", "ID"], || ()), START, 0);
        within("state", &trace(&bundle, &["state", "ID"], || ()), STATE, 0);
        // The container sees the second: docs/decisions/0024.
        within("exec", &trace(&bundle, &["exec", "ID", "true"], || ()), EXEC, 2);
        within("delete --force", &trace(&bundle, &["delete", "--force", "ID"], || ()), DELETE, 0);
    });
    within("create", &created, CREATE, 1);
    Census::of(&bundle).nothing_left(&bundle);
}

fn count(trace: &Trace) -> usize {
    assert_eq!(trace.said.code, 0, "{:?}", trace.said);
    trace.processes.iter().map(|calls| own(calls).len()).sum()
}

#[test]
fn a_list_asks_little_of_each_container() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.create();
    let listed = |status: &str| {
        assert_eq!(bundle.status(), status);
        count(&trace(&bundle, &["list"], || ()))
    };
    let created = listed("created");
    bundle.keel(&["start", "ID"]).ok();
    let running = listed("running");
    bundle.keel(&["pause", "ID"]).ok();
    let paused = listed("paused");
    bundle.keel(&["resume", "ID"]).ok();
    bundle.delete();
    // The state root stands, as of a host whose containers come and go.
    std::fs::create_dir_all(bundle.state_root()).unwrap();
    let none = count(&trace(&bundle, &["list"], || ()));
    std::fs::remove_dir(bundle.state_root()).unwrap();
    for (status, calls) in [("created", created), ("running", running), ("paused", paused)] {
        println!("list, {status}: {} system calls for the container", calls - none);
        assert!(calls - none <= LISTED, "{status}: {}", calls - none);
    }
}

#[test]
fn another_tmpfs_costs_little() {
    let mounts = |count: usize| {
        let bundle = Bundle::new(&["true"]).with(|c| {
            let mount = |i| serde_json::json!({"destination": format!("/run/{i}"), "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=64k"]});
            c["mounts"].as_array_mut().unwrap().extend((0..count).map(mount));
            c["root"]["readonly"] = false.into();
        });
        bundle.write();
        self::count(&trace(&bundle, &["run", "ID"], || ()))
    };
    let (one, many) = (mounts(1), mounts(21));
    println!("a tmpfs: {} system calls for twenty more", many - one);
    assert!(many - one <= 20 * TMPFS, "{}", many - one);
}
