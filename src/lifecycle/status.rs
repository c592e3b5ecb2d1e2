//! The state of a container, asked of the kernel each time: no file says what may not be so any more.

use super::{Runtime, cgroup_of};
use crate::cgroup::Cgroup;
use crate::plan::Facts;
use crate::sandbox::{Namespaces, ask_namespaces};
use crate::store::{Container, ContainerId, ProcessId, Record, Stat};
use crate::sys::{Error, Kind, NAME, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// For the process that a killed create has left, which ends at its next wait; as long as `delete` waits for one that it has killed.
const PATIENCE: Duration = Duration::from_secs(super::delete::END.tv_sec as u64);

/// runtime.md, "State", and runc's `paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being created.
    Creating,
    /// Waiting for `start`.
    Created,
    /// The program runs.
    Running,
    /// The cgroup is frozen.
    Paused,
    /// The first process has ended, or create was killed.
    Stopped,
}

/// The document of `state`: the fields of runtime.md and those that runc adds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct State {
    pub oci_version: String,
    pub id: String,
    pub pid: i32,
    pub status: Status,
    pub bundle: PathBuf,
    #[serde(skip_serializing_if = "PathBuf::as_os_str_is_empty")]
    pub rootfs: PathBuf,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    pub owner: String,
}

trait Emptiness {
    fn as_os_str_is_empty(&self) -> bool;
}

impl Emptiness for PathBuf {
    fn as_os_str_is_empty(&self) -> bool {
        self.as_os_str().is_empty()
    }
}

/// A container, its record, what it is doing, and its first process if that lives.
pub(super) struct Present {
    pub container: Container,
    pub record: Record,
    pub status: Status,
    pub init: Option<OwnedFd>,
    /// The connection to the process that waits for `start`.
    pub door: Option<OwnedFd>,
}

/// Opens a container and asks for its status. `lock` waits until no other command changes it, but not for a create,
/// which may hang in a hook: whoever changes a container refuses one that is being created anyway.
pub(super) fn look(runtime: &Runtime, id: &ContainerId, lock: bool) -> Result<Present> {
    let container = runtime.root.open(id)?;
    let free = lock && container.try_lock();
    let mut record = container.record()?;
    if lock && !free && record.creator.is_none_or(|creator| creator.open().is_none()) {
        match record.creator {
            None => container.lock()?,
            // What the creator has left shares its lock.
            Some(_) => {
                if !container.lock_within(PATIENCE)? {
                    return Err(held(id));
                }
            }
        }
        record = container.record()?;
    }
    let (init, seen) = record.init.and_then(ProcessId::open_seen).unzip();
    let mut status = status(&record, seen.as_ref(), is_paused)?;
    // A program may give itself the name of a process that waits for `start`: its socket tells.
    let door = if status == Status::Created { knock(&container) } else { None };
    if status == Status::Created && door.is_none() {
        status = Status::Running;
    }
    Ok(Present { container, record, status, init, door })
}

fn held(id: &ContainerId) -> Error {
    Error::new(format!("what a killed create has left of container {id} did not end within {} s", PATIENCE.as_secs()))
        .hint("its process is frozen by a cgroup above the container's, or in uninterruptible sleep in the kernel")
}

/// What a container is doing, of whose first process this is seen, if it lives. One that bears the name of those which wait for
/// `start` passes for created. `is_paused` is asked last, as it takes most.
fn status(record: &Record, seen: Option<&Stat>, is_paused: impl FnOnce(&Record) -> Result<bool>) -> Result<Status> {
    if record.creator.is_some_and(|creator| creator.open().is_some()) {
        return Ok(Status::Creating);
    }
    let Some(seen) = seen.filter(|_| record.creator.is_none()) else {
        return Ok(Status::Stopped);
    };
    if is_paused(record)? {
        return Ok(Status::Paused);
    }
    Ok(if seen.name == NAME.to_bytes() { Status::Created } else { Status::Running })
}

fn is_paused(record: &Record) -> Result<bool> {
    Ok(cgroup_of(record)?.is_some_and(|cgroup| cgroup.is_frozen().unwrap_or(false)))
}

/// [`is_paused`] for a list of thousands. The freezer of cgroup v1 shows whom it holds in uninterruptible sleep (the kernel's
/// get_task_state), or as stopped; so it is not asked about a process that runs or sleeps.
fn is_paused_by_sight(record: &Record, seen: Option<&Stat>) -> Result<bool> {
    let free = seen.is_some_and(|seen| matches!(seen.state, b'R' | b'S')) && Cgroup::has_v1_freezer(record.cgroup.text());
    if free { Ok(false) } else { is_paused(record) }
}

/// The namespaces of a container's first process, for a caller that may not look into it while it
/// waits for `start`: they are asked of itself, through `door`. None where the kernel lets the
/// caller join them by the process's pidfd.
pub(super) fn namespaces(record: &Record, door: Option<&OwnedFd>, facts: &Facts) -> Result<Namespaces> {
    match door {
        Some(door) if record.hands_namespaces && !facts.may_trace() => ask_namespaces(door, record.namespaces),
        _ => Ok(Namespaces::new()),
    }
}

/// A connection to the process that waits for `start`: its socket is open exactly as long as it waits.
pub(super) fn knock(container: &Container) -> Option<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).ok()?;
    let address = SocketAddrUnix::new(container.socket()).ok()?;
    match rustix::io::retry_on_intr(|| connect(&socket, &address)) {
        Ok(()) => Some(socket),
        Err(Errno::CONNREFUSED | Errno::NOENT | _) => None,
    }
}

fn document(record: Record, status: Status) -> State {
    let owner = if record.owner == 0 { "root".into() } else { record.owner.to_string() };
    let pid = if status == Status::Stopped { 0 } else { record.init.map_or(0, |init| init.pid) };
    State {
        oci_version: if record.oci_version.is_empty() { crate::spec::VERSIONS.1.into() } else { record.oci_version },
        id: record.id,
        pid,
        status,
        bundle: record.bundle,
        rootfs: record.rootfs,
        created: record.created,
        annotations: record.annotations,
        owner,
    }
}

/// What hooks get on stdin while a command of ours changes the container.
pub fn state_of(record: &Record, status: Status) -> State {
    document(record.clone(), status)
}

/// `keel list`: the states of all containers, sorted by id.
pub fn states(runtime: &Runtime) -> Result<Vec<State>> {
    let mut states = Vec::new();
    let mut text = Vec::new();
    for container in runtime.root.containers()? {
        let container = container?;
        let record = match container.record_in(&mut text) {
            // Deleted since it was opened.
            Err(error) if error.get_kind() == Kind::NoContainer => continue,
            record => record?,
        };
        let seen = record.init.and_then(ProcessId::seen);
        let status = match status(&record, seen.as_ref(), |record| is_paused_by_sight(record, seen.as_ref()))? {
            // A connection to its socket would wake each process that waits.
            Status::Created if !container.has_socket() => Status::Running,
            status => status,
        };
        states.push(document(record, status));
    }
    Ok(states)
}

/// `keel state`. Takes no lock: a record that is being written is not yet a whole line, and the one before it counts.
pub fn state(runtime: &Runtime, id: &ContainerId) -> Result<State> {
    let present = look(runtime, id, false)?;
    Ok(document(present.record, present.status))
}
