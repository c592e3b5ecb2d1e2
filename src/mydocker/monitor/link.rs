//! The network of a container that starts.

use super::start::running;
use crate::mydocker::container::{Container, Prepared, Record};
use crate::mydocker::network::{Attachment, Guest, Mode, Namespace, Networks, ports, rootless};
use crate::mydocker::userns::is_rootless;
use crate::sys::Result;
use rustix::fd::OwnedFd;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// What of a container's network lasts as long as whoever stands by it holds this.
#[derive(Debug, Default)]
pub struct Link {
    /// Published ports, which stay ours.
    pub(super) _held: Option<ports::Held>,
    /// The program that carries an ordinary user's traffic.
    pub(super) _helper: Option<rootless::Helper>,
}

/// A network namespace that is ready, or will be.
#[derive(Default)]
pub(super) struct Wired {
    /// Its interfaces.
    pub attachments: Vec<Attachment>,
    /// Whom `resolv.conf` is to name instead of the host's servers.
    pub servers: Vec<Ipv4Addr>,
    /// Published ports.
    pub held: Option<ports::Held>,
    /// What connects an ordinary user's container once it is created.
    pub user: Option<rootless::Program>,
    /// For the user.
    pub warnings: Vec<String>,
}

/// Finds or makes the container's network.
pub(super) fn wire(container: &Container, record: &Record, mode: &Mode, owner: Option<&OwnedFd>, prepared: &mut Prepared) -> Result<Wired> {
    let settings = &record.settings;
    let joins = match mode {
        Mode::Host => return Ok(Wired::default()),
        Mode::None => {
            prepared.network = Some(PathBuf::new());
            return Ok(Wired::default());
        }
        Mode::Container(other) => {
            prepared.network = Some(running(container, other)?.join("ns/net"));
            return Ok(Wired::default());
        }
        Mode::Networks(joins) => joins,
    };
    let mut joins = joins.clone();
    if let Some(first) = joins.first_mut() {
        first.address = first.address.or(settings.ip);
        first.mac = first.mac.take().or_else(|| settings.mac.clone());
    }
    joins.iter_mut().for_each(|join| join.aliases.extend(settings.aliases.iter().cloned()));
    if is_rootless() {
        rootless::accept(&joins)?;
        prepared.network = Some(PathBuf::new());
        let program = rootless::Program::find()?;
        return Ok(Wired { servers: vec![rootless::name_server(&program)], user: Some(program), ..Wired::default() });
    }
    let networks = Networks::open(container.dirs())?;
    let namespace = Namespace::of(container.dirs(), container.id());
    match owner {
        // So that its root may listen on any port and ping.
        Some(owner) => namespace.make_for(owner)?,
        None => namespace.make()?,
    }
    let specs = published(record)?;
    let dns: Vec<Ipv4Addr> = settings.dns.iter().filter_map(|ip| ip.parse().ok()).collect();
    let guest = Guest { id: &record.id, name: &record.name, namespace: namespace.path(), joins: &joins, ports: &specs, dns: &dns };
    let connected = networks.setup(&guest)?;
    prepared.network = Some(namespace.path().to_owned());
    let servers = networks.resolvers(&connected.attachments)?;
    Ok(Wired { attachments: connected.attachments, servers, held: Some(connected.held), user: None, warnings: connected.warnings })
}

/// The ports that a container is to be reached at.
pub(super) fn published(record: &Record) -> Result<Vec<ports::PortSpec>> {
    let settings = &record.settings;
    let mut specs = Vec::new();
    for text in &settings.publish {
        specs.extend(ports::PortSpec::parse(text)?);
    }
    if settings.publish_all {
        for text in &settings.exposed {
            specs.extend(ports::PortSpec::exposed(text)?);
        }
    }
    Ok(specs)
}
