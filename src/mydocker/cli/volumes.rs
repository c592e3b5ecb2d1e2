//! Commands on volumes.

use super::filter::Filters;
use super::{each, options, print, prune, template, units};
use crate::mydocker::container::{Containers, Record, journal};
use crate::mydocker::files::{Dirs, tree};
use crate::mydocker::volume::{Kind, Volume, Volumes};
use crate::sys::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The commands on volumes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a volume
    Create(Create),
    /// Display detailed information on one or more volumes
    Inspect(Inspect),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove unused local volumes
    Prune(Prune),
    /// Remove one or more volumes
    #[command(visible_alias = "remove")]
    Rm(Rm),
}

/// `volume create`.
#[derive(Args, Debug)]
pub struct Create {
    /// Specify volume driver name
    #[arg(short, long, default_value = "local", value_parser = ["local"])]
    pub driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Set driver specific options: type=none, o=bind and device=DIRECTORY
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub opt: Vec<String>,
    /// Its name; else a random one
    pub name: Option<String>,
}

/// `volume inspect`, also of networks.
#[derive(Args, Debug)]
pub struct Inspect {
    /// Format output using a Go template, or json
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Names
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// `volume ls`, also of networks.
#[derive(Args, Debug)]
pub struct Ls {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Format output using a Go template, or json
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Only display names (of networks: ids)
    #[arg(short, long)]
    pub quiet: bool,
    /// Don't truncate output
    #[arg(long)]
    pub no_trunc: bool,
}

/// `volume prune`.
#[derive(Args, Debug)]
pub struct Prune {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    pub all: bool,
    /// Provide filter values (e.g. "label=<label>")
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
}

/// `volume rm`, also of networks.
#[derive(Args, Debug)]
pub struct Rm {
    /// Do not fail where there is none of that name
    #[arg(short, long)]
    pub force: bool,
    /// Names
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// Runs one command; the exit code.
pub fn run(command: &Command, dirs: &Dirs) -> Result<i32> {
    match command {
        Command::Create(args) => create(args, dirs),
        Command::Inspect(args) => inspect_all(args, dirs),
        Command::Ls(args) => ls(args, dirs),
        Command::Prune(args) => {
            let warning = if args.all {
                "This will remove all local volumes not used by at least one container."
            } else {
                "This will remove anonymous local volumes not used by at least one container."
            };
            prune::confirm(args.force, warning, "volume prune")?;
            let filters = Filters::parse(&args.filter, &["label", "label!", "all"])?;
            let all = args.all || filters.flag("all")?.unwrap_or(false);
            let freed = remove_unused(dirs, all, &filters)?;
            print(&format!("Total reclaimed space: {}\n", units::human_size(freed)))?;
            Ok(0)
        }
        Command::Rm(args) => rm(args, dirs),
    }
}

fn create(args: &Create, dirs: &Dirs) -> Result<i32> {
    let pairs = |list: &[String]| list.iter().map(|text| options::label(text)).collect::<Result<BTreeMap<_, _>>>();
    let volumes = Volumes::open(dirs)?;
    let wanted = args.name.as_deref().unwrap_or_default();
    if args.name.is_some() {
        options::name("volume", wanted)?;
    }
    let before = volumes.get(wanted).is_ok();
    let volume = volumes.create(wanted, &pairs(&args.label)?, &pairs(&args.opt)?)?;
    if !before {
        tell(dirs, "create", &volume);
    }
    print(&format!("{}\n", volume.name)).map(|()| 0)
}

fn tell(dirs: &Dirs, action: &str, volume: &Volume) {
    journal::note(dirs, "volume", action, &volume.name, BTreeMap::from([("driver".to_owned(), "local".to_owned())]));
}

fn inspect_all(args: &Inspect, dirs: &Dirs) -> Result<i32> {
    let volumes = Volumes::open(dirs)?;
    let mut found = Vec::new();
    let code = each(&args.names, |name| volumes.get(name).map(|volume| found.push(value(&volumes, &volume))))?;
    print(&template::inspect(args.format.as_deref(), &found)?)?;
    Ok(code)
}

fn ls(args: &Ls, dirs: &Dirs) -> Result<i32> {
    let filters = Filters::parse(&args.filter, &["dangling", "driver", "label", "label!", "name"])?;
    let volumes = Volumes::open(dirs)?;
    let records = records(dirs)?;
    let dangling = filters.flag("dangling")?;
    let fits = |volume: &Volume| {
        filters.name(&volume.name)
            && filters.labels(&volume.labels)
            && filters.is("driver", "local")
            && dangling.is_none_or(|wanted| users(&records, &volume.name).next().is_none() == wanted)
    };
    let all: Vec<Volume> = volumes.list()?.into_iter().filter(fits).collect();
    if args.quiet && args.format.is_none() {
        print(&all.iter().map(|volume| format!("{}\n", volume.name)).collect::<String>())?;
        return Ok(0);
    }
    let rows: Vec<Value> = all.iter().map(|volume| row(&volumes, volume)).collect();
    print(&template::list(args.format.as_deref(), "table {{.Driver}}\t{{.Name}}", &[("Name", "VOLUME NAME")], &rows)?)?;
    Ok(0)
}

/// What `ls` has for `--format`; sizes are only `system df`'s.
pub fn row(volumes: &Volumes, volume: &Volume) -> Value {
    let labels: Vec<String> = volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({"Driver": "local", "Name": volume.name, "Mountpoint": volumes.data(volume), "Labels": labels.join(","), "Scope": "local", "Links": "N/A", "Size": "N/A"})
}

fn rm(args: &Rm, dirs: &Dirs) -> Result<i32> {
    let volumes = Volumes::open(dirs)?;
    each(&args.names, |name| {
        let found = volumes.get(name);
        if found.is_err() && args.force {
            return print(&format!("{name}\n"));
        }
        let volume = found?;
        // Asked under the lock, so that a container that is created meanwhile counts.
        volumes.remove(name, |volume| records(dirs).ok().and_then(|records| users(&records, &volume.name).next().map(|r| r.id.clone())))?;
        tell(dirs, "destroy", &volume);
        print(&format!("{name}\n"))
    })
}

/// The records of all containers.
pub fn records(dirs: &Dirs) -> Result<Vec<Record>> {
    let mut all = Vec::new();
    for container in Containers::new(dirs).list()? {
        match container.record() {
            // One that is removed meanwhile.
            Err(error) if error.get_kind() == crate::sys::Kind::NoContainer => {}
            other => all.push(other?),
        }
    }
    Ok(all)
}

/// Who mounts a volume.
pub fn users<'a>(records: &'a [Record], name: &'a str) -> impl Iterator<Item = &'a Record> {
    let uses = move |record: &&Record| record.settings.mounts.iter().any(|mount| mount.kind == Kind::Volume && mount.name == name);
    records.iter().filter(uses)
}

/// Removes and lists volumes that no container mounts; the bytes that became free.
pub fn remove_unused(dirs: &Dirs, all: bool, filters: &Filters) -> Result<u64> {
    let volumes = Volumes::open(dirs)?;
    let records = records(dirs)?;
    let sizes = std::cell::Cell::new(0_u64);
    let gone = volumes.prune(|volume| {
        let unwanted = (all || volume.anonymous) && filters.labels(&volume.labels) && users(&records, &volume.name).next().is_none();
        // What is elsewhere is not removed with the volume.
        if unwanted && volume.options.is_empty() {
            sizes.set(tree::size(&volumes.data(volume)).files.saturating_add(sizes.get()));
        }
        unwanted
    })?;
    gone.iter().for_each(|volume| tell(dirs, "destroy", volume));
    prune::listed("Deleted Volumes:", gone.iter().map(|volume| volume.name.clone()))?;
    Ok(sizes.get())
}

/// As docker shows it.
pub fn value(volumes: &Volumes, volume: &Volume) -> Value {
    json!({"Name": volume.name, "Driver": "local", "Mountpoint": volumes.data(volume), "Labels": volume.labels, "Options": volume.options, "Scope": "local", "CreatedAt": volume.created})
}
