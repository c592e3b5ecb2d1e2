//! What the program finds, inside its root already: its stdio, its working directory, its file, its HOME.

use super::super::raw::syscall;
use super::calls::State;
use crate::sys::passwd;
use rustix::fd::RawFd;
use rustix::io::{Errno, Result};
use std::ffi::CStr;

const HERE: usize = libc::AT_FDCWD as usize;

/// fstat(2), or newfstatat(2) of a path.
fn stat(fd: RawFd, path: Option<&CStr>) -> Result<libc::stat> {
    // SAFETY: all-zero is a valid `stat`.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    let to = (&raw mut found) as usize;
    // SAFETY: both write one `stat`, as the kernel lays it out on 64-bit machines; the path is NUL-terminated.
    match path {
        None => unsafe { syscall(libc::SYS_fstat, [fd as usize, to]) },
        Some(path) => unsafe { syscall(libc::SYS_newfstatat, [HERE, path.as_ptr() as usize, to, 0]) },
    }?;
    Ok(found)
}

fn kind(stat: &libc::stat) -> u32 {
    stat.st_mode & libc::S_IFMT
}

fn is_null(fd: RawFd) -> bool {
    stat(fd, None).is_ok_and(|stat| kind(&stat) == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3))
}

fn open(path: &CStr, flags: i32) -> Result<RawFd> {
    // SAFETY: openat(2) reads a NUL-terminated path.
    unsafe { syscall(libc::SYS_openat, [HERE, path.as_ptr() as usize, flags as usize]) }.map(|fd| fd as RawFd)
}

/// Replaces the host's /dev/null as stdin, stdout or stderr by the container's, as runc does, which also makes one that was
/// opened for reading only good to write to. A container without one keeps the host's.
pub(super) fn own_null() {
    let mut own = None;
    for number in (0..3).filter(|number| is_null(*number)) {
        if own.is_none() {
            own = open(c"/dev/null", libc::O_RDWR | libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_CLOEXEC).ok().filter(|fd| is_null(*fd));
        }
        let Some(own) = own else { return };
        // SAFETY: dup3(2) over a standard descriptor, which is the program's to be.
        let _ = unsafe { syscall(libc::SYS_dup3, [own as usize, number as usize, 0]) };
    }
    own.into_iter().for_each(close);
}

fn close(fd: RawFd) {
    // SAFETY: the callers have opened it, and nobody else knows it.
    let _ = unsafe { syscall(libc::SYS_close, [fd as usize]) };
}

/// Gives the user the terminal that was made for it and the pipes of its stdio, so that it can open /dev/stdout again;
/// never a regular file or a device, which may be the host's (CVE-2026-88265).
pub(super) fn own_stdio(uid: u32, terminal: bool) -> Result<()> {
    for fd in 0..3 {
        let Ok(stat) = stat(fd, None) else { continue };
        let ours = kind(&stat) == libc::S_IFIFO || terminal && kind(&stat) == libc::S_IFCHR;
        if ours && stat.st_uid != uid {
            // SAFETY: fchown(2) takes integers.
            match unsafe { syscall(libc::SYS_fchown, [fd as usize, uid as usize, u32::MAX as usize]) } {
                // An id without a mapping, a read-only or foreign file system: the program can do without.
                Ok(_) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

pub(super) fn chdir(path: &CStr) -> Result<()> {
    // SAFETY: chdir(2) reads a NUL-terminated path.
    unsafe { syscall(libc::SYS_chdir, [path.as_ptr() as usize]) }.map(drop)
}

/// chdir(2), then the proof that the directory is below the root: getcwd(2) says "(unreachable)" of one that is not,
/// as when the spec named /proc/self/fd/N with a directory of the host's (CVE-2024-21626).
pub(super) fn enter(cwd: &CStr, entered: bool) -> Result<()> {
    if !entered {
        chdir(cwd)?;
    }
    let mut path = [0u8; 4096];
    // SAFETY: getcwd(2) writes at most so many bytes.
    unsafe { syscall(libc::SYS_getcwd, [path.as_mut_ptr() as usize, path.len()]) }?;
    if path[0] == b'/' { Ok(()) } else { Err(Errno::XDEV) }
}

/// execvp(3)'s search, without executing: the first candidate that is a file this user may execute. The error is that
/// of a candidate that was there, if one was.
pub(super) fn find(state: &State<'_>) -> Result<usize> {
    let mut failure = Errno::NOENT;
    let several = state.candidates().nth(1).is_some();
    for (number, candidate) in state.candidates().enumerate() {
        match executable(candidate) {
            Ok(()) => return Ok(number),
            Err(Errno::NOENT | Errno::NOTDIR) if several => {}
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn executable(path: &CStr) -> Result<()> {
    if kind(&stat(0, Some(path))?) == libc::S_IFDIR {
        return Err(Errno::ISDIR);
    }
    let arguments = [HERE, path.as_ptr() as usize, libc::X_OK as usize, libc::AT_EACCESS as usize];
    // SAFETY: faccessat2(2) reads a NUL-terminated path.
    match unsafe { syscall(libc::SYS_faccessat2, arguments) } {
        // Before Linux 5.8. Real and effective ids are equal by now.
        // SAFETY: as above; faccessat(2) takes no flags.
        Err(Errno::NOSYS) => unsafe { syscall(libc::SYS_faccessat, arguments) },
        other => other,
    }
    .map(drop)
}

/// HOME from the container's /etc/passwd, as runc does when the spec gives none; `/` when that says nothing. The file is
/// the image's: it must be regular, and at most 1 MiB of it is read.
pub(super) fn home(uid: u32, state: &mut State<'_>) {
    let Ok(file) = open(c"/etc/passwd", libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC) else { return };
    if stat(file, None).is_ok_and(|stat| kind(&stat) == libc::S_IFREG) {
        home_of(file, uid, state);
    }
    close(file);
}

fn home_of(file: RawFd, uid: u32, state: &mut State<'_>) {
    let mut buffer = [0u8; 4096];
    let mut held = 0;
    for _ in 0..256 {
        let Some(room) = buffer.get_mut(held..) else { return };
        // SAFETY: read(2) writes into the rest of the buffer.
        let Ok(read) = (unsafe { syscall(libc::SYS_read, [file as usize, room.as_mut_ptr() as usize, room.len()]) }) else { return };
        let end = held + read;
        let mut rest = buffer.get(..end).unwrap_or_default();
        while let Some(length) = rest.iter().position(|&byte| byte == b'\n') {
            let (line, next) = rest.split_at(length);
            if home_in(line, uid, state) {
                return;
            }
            rest = next.get(1..).unwrap_or_default();
        }
        held = rest.len();
        if read == 0 || held == buffer.len() {
            home_in(rest, uid, state);
            return;
        }
        buffer.copy_within(end - held..end, 0);
    }
}

/// Whether the line is this user's; its directory then is HOME, if it fits.
fn home_in(line: &[u8], uid: u32, state: &mut State<'_>) -> bool {
    const NAME: usize = b"HOME=".len();
    let Some(directory) = passwd::home(line, uid) else { return false };
    let Some(room) = state.home().and_then(|room| room.get_mut(NAME..)) else { return false };
    let (Some(value), false) = (room.get_mut(..directory.len() + 1), directory.contains(&0)) else { return false };
    if let Some((end, text)) = value.split_last_mut() {
        text.copy_from_slice(directory);
        *end = 0;
    }
    true
}
