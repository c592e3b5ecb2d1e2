//! The way into a root that cannot be pivoted (an initramfs): it is moved over /, and the process
//! changes its root to it.
//!
//! pivot_root(2) leaves nothing of the host in the mount namespace. Here the mounts of the host
//! stay below, out of reach, but the kernel still counts them: whoever makes a user namespace in
//! the container may mount a procfs or sysfs if the mount namespace has one that nothing is mounted
//! over, wherever it is (`mount_too_revealing` in fs/namespace.c). With it he would have all that
//! the container's own masks and read-only paths withhold. So every mount of the host is detached,
//! and where the kernel does not let us, since root of a user namespace has inherited it, each
//! procfs and sysfs is covered. If that cannot be done either, the container is refused.
//!
//! This runs in the child, between clone and exec: it allocates nothing. The mounts are those of a
//! namespace of our own, which nobody else changes: it is private, or what propagates into it is
//! what we cut off first.

use super::{child, mount, path};
use crate::sys::{self, MountAttr, mount_setattr, mountinfo_id, ns};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat};
use rustix::io::{Errno, Result};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{PidfdFlags, fchdir, getpid, pidfd_open};
use std::ffi::CStr;

/// Moves the root over / and changes into it. EBUSY: a procfs or sysfs of the host would stay.
pub fn move_root(root: BorrowedFd<'_>) -> Result<()> {
    let process = child::open_host(c"/proc/self", OFlags::PATH | OFlags::DIRECTORY)?;
    let callers = mountinfo_id(child::open_host(c"/", OFlags::PATH)?)?;
    // A caller in a chroot sees a part of the mounts only. setns(2) into our own namespace makes
    // its root ours, mount_namespaces(7).
    sys::setns(pidfd_open(getpid(), PidfdFlags::empty())?, ns::MOUNT)?;
    let host = child::open_host(c"/", OFlags::PATH | OFlags::DIRECTORY)?;
    let mounts = Mounts { host: mountinfo_id(&host)?, root: mountinfo_id(root)?, process };
    if !mounts.shows(callers)? {
        return Err(Errno::BUSY);
    }
    mount::move_onto(root, host.as_fd())?;
    mount_setattr(&host, c"", false, &MountAttr::propagation(libc::MS_PRIVATE))?;
    while mounts.detach(&host)? {}
    if mounts.any(|line| mounts.hosts(line))? {
        mounts.cover(&host, root)?;
    }
    child::chroot(root)
}

/// The mounts of our namespace.
struct Mounts {
    /// The number in mountinfo of the mount that the host has at /.
    host: u64,
    /// That of the container's root.
    root: u64,
    /// /proc/self, by way of the host's procfs.
    process: OwnedFd,
}

impl Mounts {
    /// Whether a mount of the host's is directly on its /. Every other one is below one of these.
    fn hosts(&self, line: &Line) -> bool {
        line.parent == self.host && line.id != self.root
    }

    fn shows(&self, id: u64) -> Result<bool> {
        self.any(|line| line.id == id)
    }

    fn any(&self, holds: impl Fn(&Line) -> bool) -> Result<bool> {
        let mut any = false;
        self.each(|line| {
            any |= holds(line);
            Ok(())
        })?;
        Ok(any)
    }

