//! mydocker's commands around containers: volumes, networks, use, limits, events, clearing up. On real containers, each test in
//! an installation of its own; those about networks also in a network namespace of their own.

#![cfg(feature = "mydocker")]

mod common;

use common::{Said, eventually, make_rootfs};
use nix::pty::{OpenptyResult, openpty};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const MYDOCKER: &str = env!("CARGO_BIN_EXE_mydocker");
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// An installation with the image `busybox`.
struct Home {
    root: PathBuf,
}

impl Home {
    fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("mydocker-cli-{}-{number}", std::process::id()));
        let home = Self { root };
        let tree = home.root.join("tree");
        make_rootfs(&tree);
        let archive = home.root.join("busybox.tar");
        assert!(Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&archive).arg(".").status().unwrap().success());
        home.ok(&["import", archive.to_str().unwrap(), "busybox"]);
        home
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(MYDOCKER);
        command.arg("--root").arg(&self.root).args(args).stdin(Stdio::null());
        command
    }

    fn say(&self, args: &[&str]) -> Said {
        Said::of(self.command(args).output().unwrap())
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        self.say(args).ok().trim_end().to_owned()
    }

    /// A container in the background that does nothing; its id.
    #[track_caller]
    fn idle(&self, name: &str, options: &[&str]) -> String {
        let mut args = vec!["run", "-d", "--name", name, "--network", "none"];
        args.extend(options);
        args.extend(["busybox", "sleep", "1000"]);
        self.ok(&args)
    }

    fn inspect(&self, name: &str, template: &str) -> String {
        self.ok(&["inspect", "-f", template, name])
    }

    /// Its first process.
    fn pid(&self, name: &str) -> i32 {
        self.inspect(name, "{{.State.Pid}}").parse().unwrap()
    }

    /// The actions of a container's events so far.
    fn actions(&self, name: &str) -> Vec<String> {
        let filter = format!("container={name}");
        let text = self.ok(&["events", "--since", "1h", "--until", "0s", "--filter", &filter, "--format", "{{.Action}}"]);
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for id in self.say(&["ps", "-aq"]).out.lines() {
            self.say(&["rm", "-f", id]);
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn parent(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    // A zombie is gone too: whoever adopted it reaps it when he likes.
    let ended = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
    };
    eventually("the end of a killed process", ended);
}

#[test]
fn volumes_are_made_listed_used_and_removed() {
    let home = Home::new();
    assert_eq!(home.ok(&["volume", "create", "--label", "use=test", "data"]), "data");
    assert_eq!(home.ok(&["volume", "create", "data"]), "data", "docker makes it only once");
    let anonymous = home.ok(&["volume", "create"]);
    assert_eq!(anonymous.len(), 64);
    home.ok(&["run", "--name", "writer", "--network", "none", "-v", "data:/data", "busybox", "sh", "-c", "echo kept >/data/file"]);
    assert_eq!(home.ok(&["volume", "ls", "-q", "--filter", "dangling=true"]), anonymous);
    assert_eq!(home.ok(&["volume", "ls", "--filter", "label=use=test"]), "DRIVER    VOLUME NAME\nlocal     data");
    let place = home.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]);
    assert_eq!(fs::read_to_string(Path::new(&place).join("file")).unwrap(), "kept\n");
    home.say(&["volume", "rm", "data"]).fails(1, &["volume is in use", &home.inspect("writer", "{{.Id}}")]);
    home.ok(&["rm", "writer"]);
    assert_eq!(home.ok(&["volume", "rm", "data"]), "data");
    home.say(&["volume", "rm", "data"]).fails(1, &["no such volume"]);
    home.ok(&["volume", "rm", "-f", "data"]);
    assert!(home.ok(&["volume", "prune", "-f"]).contains(&anonymous));
    assert_eq!(home.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn bad_volumes_and_networks_leave_nothing() {
    let home = Home::new();
    for bad in ["../x", "a b", ".hidden", "x"] {
        home.say(&["volume", "create", bad]).fails(1, &["Invalid volume name"]);
    }
    home.say(&["volume", "create", "--opt", "type=nfs", "name"]).fails(1, &["not supported"]);
    home.say(&["volume", "create", "--driver", "nfs", "name"]).fails(125, &["nfs"]);
    home.say(&["volume", "ls", "--filter", "colour=red"]).fails(1, &["invalid filter 'colour'"]);
    home.say(&["volume", "inspect", "none"]).fails(1, &["no such volume"]);
    assert_eq!(home.ok(&["volume", "ls", "-q"]), "");
    home.say(&["network", "create", "--subnet", "10.0.0.1/24", "name"]).fails(1, &["invalid subnet"]);
    home.say(&["network", "create", "--driver", "overlay", "name"]).fails(1, &["overlay"]);
    home.say(&["network", "rm", "bridge"]).fails(1, &["pre-defined network"]);
    home.say(&["network", "rm", "name"]).fails(1, &["network name not found"]);
    assert_eq!(home.ok(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]), "bridge bridge\nhost host\nnone null");
}

