//! One open and one write or read for each control file, relative to the cgroup's directory.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Result, read, retry_on_intr, write};

/// A handle of a cgroup's directory, good for openat(2), `CLONE_INTO_CGROUP` and bpf(2).
pub(super) fn open_dir(path: &str) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// A sub-cgroup's directory, for listing it too.
pub(super) fn open_below(dir: impl AsFd, name: &std::ffi::CStr) -> Result<OwnedFd> {
    openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// A control file, for one or more writes.
pub(super) fn open_write(dir: impl AsFd, name: &str) -> Result<OwnedFd> {
    openat(dir, name, OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Sets a control file; the kernel takes a value whole or not at all.
pub(super) fn put(dir: impl AsFd, name: &str, value: &str) -> Result<()> {
    write_to(&open_write(dir, name)?, value)
}

/// Writes to an open control file.
///
/// The memory controller of v1 gives up with EINTR where a signal is pending, also one that nobody handles: the SIGCHLD
/// of a runtime that is traced.
pub(super) fn write_to(file: &OwnedFd, value: &str) -> Result<()> {
    retry_on_intr(|| write(file, value.as_bytes())).map(drop)
}

/// The contents of a control file.
pub(super) fn get(dir: impl AsFd, name: &str) -> Result<String> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = read(&file, &mut buffer)?;
        text.extend_from_slice(&buffer[..count]);
        // Less than a page is the end, except of a seq_file with long lines, which these do not have.
        if count < buffer.len() / 2 {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
    }
}

/// The number behind a key in a flat keyed file (`cgroup.events`, `memory.events`, `memory.oom_control`).
pub(super) fn number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}
