//! The floor: what every write-up of the book's containers can do, and the faults they are known for.

use crate::common::eventually;
use crate::host::{Host, has_controller, kill};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;

fn namespace(pid: &str, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_string_lossy().into_owned()
}

#[test]
fn a_container_has_namespaces_proc_and_a_root_of_its_own() {
    let host = Host::new();
    let line =
        "for n in uts ipc pid mnt net; do readlink /proc/self/ns/$n; done; mount | head -1; echo pid $$; ls /.old /oldroot 2>&1; true";
    let said = host.sh(&[], line);
    let lines: Vec<&str> = said.lines().collect();
    for (kind, line) in ["uts", "ipc", "pid", "mnt", "net"].iter().zip(&lines) {
        assert!(line.starts_with(&format!("{kind}:[")) && **line != namespace("self", kind), "{said}");
    }
    assert!(lines[5].starts_with("overlay on / type overlay"), "{said}");
    assert_eq!(lines[6], "pid 1");
    let count: usize = host.sh(&[], "ls -d /proc/[0-9]* | wc -l").trim().parse().unwrap();
    assert!((1..=3).contains(&count), "{count}: sh, ls and wc at most");
    host.nothing_left();
}

#[test]
fn the_first_process_cannot_reach_the_mounts_of_the_host() {
    let host = Host::new();
    let marker = host.dir.join("marker");
    fs::write(&marker, "x").unwrap();
    let mounts = host.sh(&[], "cat /proc/self/mountinfo");
    assert!(!mounts.contains("/boot") && !mounts.contains(&format!(" {} ", host.dir.display())), "{mounts}");
    let tried =
        host.sh(&[], &format!("ls /proc/1/root{0} {0} /../../..{0} 2>&1; ls /proc/1/cwd/../../../..{0} 2>&1; true", marker.display()));
    assert!(!tried.lines().any(|line| line == marker.to_str().unwrap()), "{tried}");
    assert_eq!(tried.matches("No such file").count(), 4, "{tried}");
    // A mount inside is not seen outside, even with all privileges.
    host.sh(&["--privileged"], "mkdir /made-inside && mount -t tmpfs made-inside /made-inside");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("made-inside"));
}

