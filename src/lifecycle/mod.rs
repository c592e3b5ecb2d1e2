//! Room `lifecycle`: create, start, run, exec, kill, delete, pause, update, events, state, hooks and the terminal relay.

mod agent;
mod checkpoint;
mod create;
mod criu;
mod criu_fields;
mod decide;
mod delete;
mod events;
mod exec;
mod foreground;
mod hooks;
mod kill;
mod lint;
mod notify;
mod output;
mod owner;
mod pause;
mod restore;
mod root_mount;
mod start;
mod status;
mod timeline;
mod update;
mod watch;

pub use checkpoint::{CgroupsMode, CheckpointOptions, CriuOptions, checkpoint};
pub use create::{CreateOptions, create, run};
pub use decide::plan;
pub use delete::delete;
pub use events::{Event, IntelRdt, NetworkInterface, Stats, events, oom_kills, stats};
pub use exec::{ExecOptions, exec, exec_with_stdio};
pub use foreground::receive;
pub use kill::{kill, processes, signal};
pub use lint::{Finding, lint};
pub use pause::{pause, resume};
pub use restore::{RestoreOptions, restore};
pub use start::start;
pub use status::{State, Status, state, state_of, states};
pub use update::update;

use crate::cgroup::{Cgroup, Manager, Resctrl};
use crate::plan::Facts;
use crate::spec::{self, Spec};
use crate::store::{Container, Record, Root};
use crate::sys::{Context, Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What the global options of the command line amount to.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Where the state of all containers is.
    pub root: Root,
    /// Who makes cgroups.
    pub manager: Manager,
}

/// The cgroup of a record; `None` if create was killed before it chose one.
fn cgroup_of(record: &Record) -> Result<Option<Cgroup>> {
    record.cgroup.read().map_err(|e| Error::new(format!("the record of container {} has an invalid cgroup: {e}", record.id)))
}

/// The configuration that was kept when the container was created.
fn kept_spec(container: &Container) -> Result<Spec> {
    let missing = || Error::new(format!("the container has no configuration in {}", container.path().display()));
    Ok(spec::parse(&container.config().ok_or_else(missing)?)?.spec)
}

/// Tells the plan of a process that is to enter a container about it.
fn note(facts: &mut Facts, record: &Record) -> Result<()> {
    facts.shared_root = root_mount::place(record)?;
    facts.keyring.clone_from(&record.keyring);
    Ok(())
}

/// A number that nobody can know before.
fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).context(|| "get a random number")?;
    Ok(u64::from_ne_bytes(bytes))
}

/// The Intel RDT groups of a record, if it has any.
fn resctrl_of(record: &Record) -> Result<Option<Resctrl>> {
    record.resctrl.read().map_err(|e| Error::new(format!("the record of container {} has invalid Intel RDT groups: {e}", record.id)))
}

/// How messages call the file of `--pid-file`.
const PID_FILE: &str = "the pid file";

/// Writes a pid file: digits only, complete before it has its name (conmon and containerd read it as soon as it exists).
fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    output::write(PID_FILE, path, &pid.to_string())
}

/// Number of descriptors that socket activation passes (sd_listen_fds(3)), if they are meant for this process.
fn listen_fds() -> u32 {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    match number("LISTEN_PID") {
        Some(pid) if pid == std::process::id() => number("LISTEN_FDS").unwrap_or(0),
        _ => 0,
    }
}

/// Sends the process's pidfd to a listening unix socket (`--pidfd-socket`).
fn send_pidfd(path: &Path, process: &crate::sandbox::Process) -> Result<()> {
    let socket = crate::arm::connect_to("pidfd socket", path)?;
    send_descriptor(&socket, b"pidfd", process.pidfd.as_fd()).context(|| format!("send the pidfd to {}", path.display())).map(drop)
}

/// Sends bytes and a descriptor; gives how many bytes were taken.
fn send_descriptor(socket: &OwnedFd, bytes: &[u8], fd: BorrowedFd<'_>) -> rustix::io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [fd];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[std::io::IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
}
