//! `ps`: the list of containers.

use super::args::Ps;
use super::filter::Filters;
use super::visible::quoted;
use super::{print, template, time, units};
use crate::mydocker::container::{Containers, HealthState, Record, State, Status};
use crate::mydocker::files::Dirs;
use crate::mydocker::network::ports::{Port, Protocol};
use crate::mydocker::network::{Mode, Networks};
use crate::sys::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const KNOWN: [&str; 14] = [
    "id", "name", "label", "label!", "exited", "status", "ancestor", "before", "since", "volume", "network", "publish", "expose", "health",
];

const HEADINGS: [(&str, &str); 5] =
    [("ID", "CONTAINER ID"), ("RunningFor", "CREATED"), ("Names", "NAMES"), ("Image", "IMAGE"), ("CreatedAt", "CREATED AT")];

const DEFAULT: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

/// `mydocker ps`.
pub fn ps(args: &Ps, dirs: &Dirs) -> Result<i32> {
    let filters = Filters::parse(&args.filter, &KNOWN)?;
    let containers = Containers::new(dirs);
    let mut all: Vec<(Record, State)> = Vec::new();
    for container in containers.list()? {
        // One that is removed meanwhile is not listed.
        let (Ok(record), Ok(state)) = (container.record(), container.state()) else { continue };
        all.push((record, state));
    }
    all.sort_by(|a, b| b.0.created.cmp(&a.0.created));
    let limit = if args.latest { Some(1) } else { args.last };
    let all_states = args.all || limit.is_some() || !filters.get("status").is_empty() || !filters.get("exited").is_empty();
    let bounds = Bounds::new(&filters, &all)?;
    let kept = all.iter().filter(|(record, state)| {
        (all_states || state.status.is_up() || state.status == Status::Restarting) && fits(&filters, &bounds, record, state)
    });
    let kept: Vec<&(Record, State)> = kept.take(limit.unwrap_or(usize::MAX)).collect();
    if args.quiet && args.format.is_none() {
        let id = |record: &Record| if args.no_trunc { record.id.clone() } else { record.short().to_owned() };
        print(&kept.iter().map(|(record, _)| id(record) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let published = published(dirs, kept.iter().any(|(_, state)| !state.attachments.is_empty()));
    let rows: Vec<Value> =
        kept.iter().map(|(record, state)| row(record, state, published.get(&record.id).or(Some(&state.ports)), args, dirs)).collect();
    let default = if args.size { format!("{DEFAULT}\t{{{{.Size}}}}") } else { DEFAULT.to_owned() };
    print(&template::list(args.format.as_deref(), &default, &HEADINGS, &rows)?)?;
    Ok(0)
}

/// As docker shows it: words with a space in quotes.
fn command(record: &Record) -> String {
    let words = record.args.iter().enumerate();
    let quoted = words.map(|(i, word)| if i > 0 && word.contains(' ') { format!("'{word}'") } else { word.clone() });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Who has which ports; read only if somebody has a network.
fn published(dirs: &Dirs, wanted: bool) -> BTreeMap<String, Vec<Port>> {
    let leases = if wanted { Networks::open(dirs).and_then(|networks| networks.leases()).unwrap_or_default() } else { BTreeMap::new() };
    leases.into_iter().map(|(id, lease)| (id, lease.ports)).collect()
}

/// `before=` and `since=`: when the containers they name were made.
struct Bounds {
    before: Option<String>,
    since: Option<String>,
}

impl Bounds {
    fn new(filters: &Filters, all: &[(Record, State)]) -> Result<Self> {
        let created = |key: &str| {
            let Some(name) = filters.get(key).first() else { return Ok(None) };
            let found = all.iter().find(|(record, _)| record.name == *name || record.id.starts_with(name.as_str()));
            found.map(|(record, _)| Some(record.created.clone())).ok_or_else(|| Error::new(format!("no such container: {name}")))
        };
        Ok(Self { before: created("before")?, since: created("since")? })
    }
}

fn fits(filters: &Filters, bounds: &Bounds, record: &Record, state: &State) -> bool {
    let settings = &record.settings;
    let mount =
        |wanted: &str| settings.mounts.iter().any(|mount| mount.name == wanted || mount.source == wanted || mount.destination == wanted);
    let port = |list: &[String], wanted: &str| {
        list.iter().any(|port| port.split('/').next() == wanted.split('/').next() || port.split(':').next_back() == Some(wanted))
    };
    filters.id(&record.id)
        && filters.name(&record.name)
        && filters.labels(&settings.labels)
        && filters.any("exited", |code| state.status == Status::Exited && code == state.exit_code.to_string())
        && filters.is("status", state.status.name())
        && filters.is("health", state.health.as_ref().map_or("none", |health| health.status.as_str()))
        && filters.any("ancestor", |image| {
            record.image == image
                || record.image_id.trim_start_matches("sha256:").starts_with(image)
                || record.image == format!("{image}:latest")
        })
        && filters.any("volume", mount)
        && filters.any("network", |wanted| networks(record).iter().any(|network| network == wanted))
        && filters.any("publish", |wanted| port(&settings.publish, wanted))
        && filters.any("expose", |wanted| port(&settings.exposed, wanted))
        && bounds.before.as_ref().is_none_or(|before| record.created < *before)
        && bounds.since.as_ref().is_none_or(|since| record.created > *since)
}

/// The networks' names as docker shows them.
pub fn networks(record: &Record) -> Vec<String> {
    let name = |text: &String| match Mode::parse(text) {
        Ok(Mode::Networks(joins)) => joins.into_iter().map(|join| join.network).next().unwrap_or_default(),
        _ => text.clone(),
    };
    if record.settings.networks.is_empty() { vec!["bridge".into()] } else { record.settings.networks.iter().map(name).collect() }
}

/// `0.0.0.0:8080->80/tcp`.
pub fn port_words(port: &Port) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        #[allow(unreachable_patterns)]
        _ => "sctp",
    };
    format!("{}:{}->{}/{protocol}", port.host_ip, port.host_port, port.container_port)
}

/// `Up 2 hours (healthy)`, `Exited (1) 3 minutes ago`.
pub fn status_words(state: &State) -> String {
    let since = |stamp: &str| time::parse_rfc3339(stamp).map_or_else(String::new, |at| units::human_duration(time::since(at)));
    let health = |health: &HealthState| match health.status.as_str() {
        "starting" => " (health: starting)".to_owned(),
        other => format!(" ({other})"),
    };
    match state.status {
        Status::Created => "Created".into(),
        Status::Running => format!("Up {}{}", since(&state.started), state.health.as_ref().map(health).unwrap_or_default()),
        Status::Paused => format!("Up {} (Paused)", since(&state.started)),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(&state.finished)),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(&state.finished)),
        Status::Removing => "Removal In Progress".into(),
        Status::Dead => "Dead".into(),
    }
}

