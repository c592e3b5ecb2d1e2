//! What the container has used: counters and gauges of its cgroup, of either version in the same terms.
//!
//! Serialised, it is the shape in which `runc events` prints them, names and units included.

use super::file::{get, number, open_dir};
use super::{Cgroup, Version, stat_v1, stat_v2};
use crate::sys::{Context, Error, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use serde::Serialize;
use std::collections::BTreeMap;

fn zero(number: &u64) -> bool {
    *number == 0
}

/// Usage of a container's cgroup and of everything below it. What the host does not account is 0 or empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: CpuStats,
    /// CPUs and memory nodes; v1 only, as in runc.
    pub cpuset: CpusetStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes.
    pub pids: PidsStats,
    /// Block I/O.
    pub blkio: BlockIoStats,
    /// Huge pages, by page size (`2MB`).
    pub hugetlb: BTreeMap<String, HugetlbStats>,
}

/// CPU time used, and withheld by the quota.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpuStats {
    /// Time used.
    pub usage: CpuUsage,
    /// Time withheld.
    pub throttling: Throttling,
    /// How long tasks waited for a CPU; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// CPU time since the cgroup was made, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// All of it.
    #[serde(skip_serializing_if = "zero")]
    pub total: u64,
    /// On each CPU; v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel, on each CPU; v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// In user mode, on each CPU; v1 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel. On v1 in whole clock ticks.
    pub kernel: u64,
    /// In user mode. On v1 in whole clock ticks.
    pub user: u64,
}

/// What the CPU quota did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which somebody wanted to run.
    #[serde(skip_serializing_if = "zero")]
    pub periods: u64,
    /// Periods in which the quota was used up.
    #[serde(skip_serializing_if = "zero")]
    pub throttled_periods: u64,
    /// How long was waited for the next period, in nanoseconds.
    #[serde(skip_serializing_if = "zero")]
    pub throttled_time: u64,
}

/// The files of a v1 cpuset, cgroup-v1/cpusets.rst.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // each is the control file of that name
pub struct CpusetStats {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Memory in use. All in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryStats {
    /// Page cache (`cache` of v1, `file` of v2).
    #[serde(skip_serializing_if = "zero")]
    pub cache: u64,
    /// Memory, page cache included.
    pub usage: MemoryEntry,
    /// Memory and swap together, on v2 too.
    pub swap: MemoryEntry,
    /// The kernel's own part of it; v1 only.
    pub kernel: MemoryEntry,
    /// The TCP buffers' part of it; v1 only.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat` as it is, mostly bytes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// How long tasks waited for memory; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One kind of memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryEntry {
    /// The most there may be; a number above all memory there is (v1) or [`u64::MAX`] (v2) is no limit.
    pub limit: u64,
    /// In use now.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// The most that was in use at any time.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PidsStats {
    /// There are now.
    #[serde(skip_serializing_if = "zero")]
    pub current: u64,
    /// There may be; 0 is no limit.
    #[serde(skip_serializing_if = "zero")]
    pub limit: u64,
}

/// Block I/O by device and operation. Which lists are filled depends on the kernel's I/O scheduler (v1).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIoStats {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlockIoEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlockIoEntry>,
    /// Operations that wait.
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "ioQueueRecursive")]
    pub io_queued_recursive: Vec<BlockIoEntry>,
    /// Time in the device, nanoseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlockIoEntry>,
    /// Time in queues, nanoseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlockIoEntry>,
    /// Operations that were merged with others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlockIoEntry>,
    /// Device time, milliseconds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlockIoEntry>,
    /// Sectors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlockIoEntry>,
    /// How long tasks waited for I/O; v2 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One number of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlockIoEntry {
    /// The device's major number.
    #[serde(skip_serializing_if = "zero")]
    pub major: u64,
    /// The device's minor number.
    #[serde(skip_serializing_if = "zero")]
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`; empty where the number is for all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// In the unit of the list.
    #[serde(skip_serializing_if = "zero")]
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HugetlbStats {
    /// In use now.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// The most that was in use at any time; v1 only.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Pressure stall information, accounting/psi.rst.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Some task waited.
    pub some: PressureLine,
    /// All tasks waited at once.
    pub full: PressureLine,
}

/// Shares of time in percent, and the time itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PressureLine {
    /// Over the last 10 seconds.
    pub avg10: f64,
    /// Over the last 60 seconds.
    pub avg60: f64,
    /// Over the last 300 seconds.
    pub avg300: f64,
    /// Since the cgroup was made, in microseconds.
    pub total: u64,
}

/// The directory of a controller, whose files are read one by one.
pub(super) struct Source {
    path: String,
    dir: OwnedFd,
}

impl Source {
    /// A file's text; none if this kernel does not have it.
    pub(super) fn text(&self, file: &str) -> Result<Option<String>> {
        match get(&self.dir, file) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(Error::new(format!("read {}/{file}", self.path)).errno(errno)),
        }
    }

    /// A file that is one number; `max` is the largest there is, a file that is not there 0.
    pub(super) fn number(&self, file: &str) -> Result<u64> {
        Ok(self.text(file)?.and_then(|text| parse_value(&text)).unwrap_or(0))
    }

    /// `key value` lines; empty if there is no such file.
    pub(super) fn flat(&self, file: &str) -> Result<BTreeMap<String, u64>> {
        let text = self.text(file)?.unwrap_or_default();
        let pair = |line: &str| line.split_once(' ').and_then(|(key, value)| Some((key.to_string(), value.trim().parse().ok()?)));
        Ok(text.lines().filter_map(pair).collect())
    }

    /// Page sizes of the host, as the files of the hugetlb controller are named.
    pub(super) fn page_sizes() -> Vec<String> {
        let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
        let name = |entry: std::fs::DirEntry| {
            let kilobytes: u64 = entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            Some(match kilobytes {
                kb if kb >= 1 << 20 => format!("{}GB", kb >> 20),
                kb if kb >= 1 << 10 => format!("{}MB", kb >> 10),
                kb => format!("{kb}KB"),
            })
        };
        entries.flatten().filter_map(name).collect()
    }
}

/// One number, or `max`, which is the largest.
pub(super) fn parse_value(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        text => text.parse().ok(),
    }
}

impl Cgroup {
    /// Everything the container's cgroup counts, at once.
    pub fn stats(&self) -> Result<Stats> {
        match self.version {
            Version::V1 => stat_v1::stats(self),
            Version::V2 => stat_v2::stats(self),
        }
    }

    /// The directory of a controller; none if the host does not have it.
    pub(super) fn source(&self, controller: &str) -> Result<Option<Source>> {
        let Some(path) = self.dir(controller) else { return Ok(None) };
        let dir = open_dir(&path).context(|| format!("open the cgroup {path}"))?;
        Ok(Some(Source { path, dir }))
    }

    /// How many of the container's processes the OOM killer has killed; 0 without a memory controller.
    pub fn oom_kill_count(&self) -> Result<u64> {
        let Some(path) = self.dir("memory") else { return Ok(0) };
        let file = if self.version == Version::V1 { "memory.oom_control" } else { "memory.events" };
        match open_dir(&path).and_then(|dir| get(dir, file)) {
            Ok(text) => Ok(number(&text, "oom_kill").unwrap_or(0)),
            Err(Errno::NOENT | Errno::NODEV) => Ok(0),
            Err(errno) => Err(errno).context(|| format!("read {path}/{file}")),
        }
    }
}
