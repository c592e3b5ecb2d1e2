//! An ordinary user: one mapped id without help, ranges through newuidmap(1), and what cannot be done.

mod common;

use common::{Bundle, Census, KEEL};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Ids that no account has, one for each test that changes /etc/subuid.
const USER: u32 = 12345;

/// keel as an ordinary user, from a copy of the binary that the user may read.
struct Ordinary {
    bundle: Bundle,
    uid: u32,
}

impl Ordinary {
    /// `keel spec --rootless` of the user, with a busybox root of its own.
    fn new(uid: u32, args: &[&str]) -> Self {
        let bundle = Bundle::new(args);
        fs::remove_file(bundle.dir.join("config.json")).unwrap();
        common::copy_program(KEEL.as_ref(), &bundle.dir.join("keel"));
        chown_all(&bundle.dir, uid);
        let mut user = Self { bundle, uid };
        let output = user.keel(&["spec", "--rootless"]);
        assert!(output.status.success(), "{output:?}");
        let mut config: Value = serde_json::from_slice(&fs::read(user.bundle.dir.join("config.json")).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(args);
        config["root"]["readonly"] = json!(false);
        user.bundle.config = config;
        user
    }

    fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.bundle.config);
        self
    }

    fn keel(&self, args: &[&str]) -> Output {
        let id = self.bundle.id();
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--reuid", &self.uid.to_string(), "--regid", &self.uid.to_string(), "--clear-groups"]);
        command.arg(self.bundle.dir.join("keel")).args(args.iter().map(|arg| if *arg == "ID" { id.as_str() } else { arg }));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("XDG_RUNTIME_DIR", self.bundle.state_root());
        command.current_dir(&self.bundle.dir).output().unwrap()
    }

    fn run(&self) -> Output {
        self.bundle.write();
        self.keel(&["run", "ID"])
    }

    /// A command that leaves a process behind, which must not hold our pipes open. Its output is in
    /// the files `out` and `err`.
    fn detached(&self, args: &[&str]) {
        let id = self.bundle.id();
        let (uid, line) = (self.uid.to_string(), format!("exec ./keel {} > out 2> err", args.join(" ").replace("ID", &id)));
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "sh", "-c", &line]);
        let status = command.env("XDG_RUNTIME_DIR", self.bundle.state_root()).current_dir(&self.bundle.dir).status().unwrap();
        assert!(status.success(), "{args:?}: {}", fs::read_to_string(self.bundle.dir.join("err")).unwrap_or_default());
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.keel(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        text(&output).1
    }
}

fn chown_all(path: &Path, uid: u32) {
    let (user, group) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(uid));
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(rustix::fs::CWD, path, Some(user), Some(group), flags).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        fs::read_dir(path).unwrap().flatten().for_each(|entry| chown_all(&entry.path(), uid));
    }
}

fn text(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_rootless_sample_runs_with_one_mapped_id() {
    let user =
        Ordinary::new(USER, &["sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/setgroups; hostname; touch /made /dev/shm/x; exit 3"]);
    let output = user.run();
    let (code, out) = text(&output);
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!((code, &words[..]), (Some(3), &["0", "0", "12345", "1", "deny", "keel"][..]), "{output:?}");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(user.bundle.rootfs().join("made")).unwrap().uid(), USER);
    assert!(user.bundle.state_root().join("keel").is_dir(), "the state is below XDG_RUNTIME_DIR");
    assert_eq!(fs::read_dir(user.bundle.state_root().join("keel")).unwrap().count(), 0);
    Census::of(&user.bundle).nothing_left(&user.bundle);
}

#[test]
fn create_start_exec_kill_and_delete_work() {
    let user = Ordinary::new(USER, &["sleep", "1000"]);
    user.bundle.write();
    user.detached(&["create", "--pid-file", "pid", "ID"]);
    user.detached(&["start", "ID"]);
    let (code, out) = text(&user.keel(&["exec", "ID", "sh", "-c", "id -u; readlink /proc/self/ns/user"]));
    let namespace = fs::read_link(format!("/proc/{}/ns/user", user.bundle.pid())).unwrap();
    assert_eq!((code, out), (Some(0), format!("0\n{}\n", namespace.display())));
    let state: Value = serde_json::from_str(&text(&user.keel(&["state", "ID"])).1).unwrap();
    assert_eq!((&state["status"], &state["owner"]), (&json!("running"), &json!("12345")));
    user.ok(&["delete", "--force", "ID"]);
    Census::of(&user.bundle).nothing_left(&user.bundle);
}

