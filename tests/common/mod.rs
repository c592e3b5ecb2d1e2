//! What the tests on real containers share: bundles, the keel under test, and a census that nothing is left.

#![allow(dead_code)] // each test binary uses its part

mod skip;
#[allow(unused_imports)] // not every program skips something
pub use skip::skipped;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The binary that `cargo test` built.
pub const KEEL: &str = env!("CARGO_BIN_EXE_keel");

/// The distribution's static busybox (package busybox-static).
const BUSYBOX: &str = "/bin/busybox";

/// Applets that the tests call by name.
const APPLETS: &[&str] = &[
    "sh", "ls", "cat", "echo", "id", "sleep", "true", "false", "mount", "umount", "grep", "stat", "touch", "mkdir", "rm", "ln", "hostname",
    "env", "pwd", "test", "head", "tail", "wc", "sort", "readlink", "kill", "ps", "dd", "mknod", "chmod", "chown", "stty", "tty", "nc",
    "seq", "tr", "cut", "sed", "awk", "ulimit", "umask", "dmesg", "date", "mv", "cp", "find", "od", "printf", "sync", "nproc", "ip",
    "ifconfig", "trap", "yes", "usleep", "timeout",
];

/// What follows, on a host with nothing but cgroup v2, in a mount namespace of its own.
pub const IN_V2_VIEW: [&str; 7] = [
    "unshare",
    "--mount",
    "--propagation=private",
    "sh",
    "-c",
    "busybox umount -R /sys/fs/cgroup 2>/dev/null; busybox umount -l /sys/fs/cgroup 2>/dev/null; \
     busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"",
    "sh",
];

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A directory with a bundle and a state root of its own; removed when dropped.
pub struct Bundle {
    pub dir: PathBuf,
    pub config: Value,
}

/// What a command said.
#[derive(Debug, Default)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default());
        Self { code, out: String::from_utf8_lossy(&output.stdout).into_owned(), err: String::from_utf8_lossy(&output.stderr).into_owned() }
    }

    /// Asserts success and gives stdout.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Asserts failure with this exit code and that stderr contains all `words`.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> String {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is missing in {self:?}");
        }
        self.err
    }
}

/// Copies a program by a process of its own. Were it open for writing here, another thread's child could have it at that moment,
/// and until that child's exec nobody may execute it (ETXTBSY, execve(2)).
pub fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success(), "{} is there", from.display());
}

/// A rootfs of busybox, made once a test process in `dir`.
pub fn make_rootfs(dir: &Path) {
    for name in ["bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "var"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    copy_program(BUSYBOX.as_ref(), &dir.join("bin/busybox"));
    for applet in APPLETS {
        let _ = std::os::unix::fs::symlink("busybox", dir.join("bin").join(applet));
    }
    fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n").unwrap();
    fs::write(dir.join("etc/group"), "root:x:0:\napp:x:1000:\n").unwrap();
}

impl Bundle {
    /// `keel spec`'s configuration with a busybox root, running `args` without a terminal.
    pub fn new(args: &[&str]) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let base = std::env::var_os("KEEL_TEST_DIR").map_or_else(|| "/tmp".into(), PathBuf::from);
        let dir = base.join(format!("keel-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        make_rootfs(&dir.join("rootfs"));
        let said = Said::of(Command::new(KEEL).arg("spec").arg("--bundle").arg(&dir).output().unwrap());
        said.ok();
        let mut config: Value = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(args);
        config["root"]["readonly"] = json!(false);
        Self { dir, config }
    }

    /// Changes the configuration.
    pub fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// An id that no other test uses at the same time (cgroups are named after it).
    pub fn id(&self) -> String {
        self.dir.file_name().unwrap().to_string_lossy().into_owned()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// What keel keeps of the container: the last `record`, or the last `config`.
    pub fn kept(&self, kind: &str) -> Value {
        let text = fs::read_to_string(self.state_root().join(self.id()).join("record.jsonl")).unwrap();
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get_mut(kind).map(Value::take));
        lines.next_back().unwrap()
    }

    pub fn state_root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Writes config.json as it stands.
    pub fn write(&self) {
        fs::write(self.dir.join("config.json"), serde_json::to_vec_pretty(&self.config).unwrap()).unwrap();
    }

    /// A keel command with this bundle's state root.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(KEEL);
        command.arg("--root").arg(self.state_root()).args(args).stdin(Stdio::null()).current_dir(&self.dir);
        command
    }

    /// `keel run` by root of a user namespace that was made for it, with one id and without setgroups(2), and with no cgroup.
    pub fn run_in_a_user_namespace(self) -> Said {
        let bundle = self.with(|c| {
            c["linux"]["resources"] = json!({});
            // The group is not one of those of the namespace.
            let pts = c["mounts"].as_array_mut().unwrap().iter_mut().find(|mount| mount["destination"] == "/dev/pts").unwrap();
            pts["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
        });
        bundle.write();
        let keel = bundle.command(&["--cgroup-manager", "disabled", "run", &bundle.id()]);
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--"]).arg(keel.get_program()).args(keel.get_args());
        let said = Said::of(command.stdin(Stdio::null()).current_dir(&bundle.dir).output().unwrap());
        Census::of(&bundle).nothing_left(&bundle);
        said
    }

    /// Runs a keel command to its end. `ID` among the arguments stands for the container's id.
    pub fn keel(&self, args: &[&str]) -> Said {
        let id = self.id();
        let args: Vec<&str> = args.iter().map(|arg| if *arg == "ID" { id.as_str() } else { arg }).collect();
        Said::of(self.command(&args).output().unwrap())
    }

    /// Writes config.json, then `keel run`.
    pub fn run(&self) -> Said {
        self.write();
        self.keel(&["run", "ID"])
    }

    /// As [`Bundle::run`] of a program that succeeds; its stdout, and keel's warnings out of a log file. stderr, which is the
    /// container's too, has none of them.
    #[track_caller]
    pub fn run_with_log(&self) -> (String, Vec<String>) {
        self.write();
        let said = self.keel(&["--log", "keel.log", "--log-format", "json", "run", "ID"]);
        assert!(said.code == 0 && !said.err.lines().any(|line| line.starts_with("keel:")), "{said:?}");
        let log = fs::read_to_string(self.dir.join("keel.log")).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let warnings = lines.filter(|line| line["level"] == "warning");
        (said.out, warnings.map(|line| line["msg"].as_str().unwrap().to_owned()).collect())
    }

    /// Writes config.json, then create and start. stdio goes to files, since a container keeps its pipes open.
    pub fn start(&self) -> &Self {
        self.create();
        self.keel(&["start", "ID"]).ok();
        self
    }

    pub fn create(&self) -> &Self {
        self.write();
        let said = self.detached(&["create", "--bundle", ".", "--pid-file", "pid", "ID"]);
        said.ok();
        self
    }

    /// Runs a command whose container goes on: stdout and stderr of both are in files `out` and `err` of the bundle.
    pub fn detached(&self, args: &[&str]) -> Said {
        let id = self.id();
        let args: Vec<&str> = args.iter().map(|arg| if *arg == "ID" { id.as_str() } else { arg }).collect();
        let file = |name: &str| fs::File::create(self.dir.join(name)).unwrap();
        let status = self.command(&args).stdout(file("out")).stderr(file("err")).status().unwrap();
        let read = |name: &str| fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        Said { code: status.code().unwrap_or(-1), out: read("out"), err: read("err") }
    }

    /// The container's stdout so far (after `start`).
    pub fn out(&self) -> String {
        fs::read_to_string(self.dir.join("out")).unwrap_or_default()
    }

    pub fn pid(&self) -> i32 {
        fs::read_to_string(self.dir.join("pid")).unwrap().parse().unwrap()
    }

    pub fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.keel(&["state", "ID"]).ok()).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    /// `keel exec` of a shell line; stdout.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        self.keel(&["exec", "ID", "sh", "-c", line]).ok()
    }

    pub fn delete(&self) {
        self.keel(&["delete", "--force", "ID"]).ok();
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.keel(&["delete", "--force", "ID"]);
        // What is still mounted there, be it for a test that failed, is not ours to remove: a bind of a
        // directory of the machine would be emptied.
        let below = format!(" {}/", self.dir.display());
        match fs::read_to_string("/proc/thread-self/mountinfo") {
            Ok(mounts) if !mounts.contains(&below) => drop(fs::remove_dir_all(&self.dir)),
            _ => eprintln!("{} is left: something is mounted below it", self.dir.display()),
        }
    }
}

