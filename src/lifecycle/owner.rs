//! Whose the container's cgroup is: config-linux.md, "Cgroup ownership".

use super::cgroup_of;
use crate::plan::Facts;
use crate::spec::Spec;
use crate::spec::options::MountOptions;
use crate::store::Record;
use crate::sys::{Context, Result};
use rustix::io::Errno;
use std::path::Path;

/// Gives the cgroup of v2 to the user that the program will run as, where it can be used: the
/// container has a cgroup namespace of its own and a writable mount of the hierarchy. `pid` is its
/// first process, which waits.
pub(super) fn settle(spec: &Spec, record: &Record, pid: i32, facts: &Facts) -> Result<()> {
    let user = spec.process.as_ref().map_or(0, |process| process.user.uid);
    if !facts.cgroup.v2 || !is_asked_for(spec) {
        return Ok(());
    }
    let path = format!("/proc/{pid}/uid_map");
    let map = std::fs::read_to_string(&path).context(|| format!("read {path}"))?;
    let (Some(owner), Some(cgroup)) = (host_id(&map, user), cgroup_of(record)?) else { return Ok(()) };
    if owner == facts.uid {
        return Ok(());
    }
    match cgroup.delegate(owner) {
        // An ordinary user gives nothing away, not even to an id of his own ranges (chown(2)).
        Err(error) if facts.rootless() && error.get_errno() == Some(Errno::PERM) => Ok(()),
        given => given.map_err(|error| error.at("process.user.uid")),
    }
}

fn is_asked_for(spec: &Spec) -> bool {
    let writable = spec.mounts.iter().any(|mount| {
        let place = Path::new(&mount.destination).components();
        let read_only = MountOptions::of(mount).attr.set & libc::MOUNT_ATTR_RDONLY != 0;
        mount.source == "cgroup" && place.eq(Path::new("/sys/fs/cgroup").components()) && !read_only
    });
    writable && spec.linux.namespace("cgroup").is_some_and(|namespace| namespace.path.is_empty())
}

/// The host's id of a user in a map as /proc/PID/uid_map shows it: lines of three numbers, first in
/// the container, first here, how many (user_namespaces(7)).
fn host_id(map: &str, user: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        let at = user.checked_sub(inside).filter(|at| *at < count)?;
        outside.checked_add(at)
    })
}
