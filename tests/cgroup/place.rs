//! A cgroup of a test's own, processes in it, and the certainty that nothing of it stays.

use keel::cgroup::{Cgroup, Layout, Version};
use keel::plan::limits::{Limits, writes};
use keel::spec::Resources;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Every directory that tests make is called so.
fn prefix(name: &str) -> String {
    format!("keeltest-{}-{name}", std::process::id())
}

/// `sh -c`, which must succeed.
pub fn shell(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status().expect("sh");
    assert!(status.success(), "{script}: {status}");
}

/// Resources as `config.json` has them.
pub fn resources(value: Value) -> Resources {
    serde_json::from_value(value).expect("resources of the test")
}

/// The same as control files of this host.
pub fn limits(value: Value) -> Limits {
    writes(&resources(value), Layout::detect().expect("layout").version).expect("limits")
}

pub struct Place {
    pub cgroup: Cgroup,
    /// The outermost directories of this place, in each hierarchy.
    roots: Vec<String>,
    scratch: String,
}

impl Place {
    /// `/keeltest-PID-NAME` in every hierarchy.
    pub fn new(name: &str) -> Self {
        Self::at(name, format!("/{}", prefix(name)))
    }

    /// The same with a path below it.
    pub fn below(name: &str, path: &str) -> Self {
        Self::at(name, format!("/{}/{path}", prefix(name)))
    }

    fn at(name: &str, path: String) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        let layout = Layout::detect().expect("layout");
        let cgroup = Cgroup::locate(&layout, &path, "unused").expect("place");
        let roots = layout.hierarchies.iter().map(|h| format!("{}/{}", h.mount, prefix(name))).collect();
        // Device nodes have to work there: systemd mounts /tmp nodev.
        let scratch = std::env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), std::path::PathBuf::from);
        Self { cgroup, roots, scratch: scratch.join(prefix(name)).to_string_lossy().into_owned() }
    }

    pub fn create(&mut self) {
        self.cgroup.create(&Limits::default(), None, false).expect("create");
    }

    /// The contents of a control file.
    pub fn read(&self, controller: &str, file: &str) -> String {
        let path = format!("{}/{file}", self.cgroup.dir(controller).expect(controller));
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// A shell in the cgroup: it begins with the script when it is in.
    pub fn process(&self, script: &str) -> Process {
        let mut child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        let pid = child.id().to_string();
        let entry = self.cgroup.entry(&[]).expect("entry");
        for (i, tasks) in entry.tasks.iter().enumerate() {
            rustix::io::write(tasks, pid.as_bytes()).unwrap_or_else(|e| panic!("{i}: {e}"));
        }
        if entry.into.is_some() {
            let unified = self.cgroup.paths().find(|(name, _)| name.is_empty()).expect("unified").1;
            fs::write(format!("{unified}/cgroup.procs"), &pid).expect("cgroup.procs");
        }
        child.stdin.take().expect("stdin").write_all(b"go\n").expect("go");
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        Process { child, stdout }
    }

    /// Puts a process into a sub-cgroup that exists in every hierarchy, but for cpuset: there it has no CPUs yet.
    pub fn move_below(&self, sub: &str, pid: i32) {
        for (_, dir) in self.cgroup.paths().filter(|(name, _)| name != "cpuset") {
            fs::write(format!("{dir}/{sub}/cgroup.procs"), pid.to_string()).unwrap_or_else(|e| panic!("{dir}/{sub}: {e}"));
        }
    }

    /// Whether a process in the cgroup may do this: `r c 1:3`, `w b 7:0`, `rw ..`, or `m ..` for mknod.
    pub fn may(&self, request: &str) -> bool {
        let mut words = request.split(' ');
        let (access, kind, number) = (words.next().expect("access"), words.next().expect("type"), words.next().expect("number"));
        let (major, minor) = number.split_once(':').expect("number");
        let dir = &self.scratch;
        fs::create_dir_all(dir).expect("scratch directory");
        let node = format!("{dir}/{kind}-{major}-{minor}");
        let _ = fs::remove_file(&node);
        let mknod = format!("mknod {node} {kind} {major} {minor}");
        let action = match access {
            "m" => mknod.clone(),
            "r" => format!(": < {node}"),
            "w" => format!(": > {node}"),
            _ => format!(": <> {node}"),
        };
        if access != "m" {
            shell(&mknod);
        }
        let mut process = self.process(&format!("( {action} ) 2>&1; echo end"));
        let said = process.wait_for("end");
        process.reap();
        assert!(!said.contains("Permission denied"), "{dir} is mounted nodev, set TMPDIR: {said}");
        !said.contains("Operation not permitted")
    }

    /// Directories of this place that exist.
    pub fn leftovers(&self) -> Vec<String> {
        fn walk(dir: &str, all: &mut Vec<String>) {
            let Ok(entries) = fs::read_dir(dir) else { return };
            all.push(dir.to_string());
            for entry in entries.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
                walk(&entry.path().to_string_lossy(), all);
            }
        }
        let mut all = Vec::new();
        self.roots.iter().for_each(|root| walk(root, &mut all));
        all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.cgroup.kill_all(rustix::process::Signal::KILL);
        let removed = self.cgroup.remove();
        let mut left = self.leftovers();
        left.sort_by_key(|dir| std::cmp::Reverse(dir.len()));
        for dir in left {
            let _ = fs::remove_dir(dir);
        }
        let _ = fs::remove_dir_all(&self.scratch);
        if !std::thread::panicking() {
            removed.expect("remove");
        }
    }
}

