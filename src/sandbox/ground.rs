//! The container's root while it is being built, and the file systems that were just made in it.
//!
//! Allocates nothing: runs between clone and exec.

use super::path;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Result;
use std::ffi::CStr;

/// How many new file systems are remembered: /dev, /run, the tmpfs of v1 cgroups, and some of the user's.
const FRESH: usize = 8;

/// Below this number a descriptor that is not needed any more is left to `CloseFds`, which closes all at once.
const LEFT_OPEN: i32 = 200;

/// Spares a close(2).
pub fn leave_open(fd: OwnedFd) {
    if fd.as_raw_fd() < LEFT_OPEN {
        std::mem::forget(fd);
    }
}

/// The root, and new tmpfs mounts by their path from it.
///
/// Nobody but this process can reach a tmpfs that it has just made, so that names directly in one need no walk from the
/// root: what is made and mounted there is addressed from the mount's own descriptor.
pub struct Ground<'p> {
    root: OwnedFd,
    fresh: [Option<(&'p CStr, OwnedFd)>; FRESH],
}

impl<'p> Ground<'p> {
    /// With the attached root file system.
    pub fn new(root: OwnedFd) -> Self {
        Self { root, fresh: [const { None }; FRESH] }
    }

    /// The root.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Something was mounted at `path`: what was remembered there and below is covered. A new tmpfs is remembered.
    pub fn covered(&mut self, path: &'p CStr, tmpfs: Option<OwnedFd>) {
        let below = |known: &CStr| {
            let (known, path) = (known.to_bytes(), path.to_bytes());
            path == b"." || known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        for slot in &mut self.fresh {
            if slot.as_ref().is_some_and(|(known, _)| below(known)) {
                *slot = None;
            }
        }
        if let (Some(mount), Some(free)) = (tmpfs, self.fresh.iter_mut().find(|slot| slot.is_none())) {
            *free = Some((path, mount));
        }
    }

    /// The new tmpfs that `path` is directly in, and its name there.
    pub fn fresh(&self, path: &'p CStr) -> Option<(BorrowedFd<'_>, &'p CStr)> {
        let (directory, name) = path::split(path);
        let known = |slot: &&Option<(&CStr, OwnedFd)>| slot.as_ref().is_some_and(|(known, _)| known.to_bytes() == directory);
        let (_, mount) = self.fresh.iter().find(known)?.as_ref()?;
        Some((mount.as_fd(), name))
    }

    /// Runs `act` with the directory that `path` is in, made if missing, and the last component.
    pub fn parent<T>(&self, path: &'p CStr, act: impl FnOnce(BorrowedFd<'_>, &CStr) -> Result<T>) -> Result<T> {
        if let Some((mount, name)) = self.fresh(path) {
            return act(mount, name);
        }
        let (directory, name) = path::parent(self.root(), path)?;
        let result = act(directory.as_fd(), name);
        leave_open(directory);
        result
    }
}
