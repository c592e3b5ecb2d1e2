//! `update`: the flags, or a document, as resources.

use super::args;
use crate::lifecycle::{self, Runtime};
use crate::spec::{self, IntelRdt, Pids, Resources};
use crate::store::ContainerId;
use crate::sys::{Context, Error, Log, Result};
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

pub fn update(options: &args::Update, runtime: &Runtime, log: &Log) -> Result<i32> {
    let id = ContainerId::new(&options.id)?;
    let (resources, warnings) = match &options.resources {
        Some(file) => document(file)?,
        None => (flags(options)?, Vec::new()),
    };
    let rdt = IntelRdt {
        l3_cache_schema: options.l3_cache_schema.clone().unwrap_or_default(),
        mem_bw_schema: options.mem_bw_schema.clone().unwrap_or_default(),
        ..IntelRdt::default()
    };
    lifecycle::update(runtime, &id, &resources, &rdt, log)?;
    warnings.iter().for_each(|warning| log.warning(warning));
    Ok(0)
}

fn document(file: &Path) -> Result<(Resources, Vec<String>)> {
    if file != Path::new("-") {
        return spec::load_resources(file);
    }
    let mut text = Vec::new();
    std::io::stdin().lock().read_to_end(&mut text).context(|| "read the resources from stdin")?;
    spec::parse_resources(&text).map_err(|e| e.within("parse the resources from stdin"))
}

fn flags(options: &args::Update) -> Result<Resources> {
    let mut all = Resources::default();
    all.memory.limit = bytes("memory", &options.memory)?;
    all.memory.swap = bytes("memory-swap", &options.memory_swap)?;
    // Unlimited memory below a limit on memory and swap would be none, so swap is freed too, as by runc.
    if all.memory.limit == Some(-1) && all.memory.swap.is_none() {
        all.memory.swap = Some(-1);
    }
    all.memory.reservation = bytes("memory-reservation", &options.memory_reservation)?;
    all.memory.kernel = bytes("kernel-memory", &options.kernel_memory)?;
    all.memory.kernel_tcp = bytes("kernel-memory-tcp", &options.kernel_memory_tcp)?;
    all.cpu.period = number("cpu-period", &options.cpu_period)?;
    all.cpu.quota = number("cpu-quota", &options.cpu_quota)?;
    all.cpu.burst = number("cpu-burst", &options.cpu_burst)?;
    all.cpu.shares = number("cpu-share", &options.cpu_share)?;
    all.cpu.realtime_period = number("cpu-rt-period", &options.cpu_rt_period)?;
    all.cpu.realtime_runtime = number("cpu-rt-runtime", &options.cpu_rt_runtime)?;
    all.cpu.cpus = options.cpuset_cpus.clone().unwrap_or_default();
    all.cpu.mems = options.cpuset_mems.clone().unwrap_or_default();
    all.cpu.idle = number("cpu-idle", &options.cpu_idle)?;
    all.pids = number("pids-limit", &options.pids_limit)?.map(|limit| Pids { limit: Some(limit) });
    all.block_io.weight = number("blkio-weight", &options.blkio_weight)?;
    Ok(all)
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn number<N: FromStr>(flag: &str, text: &Option<String>) -> Result<Option<N>> {
    let parse = |text: &str| text.parse().map_err(|_| Error::new(format!("invalid value for {flag}: {text:?}")));
    given(text).map(parse).transpose()
}

fn bytes(flag: &str, text: &Option<String>) -> Result<Option<i64>> {
    let parse = |text: &str| size(text).ok_or_else(|| Error::new(format!("invalid value for {flag}: {text:?} is no size such as 512m")));
    given(text).map(parse).transpose()
}

/// A number of bytes as docker and runc take it: `1073741824`, `512m`, `1.5GiB`, `64 kb`; units are powers of 1024. -1 is
/// unlimited.
fn size(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = text[end..].strip_prefix(' ').unwrap_or(&text[end..]).to_ascii_lowercase();
    let power = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => 0,
        unit => match (unit.strip_suffix('i').unwrap_or(unit), unit.ends_with('i') && !text.ends_with(['b', 'B'])) {
            ("k", false) => 1,
            ("m", false) => 2,
            ("g", false) => 3,
            ("t", false) => 4,
            ("p", false) => 5,
            _ => return None,
        },
    };
    let unit = 1i64 << (10 * power);
    match text[..end].parse::<i64>() {
        Ok(number) => number.checked_mul(unit),
        Err(_) => text[..end].parse::<f64>().ok().map(|number| number * unit as f64).filter(|n| *n < i64::MAX as f64).map(|n| n as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        let table = [("0", 0), ("4096", 4096), ("512m", 512 << 20), ("512M", 512 << 20), ("1.5GiB", 3 << 29), ("64 kb", 64 << 10)];
        for (text, bytes) in table.into_iter().chain([("2b", 2), ("1t", 1 << 40), ("8p", 8 << 50), ("-1", -1), (".5k", 512)]) {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "m", "10x", "-2", "-1m", "1.2.3", "9999999p", "1  k", "1mm", "0x10", "1ki", "1ib", "nan", "inf", "."] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