/// The kernel lets an ordinary user neither open nor join the namespaces of a process of his that
/// is not dumpable: it hands them over.
#[test]
fn hooks_run_in_the_container_with_run_and_with_create_and_start() {
    let hook =
        |name: &str, file: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo {name} $(id -u) $(uname -n) >> {file}")]}]);
    let user = |args: &[&str]| {
        let mut user = Ordinary::new(USER, args);
        let log = user.bundle.dir.join("log");
        let outside = |name: &str| hook(name, log.to_str().unwrap());
        user.bundle.config["hooks"] = json!({
            "createRuntime": outside("createRuntime"), "createContainer": outside("createContainer"),
            "startContainer": hook("startContainer", "/log"), "poststart": outside("poststart"), "poststop": outside("poststop"),
        });
        user
    };
    let host = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    let outside = |line: &str| format!("{line} {USER} {host}\n");
    let logs =
        |user: &Ordinary| [user.bundle.dir.join("log"), user.bundle.rootfs().join("log")].map(|log| fs::read_to_string(log).unwrap());
    let all = || {
        [
            outside("createRuntime") + "createContainer 0 keel\n" + &outside("poststart") + &outside("poststop"),
            "startContainer 0 keel\n".into(),
        ]
    };

    let ran = user(&["true"]);
    let output = ran.run();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(logs(&ran), all());
    Census::of(&ran.bundle).nothing_left(&ran.bundle);

    let created = user(&["sleep", "1000"]);
    created.bundle.write();
    created.detached(&["create", "ID"]);
    created.detached(&["start", "ID"]);
    created.ok(&["delete", "--force", "ID"]);
    assert_eq!(logs(&created), all());
    Census::of(&created.bundle).nothing_left(&created.bundle);
}

/// The process that waits for `start` has no filter yet, so that no other process of the container
/// may look into it or trace it: it stays non-dumpable, and answers those who can reach its socket.
#[test]
fn exec_enters_a_created_container_whose_process_stays_closed_to_others() {
    let user = Ordinary::new(USER, &["sleep", "1000"]);
    user.bundle.write();
    user.detached(&["create", "--pid-file", "pid", "ID"]);
    let pid = user.bundle.pid();
    let look = ["exec", "ID", "sh", "-c", "id -u; uname -n; ls /proc/1/fd /proc/1/cwd/ 2>&1 | grep -c denied"];
    for _ in 0..3 {
        assert_eq!(user.ok(&look), "0\nkeel\n2\n");
        assert!(user.ok(&["state", "ID"]).contains("\"created\""));
    }
    user.detached(&["start", "ID"]);
    let namespaces = |pid: &str| {
        ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"].map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap())
    };
    let own = namespaces(&pid.to_string());
    let all = user.ok(&["exec", "ID", "sh", "-c", "for kind in user mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$kind; done"]);
    assert_eq!(all.lines().collect::<Vec<_>>(), own.iter().map(|link| link.to_str().unwrap()).collect::<Vec<_>>());
    user.ok(&["delete", "--force", "ID"]);
    Census::of(&user.bundle).nothing_left(&user.bundle);
}

#[test]
fn the_user_namespace_of_another_container_with_one_mapped_id_can_be_joined() {
    let first = Ordinary::new(USER, &["sleep", "1000"]);
    first.bundle.write();
    first.detached(&["run", "--detach", "--pid-file", "pid", "ID"]);
    let namespace = |kind: &str| format!("/proc/{}/ns/{kind}", first.bundle.pid());
    let joining = |kinds: &[&str], args: &[&str]| {
        Ordinary::new(USER, args).with(|c| {
            let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap().iter_mut();
            let joined = namespaces.filter_map(|n| Some((*kinds.iter().find(|kind| n["type"] == **kind)?, n)));
            joined.for_each(|(kind, n)| n["path"] = json!(namespace(kind)));
            c["linux"].as_object_mut().unwrap().remove("uidMappings");
            c["linux"].as_object_mut().unwrap().remove("gidMappings");
        })
    };
    let user = fs::read_link(namespace("user")).unwrap();
    let line = "id -u; readlink /proc/self/ns/user";
    let second = joining(&["user"], &["sh", "-c", line]);
    let output = second.run();
    assert_eq!(text(&output), (Some(0), format!("0\n{}\n", user.display())), "{output:?}");
    Census::of(&second.bundle).nothing_left(&second.bundle);

    for kinds in [&["user"][..], &["user", "ipc", "pid"]] {
        let third = joining(kinds, &["sleep", "1000"]);
        third.bundle.write();
        third.detached(&["create", "ID"]);
        for _ in ["created", "running"] {
            assert_eq!(third.ok(&["exec", "ID", "sh", "-c", line]), format!("0\n{}\n", user.display()));
            let _ = third.keel(&["start", "ID"]);
        }
        third.ok(&["delete", "--force", "ID"]);
        Census::of(&third.bundle).nothing_left(&third.bundle);
    }

    let groups = joining(&["user"], &["true"]).with(|c| c["process"]["user"]["additionalGids"] = json!([0]));
    let output = groups.run();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("process.user.additionalGids") && error.contains("setgroups") && error.lines().count() == 1, "{error}");
    Census::of(&groups.bundle).nothing_left(&groups.bundle);
    first.ok(&["delete", "--force", "ID"]);
    Census::of(&first.bundle).nothing_left(&first.bundle);
}

