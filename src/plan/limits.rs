//! From `linux.resources` to the list of files that express it: which file, which value, and where in `config.json`
//! it came from. Pure: what depends on the running kernel (a file that may be missing) is stated as [`Missing`].
//!
//! Conversions follow runc 1.4 (its `opencontainers/cgroups` library) and Documentation/admin-guide/cgroup-v2.rst.
//! Device rules are not here: they are no files on v2 (`cgroup::Devices`).

use crate::spec::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};
use crate::sys::{Error, Result};
use serde::{Deserialize, Serialize};

/// Which kind of control files express the limits. A hybrid host is [`Version::V1`]: its controllers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// One hierarchy for each controller, cgroups(7) "version 1".
    V1,
    /// One hierarchy for all, cgroups(7) "version 2".
    V2,
}

/// What it means when the kernel does not have the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The limit cannot be kept, so the container is refused; the text is a hint, or empty.
    Refuse(&'static str),
    /// Without the file there is nothing to limit.
    Skip,
    /// The limit is a favour, not a promise: say so and go on.
    Warn(&'static str),
    /// The same limit in other words.
    Instead {
        /// The other file.
        file: &'static str,
        /// The value in that file's unit.
        value: String,
    },
}

/// One value for one control file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The controller that owns the file; empty for the files of the cgroup itself (`cgroup.*`).
    pub controller: String,
    /// The file's name inside the cgroup.
    pub file: String,
    /// What is written, in one `write`.
    pub value: String,
    /// Where in `config.json` it stands: `linux.resources.memory.limit`.
    pub at: String,
    /// What to do if there is no such file.
    pub missing: Missing,
}

/// All limits of a container, in the order in which they are to be written.
///
/// Files of one controller can depend on each other (period and quota, memory and memory+swap), and which must come
/// first depends on the present values; so whoever writes retries a refused one after the others of its controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The files, those of one controller next to each other.
    pub writes: Vec<Write>,
    /// One sentence for each setting that this version of cgroups cannot express.
    pub warnings: Vec<String>,
    /// `memory.checkBeforeUpdate`: refuse an update to so many bytes or less than are in use.
    pub above_usage: Option<u64>,
}

/// Translates the resources for one version of cgroups, or says which of them no kernel could keep.
pub fn writes(resources: &Resources, version: Version) -> Result<Limits> {
    let mut out = Limits::default();
    cpuset(&mut out, &resources.cpu);
    memory(&mut out, &resources.memory, version)?;
    cpu(&mut out, &resources.cpu, version)?;
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        // runtime-spec 1.3.0: -1 is no limit, 0 is a limit. As runc we write 1 for 0: both forbid every fork, but 0
        // would also keep the first process from being cloned into the cgroup.
        let value = if limit < 0 { "max".into() } else { limit.max(1).to_string() };
        out.put("pids", "pids.max", value, "pids.limit");
    }
    block_io(&mut out, &resources.block_io, version)?;
    hugetlb(&mut out, resources, version)?;
    network(&mut out, resources, version);
    for (device, limit) in &resources.rdma {
        let mut value = device.clone();
        for (key, number) in [("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects)] {
            if let Some(number) = number {
                value.push_str(&format!(" {key}={number}"));
            }
        }
        out.put("rdma", "rdma.max", value, format!("rdma.{device}"));
    }
    unified(&mut out, resources, version)?;
    Ok(out)
}

impl Limits {
    fn put(&mut self, controller: &str, file: &str, value: impl ToString, at: impl AsRef<str>) {
        self.put_or(controller, file, value, at, Missing::Refuse(""));
    }

    fn put_or(&mut self, controller: &str, file: &str, value: impl ToString, at: impl AsRef<str>, missing: Missing) {
        let at = format!("linux.resources.{}", at.as_ref());
        self.writes.push(Write { controller: controller.into(), file: file.into(), value: value.to_string(), at, missing });
    }

    fn warn(&mut self, at: &str, why: &str) {
        self.warnings.push(format!("linux.resources.{at} is ignored: {why}"));
    }
}

fn refuse<T>(at: &str, what: impl Into<String>) -> Result<T> {
    Err(Error::new(what).at(format!("linux.resources.{at}")))
}

fn cpuset(out: &mut Limits, cpu: &Cpu) {
    for (file, value, at) in [("cpuset.cpus", &cpu.cpus, "cpu.cpus"), ("cpuset.mems", &cpu.mems, "cpu.mems")] {
        if !value.is_empty() {
            out.put("cpuset", file, value, at);
        }
    }
}