#[test]
fn a_network_that_a_stopped_container_has_is_in_use() {
    let home = Home::new();
    let id = home.ok(&["network", "create", "--label", "a=b", "front"]);
    home.ok(&["network", "create", "back"]);
    home.ok(&["create", "--name", "later", "--network", "front", "busybox", "true"]);
    home.ok(&["network", "connect", "--alias", "db", "back", "later"]);
    home.say(&["network", "connect", "back", "later"]).fails(1, &["already exists in network back"]);
    assert_eq!(home.ok(&["ps", "-a", "--format", "{{.Networks}}"]), "front,back");
    assert_eq!(home.ok(&["network", "prune", "-f"]), "");
    home.ok(&["network", "disconnect", "front", "later"]);
    home.say(&["network", "disconnect", "front", "later"]).fails(1, &["is not connected to network front"]);
    assert_eq!(home.ok(&["network", "ls", "-q", "--filter", "dangling=true"]), id[..12]);
    assert_eq!(home.ok(&["network", "prune", "-f"]), "Deleted Networks:\nfront");
    home.ok(&["network", "disconnect", "back", "later"]);
    assert_eq!(home.inspect("later", "{{.HostConfig.NetworkMode}}"), "none");
    home.ok(&["create", "--name", "sharing", "--network", "host", "busybox", "true"]);
    home.say(&["network", "connect", "back", "sharing"]).fails(1, &["sharing network namespace"]);
}

/// The script runs in a network namespace of its own, which is the host here.
#[test]
fn a_running_container_is_connected_and_disconnected() {
    let home = Home::new();
    let script = r#"
set -e
ip link set lo up
$M network create --subnet 10.99.0.0/24 front >/dev/null
$M network create --subnet 10.98.0.0/24 back >/dev/null
$M run -d --name web --network front -p 127.0.0.1:8099:80 busybox sleep 1000 >/dev/null
$M network connect --ip 10.98.0.9 back web
$M exec web ip -4 addr | grep -o 'inet 10[^/]*'
$M inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' web
$M network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}' back
$M network rm back && exit 9 || true
$M port web
$M port web 80/tcp
$M network disconnect back web
$M exec web ip -4 addr | grep -c 'inet 10'
$M system doctor
$M rm -f web >/dev/null
$M network rm back front
"#;
    let mut command = Command::new("unshare");
    let program = format!("{MYDOCKER} --root {}", home.root.display());
    let said = Said::of(command.args(["--net", "--mount", "sh", "-c", script]).env("M", program).stdin(Stdio::null()).output().unwrap());
    assert!(said.err.contains("active endpoints"), "{said:?}");
    let expected = [
        "inet 10.99.0.2",
        "inet 10.98.0.9",
        "back front ",
        "web 10.98.0.9/24",
        "80/tcp -> 127.0.0.1:8099",
        "127.0.0.1:8099",
        "1",
        "Nothing is amiss.",
        "back",
        "front",
    ];
    assert_eq!(said.ok().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn stats_and_top_show_the_containers_processes() {
    let home = Home::new();
    home.idle("busy", &["-m", "64m"]);
    home.ok(&["create", "--name", "idle", "--network", "none", "busybox", "true"]);
    let table = home.ok(&["stats", "--no-stream"]);
    let mut lines = table.lines();
    assert_eq!(
        lines.next().unwrap().split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>(),
        ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]
    );
    let row = lines.next().unwrap();
    assert!(row.contains(" busy ") && row.contains(" / 64MiB") && row.ends_with(" 1"), "{row}");
    assert_eq!(lines.next(), None, "a container that does not run is shown with -a only");
    assert_eq!(home.ok(&["stats", "-a", "--no-stream", "--format", "{{.Name}} {{.PIDs}}"]), "idle 0\nbusy 1");
    home.say(&["stats", "--no-stream", "nobody"]).fails(1, &["no such container: nobody"]);
    home.ok(&["exec", "-d", "busy", "sh", "-c", "sleep 999; true"]);
    eventually("the second program in top", || home.ok(&["top", "busy"]).contains("sleep 999"));
    let top = home.ok(&["top", "busy", "-o", "pid,args"]);
    assert!(top.starts_with("PID") && top.contains(&format!("{} ", home.pid("busy"))), "{top}");
    assert!(top.contains("sh -c sleep 999; true"), "words of a command stay together: {top}");
    assert!(!top.contains("mydocker"), "only the container's: {top}");
    home.say(&["top", "busy", "-o", "args"]).fails(1, &["PID field"]);
    home.say(&["top", "idle"]).fails(1, &["is not running"]);
}

