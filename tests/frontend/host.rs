//! An installation of mydocker in a directory of its own, with the image `busybox`, and the census that nothing is left of it.

use crate::common::{self, Said, eventually};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// The binary that `cargo test` built.
pub const MYDOCKER: &str = env!("CARGO_BIN_EXE_mydocker");

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The books' busybox tarball, made once.
pub fn tarball() -> &'static [u8] {
    static TAR: OnceLock<Vec<u8>> = OnceLock::new();
    TAR.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("mydocker-busybox-{}", std::process::id()));
        common::make_rootfs(&dir);
        let output = Command::new("tar").arg("-C").arg(&dir).args(["-c", "."]).output().unwrap();
        assert!(output.status.success());
        fs::remove_dir_all(&dir).unwrap();
        output.stdout
    })
}

/// An installation; all of it goes when it is dropped.
pub struct Host {
    pub dir: PathBuf,
    root: PathBuf,
    seen: Mutex<BTreeSet<String>>,
}

impl Host {
    pub fn new() -> Self {
        Self::at("root")
    }

    /// With the root directory of this name.
    pub fn at(name: &str) -> Self {
        let host = Self::bare(name);
        host.import();
        host
    }

    /// The image `busybox`.
    pub fn import(&self) {
        self.fed(&["import", "-c", "CMD [\"sh\"]", "-", "busybox"], tarball()).ok();
    }

    /// Without an image.
    pub fn bare(name: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mydocker-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self { root: dir.join(name), dir, seen: Mutex::default() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A command of mydocker's; nothing to read, unless the caller says otherwise.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(MYDOCKER);
        command.arg("--root").arg(&self.root).args(args).stdin(Stdio::null()).current_dir(&self.dir);
        command.env("DOCKER_CONFIG", self.dir.join("docker"));
        command
    }

    pub fn my(&self, args: &[&str]) -> Said {
        Said::of(self.command(args).output().unwrap())
    }

    /// What it says where it is to go well, without the last newline.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.my(args).ok().trim_end().to_owned()
    }

