//! `pause` and `resume`: the cgroup freezer.

use super::kill::not_running;
use super::status::{Status, look};
use super::{Runtime, cgroup_of};
use crate::store::ContainerId;
use crate::sys::{Error, Kind, Result};

/// `keel pause`: returns when every process has stopped.
pub fn pause(runtime: &Runtime, id: &ContainerId) -> Result<()> {
    let present = look(runtime, id, true)?;
    match present.status {
        Status::Running | Status::Created => freezer(&present.record)?.freeze(),
        Status::Paused => Err(Error::new(format!("container is already paused: {id}")).kind(Kind::WrongState)),
        _ => Err(not_running(id)),
    }
}

/// `keel resume`.
pub fn resume(runtime: &Runtime, id: &ContainerId) -> Result<()> {
    let present = look(runtime, id, true)?;
    match present.status {
        Status::Paused => freezer(&present.record)?.thaw(),
        _ => Err(Error::new(format!("container not paused: {id}")).kind(Kind::WrongState)),
    }
}

fn freezer(record: &crate::store::Record) -> Result<crate::cgroup::Cgroup> {
    let none = || Error::new(format!("container {} has no cgroup, so it cannot be paused", record.id));
    cgroup_of(record)?.filter(|cgroup| !cgroup.is_none()).ok_or_else(none)
}
