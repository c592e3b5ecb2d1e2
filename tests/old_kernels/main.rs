//! docs/kernel.md, row by row: a kernel without that feature, and what keel does on it. Either it works, or one sentence
//! says what is missing; nothing is left behind. A row without a case fails.

#[path = "../common/mod.rs"]
mod common;

mod cases;
mod hide;

use cases::{CASES, Case, Expect, Host, What};
use common::{Bundle, Census, IN_V2_VIEW, KEEL, Said, eventually};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many cases go on at once.
const WORKERS: usize = 4;

/// The features of the table, in its order.
fn rows() -> Vec<String> {
    let text = include_str!("../../docs/kernel.md");
    let table = text.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'));
    table.map(|line| line.split('|').nth(1).unwrap().trim().to_owned()).collect()
}

#[test]
fn every_row_has_a_case_and_every_case_a_row() {
    let rows = rows();
    assert!(rows.len() > 30, "the table was not found: {rows:?}");
    let cases: BTreeSet<_> = CASES.iter().map(|case| case.row.to_owned()).collect();
    assert_eq!(rows.into_iter().collect::<BTreeSet<_>>(), cases);
}

/// Only what the filter takes away makes the difference: without it, all of them work, but for those that no kernel does.
#[test]
fn on_this_kernel_they_work() {
    each(|case| match case.expect {
        Expect::Anywhere(_) => String::new(),
        _ => judge(&run(case, false), &Expect::Works(case.prints)),
    });
}

#[test]
fn on_an_older_kernel_they_work_or_say_why_not() {
    each(|case| judge(&run(case, true), &case.expect));
}

/// All cases that this host can show; what `check` finds wrong with each, all at once.
fn each(check: impl Fn(&'static Case) -> String + Sync) {
    let (next, wrong) = (AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if case.host == Host::V1 && Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
                        common::skipped(&format!("{}: this host has no cgroup v1", case.row));
                        continue;
                    }
                    let found = check(case);
                    if !found.is_empty() {
                        wrong.lock().unwrap().push(format!("{} ({}): {found}", case.row, case.name));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A keel command on the host of the case.
fn command(case: &Case, bundle: &Bundle, args: &[&str]) -> Command {
    let id = bundle.id();
    let mut command = match case.host {
        Host::V2 => {
            let mut command = Command::new(IN_V2_VIEW[0]);
            command.args(&IN_V2_VIEW[1..]).arg(KEEL);
            command
        }
        Host::Any | Host::V1 => Command::new(KEEL),
    };
    command.arg("--root").arg(bundle.state_root()).args(args.iter().map(|arg| if *arg == "ID" { &id } else { *arg }));
    command.stdin(Stdio::null()).current_dir(&bundle.dir);
    command
}

/// What the command said, and whether anything was left before the container was deleted.
fn run(case: &'static Case, old: bool) -> (Said, Vec<String>) {
    let mut bundle = Bundle::new(&["sh", "-c", case.program]);
    (case.set)(&mut bundle);
    bundle.write();
    let census = Census::of(&bundle);
    let args = match case.what {
        What::Run => &["run", "ID"],
        What::Start(args) => args,
        What::After(args) => {
            // Its stdio in files, as a container keeps its pipes open.
            let mut create = command(case, &bundle, &["run", "--detach", "ID"]);
            let file = || std::fs::File::create(bundle.dir.join("out")).unwrap();
            assert!(create.stdout(file()).stderr(file()).status().unwrap().success(), "{}: {}", case.name, bundle.out());
            eventually("the container's program runs", || !bundle.out().is_empty());
            assert_eq!(bundle.out(), "up\n", "{}", case.name);
            args
        }
    };
    let mut keel = command(case, &bundle, args);
    let mut keel = move || Said::of(keel.output().unwrap_or_else(|error| panic!("{} ({}): {error}", case.row, case.name)));
    let (said, supervisor) = match old {
        true => {
            let (said, supervisor) = hide::under(case.hide, keel);
            (said, Some(supervisor))
        }
        false => (keel(), None),
    };
    let mut left = Vec::new();
    if matches!(case.what, What::Run) {
        census.nothing_left(&bundle);
        left.extend(std::fs::read_dir(bundle.state_root()).into_iter().flatten().map(|e| format!("{:?}", e.unwrap().path())));
    }
    if args.contains(&"--all") {
        eventually("everybody was killed", || !census.found().iter().any(|line| line.starts_with("process ")));
    }
    command(case, &bundle, &["delete", "--force", "ID"]).output().unwrap();
    census.nothing_left(&bundle);
    if let Some(supervisor) = supervisor {
        let refused = supervisor.join().unwrap();
        assert_ne!(refused, Some(0), "{} ({}): the kernel was not asked", case.row, case.name);
    }
    (said, left)
}

/// What is wrong, or nothing.
fn judge((said, left): &(Said, Vec<String>), expect: &Expect) -> String {
    let right = match expect {
        Expect::Works(words) => said.code == 0 && said.out.contains(words),
        Expect::Says(words) | Expect::Anywhere(words) => {
            said.code != 0 && said.err.lines().count() == 1 && words.iter().all(|word| said.err.contains(word))
        }
    };
    if right && left.is_empty() { String::new() } else { format!("expected {expect:?}, but {said:?}, left: {left:?}") }
}