/// On v1 an ordinary user has no cgroup of his own, and sees those that he is in, as from runc. He
/// may write none of them (CVE-2023-25809).
#[test]
fn a_mount_of_type_cgroup_shows_the_hierarchies_of_v1_read_only() {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        println!("skipped: this host has cgroup v2 only");
        return;
    }
    let line = "cd /sys/fs/cgroup; for dir in */; do dir=${dir%/}; test -e $dir/cgroup.procs && \
                grep -q \" /sys/fs/cgroup/$dir ro,\" /proc/self/mountinfo && echo $dir; done; \
                test -L cpuacct && ls cpuacct/cgroup.procs > /dev/null && echo link; cat memory/memory.limit_in_bytes > /dev/null && echo limit";
    for read_only in [&["ro"][..], &[]] {
        let user = Ordinary::new(USER, &["sh", "-c", line]).with(|c| {
            let mounts = c["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
            let options = [&["nosuid", "noexec", "nodev"], read_only].concat();
            mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}));
        });
        let output = user.run();
        let (code, out) = text(&output);
        let shown: Vec<&str> = out.lines().collect();
        assert_eq!(code, Some(0), "{output:?}");
        for wanted in ["memory", "pids", "devices", "freezer", "limit"] {
            assert!(shown.contains(&wanted), "{wanted}: {output:?}");
        }
        let joined = Path::new("/sys/fs/cgroup/cpuacct").is_symlink();
        assert_eq!(shown.contains(&"link"), joined, "{output:?}");
        Census::of(&user.bundle).nothing_left(&user.bundle);
    }
}

#[test]
fn additional_groups_are_refused_where_the_kernel_forbids_them() {
    let user = Ordinary::new(USER, &["true"]).with(|c| c["process"]["user"]["additionalGids"] = json!([5]));
    let output = user.run();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("process.user.additionalGids") && error.contains("setgroups") && error.lines().count() == 1, "{error}");
    Census::of(&user.bundle).nothing_left(&user.bundle);
}

#[test]
fn a_runtime_whose_own_namespace_forbids_setgroups_does_without() {
    assert_eq!(Bundle::new(&["cat", "/proc/self/setgroups"]).run_in_a_user_namespace().ok(), "deny\n");
}

#[test]
fn without_a_user_namespace_an_ordinary_user_is_refused() {
    let user = Ordinary::new(USER, &["true"]).with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "user");
        c["linux"].as_object_mut().unwrap().remove("uidMappings");
        c["linux"].as_object_mut().unwrap().remove("gidMappings");
    });
    let output = user.run();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && error.contains("operation not permitted") && error.lines().count() == 1, "{error}");
    Census::of(&user.bundle).nothing_left(&user.bundle);
}

/// Lines of /etc/subuid and /etc/subgid for a user, taken away again when dropped.
struct Ranges(String);

impl Ranges {
    const FILES: [&str; 2] = ["/etc/subuid", "/etc/subgid"];

    fn give(uid: u32) -> Self {
        let line = format!("{uid}:500000:65536\n");
        for file in Self::FILES {
            let text = fs::read_to_string(file).unwrap_or_default();
            fs::write(file, text + &line).unwrap();
        }
        Self(line)
    }
}

impl Drop for Ranges {
    fn drop(&mut self) {
        for file in Self::FILES {
            let text = fs::read_to_string(file).unwrap_or_default();
            let _ = fs::write(file, text.replacen(&self.0, "", 1));
        }
    }
}

