//! `checkpoint` and `restore` with a real CRIU: the container goes on where it was, with the same mounts, namespaces and cgroup.
//!
//! CRIU has to know the running kernel: `hack/criu` gets one, `KEEL_CRIU` names another. Where there is none that works these tests
//! say so in their output, and only what needs no CRIU is shown.

mod common;

use common::{Bundle, Census, Said, eventually};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, RwLock};

/// Version 4 or newer, and content with this kernel.
fn works(criu: &Path) -> bool {
    let said = |arg: &str| Command::new(criu).arg(arg).stdin(Stdio::null()).output().map(Said::of);
    let new = said("--version").is_ok_and(|said| {
        let major = said.out.lines().next().and_then(|line| line.strip_prefix("Version: ")?.split('.').next()?.parse::<u32>().ok());
        major >= Some(4)
    });
    new && said("check").is_ok_and(|said| said.code == 0)
}

/// The CRIU of these tests. Without one they cannot show anything: told loudly, as a test that is left out is no test.
fn criu() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let given = std::env::var_os("KEEL_CRIU").map(PathBuf::from);
        let cached = PathBuf::from(std::env::var_os("KEEL_PEERS").unwrap_or_else(|| "/var/cache/keel-peers".into())).join("criu/criu");
        let system = ["/usr/sbin/criu", "/usr/local/sbin/criu"].map(PathBuf::from);
        given.into_iter().chain([cached]).chain(system).find(|path| works(path))
    });
    if found.is_none() {
        common::skipped("no CRIU 4 works here (hack/criu gets one)");
    }
    found.as_deref()
}

/// The cgroup hierarchies of the machine, which are not to change while CRIU looks at them.
static HIERARCHIES: RwLock<()> = RwLock::new(());

/// A program that counts in a file of a tmpfs, and whose standard streams CRIU can save.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i > /dev/shm/n; usleep 20000; done";

struct Saved {
    bundle: Bundle,
    criu: &'static Path,
}

impl Saved {
    fn new(args: &[&str]) -> Option<Self> {
        let criu = criu()?;
        Some(Self { bundle: Bundle::new(args), criu })
    }

    fn with(self, change: impl FnOnce(&mut Value)) -> Self {
        Self { bundle: self.bundle.with(change), criu: self.criu }
    }

    fn start(&self) {
        self.bundle.write();
        let id = self.bundle.id();
        let status =
            self.bundle.command(&["create", "--pid-file", "pid", &id]).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success());
        self.bundle.keel(&["start", "ID"]).ok();
    }

    fn keel(&self, args: &[&str]) -> Said {
        let _constant = HIERARCHIES.read();
        self.bundle.keel(&[&["--criu", self.criu.to_str().unwrap()], args].concat())
    }

    fn checkpoint(&self, flags: &[&str]) {
        let said = self.keel(&[&["checkpoint", "--image-path", "images"], flags, &["ID"]].concat());
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}\n{}", self.log("dump.log"));
    }

    fn restore(&self, flags: &[&str]) {
        let id = self.bundle.id();
        let args = [
            &["--criu", self.criu.to_str().unwrap(), "restore", "--detach", "--pid-file", "pid", "--image-path", "images"][..],
            flags,
            &[&id],
        ]
        .concat();
        let file = fs::File::create(self.bundle.dir.join("err")).unwrap();
        let status = self.bundle.command(&args).stdout(Stdio::null()).stderr(file).status().unwrap();
        let err = fs::read_to_string(self.bundle.dir.join("err")).unwrap();
        assert!(status.success() && err.is_empty(), "{err}\n{}", self.log("restore.log"));
    }

    fn log(&self, name: &str) -> String {
        let text = fs::read_to_string(self.bundle.dir.join("images").join(name)).unwrap_or_default();
        text.lines().filter(|line| line.contains("Error")).collect::<Vec<_>>().join("\n")
    }

    fn count(&self) -> u64 {
        self.bundle.sh("cat /dev/shm/n || true").trim().parse().unwrap_or(0)
    }

    /// Mounts of the first process without what differs each time: ids and devices.
    fn mounts(&self) -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/{}/mountinfo", self.bundle.pid())).unwrap();
        let mut lines: Vec<_> = text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap().to_owned()).collect();
        lines.sort();
        lines
    }

    fn status_field(&self, names: &[&str]) -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.bundle.pid())).unwrap();
        text.lines().filter(|line| names.iter().any(|name| line.starts_with(name))).map(str::to_owned).collect()
    }
}