pub struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pid")
    }

    /// Reads what it says until this line, and gives it back.
    pub fn wait_for(&mut self, line: &str) -> String {
        let mut said = String::new();
        while !said.lines().any(|have| have == line) {
            assert!(self.stdout.read_line(&mut said).expect("output") > 0, "it ended before {line}: {said}");
        }
        said
    }

    /// CPU time used so far, in clock ticks: utime and stime of proc_pid_stat(5).
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("stat");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("name").1.split_whitespace().collect();
        fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
    }

    pub fn reap(&mut self) {
        self.child.wait().expect("wait");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this process sees cgroup2 and nothing else. If not, the test runs again by itself in a process that does,
/// and must succeed there: in a cgroup of its own, whose root the view begins at, so that nothing is changed outside.
pub fn in_v2_view(test: &str) -> bool {
    if Layout::detect().expect("layout").version == Version::V2 {
        return true;
    }
    let cgroup = format!("/sys/fs/cgroup/unified/{}", prefix(test));
    fs::create_dir(&cgroup).expect("cgroup of the view");
    let enter = format!("echo $$ > {cgroup}/cgroup.procs; exec unshare --mount --cgroup --propagation private");
    let done = again(&enter, "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup;", test);
    fs::remove_dir(&cgroup).expect("remove the cgroup of the view");
    done.unwrap_or_else(|said| panic!("{said}"));
    false
}

/// The same for v1 without a companion of cgroup2, with a plain directory among the mounts, as podman 4.3 makes them.
/// On a host without v1 there is nothing to see, and the answer is no.
pub fn in_plain_v1_view(test: &str) -> bool {
    let layout = Layout::detect().expect("layout");
    if layout.version == Version::V2 || !layout.is_hybrid() {
        return layout.version == Version::V1;
    }
    let mut mounts = String::from("umount -R /sys/fs/cgroup; mount -t tmpfs tmpfs /sys/fs/cgroup; mkdir -p /sys/fs/cgroup/unified;");
    for hierarchy in layout.hierarchies.iter().filter(|h| !h.controllers.is_empty()) {
        let (names, dir) = (hierarchy.controllers.join(","), &hierarchy.mount);
        let option = if names.starts_with("name=") { format!("none,{names}") } else { names };
        mounts.push_str(&format!("mkdir {dir}; mount -t cgroup -o {option} cgroup {dir};"));
    }
    again("exec unshare --mount --propagation private", &mounts, test).unwrap_or_else(|said| panic!("{said}"));
    false
}

/// Whether this process is an unprivileged one. If not, the test runs again in one that is.
pub fn as_nobody(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    again("exec setpriv --reuid=65534 --regid=65534 --clear-groups", "", test).unwrap_or_else(|said| panic!("{said}"));
    false
}

/// Runs one test of this program below another: `enter` execs a command that runs `prepare` and it. What it said, if
/// it failed or was not run at all.
fn again(enter: &str, prepare: &str, test: &str) -> Result<(), String> {
    let me = std::env::current_exe().expect("test program");
    let script = format!("{enter} sh -ec '{prepare} exec \"$0\" --exact {test} --nocapture' {}", me.display());
    let out = Command::new("sh").args(["-ec", &script]).output().expect("sh");
    let said = String::from_utf8_lossy(&out.stdout);
    if out.status.success() && said.contains("1 passed") {
        return Ok(());
    }
    Err(format!("{test} in its view: {}\n{said}\n{}", out.status, String::from_utf8_lossy(&out.stderr)))
}
