//! mount_setattr(2), which rustix lacks.

use rustix::fd::{AsFd, AsRawFd};
use rustix::io::{Errno, Result};
use std::ffi::CStr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// `struct mount_attr` of mount_setattr(2): what to set, what to clear, the propagation, a user namespace for idmaps.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttr {
    /// MOUNT_ATTR_* to set.
    pub attr_set: u64,
    /// MOUNT_ATTR_* to clear.
    pub attr_clr: u64,
    /// MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE or 0 to leave it.
    pub propagation: u64,
    /// Descriptor of a user namespace for MOUNT_ATTR_IDMAP.
    pub userns_fd: u64,
}

impl MountAttr {
    /// Only read-only.
    pub const RDONLY: Self = Self { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };

    /// Only the propagation type.
    pub const fn propagation(propagation: u64) -> Self {
        Self { attr_set: 0, attr_clr: 0, propagation, userns_fd: 0 }
    }

    /// Only the id map of a user namespace.
    pub fn id_map(namespace: impl AsFd) -> Self {
        Self { attr_set: libc::MOUNT_ATTR_IDMAP, userns_fd: namespace.as_fd().as_raw_fd() as u64, ..Self::default() }
    }

    /// Nothing to change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// mount_setattr(2) on `path` below `fd`, or on `fd` itself for the empty path; `recursive` is AT_RECURSIVE.
pub fn mount_setattr(fd: impl AsFd, path: &CStr, recursive: bool, attr: &MountAttr) -> Result<()> {
    let mut flags = if path.is_empty() { libc::AT_EMPTY_PATH } else { libc::AT_SYMLINK_NOFOLLOW };
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: `path` is NUL-terminated and `attr` is a mount_attr of the given size.
    let ret = unsafe { libc::syscall(libc::SYS_mount_setattr, fd, path.as_ptr(), flags, attr, size_of::<MountAttr>()) };
    if ret < 0 { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) } else { Ok(()) }
}

/// Which mount `fd` is on: a number that no other mount of this boot has had (`STATX_MNT_ID_UNIQUE`, Linux 6.8), before that the one of
/// mountinfo, which is given again.
pub fn mount_id(fd: impl AsFd) -> Result<u64> {
    const UNIQUE: u32 = 0x4000;
    mount_id_by(fd, libc::STATX_MNT_ID | UNIQUE)
}

/// The number that mountinfo shows of the mount that `fd` is on.
pub fn mountinfo_id(fd: impl AsFd) -> Result<u64> {
    mount_id_by(fd, libc::STATX_MNT_ID)
}

/// A path as proc_pid_mountinfo(5) writes it, in which white space and backslashes are three octal digits.
pub fn unescape_mount_path(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let (mut path, mut at) = (Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 4).filter(|_| byte == b'\\').and_then(|digits| str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 4 } else { 1 };
    }
    std::ffi::OsString::from_vec(path).into()
}

fn mount_id_by(fd: impl AsFd, mask: u32) -> Result<u64> {
    // SAFETY: all-zero is a valid statx.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the empty path with AT_EMPTY_PATH names the descriptor; `stat` is written to.
    let ret = unsafe { libc::syscall(libc::SYS_statx, fd.as_fd().as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, mask, &raw mut stat) };
    if ret < 0 { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) } else { Ok(stat.stx_mnt_id) }
}