#[test]
fn a_container_goes_on_where_it_was() {
    let Some(saved) = Saved::new(&["sh", "-c", COUNT]) else { return };
    let host = saved.bundle.dir.join("host");
    fs::create_dir_all(host.join("other")).unwrap();
    fs::write(host.join("file"), "of the host").unwrap();
    let saved = saved.with(|c| {
        // Two of one source: CRIU makes the second out of the first, and forgets its attributes.
        for (at, source, options) in [
            ("/one", &host, json!(["rbind", "ro", "nosuid"])),
            ("/two", &host, json!(["rbind", "ro", "nosuid", "noexec"])),
            ("/three", &host.join("other"), json!(["rbind", "nodev"])),
            ("/four", &host.join("other"), json!(["rbind", "ro"])),
        ] {
            c["mounts"].as_array_mut().unwrap().push(json!({"destination": at, "type": "bind", "source": source, "options": options}));
        }
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]});
        c["linux"]["resources"]["pids"] = json!({"limit": 77});
        c["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        c["hooks"] = json!({"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", format!("echo stop >> {}", host.join("hooks").display())]}],
            "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", format!("echo make >> {}", host.join("hooks").display())]}]});
    });
    let bundle = &saved.bundle;
    saved.start();
    eventually("it counts", || saved.count() > 3);
    let fields = ["Cap", "NoNewPrivs", "Seccomp:", "Uid", "Groups"];
    let (mounts, fields_before, pid) = (saved.mounts(), saved.status_field(&fields), bundle.pid());
    let counted = saved.count();
    saved.checkpoint(&[]);
    bundle.keel(&["state", "ID"]).fails(1, &["does not exist"]);
    Census::of(bundle).nothing_left(bundle);
    saved.restore(&[]);
    assert_eq!(bundle.status(), "running");
    let state: Value = serde_json::from_str(&bundle.keel(&["state", "ID"]).ok()).unwrap();
    assert_eq!(state["pid"], bundle.pid());
    assert!(Path::new(&format!("/proc/{}", bundle.pid())).exists() && (bundle.pid() != pid || counted > 0));
    let restored = saved.count();
    assert!(restored >= counted, "{restored} after {counted}");
    eventually("it counts on", || saved.count() > restored);
    assert_eq!(saved.mounts(), mounts);
    assert_eq!(saved.status_field(&fields), fields_before);
    // In a cgroup with its limits, which all commands know.
    let limit = |v1: &str, v2: &str| bundle.sh(&format!("cat /sys/fs/cgroup/{v1} /sys/fs/cgroup/{v2} 2>/dev/null || true"));
    assert!(limit("pids/pids.max", "pids.max").contains("77"));
    assert!(limit("memory/memory.limit_in_bytes", "memory.max").contains("67108864"));
    assert!(bundle.keel(&["ps", "ID"]).ok().contains(&bundle.pid().to_string()));
    // An exec is in all of its namespaces, the time namespace that CRIU makes included.
    let of = |who: &str| -> Vec<_> {
        ["ipc", "mnt", "net", "pid", "time", "uts"].map(|kind| fs::read_link(format!("/proc/{who}/ns/{kind}")).unwrap()).to_vec()
    };
    let inside = bundle.sh("for kind in ipc mnt net pid time uts; do readlink /proc/self/ns/$kind; done");
    assert_eq!(inside.lines().map(PathBuf::from).collect::<Vec<_>>(), of(&bundle.pid().to_string()));
    bundle.keel(&["pause", "ID"]).ok();
    assert_eq!(bundle.status(), "paused");
    bundle.keel(&["resume", "ID"]).ok();
    bundle.keel(&["kill", "ID", "KILL"]).ok();
    eventually("it stops", || bundle.status() == "stopped");
    bundle.keel(&["delete", "ID"]).ok();
    assert_eq!(fs::read_to_string(host.join("hooks")).unwrap(), "make\nstop\nmake\nstop\n");
    Census::of(bundle).nothing_left(bundle);
}

