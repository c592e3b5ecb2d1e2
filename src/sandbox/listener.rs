//! The seccomp listener on its way from the process that has loaded its filter to the parent, config-linux.md,
//! "listenerPath". The process is under its filter by then: see `plan::seccomp::handover`.

use super::report::Report;
use crate::plan::seccomp::Handover;
use crate::sys::{pidfd_getfd, read_marked, send_marked};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, Result, read, retry_on_intr, write};

/// The child's half: operation `op` is reached. Returns once the parent has the listener and the agent knows of it.
/// Only read(2), and sendmsg(2) or write(2), which a filter lets pass that `plan::seccomp::watched` made.
pub fn hand_over(socket: BorrowedFd<'_>, op: u32, listener: OwnedFd, how: Handover) -> Result<()> {
    match how {
        Handover::Message => Report { op, errno: 0 }.send_with(socket, listener.as_fd())?,
        // No errno is negative: this is the descriptor's number.
        Handover::Marked(mark) => send_marked(socket, &Report { op, errno: 0 }.bytes(), listener.as_fd(), mark)?,
        Handover::Number => write(socket, &Report { op, errno: -listener.as_raw_fd() }.bytes()).map(drop)?,
    }
    // Closed by the exec: close(2) may be a call that the agent is asked about.
    std::mem::forget(listener);
    let answer = &mut [0; 1];
    let answered = retry_on_intr(|| match how {
        Handover::Marked(mark) => read_marked(socket, answer, mark),
        _ => read(socket, &mut *answer),
    })?;
    match answered {
        1 => Ok(()),
        _ => Err(Errno::PIPE),
    }
}

/// The parent's half.
pub fn take(report: Report, sent: Option<OwnedFd>, pidfd: &OwnedFd) -> Result<OwnedFd> {
    sent.map_or_else(|| pidfd_getfd(pidfd, -report.errno), Ok)
}
