//! A procfs for a container that joins a pid namespace.
//!
//! A procfs shows the pid namespace of the process that opens it (fsopen(2)). The process that makes the container's mounts is not
//! in the namespace that it has joined, so that those who are there do not see it (docs/decisions/0024). Since Linux 6.17 the
//! namespace can be named (`pidns`); before, a process that has nothing of the host's opens the file system there.

use super::spawn;
use crate::arm::Armed;
use crate::plan::{self, Facts, Join, Plan};
use crate::sys::{Context, Error, Result, ns};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, fsconfig_set_fd, fsopen};

/// One for each that the container mounts.
pub fn open(container: &Plan, armed: &Armed, facts: &Facts) -> Result<Vec<OwnedFd>> {
    let pids = container.joins.iter().zip(&armed.joins).find(|(join, _)| join.kind == ns::PID);
    let Some((join, pids)) = pids else { return Ok(Vec::new()) };
    let one = |_| match named(pids) {
        Err(Errno::INVAL | Errno::PERM | Errno::NOSYS) => opened_there(container, facts).map_err(|error| at(error, join)),
        context => context.context(|| "open a procfs of the pid namespace").map_err(|error| at(error, join)),
    };
    (0..plan::joined_procs(container)).map(one).collect()
}

fn at(error: Error, join: &Join) -> Error {
    error.at(format!("{}.path", join.at))
}

fn named(pids: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_fd(&context, c"pidns", pids)?;
    Ok(context)
}

fn opened_there(container: &Plan, facts: &Facts) -> Result<OwnedFd> {
    let plan = plan::proc_opener(container);
    let mut armed = Armed::new(&plan, None, None)?;
    let mut context = None;
    let taken = |_, process: &spawn::Process| {
        let what = || "take the procfs of the pid namespace";
        context = process.handed.as_ref().map(OwnedFd::try_clone).transpose().context(what)?;
        Ok(())
    };
    let process = spawn::spawn(&plan, &mut armed, facts, || Ok(Vec::new()), taken)?;
    process.wait()?;
    context.ok_or_else(|| Error::new("no procfs came from the pid namespace"))
}
