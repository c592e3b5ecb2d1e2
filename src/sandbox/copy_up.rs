//! `tmpcopyup`: what a new tmpfs is going to cover is copied into it, as podman asks for /run, /tmp and `--tmpfs`.
//!
//! As in runc: directories, files, links and nodes with their mode and owner; no times, no extended attributes. What is mounted
//! below is not part of the directory and stays behind. The tree is the image's, and hostile: nothing is followed, only
//! directories and regular files are opened, and the depth is bounded.
//!
//! Allocates nothing: runs between clone and exec.

use super::ground::{Ground, leave_open};
use super::mount::PROC_SUPER_MAGIC;
use super::path::resolve;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, ResolveFlags, Stat, Uid, chmodat, chownat, fstat, fstatfs, mkdirat, mknodat, openat,
    openat2, readlinkat_raw, sendfile, statat, symlinkat,
};
use rustix::io::{Errno, Result};
use std::ffi::CStr;
use std::mem::MaybeUninit;

/// Directories in directories; each takes two descriptors and [`BUFFER`] bytes of stack.
const DEPTH: u32 = 64;
/// For getdents64(2), and for the target of a link (PATH_MAX).
const BUFFER: usize = 4096;
/// Bytes a sendfile(2).
const CHUNK: usize = 1 << 24;

/// Copies what is at `path` below the root into the detached `tmpfs`. What is not there is nothing to copy.
pub fn copy_up(ground: &Ground<'_>, path: &CStr, tmpfs: BorrowedFd<'_>) -> Result<()> {
    let covered = match resolve(ground.root(), path, OFlags::DIRECTORY, ResolveFlags::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        found => found?,
    };
    // Mounting there will be refused; a file of /proc must not even be read.
    if fstatfs(&covered)?.f_type == PROC_SUPER_MAGIC {
        return Ok(());
    }
    let from = openat(&covered, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    leave_open(covered);
    directory(from, tmpfs, DEPTH)
}

/// The same for a whole root, `from` before it was covered: its mode and owner too.
pub fn copy(from: OwnedFd, root: BorrowedFd<'_>) -> Result<()> {
    let stat = fstat(&from)?;
    directory(from, root, DEPTH)?;
    attributes(root, c".", FileType::Directory, &stat)
}

fn directory(from: OwnedFd, to: BorrowedFd<'_>, depth: u32) -> Result<()> {
    if depth == 0 {
        return Err(Errno::NAMETOOLONG);
    }
    let mut space = [const { MaybeUninit::<u8>::uninit() }; BUFFER];
    let mut entries = RawDir::new(from.as_fd(), &mut space);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            one(from.as_fd(), to, entry.file_name(), depth)?;
        }
    }
    Ok(())
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    match kind {
        FileType::Directory => {
            let Some(inside) = open(from, name, OFlags::DIRECTORY)? else { return Ok(()) };
            mkdirat(to, name, Mode::RWXU)?;
            let made = openat(to, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            directory(inside, made.as_fd(), depth - 1)?;
        }
        FileType::RegularFile => {
            let Some(file) = open(from, name, OFlags::NONBLOCK)? else { return Ok(()) };
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            content(&file, &openat(to, name, flags, Mode::RUSR | Mode::WUSR)?)?;
        }
        FileType::Symlink => {
            let mut space = [const { MaybeUninit::<u8>::uninit() }; BUFFER];
            let (target, rest) = readlinkat_raw(from, name, &mut space[..BUFFER - 1])?;
            if rest.is_empty() {
                return Err(Errno::NAMETOOLONG);
            }
            let mut text = [0; BUFFER];
            text[..target.len()].copy_from_slice(target);
            symlinkat(CStr::from_bytes_until_nul(&text).map_err(|_| Errno::INVAL)?, to, name)?;
        }
        // Of no use without the process that listens.
        FileType::Socket => return Ok(()),
        _ => mknodat(to, name, kind, Mode::empty(), stat.st_rdev)?,
    }
    attributes(to, name, kind, &stat)
}

/// Opens what was just looked at; `None` where something is mounted. It may have been swapped meanwhile for anything but a
/// link, which the file's type tells.
fn open(from: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<Option<OwnedFd>> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    match openat2(from, name, flags | OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty(), how) {
        Err(Errno::XDEV) => Ok(None),
        other => other.map(Some),
    }
}

fn content(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    if FileType::from_raw_mode(fstat(from)?.st_mode) != FileType::RegularFile {
        return Err(Errno::LOOP);
    }
    while sendfile(to, from, None, CHUNK)? > 0 {}
    Ok(())
}

/// The owner first: a change of owner takes the set-user-ID bit away. What belongs to an id without a mapping becomes the
/// container root's, and must then not lend it that identity.
fn attributes(to: BorrowedFd<'_>, name: &CStr, kind: FileType, stat: &Stat) -> Result<()> {
    let mut bits = 0o7777;
    if stat.st_uid != 0 || stat.st_gid != 0 {
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        match chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::INVAL) => bits = 0o1777,
            other => other?,
        }
    }
    // A link has no mode of its own.
    if kind == FileType::Symlink { Ok(()) } else { chmodat(to, name, Mode::from_raw_mode(stat.st_mode & bits), AtFlags::empty()) }
}