/// Unset and 0 are the same in runc and its callers; -1 is unlimited; nothing else below 0 has a meaning.
fn bytes(value: Option<i64>, at: &str) -> Result<i64> {
    match value.unwrap_or(0) {
        value if value < -1 => refuse(at, format!("a memory limit of {value} bytes")),
        value => Ok(value),
    }
}

fn memory(out: &mut Limits, memory: &Memory, version: Version) -> Result<()> {
    let limit = bytes(memory.limit, "memory.limit")?;
    let reservation = bytes(memory.reservation, "memory.reservation")?;
    let swap = bytes(memory.swap, "memory.swap")?;
    if swap > 0 && limit == 0 {
        return refuse("memory.swap", "memory.swap without memory.limit: it is the sum of memory and swap");
    }
    if swap > 0 && limit > swap {
        return refuse("memory.swap", format!("memory.swap {swap} is below memory.limit {limit}: it is the sum of memory and swap"));
    }
    match version {
        Version::V1 => memory_v1(out, limit, swap, reservation),
        Version::V2 => memory_v2(out, limit, swap, reservation),
    }
    match (memory.swappiness, version) {
        (Some(value), Version::V1) if value > 100 => return refuse("memory.swappiness", format!("swappiness {value} is not in 0-100")),
        (Some(value), Version::V1) => out.put("memory", "memory.swappiness", value, "memory.swappiness"),
        (Some(_), Version::V2) => out.warn("memory.swappiness", "cgroup v2 has no swappiness"),
        (None, _) => {}
    }
    match (memory.disable_oom_killer, version) {
        (Some(true), Version::V1) => out.put("memory", "memory.oom_control", 1, "memory.disableOOMKiller"),
        (Some(true), Version::V2) => out.warn("memory.disableOOMKiller", "cgroup v2 cannot disable the OOM killer"),
        _ => {}
    }
    if memory.use_hierarchy == Some(false) {
        out.warn("memory.useHierarchy", "memory is always accounted hierarchically since Linux 5.11");
    }
    if memory.check_before_update == Some(true) {
        out.above_usage = [limit, swap].into_iter().filter(|&n| n > 0).min().map(i64::unsigned_abs);
    }
    Ok(())
}

fn memory_v1(out: &mut Limits, limit: i64, swap: i64, reservation: i64) {
    const NO_SWAP: &str = "swap accounting is off: boot with swapaccount=1";
    if limit != 0 {
        out.put("memory", "memory.limit_in_bytes", limit, "memory.limit");
    }
    match (limit, swap) {
        // Unlimited memory cannot be had below a limit on memory plus swap that an earlier update left.
        (-1, 0) => out.put_or("memory", "memory.memsw.limit_in_bytes", -1, "memory.limit", Missing::Skip),
        (_, 0) => {}
        (_, -1) => out.put_or("memory", "memory.memsw.limit_in_bytes", -1, "memory.swap", Missing::Skip),
        _ => out.put_or("memory", "memory.memsw.limit_in_bytes", swap, "memory.swap", Missing::Refuse(NO_SWAP)),
    }
    if reservation != 0 {
        out.put("memory", "memory.soft_limit_in_bytes", reservation, "memory.reservation");
    }
}

fn memory_v2(out: &mut Limits, limit: i64, swap: i64, reservation: i64) {
    let max = |value: i64| if value == -1 { "max".to_string() } else { value.to_string() };
    // v2 limits swap alone, the spec (as v1) the sum.
    let swap = match (limit, swap) {
        (-1, 0) => Some("max".into()),
        (_, 0) => None,
        (_, -1) => Some("max".into()),
        (-1, swap) => Some(swap.to_string()),
        (limit, swap) => Some((swap - limit).to_string()),
    };
    if let Some(value) = swap {
        // A kernel without swap accounting neither limits nor gives swap.
        let missing = if value == "max" || value == "0" { Missing::Skip } else { Missing::Refuse("the kernel does not account swap") };
        out.put_or("memory", "memory.swap.max", value, "memory.swap", missing);
    }
    if limit != 0 {
        out.put("memory", "memory.max", max(limit), "memory.limit");
    }
    if reservation != 0 {
        out.put("memory", "memory.low", max(reservation), "memory.reservation");
    }
}

/// CPU shares (2-262144, default 1024) as a v2 weight (1-10000, default 100): the curve of runc 1.3.2 and crun 1.23,
/// which keeps minimum, default and maximum where they are (the older linear one made 39 of the default).
pub fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

