//! The seccomp listener as it comes from the process that has loaded its filter, config-linux.md, "listenerPath". The child's half
//! is `sys::HandOver`.

use super::report::Report;
use crate::sys::pidfd_getfd;
use rustix::fd::OwnedFd;
use rustix::io::Result;

/// The descriptor that came with the report, or else the one whose number it says.
pub fn take(report: Report, sent: Option<OwnedFd>, pidfd: &OwnedFd) -> Result<OwnedFd> {
    sent.map_or_else(|| pidfd_getfd(pidfd, -report.errno), Ok)
}