/// In the foreground the restored program writes into the pipes that are now keel's, and its exit code comes back.
#[test]
fn in_the_foreground_pipes_and_exit_code_are_those_of_the_program() {
    let Some(saved) = Saved::new(&["sh", "-c", "until test -e /dev/shm/go; do usleep 20000; done; echo here; echo there >&2; exit 7"])
    else {
        return;
    };
    let bundle = &saved.bundle;
    bundle.write();
    let id = bundle.id();
    let mut first = bundle.command(&["run", &id]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it runs", || bundle.keel(&["exec", "ID", "true"]).code == 0);
    saved.checkpoint(&["--leave-running"]);
    assert_eq!(bundle.status(), "running", "it goes on");
    bundle.keel(&["kill", "ID", "KILL"]).ok();
    assert_eq!(first.wait().unwrap().code(), Some(137));
    let args = ["--criu", saved.criu.to_str().unwrap(), "restore", "--image-path", "images", "--work-path", "work", &id];
    let mut second = bundle.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it is back", || bundle.keel(&["exec", "ID", "touch", "/dev/shm/go"]).code == 0);
    let (mut out, mut err) = (String::new(), String::new());
    second.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    second.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    let code = second.wait().unwrap().code();
    assert_eq!((code, out.as_str(), err.as_str()), (Some(7), "here\n", "there\n"), "{}", saved.log("restore.log"));
    assert!(bundle.dir.join("work/restore.log").exists() && !bundle.dir.join("images/restore.log").exists());
    Census::of(bundle).nothing_left(bundle);
}

#[test]
fn a_paused_container() {
    let Some(saved) = Saved::new(&["sh", "-c", COUNT]) else { return };
    let bundle = &saved.bundle;
    saved.start();
    eventually("it counts", || saved.count() > 0);
    bundle.keel(&["pause", "ID"]).ok();
    saved.checkpoint(&[]);
    saved.restore(&[]);
    let counted = saved.count();
    eventually("it counts on", || saved.count() > counted);
    bundle.delete();
    Census::of(bundle).nothing_left(bundle);
}

/// As systemd has it: mounts of the host are in peer groups, of which those in the container are slaves, before and after.
#[test]
fn binds_of_shared_mounts_are_slaves_again() {
    let Some(saved) = Saved::new(&["sleep", "1000"]) else { return };
    let saved = saved.with(|c| {
        let bind = |at: &str| json!({"destination": at, "type": "bind", "source": "data", "options": ["bind"]});
        c["mounts"].as_array_mut().unwrap().extend([bind("/one"), bind("/two")]);
    });
    let bundle = &saved.bundle;
    fs::create_dir(bundle.dir.join("data")).unwrap();
    bundle.write();
    let (id, root) = (bundle.id(), bundle.state_root().display().to_string());
    let keel = format!("{} --criu {} --root {root}", common::KEEL, saved.criu.display());
    let look = "mounts() { cut -d' ' -f4- /proc/$(cat pid)/mountinfo | sort; }";
    let lines = [
        format!("{keel} run --detach --pid-file pid {id} < /dev/null > /dev/null 2>&1 && mounts > before"),
        format!("{keel} checkpoint --image-path images {id}"),
        format!("{keel} restore --detach --pid-file pid --image-path images {id} < /dev/null > /dev/null 2>err || {{ cat err; false; }}"),
        format!("mounts > after && {keel} delete --force {id}"),
    ];
    let script = format!("set -e; {look}; {}", lines.join("; "));
    let output =
        Command::new("unshare").args(["--mount", "--propagation", "shared", "sh", "-c", &script]).current_dir(&bundle.dir).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let [before, after] = ["before", "after"].map(|name| fs::read_to_string(bundle.dir.join(name)).unwrap());
    assert_eq!(before, after);
    assert!(["/one", "/two"].iter().all(|at| before.lines().any(|line| line.contains(at) && line.contains("master:"))), "{before}");
    Census::of(bundle).nothing_left(bundle);
}

/// What was saved before is not saved again. Needs a kernel that tracks changes of memory (CONFIG_MEM_SOFT_DIRTY); another one
/// is CRIU's to tell, and loses nothing.
#[test]
fn pre_dumps() {
    let Some(saved) = Saved::new(&["sh", "-c", COUNT]) else { return };
    let bundle = &saved.bundle;
    saved.start();
    eventually("it counts", || saved.count() > 0);
    saved.keel(&["checkpoint", "--parent-path", "/before", "--image-path", "images", "ID"]).fails(1, &["relative"]);
    let pre = saved.keel(&["checkpoint", "--pre-dump", "--image-path", "before", "ID"]);
    assert_eq!(bundle.status(), "running");
    if pre.err.contains("Tracking memory is not available") {
        saved.checkpoint(&[]);
    } else {
        pre.ok();
        saved.checkpoint(&["--parent-path", "../before"]);
        assert!(bundle.dir.join("images/parent").exists(), "the images refer to those before");
    }
    saved.restore(&[]);
    let counted = saved.count();
    eventually("it counts on", || saved.count() > counted);
    bundle.delete();
    Census::of(bundle).nothing_left(bundle);
}

/// The other end of the terminal goes to the console socket once more.
#[test]
fn a_terminal_comes_back() {
    let Some(saved) = Saved::new(&["sh", "-c", "while read line; do echo \"said $line\"; done"]) else { return };
    let saved = saved.with(|c| c["process"]["terminal"] = json!(true));
    let bundle = &saved.bundle;
    bundle.write();
    let path = bundle.dir.join("console.sock");
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let speak = |socket: &std::os::unix::net::UnixListener, words: &str| {
        let (stream, _) = socket.accept().unwrap();
        let master = keel::lifecycle::receive(std::os::fd::AsFd::as_fd(&stream)).unwrap();
        let mut master = fs::File::from(master);
        std::io::Write::write_all(&mut master, format!("{words}\n").as_bytes()).unwrap();
        let mut heard = String::new();
        while !heard.contains(&format!("said {words}")) {
            let mut space = [0; 256];
            let length = master.read(&mut space).unwrap();
            heard.push_str(&String::from_utf8_lossy(&space[..length]));
        }
        master
    };
    let id = bundle.id();
    let create = ["create", "--console-socket", path.to_str().unwrap(), "--pid-file", "pid", &id];
    assert!(bundle.command(&create).status().unwrap().success());
    bundle.keel(&["start", "ID"]).ok();
    let master = speak(&socket, "one");
    saved.checkpoint(&[]);
    drop(master);
    saved.restore(&["--console-socket", path.to_str().unwrap()]);
    let _master = speak(&socket, "two");
    bundle.delete();
    Census::of(bundle).nothing_left(bundle);
}

/// A network namespace that is joined is the configuration's again, and not a copy.
#[test]
fn a_joined_network_namespace_is_joined_again() {
    let Some(saved) = Saved::new(&["sh", "-c", COUNT]) else { return };
    let mut holder = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap();
    let path = format!("/proc/{}/ns/net", holder.id());
    eventually("it has a namespace", || fs::read_link(&path).unwrap() != fs::read_link("/proc/self/ns/net").unwrap());
    let saved = saved.with(|c| {
        let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.iter_mut().find(|n| n["type"] == "network").unwrap()["path"] = json!(path);
    });
    saved.start();
    eventually("it counts", || saved.count() > 0);
    saved.checkpoint(&[]);
    // As containerd always says.
    saved.restore(&["-no-subreaper"]);
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_eq!(namespace(saved.bundle.pid()), namespace(holder.id().cast_signed()));
    saved.bundle.delete();
    holder.kill().unwrap();
    holder.wait().unwrap();
    Census::of(&saved.bundle).nothing_left(&saved.bundle);
}

/// CRIU makes its processes right in the pid namespace, with the host's files in sight of who is there (docs/decisions/0024).
#[test]
fn a_joined_pid_namespace_is_refused() {
    let Some(saved) = Saved::new(&["sleep", "1000"]) else { return };
    let mut holder = Command::new("unshare").args(["--pid", "--fork", "--kill-child", "sleep", "1000"]).spawn().unwrap();
    let path = format!("/proc/{}/ns/pid_for_children", holder.id());
    eventually("it has a namespace", || {
        fs::read_link(&path).is_ok_and(|namespace| namespace != fs::read_link("/proc/self/ns/pid").unwrap())
    });
    let saved = saved.with(|c| {
        let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.iter_mut().find(|n| n["type"] == "pid").unwrap()["path"] = json!(path);
    });
    saved.start();
    let words = ["checkpoint and restore of a container that joins this namespace are not supported", "linux.namespaces[0]"];
    saved.keel(&["checkpoint", "--image-path", "images", "ID"]).fails(1, &words);
    assert_eq!(saved.bundle.status(), "running");
    saved.bundle.delete();
    fs::create_dir_all(saved.bundle.dir.join("images")).unwrap();
    fs::write(saved.bundle.dir.join("images/descriptors.json"), "[\"\",\"\",\"\"]").unwrap();
    saved.keel(&["restore", "--detach", "--image-path", "images", "ID"]).fails(1, &words);
    holder.kill().unwrap();
    holder.wait().unwrap();
    Census::of(&saved.bundle).nothing_left(&saved.bundle);
}

/// Said in CRIU's words, with its log, and nothing is changed or left.
#[test]
fn what_criu_cannot_do_is_told() {
    let Some(saved) = Saved::new(&["sh", "-c", &format!("exec 5<>/dev/shm/lock; flock 5; {COUNT}")]) else { return };
    let bundle = &saved.bundle;
    bundle.write();
    // A file of the host's as stdout cannot be saved.
    bundle.detached(&["create", "--pid-file", "pid", "ID"]).ok();
    bundle.keel(&["start", "ID"]).ok();
    let id = bundle.id();
    saved.keel(&["checkpoint", "--image-path", "images", "ID"]).fails(1, &[&format!("checkpoint container {id}: CRIU failed"), "dump.log"]);
    assert_eq!(bundle.status(), "running");
    bundle.delete();
    fs::write(bundle.dir.join("images/descriptors.json"), "[\"\",\"\",\"\"]").unwrap();
    let said = saved.keel(&["restore", "--detach", "--image-path", "images", "ID"]);
    said.fails(1, &[&format!("restore container {id}: CRIU failed"), "restore.log"]);
    Census::of(bundle).nothing_left(bundle);
}

/// A name that CRIU would read back as another mount's (CVE-2026-119101, CVE-2026-115520).
#[test]
fn hostile_names_of_mounts_are_refused() {
    let bundle = Bundle::new(&["sleep", "1000"]).with(|c| {
        c["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"destination": "/data]:/etc", "type": "bind", "source": "/tmp", "options": ["bind"]}));
    });
    bundle.start();
    bundle.keel(&["--criu", "/bin/true", "checkpoint", "ID"]).fails(1, &["cannot read the name of a mount"]);
    assert_eq!(bundle.status(), "running");
    bundle.delete();
    fs::create_dir(bundle.dir.join("checkpoint")).ok();
    fs::write(bundle.dir.join("checkpoint/descriptors.json"), "[\"\",\"\",\"\"]").unwrap();
    bundle.keel(&["--criu", "/bin/true", "restore", "-d", "ID"]).fails(1, &["cannot read the name of a mount"]);
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn refusals_are_one_sentence_and_leave_nothing() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    bundle.keel(&["checkpoint", "ID"]).fails(1, &["does not exist"]);
    bundle.keel(&["restore", "--lazy-pages", "ID"]).fails(1, &["--lazy-pages is not supported"]);
    for wrong in ["1.2.3.4", ":5", "1.2.3.4:0", "1.2.3.4:99999", "1.2.3.4:x"] {
        bundle.keel(&["checkpoint", "--page-server", wrong, "ID"]).fails(1, &["is not ADDRESS:PORT", wrong]);
    }
    bundle.keel(&["restore", "ID"]).fails(1, &["checkpoint/descriptors.json", "is there a checkpoint"]);
    bundle.create();
    bundle.keel(&["checkpoint", "ID"]).fails(1, &["cannot checkpoint", "not running"]);
    bundle.keel(&["start", "ID"]).ok();
    bundle.keel(&["checkpoint", "--status-fd", "7", "ID"]).fails(1, &["--status-fd is not supported"]);
    let alone = |args: &[&str]| Said::of(bundle.command(args).env("PATH", "/nowhere").output().unwrap());
    alone(&["checkpoint", &bundle.id()]).fails(1, &["criu: executable file not found in $PATH", "--criu PATH"]);
    bundle.keel(&["--criu", "/no/such/criu", "checkpoint", "ID"]).fails(1, &["execute /no/such/criu: no such file or directory"]);
    bundle.keel(&["--criu", "/bin/true", "checkpoint", "ID"]).fails(1, &["CRIU"]);
    assert_eq!(bundle.status(), "running");
    bundle.delete();
}

/// Its ids, its rights over its namespaces and its files come back; an exec joins its user namespace.
#[test]
fn a_container_with_a_user_namespace() {
    let Some(saved) = Saved::new(&["sh", "-c", COUNT]) else { return };
    let host = saved.bundle.dir.join("host");
    fs::create_dir_all(&host).unwrap();
    let source = host.clone();
    let saved = saved.with(|c| {
        c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        c["linux"]["gidMappings"] = c["linux"]["uidMappings"].clone();
        let mount = json!({"destination": "/host", "type": "bind", "source": source, "options": ["rbind", "ro"]});
        c["mounts"].as_array_mut().unwrap().push(mount);
    });
    let bundle = &saved.bundle;
    for path in [bundle.rootfs(), bundle.rootfs().join("tmp"), host.clone()] {
        std::os::unix::fs::chown(&path, Some(100_000), Some(100_000)).unwrap();
    }
    saved.start();
    eventually("it counts", || saved.count() > 3);
    let fields = ["Cap", "NoNewPrivs", "Uid", "Gid", "Groups"];
    let maps = || ["uid_map", "gid_map"].map(|map| fs::read_to_string(format!("/proc/{}/{map}", bundle.pid())).unwrap());
    let before = (saved.mounts(), saved.status_field(&fields), maps());
    saved.checkpoint(&[]);
    Census::of(bundle).nothing_left(bundle);
    saved.restore(&[]);
    let restored = saved.count();
    eventually("it counts on", || saved.count() > restored);
    assert_eq!((saved.mounts(), saved.status_field(&fields), maps()), before);
    let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/user")).unwrap();
    assert_ne!(namespace(&bundle.pid().to_string()), namespace("self"));
    let inside = bundle.sh("readlink /proc/self/ns/user; id -u; touch /dev/shm/made; touch /host/x 2>/dev/null || echo read-only");
    assert_eq!(inside, format!("{}\n0\nread-only\n", namespace(&bundle.pid().to_string()).display()));
    bundle.delete();
    Census::of(bundle).nothing_left(bundle);
}

/// Directories `one` and `two` of the host, each with a file of its name and a directory `x`.
fn sources(saved: &Saved) -> [PathBuf; 2] {
    ["one", "two"].map(|name| {
        let dir = saved.bundle.dir.join(name);
        fs::create_dir_all(dir.join("x")).unwrap();
        fs::write(dir.join("name"), name).unwrap();
        dir
    })
}

fn bind(at: &str, source: &Path, options: &[&str]) -> Value {
    let options = [&["bind"], options].concat();
    json!({"destination": at, "type": "bind", "source": source, "options": options})
}

/// Saves and restores a container with these mounts, masked paths and masked files, and looks at it before and after.
fn comes_back(mounts: impl FnOnce([PathBuf; 2]) -> Vec<Value>, masked: &[&str], files: &[&str], look: &str) -> Option<[Vec<String>; 2]> {
    let saved = Saved::new(&["sleep", "1000"])?;
    let mounts = mounts(sources(&saved));
    let saved = saved.with(|c| {
        c["mounts"].as_array_mut().unwrap().extend(mounts);
        c["linux"]["maskedPaths"] = json!(masked);
    });
    let bundle = &saved.bundle;
    let point = bundle.rootfs().join("mnt");
    for file in files {
        fs::create_dir_all(&point).unwrap();
        fs::write(point.join(file), "secret").unwrap();
    }
    saved.start();
    let before = (saved.mounts(), bundle.sh(look));
    saved.checkpoint(&[]);
    if files.is_empty() {
        // As in a new copy of the image.
        let _ = fs::remove_dir_all(&point);
    }
    saved.restore(&[]);
    let after = (saved.mounts(), bundle.sh(look));
    assert_eq!(after.1, before.1, "{masked:?}");
    bundle.delete();
    Census::of(bundle).nothing_left(bundle);
    Some([before.0, after.0])
}

/// The kernel keeps a mount that a later one covers, and so do we: CRIU has to know what of the host's it is.
#[test]
fn a_mount_that_a_later_one_hides() {
    let tmpfs = || json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs"});
    let look = "ls /mnt; cat /mnt/name 2>/dev/null || true";
    for mounts in [
        comes_back(|[one, two]| vec![bind("/mnt/x", &one, &["ro"]), bind("/mnt", &two, &[])], &[], &[], look),
        comes_back(|[one, _]| vec![bind("/mnt/x", &one, &[]), tmpfs()], &[], &[], look),
        comes_back(|[one, _]| vec![bind("/mnt/x", &one, &[])], &["/mnt"], &[], look),
        comes_back(|_| vec![], &["/sys/fs/cgroup"], &[], "ls /sys/fs/cgroup"),
        comes_back(|_| vec![], &["/mnt/a file", "/mnt"], &["a file"], look),
    ] {
        let Some([before, after]) = mounts else { return };
        assert_eq!(after, before);
    }
}

/// CRIU knows a mount by its path alone: of several of the host's at one path the last is what is seen, with its own attributes.
#[test]
fn mounts_at_one_path() {
    let look = "cat /mnt/name; touch /mnt/made 2>&1; ls /mnt";
    comes_back(|[one, two]| vec![bind("/mnt", &one, &["ro"]), bind("/mnt", &two, &[])], &[], &[], look);
}

/// A read-only path is a second mount of what is there.
#[test]
fn read_only_paths_stay_read_only() {
    let Some(saved) = Saved::new(&["sleep", "1000"]) else { return };
    let [one, _] = sources(&saved);
    let saved = saved.with(|c| {
        c["mounts"].as_array_mut().unwrap().extend(["/mnt", "/srv"].map(|at| bind(at, &one, &["rw"])));
        c["linux"]["readonlyPaths"] = json!(["/link", "/proc/sys", "/srv"]);
    });
    let bundle = &saved.bundle;
    std::os::unix::fs::symlink("mnt", bundle.rootfs().join("link")).unwrap();
    saved.start();
    let before = saved.mounts();
    saved.checkpoint(&[]);
    saved.restore(&[]);
    let writes = "touch /mnt/made 2>/dev/null || echo read-only; touch /srv/made 2>/dev/null || echo read-only";
    assert_eq!(bundle.sh(writes), "read-only\nread-only\n");
    assert_eq!(saved.mounts(), before);
    bundle.delete();
    Census::of(bundle).nothing_left(bundle);
}

/// A mount point that is gone from a directory of the host's, which the container has read-only, is not made there.
#[test]
fn nothing_is_made_in_what_the_container_has_read_only() {
    let Some(saved) = Saved::new(&["sleep", "1000"]) else { return };
    let [one, two] = sources(&saved);
    let mounts = [bind("/mnt", &one, &["ro"]), bind("/mnt/x", &two, &[])];
    let saved = saved.with(|c| c["mounts"].as_array_mut().unwrap().extend(mounts));
    saved.start();
    saved.checkpoint(&[]);
    fs::remove_dir(one.join("x")).unwrap();
    saved.keel(&["restore", "--detach", "--image-path", "images", "ID"]).fails(1, &["mount point /x", "read-only file system", "mounts["]);
    assert!(!one.join("x").exists());
    Census::of(&saved.bundle).nothing_left(&saved.bundle);
    // The images are as they were.
    fs::create_dir(one.join("x")).unwrap();
    saved.restore(&[]);
    assert_eq!(saved.bundle.sh("cat /mnt/x/name"), "two");
    saved.bundle.delete();
    Census::of(&saved.bundle).nothing_left(&saved.bundle);
}

/// Told before anything is saved, with the place in the configuration; the container goes on.
#[test]
fn mounts_that_would_not_come_back_are_refused() {
    let Some(saved) = Saved::new(&["sleep", "1000"]) else { return };
    let [one, two] = sources(&saved);
    let first = saved.bundle.config["mounts"].as_array().unwrap().len();
    let refused = |mounts: Vec<Value>, masked: &[&str], words: &[&str]| {
        let saved = Saved::new(&["sleep", "1000"]).unwrap().with(|c| {
            c["mounts"].as_array_mut().unwrap().extend(mounts);
            c["linux"]["maskedPaths"] = json!(masked);
        });
        let bundle = &saved.bundle;
        std::os::unix::fs::symlink("mnt", bundle.rootfs().join("link")).unwrap();
        fs::create_dir_all(bundle.rootfs().join("mnt")).unwrap();
        saved.start();
        saved.keel(&["checkpoint", "--image-path", "images", "ID"]).fails(1, words);
        assert!(!bundle.dir.join("images").exists() && bundle.status() == "running");
        bundle.delete();
        Census::of(bundle).nothing_left(bundle);
    };
    // Masked, it would be the volume again.
    refused(vec![bind("/mnt", &one, &[])], &["/mnt"], &["/mnt", "over a mount of the host's", "linux.maskedPaths[0]"]);
    refused(vec![bind("/mnt", &one, &[])], &["/link"], &["/link", "over a mount of the host's", "linux.maskedPaths[0]"]);
    // On a host with shared mounts CRIU would not restore it.
    let words = ["/mnt/name", "over a mount of the host's", "linux.maskedPaths[0]"];
    refused(vec![bind("/mnt/name", &one.join("name"), &[])], &["/mnt/name"], &words);
    // Hidden by another name.
    refused(vec![bind("/link/x", &one, &[]), bind("/mnt", &two, &[])], &[], &["/link/x", "cannot be seen", &format!("mounts[{first}]")]);
}

/// What follows, where `/etc/criu` has `crun.conf` and `runc.conf` of our own, as far as `$CONFIGURED` names them, in a mount namespace
/// and on a copy of /etc: each has CRIU write its log under another name.
const IN_CONFIGURED_ETC: [&str; 6] = [
    "unshare",
    "--mount",
    "--propagation=slave",
    "sh",
    "-c",
    "set -e; rm -rf etc; cp -a /etc etc; rm -rf etc/criu; mkdir etc/criu; \
     for name in $CONFIGURED; do echo log-file $name.log > etc/criu/$name.conf; done; mount --bind etc /etc; exec \"$@\"",
];

/// As of runc and crun: the annotation's file, of which an empty name means none, else the host's for crun, else that for runc.
#[test]
fn criu_is_configured_by_the_host_or_the_annotation() {
    let log_of = |saved: &Saved, present: &str, command: &[&str]| {
        let bundle = &saved.bundle;
        let _ = fs::remove_dir_all(bundle.dir.join("work"));
        let id = bundle.id();
        let root = bundle.state_root();
        let keel = [common::KEEL, "--criu", saved.criu.to_str().unwrap(), "--root", root.to_str().unwrap()];
        let mut words = IN_CONFIGURED_ETC.to_vec();
        words.push("sh");
        words.extend(keel.iter().chain(command).chain(&["--image-path", "images", "--work-path", "work", &id]));
        let errors = fs::File::create(bundle.dir.join("err")).unwrap();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("CONFIGURED", present).current_dir(&bundle.dir);
        let _constant = HIERARCHIES.read();
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).status().unwrap();
        assert!(status.success(), "{}", fs::read_to_string(bundle.dir.join("err")).unwrap());
        let logs = fs::read_dir(bundle.dir.join("work")).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
        logs.filter(|name| name.ends_with(".log")).collect::<Vec<_>>().join(" ")
    };
    for (annotation, present, expected) in [
        (None, "", ["dump.log", "restore.log"]),
        (None, "runc", ["runc.log", "runc.log"]),
        (None, "crun runc", ["crun.log", "crun.log"]),
        (Some("/etc/criu/own.conf"), "crun runc own", ["own.log", "own.log"]),
        (Some(""), "crun runc", ["dump.log", "restore.log"]),
    ] {
        let Some(saved) = Saved::new(&["sleep", "1000"]) else { return };
        let saved = saved.with(|c| c["annotations"] = annotation.map_or(json!({}), |file| json!({"org.criu.config": file})));
        saved.start();
        let logs = [&["checkpoint"][..], &["restore", "--detach"]].map(|command| log_of(&saved, present, command));
        assert_eq!(logs, expected, "{annotation:?}, {present:?}");
        saved.bundle.delete();
        Census::of(&saved.bundle).nothing_left(&saved.bundle);
    }
}

