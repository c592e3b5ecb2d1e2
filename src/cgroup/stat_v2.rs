//! The counters of cgroup v2, Documentation/admin-guide/cgroup-v2.rst.

use super::Cgroup;
use super::stat::{BlockIoEntry, CpuStats, HugetlbStats, MemoryEntry, MemoryStats, PidsStats, Pressure, PressureLine, Source, Stats};
use crate::sys::Result;

pub(super) fn stats(cgroup: &Cgroup) -> Result<Stats> {
    let mut all = Stats::default();
    let Some(source) = cgroup.source("")? else { return Ok(all) };
    all.cpu = cpu(&source)?;
    all.memory = memory(&source)?;
    let limit = source.number("pids.max")?;
    all.pids = PidsStats { current: source.number("pids.current")?, limit: if limit == u64::MAX { 0 } else { limit } };
    let io = source.text("io.stat")?.unwrap_or_default();
    all.blkio.io_service_bytes_recursive = entries(&io, &[("rbytes", "Read"), ("wbytes", "Write"), ("dbytes", "Discard")]);
    all.blkio.io_serviced_recursive = entries(&io, &[("rios", "Read"), ("wios", "Write"), ("dios", "Discard")]);
    all.blkio.psi = pressure(&source, "io.pressure")?;
    for size in Source::page_sizes() {
        let file = |what: &str| format!("hugetlb.{size}.{what}");
        if source.text(&file("current"))?.is_some() {
            let failcnt = source.flat(&file("events"))?.get("max").copied().unwrap_or(0);
            all.hugetlb.insert(size.clone(), HugetlbStats { usage: source.number(&file("current"))?, max: 0, failcnt });
        }
    }
    Ok(all)
}

fn cpu(source: &Source) -> Result<CpuStats> {
    let stat = source.flat("cpu.stat")?;
    let number = |key: &str| stat.get(key).copied().unwrap_or(0);
    let mut cpu = CpuStats { psi: pressure(source, "cpu.pressure")?, ..CpuStats::default() };
    cpu.usage.total = number("usage_usec") * 1000;
    cpu.usage.user = number("user_usec") * 1000;
    cpu.usage.kernel = number("system_usec") * 1000;
    cpu.throttling.periods = number("nr_periods");
    cpu.throttling.throttled_periods = number("nr_throttled");
    cpu.throttling.throttled_time = number("throttled_usec") * 1000;
    Ok(cpu)
}

fn memory(source: &Source) -> Result<MemoryStats> {
    let events = |file: &str| -> Result<u64> { Ok(source.flat(file)?.get("max").copied().unwrap_or(0)) };
    let entry = |kind: &str| -> Result<MemoryEntry> {
        let number = |what: &str| source.number(&format!("memory.{kind}{what}"));
        Ok(MemoryEntry {
            limit: number("max")?,
            usage: number("current")?,
            max: number("peak")?,
            failcnt: events(&format!("memory.{kind}events"))?,
        })
    };
    let raw = source.flat("memory.stat")?;
    let (usage, swap) = (entry("")?, entry("swap.")?);
    // v1's numbers, and so runc's, are of memory and swap together. Their peaks need not have been at one time.
    let swap = MemoryEntry {
        limit: swap.limit.saturating_add(usage.limit),
        usage: swap.usage.saturating_add(usage.usage),
        max: 0,
        failcnt: swap.failcnt,
    };
    let cache = raw.get("file").copied().unwrap_or(0);
    Ok(MemoryStats { cache, usage, swap, raw, psi: pressure(source, "memory.pressure")?, ..MemoryStats::default() })
}

/// `8:0 rbytes=1 wbytes=2 rios=3 ..`: the chosen keys of each device, under the names of their operations.
fn entries(text: &str, keys: &[(&str, &str)]) -> Vec<BlockIoEntry> {
    let mut all = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((Ok(major), Ok(minor))) = words.next().and_then(|n| n.split_once(':')).map(|(a, b)| (a.parse(), b.parse())) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            if let (Some((_, op)), Ok(value)) = (keys.iter().find(|(name, _)| *name == key), value.parse()) {
                all.push(BlockIoEntry { major, minor, op: (*op).into(), value });
            }
        }
    }
    all
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`. None where the kernel does not measure it.
fn pressure(source: &Source, file: &str) -> Result<Option<Pressure>> {
    Ok(source.text(file)?.map(|text| parse_pressure(&text)))
}

fn parse_pressure(text: &str) -> Pressure {
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let word = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
        let percent = |key: &str| word(key).parse().unwrap_or(0.0);
        let total = word("total").parse().unwrap_or(0);
        PressureLine { avg10: percent("avg10"), avg60: percent("avg60"), avg300: percent("avg300"), total }
    };
    Pressure { some: line("some "), full: line("full ") }
}

#[cfg(test)]
mod tests {
    use super::{entries, parse_pressure};

    #[test]
    fn devices_and_pressure_are_read() {
        let text = "8:0 rbytes=5 wbytes=6 rios=1 wios=2 dbytes=0 dios=0\n259:1 rbytes=7 cost.usage=3\nnonsense\n";
        let io: Vec<_> =
            entries(text, &[("rbytes", "Read"), ("wbytes", "Write")]).into_iter().map(|e| (e.major, e.minor, e.op, e.value)).collect();
        assert_eq!(io, [(8, 0, "Read".into(), 5), (8, 0, "Write".into(), 6), (259, 1, "Read".into(), 7)]);
        let psi = parse_pressure("some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n");
        assert_eq!((psi.some.avg10, psi.some.avg60, psi.some.total, psi.full.total), (1.5, 0.25, 77, 5));
    }
}
