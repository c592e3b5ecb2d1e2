//! `stats`: what containers use, as they use it.

use super::{print, template, units};
use crate::lifecycle::{self, Stats as Usage};
use crate::mydocker::container::{Container, Containers};
use crate::mydocker::files::Dirs;
use crate::sys::Result;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Between two looks; CPU use is what happened in between.
const INTERVAL: Duration = Duration::from_secs(1);

/// The same for `--no-stream`, where somebody waits.
const FIRST: Duration = Duration::from_millis(250);

const DEFAULT: &str = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

const HEADINGS: [(&str, &str); 8] = [
    ("ID", "CONTAINER ID"),
    ("Container", "CONTAINER"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

/// `stats`.
#[derive(Args, Debug)]
pub struct Stats {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    pub all: bool,
    /// Format output using a Go template, or json
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    pub no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    pub no_trunc: bool,
    /// Names or ids; else all that run
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// CPU time of each container, in nanoseconds, and when it was read.
type Before = BTreeMap<String, (u64, Instant)>;

/// `mydocker stats`.
pub fn stats(args: &Stats, dirs: &Dirs) -> Result<i32> {
    let containers = Containers::new(dirs);
    // Names that are nobody's are told at once, and the template before anything is waited for.
    args.containers.iter().try_for_each(|name| containers.find(name).map(drop))?;
    template::list(args.format.as_deref(), DEFAULT, &HEADINGS, &[])?;
    let mut before = Before::new();
    look(args, &containers, &mut before)?;
    std::thread::sleep(FIRST);
    let live = std::io::stdout().is_terminal() && !args.no_stream;
    loop {
        let rows = look(args, &containers, &mut before)?;
        let text = template::list(args.format.as_deref(), DEFAULT, &HEADINGS, &rows)?;
        // From the top left corner over what was there, each line to its end, then everything below.
        print(&if live { format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")) } else { text })?;
        if args.no_stream {
            return Ok(0);
        }
        std::thread::sleep(INTERVAL);
    }
}

fn look(args: &Stats, containers: &Containers, before: &mut Before) -> Result<Vec<Value>> {
    let mut all: Vec<Container> = if args.containers.is_empty() {
        containers.list()?
    } else {
        // One that was removed while we look is not shown any more.
        args.containers.iter().filter_map(|name| containers.find(name).ok()).collect()
    };
    let wanted = args.all || !args.containers.is_empty();
    all.retain(|container| wanted || container.state().is_ok_and(|state| state.status.is_up()));
    let mut rows: Vec<(String, Value)> = all.iter().filter_map(|container| row(container, args, before)).collect();
    if args.containers.is_empty() {
        rows.sort_by(|a, b| b.0.cmp(&a.0));
    }
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// The row, with the time of creation to sort by; nothing of a container that is gone.
fn row(container: &Container, args: &Stats, before: &mut Before) -> Option<(String, Value)> {
    let record = container.record().ok()?;
    let ids = container.runtime().and_then(|runtime| Ok((runtime, container.runtime_id()?)));
    let up = container.state().is_ok_and(|state| state.status.is_up());
    // One that does not run uses nothing.
    let usage = ids.and_then(|(runtime, id)| lifecycle::stats(&runtime, &id)).ok().filter(|_| up);
    let idle = usage.is_none();
    let usage = usage.unwrap_or_default();
    let (now, total) = (Instant::now(), usage.cgroup.cpu.usage.total);
    let cpu = match before.insert(record.id.clone(), (total, now)) {
        Some((last, at)) if now > at => total.saturating_sub(last) as f64 / now.duration_since(at).as_nanos() as f64 * 100.0,
        _ => 0.0,
    };
    let (used, limit) = if idle { (0, 0) } else { memory(&usage) };
    let percent = if limit == 0 { 0.0 } else { used as f64 / limit as f64 * 100.0 };
    let (received, sent) = network(&usage);
    let (read, written) = blocks(&usage);
    let id = if args.no_trunc { &record.id } else { record.short() };
    let pair = |a, b| format!("{} / {}", units::human_size(a), units::human_size(b));
    let row = json!({
        "Container": if args.containers.is_empty() { id } else { args.containers.iter().find(|name| record.id.starts_with(*name) || record.name == **name).map_or(id, String::as_str) },
        "ID": id,
        "Name": record.name,
        "CPUPerc": format!("{cpu:.2}%"),
        "MemUsage": format!("{} / {}", units::bytes_size(used), units::bytes_size(limit)),
        "MemPerc": format!("{percent:.2}%"),
        "NetIO": pair(received, sent),
        "BlockIO": pair(read, written),
        "PIDs": usage.cgroup.pids.current.to_string(),
    });
    Some((record.created, row))
}

/// Memory that cannot be had back for the asking: without the file pages that nobody used lately. And the limit, which
/// is the machine's memory if that is less.
fn memory(usage: &Usage) -> (u64, u64) {
    let memory = &usage.cgroup.memory;
    let raw = |key: &str| memory.raw.get(key).copied();
    let inactive = raw("total_inactive_file").or_else(|| raw("inactive_file")).unwrap_or(0);
    let limit = memory.usage.limit;
    let machine = super::system::memory_total();
    (memory.usage.usage.saturating_sub(inactive), if limit == 0 { machine } else { limit.min(machine) })
}

fn network(usage: &Usage) -> (u64, u64) {
    let interfaces = usage.network_interfaces.iter().flatten().filter(|interface| interface.name != "lo");
    interfaces.fold((0, 0), |(received, sent), one| (received + one.rx_bytes, sent + one.tx_bytes))
}

fn blocks(usage: &Usage) -> (u64, u64) {
    let sum = |op: &str| {
        let list = usage.cgroup.blkio.io_service_bytes_recursive.iter();
        list.filter(|entry| entry.op.eq_ignore_ascii_case(op)).map(|entry| entry.value).sum()
    };
    (sum("read"), sum("write"))
}
