//! What the program finds, inside its root already: its stdio, its working directory, its file, its HOME.

use crate::arm::Armed;
use crate::plan::Plan;
use crate::spec::user;
use crate::sys;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, Uid, accessat, fstat, statat};
use rustix::io::{Errno, Result};
use std::ffi::CStr;

/// Replaces the host's /dev/null as stdin, stdout or stderr by the container's, as runc does, which also makes one that was
/// opened for reading only good to write to. A container without one keeps the host's.
pub(super) fn own_null() {
    let is_null = |fd: BorrowedFd<'_>| {
        fstat(fd).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3)
        })
    };
    let stdio = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut own = None;
    for (number, _) in (0..3).zip(stdio).filter(|(_, fd)| is_null(*fd)) {
        if own.is_none() {
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
            own = rustix::fs::open(c"/dev/null", flags, Mode::empty()).ok().filter(|fd| is_null(fd.as_fd()));
        }
        match &own {
            Some(own) => drop(sys::dup_to(own, number)),
            None => return,
        }
    }
}

/// Gives the user the terminal that was made for it and the pipes of its stdio, so that it can open /dev/stdout again;
/// never a regular file or a device, which may be the host's (CVE-2026-88265).
pub(super) fn own_stdio(uid: u32, terminal: bool) -> Result<()> {
    let uid = Uid::from_raw(uid);
    for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let Ok(stat) = fstat(fd) else { continue };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let ours = kind == FileType::Fifo || terminal && kind == FileType::CharacterDevice;
        if ours && stat.st_uid != uid.as_raw() {
            match rustix::fs::fchown(fd, Some(uid), None) {
                // An id without a mapping, a read-only or foreign file system: the program can do without.
                Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// chdir(2), then the proof that the directory is below the root: getcwd(2) says "(unreachable)" of one that is not,
/// as when the spec named /proc/self/fd/N with a directory of the host's (CVE-2024-21626).
pub(super) fn enter(cwd: &CStr, entered: bool) -> Result<()> {
    if !entered {
        rustix::process::chdir(cwd)?;
    }
    if sys::getcwd_is_reachable()? { Ok(()) } else { Err(Errno::XDEV) }
}

/// execvp(3)'s search, without executing: the first candidate that is a file this user may execute. The error is that
/// of a candidate that was there, if one was.
pub(super) fn find(plan: &Plan) -> Result<usize> {
    let mut failure = Errno::NOENT;
    for (number, candidate) in plan.process.candidates.iter().enumerate() {
        let found = statat(CWD, &**candidate, AtFlags::empty()).and_then(|stat| match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Err(Errno::ISDIR),
            _ => accessat(CWD, &**candidate, Access::EXEC_OK, AtFlags::EACCESS),
        });
        match found {
            Ok(()) => return Ok(number),
            Err(Errno::NOENT | Errno::NOTDIR) if plan.process.candidates.len() > 1 => {}
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// HOME from the container's /etc/passwd, as runc does when the spec gives none; `/` when that says nothing. The file is
/// the image's: it must be regular, and at most 1 MiB of it is read.
pub(super) fn home(uid: u32, armed: &mut Armed) {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(c"/etc/passwd", flags, Mode::empty()) else { return };
    if !fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile) {
        return;
    }
    let mut buffer = [0u8; 4096];
    let mut held = 0;
    for _ in 0..256 {
        let Ok(read) = rustix::io::read(&file, &mut buffer[held..]) else { return };
        let end = held + read;
        let mut start = 0;
        while let Some(length) = buffer[start..end].iter().position(|&b| b == b'\n') {
            if home_in(&buffer[start..start + length], uid, armed) {
                return;
            }
            start += length + 1;
        }
        if read == 0 || start == 0 && end == buffer.len() {
            home_in(&buffer[start..end], uid, armed);
            return;
        }
        buffer.copy_within(start..end, 0);
        held = end - start;
    }
}

fn home_in(line: &[u8], uid: u32, armed: &mut Armed) -> bool {
    let last = armed.last.as_mut();
    user::home(line, uid).is_some_and(|directory| last.is_some_and(|last| last.envp.rewrite(b"HOME=".len(), directory)))
}