#[test]
fn ranges_are_mapped_by_newuidmap_if_the_files_grant_them() {
    if !Path::new("/usr/bin/newuidmap").exists() {
        common::skipped("newuidmap (Debian package uidmap) is not installed");
        return;
    }
    const OTHER: u32 = 12346;
    let ranges = |c: &mut Value| {
        let map = json!([{"containerID": 0, "hostID": OTHER, "size": 1}, {"containerID": 1, "hostID": 500_000, "size": 65536}]);
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
        c["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [5]});
    };
    let user = Ordinary::new(OTHER, &["sh", "-c", "id -u; id -G; cat /proc/self/uid_map"]).with(ranges);
    let output = user.run();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("newuidmap") && error.contains("/etc/subuid") && error.contains("linux.uidMappings"), "{error}");
    Census::of(&user.bundle).nothing_left(&user.bundle);

    // newuidmap(1) wants the caller to be an account.
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let account = format!("keel-test-{OTHER}:x:{OTHER}:{OTHER}::/nonexistent:/usr/sbin/nologin\n");
    fs::write("/etc/passwd", passwd.clone() + &account).unwrap();
    let granted = Ranges::give(OTHER);
    let output = user.run();
    drop(granted);
    let now = fs::read_to_string("/etc/passwd").unwrap();
    fs::write("/etc/passwd", now.replacen(&account, "", 1)).unwrap();
    let (code, out) = text(&output);
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!((code, &words[..]), (Some(0), &["0", "0", "5", "0", "12346", "1", "1", "500000", "65536"][..]), "{output:?}");
    Census::of(&user.bundle).nothing_left(&user.bundle);
}

/// runc warns of it too.
#[test]
fn nobody_to_find_the_processes_by_is_told() {
    let mut user = Ordinary::new(USER, &["true"]);
    for own in [true, false] {
        if !own {
            let namespaces = user.bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "pid");
            user.bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
            user.bundle.config["linux"]["maskedPaths"] = json!([]);
            user.bundle.config["linux"]["readonlyPaths"] = json!([]);
        }
        user.bundle.write();
        let output = user.keel(&["--debug", "run", "ID"]);
        let told = String::from_utf8_lossy(&output.stderr).contains("neither a cgroup nor a pid namespace of its own");
        assert!(output.status.success() && told != own, "{output:?}");
    }
    Census::of(&user.bundle).nothing_left(&user.bundle);
}

/// Every kind of limit, of an ordinary user with no cgroup of his own: one sentence that names it, its place, and why it cannot
/// be kept. What this version of cgroups has no word for is a warning.
#[test]
fn a_limit_that_cannot_be_kept_is_named_with_the_reason() {
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let mounted = |controller: &str| v2 || Path::new("/sys/fs/cgroup").join(controller).join("tasks").exists();
    let denied = "permission denied to make a cgroup for it";
    let resources = [
        ("memory", "memory.limit", json!({"memory": {"limit": 50_000_000}})),
        ("memory", "memory.reservation", json!({"memory": {"reservation": 50_000_000}})),
        ("cpu", "cpu.shares", json!({"cpu": {"shares": 512}})),
        ("cpu", "cpu.quota", json!({"cpu": {"quota": 50_000}})),
        ("cpu", "cpu.idle", json!({"cpu": {"idle": 1}})),
        ("cpuset", "cpu.cpus", json!({"cpu": {"cpus": "0"}})),
        ("cpuset", "cpu.mems", json!({"cpu": {"mems": "0"}})),
        ("pids", "pids.limit", json!({"pids": {"limit": 40}})),
        ("blkio", "blockIO.weight", json!({"blockIO": {"weight": 500}})),
        ("blkio", "blockIO.throttleReadBpsDevice[0]", json!({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}]}})),
        ("hugetlb", "hugepageLimits[0]", json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 2_097_152}]})),
        ("rdma", "rdma.mlx5_1", json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}})),
    ];
    let only_v1 = [
        ("memory", "memory.swappiness", json!({"memory": {"swappiness": 5}})),
        ("memory", "memory.disableOOMKiller", json!({"memory": {"disableOOMKiller": true}})),
        ("cpu", "cpu.realtimeRuntime", json!({"cpu": {"realtimeRuntime": 1000}})),
        ("net_cls", "network.classID", json!({"network": {"classID": 5}})),
        ("net_prio", "network.priorities[0]", json!({"network": {"priorities": [{"name": "lo", "priority": 1}]}})),
    ];
    let said = |change: &dyn Fn(&mut Value)| {
        let user = Ordinary::new(USER, &["true"]).with(change);
        user.bundle.write();
        // Warnings of what goes well are in the log alone.
        let output = user.keel(&["--log", "keel.log", "run", "ID"]);
        Census::of(&user.bundle).nothing_left(&user.bundle);
        let log = fs::read_to_string(user.bundle.dir.join("keel.log")).unwrap_or_default();
        let said = if output.status.success() { log } else { String::from_utf8_lossy(&output.stderr).into_owned() };
        (output.status.code(), said)
    };
    for (controller, at, asked) in resources.into_iter().chain(only_v1) {
        let (code, error) = said(&|c| c["linux"]["resources"] = asked.clone());
        let here = format!("linux.resources.{at}");
        if v2 && (code, error.contains("is ignored: cgroup v2")) == (Some(0), true) {
            assert!(error.contains(&here), "{at}: {error}");
            continue;
        }
        let missing = format!("controller {controller} is not mounted as cgroup v1");
        let reason = if mounted(controller) { denied } else { missing.as_str() };
        assert!(code == Some(1) && error.contains(&here) && error.contains(reason) && error.lines().count() == 1, "{at}: {error}");
    }
    let process = [
        ("rlimits", "process.rlimits[0]", json!([{"type": "RLIMIT_NOFILE", "soft": 1 << 30, "hard": 1 << 30}]), "CAP_SYS_RESOURCE"),
        ("oomScoreAdj", "process.oomScoreAdj", json!(-500), "CAP_SYS_RESOURCE"),
        ("scheduler", "process.scheduler", json!({"policy": "SCHED_FIFO", "priority": 10}), "CAP_SYS_NICE"),
        ("ioPriority", "process.ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 0}), "CAP_SYS_NICE"),
    ];
    for (key, at, asked, reason) in process {
        let (code, error) = said(&|c| c["process"][key] = asked.clone());
        assert!(code == Some(1) && error.contains(at) && error.contains(reason) && error.lines().count() == 1, "{key}: {error}");
    }
}

