//! Commands at the same time, and commands that are killed in the middle.

use crate::background;
use crate::common::{Bundle, Census, eventually};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

#[test]
fn of_two_creates_at_once_one_wins() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    let id = bundle.id();
    let spawn = |n: u32| {
        let file = |kind: &str| fs::File::create(bundle.dir.join(format!("{kind}{n}"))).unwrap();
        bundle.command(&["create", &id]).stdout(file("out")).stderr(file("err")).spawn().unwrap()
    };
    let children: Vec<_> = (0..4).map(spawn).collect();
    let codes: Vec<_> = children.into_iter().map(|mut child| child.wait().unwrap().code().unwrap()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    for n in (0..4).filter(|n| codes[*n] != 0) {
        let text = fs::read_to_string(bundle.dir.join(format!("err{n}"))).unwrap();
        assert!(text.contains("already exists"), "{text}");
    }
    assert_eq!(bundle.status(), "created");
    bundle.keel(&["start", "ID"]).ok();
    bundle.delete();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn of_two_starts_at_once_one_wins() {
    let bundle = Bundle::new(&["sh", "-c", "echo once; exec sleep 1000"]);
    bundle.create();
    let id = bundle.id();
    let children: Vec<_> = (0..3).map(|_| bundle.command(&["start", &id]).stderr(std::process::Stdio::piped()).spawn().unwrap()).collect();
    let said: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    assert_eq!(said.iter().filter(|output| output.status.success()).count(), 1, "{said:?}");
    eventually("the output", || bundle.out() == "once\n");
}

#[test]
fn two_deletes_at_once_leave_nothing_and_do_not_fight() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    let id = bundle.id();
    let delete = || bundle.command(&["delete", "--force", &id]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..3).map(|_| delete()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    Census::of(&bundle).nothing_left(&bundle);
}

/// A bundle whose hook hangs; the hook's process carries the bundle's name, so that the census finds it.
fn hanging(kind: &str) -> Bundle {
    let bundle = Bundle::new(&["sleep", "1000"]);
    let name = bundle.id();
    bundle.with(|c| c["hooks"] = json!({kind: [{"path": "/bin/sleep", "args": [name, "600"]}]}))
}

fn hook_runs(bundle: &Bundle) -> bool {
    Census::of(bundle).found().iter().any(|line| line.starts_with("process") && line.ends_with(&format!(" {} 600 ", bundle.id())))
}

#[test]
fn a_create_or_run_killed_during_a_hook_is_described_and_removed_whole() {
    for command in ["create", "run"] {
        for kind in ["createRuntime", "createContainer"] {
            let bundle = hanging(kind);
            bundle.write();
            let mut keel = background(&bundle, &[command, &bundle.id()]);
            eventually("the hook", || hook_runs(&bundle));
            assert_eq!(bundle.status(), "creating");
            keel.kill().unwrap();
            keel.wait().unwrap();
            let state: Value = serde_json::from_str(&bundle.keel(&["state", "ID"]).ok()).unwrap();
            assert_eq!((&state["status"], &state["id"]), (&json!("stopped"), &json!(bundle.id())), "{command} {kind}: {state}");
            bundle.keel(&["start", "ID"]).fails(1, &["stopped"]);
            bundle.keel(&["delete", "--force", "ID"]).ok();
            Census::of(&bundle).nothing_left(&bundle);
        }
    }
}

/// Its process, which can neither run nor die, shares the lock of its creator.
#[test]
fn what_a_killed_create_left_frozen_is_named_and_can_be_deleted_later() {
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let bundle = Bundle::new(&["true"]);
    let above = format!("/sys/fs/cgroup/{}{}", if v2 { "" } else { "freezer/" }, bundle.id());
    let freeze = |on: bool| {
        let (file, word) = if v2 { ("cgroup.freeze", ["0", "1"]) } else { ("freezer.state", ["THAWED", "FROZEN"]) };
        fs::write(format!("{above}/{file}"), word[usize::from(on)]).unwrap();
    };
    fs::create_dir(&above).unwrap();
    freeze(true);
    let path = format!("/{}/x", bundle.id());
    let bundle = bundle.with(|c| c["linux"]["cgroupsPath"] = json!(path));
    bundle.write();
    let mut keel = background(&bundle, &["create", &bundle.id()]);
    eventually("its process is there", || fs::read_to_string(format!("{above}/x/cgroup.procs")).is_ok_and(|text| !text.is_empty()));
    keel.kill().unwrap();
    keel.wait().unwrap();
    bundle.keel(&["delete", "--force", "ID"]).fails(1, &["did not end within 10 s", "frozen"]);
    freeze(false);
    bundle.keel(&["delete", "--force", "ID"]).ok();
    eventually("the cgroup is empty", || fs::remove_dir(&above).is_ok());
    // In the other hierarchies of v1, too, keel made what its own is in, which stays.
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = fs::remove_dir(hierarchy.path().join(bundle.id()));
    }
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn delete_force_ends_a_create_that_hangs_in_a_hook() {
    let bundle = hanging("createRuntime");
    bundle.write();
    let mut keel = background(&bundle, &["create", &bundle.id()]);
    eventually("the hook", || hook_runs(&bundle));
    bundle.keel(&["delete", "ID"]).fails(1, &["creating"]);
    bundle.keel(&["delete", "--force", "ID"]).ok();
    assert!(!keel.wait().unwrap().success());
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_run_that_is_killed_leaves_a_container_that_can_be_deleted() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    let mut keel = background(&bundle, &["run", &bundle.id()]);
    eventually("the program", || bundle.keel(&["state", "ID"]).out.contains("running"));
    keel.kill().unwrap();
    keel.wait().unwrap();
    assert!(["running", "stopped"].contains(&bundle.status().as_str()));
    bundle.keel(&["delete", "--force", "ID"]).ok();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_kill_at_any_moment_of_create_leaves_nothing_that_delete_force_does_not_remove() {
    for step in 0..12 {
        let bundle = Bundle::new(&["sleep", "1000"]);
        bundle.write();
        let mut keel = background(&bundle, &["create", &bundle.id()]);
        std::thread::sleep(std::time::Duration::from_micros(step * 2000));
        keel.kill().unwrap();
        keel.wait().unwrap();
        let said = bundle.keel(&["state", "ID"]);
        assert!(said.code == 0 || said.err.contains("does not exist"), "{said:?}");
        bundle.keel(&["delete", "--force", "ID"]).ok();
        Census::of(&bundle).nothing_left(&bundle);
    }
}

#[test]
fn a_container_run_in_the_foreground_can_be_paused_and_deleted_by_others() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    let mut keel = background(&bundle, &["run", &bundle.id()]);
    eventually("the program", || bundle.keel(&["state", "ID"]).out.contains("running"));
    bundle.keel(&["pause", "ID"]).ok();
    bundle.keel(&["resume", "ID"]).ok();
    bundle.keel(&["delete", "--force", "ID"]).ok();
    assert_eq!(keel.wait().unwrap().code(), Some(137));
    assert_eq!(bundle.out(), "");
    Census::of(&bundle).nothing_left(&bundle);
}
