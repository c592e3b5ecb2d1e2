//! A process that can be recognised again.

use crate::sys::{Context, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// A pid and the time its process started, in clock ticks since boot (proc_pid_stat(5), field 22).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// In the pid namespace of whoever wrote it down.
    pub pid: i32,
    /// So that a reused pid is never trusted.
    pub start_time: u64,
}

impl ProcessId {
    /// Looks the start time of a living process (or a zombie) up.
    pub fn of(pid: i32) -> Result<Self> {
        let stat = stat(pid).context(|| format!("read /proc/{pid}/stat"))?;
        Ok(Self { pid, start_time: stat.start_time })
    }

    /// This process.
    pub fn own() -> Result<Self> {
        Self::of(std::process::id().cast_signed())
    }

    /// The pid that the process has in its own pid namespace: the last of `NSpid`, proc_pid_status(5).
    pub fn innermost(self) -> Result<i32> {
        let what = || format!("read NSpid in /proc/{}/status", self.pid);
        let status = std::fs::read(format!("/proc/{}/status", self.pid)).context(what)?;
        let status = String::from_utf8_lossy(&status);
        let pid = status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().next_back()?.parse().ok());
        pid.ok_or(Errno::INVAL).context(what)
    }

    /// A pidfd if the process still lives: the same start time, no zombie. Opened first, checked then, so that what was
    /// checked is what the descriptor names.
    pub fn open(self) -> Option<OwnedFd> {
        self.open_seen().map(|(pidfd, _)| pidfd)
    }

    /// As [`ProcessId::open`], with what is seen of the process now.
    pub fn open_seen(self) -> Option<(OwnedFd, Stat)> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        self.seen().map(|stat| (pidfd, stat))
    }

    /// What is seen of the process now, if it still lives.
    pub fn seen(self) -> Option<Stat> {
        stat(self.pid).ok().filter(|stat| stat.start_time == self.start_time && stat.state != b'Z' && stat.state != b'X')
    }
}

/// What keel wants of a process's line (proc_pid_stat(5)).
pub struct Stat {
    /// The command name.
    pub name: Vec<u8>,
    /// `R` runs, `S` sleeps, `D` is in uninterruptible sleep …
    pub state: u8,
    start_time: u64,
}

/// The command name, in parentheses, may hold anything, so fields count from the last `)`.
fn stat(pid: i32) -> rustix::io::Result<Stat> {
    let file = rustix::fs::open(format!("/proc/{pid}/stat"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // One line of 52 numbers and a name of at most 64 bytes.
    let mut space = [0; 2048];
    let length = rustix::io::read(file, &mut space)?;
    let text = &space[..length];
    let end = text.iter().rposition(|&b| b == b')').ok_or(Errno::IO)?;
    let name = text.iter().position(|&b| b == b'(').and_then(|begin| text.get(begin + 1..end)).unwrap_or_default().to_vec();
    let after = (end + 2).min(text.len());
    let mut fields = str::from_utf8(&text[after..]).unwrap_or_default().split(' ');
    let state = fields.next().and_then(|field| field.bytes().next()).ok_or(Errno::IO)?;
    // `state` is the third field of the line, `starttime` the twenty-second.
    let start_time = fields.nth(22 - 3 - 1).and_then(|field| field.parse().ok()).ok_or(Errno::IO)?;
    Ok(Stat { name, state, start_time })
}
