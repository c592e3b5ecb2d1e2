//! Many containers at once, and two commands at once on one container: each gets a sane answer, nothing is left.

mod common;

use common::{Bundle, Census, Said};

/// Containers that live at the same time.
const MANY: usize = 16;

/// Races of each pair of commands.
const ROUNDS: usize = 6;

#[test]
fn sixteen_containers_live_side_by_side() {
    std::thread::scope(|scope| {
        for number in 0..MANY {
            scope.spawn(move || {
                let bundle = Bundle::new(&["sleep", "1000"]);
                bundle.start();
                assert_eq!(bundle.status(), "running");
                assert_eq!(bundle.sh(&format!("echo {number} $(hostname)")), format!("{number} keel\n"));
                bundle.keel(&["kill", "ID", "KILL"]).ok();
                common::eventually("the end after SIGKILL", || bundle.status() == "stopped");
                bundle.keel(&["delete", "ID"]).ok();
                bundle.keel(&["state", "ID"]).fails(1, &["does not exist"]);
                Census::of(&bundle).nothing_left(&bundle);
            });
        }
    });
}

/// Both commands at the same time, what each said. stdio in files: a container may be born of either.
fn race(bundle: &Bundle, first: &[&str], second: &[&str]) -> [Said; 2] {
    let id = bundle.id();
    let spawn = |name: &str, args: &[&str]| {
        let args: Vec<&str> = args.iter().map(|arg| if *arg == "ID" { id.as_str() } else { arg }).collect();
        let file = |kind: &str| std::fs::File::create(bundle.dir.join(format!("{name}.{kind}"))).unwrap();
        bundle.command(&args).stdout(file("out")).stderr(file("err")).spawn().unwrap()
    };
    let children = [("first", spawn("first", first)), ("second", spawn("second", second))];
    children.map(|(name, mut child)| {
        use std::os::unix::process::ExitStatusExt;
        let status = child.wait().unwrap();
        let read = |kind: &str| std::fs::read_to_string(bundle.dir.join(format!("{name}.{kind}"))).unwrap();
        Said { code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)), out: read("out"), err: read("err") }
    })
}

/// Success, or one line that contains one of `words`.
#[track_caller]
fn sane(said: &Said, words: &[&str]) {
    if said.code != 0 {
        assert_eq!(said.err.matches('\n').count(), 1, "{said:?}");
        assert!(words.iter().any(|word| said.err.contains(word)), "{said:?} has none of {words:?}");
    }
}

fn clean(bundle: &Bundle) {
    bundle.delete();
    Census::of(bundle).nothing_left(bundle);
}

#[test]
fn of_two_starts_one_wins() {
    for _ in 0..ROUNDS {
        let bundle = Bundle::new(&["sleep", "1000"]);
        bundle.create();
        let said = race(&bundle, &["start", "ID"], &["start", "ID"]);
        assert_eq!(said.iter().filter(|said| said.code == 0).count(), 1, "{said:?}");
        said.iter().for_each(|said| sane(said, &["already running"]));
        assert_eq!(bundle.status(), "running");
        clean(&bundle);
    }
}

#[test]
fn of_two_creates_one_wins() {
    for _ in 0..ROUNDS {
        let bundle = Bundle::new(&["sleep", "1000"]);
        bundle.write();
        let said = race(&bundle, &["create", "ID"], &["create", "ID"]);
        assert_eq!(said.iter().filter(|said| said.code == 0).count(), 1, "{said:?}");
        said.iter().for_each(|said| sane(said, &["already exists"]));
        // The loser has undone nothing of the winner's.
        assert_eq!(bundle.status(), "created");
        bundle.keel(&["start", "ID"]).ok();
        assert_eq!(bundle.sh("echo here"), "here\n");
        clean(&bundle);
    }
}

#[test]
fn two_deletes_both_end_well() {
    for _ in 0..ROUNDS {
        let bundle = Bundle::new(&["sleep", "1000"]);
        bundle.start();
        let said = race(&bundle, &["delete", "--force", "ID"], &["delete", "--force", "ID"]);
        // delete --force of what is gone is no error, whoever was first.
        said.iter().for_each(|said| assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}"));
        Census::of(&bundle).nothing_left(&bundle);
    }
}

#[test]
fn a_kill_beside_a_delete() {
    for _ in 0..ROUNDS {
        let bundle = Bundle::new(&["sleep", "1000"]);
        bundle.start();
        let [kill, delete] = race(&bundle, &["kill", "ID", "KILL"], &["delete", "--force", "ID"]);
        sane(&kill, &["does not exist", "container not running", "no such process"]);
        delete.ok();
        Census::of(&bundle).nothing_left(&bundle);
    }
}

#[test]
fn an_exec_beside_a_delete() {
    for _ in 0..ROUNDS {
        let bundle = Bundle::new(&["sleep", "1000"]);
        bundle.start();
        let [exec, delete] = race(&bundle, &["exec", "ID", "sleep", "1000"], &["delete", "--force", "ID"]);
        // Killed with the container, or too late for it; never left running outside of it.
        assert!([137, 255, 1].contains(&exec.code), "{exec:?}");
        assert!(exec.code == 137 || exec.err.matches('\n').count() == 1, "{exec:?}");
        delete.ok();
        Census::of(&bundle).nothing_left(&bundle);
    }
}

#[test]
fn a_start_beside_a_delete() {
    for _ in 0..ROUNDS {
        let bundle = Bundle::new(&["sleep", "1000"]);
        bundle.create();
        let [start, delete] = race(&bundle, &["start", "ID"], &["delete", "--force", "ID"]);
        sane(&start, &["does not exist", "has stopped", "killed by signal"]);
        delete.ok();
        Census::of(&bundle).nothing_left(&bundle);
    }
}

#[test]
fn a_state_beside_anything_is_whole() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    std::thread::scope(|scope| {
        let life = scope.spawn(|| {
            for _ in 0..ROUNDS {
                bundle.detached(&["create", "ID"]).ok();
                bundle.keel(&["start", "ID"]).ok();
                bundle.delete();
            }
        });
        let mut seen = std::collections::BTreeSet::new();
        while !life.is_finished() {
            let said = bundle.keel(&["state", "ID"]);
            if said.code == 0 {
                let state: serde_json::Value = serde_json::from_str(&said.out).unwrap();
                seen.insert(state["status"].as_str().unwrap().to_owned());
            } else {
                said.fails(1, &["does not exist"]);
            }
        }
        assert!(seen.iter().all(|s| ["creating", "created", "running", "stopped"].contains(&s.as_str())), "{seen:?}");
        assert!(!seen.is_empty());
    });
    Census::of(&bundle).nothing_left(&bundle);
}