#[test]
fn limits_are_in_the_cgroup_and_go_with_it() {
    let host = Host::new();
    let cpuset: &[&str] = if has_controller("cpuset") { &["--cpuset", "0"] } else { &[] };
    let id = host.detached(&[&["-m", "64m", "--cpushare", "512"], cpuset, &["busybox", "sleep", "1000"]].concat());
    let read = |controller: &str, v1: &str, v2: &str| {
        let two = format!("/sys/fs/cgroup/mydocker/{id}/{v2}");
        let one = format!("/sys/fs/cgroup/{controller}/mydocker/{id}/{v1}");
        fs::read_to_string(&two).or_else(|_| fs::read_to_string(&one)).unwrap_or_else(|e| panic!("{one}: {e}")).trim().to_owned()
    };
    assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    if !cpuset.is_empty() {
        assert_eq!(read("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    }
    let shares = read("cpu", "cpu.shares", "cpu.weight");
    assert!(["512", "20", "59"].contains(&shares.as_str()), "{shares}");
    host.my(&["stop", "-t", "0", &id]).ok();
    // The monitor may be on its last steps.
    eventually("nothing is left", || host.remains().is_empty());
    host.clear();
}

#[test]
fn layers_are_shared_and_what_a_container_writes_is_its_own() {
    let host = Host::new();
    let names = ["aa", "bb", "cc"];
    for name in names {
        host.detached(&[
            "--name",
            name,
            "busybox",
            "sh",
            "-c",
            // Written once: the second start finds it.
            "[ -e /own ] || echo $0 > /own; rm /bin/yes; echo changed > /etc/group; exec sleep 1000",
            name,
        ]);
    }
    for name in names {
        eventually("written", || host.exec(name, "cat /own /etc/group 2>/dev/null; true") == format!("{name}\nchanged\n"));
    }
    // The image has none of it, and is unpacked once.
    assert_eq!(host.sh(&[], "ls /own 2>&1; wc -l < /etc/group; ls /bin/yes").lines().nth(1).unwrap().trim(), "2");
    let layers = fs::read_dir(host.root().join("layers")).unwrap().flatten().filter(|entry| entry.file_type().unwrap().is_dir());
    assert_eq!(layers.count(), 1);
    host.my(&["stop", "-t", "0", "aa"]).ok();
    // Kept until it is removed, and there again after a start.
    let upper = host.container("aa").join("upper");
    assert_eq!(fs::read_to_string(upper.join("own")).unwrap(), "aa\n");
    host.my(&["start", "aa"]).ok();
    assert_eq!(host.exec("aa", "cat /own"), "aa\n");
    host.my(&["rm", "-f", "aa"]).ok();
    assert!(!upper.exists());
    host.clear();
}

#[test]
fn volumes_are_made_shared_and_kept() {
    let host = Host::new();
    let (one, two) = (host.dir.join("made/one"), host.dir.join("two"));
    fs::create_dir(&two).unwrap();
    fs::write(two.join("here"), "was here\n").unwrap();
    let flags = [format!("{}:/one", one.display()), format!("{}:/deep/er/two:ro", two.display())];
    let said = host.sh(&["-v", &flags[0], "-v", &flags[1]], "echo new > /one/new; cat /deep/er/two/here; touch /deep/er/two/x 2>&1; true");
    assert!(said.starts_with("was here\n") && said.contains("Read-only"), "{said}");
    assert_eq!(fs::read_to_string(one.join("new")).unwrap(), "new\n");
    // Changes on either side are seen on the other, and rm leaves them.
    host.detached(&["--name", "vv", "-v", &flags[0], "busybox", "sleep", "1000"]);
    fs::write(one.join("later"), "later\n").unwrap();
    assert_eq!(host.exec("vv", "cat /one/later; echo back > /one/later"), "later\n");
    host.my(&["rm", "-f", "vv"]).ok();
    assert_eq!(fs::read_to_string(one.join("later")).unwrap(), "back\n");
    host.nothing_left();
}

#[test]
fn a_background_container_is_recorded_listed_and_logged() {
    let host = Host::new();
    let line = "echo out; echo err >&2; exec sleep 1000";
    let id = host.detached(&["--name", "web", "-e", "A=1", "-v", "/tmp:/host:ro", "busybox", "sh", "-c", line]);
    eventually("logged", || host.my(&["logs", "web"]).ok() == "out\n");
    assert_eq!(host.my(&["logs", "web"]).err, "err\n");
    let format = "{{.ID}}|{{.Names}}|{{.Image}}|{{.Command}}|{{.State}}";
    let listed = host.my(&["ps", "--no-trunc", "--format", format]).ok();
    assert_eq!(listed, format!("{id}|web|busybox|\"sh -c 'echo out; echo err >&2; exec sleep 1000'\"|running\n"));
    let table = host.my(&["ps"]).ok();
    assert!(table.starts_with("CONTAINER ID") && table.contains("Up ") && table.contains(&id[..12]), "{table}");
    assert_eq!(host.inspect("web", "{{.Path}} {{json .Args}}"), format!("sh [\"-c\",\"{line}\"]"));
    assert_eq!(host.inspect(&id[..6], "{{.Name}} {{.State.Running}} {{(index .Mounts 0).Destination}}"), "/web true /host");
    let pid = host.pid("web");
    assert!(fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().starts_with("sleep"));
    // A name is taken once.
    host.run(&["-d", "--name", "web", "busybox", "true"]).fails(125, &["\"/web\" is already in use"]);
    host.my(&["stop", "-t", "0", "web"]).ok();
    assert_eq!(host.my(&["ps", "-q"]).ok(), "");
    let table = host.my(&["ps", "-a"]).ok();
    assert!(table.contains("Exited (137)"), "{table}");
    assert_eq!(host.my(&["logs", "web"]).ok(), "out\n", "also when stopped");
    host.clear();
}

#[test]
fn a_foreground_terminal_is_refused_without_one_and_made_with_d() {
    let host = Host::new();
    host.run(&["-it", "busybox", "true"]).fails(125, &["not a TTY"]);
    host.nothing_left();
    // -d -t works as docker has it: the program has a terminal.
    let id = host.detached(&["-t", "busybox", "sh", "-c", "tty; exec sleep 1000"]);
    eventually("logged", || host.my(&["logs", &id]).ok() == "/dev/pts/0\r\n");
    host.clear();
}

#[test]
fn words_reach_the_program_as_they_were_typed() {
    let host = Host::new();
    let words = ["a b", "", "'", "\"", "$HOME", "*", "-n", "--rm", "ü", "line\nend"];
    let line = r#"for w in "$@"; do printf '<%s>' "$w"; done"#;
    let expected: String = words.iter().map(|word| format!("<{word}>")).collect();
    assert_eq!(host.run(&[&["--rm", "busybox", "sh", "-c", line, "sh"], &words[..]].concat()).ok(), expected);
    host.detached(&["--name", "xx", "busybox", "sleep", "1000"]);
    assert_eq!(host.my(&[&["exec", "xx", "sh", "-c", line, "sh"], &words[..]].concat()).ok(), expected);
    host.clear();
}

#[test]
fn exec_joins_the_container_with_its_environment() {
    let host = Host::new();
    host.detached(&["--name", "xx", "-e", "COLOR=blue", "-e", "TWO=a b=c", "-w", "/var", "busybox", "sleep", "1000"]);
    let pid = host.pid("xx").to_string();
    for kind in ["uts", "ipc", "pid", "mnt", "net"] {
        assert_eq!(host.exec("xx", &format!("readlink /proc/self/ns/{kind}")).trim(), namespace(&pid, kind));
    }
    assert_eq!(host.exec("xx", "echo $COLOR; echo \"$TWO\"; pwd; cat /proc/1/comm"), "blue\na b=c\n/var\nsleep\n");
    assert_eq!(host.my(&["exec", "xx", "sh", "-c", "exit 9"]).code, 9);
    host.my(&["exec", "xx", "nothing"]).fails(127, &["nothing"]);
    host.my(&["exec", "xx", "/etc"]).fails(126, &["/etc"]);
    host.my(&["exec", "nobody", "true"]).fails(1, &["no such container: nobody"]);
    host.my(&["stop", "-t", "0", "xx"]).ok();
    host.my(&["exec", "xx", "true"]).fails(1, &["is not running"]);
    host.clear();
}

#[test]
fn stop_terminates_then_kills_and_rm_wants_it_stopped() {
    let host = Host::new();
    // sleep as pid 1 has no handler: TERM is not enough.
    host.detached(&["--name", "deaf", "busybox", "sleep", "1000"]);
    host.detached(&["--name", "polite", "busybox", "sh", "-c", "trap 'echo bye; exit 3' TERM; while :; do sleep 0.02; done"]);
    host.my(&["rm", "deaf"]).fails(1, &["container is running", "stop the container before removing or force remove"]);
    host.exec("polite", "true");
    host.my(&["stop", "-t", "5", "polite"]).ok();
    host.my(&["stop", "-t", "1", "deaf"]).ok();
    assert_eq!(
        (host.inspect("deaf", "{{.State.ExitCode}}").as_str(), host.inspect("polite", "{{.State.ExitCode}}").as_str()),
        ("137", "3")
    );
    assert_eq!(host.my(&["logs", "polite"]).ok(), "bye\n");
    host.my(&["stop", "deaf"]).ok();
    host.my(&["rm", "deaf", "polite"]).ok();
    host.my(&["rm", "deaf"]).fails(1, &["no such container: deaf"]);
    host.my(&["rm", "-f", "deaf"]).ok();
    host.nothing_left();
}

#[test]
fn ids_and_names_of_many_at_once_differ() {
    let host = Host::new();
    let children: Vec<_> = (0..12).map(|_| host.spawn(&["-d", "busybox", "true"])).collect();
    let mut ids = BTreeSet::new();
    for child in children {
        let said = crate::common::Said::of(child.wait_with_output().unwrap()).ok();
        ids.insert(said.trim().to_owned());
    }
    assert_eq!(ids.len(), 12);
    let names: BTreeSet<String> = host.my(&["ps", "-a", "--format", "{{.Names}}"]).ok().lines().map(str::to_owned).collect();
    assert_eq!(names.len(), 12);
    host.clear();
}

#[test]
fn a_killed_foreground_leaves_nothing_behind() {
    let host = Host::new();
    let mut run = host.spawn(&["--rm", "--name", "xx", "--stop-timeout", "1", "busybox", "sh", "-c", "echo up; sleep 1000"]);
    eventually("it runs", || host.my(&["ps", "--format", "{{.State}}"]).out == "running\n");
    kill(run.id().cast_signed(), Signal::KILL);
    run.wait().unwrap();
    eventually("it is gone", || host.my(&["ps", "-aq"]).ok().is_empty());
    host.nothing_left();
}

#[test]
fn a_program_inherits_nothing_of_ours() {
    let host = Host::new();
    let held = fs::File::open("/etc/hostname").unwrap();
    let _keep = rustix::io::fcntl_setfd(&held, rustix::io::FdFlags::empty());
    let said = host.run(&["--rm", "busybox", "ls", "/proc/self/fd"]).ok();
    assert_eq!(said.split_whitespace().count(), 4, "three streams and the directory itself: {said}");
    let said = host.run(&["--rm", "busybox", "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]).ok();
    let lines: Vec<&str> = said.lines().collect();
    let set = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
    // But for the two signals that the C library keeps for itself and ignores in what posix_spawn(3) starts.
    assert_eq!((set(lines[0]), set(lines[1]) & !(3 << 31)), (0, 0), "{said}");
    // The log is closed to it: nothing of its own names a file of the host.
    let id = host.detached(&["busybox", "sleep", "1000"]);
    for entry in fs::read_dir(format!("/proc/{}/fd", host.pid(&id))).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap();
        let target = target.to_string_lossy();
        assert!(target.starts_with("pipe:") || target == "/dev/null", "{target}");
    }
    host.clear();
}