/// A hierarchy of cgroup v1 of this test's own, in a directory of its own.
struct Hierarchy(PathBuf);

impl Hierarchy {
    fn new() -> Self {
        let dir = PathBuf::from(format!("/run/keel-test-hierarchy-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let _alone = HIERARCHIES.write();
        let status = Command::new("mount").args(["-t", "cgroup", "-o", "none,name=keel-test", "none"]).arg(&dir).status().unwrap();
        assert!(status.success());
        fs::create_dir(dir.join("outer")).unwrap();
        Self(dir)
    }

    /// Its cgroups, and who may enter them.
    fn cgroups(&self) -> String {
        let found = Command::new("find").args([".", "-type", "d", "-printf", "%p %m %U:%G\\n"]).current_dir(&self.0).output().unwrap();
        Said::of(found).ok()
    }
}

impl Drop for Hierarchy {
    fn drop(&mut self) {
        let _alone = HIERARCHIES.write();
        let _ = fs::remove_dir(self.0.join("outer"));
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

/// As where somebody has mounted `name=systemd` or net_cls beside cgroup v2: a container is there where keel is, and nothing is made.
#[test]
fn a_hierarchy_of_v1_beside_v2() {
    if std::env::var_os("KEEL_V2_MACHINE").is_none() || !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        common::skipped("only a machine of hack/v2 with cgroup v2 alone is given a hierarchy of cgroup v1 beside it");
        return;
    }
    let Some(saved) = Saved::new(&["sh", "-c", COUNT]) else { return };
    let (bundle, hierarchy) = (&saved.bundle, Hierarchy::new());
    bundle.write();
    let (id, root, before) = (bundle.id(), bundle.state_root(), hierarchy.cgroups());
    let mut keel = Command::new("sh");
    keel.args(["-c", "echo $$ > \"$0\" && exec \"$@\" > /dev/null 2>&1"]).arg(hierarchy.0.join("outer/cgroup.procs"));
    keel.args([common::KEEL, "--root"]).arg(&root).args(["run", "--detach", "--pid-file", "pid", &id]);
    assert!(keel.stdin(Stdio::null()).current_dir(&bundle.dir).status().unwrap().success());
    let place = || fs::read_to_string(format!("/proc/{}/cgroup", bundle.pid())).unwrap();
    assert!(place().contains("name=keel-test:/outer\n"), "{}", place());
    eventually("it counts", || saved.count() > 3);
    saved.checkpoint(&[]);
    saved.restore(&[]);
    let restored = saved.count();
    eventually("it counts on", || saved.count() > restored);
    assert!(place().contains("name=keel-test:/\n"), "{}", place());
    assert_eq!(hierarchy.cgroups(), before);
    saved.checkpoint(&[]);
    saved.restore(&[]);
    assert_eq!(hierarchy.cgroups(), before);
    bundle.delete();
    Census::of(bundle).nothing_left(bundle);
}

/// A CRIU that works beside keel, ended with the test.
struct Beside(std::process::Child);

impl Beside {
    fn new(saved: &Saved, args: &[&str]) -> Self {
        let mut command = Command::new(saved.criu);
        command.args(args).args(["--images-dir", "images", "--work-dir", "images", "-o", "beside.log", "-v4"]);
        Self(command.current_dir(&saved.bundle.dir).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of the loopback that nobody listens at.
fn port() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

fn pages(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("pages-")).count()
}

#[test]
fn memory_goes_to_a_page_server() {
    let Some(saved) = Saved::new(&["sh", "-c", COUNT]) else { return };
    let bundle = &saved.bundle;
    saved.start();
    eventually("it counts", || saved.count() > 3);
    fs::create_dir(bundle.dir.join("images")).unwrap();
    let port = port();
    let server = Beside::new(&saved, &["page-server", "--address", "127.0.0.1", "--port", &port]);
    eventually("it listens", || fs::read_to_string(bundle.dir.join("images/beside.log")).is_ok_and(|log| log.contains("status-ready")));
    saved.keel(&["checkpoint", "--image-path", "rest", "--page-server", &format!("127.0.0.1:{port}"), "ID"]).ok();
    assert_eq!((pages(&bundle.dir.join("rest")), pages(&bundle.dir.join("images")) > 0), (0, true), "memory is with the server alone");
    drop(server);
    for entry in fs::read_dir(bundle.dir.join("rest")).unwrap().flatten() {
        fs::rename(entry.path(), bundle.dir.join("images").join(entry.file_name())).unwrap();
    }
    saved.restore(&[]);
    let counted = saved.count();
    eventually("it counts on", || saved.count() > counted);
    bundle.delete();
    Census::of(bundle).nothing_left(bundle);
}
