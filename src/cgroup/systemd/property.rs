//! Limits and annotations as properties of a unit: systemd.resource-control(5).
//!
//! What systemd knows of it would set back at its next chance; what it has no property for, it leaves alone. So each
//! control file that has a property is set both ways.

use super::message::Value;
use super::variant;
use crate::cgroup::stat::parse_value;
use crate::plan::limits::{Limits, Missing, Version, Write};
use crate::sys::{Error, Result};
use std::collections::BTreeMap;

/// One property of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Property {
    pub name: String,
    pub value: Value,
    /// The first version of systemd that knows it, where that is later than 239.
    pub since: u32,
}

pub(super) fn property(name: &str, value: Value) -> Property {
    Property { name: name.into(), value, since: 0 }
}

/// The properties for all limits that have one.
pub(super) fn of_limits(limits: &Limits, version: Version) -> Vec<Property> {
    fn pair(write: &Write) -> (&str, &str) {
        match &write.missing {
            // systemd writes BFQ's weights itself, from the one that is for any scheduler.
            Missing::Instead { file, value } if write.file.starts_with("io.") => (file, value),
            _ => (&write.file, &write.value),
        }
    }
    of_files(limits.writes.iter().map(pair), version)
}

/// The properties for some control files.
pub(super) fn of_files<'a>(files: impl Iterator<Item = (&'a str, &'a str)>, version: Version) -> Vec<Property> {
    match version {
        Version::V1 => of_v1(files),
        Version::V2 => files.flat_map(|(file, value)| of_file(file, value)).collect(),
    }
}

/// Those that systemd writes itself on v1, by the names that also its old versions know. The two files of the CPU quota
/// are one property.
fn of_v1<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Property> {
    let mut all = Vec::new();
    let (mut quota, mut period) = (None, None);
    for (file, value) in files {
        let value = if value == "-1" { "max" } else { value };
        let name = match file {
            "memory.limit_in_bytes" => "MemoryLimit",
            "pids.max" => "TasksMax",
            "cpu.shares" => "CPUShares",
            "blkio.weight" | "blkio.bfq.weight" => "BlockIOWeight",
            "cpu.cfs_quota_us" => {
                quota = Some(value);
                continue;
            }
            "cpu.cfs_period_us" => {
                period = Some(value);
                continue;
            }
            _ => continue,
        };
        all.extend(parse_value(value).map(|value| property(name, Value::U64(value))));
    }
    if quota.or(period).is_some() {
        let text = [quota.unwrap_or("max"), period.unwrap_or_default()].join(" ");
        all.extend(cpu_quota(text.trim_end()).unwrap_or_default());
    }
    all
}

/// The properties for one control file of v2; none if there is no such property, or the value is one that the kernel will
/// refuse with better words.
fn of_file(file: &str, value: &str) -> Vec<Property> {
    let number = |name: &str, since: u32| {
        let value = parse_value(value);
        value.map(|value| Property { name: name.into(), value: Value::U64(value), since }).into_iter().collect()
    };
    match file {
        "memory.max" => number("MemoryMax", 0),
        "memory.high" => number("MemoryHigh", 0),
        "memory.low" => number("MemoryLow", 0),
        "memory.min" => number("MemoryMin", 240),
        "memory.swap.max" => number("MemorySwapMax", 0),
        "memory.zswap.max" => number("MemoryZSwapMax", 253),
        "pids.max" => number("TasksMax", 0),
        "cpu.weight" => number("CPUWeight", 0),
        "cpu.idle" => {
            let (weight, since) = if value == "1" { (0, 252) } else { (u64::MAX, 0) };
            vec![Property { since, ..property("CPUWeight", Value::U64(weight)) }]
        }
        "io.weight" => of_file("default", value.strip_prefix("default ").unwrap_or(value)),
        "default" => number("IOWeight", 0),
        "cpu.max" => cpu_quota(value).unwrap_or_default(),
        "cpuset.cpus" => bit_mask(value).map(|mask| Property { since: 244, ..property("AllowedCPUs", mask) }).into_iter().collect(),
        "cpuset.mems" => bit_mask(value).map(|mask| Property { since: 244, ..property("AllowedMemoryNodes", mask) }).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// `max 100000`, `50000 100000` or `50000`. systemd counts microseconds in each second, in steps of 10 ms; so more is
/// asked for than less, as runc does, and the file has the exact value.
fn cpu_quota(value: &str) -> Option<Vec<Property>> {
    const STEP: u64 = 10_000;
    let (quota, period) = value.split_once(' ').map_or((value, None), |(quota, period)| (quota, Some(period)));
    let period = period.map(str::parse::<u64>).transpose().ok()?.filter(|period| *period > 0);
    let per_second = match quota {
        "max" => u64::MAX,
        quota => {
            let exact = u128::from(quota.parse::<u64>().ok()?) * 1_000_000 / u128::from(period.unwrap_or(100_000));
            u64::try_from(exact).ok()?.checked_next_multiple_of(STEP)?
        }
    };
    let mut all = vec![property("CPUQuotaPerSecUSec", Value::U64(per_second))];
    all.extend(period.map(|period| Property { since: 242, ..property("CPUQuotaPeriodUSec", Value::U64(period)) }));
    Some(all)
}

/// `0-2,5` as bytes, bit 0 of the first for 0; nothing is the empty list, which is no limit.
fn bit_mask(list: &str) -> Option<Value> {
    /// More CPUs than any kernel is built for (NR_CPUS is at most 8192).
    const HIGHEST: usize = 1 << 16;
    let mut mask = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        for number in first.parse::<usize>().ok()?..=last.parse::<usize>().ok().filter(|last| *last < HIGHEST)? {
            mask.resize(mask.len().max(number / 8 + 1), 0u8);
            mask[number / 8] |= 1 << (number % 8);
        }
    }
    Some(Value::Array("y".into(), mask.into_iter().map(Value::Byte).collect()))
}

const PREFIX: &str = "org.systemd.property.";

/// `org.systemd.property.NAME: VALUE` of the configuration's annotations, as runc reads them: the value in GVariant's text
/// format, and a name that ends in `Sec` is in seconds.
pub(super) fn of_annotations(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let mut all = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let refuse = |why: String| Error::new(why).at(format!("annotations.{key}"));
        if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(refuse(format!("{name:?} is not the name of a property of a systemd unit")));
        }
        let value =
            variant::parse(text).map_err(|why| refuse(format!("the value {text:?} of a systemd property cannot be read: {why}")))?;
        let stem = name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase()));
        all.push(match stem {
            None => property(name, value),
            Some(stem) => {
                let micros = microseconds(&value).ok_or_else(|| refuse(format!("{text:?} is no number of seconds")))?;
                property(&format!("{stem}USec"), Value::U64(micros))
            }
        });
    }
    Ok(all)
}

