//! Who is in the container, and signals to all of them.

use super::file::{get, open_below, open_dir, put};
use super::{Cgroup, Tree};
use crate::sys::{Context, Error, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Opens each sub-cgroup of a directory. None is opened if the link count says that there are none.
pub(super) fn children(dir: impl AsFd) -> rustix::io::Result<Vec<(std::ffi::CString, OwnedFd)>> {
    let mut all = Vec::new();
    // kernfs counts sub-directories as links, so that the hundred files of a leaf need not be listed.
    if fstat(dir.as_fd())?.st_nlink <= 2 {
        return Ok(all);
    }
    let readable = openat(dir.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for entry in Dir::new(readable)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && !name.to_bytes().starts_with(b".") {
            match open_below(dir.as_fd(), name) {
                Ok(child) => all.push((name.to_owned(), child)),
                Err(Errno::NOENT) => {} // removed meanwhile
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(all)
}

/// All processes in a cgroup and below it. A process of a threaded cgroup is listed once for each thread there.
pub(super) fn list(dir: impl AsFd, pids: &mut Vec<i32>) -> rustix::io::Result<()> {
    let text = match get(dir.as_fd(), "cgroup.procs") {
        Err(Errno::OPNOTSUPP) => get(dir.as_fd(), "cgroup.threads"),
        // The cgroup has been removed: nobody is in it.
        Err(Errno::NODEV | Errno::NOENT) => return Ok(()),
        text => text,
    }?;
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    children(dir.as_fd())?.iter().try_for_each(|(_, child)| list(child, pids))
}

impl Cgroup {
    /// The tree that knows the container's processes best: the one that can freeze and so kill them.
    fn populace(&self) -> Option<&Tree> {
        let named = |name| self.trees.iter().find(move |tree| tree.has(name));
        named("freezer").or_else(|| self.unified()).or_else(|| named("devices")).or(self.trees.first())
    }

    /// The container's processes, those in sub-cgroups too. Nobody if it has no cgroup (any more).
    pub fn procs(&self) -> Result<Vec<i32>> {
        let Some(tree) = self.populace() else { return Ok(Vec::new()) };
        let path = tree.dir();
        let mut pids = Vec::new();
        match open_dir(&path) {
            Err(Errno::NOENT) => {}
            dir => dir.and_then(|dir| list(dir, &mut pids)).context(|| format!("list the processes of {path}"))?,
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Sends a signal to every process of the container, so that none that is being forked escapes it.
    ///
    /// A cgroup with nobody in it, or none at all, is no error. After SIGKILL the container is not frozen any more.
    pub fn kill_all(&self, signal: Signal) -> Result<()> {
        if signal == Signal::KILL {
            return self.kill_for_good();
        }
        if self.procs()?.is_empty() {
            return Ok(());
        }
        let was_frozen = self.is_frozen()?;
        let frozen = was_frozen || self.freeze().is_ok();
        let sent = self.signal_once(signal);
        if frozen && !was_frozen {
            self.thaw()?;
        }
        sent
    }

    /// `cgroup.kill` (Linux 5.14) where there is a cgroup2 directory: it reaches whoever is being forked. Otherwise by
    /// signals: frozen so that nobody forks meanwhile, or without a freezer until nobody new is found.
    fn kill_for_good(&self) -> Result<()> {
        if let Some(tree) = self.unified() {
            match open_dir(&tree.dir()).and_then(|dir| put(dir, "cgroup.kill", "1")) {
                // Who is held by the v1 freezer dies when it is let go; the one of v2 does not hold against this.
                Ok(()) if self.trees.len() == 1 => return Ok(()),
                Ok(()) => {
                    if self.is_frozen()? {
                        self.thaw()?;
                    }
                    return self.release();
                }
                Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP | Errno::ACCESS | Errno::PERM) => {}
                Err(errno) => return Err(Error::new(format!("write 1 to {}/cgroup.kill", tree.dir())).errno(errno)),
            }
        }
        for _ in 0..8 {
            if self.procs()?.is_empty() {
                return Ok(());
            }
            let frozen = self.freeze().is_ok();
            self.signal_once(Signal::KILL)?;
            if frozen {
                self.thaw()?;
                return self.release();
            }
        }
        Ok(())
    }

    /// To each process once. A pid is trusted only if it is still listed after a pidfd of it was opened: had it been
    /// reused in between, the pidfd would be that of the dead one.
    fn signal_once(&self, signal: Signal) -> Result<()> {
        let held: Vec<(i32, OwnedFd)> =
            self.procs()?.into_iter().filter_map(|pid| Some((pid, pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?))).collect();
        let still = self.procs()?;
        for (pid, pidfd) in held.iter().filter(|(pid, _)| still.binary_search(pid).is_ok()) {
            match pidfd_send_signal(pidfd, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(Error::new(format!("send signal {} to process {pid}", signal.as_raw())).errno(errno)),
            }
        }
        Ok(())
    }
}

/// Pidfds of everybody in a cgroup: each becomes readable when its process has ended.
pub(super) fn pidfds(path: &str) -> rustix::io::Result<Vec<OwnedFd>> {
    let mut pids = Vec::new();
    let dir = openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    list(dir, &mut pids)?;
    Ok(pids.into_iter().filter_map(|pid| pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()).collect())
}
