//! `update`: from the resources that a container has and the ones that are asked for to what is written now and what is
//! remembered. Pure, as all of this room.

use super::limits::Version;
use crate::spec::{Memory, Resources};
use crate::sys::{Error, Result};
use serde_json::Value;

/// An update, decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// What is to be written: the asked for, and beside it what the kernel takes together with it.
    pub write: Resources,
    /// What the container's `linux.resources` are from then on.
    pub keep: Resources,
    /// One sentence for each setting that an update does not change.
    pub warnings: Vec<String>,
}

/// Decides an update. What is not set in `new` (absent, and for most numbers 0, as runc has it) stays as it is.
///
/// Device rules are never changed, as in runc: what an engine's hook added to them (a GPU) would be lost.
pub fn update(old: &Resources, new: &Resources, version: Version) -> Result<Update> {
    let mut write = new.clone();
    let mut warnings = Vec::new();
    forget_zeros(&mut write);
    // Engines send the whole of what they know, device rules too: only others than the present ones are worth a word.
    if !write.devices.is_empty() && write.devices != old.devices {
        warnings.push("linux.resources.devices is ignored: an update does not change device rules".into());
    }
    write.devices.clear();
    complete(old, &mut write);
    let mut keep = merged(old, &write)?;
    if version == Version::V2 {
        keep.memory.swap = sum(&old.memory, &write.memory).or(keep.memory.swap);
    }
    Ok(Update { write, keep, warnings })
}

/// 0 is how callers say "unset" where 0 is no limit.
fn forget_zeros(resources: &mut Resources) {
    let Resources { memory, cpu, block_io, .. } = resources;
    for bytes in [&mut memory.limit, &mut memory.reservation, &mut memory.swap, &mut cpu.quota, &mut cpu.realtime_runtime] {
        bytes.take_if(|value| *value == 0);
    }
    for number in [&mut cpu.shares, &mut cpu.period, &mut cpu.realtime_period] {
        number.take_if(|value| *value == 0);
    }
    for weight in [&mut block_io.weight, &mut block_io.leaf_weight] {
        weight.take_if(|value| *value == 0);
    }
}

/// Adds to what is written the other half of each pair that the kernel takes as one, or that is stated in terms of it.
fn complete(old: &Resources, write: &mut Resources) {
    let (had, cpu) = (&old.cpu, &mut write.cpu);
    if cpu.quota.is_some() != cpu.period.is_some() {
        cpu.quota = cpu.quota.or(had.quota.filter(|&quota| quota != 0));
        cpu.period = cpu.period.or(had.period.filter(|&period| period != 0));
    }
    // A cgroup that leaves idle gets the default shares, one that is idle takes none.
    if cpu.idle == Some(0) {
        cpu.shares = cpu.shares.or(had.shares);
    } else if cpu.shares.is_some() {
        cpu.idle = cpu.idle.or(had.idle);
    }
    // The spec's swap is the sum of both.
    let (had, memory) = (&old.memory, &mut write.memory);
    if memory.swap.is_some_and(|swap| swap > 0) {
        memory.limit = memory.limit.or(had.limit.filter(|&limit| limit != 0));
    }
}

/// v2 limits swap alone: where only the memory limit changes, the swap beside it stays, as in runc, and so the sum changes.
fn sum(old: &Memory, write: &Memory) -> Option<i64> {
    match (write.limit?, write.swap, old.limit?, old.swap?) {
        (limit, None, before, swap) if limit > 0 && before > 0 && swap > 0 => Some(limit + (swap - before)),
        _ => None,
    }
}

/// What identifies an entry of a list: a device, a page size, an interface.
const IDENTITY: [&str; 4] = ["major", "minor", "pageSize", "name"];

/// `old` with everything that `new` sets, by the names that both have in `config.json`.
fn merged(old: &Resources, new: &Resources) -> Result<Resources> {
    let failed = |e: serde_json::Error| Error::new(format!("merge the resources: {e}"));
    let mut all = serde_json::to_value(old).map_err(failed)?;
    merge(&mut all, serde_json::to_value(new).map_err(failed)?);
    serde_json::from_value(all).map_err(failed)
}

fn merge(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                merge(old.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for item in new {
                let same = |have: &&mut Value| IDENTITY.iter().all(|key| have.get(key) == item.get(key));
                match old.iter_mut().find(same) {
                    Some(have) => *have = item,
                    None => old.push(item),
                }
            }
        }
        (old, new) => *old = new,
    }
}
