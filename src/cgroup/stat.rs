//! Reading counters.

use super::file::{get, number, open_dir};
use super::{Cgroup, Version};
use crate::sys::{Context, Result};
use rustix::io::Errno;

impl Cgroup {
    /// How many of the container's processes the OOM killer has killed; 0 without a memory controller.
    pub fn oom_kill_count(&self) -> Result<u64> {
        let Some(path) = self.dir("memory") else { return Ok(0) };
        let file = if self.version == Version::V1 { "memory.oom_control" } else { "memory.events" };
        match open_dir(&path).and_then(|dir| get(dir, file)) {
            Ok(text) => Ok(number(&text, "oom_kill").unwrap_or(0)),
            Err(Errno::NOENT | Errno::NODEV) => Ok(0),
            Err(errno) => Err(errno).context(|| format!("read {path}/{file}")),
        }
    }
}