#[test]
fn stats_are_drawn_anew_on_a_terminal() {
    let home = Home::new();
    home.idle("busy", &[]);
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let mut child = home.command(&["stats"]).stdout(slave).spawn().unwrap();
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
    let home = Home::new();
    home.idle("small", &["-m", "64m"]);
    let limits = || {
        let text = home.ok(&["exec", "small", "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max"]);
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(limits()[0], (64 << 20).to_string());
    assert_eq!(home.ok(&["update", "-m", "128m", "--pids-limit", "77", "small"]), "small");
    assert_eq!(limits(), [(128 << 20).to_string(), "77".into()]);
    assert_eq!(home.inspect("small", "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"), format!("{} 77", 128 << 20));
    home.say(&["update", "small"]).fails(1, &["one or more flags"]);
    home.say(&["update", "-m", "1m", "small"]).fails(1, &["minimum memory limit"]);
    home.say(&["update", "--cpuset-cpus", "9999", "small"]).fails(1, &["9999"]);
    assert_eq!(home.inspect("small", "{{.HostConfig.CpusetCpus}}"), "", "what the kernel refused is not written down");
    home.ok(&["restart", "-t", "0", "small"]);
    assert_eq!(limits(), [(128 << 20).to_string(), "77".into()], "as the record has it");
}

#[test]
fn a_restart_policy_can_be_given_later() {
    let home = Home::new();
    home.idle("phoenix", &[]);
    home.say(&["update", "--restart", "sometimes", "phoenix"]).fails(1, &["invalid restart policy"]);
    home.ok(&["update", "--restart", "always", "phoenix"]);
    let first = home.pid("phoenix");
    kill(first);
    eventually("a restart", || home.inspect("phoenix", "{{.RestartCount}} {{.State.Running}}") == "1 true");
    home.ok(&["run", "-d", "--rm", "--name", "fleeting", "--network", "none", "busybox", "sleep", "1000"]);
    home.say(&["update", "--restart", "always", "fleeting"]).fails(1, &["AutoRemove"]);
}

#[test]
fn events_tell_the_life_of_a_container() {
    let home = Home::new();
    home.idle("life", &["--label", "colour=red"]);
    home.ok(&["exec", "life", "true"]);
    home.ok(&["pause", "life"]);
    home.ok(&["unpause", "life"]);
    home.ok(&["rename", "life", "after"]);
    home.ok(&["stop", "-t", "0", "after"]);
    home.ok(&["rm", "after"]);
    let id = home.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "event=create", "--format", "{{.Actor.ID}}"]);
    let actions = home.actions(&id);
    let expected = [
        "create",
        "start",
        "exec_create: true",
        "exec_start: true",
        "exec_die",
        "pause",
        "unpause",
        "rename",
        "kill",
        "kill",
        "die",
        "stop",
    ];
    assert_eq!(actions[..12], expected);
    assert_eq!(actions[12..], ["destroy"]);
    let die =
        home.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "event=die", "--filter", "label=colour=red", "--format", "json"]);
    let die: Value = serde_json::from_str(&die).unwrap();
    assert_eq!((die["Actor"]["Attributes"]["exitCode"].as_str(), die["status"].as_str()), (Some("137"), Some("die")));
    assert_eq!(home.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "type=volume"]), "");
    home.say(&["events", "--since", "yesterday"]).fails(1, &["invalid time"]);
    home.say(&["events", "--since", "0s", "--until", "1h"]).fails(1, &["cannot be after"]);
}