    /// With something to read.
    pub fn fed(&self, args: &[&str], input: &[u8]) -> Said {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || drop(pipe.write_all(input))); // who refuses it reads no more
            Said::of(child.wait_with_output().unwrap())
        })
    }

    /// Standard output as it is.
    #[track_caller]
    pub fn bytes(&self, args: &[&str]) -> Vec<u8> {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// `run --network none FLAGS...`: networks have tests of their own.
    pub fn run(&self, args: &[&str]) -> Said {
        self.my(&[&["run", "--network", "none"], args].concat())
    }

    /// The same, under way.
    pub fn spawn(&self, args: &[&str]) -> Child {
        let mut command = self.command(&[&["run", "--network", "none"], args].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// `run --rm busybox sh -c LINE` with flags; its stdout.
    #[track_caller]
    pub fn sh(&self, flags: &[&str], line: &str) -> String {
        self.run(&[&["--rm"], flags, &["busybox", "sh", "-c", line]].concat()).ok()
    }

    /// `run -d` with flags and words; its id.
    #[track_caller]
    pub fn detached(&self, args: &[&str]) -> String {
        let id = self.run(&[&["-d"], args].concat()).ok().trim().to_owned();
        assert_eq!(id.len(), 64, "{id}");
        self.seen.lock().unwrap().insert(id.clone());
        id
    }

    /// A container in the background that does nothing; its id.
    #[track_caller]
    pub fn idle(&self, name: &str, flags: &[&str]) -> String {
        self.detached(&[&["--name", name], flags, &["busybox", "sleep", "10000"]].concat())
    }

    /// The same, after `line` was done in it.
    #[track_caller]
    pub fn running(&self, name: &str, flags: &[&str], line: &str) {
        self.idle(name, flags);
        self.exec(name, line);
    }

    /// `exec CONTAINER sh -c LINE`; its stdout.
    #[track_caller]
    pub fn exec(&self, container: &str, line: &str) -> String {
        self.my(&["exec", container, "sh", "-c", line]).ok()
    }

    /// `inspect -f`.
    #[track_caller]
    pub fn inspect(&self, container: &str, format: &str) -> String {
        self.my(&["inspect", "-f", format, container]).ok().trim().to_owned()
    }

    pub fn status(&self, container: &str) -> String {
        self.inspect(container, "{{.State.Status}}")
    }

    #[track_caller]
    pub fn until(&self, container: &str, status: &str) {
        eventually(&format!("{container} is {status}"), || self.status(container) == status);
    }

    /// The pid of a container's first process, or of its monitor.
    pub fn pid(&self, container: &str) -> i32 {
        self.inspect(container, "{{.State.Pid}}").parse().unwrap()
    }

    pub fn container(&self, container: &str) -> PathBuf {
        self.root.join("containers").join(self.inspect(container, "{{.Id}}"))
    }

    /// The monitor's pid, out of the state file.
    pub fn monitor(&self, container: &str) -> i32 {
        let text = fs::read(self.container(container).join("state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&text).unwrap();
        state["monitor"]["pid"].as_i64().unwrap().try_into().unwrap()
    }

    /// The actions of a container's events so far.
    pub fn actions(&self, container: &str) -> Vec<String> {
        let filter = format!("container={container}");
        let text = self.ok(&["events", "--since", "1h", "--until", "0s", "--filter", &filter, "--format", "{{.Action}}"]);
        text.lines().map(str::to_owned).collect()
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Names in a directory, sorted.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let list = fs::read_dir(self.dir.join(dir)).unwrap();
        let mut names: Vec<String> = list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Blobs and layers in the store, to see that nothing is left of what was refused.
    pub fn store(&self) -> Vec<String> {
        let of = |dir: &str| if self.dir.join(dir).exists() { self.names(dir) } else { Vec::new() };
        [of("root/images/blobs/sha256"), of("root/images/ingest"), of("root/layers")].concat()
    }

    /// The ids of all containers, also those that only half are.
    fn ids(&self) -> BTreeSet<String> {
        let list = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
        let names = list(self.root.join("containers")).chain(list(self.root.join("run/containers")));
        names.map(|entry| entry.file_name().to_string_lossy().trim_start_matches('.').to_owned()).collect()
    }

    /// What is left on the machine, but for what is in the root directory.
    pub fn remains(&self) -> BTreeSet<String> {
        let mut seen = self.seen.lock().unwrap();
        seen.extend(self.ids());
        let named = |text: &str| common::carries(text, &self.dir.to_string_lossy()) || seen.iter().any(|id| text.contains(id.as_str()));
        let mut found = BTreeSet::new();
        for controller in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            for parent in [controller.path().join("mydocker"), "/sys/fs/cgroup/mydocker".into()] {
                let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
                found.extend(entries.filter(|path| named(&path.to_string_lossy())).map(|path| format!("cgroup {}", path.display())));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        found.extend(mounts.lines().filter(|line| named(line)).map(|line| format!("mount {line}")));
        found.extend(common::processes(&|text| named(text)));
        found
    }

    /// No container is listed, and nothing of any that was is left: no process, mount, cgroup, pin or directory.
    #[track_caller]
    pub fn nothing_left(&self) {
        assert_eq!(self.my(&["ps", "-aq"]).ok(), "");
        let pins = || fs::read_dir(self.root.join("run/netns")).map_or(0, Iterator::count);
        let left = || (self.remains(), self.ids(), fs::read_dir(self.root.join("names")).map_or(0, Iterator::count), pins());
        for _ in 0..500 {
            if left() == Default::default() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(left(), Default::default(), "left: processes and mounts, containers, names, pins");
    }

    /// The same, but for a front-end that still runs, and its monitor.
    #[track_caller]
    pub fn nothing_left_but(&self, run: &Child) {
        assert!(self.remains().iter().all(|left| left.starts_with(&format!("process {} ", run.id())) || left.contains(" monitor ")));
    }

    /// Removes all containers by force, then nothing is left.
    #[track_caller]
    pub fn clear(&self) {
        self.seen.lock().unwrap().extend(self.ids());
        let all = self.my(&["ps", "-aq", "--no-trunc"]).ok();
        let ids: Vec<&str> = all.lines().collect();
        if !ids.is_empty() {
            self.my(&[&["rm", "-f", "-v"], &ids[..]].concat()).ok();
        }
        self.nothing_left();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let all = self.my(&["ps", "-aq", "--no-trunc"]).out;
        let ids: Vec<&str> = all.lines().collect();
        if !ids.is_empty() {
            let _ = self.my(&[&["rm", "-f", "-v"], &ids[..]].concat());
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Whether limits of this controller can be set here; not every machine has cpuset.
pub fn has_controller(name: &str) -> bool {
    match fs::read_to_string("/sys/fs/cgroup/cgroup.controllers") {
        Ok(present) => present.split_whitespace().any(|present| present == name),
        Err(_) => Path::new("/sys/fs/cgroup").join(name).exists(),
    }
}

/// Sends a signal to a process of ours.
pub fn kill(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// Kills a process of ours and waits for its end. A zombie is gone too: whoever adopted it reaps it when he likes.
pub fn end(pid: i32) {
    kill(pid, rustix::process::Signal::KILL);
    let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    eventually("the end of a killed process", || stat().rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z')));
}

/// Members of an archive as `tar tv` names them, sorted.
pub fn members(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let all = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned());
    let mut all: Vec<String> = all.collect();
    all.sort();
    all
}
