//! Processes in the cgroup: entering, freezing, killing, removing.

use crate::place::{Place, shell};
use keel::cgroup::{Cgroup, Version};
use keel::plan::limits::Limits;
use rustix::process::Signal;
use std::fs;

#[test]
pub fn a_process_is_in_every_hierarchy_and_the_record_finds_it() {
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

#[test]
pub fn exec_enters_sub_cgroups_that_exist() {
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

pub fn freeze_and_thaw(name: &str) {
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
pub fn kill_and_remove(name: &str) {
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

pub fn kill_forkers(name: &str) {
    let mut place = Place::new(name);
    place.create();
    let mut process = place.process("f() { while :; do ( : ); done; }; f & f & f & echo ready; wait");
    process.wait_for("ready");
    place.cgroup.kill_all(Signal::KILL).expect("kill");
    process.reap();
    place.cgroup.remove().expect("remove");
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
