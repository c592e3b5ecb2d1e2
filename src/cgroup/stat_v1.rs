//! The counters of cgroup v1.

use super::Cgroup;
use super::stat::{BlockIoEntry, BlockIoStats, CpuStats, CpusetStats, HugetlbStats, MemoryEntry, MemoryStats, PidsStats, Source, Stats};
use crate::sys::Result;

pub(super) fn stats(cgroup: &Cgroup) -> Result<Stats> {
    let mut all = Stats::default();
    if let Some(source) = cgroup.source("cpuacct")? {
        usage(&source, &mut all.cpu)?;
    }
    if let Some(source) = cgroup.source("cpu")? {
        let stat = source.flat("cpu.stat")?;
        let number = |key: &str| stat.get(key).copied().unwrap_or(0);
        all.cpu.throttling.periods = number("nr_periods");
        all.cpu.throttling.throttled_periods = number("nr_throttled");
        all.cpu.throttling.throttled_time = number("throttled_time");
    }
    if let Some(source) = cgroup.source("cpuset")? {
        all.cpuset = cpuset(&source)?;
    }
    if let Some(source) = cgroup.source("memory")? {
        all.memory = memory(&source)?;
    }
    if let Some(source) = cgroup.source("pids")? {
        let limit = source.number("pids.max")?;
        all.pids = PidsStats { current: source.number("pids.current")?, limit: if limit == u64::MAX { 0 } else { limit } };
    }
    if let Some(source) = cgroup.source("blkio")? {
        all.blkio = block_io(&source)?;
    }
    if let Some(source) = cgroup.source("hugetlb")? {
        for size in Source::page_sizes() {
            let number = |what: &str| source.number(&format!("hugetlb.{size}.{what}"));
            let stats = HugetlbStats { usage: number("usage_in_bytes")?, max: number("max_usage_in_bytes")?, failcnt: number("failcnt")? };
            all.hugetlb.insert(size, stats);
        }
    }
    Ok(all)
}

fn usage(source: &Source, cpu: &mut CpuStats) -> Result<()> {
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let stat = source.flat("cpuacct.stat")?;
    let usage = &mut cpu.usage;
    usage.total = source.number("cpuacct.usage")?;
    usage.user = stat.get("user").copied().unwrap_or(0) * tick;
    usage.kernel = stat.get("system").copied().unwrap_or(0) * tick;
    let each = source.text("cpuacct.usage_percpu")?.unwrap_or_default();
    usage.percpu = each.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    // `cpu user system`, one line for each CPU below that header.
    for line in source.text("cpuacct.usage_all")?.unwrap_or_default().lines().skip(1) {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        if let [_, user, kernel] = numbers[..] {
            usage.percpu_user.push(user);
            usage.percpu_kernel.push(kernel);
        }
    }
    Ok(())
}

fn cpuset(source: &Source) -> Result<CpusetStats> {
    let number = |name: &str| source.number(&format!("cpuset.{name}"));
    let list = |name: &str| -> Result<Vec<u16>> { Ok(list(&source.text(&format!("cpuset.{name}"))?.unwrap_or_default())) };
    let level = source.text("cpuset.sched_relax_domain_level")?.unwrap_or_default();
    Ok(CpusetStats {
        cpus: list("cpus")?,
        cpu_exclusive: number("cpu_exclusive")?,
        mems: list("mems")?,
        mem_hardwall: number("mem_hardwall")?,
        mem_exclusive: number("mem_exclusive")?,
        memory_migrate: number("memory_migrate")?,
        memory_spread_page: number("memory_spread_page")?,
        memory_spread_slab: number("memory_spread_slab")?,
        memory_pressure: number("memory_pressure")?,
        sched_load_balance: number("sched_load_balance")?,
        sched_relax_domain_level: level.trim().parse().unwrap_or(0),
    })
}

/// `0-2,5` of cpuset(7) as numbers.
fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

fn memory(source: &Source) -> Result<MemoryStats> {
    let entry = |name: &str| -> Result<MemoryEntry> {
        let number = |what: &str| source.number(&format!("memory.{name}{what}"));
        Ok(MemoryEntry {
            limit: number("limit_in_bytes")?,
            usage: number("usage_in_bytes")?,
            max: number("max_usage_in_bytes")?,
            failcnt: number("failcnt")?,
        })
    };
    let raw = source.flat("memory.stat")?;
    Ok(MemoryStats {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: entry("")?,
        swap: entry("memsw.")?,
        kernel: entry("kmem.")?,
        kernel_tcp: entry("kmem.tcp.")?,
        raw,
        psi: None,
    })
}

/// BFQ's files count what it schedules, those of throttling everything else; the first that say something are used.
fn block_io(source: &Source) -> Result<BlockIoStats> {
    let list = |names: &[&str]| -> Result<Vec<BlockIoEntry>> {
        for name in names {
            let entries = entries(&source.text(&format!("blkio.{name}_recursive"))?.unwrap_or_default());
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(Vec::new())
    };
    Ok(BlockIoStats {
        io_service_bytes_recursive: list(&["bfq.io_service_bytes", "throttle.io_service_bytes"])?,
        io_serviced_recursive: list(&["bfq.io_serviced", "throttle.io_serviced"])?,
        io_queued_recursive: list(&["bfq.io_queued"])?,
        io_service_time_recursive: list(&["bfq.io_service_time"])?,
        io_wait_time_recursive: list(&["bfq.io_wait_time"])?,
        io_merged_recursive: list(&["bfq.io_merged"])?,
        io_time_recursive: list(&["bfq.time"])?,
        sectors_recursive: list(&["bfq.sectors"])?,
        psi: None,
    })
}

/// `8:0 Read 4096` or `8:0 77`; the last line, `Total 4096`, is the sum of all devices.
fn entries(text: &str) -> Vec<BlockIoEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (op, value) = match (words.next()?, words.next()) {
            (op, Some(value)) => (op, value),
            (value, None) => ("", value),
        };
        Some(BlockIoEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, op: op.into(), value: value.parse().ok()? })
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::{entries, list};

    #[test]
    fn lists_and_devices_are_read() {
        assert_eq!(list("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(list("\n"), [0; 0]);
        let io: Vec<_> =
            entries("8:0 Read 1\n8:16 Total 7\n8:0 9\nTotal 8\n").into_iter().map(|e| (e.major, e.minor, e.op, e.value)).collect();
        assert_eq!(io, [(8, 0, "Read".into(), 1), (8, 16, "Total".into(), 7), (8, 0, String::new(), 9)]);
    }
}