fn cpu(out: &mut Limits, cpu: &Cpu, version: Version) -> Result<()> {
    let idle = cpu.idle == Some(1);
    match cpu.idle {
        // Before the shares: a cgroup that leaves idle can then take them.
        Some(value @ (0 | 1)) => out.put("cpu", "cpu.idle", value, "cpu.idle"),
        Some(value) => return refuse("cpu.idle", format!("cpu.idle is 0 or 1, not {value}")),
        None => {}
    }
    match (cpu.shares.unwrap_or(0), version) {
        (0, _) => {}
        (_, _) if idle => out.warn("cpu.shares", "an idle cgroup (cpu.idle 1) has no shares"),
        (shares, Version::V1) if shares > 262_144 => return refuse("cpu.shares", "the maximum allowed cpu-shares is 262144"),
        (shares, Version::V1) if shares < 2 => return refuse("cpu.shares", "the minimum allowed cpu-shares is 2"),
        (shares, Version::V1) => out.put("cpu", "cpu.shares", shares, "cpu.shares"),
        (shares, Version::V2) => out.put("cpu", "cpu.weight", cpu_weight(shares), "cpu.shares"),
    }
    let (quota, period) = (cpu.quota.unwrap_or(0), cpu.period.unwrap_or(0));
    let burst_file = match version {
        Version::V1 => {
            if period != 0 {
                out.put("cpu", "cpu.cfs_period_us", period, "cpu.period");
            }
            if quota != 0 {
                out.put("cpu", "cpu.cfs_quota_us", quota, "cpu.quota");
            }
            "cpu.cfs_burst_us"
        }
        Version::V2 => {
            let max = if quota > 0 { quota.to_string() } else { "max".into() };
            let at = if quota == 0 { "cpu.period" } else { "cpu.quota" };
            match (quota, period) {
                (0, 0) => {}
                // One number leaves the period as it is: 100000 in a new cgroup.
                (_, 0) => out.put("cpu", "cpu.max", max, at),
                _ => out.put("cpu", "cpu.max", format!("{max} {period}"), at),
            }
            "cpu.max.burst"
        }
    };
    if let Some(burst) = cpu.burst {
        out.put_or("cpu", burst_file, burst, "cpu.burst", Missing::Warn("cpu bursts need Linux 5.14"));
    }
    realtime(out, cpu, version);
    Ok(())
}

fn realtime(out: &mut Limits, cpu: &Cpu, version: Version) {
    let period = cpu.realtime_period.filter(|&n| n != 0).map(|n| n.to_string());
    let runtime = cpu.realtime_runtime.filter(|&n| n != 0).map(|n| n.to_string());
    let settings = [("cpu.rt_period_us", period, "cpu.realtimePeriod"), ("cpu.rt_runtime_us", runtime, "cpu.realtimeRuntime")];
    for (file, value, at) in settings {
        match (value, version) {
            (Some(value), Version::V1) => {
                out.put_or("cpu", file, value, at, Missing::Refuse("the kernel has no real-time group scheduling"));
            }
            (Some(_), Version::V2) => out.warn(at, "cgroup v2 has no real-time limits"),
            (None, _) => {}
        }
    }
}

/// A block I/O weight (10-1000) as a v2 `io.weight` (1-10000), linearly, as runc and crun convert it.
pub fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

/// A weight if one is set; 0 is unset.
fn weight(value: Option<u16>, at: &str) -> Result<Option<u16>> {
    match value {
        None | Some(0) => Ok(None),
        Some(weight @ 10..=1000) => Ok(Some(weight)),
        Some(weight) => refuse(at, format!("a block I/O weight of {weight} is not in 10-1000")),
    }
}

fn block_io(out: &mut Limits, io: &BlockIo, version: Version) -> Result<()> {
    let leaf = |out: &mut Limits, file: &str, value: String, at: &str| match version {
        Version::V1 => out.put("blkio", file, value, at),
        Version::V2 => out.warn(at, "cgroup v2 has no leaf weights"),
    };
    if let Some(weight) = weight(io.weight, "blockIO.weight")? {
        put_weight(out, version, "", weight, "blockIO.weight");
    }
    if let Some(weight) = weight(io.leaf_weight, "blockIO.leafWeight")? {
        leaf(out, "blkio.leaf_weight", weight.to_string(), "blockIO.leafWeight");
    }
    for (i, device) in io.weight_device.iter().enumerate() {
        let at = format!("blockIO.weightDevice[{i}]");
        let number = format!("{}:{} ", device.major, device.minor);
        if let Some(weight) = weight(device.weight, &at)? {
            put_weight(out, version, &number, weight, &at);
        }
        if let Some(weight) = weight(device.leaf_weight, &at)? {
            leaf(out, "blkio.leaf_weight_device", format!("{number}{weight}"), &at);
        }
    }
    throttle(out, version, &io.throttle_read_bps_device, "rbps", "read_bps", "throttleReadBpsDevice");
    throttle(out, version, &io.throttle_write_bps_device, "wbps", "write_bps", "throttleWriteBpsDevice");
    throttle(out, version, &io.throttle_read_iops_device, "riops", "read_iops", "throttleReadIOPSDevice");
    throttle(out, version, &io.throttle_write_iops_device, "wiops", "write_iops", "throttleWriteIOPSDevice");
    Ok(())
}

