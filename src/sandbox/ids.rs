//! What the parent does for a child in a new user namespace: id maps, and limits the child may not raise.

use super::report::failed;
use crate::plan::{Facts, Op, Plan, needs_helper};
use crate::spec::IdMapping;
use crate::sys::{Context, Error, Result, ioprio_set, limits_of, prlimit, sched_setattr};
use rustix::io::Errno;
use std::path::Path;
use std::process::Command;

/// user_namespaces(7): at most 340 lines in a map since Linux 4.15.
const MAP_LINES_MAX: usize = 340;

/// Writes the maps of `pid` and sets its limits.
pub fn establish(plan: &Plan, facts: &Facts, pid: i32) -> Result<()> {
    if let Some(maps) = &plan.maps {
        for (list, field) in [(&maps.0, "linux.uidMappings"), (&maps.1, "linux.gidMappings")] {
            if list.len() > MAP_LINES_MAX {
                return Err(Error::new(format!("{} id mappings; the kernel takes at most {MAP_LINES_MAX}", list.len())).at(field));
            }
        }
        map(pid, maps, needs_helper(maps, facts), !facts.privileged)?;
    }
    for (i, op) in plan.outside.iter().enumerate() {
        let done = match op {
            Op::RaiseLimit { resource, hard, .. } => raise_limit(pid, *resource, *hard),
            Op::Scheduler(attr) => sched_setattr(pid, attr),
            Op::IoPriority(priority) => ioprio_set(pid, *priority),
            Op::OomScoreAdj(score) => put(&format!("/proc/{pid}/oom_score_adj"), score.as_bytes()),
            _ => Err(Errno::INVAL),
        };
        done.map_err(|errno| failed(plan, &plan.outside[i], errno))?;
    }
    Ok(())
}

/// Raises the hard limit of a process, for the limits that it will set by itself. 0 is this
/// process.
pub(super) fn raise_limit(pid: i32, resource: u32, hard: u64) -> rustix::io::Result<()> {
    let [soft, now] = limits_of(pid, resource)?;
    if hard > now { prlimit(pid, resource, soft, hard) } else { Ok(()) }
}

/// Maps the ids of a process in a new user namespace: by newuidmap(1) and newgidmap(1), or by ourselves, after which who is
/// not privileged may set no groups there.
pub fn map(pid: i32, maps: &(Vec<IdMapping>, Vec<IdMapping>), by_helper: bool, deny_groups: bool) -> Result<()> {
    if by_helper {
        helper("newuidmap", "uidmap", pid, &maps.0, "linux.uidMappings")?;
        return helper("newgidmap", "uidmap", pid, &maps.1, "linux.gidMappings");
    }
    if deny_groups {
        write(pid, "setgroups", "deny", "linux.gidMappings")?;
    }
    write(pid, "uid_map", &IdMapping::map_text(&maps.0), "linux.uidMappings")?;
    write(pid, "gid_map", &IdMapping::map_text(&maps.1), "linux.gidMappings")
}

/// One write of the whole map, as the kernel demands.
fn write(pid: i32, file: &str, text: &str, at: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    put(&path, text.as_bytes()).context(|| format!("write {} to {path}", text.trim_end().replace('\n', ", "))).map_err(|e| e.at(at))
}

fn put(path: &str, text: &[u8]) -> rustix::io::Result<()> {
    let fd = rustix::fs::open(path, rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
    rustix::io::write(fd, text).map(drop)
}

/// newuidmap(1) and newgidmap(1), set-uid programs that check /etc/subuid and /etc/subgid. Found by absolute host path
/// only, never through a PATH that a bundle or caller chose (CVE-2025-24965).
fn helper(name: &str, package: &str, pid: i32, maps: &[IdMapping], at: &str) -> Result<()> {
    let path = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"].iter().map(|d| Path::new(d).join(name)).find(|p| p.exists());
    let hint = format!("install {package}, or map only your own id");
    let path = path.ok_or_else(|| Error::new(format!("{name} is needed for these maps and is not installed")).at(at).hint(hint))?;
    let numbers = maps.iter().flat_map(|m| [m.container_id, m.host_id, m.size]).map(|n| n.to_string());
    let output = Command::new(&path).arg(pid.to_string()).args(numbers).env_clear().output();
    let output = output.context(|| format!("execute {}", path.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("{} refused the map: {}", path.display(), said.trim().replace('\n', "; ")))
        .at(at)
        .hint(format!("the ranges of {} must cover it", if name == "newuidmap" { "/etc/subuid" } else { "/etc/subgid" })))
}
