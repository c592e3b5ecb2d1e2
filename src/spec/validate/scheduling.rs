//! config.md, "scheduler", "ioPriority", "execCPUAffinity"; config-linux.md, "Memory policy" and "Personality".

use crate::spec::names::{IO_CLASSES, MEMORY_FLAGS, MEMORY_MODES, PERSONALITIES, SCHEDULER_FLAGS, SCHEDULERS, value};
use crate::spec::{CpuAffinity, IoPriority, Linux, MemoryPolicy, Process, Scheduler, numbers};
use crate::sys::{Error, Result};

/// What SCHED_DEADLINE counts in, and the least runtime that it takes, sched(7), in nanoseconds.
const DEADLINE_UNIT: u64 = 1024;

pub(super) fn process(process: &Process) -> Result<()> {
    process.scheduler.as_ref().map_or(Ok(()), scheduler)?;
    process.io_priority.as_ref().map_or(Ok(()), io_priority)?;
    process.exec_cpu_affinity.as_ref().map_or(Ok(()), cpu_affinity)
}

pub(super) fn linux(linux: &Linux, warnings: &mut Vec<String>) -> Result<()> {
    linux.memory_policy.as_ref().map_or(Ok(()), memory_policy)?;
    let Some(personality) = &linux.personality else { return Ok(()) };
    known(PERSONALITIES, &personality.domain, "an execution domain", || "linux.personality.domain".into())?;
    if !personality.flags.is_empty() {
        warnings.push("linux.personality.flags: the specification defines none; they are ignored".into());
    }
    Ok(())
}

fn known<T: Copy>(table: &[(&str, T)], name: &str, what: &str, at: impl FnOnce() -> String) -> Result<T> {
    value(table, name).ok_or_else(|| {
        let names = table.iter().map(|row| row.0).collect::<Vec<_>>().join(", ");
        Error::new(format!("{name:?} is not {what}; there are {names}")).at(at())
    })
}

/// sched_setattr(2) answers what does not fit together with a bare EINVAL, or ignores it.
fn scheduler(scheduler: &Scheduler) -> Result<()> {
    let refuse = |why: String, field: &str| Err(Error::new(why).at(format!("process.scheduler.{field}")));
    let policy = scheduler.policy.as_str();
    known(SCHEDULERS, policy, "a scheduling policy", || "process.scheduler.policy".into())?;
    for (i, flag) in scheduler.flags.iter().enumerate() {
        known(SCHEDULER_FLAGS, flag, "a scheduling flag", || format!("process.scheduler.flags[{i}]"))?;
    }
    let deadline = [(scheduler.runtime, "runtime"), (scheduler.deadline, "deadline"), (scheduler.period, "period")];
    match policy {
        "SCHED_ISO" => return refuse("SCHED_ISO is reserved and no kernel has it, sched(7)".into(), "policy"),
        _ if !(-20..=19).contains(&scheduler.nice) => {
            return refuse(format!("{} is outside of -20 to 19, nice(2)", scheduler.nice), "nice");
        }
        "SCHED_FIFO" | "SCHED_RR" if !(1..=99).contains(&scheduler.priority) => {
            return refuse(format!("{policy} has the priorities 1 to 99, not {}, sched(7)", scheduler.priority), "priority");
        }
        "SCHED_FIFO" | "SCHED_RR" => {}
        _ if scheduler.priority != 0 => return refuse(format!("{policy} has no priorities but 0, sched(7)"), "priority"),
        _ => {}
    }
    match deadline.iter().find(|(value, _)| *value != 0) {
        Some((_, field)) if policy != "SCHED_DEADLINE" => refuse(format!("only SCHED_DEADLINE has a {field}, not {policy}"), field),
        // The policy of the caller stays then, and these values are not looked at.
        _ if policy != "SCHED_DEADLINE" || scheduler.flags.iter().any(|flag| flag == "SCHED_FLAG_KEEP_POLICY") => Ok(()),
        _ => deadline_fault(scheduler).map_or(Ok(()), |(why, field)| refuse(why, field)),
    }
}