    /// Detaches the host's mounts, each with all that is below it. One may cover the mount point of
    /// another, so that this is to be done until nothing more could be detached.
    fn detach(&self, host: &OwnedFd) -> Result<bool> {
        let mut any = false;
        self.each(|line| {
            if self.hosts(line) {
                fchdir(host)?;
                any |= rustix::mount::unmount(line.path()?, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok();
            }
            Ok(())
        })?;
        Ok(any)
    }

    /// Covers each procfs and sysfs that is not the container's with an empty file system. In a
    /// namespace that is copied for another user namespace nobody can take the cover off.
    fn cover(&self, host: &OwnedFd, root: BorrowedFd<'_>) -> Result<()> {
        self.each(|line| {
            if !line.reveals {
                return Ok(());
            }
            let at = |fd: Result<OwnedFd>| fd.ok().filter(|fd| mountinfo_id(fd) == Ok(line.id));
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Some(top) = at(openat(host, line.path()?, flags, Mode::empty())) {
                fchdir(top)?;
                let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                return rustix::mount::mount(c"tmpfs", c".", c"tmpfs", flags, c"mode=0,nr_inodes=1");
            }
            // Whether it is the container's own.
            match at(path::resolve(root, line.path()?, OFlags::empty(), ResolveFlags::empty())) {
                Some(_) => Ok(()),
                None => Err(Errno::BUSY),
            }
        })
    }

    /// Reads mountinfo (proc_pid_mountinfo(5)) line by line. Not inlined, because its buffers are large (see `mount_at`).
    #[inline(never)]
    fn each(&self, mut act: impl FnMut(&Line) -> Result<()>) -> Result<()> {
        let file = openat(&self.process, c"mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut line = Line::default();
        let mut bytes = [0; 4096];
        loop {
            let length = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut bytes))?;
            if length == 0 {
                return Ok(());
            }
            for byte in &bytes[..length] {
                if line.complete(*byte) {
                    act(&line)?;
                    line = Line::default();
                }
            }
        }
    }
}

/// A line of mountinfo, as far as it has been read. The path's escapes are undone.
struct Line {
    id: u64,
    parent: u64,
    path: [u8; path::PATH_MAX],
    length: usize,
    /// It is a procfs or a sysfs.
    reveals: bool,
    field: usize,
    /// The field of the file system's type, once the optional fields before it have ended.
    kind_field: Option<usize>,
    word: [u8; 8],
    word_length: usize,
    /// Digits that are missing of an escape, and its value so far.
    escape: (u8, u8),
}

impl Default for Line {
    fn default() -> Self {
        Self {
            id: 0,
            parent: 0,
            path: [0; path::PATH_MAX],
            length: 0,
            reveals: false,
            field: 0,
            kind_field: None,
            word: [0; 8],
            word_length: 0,
            escape: (0, 0),
        }
    }
}

impl Line {
    /// The mount point, relative to /.
    fn path(&self) -> Result<&CStr> {
        match CStr::from_bytes_until_nul(&self.path) {
            Ok(path) if path.is_empty() => Ok(c"."),
            Ok(path) if self.length < self.path.len() => Ok(path),
            _ => Err(Errno::NAMETOOLONG),
        }
    }

    /// Takes the next byte; whether the line ends with it.
    fn complete(&mut self, byte: u8) -> bool {
        match byte {
            b' ' | b'\n' => self.end_field(),
            _ => match self.field {
                0 => self.id = 10 * self.id + u64::from(byte & 15),
                1 => self.parent = 10 * self.parent + u64::from(byte & 15),
                4 => self.push(byte),
                _ => {
                    if let Some(place) = self.word.get_mut(self.word_length) {
                        *place = byte;
                    }
                    self.word_length += 1;
                }
            },
        }
        byte == b'\n'
    }

    fn end_field(&mut self) {
        let word = self.word.get(..self.word_length).unwrap_or_default();
        if self.kind_field == Some(self.field) {
            self.reveals = word == b"proc" || word == b"sysfs";
        } else if self.field > 5 && word == b"-" && self.kind_field.is_none() {
            self.kind_field = Some(self.field + 1);
        }
        (self.field, self.word_length) = (self.field + 1, 0);
    }

    /// Takes a byte of the mount point, whose first one is the slash of /. Blanks and backslashes
    /// come as three octal digits.
    fn push(&mut self, byte: u8) {
        let byte = match self.escape {
            (0, _) if byte == b'\\' => {
                self.escape = (3, 0);
                return;
            }
            (0, _) => byte,
            (missing, value) => {
                self.escape = (missing - 1, value << 3 | byte & 7);
                if missing > 1 {
                    return;
                }
                self.escape.1
            }
        };
        if self.length == 0 && byte == b'/' {
            return;
        }
        if let Some(place) = self.path.get_mut(self.length) {
            *place = byte;
        }
        self.length += 1;
    }
}