#[test]
fn events_come_as_they_happen() {
    let home = Home::new();
    let mut child = home.command(&["events", "--format", "{{.Type}} {{.Action}} {{.Actor.ID}}"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    // Only what comes after it has begun to watch is promised.
    let mut number = 0;
    let mut text = String::new();
    let mut space = [0; 4096];
    let watcher = std::thread::spawn(move || {
        while !text.contains('\n') {
            let length = out.read(&mut space).unwrap();
            assert!(length > 0, "it ended");
            text.push_str(&String::from_utf8_lossy(&space[..length]));
        }
        text
    });
    eventually("an event", || {
        number += 1;
        home.ok(&["volume", "create", &format!("volume{number}")]);
        watcher.is_finished()
    });
    let text = watcher.join().unwrap();
    assert!(text.starts_with("volume create volume"), "{text}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn health_and_memory_are_told() {
    let home = Home::new();
    home.idle("ill", &["--health-cmd", "false", "--health-interval", "50ms", "--health-retries", "1"]);
    eventually("ill health", || home.actions("ill").contains(&"health_status: unhealthy".to_owned()));
    home.ok(&[
        "run",
        "-d",
        "--name",
        "greedy",
        "--network",
        "none",
        "-m",
        "8m",
        "--memory-swap",
        "8m",
        "busybox",
        "sh",
        "-c",
        "x=1; while true; do x=$x$x; done",
    ]);
    eventually("the end for want of memory", || home.actions("greedy").contains(&"die".to_owned()));
    assert!(home.actions("greedy").contains(&"oom".to_owned()), "{:?}", home.actions("greedy"));
}

#[test]
fn prune_removes_what_is_stopped_and_asks_first() {
    let home = Home::new();
    let running = home.idle("running", &["-v", "kept:/data"]);
    home.ok(&["run", "--name", "ended", "--network", "none", "-v", "/anonymous", "busybox", "sh", "-c", "echo 12345 >/file"]);
    let ended = home.inspect("ended", "{{.Id}}");
    home.say(&["system", "prune"]).fails(1, &["WARNING! This will remove:", "[y/N]", "cancelled"]);
    assert_eq!(home.ok(&["ps", "-a", "--format", "{{.Names}}"]), "ended\nrunning");
    assert_eq!(home.ok(&["container", "prune", "-f", "--filter", "until=1h"]), "Total reclaimed space: 0B");
    assert_eq!(home.ok(&["container", "prune", "-f"]), format!("Deleted Containers:\n{ended}\n\nTotal reclaimed space: 6B"));
    assert_eq!(home.ok(&["volume", "ls", "-q"]).lines().count(), 2, "volumes go with --volumes only");
    let said = home.ok(&["system", "prune", "-af", "--volumes"]);
    assert!(said.contains("Deleted Volumes:") && !said.contains("Deleted Images:"), "{said}");
    assert_eq!(home.ok(&["volume", "ls", "-q"]), "kept");
    home.ok(&["rm", "-f", &running]);
    let said = home.ok(&["system", "prune", "-af", "--volumes"]);
    assert!(said.contains("untagged: busybox:latest") && said.contains("deleted: sha256:"), "{said}");
    assert_eq!(home.ok(&["volume", "ls", "-q"]), "kept", "one that was named stays");
}

#[test]
fn disk_use_adds_up() {
    let home = Home::new();
    home.idle("running", &["-v", "data:/data"]);
    home.ok(&["exec", "running", "sh", "-c", "echo 12345 >/data/file; echo 1234567 >/file"]);
    home.ok(&["volume", "create", "empty"]);
    let rows = home.ok(&["system", "df", "--format", "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}"]);
    let rows: Vec<&str> = rows.lines().collect();
    assert!(rows[0].starts_with("Images|1|1|") && rows[0].ends_with("|0B (0%)"), "{rows:?}");
    assert!(rows[1].starts_with("Containers|1|1|8B|0B"), "{rows:?}");
    assert_eq!(rows[2], "Local Volumes|2|1|6B|0B (0%)");
    let verbose = home.ok(&["system", "df", "-v"]);
    for heading in ["Images space usage:", "Containers space usage:", "Local Volumes space usage:"] {
        assert!(verbose.contains(heading), "{verbose}");
    }
    let both = format!(
        "{} {}",
        home.ok(&["version", "--format", "{{.Client.Version}}"]),
        home.ok(&["info", "--format", "{{.ContainersRunning}}"])
    );
    assert_eq!(both, format!("{} 1", env!("CARGO_PKG_VERSION")));
    assert!(home.ok(&["info"]).contains("Storage Driver: overlay"));
}

#[test]
fn doctor_names_what_a_crash_left_and_mends_it() {
    let home = Home::new();
    assert_eq!(home.ok(&["system", "doctor"]), "Nothing is amiss.");
    let id = home.idle("crashed", &[]);
    let removed = home.idle("removed", &["--rm"]);
    for name in ["crashed", "removed"] {
        let (program, monitor) = (home.pid(name), parent(home.pid(name)));
        kill(monitor);
        let said = home.say(&["system", "doctor"]);
        assert!(said.code == 1 && said.out.contains("without its monitor") && said.out.contains(&format!("{program} (sleep)")), "{said:?}");
        kill(program);
    }
    let half = home.root.join("containers").join(format!(".{}", "a".repeat(64)));
    fs::create_dir_all(half.join("upper")).unwrap();
    fs::write(home.root.join("names/ghost"), "b".repeat(64)).unwrap();
    fs::create_dir(home.root.join("volumes")).ok();
    fs::create_dir(home.root.join("volumes/.new.1")).unwrap();
    let living = home.idle("living", &[]);
    let rows = home.say(&["system", "doctor", "--format", "json"]);
    assert_eq!(rows.code, 1);
    let kinds: Vec<String> =
        rows.out.lines().map(|row| serde_json::from_str::<Value>(row).unwrap()["Kind"].as_str().unwrap().to_owned()).collect();
    for kind in ["state", "runtime", "cgroup", "files"] {
        assert!(kinds.iter().any(|found| found == kind), "{kind} in {rows:?}");
    }
    assert!(rows.out.contains(&id) && !rows.out.contains(&living), "{rows:?}");
    let said = home.say(&["system", "doctor", "--fix"]);
    assert!(said.code == 0 && !said.out.contains("not mended"), "{said:?}");
    assert_eq!(home.ok(&["system", "doctor", "--fix"]), "Nothing is amiss.", "once is enough");
    assert_eq!(home.ok(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}"]), format!("{living} running\n{id} exited"));
    assert!(!half.exists() && !home.root.join("names/ghost").exists() && !home.root.join("volumes/.new.1").exists());
    for id in [&id, &removed] {
        let cgroups = Command::new("find").args(["/sys/fs/cgroup", "-name", id]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&cgroups.stdout), "");
    }
    home.ok(&["start", "crashed"]);
}

#[test]
fn a_mount_in_a_containers_directory_is_found_with_its_holder() {
    let home = Home::new();
    home.ok(&["create", "--name", "mounted", "--network", "none", "busybox", "true"]);
    let place = home.root.join("containers").join(home.inspect("mounted", "{{.Id}}")).join("rootfs");
    // The mount is this test's own: nobody else sees the namespace.
    let script = r#"
mount -t tmpfs none "$P"
(cd "$P" && exec sleep 1000) &
until [ "$(cat /proc/$!/comm)" = sleep ]; do sleep 0.01; done
$M system doctor; $M system doctor --fix; kill $!; $M system doctor; grep -c "$P" /proc/self/mountinfo"#;
    let program = format!("{MYDOCKER} --root {}", home.root.display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).env("M", program).env("P", &place).stdin(Stdio::null());
    let said = Said::of(command.output().unwrap());
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[0].contains("found: mount: the mount") && lines[0].contains(place.to_str().unwrap()), "{said:?}");
    assert!(lines[0].ends_with("(sleep)") && lines[2].starts_with("mended: mount"), "{said:?}");
    assert_eq!(lines[3..], ["1 of 1 mended.", "Nothing is amiss.", "0"], "{said:?}");
}

#[test]
fn dockers_management_spellings_completions_and_pages() {
    let home = Home::new();
    home.idle("one", &[]);
    for spelling in [["container", "ls"], ["container", "list"], ["container", "ps"]] {
        assert!(home.ok(&spelling).contains(" one"), "{spelling:?}");
    }
    assert_eq!(home.ok(&["container", "inspect", "-f", "{{.Name}}", "one"]), "/one");
    assert_eq!(home.ok(&["network", "list", "-q"]).lines().count(), 3);
    home.say(&["container", "inspect", "busybox"]).fails(1, &["no such container: busybox"]);
    for shell in ["bash", "zsh", "fish"] {
        let text = home.ok(&["completion", shell]);
        assert!(text.contains("volume") && text.contains("no-stream"), "{shell}");
    }
    home.say(&["completion", "tcsh"]).fails(125, &["tcsh"]);
    let pages = home.root.join("man");
    fs::create_dir(&pages).unwrap();
    home.ok(&["man", pages.to_str().unwrap()]);
    assert!(fs::read_to_string(pages.join("mydocker-stats.1")).unwrap().contains("\\-\\-no\\-stream"));
}
