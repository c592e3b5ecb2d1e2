//! `commit`, `diff`, `export`: what a container changed, and its whole tree.

use super::images::{Show, sink};
use super::visible::visible;
use super::{print, stop};
use crate::mydocker::container::{Container, Containers, Record, Status};
use crate::mydocker::files::Dirs;
use crate::mydocker::image::{self, Difference, Image, Images, Reference};
use crate::mydocker::network::ports::PortSpec;
use crate::mydocker::userns::is_rootless;
use crate::sys::{Error, Result};
use clap::Args;
use serde_json::{Map, Value, json};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// `commit`.
#[derive(Args, Debug)]
pub struct Commit {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long)]
    author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Pause container during commit
    #[arg(short, long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    pause: bool,
    /// Do not pause the container during commit
    #[arg(long)]
    no_pause: bool,
    /// Name or id
    container: String,
    /// The new image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// `diff`.
#[derive(Args, Debug)]
pub struct Diff {
    /// Name or id
    container: String,
}

/// `export`.
#[derive(Args, Debug)]
pub struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name or id
    container: String,
}

/// A container that is paused until this is dropped.
struct Paused<'a>(&'a Container);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        if let Err(error) = stop::unpause_one(self.0) {
            eprintln!("mydocker: container {} stays paused: {error}", self.0.id());
        }
    }
}

/// `mydocker commit`.
pub fn commit(args: &Commit, dirs: &Dirs) -> Result<i32> {
    let name = args.name.as_deref().map(Reference::parse).transpose()?;
    if let Some(name) = name.as_ref().filter(|name| name.digest().is_some()) {
        return Err(Error::new(format!("{name} has a digest and cannot be given as a name")));
    }
    let container = Containers::new(dirs).find(&args.container)?;
    let record = container.record()?;
    let images = Images::open(dirs)?;
    let parent = images.resolve(&record.image_id)?;
    let config = config(&record, &parent);
    let command = record.args.join(" ");
    let upper = container.upper();
    let asked = image::Commit {
        upper: &upper,
        parent: &parent,
        reference: name.as_ref(),
        config: Some(&config),
        changes: &args.change,
        author: args.author.as_deref(),
        message: args.message.as_deref(),
        command: Some(&command),
    };
    let pause = args.pause && !args.no_pause && container.state()?.status == Status::Running;
    let paused = match pause.then(|| stop::pause_one(&container)) {
        Some(Ok(())) => Some(Paused(&container)),
        // An ordinary user's container may have no cgroup to be paused by.
        Some(Err(error)) if is_rootless() => {
            eprintln!("WARNING: what the container writes meanwhile may be committed in part: {error}");
            None
        }
        Some(Err(error)) => return Err(error),
        None => None,
    };
    let mut show = Show::bars();
    let made = images.commit(&asked, &mut |progress| show.watch(progress));
    drop(paused);
    let made = made.map_err(|e| e.within(format!("commit {}", args.container)))?;
    show.finish();
    print(&format!("{}\n", made.id))?;
    Ok(0)
}

/// The parent's configuration with what `create` and `run` changed of it.
fn config(record: &Record, parent: &Image) -> Map<String, Value> {
    let settings = &record.settings;
    let mut config = parent.raw["config"].as_object().cloned().unwrap_or_default();
    let (entrypoint, command) = record.args.split_at(record.entrypoint.min(record.args.len()));
    let anonymous = settings.mounts.iter().filter(|mount| mount.anonymous).map(|mount| &mount.destination);
    let ports = settings.exposed.iter().flat_map(|text| PortSpec::exposed(text).unwrap_or_default());
    let exposed: Vec<String> = ports.map(|port| format!("{}/{}", port.container_port, port.protocol)).collect();
    let set = |names: &mut dyn Iterator<Item = &String>| Value::Object(names.map(|name| (name.clone(), json!({}))).collect());
    let check = match &settings.health {
        Some(check) => json!({"Test": check.test, "Interval": check.interval, "Timeout": check.timeout, "StartPeriod": check.start_period,
            "StartInterval": check.start_interval, "Retries": check.retries}),
        None if config.contains_key("Healthcheck") => json!({"Test": ["NONE"]}),
        None => Value::Null,
    };
    for (key, value) in [
        ("Env", json!(settings.env)),
        ("Entrypoint", json!(entrypoint)),
        ("Cmd", json!(command)),
        ("WorkingDir", json!(settings.workdir)),
        ("User", json!(settings.user)),
        ("Labels", json!(settings.labels)),
        ("ExposedPorts", set(&mut exposed.iter())),
        ("Volumes", set(&mut anonymous.into_iter())),
        ("StopSignal", json!(settings.stop_signal)),
        ("Healthcheck", check),
    ] {
        let empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        // What is not said is left out, as docker's configurations have it.
        let _ = if empty { config.remove(key) } else { config.insert(key.to_owned(), value) };
    }
    config
}

/// Where the runtime mounts something of its own and makes the place if the image lacks it: no change of the container's.
const MOUNT_POINTS: [&str; 7] = ["/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/console"];

/// What the user's programs changed: without our mount points, and without a directory that changed only because of them.
fn changes(container: &Container, record: &Record) -> Result<Vec<Difference>> {
    let layers = container.dirs().layers();
    let lowers: Vec<PathBuf> = record.layers.iter().map(|layer| layers.join(layer)).collect();
    let mut all = image::diff(&container.upper(), &lowers)?;
    let ours = |change: &Difference| change.kind == 'A' && MOUNT_POINTS.iter().any(|point| change.path == Path::new(point));
    if all.iter().any(|change| ours(change) && change.path.starts_with("/etc")) {
        let others = |change: &Difference| change.path.starts_with("/etc/") && change.path != Path::new("/etc") && !ours(change);
        let alone = !all.iter().any(others);
        all.retain(|change| !(alone && change.kind == 'C' && change.path == Path::new("/etc")));
    }
    all.retain(|change| !ours(change));
    Ok(all)
}

/// `mydocker diff`.
pub fn diff(args: &Diff, dirs: &Dirs) -> Result<i32> {
    let container = Containers::new(dirs).find(&args.container)?;
    let changes = changes(&container, &container.record()?)?;
    print(&changes.iter().map(|change| format!("{} {}\n", change.kind, visible(&change.path.to_string_lossy()))).collect::<String>())?;
    Ok(0)
}

/// `mydocker export`.
pub fn export(args: &Export, dirs: &Dirs) -> Result<i32> {
    let container = Containers::new(dirs).find(&args.container)?;
    let record = container.record()?;
    let up = container.state()?.status.is_up();
    let first = if up { record.first_id.unwrap_or_default() } else { 0 };
    let tree = container.snapshot(&record)?;
    let root = PathBuf::from(format!("/proc/self/fd/{}/.", tree.as_raw_fd()));
    sink(args.output.as_deref(), "export", |out| image::export(&root, first, out))?;
    Ok(0)
}
