//! Attacks that other runtimes have suffered, run against this keel with containers of our own in directories of our
//! own: one file a family of docs/security.md, the CVE in its name. `Guard` compares what must not change.
//!
//! Where Debian's runc or crun is installed, `control` tries the same bundle on it and says whether it holds or falls: one that
//! falls shows that the test would notice. Which of them do changes with Debian's patches, so nothing is asserted of it; what was
//! seen is in docs/security.md.

#[path = "../common/mod.rs"]
mod common;

mod born_blind;
mod callers_signals;
mod closed_stdio;
mod cve_2019_19921_fake_proc;
mod cve_2019_5736_own_binary;
mod cve_2021_30465_mount_race;
mod cve_2021_43784_id_maps;
mod cve_2022_29162_capabilities;
mod cve_2022_36109_groups;
mod cve_2023_25809_rootless_cgroup;
mod cve_2024_21626_descriptors;
mod cve_2025_24965_helpers;
mod cve_2025_31133_masked_paths;
mod cve_2025_52565_console;
mod cve_2026_115521_read_only_root;
mod cve_2026_123876_wide_arguments;
mod cve_2026_30892_users;
mod cve_2026_31431_af_alg;
mod cve_2026_41579_image_dev;
mod cve_2026_88265_stdio;
mod exec_into_stranger;
mod frozen_by_itself;
mod host_files;
mod host_null_device;
mod no_pivot_procfs;
mod replaced_files;
mod session_keyring;
mod state_root;

use common::{Bundle, Census, IN_V2_VIEW, KEEL, Said};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Rounds of each family's races, shared by its tests. A debug build is too slow for all of them.
pub const ROUNDS: usize = if cfg!(debug_assertions) { 60 } else { 1000 };

/// Those of a race on a peer, which is there to show that it can be lost.
pub const CONTROL_ROUNDS: usize = ROUNDS / 50 + 1;

/// What an attack must not change: a directory on the host beside the bundle, the keel binary, the host's mounts.
pub struct Guard {
    /// The canary directory: `secret`, a file of mode 0600, and `dir` with a file `inside`.
    pub canary: PathBuf,
    before: Vec<String>,
    binary: Vec<u8>,
    census: Census,
}

impl Guard {
    /// Makes the canary and remembers what is.
    pub fn new(bundle: &Bundle) -> Self {
        let canary = bundle.dir.join("canary");
        fs::create_dir_all(canary.join("dir")).unwrap();
        fs::write(canary.join("secret"), "tweet\n").unwrap();
        fs::write(canary.join("dir/inside"), "tweet\n").unwrap();
        rustix::fs::chmod(canary.join("secret"), 0o600.into()).unwrap();
        Self { before: listing(&canary), canary, binary: fs::read(KEEL).unwrap(), census: Census::of(bundle) }
    }

    /// The file whose loss would be the host's.
    pub fn secret(&self) -> PathBuf {
        self.canary.join("secret")
    }

    /// Asserts that all is as before. Containers may still run: their mounts are not the host's.
    #[track_caller]
    pub fn unchanged(&self) {
        assert_eq!(listing(&self.canary), self.before, "the canary directory was changed");
        assert!(fs::read(KEEL).unwrap() == self.binary, "the keel binary was changed");
        let mounts: Vec<_> = self.census.found().into_iter().filter(|line| line.starts_with("mount ")).collect();
        assert_eq!(mounts, Vec::<String>::new(), "a mount reached the host");
    }

    /// As `unchanged`, and nothing of the container is left.
    #[track_caller]
    pub fn unchanged_and_empty(&self, bundle: &Bundle) {
        self.unchanged();
        self.census.nothing_left(bundle);
    }
}

/// One line for each entry below `dir`: path, mode, owner, device number and content. Access times are not compared.
fn listing(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
        lines.push(format!("{} {:o} {}:{} {} {content:?}", path.display(), meta.mode(), meta.uid(), meta.gid(), meta.rdev()));
        if meta.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}

/// What a command said that is not run by the harness.
pub fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default());
    Said { code, out: text(output.stdout), err: text(output.stderr) }
}

/// Removes the mounts at and below this destination from the configuration.
pub fn without_mount(config: &mut Value, destination: &str) {
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with(destination));
}

/// Appends a mount.
pub fn add_mount(config: &mut Value, kind: &str, source: &Path, destination: &str) {
    let options = if kind == "bind" { json!(["rbind"]) } else { json!([]) };
    let mount = json!({ "destination": destination, "type": kind, "source": source, "options": options });
    config["mounts"].as_array_mut().unwrap().push(mount);
}

