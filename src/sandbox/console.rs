//! The container's terminal: a pseudoterminal of its own devpts.
//!
//! Allocates nothing: runs between clone and exec.

use super::mount::{DEVPTS_SUPER_MAGIC, clone_fd, move_onto};
use super::path::{parent, resolve};
use crate::sys::dup_to;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, fstatfs, makedev, openat, openat2};
use rustix::io::{Errno, Result};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use std::io::IoSlice;

/// Opens a pseudoterminal, sends its master through `socket` and makes the other end stdio. The tail makes it the terminal of
/// the session, which it may begin only then.
///
/// The slave is opened by TIOCGPTPEER, never by name (CVE-2025-52565 redirected /dev/pts/N), and ptmx is checked to be
/// the multiplexer of a devpts.
pub fn open(root: BorrowedFd<'_>, socket: BorrowedFd<'_>, bind: bool, size: Option<(u16, u16)>, bare_newlines: bool) -> Result<()> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let master = openat2(root, c"dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty(), how)?;
    if fstatfs(&master)?.f_type != DEVPTS_SUPER_MAGIC || fstat(&master)?.st_rdev != makedev(5, 2) {
        return Err(Errno::NODEV);
    }
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    if bare_newlines {
        let mut modes = tcgetattr(&slave)?;
        modes.output_modes.remove(OutputModes::ONLCR);
        tcsetattr(&slave, OptionalActions::Now, &modes)?;
    }
    if let Some((rows, columns)) = size {
        tcsetwinsize(&slave, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    }
    if bind {
        bind_console(root, &slave)?;
    }
    send(socket, &master)?;
    (0..3).try_for_each(|number| dup_to(&slave, number))
}

/// One descriptor with its name as payload, which callers print in messages.
fn send(socket: BorrowedFd<'_>, master: &OwnedFd) -> Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [master.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS);
    }
    sendmsg(socket, &[IoSlice::new(b"/dev/ptmx")], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Binds the terminal to /dev/console, which must not be a link (CVE-2025-52565).
fn bind_console(root: BorrowedFd<'_>, slave: &OwnedFd) -> Result<()> {
    let (directory, name) = parent(root, c"dev/console")?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
    match openat(&directory, name, flags, Mode::from_raw_mode(0o600)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let point = resolve(directory.as_fd(), name, OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS)?;
    move_onto(clone_fd(slave.as_fd(), false)?.as_fd(), point.as_fd())
}
