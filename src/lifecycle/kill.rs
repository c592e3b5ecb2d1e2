//! `kill` and `ps`: the container's processes, named beyond doubt.

use super::status::{Status, look};
use super::{Runtime, cgroup_of};
use crate::store::ContainerId;
use crate::sys::{Context, Error, Kind, Result};
use rustix::process::{Signal, pidfd_send_signal};

/// Names of signal(7), without SIG, at the index of their number.
const SIGNALS: [&str; 32] = [
    "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
    "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// A signal by number or name, with or without SIG, in either case; `RTMIN+n` and `RTMAX-n` too.
pub fn signal(text: &str) -> Result<Signal> {
    let unknown = || Error::new(format!("unknown signal {text:?}")).hint("a number from 0 to 64 or a name such as TERM or SIGKILL");
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |prefix: &str, sign: char| {
        name.strip_prefix(prefix).and_then(|rest| match rest {
            "" => Some(0),
            rest => rest.strip_prefix(sign)?.parse::<i32>().ok(),
        })
    };
    let number = match name {
        "IOT" => 6,
        "POLL" => 29,
        _ => match (name.parse::<i32>(), SIGNALS.iter().skip(1).position(|known| *known == name)) {
            (Ok(number), _) => number,
            (_, Some(index)) => index as i32 + 1,
            _ => match (offset("RTMIN", '+'), offset("RTMAX", '-')) {
                (Some(n), _) if n <= 30 => 34 + n,
                (_, Some(n)) if n <= 30 => 64 - n,
                _ => return Err(unknown()),
            },
        },
    };
    crate::sys::signal_from_raw(number).ok_or_else(unknown)
}

/// `keel kill`. Without a signal (0, as in kill(2)) it only says whether the container runs. Sent through a pidfd that was checked against the recorded start time. With `all`, every process of
/// the cgroup gets it, and a stopped container is no error.
pub fn kill(runtime: &Runtime, id: &ContainerId, signal: Option<Signal>, all: bool) -> Result<()> {
    let present = look(runtime, id, false)?;
    let Some(signal) = signal else {
        return if all || present.init.is_some() { Ok(()) } else { Err(not_running(id)) };
    };
    let cgroup = cgroup_of(&present.record)?;
    // Without a first process on record nobody in there is known to be the container's: its create was killed early.
    if all && let Some(cgroup) = cgroup.as_ref().filter(|c| present.record.init.is_some() && !c.is_none()) {
        return cgroup.kill_all(signal);
    }
    let Some(init) = present.init else {
        // Where the pid namespace is shared, the others outlive the first process.
        let rest = cgroup
            .filter(|c| signal == Signal::KILL && present.record.init.is_some() && !present.record.owns_pid_namespace && !c.is_none());
        if let Some(cgroup) = rest
            && !cgroup.procs()?.is_empty()
        {
            return cgroup.kill_all(signal);
        }
        return if all { Ok(()) } else { Err(not_running(id)) };
    };
    let shares = signal == Signal::KILL && !present.record.owns_pid_namespace;
    match pidfd_send_signal(&init, signal) {
        Err(rustix::io::Errno::SRCH) if shares => {}
        Err(rustix::io::Errno::SRCH) => return Err(not_running(id)),
        other => other.context(|| format!("send signal {} to container {id}", signal.as_raw()))?,
    }
    // Without a pid namespace of its own the kernel ends only the first process; runc then kills all, so do we. Afterwards, or the first
    // one could be gone already, reaped, when its turn comes.
    if let Some(cgroup) = cgroup.as_ref().filter(|_| shares) {
        cgroup.kill_all(signal)?;
    }
    // A frozen process takes even SIGKILL only when it is thawed (v1).
    match cgroup.filter(|_| signal == Signal::KILL) {
        Some(cgroup) if present.status == Status::Paused => cgroup.thaw().and_then(|()| cgroup.release()),
        Some(cgroup) => cgroup.release(),
        None => Ok(()),
    }
}

pub(super) fn not_running(id: &ContainerId) -> Error {
    Error::new(format!("container not running: {id}")).kind(Kind::WrongState)
}

/// The processes of a container, in our pid namespace: for `ps`.
pub fn processes(runtime: &Runtime, id: &ContainerId) -> Result<Vec<i32>> {
    let present = look(runtime, id, false)?;
    match cgroup_of(&present.record)? {
        Some(cgroup) if !cgroup.is_none() => cgroup.procs(),
        _ => Ok(present.init.and(present.record.init).iter().map(|init| init.pid).collect()),
    }
}
