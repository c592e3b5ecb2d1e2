//! Removing the container's cgroups with all that the container made below them.

use super::file::open_dir;
use super::freeze::{timespec, wait_event};
use super::kill::{children, pidfds};
use super::{Cgroup, Tree};
use crate::sys::{Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, CWD, unlinkat};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// How long processes that were killed may take to go away.
const PATIENCE: Duration = Duration::from_secs(5);

impl Cgroup {
    /// Removes every directory of the container; one that is gone already is no error. Waits, for a bounded time,
    /// for processes that are ending; all hierarchies are tried, the first failure is told. A scope is gone for systemd too.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let Some(unit) = &self.unit else { return self.remove_directories(deadline) };
        self.remove_directories(deadline)?;
        unit.stop()?;
        // systemd makes the directory of a scope anew where it gives the neighbours in a slice other controllers meanwhile.
        self.remove_directories(deadline)
    }

    fn remove_directories(&self, deadline: Instant) -> Result<()> {
        let mut result = Ok(());
        // cgroup2 first: it can be waited for without looking for processes.
        let (unified, others): (Vec<&Tree>, Vec<&Tree>) = self.trees.iter().partition(|tree| tree.is_unified());
        for tree in unified.into_iter().chain(others) {
            let removed = remove(tree, deadline).map_err(|errno| {
                let error = Error::new(format!("remove the cgroup {}", tree.dir())).errno(errno);
                if errno == Errno::BUSY { error.hint("processes are still in it") } else { error }
            });
            result = result.and(removed);
        }
        result
    }
}

fn remove(tree: &Tree, deadline: Instant) -> rustix::io::Result<()> {
    let path = tree.dir();
    let rmdir = || match unlinkat(CWD, &path, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        // A read-only mount says this even of a directory that does not exist.
        Err(Errno::ROFS) if open_dir(&path).err() == Some(Errno::NOENT) => Ok(()),
        result => result,
    };
    let mut pause = Duration::from_micros(50);
    loop {
        match rmdir() {
            Err(Errno::BUSY) => {}
            result => return result,
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::BUSY);
        }
        let waited = match open_dir(&path) {
            Ok(dir) if tree.is_unified() => wait_event(&dir, "populated", 0, deadline).map(drop),
            Ok(_) => wait_processes(&path, left, &mut pause),
            Err(errno) => Err(errno),
        };
        match waited {
            Ok(()) => {}
            Err(Errno::NOENT | Errno::NODEV) => return Ok(()), // somebody else removed it
            Err(errno) => return Err(errno),
        }
        match open_dir(&path).and_then(|dir| remove_below(&dir)) {
            Ok(()) | Err(Errno::BUSY | Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// v1 has no event for "empty": waits for every process found. One that nobody is listed in can be busy still for the
/// moment between a process's end and its leaving; only that moment is slept over, in growing steps.
fn wait_processes(path: &str, left: Duration, pause: &mut Duration) -> rustix::io::Result<()> {
    let held = pidfds(path)?;
    for pidfd in &held {
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    if held.is_empty() {
        let _ = poll(&mut [], Some(&timespec((*pause).min(left))));
        *pause = (*pause * 2).min(Duration::from_millis(10));
    }
    Ok(())
}

/// Sub-cgroups, innermost first.
fn remove_below(dir: impl AsFd) -> rustix::io::Result<()> {
    for (name, child) in children(dir.as_fd())? {
        remove_below(&child)?;
        match unlinkat(dir.as_fd(), &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