fn microseconds(seconds: &Value) -> Option<u64> {
    let seconds = match seconds {
        Value::Byte(n) => u64::from(*n),
        Value::I16(n) => u64::try_from(*n).ok()?,
        Value::U16(n) => u64::from(*n),
        Value::I32(n) => u64::try_from(*n).ok()?,
        Value::U32(n) => u64::from(*n),
        Value::I64(n) => u64::try_from(*n).ok()?,
        Value::U64(n) => *n,
        Value::Double(bits) => {
            let micros = f64::from_bits(*bits) * 1e6;
            return (0.0..u64::MAX as f64).contains(&micros).then_some(micros as u64);
        }
        _ => return None,
    };
    seconds.checked_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::limits::writes;
    use serde_json::json;

    fn shown(all: Vec<Property>) -> Vec<String> {
        let value = |value: &Value| match value {
            Value::U64(u64::MAX) => "max".into(),
            Value::U64(n) => n.to_string(),
            Value::Array(_, bytes) => {
                format!("{:?}", bytes.iter().map(|b| if let Value::Byte(b) = b { *b } else { 0 }).collect::<Vec<_>>())
            }
            other => format!("{other:?}"),
        };
        all.iter().map(|p| format!("{}={}", p.name, value(&p.value))).collect()
    }

    #[test]
    fn resources_become_properties() {
        let table = [
            (json!({}), vec![]),
            (
                json!({"memory": {"limit": 300, "swap": 500, "reservation": 100}}),
                vec!["MemorySwapMax=200", "MemoryMax=300", "MemoryLow=100"],
            ),
            (json!({"memory": {"limit": -1}}), vec!["MemorySwapMax=max", "MemoryMax=max"]),
            (json!({"pids": {"limit": -1}}), vec!["TasksMax=max"]),
            (json!({"pids": {"limit": 7}}), vec!["TasksMax=7"]),
            (json!({"cpu": {"shares": 1024}}), vec!["CPUWeight=100"]),
            (json!({"cpu": {"idle": 1}}), vec!["CPUWeight=0"]),
            (json!({"cpu": {"idle": 0, "shares": 1024}}), vec!["CPUWeight=max", "CPUWeight=100"]),
            (json!({"cpu": {"quota": 50000, "period": 100_000}}), vec!["CPUQuotaPerSecUSec=500000", "CPUQuotaPeriodUSec=100000"]),
            (json!({"cpu": {"quota": 50000}}), vec!["CPUQuotaPerSecUSec=500000"]),
            (json!({"cpu": {"quota": 9999, "period": 70_000}}), vec!["CPUQuotaPerSecUSec=150000", "CPUQuotaPeriodUSec=70000"]),
            (json!({"cpu": {"quota": -1}}), vec!["CPUQuotaPerSecUSec=max"]),
            (json!({"cpu": {"cpus": "0-2,8", "mems": "0"}}), vec!["AllowedCPUs=[7, 1]", "AllowedMemoryNodes=[1]"]),
            (json!({"blockIO": {"weight": 500}}), vec!["IOWeight=4950"]),
            (json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}}), vec![]),
            (
                json!({"unified": {"memory.high": "5", "memory.min": "max", "io.max": "8:0 rbps=1", "pids.max": "9", "cpuset.cpus": "x"}}),
                vec!["MemoryHigh=5", "MemoryMin=max", "TasksMax=9"],
            ),
            (json!({"cpu": {"burst": 5}, "hugepageLimits": [{"pageSize": "2MB", "limit": 4}]}), vec![]),
        ];
        for (resources, properties) in table {
            let limits = writes(&serde_json::from_value(resources.clone()).unwrap(), Version::V2).unwrap();
            assert_eq!(shown(of_limits(&limits, Version::V2)), properties, "{resources}");
        }
        // What a file says before an update is put back in the same way.
        assert_eq!(shown(of_file("cpu.max", "max 100000")), ["CPUQuotaPerSecUSec=max", "CPUQuotaPeriodUSec=100000"]);
        assert_eq!(shown(of_file("io.weight", "default 100")), ["IOWeight=100"]);
        assert_eq!(shown(of_file("cpuset.cpus", "\n")), ["AllowedCPUs=[]"]);
    }

    #[test]
    fn resources_become_properties_of_v1() {
        let table = [
            (json!({}), vec![]),
            (json!({"memory": {"limit": 300, "swap": 500, "reservation": 100}}), vec!["MemoryLimit=300"]),
            (json!({"memory": {"limit": -1}, "pids": {"limit": -1}}), vec!["MemoryLimit=max", "TasksMax=max"]),
            (json!({"cpu": {"shares": 512, "cpus": "0"}, "pids": {"limit": 7}}), vec!["CPUShares=512", "TasksMax=7"]),
            (json!({"cpu": {"quota": 50000, "period": 100_000}}), vec!["CPUQuotaPerSecUSec=500000", "CPUQuotaPeriodUSec=100000"]),
            (json!({"cpu": {"quota": 25000}}), vec!["CPUQuotaPerSecUSec=250000"]),
            (json!({"cpu": {"period": 50000}}), vec!["CPUQuotaPerSecUSec=max", "CPUQuotaPeriodUSec=50000"]),
            (json!({"cpu": {"quota": -1}}), vec!["CPUQuotaPerSecUSec=max"]),
            (json!({"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}}), vec!["BlockIOWeight=500"]),
        ];
        for (resources, properties) in table {
            let limits = writes(&serde_json::from_value(resources.clone()).unwrap(), Version::V1).unwrap();
            assert_eq!(shown(of_limits(&limits, Version::V1)), properties, "{resources}");
        }
        let before = [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "-1"), ("cpu.shares", "1024")];
        let properties = ["CPUShares=1024", "CPUQuotaPerSecUSec=max", "CPUQuotaPeriodUSec=100000"];
        assert_eq!(shown(of_files(before.into_iter(), Version::V1)), properties);
    }

    #[test]
    fn annotations_become_properties() {
        let of = |key: &str, value: &str| of_annotations(&BTreeMap::from([(format!("org.systemd.property.{key}"), value.to_string())]));
        assert_eq!(of("KillSignal", "15").unwrap(), [property("KillSignal", Value::I32(15))]);
        assert_eq!(of("CollectMode", "'inactive'").unwrap(), [property("CollectMode", Value::text("inactive"))]);
        assert_eq!(of("TimeoutStopSec", "1.5").unwrap(), [property("TimeoutStopUSec", Value::U64(1_500_000))]);
        assert_eq!(of("TimeoutStopSec", "uint64 3").unwrap(), [property("TimeoutStopUSec", Value::U64(3_000_000))]);
        assert_eq!(of("TimeoutStopUSec", "uint64 3").unwrap(), [property("TimeoutStopUSec", Value::U64(3))]);
        for (key, value, words) in [
            ("A", "1", "not the name of a property"),
            ("Kill Signal", "1", "not the name of a property"),
            ("KillSignal", "fifteen", "a text needs quotes"),
            ("TimeoutStopSec", "'soon'", "no number of seconds"),
            ("TimeoutStopSec", "-1", "no number of seconds"),
        ] {
            let error = of(key, value).expect_err(key).to_string();
            assert!(error.contains(words) && error.contains(&format!("annotations.org.systemd.property.{key}")), "{error}");
        }
        let other = BTreeMap::from([("com.example".to_string(), "x".to_string())]);
        assert_eq!(of_annotations(&other).unwrap(), []);
    }
}