/// Gives the program these capabilities beside those it has; inheritable and ambient stay empty.
pub fn add_caps(config: &mut Value, names: &[&str]) {
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set].as_array_mut().unwrap().extend(names.iter().map(|name| json!(name)));
    }
}

/// A keel command of the bundle behind `setpriv` and its options: a caller with groups, capabilities or another user.
pub fn as_caller(bundle: &Bundle, setpriv: &[&str], args: &[&str]) -> Said {
    let keel = bundle.command(args);
    let mut command = Command::new("setpriv");
    command.args(setpriv).arg(keel.get_program()).args(keel.get_args()).stdin(Stdio::null()).current_dir(&bundle.dir);
    said(command.output().expect("util-linux is installed"))
}

/// A runtime of Debian's, with a copy of a bundle in a version that it reads.
pub struct Peer {
    name: &'static str,
    options: &'static [&'static str],
    dir: PathBuf,
    id: String,
    /// Whether a command of it succeeded.
    worked: Cell<bool>,
}

impl Peer {
    /// Has it run another configuration from now on.
    pub fn configure(&self, config: &Value) {
        let mut config = config.clone();
        config["ociVersion"] = json!("1.0.2");
        config["root"]["path"] = json!(self.dir.with_file_name("rootfs"));
        fs::write(self.dir.join("config.json"), config.to_string()).unwrap();
    }

    /// A command, behind `setpriv` and its options if there are any.
    pub fn said(&self, setpriv: &[&str], args: &[&str]) -> Said {
        let mut command = self.within_limits();
        command.args(if setpriv.is_empty() { None } else { Some("setpriv") }).args(setpriv);
        command.arg(self.name).args(self.options).arg("--root").arg(self.dir.join(self.name));
        command.args(args.iter().map(|arg| if *arg == "ID" { &self.id } else { *arg }));
        command.stdin(Stdio::null()).current_dir(&self.dir);
        // A container that stays keeps its pipes open.
        let said = match args.contains(&"--detach") {
            true => {
                Said { code: command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code().unwrap_or(-1), ..Said::default() }
            }
            false => said(command.output().unwrap()),
        };
        self.worked.set(self.worked.get() || said.code == 0);
        said
    }

    /// At most 10 s, and cgroups that it knows: crun refuses the hybrid layout.
    fn within_limits(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "10"]).args(if self.name == "crun" { &IN_V2_VIEW[..] } else { &[] });
        command
    }

    /// `run`, with a terminal of its own.
    pub fn run_on_a_terminal(&self) -> Said {
        let root = self.dir.join(self.name);
        let line = format!("{} {} --root {} run {}", self.name, self.options.join(" "), root.display(), self.id);
        let mut command = self.within_limits();
        command.args(["script", "-qec", &line, "/dev/null"]);
        let said = said(command.stdin(Stdio::null()).current_dir(&self.dir).output().unwrap());
        self.worked.set(self.worked.get() || said.code == 0);
        said
    }

    fn executable(&self) -> Vec<u8> {
        let path = std::env::var("PATH").unwrap_or_default();
        let found = path.split(':').chain(["/usr/sbin"]).map(|dir| Path::new(dir).join(self.name)).find(|path| path.exists());
        fs::read(found.unwrap()).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.said(&[], &["delete", "--force", "ID"]);
    }
}

/// Tries an attack on each of them, and prints what came of it. It falls by what the guard watches, by its own binary, or as
/// `falls` says; it refuses if no command of it succeeded.
pub fn control_with(bundle: &Bundle, guard: &Guard, falls: impl Fn(&Peer) -> bool) {
    let dir = bundle.dir.join("control");
    let _ = fs::create_dir(&dir);
    for (name, options) in [("runc", &[][..]), ("crun", &["--cgroup-manager=disabled"][..])] {
        let Ok(version) = Command::new(name).arg("--version").output() else { continue };
        let peer = Peer { name, options, dir: dir.clone(), id: format!("{}-{name}", bundle.id()), worked: Cell::new(false) };
        peer.configure(&bundle.config);
        let (canary, executable) = (listing(&guard.canary), peer.executable());
        let fell = falls(&peer) || canary != listing(&guard.canary) || executable != peer.executable();
        let version = String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().replace(" version", "");
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let verdict = match (fell, peer.worked.get()) {
            (true, _) => "falls",
            (false, true) => "holds",
            (false, false) => "refuses",
        };
        println!("control: {test}: {version} {verdict}");
    }
}

/// The same for one `run` of the bundle as it is.
pub fn control(bundle: &Bundle, guard: &Guard, falls: impl Fn(&Said) -> bool) {
    control_with(bundle, guard, |peer| falls(&peer.said(&[], &["run", "ID"])));
}
