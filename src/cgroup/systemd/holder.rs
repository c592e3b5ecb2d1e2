//! A process that keeps a scope alive while it has nobody else.
//!
//! systemd makes no scope without a process, and ends one that has none. The container's own process is to be cloned into
//! a cgroup that exists and has its limits (decision 0008), so somebody has to be there before it.

use crate::sys::{Cloned, Context, Error, Result, clone3, exit};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Signal, WaitId, WaitIdOptions, getppid, pidfd_send_signal, set_parent_process_death_signal, waitid};

/// The process; dropped, it is gone.
#[derive(Debug)]
pub(in crate::cgroup) struct Holder {
    /// In our pid namespace.
    pub pid: i32,
    pidfd: OwnedFd,
}

impl Holder {
    pub(super) fn new() -> Result<Self> {
        let parent = rustix::process::getpid();
        match clone3(0, None).context(|| "clone a process to hold the systemd scope")? {
            Cloned::Parent(pid, pidfd) => Ok(Self { pid, pidfd }),
            Cloned::Child(_) => {
                // Only system calls. It ends with us, also if we have ended meanwhile.
                let bound = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
                while bound && getppid() == Some(parent) {
                    rustix::event::pause();
                }
                exit(0)
            }
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED));
    }
}

/// The words for a failure that names the unit.
pub(super) fn failed(what: &str, unit: &str, why: &str) -> Error {
    Error::new(format!("{what} the systemd unit {unit}: {why}"))
}