/// As rootless podman calls a runtime: root, but of a user namespace only. Were he called root too, as by `sudo podman`, his
/// state would be root's, as for runc.
#[test]
fn root_of_a_user_namespace_has_the_state_directory_of_a_user() {
    let bundle = Bundle::new(&["true"]);
    bundle.write();
    for (name, expected) in [(None, true), (Some("someone"), true), (Some("root"), false)] {
        let runtime_dir = bundle.dir.join(format!("runtime-{}", name.unwrap_or("nobody")));
        fs::create_dir(&runtime_dir).unwrap();
        let mut command = Command::new("unshare");
        // In a mount namespace with a /run of its own, so that nothing of this is tried in the machine's.
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && exec \"$@\"", "sh", KEEL, "run"]);
        command.arg(bundle.id()).current_dir(&bundle.dir).env_remove("USER").env("XDG_RUNTIME_DIR", &runtime_dir);
        let output = command.envs(name.map(|name| ("USER", name))).output().unwrap();
        // Whether the container itself can start there is another matter: `unshare` maps one id.
        assert_eq!(runtime_dir.join("keel").is_dir(), expected, "{name:?}: {output:?}");
    }
}

/// Root of a namespace with a range of ids, as rootless podman makes one: a whole life, with an exec, for which the way back into
/// the first pid namespace is barred.
#[test]
fn root_of_a_user_namespace_has_containers() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    let (runtime_dir, id) = (bundle.dir.join("runtime"), bundle.id());
    fs::create_dir(&runtime_dir).unwrap();
    let script = "read go; set -e; k() { \"$0\" \"$@\"; }; k run --detach \"$1\" > /dev/null 2>&1 < /dev/null; \
        k exec \"$1\" sh -c 'echo in $(id -u); exit 7' || echo $?; k delete --force \"$1\"";
    let mut command = Command::new("unshare");
    command
        .args(["--user", "sh", "-c", script, KEEL, &id])
        .current_dir(&bundle.dir)
        .env("XDG_RUNTIME_DIR", &runtime_dir)
        .env_remove("USER");
    let piped = std::process::Stdio::piped;
    let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
    let (pid, own) = (child.id(), fs::read_link("/proc/self/ns/user").unwrap());
    common::eventually("the user namespace", || fs::read_link(format!("/proc/{pid}/ns/user")).is_ok_and(|ns| ns != own));
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{map}"), "0 0 65536").unwrap();
    }
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"go\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output), (Some(0), "in 0\n7\n".into()), "{output:?}");
    Census::of(&bundle).nothing_left(&bundle);
}
