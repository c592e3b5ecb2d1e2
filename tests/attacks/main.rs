//! Attacks that other runtimes have suffered, run against this keel with containers of our own in directories of our
//! own: one file a family of docs/security.md, the CVE in its name. `Guard` compares what must not change.
//!
//! Where Debian's runc or crun is installed, `control` shows what it does with the same bundle; nothing is asserted of it.

#[path = "../common/mod.rs"]
mod common;

mod cve_2019_19921_fake_proc;
mod cve_2019_5736_own_binary;
mod cve_2021_30465_mount_race;
mod cve_2021_43784_id_maps;
mod cve_2022_29162_capabilities;
mod cve_2022_36109_groups;
mod cve_2024_21626_descriptors;
mod cve_2025_24965_helpers;
mod cve_2025_31133_masked_paths;
mod cve_2025_52565_console;
mod cve_2026_115521_read_only_root;
mod cve_2026_30892_users;
mod cve_2026_31431_af_alg;
mod cve_2026_41579_image_dev;
mod cve_2026_88265_stdio;
mod exec_into_stranger;
mod host_null_device;

use common::{Bundle, Census, KEEL, Said};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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

/// Prints what Debian's runtimes do with the bundle as it is: of a version they read, under another id, for at most 10 s.
pub fn control(bundle: &Bundle) {
    let dir = bundle.dir.join("control");
    let _ = fs::create_dir(&dir);
    let mut config = bundle.config.clone();
    config["ociVersion"] = json!("1.0.2");
    config["root"]["path"] = json!(bundle.rootfs());
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    for (name, options) in [("runc", &[][..]), ("crun", &["--cgroup-manager=disabled"][..])] {
        let id = format!("{}-{name}", bundle.id());
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "10", name]).args(options).arg("--root").arg(dir.join(name)).args(["run", &id]);
        let Ok(output) = command.stdin(Stdio::null()).current_dir(&dir).output() else { continue };
        let mut delete = Command::new(name);
        let _ = delete.args(options).arg("--root").arg(dir.join(name)).args(["delete", "--force", &id]).output();
        let said = said(output);
        println!("control: {name} ends with {}: {:?} {:?}", said.code, said.out, said.err);
    }
}
