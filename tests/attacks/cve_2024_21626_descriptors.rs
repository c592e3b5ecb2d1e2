//! CVE-2024-21626: a descriptor of a host directory stayed open in the container's process, and `cwd` named it.

use super::{Guard, ROUNDS, add_caps, common::Bundle, common::Said, control_with, said};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The canary directory, open 20 times without close-on-exec: what a careless caller hands to every child.
fn leak(guard: &Guard) -> Vec<OwnedFd> {
    (0..20).map(|_| openat(CWD, &guard.canary, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()).collect()
}

/// A keel command whose stdin is the canary directory itself.
fn with_directory_as_stdin(bundle: &Bundle, guard: &Guard, args: &[&str]) -> Said {
    let stdin = fs::File::open(&guard.canary).unwrap();
    said(bundle.command(args).stdin(Stdio::from(stdin)).output().unwrap())
}

/// The paths of everything below a directory.
fn entries(dir: &Path) -> BTreeSet<PathBuf> {
    let below = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    below
        .flat_map(|path| if path.is_dir() && !path.is_symlink() { entries(&path) } else { BTreeSet::new() }.into_iter().chain([path]))
        .collect()
}

#[test]
fn no_descriptor_as_working_directory_leads_a_new_container_out() {
    let mut bundle = Bundle::new(&["ls"]);
    let guard = Guard::new(&bundle);
    let _leaked = leak(&guard);
    std::os::unix::fs::symlink("/proc/self/fd/0", bundle.rootfs().join("link")).unwrap();
    // All that is mounted on is there afterwards.
    bundle.run().ok();
    let image = entries(&bundle.rootfs());
    let id = bundle.id();
    // keel's own descriptors are below 100: with one of them a link named a directory of the
    // host's, which was then made in the root.
    for cwd in (0..100).map(|n| format!("/proc/self/fd/{n}")).chain(["/link".into(), "/proc/self/fd/0/..".into()]) {
        bundle.config["process"]["cwd"] = json!(cwd);
        bundle.write();
        let said = with_directory_as_stdin(&bundle, &guard, &["run", &id]);
        assert_eq!(said.out, "", "cwd {cwd}: {said:?}");
        said.fails(1, &["change to the working directory", "process.cwd"]);
        assert_eq!(entries(&bundle.rootfs()), image, "cwd {cwd} left something");
    }
    guard.unchanged_and_empty(&bundle);
    control_with(&bundle, &guard, |peer| {
        (3..12).any(|number| {
            let mut config = bundle.config.clone();
            config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
            peer.configure(&config);
            peer.said(&[], &["run", "ID"]).code == 0
        })
    });
}

#[test]
fn nor_an_exec() {
    let bundle = Bundle::new(&["sleep", "60"]);
    let guard = Guard::new(&bundle);
    let _leaked = leak(&guard);
    std::os::unix::fs::symlink("/proc/self/fd/0", bundle.rootfs().join("link")).unwrap();
    bundle.start();
    let id = bundle.id();
    for cwd in (0..64).map(|n| format!("/proc/self/fd/{n}")).chain(["/link".into(), "/proc/self/fd/0/..".into()]) {
        let said = with_directory_as_stdin(&bundle, &guard, &["exec", "--cwd", &cwd, &id, "ls"]);
        assert_eq!(said.out, "", "--cwd {cwd}: {said:?}");
        said.fails(255, &["change to the working directory"]);
    }
    guard.unchanged();
}

#[test]
fn the_callers_descriptors_do_not_reach_the_program() {
    let bundle = Bundle::new(&["ls", "/proc/self/fd"]);
    let guard = Guard::new(&bundle);
    let _leaked = leak(&guard);
    // ls itself has the directory open as 3.
    assert_eq!(bundle.run().ok(), "0\n1\n2\n3\n");
    guard.unchanged_and_empty(&bundle);
}

#[test]
fn nor_the_program_of_create_and_start_nor_that_of_exec() {
    let bundle = Bundle::new(&["sh", "-c", "ls /proc/self/fd; exec sleep 60"]);
    let guard = Guard::new(&bundle);
    let _leaked = leak(&guard);
    bundle.create();
    // Parked, keel holds the socket to its parent and the one on which it waits: no file, no directory, no namespace.
    for entry in fs::read_dir(format!("/proc/{}/fd", bundle.pid())).unwrap().flatten() {
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let target = fs::read_link(entry.path()).unwrap();
        assert!(number < 3 || target.to_str().unwrap().starts_with("socket:"), "{number} -> {}", target.display());
    }
    let inside = |what: &str| fs::read_link(format!("/proc/{}/{what}", bundle.pid())).unwrap();
    assert_eq!((inside("cwd").to_str(), inside("root").to_str()), (Some("/"), Some("/")));
    bundle.keel(&["start", "ID"]).ok();
    super::common::eventually("the program has listed its descriptors", || bundle.out().ends_with("3\n"));
    assert_eq!(bundle.out(), "0\n1\n2\n3\n");
    assert_eq!(bundle.keel(&["exec", "ID", "ls", "/proc/self/fd"]).ok(), "0\n1\n2\n3\n");
    guard.unchanged();
}

/// Until it has entered the container, the process of an exec has the host's root and keel's descriptors. It must not be
/// in sight of the container by then: a program with CAP_SYS_PTRACE may open all that /proc/PID shows.
fn nothing_of_the_hosts_is_in_reach_during_exec(change: impl FnOnce(&mut Value), prepare: impl FnOnce(&Bundle)) {
    // The secret by way of another process's root, working directory, or a descriptor of a directory.
    let line = "while [ ! -e /stop ]; do for p in /proc/[0-9]*; do for d in $p/root $p/cwd $p/fd/*; do \
        [ -z $found ] && [ -e $d/$SECRET -o -e $d/../../../../$SECRET -o -e $d/../../../../../$SECRET ] && echo $d && found=1; \
        done; done; done";
    let bundle = Bundle::new(&["sh", "-c", line]);
    let guard = Guard::new(&bundle);
    let bundle = bundle.with(|config| {
        config["process"]["env"] = json!(["PATH=/bin", format!("SECRET={}", guard.secret().display())]);
        change(config);
    });
    bundle.start();
    prepare(&bundle);
    for _ in 0..ROUNDS / 3 + 1 {
        bundle.keel(&["exec", "ID", "true"]).ok();
    }
    fs::write(bundle.rootfs().join("stop"), "").unwrap();
    super::common::eventually("the loop ends", || bundle.status() == "stopped");
    assert_eq!(bundle.out(), "", "the host's files were in reach");
    guard.unchanged();
}

#[test]
fn a_program_that_may_trace_reaches_nothing_of_the_hosts_through_an_exec() {
    nothing_of_the_hosts_is_in_reach_during_exec(|config| add_caps(config, &["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]), |_| {});
}

#[test]
fn nor_one_that_may_not() {
    nothing_of_the_hosts_is_in_reach_during_exec(|config| add_caps(config, &["CAP_DAC_OVERRIDE"]), |_| {});
}

#[test]
fn nor_one_that_an_exec_let_trace() {
    let caps = ["--cap", "CAP_SYS_PTRACE", "--cap", "CAP_DAC_OVERRIDE"];
    nothing_of_the_hosts_is_in_reach_during_exec(
        |config| {
            // The loop is run by the exec; the container itself only waits for its end.
            let variable = json!(format!("LOOP={}", config["process"]["args"][2].as_str().unwrap()));
            config["process"]["env"].as_array_mut().unwrap().push(variable);
            config["process"]["args"] = json!(["sh", "-c", "while [ ! -e /stop ]; do usleep 10000; done; usleep 100000"]);
        },
        |bundle| {
            let args = ["exec", "--detach"].iter().chain(&caps).copied().chain(["ID", "sh", "-c", "eval \"$LOOP\""]);
            bundle.detached(&args.collect::<Vec<_>>()).ok();
        },
    );
}

/// The way into a container whose programs may trace is a longer one; it ends the same.
#[test]
fn exec_beside_a_program_that_may_trace_behaves_as_ever() {
    let bundle = Bundle::new(&["sleep", "60"]).with(|config| add_caps(config, &["CAP_SYS_PTRACE"]));
    bundle.start();
    assert_eq!(bundle.sh("readlink /proc/self/ns/pid; readlink /proc/self/ns/mnt"), {
        let ns = |name: &str| fs::read_link(format!("/proc/{}/ns/{name}", bundle.pid())).unwrap().display().to_string();
        format!("{}\n{}\n", ns("pid"), ns("mnt"))
    });
    assert_eq!(bundle.keel(&["exec", "ID", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(bundle.keel(&["exec", "ID", "sh", "-c", "kill -9 $$"]).code, 137);
    bundle.keel(&["exec", "ID", "/missing"]).fails(255, &["no such file or directory"]);
    assert_eq!(bundle.keel(&["exec", "--tty", "ID", "tty"]).ok().trim(), "/dev/pts/0");
    let pids = bundle.dir.join("exec.pid");
    bundle.detached(&["exec", "--detach", "--pid-file", pids.to_str().unwrap(), "ID", "sleep", "60"]).ok();
    let pid = fs::read_to_string(pids).unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap(), "sleep\x0060\0");
}

/// A process that enters the container is made non-dumpable first: what it still has of the host's is not shown by /proc to
/// anybody who is not of another kind already (ptrace(2), "Ptrace access mode checking").
#[test]
fn who_enters_a_container_is_non_dumpable_before() {
    let hook = json!([{"path": "/bin/true"}]);
    let hooked = Bundle::new(&["true"]).with(|c| c["hooks"] = json!({"createContainer": hook}));
    hooked.write();
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    let traced = |bundle: &Bundle, args: &[&str]| {
        let keel = bundle.command(args);
        let mut strace = std::process::Command::new("strace");
        strace.args(["-f", "-qq", "-o", "calls", "-e", "trace=prctl,setns"]).arg(keel.get_program()).args(keel.get_args());
        let null = std::process::Stdio::null;
        let status = strace.stdin(null()).stdout(null()).stderr(null()).current_dir(&bundle.dir).status().expect("strace is installed");
        assert!(status.success(), "{args:?}");
        let calls = fs::read_to_string(bundle.dir.join("calls")).unwrap();
        let mut shut = std::collections::BTreeSet::new();
        let mut entered = 0;
        for (pid, call) in calls.lines().filter_map(|line| line.split_once(' ')) {
            if call.contains("PR_SET_DUMPABLE, SUID_DUMP_DISABLE") {
                shut.insert(pid);
            } else if call.contains("setns(") && call.contains("CLONE_NEWNS") {
                entered += 1;
                assert!(shut.contains(pid), "{calls}");
            }
        }
        entered
    };
    assert_eq!(traced(&hooked, &["run", &hooked.id()]), 1, "the hook");
    assert_eq!(traced(&bundle, &["exec", &bundle.id(), "true"]), 1);
    bundle.delete();
}
