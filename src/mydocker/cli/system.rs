//! `system`, `info`, `version`: the installation as a whole.

use super::visible::quoted;
use super::volumes::{records, users};
use super::{doctor, events, print, prune, ps, template, time, units};
use crate::cgroup::Layout;
use crate::mydocker::container::{Containers, Status};
use crate::mydocker::files::{Dirs, tree};
use crate::mydocker::image::{Image, Images, architecture};
use crate::mydocker::network::{Netavark, Networks};
use crate::mydocker::volume::Volumes;
use crate::plan::limits::Version as CgroupVersion;
use crate::sys::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// The commands on the installation.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show disk usage
    Df(Df),
    /// Name what crashes have left: state, mounts, cgroups, namespaces, addresses, half-made files
    Doctor(doctor::Doctor),
    /// Get events as they happen
    Events(events::Events),
    /// Display system-wide information
    Info(Format),
    /// Remove unused data
    Prune(prune::System),
}

/// `system df`.
#[derive(Args, Debug)]
pub struct Df {
    /// Format output using a Go template, or json
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    pub verbose: bool,
}

/// `info` and `version`.
#[derive(Args, Debug)]
pub struct Format {
    /// Format output using a Go template, or json
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

/// CPUs that this process may run on.
pub fn cpus() -> u32 {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count())
}

/// Runs one command; the exit code.
pub fn run(command: &Command, dirs: &Dirs) -> Result<i32> {
    match command {
        Command::Df(args) => df(args, dirs),
        Command::Doctor(args) => doctor::doctor(args, dirs),
        Command::Events(args) => events::events(args, dirs),
        Command::Info(args) => info(args, dirs),
        Command::Prune(args) => prune::system(args, dirs),
    }
}

/// The machine's memory in bytes, from proc_meminfo(5).
pub fn memory_total() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// One thing that takes room.
struct Use {
    size: u64,
    active: bool,
    row: Value,
}