/// Waits until `done` holds; the bound is generous as machines are shared.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{what} did not happen within 30 s");
}

/// What must be the same before and after a test of one bundle: what names it among mounts, cgroups, processes and state.
pub struct Census {
    name: String,
}

impl Census {
    pub fn of(bundle: &Bundle) -> Self {
        Self { name: bundle.id() }
    }

    /// Everything on the machine that carries the name: cgroup directories, mounts, processes with it in their arguments
    /// or their cgroup.
    pub fn found(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for entry in walk(Path::new("/sys/fs/cgroup"), 4) {
            if entry.file_name().is_some_and(|name| carries(&name.to_string_lossy(), &self.name)) {
                found.insert(format!("cgroup {}", entry.display()));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        found.extend(mounts.lines().filter(|line| carries(line, &self.name)).map(|line| format!("mount {line}")));
        found.extend(processes(&|text| carries(text, &self.name)));
        found
    }

    /// Asserts that nothing is left, in the state root neither. Killed processes may take a moment.
    #[track_caller]
    pub fn nothing_left(&self, bundle: &Bundle) {
        let state = bundle.state_root().join(bundle.id());
        for _ in 0..1000 {
            if self.found().is_empty() && !state.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(!state.exists(), "the state directory is left");
        assert_eq!(self.found(), BTreeSet::new(), "left behind");
    }
}

/// Whether the text has this name in it: `keel-test-1-3`, not `keel-test-1-31` of a test beside this one.
pub fn carries(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| !text[at + name.len()..].starts_with(|next: char| next.is_ascii_digit()))
}

/// Processes but our own that live and whose arguments or cgroups `named` knows.
pub fn processes(named: &dyn Fn(&str) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        let read = |file: &str| fs::read(entry.path().join(file)).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        if !ended(&read("stat")) && (named(&read("cmdline")) || named(&read("cgroup"))) {
            found.insert(format!("process {pid} {}", read("cmdline").replace('\0', " ")));
        }
    }
    found
}

/// Whether the process of this `/proc/PID/stat` is past its end: a zombie until somebody reaps it, or the first process of a
/// pid namespace that waits until its last zombie is reaped (PF_EXITING in field 9 of proc_pid_stat(5)). Both are up to
/// whoever adopted a killed keel's children, which is pid 1 of the machine.
fn ended(stat: &str) -> bool {
    const PF_EXITING: u32 = 4;
    let Some((_, fields)) = stat.rsplit_once(") ") else { return true };
    let fields: Vec<&str> = fields.split(' ').collect();
    ["Z", "X"].contains(&fields[0]) || fields[6].parse::<u32>().unwrap() & PF_EXITING != 0
}

fn walk(dir: &Path, depth: u32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut all = Vec::new();
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if depth > 0 {
            all.extend(walk(&entry.path(), depth - 1));
        }
        all.push(entry.path());
    }
    all
}
