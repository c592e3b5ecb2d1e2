//! mydocker's commands on images and on what containers changed: the binary on real containers, each test with a root of its own.

#![cfg(feature = "mydocker")]

mod common;

#[path = "mydocker_images/archives.rs"]
mod archives;
#[path = "mydocker_images/changes.rs"]
mod changes;
#[path = "mydocker_images/copies.rs"]
mod copies;
#[path = "mydocker_images/lists.rs"]
mod lists;
#[path = "mydocker_images/registry.rs"]
mod registry;

use common::Said;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const MYDOCKER: &str = env!("CARGO_BIN_EXE_mydocker");

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// An installation in a directory of its own, which is also where its commands are run; all of it goes when it is dropped.
struct Host {
    dir: PathBuf,
}

/// The books' busybox tarball, made once.
fn tarball() -> &'static [u8] {
    static TAR: OnceLock<Vec<u8>> = OnceLock::new();
    TAR.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("mydocker-images-busybox-{}", std::process::id()));
        common::make_rootfs(&dir);
        let output = Command::new("tar").arg("-C").arg(&dir).args(["-c", "."]).output().unwrap();
        assert!(output.status.success());
        fs::remove_dir_all(&dir).unwrap();
        output.stdout
    })
}

impl Host {
    /// Without an image.
    fn bare() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mydocker-images-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self { dir }
    }

    /// With the image busybox.
    fn new() -> Self {
        let host = Self::bare();
        host.fed(&["import", "-c", "CMD [\"sh\"]", "-", "busybox"], tarball()).ok();
        host
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(MYDOCKER);
        command.arg("--root").arg(self.dir.join("root")).args(args).stdin(Stdio::null()).current_dir(&self.dir);
        command.env("DOCKER_CONFIG", self.dir.join("docker"));
        command
    }

    fn my(&self, args: &[&str]) -> Said {
        Said::of(self.command(args).output().unwrap())
    }

    /// With something to read.
    fn fed(&self, args: &[&str], input: &[u8]) -> Said {
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
    fn bytes(&self, args: &[&str]) -> Vec<u8> {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// `run --network none ARGS`.
    fn run(&self, args: &[&str]) -> Said {
        self.my(&[&["run", "--network", "none"], args].concat())
    }

    /// A container that runs until it is removed, after `line` was done in it.
    #[track_caller]
    fn running(&self, name: &str, flags: &[&str], line: &str) {
        self.run(&[&["-d", "--name", name], flags, &["busybox", "sleep", "10000"]].concat()).ok();
        self.exec(name, line);
    }

    /// `exec NAME sh -c LINE`; its stdout.
    #[track_caller]
    fn exec(&self, name: &str, line: &str) -> String {
        self.my(&["exec", name, "sh", "-c", line]).ok()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Names in a directory, sorted.
    fn names(&self, dir: &str) -> Vec<String> {
        let list = fs::read_dir(self.dir.join(dir)).unwrap();
        let mut names: Vec<String> = list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Blobs and layers in the store, to see that nothing is left of what was refused.
    fn store(&self) -> Vec<String> {
        let of = |dir: &str| if self.dir.join(dir).exists() { self.names(dir) } else { Vec::new() };
        [of("root/images/blobs/sha256"), of("root/images/ingest"), of("root/layers")].concat()
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

/// Members of an archive as `tar tv` names them, sorted.
fn members(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let all = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned());
    let mut all: Vec<String> = all.collect();
    all.sort();
    all
}
