//! `update`: other limits, or another restart policy, for containers that exist.

use super::args::Limits;
use super::{create, each, print};
use crate::lifecycle;
use crate::mydocker::container::{Container, Containers, Resources, Restart, journal, limits};
use crate::mydocker::files::Dirs;
use crate::spec::IntelRdt;
use crate::sys::{Error, Log, Result};
use clap::Args;

/// `update`.
#[derive(Args, Debug)]
pub struct Update {
    /// Limits
    #[command(flatten)]
    pub limits: Limits,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// `mydocker update`.
pub fn update(args: &Update, dirs: &Dirs) -> Result<i32> {
    // The sum of memory and swap alone is judged with the memory that each container has.
    let mut flags = args.limits.clone();
    let swap = if flags.memory.is_none() { flags.memory_swap.take() } else { None };
    let mut change = create::resources(&flags)?;
    change.memory_swap = change.memory_swap.or(swap.as_deref().map(super::units::size_or_unlimited).transpose()?.filter(|swap| *swap != 0));
    let policy = args.restart.as_deref().map(Restart::parse).transpose()?;
    if change == Resources::default() && policy.is_none() {
        return Err(Error::new("you must provide one or more flags when using this command"));
    }
    if change.oom_kill_disable {
        return Err(Error::new("--oom-kill-disable can only be given when a container is created"));
    }
    let containers = Containers::new(dirs);
    each(&args.containers, |name| {
        one(&containers.find(name)?, &change, policy)?;
        print(&format!("{name}\n"))
    })
}

/// The kernel first: what it refuses is not written down.
fn one(container: &Container, change: &Resources, policy: Option<Restart>) -> Result<()> {
    let _lock = container.lock()?;
    let mut record = container.record()?;
    if policy.is_some_and(|policy| policy != Restart::No) && record.settings.auto_remove {
        return Err(Error::new("restart policy cannot be updated because AutoRemove is enabled for the container"));
    }
    let merged = merge(&record.settings.resources, change)?;
    let state = container.state()?;
    if *change != Resources::default() && state.status.is_up() && container.process(&state).is_some() {
        let mut wanted = limits(change);
        if change.memory.is_some() || change.memory_swap.is_some() {
            wanted.memory.swap = limits(&merged).memory.swap;
        }
        lifecycle::update(&container.runtime()?, &container.runtime_id()?, &wanted, &IntelRdt::default(), &Log::open(None, false, false)?)?;
    }
    record.settings.resources = merged;
    record.settings.restart = policy.unwrap_or(record.settings.restart);
    container.save_record(&record)?;
    journal::tell(container.dirs(), &record, "update", &[]);
    Ok(())
}

/// What was, but for what is said now.
fn merge(old: &Resources, new: &Resources) -> Result<Resources> {
    let text = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
    let merged = Resources {
        memory: new.memory.or(old.memory),
        memory_swap: new.memory_swap.or(old.memory_swap),
        memory_reservation: new.memory_reservation.or(old.memory_reservation),
        memory_swappiness: new.memory_swappiness.or(old.memory_swappiness),
        oom_kill_disable: old.oom_kill_disable,
        cpu_shares: new.cpu_shares.or(old.cpu_shares),
        cpu_period: new.cpu_period.or(old.cpu_period),
        cpu_quota: new.cpu_quota.or(old.cpu_quota),
        cpuset_cpus: text(&new.cpuset_cpus, &old.cpuset_cpus),
        cpuset_mems: text(&new.cpuset_mems, &old.cpuset_mems),
        pids_limit: new.pids_limit.or(old.pids_limit),
        blkio_weight: new.blkio_weight.or(old.blkio_weight),
    };
    match (merged.memory, merged.memory_swap) {
        (None, Some(swap)) if swap > 0 => Err(Error::new("you should always set the memory limit when using the memory swap limit")),
        (Some(memory), Some(swap)) if swap > 0 && memory > swap => {
            Err(Error::new("memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"))
        }
        _ => Ok(merged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays() {
        let old = Resources { memory: Some(64 << 20), cpuset_cpus: "0".into(), pids_limit: Some(9), ..Resources::default() };
        let new = Resources { memory: Some(32 << 20), cpu_shares: Some(7), ..Resources::default() };
        let merged = merge(&old, &new).unwrap();
        assert_eq!((merged.memory, merged.cpu_shares, merged.pids_limit), (Some(32 << 20), Some(7), Some(9)));
        assert_eq!(merged.cpuset_cpus, "0");
        let bounded = Resources { memory: Some(1 << 30), memory_swap: Some(1 << 30), ..Resources::default() };
        assert!(merge(&bounded, &Resources { memory: Some(2 << 30), ..Resources::default() }).is_err());
        assert!(merge(&Resources::default(), &Resources { memory_swap: Some(1), ..Resources::default() }).is_err());
    }
}