fn row(record: &Record, state: &State, ports: Option<&Vec<Port>>, args: &Ps, dirs: &Dirs) -> Value {
    let settings = &record.settings;
    let cut = |text: String, length: usize| {
        if args.no_trunc || text.chars().count() <= length { text } else { text.chars().take(length - 1).chain(['…']).collect() }
    };
    let created = time::parse_rfc3339(&record.created);
    let mut ports: Vec<String> = ports.into_iter().flatten().map(port_words).collect();
    if state.status.is_up() {
        let open = |exposed: &&String| !ports.iter().any(|port| port.ends_with(&format!("->{exposed}")));
        let exposed: Vec<String> = settings.exposed.iter().filter(open).cloned().collect();
        ports.extend(exposed);
    }
    let labels: Vec<String> = settings.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mounts = settings.mounts.iter().map(|mount| cut(mount.shown().to_owned(), 15)).collect::<Vec<_>>().join(",");
    let size = if args.size { super::inspect::sizes(record, dirs) } else { (0, 0) };
    json!({
        "ID": if args.no_trunc { &record.id } else { record.short() },
        "Image": record.image,
        "Command": quoted(&cut(command(record), 20)),
        "CreatedAt": record.created,
        "RunningFor": created.map_or_else(String::new, |at| format!("{} ago", units::human_duration(time::since(at)))),
        "Ports": ports.join(", "),
        "State": state.status.name(),
        "Status": status_words(state),
        "Size": format!("{} (virtual {})", units::human_size(size.0), units::human_size(size.0 + size.1)),
        "Names": record.name,
        "Labels": labels.join(","),
        "Mounts": mounts,
        "LocalVolumes": settings.mounts.iter().filter(|mount| mount.kind == crate::mydocker::volume::Kind::Volume).count().to_string(),
        "Networks": networks(record).join(","),
        "Pid": state.process.filter(|_| state.status.is_up()).map_or(0, |process| process.pid),
    })
}