/// Everything that takes room, by kind.
fn uses(dirs: &Dirs) -> Result<[(&'static str, Vec<Use>); 3]> {
    let records = records(dirs)?;
    let images = Images::open(dirs)?;
    let ago = |stamp: &str| time::parse_rfc3339(stamp).map_or_else(String::new, |at| units::human_duration(time::since(at)) + " ago");
    let image = |image: Image| {
        let (size, id) = (images.size(&image), image.id.to_string());
        let count = records.iter().filter(|record| record.image_id == id).count();
        let name = image.names.first();
        let row = json!({
            "Repository": name.map_or_else(|| "<none>".to_owned(), |name| name.familiar_repository()),
            "Tag": name.and_then(|name| name.tag()).unwrap_or("<none>"),
            "ID": image.id.short(),
            "CreatedSince": image.created().map_or_else(|| "N/A".to_owned(), ago),
            "Size": units::human_size(size),
            "Containers": count.to_string(),
        });
        Use { size, active: count > 0, row }
    };
    let all_images: Vec<Use> = images.list()?.into_iter().map(image).collect();
    let mut containers = Vec::new();
    for container in Containers::new(dirs).list()? {
        let (Ok(record), Ok(state)) = (container.record(), container.state()) else { continue };
        let size = tree::size(&container.upper()).files;
        let row = json!({
            "ID": record.short(),
            "Image": record.image,
            "Command": quoted(&record.args.join(" ")),
            "LocalVolumes": record.settings.mounts.iter().filter(|mount| !mount.name.is_empty()).count().to_string(),
            "Size": units::human_size(size),
            "RunningFor": ago(&record.created),
            "Status": ps::status_words(&state),
            "Names": record.name,
        });
        containers.push(Use { size, active: state.status.is_up() || state.status == Status::Restarting, row });
    }
    let volumes = Volumes::open(dirs)?;
    let mut all_volumes = Vec::new();
    for volume in volumes.list()? {
        // What is elsewhere takes no room here.
        let size = if volume.options.is_empty() { tree::size(&volumes.data(&volume)).files } else { 0 };
        let links = users(&records, &volume.name).count();
        let row = json!({"Name": volume.name, "Links": links.to_string(), "Size": units::human_size(size)});
        all_volumes.push(Use { size, active: links > 0, row });
    }
    Ok([("Images", all_images), ("Containers", containers), ("Local Volumes", all_volumes)])
}

/// Heading, columns and their names of `df -v`, in the order of [`uses`].
const VERBOSE: [(&str, &str); 3] = [
    ("Images", "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.Containers}}"),
    ("Containers", "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}"),
    ("Local Volumes", "table {{.Name}}\t{{.Links}}\t{{.Size}}"),
];

fn df(args: &Df, dirs: &Dirs) -> Result<i32> {
    let uses = uses(dirs)?;
    if args.verbose {
        if let Some(format) = args.format.as_deref() {
            let rows = |at: usize| uses[at].1.iter().map(|one: &Use| one.row.clone()).collect::<Vec<_>>();
            let all = json!({"Images": rows(0), "Containers": rows(1), "Volumes": rows(2)});
            return print(&template::list(Some(format), "", &[], &[all])?).map(|()| 0);
        }
        let mut out = String::new();
        for ((kind, list), (_, columns)) in uses.iter().zip(VERBOSE) {
            let id = match *kind {
                "Images" => ("ID", "IMAGE ID"),
                "Containers" => ("ID", "CONTAINER ID"),
                _ => ("Name", "VOLUME NAME"),
            };
            let headings = [id, ("CreatedSince", "CREATED"), ("RunningFor", "CREATED")];
            let rows: Vec<Value> = list.iter().map(|one| one.row.clone()).collect();
            out += &format!("{kind} space usage:\n\n{}\n", template::list(None, columns, &headings, &rows)?);
        }
        return print(out.strip_suffix('\n').unwrap_or(&out)).map(|()| 0);
    }
    let row = |(kind, list): &(&str, Vec<Use>)| {
        let size: u64 = list.iter().map(|one| one.size).fold(0, u64::saturating_add);
        let free: u64 = list.iter().filter(|one| !one.active).map(|one| one.size).fold(0, u64::saturating_add);
        let percent = if size == 0 { String::new() } else { format!(" ({}%)", u128::from(free) * 100 / u128::from(size)) };
        json!({
            "Type": kind,
            "TotalCount": list.len().to_string(),
            "Active": list.iter().filter(|one| one.active).count().to_string(),
            "Size": units::human_size(size),
            "Reclaimable": format!("{}{percent}", units::human_size(free)),
        })
    };
    let rows: Vec<Value> = uses.iter().map(row).collect();
    let default = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
    print(&template::list(args.format.as_deref(), default, &[("TotalCount", "TOTAL")], &rows)?).map(|()| 0)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// PRETTY_NAME of os-release(5).
fn system() -> String {
    let text = read("/etc/os-release");
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches(['"', '\'']).to_owned())
}

/// `mydocker info`.
pub fn info(args: &Format, dirs: &Dirs) -> Result<i32> {
    let mut counts = [0_usize; 3];
    let containers = Containers::new(dirs).list()?;
    for container in &containers {
        let Ok(state) = container.state() else { continue };
        let at = match state.status {
            Status::Running | Status::Restarting => 0,
            Status::Paused => 1,
            _ => 2,
        };
        counts[at] += 1;
    }
    let layout = Layout::detect()?;
    let cgroup = match layout.version {
        CgroupVersion::V2 => "2",
        CgroupVersion::V1 if layout.is_hybrid() => "1 (hybrid)",
        CgroupVersion::V1 => "1",
    };
    let networking = Netavark::find().map_or_else(
        |error| error.to_string(),
        |found| {
            if found.aardvark.is_some() { "netavark, aardvark-dns".to_owned() } else { "netavark".to_owned() }
        },
    );
    let value = json!({
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Containers": containers.len(),
        "ContainersRunning": counts[0],
        "ContainersPaused": counts[1],
        "ContainersStopped": counts[2],
        "Images": Images::open(dirs)?.list()?.len(),
        "Driver": "overlay",
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroup,
        "DefaultRuntime": "keel",
        "Networking": networking,
        "Networks": Networks::open(dirs)?.list()?.len(),
        "KernelVersion": read("/proc/sys/kernel/osrelease"),
        "OperatingSystem": system(),
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "NCPU": cpus(),
        "MemTotal": memory_total(),
        "Name": read("/proc/sys/kernel/hostname"),
        "Rootless": crate::mydocker::userns::is_rootless(),
        "DockerRootDir": dirs.data,
        "RunDir": dirs.run,
    });
    if args.format.is_some() {
        return print(&template::list(args.format.as_deref(), "", &[], &[value])?).map(|()| 0);
    }
    let text = |key: &str| value[key].as_str().map_or_else(|| value[key].to_string(), str::to_owned);
    let mut out = String::new();
    for (label, key) in INFO {
        out += &match key {
            "MemTotal" => format!("{label}: {}\n", units::bytes_size(memory_total())),
            key => format!("{label}: {}\n", text(key)),
        };
    }
    print(&out).map(|()| 0)
}

/// The lines of `info`.
const INFO: [(&str, &str); 21] = [
    ("Containers", "Containers"),
    (" Running", "ContainersRunning"),
    (" Paused", "ContainersPaused"),
    (" Stopped", "ContainersStopped"),
    ("Images", "Images"),
    ("Server Version", "ServerVersion"),
    ("Storage Driver", "Driver"),
    ("Logging Driver", "LoggingDriver"),
    ("Cgroup Driver", "CgroupDriver"),
    ("Cgroup Version", "CgroupVersion"),
    ("Default Runtime", "DefaultRuntime"),
    ("Networking", "Networking"),
    ("Kernel Version", "KernelVersion"),
    ("Operating System", "OperatingSystem"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
    ("CPUs", "NCPU"),
    ("Total Memory", "MemTotal"),
    ("Name", "Name"),
    ("Docker Root Dir", "DockerRootDir"),
    ("Rootless", "Rootless"),
];

/// `mydocker version`: docker's client and server are one program here.
pub fn version(args: &Format) -> Result<i32> {
    let (version, kernel) = (env!("CARGO_PKG_VERSION"), read("/proc/sys/kernel/osrelease"));
    let one =
        json!({"Version": version, "Os": "linux", "Arch": architecture(), "KernelVersion": kernel, "Runtime": format!("keel {version}")});
    if args.format.is_some() {
        let both = json!({"Client": one, "Server": one});
        return print(&template::list(args.format.as_deref(), "", &[], &[both])?).map(|()| 0);
    }
    let words = format!(
        "mydocker:\n Version:         {version}\n Runtime:         keel {version} (in process)\n OS/Arch:         linux/{}\n Kernel Version:  {kernel}\n",
        architecture()
    );
    print(&words).map(|()| 0)
}
