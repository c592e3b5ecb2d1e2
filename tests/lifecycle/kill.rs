//! `kill`: which signal reaches whom.

use crate::background;
use crate::common::{Bundle, Census, eventually};
use std::fs;

/// Without a pid namespace of its own the program can end by a signal of its own making.
fn without_pid_namespace(args: &[&str]) -> Bundle {
    Bundle::new(args).with(|c| c["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid"))
}

#[test]
fn a_program_ended_by_a_signal_gives_128_and_its_number() {
    for (signal, code) in [("TERM", 143), ("ABRT", 134), ("KILL", 137)] {
        let said = without_pid_namespace(&["sh", "-c", &format!("kill -{signal} $$; sleep 1000")]).run();
        assert_eq!(said.code, code, "{signal}: {said:?}");
    }
}

#[test]
fn killing_the_container_ends_run_with_137() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    let mut keel = background(&bundle, &["run", &bundle.id()]);
    // Running, and its program executed: killed before that, `run` would say so, and exit with 1.
    eventually("a running program", || {
        let state: serde_json::Value = serde_json::from_str(&bundle.keel(&["state", "ID"]).out).unwrap_or_default();
        state["status"] == "running" && fs::read_to_string(format!("/proc/{}/comm", state["pid"])).is_ok_and(|comm| comm == "sleep\n")
    });
    bundle.keel(&["kill", "ID", "SIGKILL"]).ok();
    assert_eq!(keel.wait().unwrap().code(), Some(137));
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn signals_go_by_number_and_name_and_default_to_term() {
    let traps = "for s in TERM HUP USR1 USR2 WINCH; do trap \"echo $s\" $s; done; echo ready; while :; do usleep 10000; done";
    let bundle = Bundle::new(&["sh", "-c", traps]);
    bundle.start();
    eventually("the program", || bundle.out() == "ready\n");
    let mut expected = "ready\n".to_owned();
    for (args, name) in [
        (&["kill", "ID"][..], "TERM"),
        (&["kill", "ID", "1"], "HUP"),
        (&["kill", "ID", "SIGUSR1"], "USR1"),
        (&["kill", "ID", "usr2"], "USR2"),
        (&["kill", "ID", "28"], "WINCH"),
    ] {
        bundle.keel(args).ok();
        expected += name;
        expected.push('\n');
        eventually(name, || bundle.out() == expected);
    }
    for bad in ["FOO", "65", "-1", ""] {
        bundle.keel(&["kill", "--", "ID", bad]).fails(1, &["unknown signal"]);
    }
    assert_eq!(bundle.status(), "running");
}

#[test]
fn a_stopped_container_is_not_running_but_kill_all_is_content() {
    let bundle = Bundle::new(&["true"]);
    bundle.start();
    eventually("the container's end", || bundle.status() == "stopped");
    bundle.keel(&["kill", "ID", "TERM"]).fails(1, &["container not running"]);
    bundle.keel(&["kill", "ID", "KILL"]).fails(1, &["container not running"]);
    assert_eq!(bundle.keel(&["kill", "--all", "ID", "KILL"]).ok(), "");
    bundle.keel(&["delete", "ID"]).ok();
}

#[test]
fn kill_all_reaches_every_process() {
    let bundle = Bundle::new(&[
        "sh",
        "-c",
        "for i in 1 2; do sh -c 'trap \"echo got; exit\" USR1; echo up; while :; do usleep 10000; done' & done; trap : USR1; while :; do wait; usleep 10000; done",
    ]);
    bundle.start();
    eventually("both children", || bundle.out().matches("up").count() == 2);
    bundle.keel(&["kill", "ID", "USR1"]).ok();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(bundle.out().matches("got").count(), 0, "only the first process was meant");
    bundle.keel(&["kill", "-a", "ID", "USR1"]).ok();
    eventually("both children's answer", || bundle.out().matches("got").count() == 2);
    assert_eq!(bundle.status(), "running");
}

