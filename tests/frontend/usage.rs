//! `stats`, `top`, `update`, and docker's other spellings.

use crate::common::eventually;
use crate::host::{Host, end};
use nix::pty::{OpenptyResult, openpty};
use std::fs::{self, File};
use std::io::Read;

#[test]
fn stats_and_top_show_the_containers_processes() {
    let host = Host::new();
    host.idle("busy", &["-m", "64m"]);
    host.ok(&["create", "--name", "idle", "--network", "none", "busybox", "true"]);
    let table = host.ok(&["stats", "--no-stream"]);
    let mut lines = table.lines();
    assert_eq!(
        lines.next().unwrap().split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>(),
        ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]
    );
    let row = lines.next().unwrap();
    assert!(row.contains(" busy ") && row.contains(" / 64MiB") && row.ends_with(" 1"), "{row}");
    assert_eq!(lines.next(), None, "a container that does not run is shown with -a only");
    assert_eq!(host.ok(&["stats", "-a", "--no-stream", "--format", "{{.Name}} {{.PIDs}}"]), "idle 0\nbusy 1");
    host.my(&["stats", "--no-stream", "nobody"]).fails(1, &["no such container: nobody"]);
    host.ok(&["exec", "-d", "busy", "sh", "-c", "sleep 999; true"]);
    eventually("the second program in top", || host.ok(&["top", "busy"]).contains("sleep 999"));
    let top = host.ok(&["top", "busy", "-o", "pid,args"]);
    assert!(top.starts_with("PID") && top.contains(&format!("{} ", host.pid("busy"))), "{top}");
    assert!(top.contains("sh -c sleep 999; true"), "words of a command stay together: {top}");
    assert!(!top.contains("mydocker"), "only the container's: {top}");
    host.my(&["top", "busy", "-o", "args"]).fails(1, &["PID field"]);
    host.my(&["top", "idle"]).fails(1, &["is not running"]);
}

#[test]
fn stats_are_drawn_anew_on_a_terminal() {
    let host = Host::new();
    host.idle("busy", &[]);
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let mut child = host.command(&["stats"]).stdout(slave).spawn().unwrap();
    let mut text = String::new();
    let mut master = File::from(master);
    let mut space = [0; 4096];
    while text.matches("CONTAINER ID").count() < 2 {
        let length = master.read(&mut space).unwrap();
        text.push_str(&String::from_utf8_lossy(&space[..length]));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(text.starts_with("\x1b[H") && text.contains("\x1b[K") && text.contains("busy"), "{text:?}");
}

#[test]
fn update_changes_the_kernels_limits_and_the_record() {
    let host = Host::new();
    host.idle("small", &["-m", "64m"]);
    let limits = || {
        let text = host.ok(&["exec", "small", "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max"]);
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limits()[0], (64 << 20).to_string());
    assert_eq!(host.ok(&["update", "-m", "128m", "--pids-limit", "77", "small"]), "small");
    assert_eq!(limits(), [(128 << 20).to_string(), "77".into()]);
    assert_eq!(host.inspect("small", "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"), format!("{} 77", 128 << 20));
    host.my(&["update", "small"]).fails(1, &["one or more flags"]);
    host.my(&["update", "-m", "1m", "small"]).fails(1, &["minimum memory limit"]);
    host.my(&["update", "--cpuset-cpus", "9999", "small"]).fails(1, &["9999"]);
    assert_eq!(host.inspect("small", "{{.HostConfig.CpusetCpus}}"), "", "what the kernel refused is not written down");
    host.ok(&["restart", "-t", "0", "small"]);
    assert_eq!(limits(), [(128 << 20).to_string(), "77".into()], "as the record has it");
}

#[test]
fn a_restart_policy_can_be_given_later() {
    let host = Host::new();
    host.idle("phoenix", &[]);
    host.my(&["update", "--restart", "sometimes", "phoenix"]).fails(1, &["invalid restart policy"]);
    host.ok(&["update", "--restart", "always", "phoenix"]);
    let first = host.pid("phoenix");
    end(first);
    eventually("a restart", || host.inspect("phoenix", "{{.RestartCount}} {{.State.Running}}") == "1 true");
    host.ok(&["run", "-d", "--rm", "--name", "fleeting", "--network", "none", "busybox", "sleep", "1000"]);
    host.my(&["update", "--restart", "always", "fleeting"]).fails(1, &["AutoRemove"]);
}

#[test]
fn dockers_management_spellings_completions_and_pages() {
    let host = Host::new();
    host.idle("one", &[]);
    for spelling in [["container", "ls"], ["container", "list"], ["container", "ps"]] {
        assert!(host.ok(&spelling).contains(" one"), "{spelling:?}");
    }
    assert_eq!(host.ok(&["container", "inspect", "-f", "{{.Name}}", "one"]), "/one");
    assert_eq!(host.ok(&["network", "list", "-q"]).lines().count(), 3);
    host.my(&["container", "inspect", "busybox"]).fails(1, &["no such container: busybox"]);
    for shell in ["bash", "zsh", "fish"] {
        let text = host.ok(&["completion", shell]);
        assert!(text.contains("volume") && text.contains("no-stream"), "{shell}");
    }
    host.my(&["completion", "tcsh"]).fails(125, &["tcsh"]);
    let pages = host.root().join("man");
    fs::create_dir(&pages).unwrap();
    host.ok(&["man", pages.to_str().unwrap()]);
    assert!(fs::read_to_string(pages.join("mydocker-stats.1")).unwrap().contains("\\-\\-no\\-stream"));
}
