//! Writing [`Limits`] into the container's control files.

use super::file::{get, open_dir, put};
use super::{Cgroup, Version};
use crate::plan::limits::{Limits, Missing, Write};
use crate::sys::{Context, Error, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// Does all of it in the given order, and what is refused (EINVAL) again as long as something else succeeded meanwhile.
pub(super) fn in_some_order<T>(mut items: Vec<T>, mut put: impl FnMut(&T) -> Result<()>) -> Result<()> {
    loop {
        let (before, mut refused, mut first) = (items.len(), Vec::new(), None);
        for item in items {
            match put(&item) {
                Err(error) if error.get_errno() == Some(Errno::INVAL) => {
                    first.get_or_insert(error);
                    refused.push(item);
                }
                done => done?,
            }
        }
        match first {
            None => return Ok(()),
            Some(error) if refused.len() == before => return Err(error),
            Some(_) => items = refused,
        }
    }
}

impl Cgroup {
    /// Writes all of them in order, those of each controller again where another had to come first: a period, a quota and
    /// a burst, memory and memory+swap are each checked against the others' present values.
    pub(super) fn set_limits(&self, limits: &Limits) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for group in limits.writes.chunk_by(|a, b| a.controller == b.controller) {
            let dir = self.dir_for(&group[0])?;
            in_some_order(group.iter().collect(), |write| self.set_one(&dir, write, &mut warnings))?;
        }
        Ok(warnings)
    }

    /// The directory of a controller's files, or who is to be asked why there is none.
    pub(super) fn dir_for(&self, write: &Write) -> Result<OwnedFd> {
        let what = || format!("set {} to {}", write.file, write.value);
        let Some(tree) = self.tree(&write.controller) else {
            let error = match (self.is_none(), self.version) {
                (true, _) => Error::new(format!("{}: the container has no cgroup of its own", what())),
                (_, Version::V1) => Error::new(format!("{}: controller {} is not mounted as cgroup v1", what(), write.controller)),
                (_, Version::V2) => Error::new(format!("{}: controller {} is not available", what(), write.controller)),
            };
            return Err(error.at(&write.at));
        };
        open_dir(&tree.dir()).context(|| format!("{}: open the cgroup {}", what(), tree.dir())).map_err(|error| error.at(&write.at))
    }

    fn set_one(&self, dir: &OwnedFd, write: &Write, warnings: &mut Vec<String>) -> Result<()> {
        let failed = |file: &str, value: &str, errno: Errno| self.failed(write, file, value, errno);
        match (put(dir, &write.file, &write.value), &write.missing) {
            (Ok(()), _) => Ok(()),
            (Err(Errno::NOENT), Missing::Skip) => Ok(()),
            (Err(Errno::NOENT), Missing::Warn(why)) => {
                warnings.push(format!("{} is ignored: {why}", write.at));
                Ok(())
            }
            (Err(Errno::NOENT), Missing::Instead { file, value }) => {
                put(dir, file, value).map_err(|errno| self.explain(dir, write, failed(file, value, errno), ""))
            }
            (Err(errno), Missing::Refuse(hint)) => Err(self.explain(dir, write, failed(&write.file, &write.value, errno), hint)),
            (Err(errno), _) => Err(self.explain(dir, write, failed(&write.file, &write.value, errno), "")),
        }
    }

    pub(super) fn failed(&self, write: &Write, file: &str, value: &str, errno: Errno) -> Error {
        let path = self.dir(&write.controller).unwrap_or_default();
        Error::new(format!("set {file} to {value} in {path}")).errno(errno).at(&write.at)
    }

    /// What the errno of a control file means: usually something else than its name says.
    pub(super) fn explain(&self, dir: &OwnedFd, write: &Write, error: Error, hint: &str) -> Error {
        let Some(errno) = error.get_errno() else { return error };
        let available = || get(dir, "cgroup.controllers").unwrap_or_default();
        let absent = matches!(errno, Errno::NOENT | Errno::ACCESS | Errno::PERM)
            && self.version == Version::V2
            && !write.controller.is_empty()
            && !available().split_whitespace().any(|name| name == write.controller);
        if absent {
            return error.hint(self.withheld(&write.controller));
        }
        match errno {
            Errno::NOENT if hint.is_empty() => error.hint("this kernel has no such control file"),
            Errno::NOENT => error.hint(hint),
            Errno::BUSY if write.controller == "memory" => match self.memory_in_use() {
                Some(bytes) => error.hint(format!("{bytes} bytes are in use and cannot be reclaimed")),
                None => error,
            },
            Errno::INVAL if write.file == "memory.limit_in_bytes" && exceeds(dir, write, "memory.memsw.limit_in_bytes") => {
                error.hint("the limit of memory and swap together (memory.swap, --memory-swap) is lower and has to be raised too")
            }
            Errno::INVAL => error.hint("the kernel does not take this value here; an ancestor's limit may be lower"),
            _ => error,
        }
    }

    /// Why a cgroup of v2 does not have a controller: which of those above it does not pass it on.
    fn withheld(&self, controller: &str) -> String {
        let tree = self.unified().or(self.trees.first());
        let (mount, path) = tree.map_or(("", ""), |tree| (tree.mount.as_str(), tree.path.as_str()));
        let lists = |dir: &str, file: &str| {
            open_dir(dir).and_then(|dir| get(dir, file)).is_ok_and(|text| text.split_whitespace().any(|name| name == controller))
        };
        if open_dir(&format!("{mount}{path}")).and_then(|dir| get(dir, "cgroup.type")).is_ok_and(|kind| kind.trim() == "threaded") {
            return format!(
                "controller {controller} is not available in {mount}{path}, which is threaded, as is what is above it (cgroups(7))"
            );
        }
        if !lists(mount, "cgroup.controllers") {
            return format!("controller {controller} is not among those that cgroup v2 has on this host");
        }
        let mut above = path.match_indices('/').map(|(end, _)| format!("{mount}{}", &path[..end]));
        match above.find(|dir| !lists(dir, "cgroup.subtree_control")) {
            Some(dir) => format!("controller {controller} is not delegated: {dir} does not have it in cgroup.subtree_control"),
            None => format!("controller {controller} is not available there"),
        }
    }

    /// `memory.checkBeforeUpdate`: a limit below what is in use would make the kernel kill (v2) instead of refuse.
    pub(super) fn check_usage(&self, limits: &Limits) -> Result<()> {
        match (limits.above_usage, self.memory_in_use()) {
            (Some(limit), Some(usage)) if limit <= usage => {
                let what = format!("rejecting memory limit {limit}: {usage} bytes are in use");
                Err(Error::new(what).at("linux.resources.memory.checkBeforeUpdate"))
            }
            _ => Ok(()),
        }
    }

    fn memory_in_use(&self) -> Option<u64> {
        let file = if self.version == Version::V1 { "memory.usage_in_bytes" } else { "memory.current" };
        get(open_dir(&self.dir("memory")?).ok()?, file).ok()?.trim().parse().ok()
    }
}

/// Whether a value that was refused is above another control file's.
fn exceeds(dir: &OwnedFd, write: &Write, file: &str) -> bool {
    let other = get(dir, file).ok().and_then(|text| text.trim().parse::<u64>().ok());
    write.value.parse::<u64>().is_ok_and(|value| other.is_some_and(|other| value > other))
}