#[test]
fn a_created_container_that_is_killed_is_stopped() {
    let bundle = Bundle::new(&["true"]);
    bundle.create();
    bundle.keel(&["kill", "ID", "KILL"]).ok();
    eventually("the container's end", || bundle.status() == "stopped");
    bundle.keel(&["start", "ID"]).fails(1, &["stopped"]);
    bundle.keel(&["delete", "ID"]).ok();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn without_a_pid_namespace_what_outlives_the_program_ends_with_delete() {
    let bundle = without_pid_namespace(&["sh", "-c", "sleep 1000 & exit 0"]);
    bundle.start();
    eventually("the container's end", || bundle.status() == "stopped");
    assert_ne!(Census::of(&bundle).found().len(), 0, "the sleep is to outlive the program");
    bundle.keel(&["delete", "ID"]).ok();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn signal_0_asks_whether_the_container_runs() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    bundle.keel(&["kill", "ID", "0"]).ok();
    bundle.keel(&["kill", "ID", "KILL"]).ok();
    eventually("the container's end", || bundle.status() == "stopped");
    bundle.keel(&["kill", "ID", "0"]).fails(1, &["container not running"]);
}

#[test]
fn without_a_pid_namespace_what_outlives_the_program_ends_with_a_kill() {
    let bundle = without_pid_namespace(&["sh", "-c", "sleep 1000 & exit 0"]);
    bundle.start();
    eventually("the container's end", || bundle.status() == "stopped");
    bundle.keel(&["kill", "ID", "TERM"]).fails(1, &["container not running"]);
    bundle.keel(&["kill", "ID", "KILL"]).ok();
    eventually("the others' end", || bundle.keel(&["ps", "--format", "json", "ID"]).ok().trim() == "[]");
    bundle.keel(&["kill", "ID", "KILL"]).fails(1, &["container not running"]);
}

/// An engine that stops a container which was never started waits for the signal to work before it kills. The program would be pid 1,
/// which the kernel spares.
#[test]
fn a_created_container_ends_by_the_signals_that_ask_for_it() {
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        let bundle = Bundle::new(&["true"]);
        bundle.create();
        bundle.keel(&["kill", "ID", signal]).ok();
        eventually(signal, || bundle.status() == "stopped");
        bundle.keel(&["delete", "ID"]).ok();
        Census::of(&bundle).nothing_left(&bundle);
    }
    // What the program does with them is its own affair.
    let bundle = Bundle::new(&["sh", "-c", "kill -TERM $$; echo spared"]);
    assert_eq!(bundle.run().ok(), "spared\n");
}

/// Whoever adopted the program may reap it the moment it has ended, as systemd does: that is no reason to say that it was not there.
#[test]
fn without_a_pid_namespace_a_kill_succeeds_however_soon_the_program_is_reaped() {
    let bundle = without_pid_namespace(&["sh", "-c", "for i in $(seq 40); do sleep 1000 & done; echo up; wait"]);
    bundle.write();
    let keel = |args: &str| format!("{} --root {} {args} {}", crate::common::KEEL, bundle.state_root().display(), bundle.id());
    let (run, kill, state, delete) = (keel("run --detach"), keel("kill"), keel("state"), keel("delete"));
    let (started, ended) = ("until grep -q up up; do :; done", format!("until {state} | grep -q stopped; do :; done"));
    let line = format!("for i in $(seq 20); do {run} > up; {started}; {kill} KILL && {ended} && {delete} || exit 1; done");
    // Without tini (the machine of hack/v2) it is systemd that adopts them.
    let tini = std::process::Command::new("tini").arg("--version").output().is_ok();
    let reaper: &[&str] = if tini { &["tini", "-s", "--"] } else { &[] };
    let output = std::process::Command::new("env").args(reaper).args(["sh", "-c", &line]).current_dir(&bundle.dir).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Census::of(&bundle).nothing_left(&bundle);
}