/// The weight for one device (`8:0 `) or for all (empty). BFQ takes the spec's range, the files of others a wider one.
fn put_weight(out: &mut Limits, version: Version, device: &str, weight: u16, at: &str) {
    let value = format!("{device}{weight}");
    match version {
        Version::V1 => {
            let (file, bfq) = match device {
                "" => ("blkio.weight", "blkio.bfq.weight"),
                _ => ("blkio.weight_device", "blkio.bfq.weight_device"),
            };
            out.put_or("blkio", file, &value, at, Missing::Instead { file: bfq, value: value.clone() });
        }
        Version::V2 => {
            let instead = Missing::Instead { file: "io.weight", value: format!("{device}{}", io_weight(weight)) };
            out.put_or("io", "io.bfq.weight", value, at, instead);
        }
    }
}

fn throttle(out: &mut Limits, version: Version, devices: &[ThrottleDevice], key: &str, v1: &str, field: &str) {
    for (i, device) in devices.iter().enumerate() {
        let (number, at) = (format!("{}:{}", device.major, device.minor), format!("blockIO.{field}[{i}]"));
        match (version, device.rate) {
            (Version::V1, rate) => out.put("blkio", &format!("blkio.throttle.{v1}_device"), format!("{number} {rate}"), at),
            // v1 takes 0 for no limit, v2 refuses it.
            (Version::V2, 0) => out.put("io", "io.max", format!("{number} {key}=max"), at),
            (Version::V2, rate) => out.put("io", "io.max", format!("{number} {key}={rate}"), at),
        }
    }
}

fn hugetlb(out: &mut Limits, resources: &Resources, version: Version) -> Result<()> {
    for (i, limit) in resources.hugepage_limits.iter().enumerate() {
        let at = format!("hugepageLimits[{i}]");
        let size = limit.page_size.as_str();
        let number = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB")).unwrap_or_default();
        if number.is_empty() || number.starts_with('0') || !number.bytes().all(|b| b.is_ascii_digit()) {
            return refuse(&at, format!("{size:?} is no page size such as 64KB, 2MB or 1GB"));
        }
        let file = if version == Version::V1 { "limit_in_bytes" } else { "max" };
        let hint = Missing::Refuse("this kernel has no huge pages of that size, or no such control file");
        out.put_or("hugetlb", &format!("hugetlb.{size}.{file}"), limit.limit, &at, hint);
        // Pages reserved by mmap count apart since Linux 5.7; before, they were not limited at all.
        out.put_or("hugetlb", &format!("hugetlb.{size}.rsvd.{file}"), limit.limit, &at, Missing::Skip);
    }
    Ok(())
}

fn network(out: &mut Limits, resources: &Resources, version: Version) {
    let network = &resources.network;
    match (network.class_id.filter(|&id| id != 0), version) {
        (Some(id), Version::V1) => out.put("net_cls", "net_cls.classid", id, "network.classID"),
        (Some(_), Version::V2) => out.warn("network.classID", "cgroup v2 has no network classes"),
        (None, _) => {}
    }
    for (i, entry) in network.priorities.iter().enumerate() {
        let at = format!("network.priorities[{i}]");
        match version {
            Version::V1 => out.put("net_prio", "net_prio.ifpriomap", format!("{} {}", entry.name, entry.priority), at),
            Version::V2 => out.warn(&at, "cgroup v2 has no network priorities"),
        }
    }
}

fn unified(out: &mut Limits, resources: &Resources, version: Version) -> Result<()> {
    for (key, value) in &resources.unified {
        let at = format!("unified.{key}");
        if version == Version::V1 {
            return refuse(&at, "invalid configuration: unified resources need cgroup v2, this host has v1");
        }
        if key.contains('/') {
            return refuse(&at, format!("unified resource {key:?} must be a file name (no slashes)"));
        }
        let Some((controller, _)) = key.split_once('.').filter(|(controller, parameter)| !controller.is_empty() && !parameter.is_empty())
        else {
            return refuse(&at, format!("unified resource {key:?} must be in the form CONTROLLER.PARAMETER"));
        };
        let controller = if controller == "cgroup" { "" } else { controller };
        // The kernel takes one entry in each write; people write one in each line (io.max, misc.max).
        for line in value.lines() {
            out.put(controller, key, line, &at);
        }
    }
    Ok(())
}
