//! `mounts`, `root`, `linux.devices` and what they look like from inside: /proc/self/mountinfo and stat(1).

#[path = "../common/mod.rs"]
mod common;

mod binds;
mod devices;
mod idmap;
mod kinds;
mod root;
mod shared;

use common::Bundle;
use serde_json::{Value, json};

/// One line of mountinfo, proc_pid_mountinfo(5).
#[derive(Debug)]
pub struct Mount {
    /// What of the file system is mounted.
    pub root: String,
    /// Of this mount.
    pub options: Vec<String>,
    /// `shared:N`, `master:N`, `unbindable`; empty for private.
    pub tags: String,
    /// File system type.
    pub kind: String,
    /// Options of the file system.
    pub superblock: Vec<String>,
}

impl Mount {
    /// Asserts that it has all these options.
    #[track_caller]
    pub fn has(&self, options: &[&str]) {
        for option in options {
            assert!(self.options.iter().any(|o| o == option), "{option} is missing: {self:?}");
        }
    }
}

/// The last mount at `at`.
#[track_caller]
pub fn find(mountinfo: &str, at: &str) -> Mount {
    let line = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some(at));
    let line = line.unwrap_or_else(|| panic!("nothing is mounted at {at}:\n{mountinfo}"));
    let (left, right) = line.split_once(" - ").unwrap();
    let (left, right): (Vec<&str>, Vec<&str>) = (left.split(' ').collect(), right.split(' ').collect());
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    Mount { root: left[3].into(), options: list(left[5]), tags: left[6..].join(" "), kind: right[0].into(), superblock: list(right[2]) }
}

/// Adds a mount to the configuration.
pub fn add(config: &mut Value, destination: &str, kind: &str, source: &str, options: &[&str]) {
    let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
    config["mounts"].as_array_mut().unwrap().push(mount);
}

/// A container that prints its mountinfo.
pub fn mountinfo() -> Bundle {
    Bundle::new(&["cat", "/proc/self/mountinfo"])
}
