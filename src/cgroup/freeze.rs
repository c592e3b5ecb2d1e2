//! Stopping all processes of the container and letting them go on: the v1 freezer, or `cgroup.freeze`.

use super::file::{get, number, open_dir, put};
use super::kill::children;
use super::{Cgroup, Tree};
use crate::sys::{Context, Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, pread};
use std::time::{Duration, Instant};

/// How long a process may stay in the kernel (a dead NFS server, say) before pausing is given up, as in runc.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for a key of `cgroup.events` to get a value; the kernel wakes poll(2) at each change of that file.
/// `Ok(false)` if the time is over.
pub(super) fn wait_event(dir: &OwnedFd, key: &str, value: u64, deadline: Instant) -> rustix::io::Result<bool> {
    let file = openat(dir, "cgroup.events", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    loop {
        let mut buffer = [0; 256];
        let count = pread(&file, &mut buffer, 0)?;
        if number(&String::from_utf8_lossy(&buffer[..count]), key) == Some(value) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut fds = [PollFd::new(&file, PollFlags::PRI)];
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

pub(super) fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() }
}

/// A tree that can freeze, and its directory.
enum Freezer {
    V1(OwnedFd),
    V2(OwnedFd),
}

impl Cgroup {
    fn freezer(&self) -> Result<Freezer> {
        let open = |tree: &Tree| open_dir(&tree.dir()).context(|| format!("open the cgroup {}", tree.dir()));
        if let Some(tree) = self.trees.iter().find(|tree| tree.has("freezer")) {
            return open(tree).map(Freezer::V1);
        }
        match self.unified() {
            Some(tree) => open(tree).map(Freezer::V2),
            None => Err(Error::new("cannot freeze: the container has no cgroup with a freezer")),
        }
    }

    /// Stops every process of the container and returns when they have stopped. On failure none is left stopped.
    pub fn freeze(&self) -> Result<()> {
        match self.freezer()? {
            Freezer::V1(dir) => freeze_v1(&dir).inspect_err(|_| {
                let _ = put(&dir, "freezer.state", "THAWED");
            }),
            Freezer::V2(dir) => {
                put(&dir, "cgroup.freeze", "1").context(|| "write 1 to cgroup.freeze")?;
                match wait_event(&dir, "frozen", 1, Instant::now() + PATIENCE) {
                    Ok(true) => Ok(()),
                    other => {
                        let _ = put(&dir, "cgroup.freeze", "0");
                        other.context(|| "wait for the container to freeze")?;
                        Err(Error::new("unable to freeze: a process of the container does not leave the kernel"))
                    }
                }
            }
        }
    }

    /// Lets the processes go on.
    pub fn thaw(&self) -> Result<()> {
        match self.freezer()? {
            Freezer::V1(dir) => put(&dir, "freezer.state", "THAWED").context(|| "write THAWED to freezer.state"),
            Freezer::V2(dir) => put(&dir, "cgroup.freeze", "0").context(|| "write 0 to cgroup.freeze"),
        }
    }

    /// Thaws what the container itself has frozen below its cgroup, as it can where it may write to v1's freezer: a process
    /// that is held there does not even take SIGKILL. v2's freezer lets it.
    pub fn release(&self) -> Result<()> {
        let Some(tree) = self.trees.iter().find(|tree| tree.has("freezer")) else { return Ok(()) };
        match open_dir(&tree.dir()).and_then(|dir| release(&dir)) {
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
            Err(errno) => Err(Error::new(format!("thaw the cgroups below {}", tree.dir())).errno(errno)),
        }
    }

    /// Whether a container's place, as its record has it, is in the freezer of cgroup v1. The text tells without being parsed:
    /// paths begin with a slash, so the word alone is a controller.
    pub fn has_v1_freezer(text: &str) -> bool {
        text.contains("\"freezer\"")
    }

    /// Whether the container is paused: it itself, not an ancestor. A container without a freezer never is.
    pub fn is_frozen(&self) -> Result<bool> {
        let v1 = self.trees.iter().find(|tree| tree.has("freezer")).map(|tree| (tree, "freezer.self_freezing"));
        let v2 = || self.unified().map(|tree| (tree, "cgroup.freeze"));
        let Some((tree, name)) = v1.or_else(v2) else { return Ok(false) };
        let file = format!("{}/{name}", tree.dir());
        // By its whole path, as `list` asks this of each container.
        match get(CWD, &file) {
            Ok(text) => Ok(text.trim() == "1"),
            // The cgroup is being removed.
            Err(Errno::NODEV | Errno::NOENT) => Ok(false),
            Err(errno) => Err(Error::new(format!("read {file}")).errno(errno)),
        }
    }
}

fn release(dir: &OwnedFd) -> rustix::io::Result<()> {
    for (_, child) in children(dir)? {
        put(&child, "freezer.state", "THAWED")?;
        release(&child)?;
    }
    Ok(())
}

/// The v1 freezer tells nobody when it is done, and loses against processes that are forked meanwhile until it is
/// told again (kernel commit ef9fe980c6fc). Reading its state is what makes it look; so it is told and asked again,
/// with pauses that grow, and let go now and then so that a fork may finish.
fn freeze_v1(dir: &OwnedFd) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for round in 0u32.. {
        put(dir, "freezer.state", "FROZEN").context(|| "write FROZEN to freezer.state")?;
        match get(dir, "freezer.state").context(|| "read freezer.state")?.trim() {
            "FROZEN" => return Ok(()),
            "FREEZING" if Instant::now() < deadline => {}
            state => return Err(Error::new(format!("unable to freeze: freezer.state stays {state}"))),
        }
        if round % 50 == 49 {
            put(dir, "freezer.state", "THAWED").context(|| "write THAWED to freezer.state")?;
        }
        let _ = poll(&mut [], Some(&timespec(Duration::from_micros(u64::from(round.min(100)) * 100))));
    }
    unreachable!("the deadline ends the loop")
}
