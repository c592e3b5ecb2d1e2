//! `delete`: the container's processes, cgroup, hooks and state; each step can be repeated.

use super::hooks::{self, Place};
use super::status::{Status, look};
use super::timeline::Timeline;
use super::{Runtime, cgroup_of, resctrl_of, root_mount};
use crate::arm;
use crate::spec::{self, Spec};
use crate::store::{Container, ContainerId, Record};
use crate::sys::{Error, Kind, Log, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

/// How long a killed process may take to end: one in uninterruptible sleep can take for ever.
pub(super) const END: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// How long a program may take that seems to be ending by itself: a caller who saw its last output may be this much faster.
const GRACE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// `keel delete`. With `force`, a running container is killed first, a create in progress is ended, and a missing one is
/// no error. A failing poststop hook is a warning.
pub fn delete(runtime: &Runtime, id: &ContainerId, force: bool, log: &Log) -> Result<()> {
    match delete_existing(runtime, id, force, log) {
        // Also if another delete was faster, at any moment of this one.
        Err(error) if force && error.get_kind() == Kind::NoContainer => Ok(()),
        other => other,
    }
}

fn delete_existing(runtime: &Runtime, id: &ContainerId, force: bool, log: &Log) -> Result<()> {
    if force {
        end_creator(&runtime.root.open(id)?)?;
    }
    let present = look(runtime, id, true)?;
    match (&present.init, present.status) {
        (_, Status::Stopped) => {}
        (Some(init), Status::Created) => end(&present.record, init)?,
        (Some(init), _) if force => end(&present.record, init)?,
        (Some(init), Status::Running) if ended(init, &GRACE) => {}
        _ => {
            let status = serde_json::to_string(&present.status).unwrap_or_default().replace('"', "");
            return Err(Error::new(format!("cannot delete container {id} that is not stopped: {status}"))
                .kind(Kind::WrongState)
                .hint("kill it first, or delete --force"));
        }
    }
    destroy(&present.container, &present.record, None, log)
}

/// A create that hangs in a hook holds the lock: it ends, and undoes nothing, so that we do.
fn end_creator(container: &Container) -> Result<()> {
    if !container.try_lock()
        && let Some(creator) = container.record()?.creator.and_then(crate::store::ProcessId::open)
    {
        let _ = pidfd_send_signal(&creator, Signal::KILL);
        ended(&creator, &END);
    }
    Ok(())
}

/// Kills the container's processes and waits for the first one's end on its pidfd.
pub(super) fn end(record: &Record, init: &OwnedFd) -> Result<()> {
    let cgroup = cgroup_of(record)?;
    // With a pid namespace of its own everything ends with the first process; else the cgroup knows who belongs to it.
    let _ = pidfd_send_signal(init, Signal::KILL);
    if let Some(cgroup) = &cgroup {
        if !record.owns_pid_namespace {
            cgroup.kill_all(Signal::KILL)?;
        } else {
            if cgroup.is_frozen().unwrap_or(false) {
                cgroup.thaw()?;
            }
            cgroup.release()?;
            if !ended(init, &Timespec { tv_sec: 1, tv_nsec: 0 }) {
                // Another process of the container may be freezing it again and again.
                cgroup.kill_all(Signal::KILL)?;
            }
        }
    }
    match ended(init, &END) {
        true => Ok(()),
        false => Err(Error::new(format!("process {} did not end within {} s of SIGKILL", record.init.unwrap_or_default().pid, END.tv_sec))
            .hint("it is in uninterruptible sleep in the kernel; /proc/PID/stack says where")),
    }
}

/// Waits for the end of a process, for a limited time.
fn ended(process: &OwnedFd, limit: &Timespec) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(limit))) != Ok(0)
}

/// What is left of a container whose first process has ended.
pub(super) fn destroy(container: &Container, record: &Record, spec: Option<&Spec>, log: &Log) -> Result<()> {
    if let Some(cgroup) = cgroup_of(record)? {
        if record.init.is_none() {
            // A create that was killed early. Its process ends at its next wait; anybody else is not the container's, as
            // `linux.cgroupsPath` may name a cgroup in use: it stays.
            cgroup.remove().or_else(|error| if error.get_errno() == Some(Errno::BUSY) { Ok(()) } else { Err(error) })?;
        } else {
            // Everything ended with the first process of a pid namespace; not where that is shared.
            if !record.owns_pid_namespace {
                cgroup.kill_all(Signal::KILL)?;
            }
            cgroup.remove()?;
        }
    }
    resctrl_of(record)?.map_or(Ok(()), |groups| groups.remove())?;
    root_mount::remove(record)?;
    // runtime.md, "Delete": poststop hooks run after the container is deleted; a failing one warns and goes on.
    match spec {
        Some(spec) => poststop(spec, record, log),
        None => match container.config().map(|text| spec::parse(&text)) {
            Some(Ok(loaded)) => poststop(&loaded.spec, record, log),
            Some(Err(error)) => log.warning(&format!("the poststop hooks cannot be read: {error}")),
            // A create that was killed before it kept the configuration had run no hook.
            None => {}
        },
    }
    container.remove()
}

fn poststop(spec: &Spec, record: &Record, log: &Log) {
    if spec.hooks.poststop.is_empty() {
        return;
    }
    let facts = arm::facts(false);
    let place = Place { facts: &facts, container: None, like: None, timeline: &Timeline::OFF };
    hooks::poststop(&spec.hooks.poststop, record, &place).iter().for_each(|error| log.warning(&error.to_string()));
}
