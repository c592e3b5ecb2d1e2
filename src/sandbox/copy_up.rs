//! `tmpcopyup`: a new tmpfs starts with a copy of what the image has there.
//!
//! Allocates nothing: runs between clone and exec. The image is hostile: every step is by descriptor and follows no link.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Uid, chownat, fchmod, mkdirat, mknodat, openat, readlinkat_raw, statat, symlinkat,
};
use rustix::io::{Errno, Result};
use std::ffi::CStr;
use std::mem::MaybeUninit;

/// Deeper trees are refused: each level takes some of the stack.
const DEPTH_MAX: u32 = 64;

/// Copies the entries of directory `from` into directory `to`: contents, modes and owners.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    directory(from, to, DEPTH_MAX)
}

fn open(parent: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd> {
    openat(parent, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
}

fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<()> {
    let listing = open(from, c".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut space = [const { MaybeUninit::uninit() }; 4096];
    let mut entries = RawDir::new(&listing, &mut space);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let depth = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
            mkdirat(to, name, Mode::RWXU)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let made = open(to, name, flags)?;
            directory(open(from, name, flags)?.as_fd(), made.as_fd(), depth)?;
            own(to, name, &stat)?;
            fchmod(made, mode)
        }
        FileType::RegularFile => {
            let source = open(from, name, OFlags::RDONLY | OFlags::NONBLOCK)?;
            let made = open(to, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
            while rustix::fs::sendfile(&made, &source, None, 1 << 20)? > 0 {}
            own(to, name, &stat)?;
            fchmod(made, mode)
        }
        FileType::Symlink => {
            let mut space = [const { MaybeUninit::<u8>::uninit() }; 4096];
            let (target, _) = readlinkat_raw(from, name, &mut space[..])?;
            let mut text = [0; 4097];
            text[..target.len()].copy_from_slice(target);
            symlinkat(CStr::from_bytes_until_nul(&text).map_err(|_| Errno::INVAL)?, to, name)?;
            own(to, name, &stat)
        }
        kind => {
            mknodat(to, name, kind, mode, stat.st_rdev)?;
            own(to, name, &stat)
        }
    }
}

fn own(to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    chownat(to, name, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)), AtFlags::SYMLINK_NOFOLLOW)
}