/// sched(7): runtime <= deadline <= period, of which the last may be 0, and is the deadline then. How long a period may be is for the
/// machine to say (kernel.sched_deadline_period_max_us).
fn deadline_fault(scheduler: &Scheduler) -> Option<(String, &'static str)> {
    let Scheduler { runtime, deadline, period, .. } = *scheduler;
    let least = DEADLINE_UNIT;
    match () {
        () if deadline == 0 => Some(("SCHED_DEADLINE needs a deadline, sched(7)".into(), "deadline")),
        () if runtime < least => {
            Some((format!("SCHED_DEADLINE needs a runtime of at least {least} ns, not {runtime}, sched(7)"), "runtime"))
        }
        () if runtime > deadline => Some((format!("a runtime of {runtime} ns is longer than the deadline of {deadline} ns"), "runtime")),
        () if period != 0 && deadline > period => {
            Some((format!("a deadline of {deadline} ns is later than the end of the period of {period} ns"), "deadline"))
        }
        () => None,
    }
}

fn io_priority(priority: &IoPriority) -> Result<()> {
    known(IO_CLASSES, &priority.class, "an I/O scheduling class", || "process.ioPriority.class".into())?;
    match priority.priority {
        0..=7 => Ok(()),
        level => Err(Error::new(format!("{level} is outside of 0 to 7, ioprio_set(2)")).at("process.ioPriority.priority")),
    }
}

fn cpu_affinity(affinity: &CpuAffinity) -> Result<()> {
    for (list, field) in [(&affinity.initial, "initial"), (&affinity.last, "final")] {
        if !list.is_empty() {
            numbers::parse(list)
                .map_err(|why| Error::new(format!("the list of CPUs {list:?} {why}")).at(format!("process.execCPUAffinity.{field}")))?;
        }
    }
    Ok(())
}

/// set_mempolicy(2): which modes take nodes, which flags; the rest is the kernel's to judge, as it depends on the machine.
fn memory_policy(policy: &MemoryPolicy) -> Result<()> {
    let at = |field: &str| format!("linux.memoryPolicy.{field}");
    known(MEMORY_MODES, &policy.mode, "a memory policy", || at("mode"))?;
    for (i, flag) in policy.flags.iter().enumerate() {
        known(MEMORY_FLAGS, flag, "a flag of a memory policy", || at(&format!("flags[{i}]")))?;
    }
    if !policy.nodes.is_empty() {
        let nodes = &policy.nodes;
        numbers::parse(nodes).map_err(|why| Error::new(format!("the list of memory nodes {nodes:?} {why}")).at(at("nodes")))?;
    }
    if let Some(why) = memory_flags_fault(policy) {
        return Err(Error::new(why).at(at("flags")));
    }
    match (policy.mode.as_str(), policy.nodes.is_empty()) {
        ("MPOL_DEFAULT" | "MPOL_LOCAL", false) => Err(Error::new(format!("{} takes no nodes", policy.mode)).at(at("nodes"))),
        ("MPOL_DEFAULT" | "MPOL_LOCAL" | "MPOL_PREFERRED", _) | (_, false) => Ok(()),
        (mode, true) => Err(Error::new(format!("{mode} needs nodes")).at(at("nodes"))),
    }
}

/// Flags that exclude each other, or of which the mode has no use; the kernel says EINVAL, as it does to nodes that it has not.
fn memory_flags_fault(policy: &MemoryPolicy) -> Option<String> {
    let has = |name: &str| policy.flags.iter().any(|flag| flag == name);
    let mode = policy.mode.as_str();
    let about_nodes = ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"].map(|name| has(name).then_some(name));
    match about_nodes {
        [Some(one), Some(other)] => Some(format!("{one} and {other} exclude each other, set_mempolicy(2)")),
        _ if has("MPOL_F_NUMA_BALANCING") && !["MPOL_BIND", "MPOL_PREFERRED_MANY"].contains(&mode) => {
            Some(format!("MPOL_F_NUMA_BALANCING is for MPOL_BIND and MPOL_PREFERRED_MANY, not for {mode}, set_mempolicy(2)"))
        }
        [Some(flag), None] | [None, Some(flag)] if mode == "MPOL_LOCAL" || mode == "MPOL_PREFERRED" && policy.nodes.is_empty() => {
            Some(format!("{flag} is about nodes, and this {mode} has none, set_mempolicy(2)"))
        }
        _ => None,
    }
}
