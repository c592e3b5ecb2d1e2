//! Connecting containers to networks and taking them off again.
//!
//! The lease is written before netavark is called and removed after it has cleaned up: a crash in between leaves a lease, which
//! `teardown` of that id, or the next `setup`, undoes.

use super::book::{Attachment, Book, Lease};
use super::guard::{self, guard};
use super::mode::Join;
use super::netavark::Netavark;
use super::pin::Namespace;
use super::ports::{Held, PortSpec, hold};
use super::store::{Network, Networks};
use crate::sys::{Error, Result};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

/// A container that is to be connected.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// The container's id; its first 12 digits are a DNS name too.
    pub id: &'a str,
    /// The container's name, also in DNS.
    pub name: &'a str,
    /// Its network namespace: `Namespace::path`, or `/proc/PID/ns/net` (which is then pinned).
    pub namespace: &'a Path,
    /// The networks, in the order of the interfaces.
    pub joins: &'a [Join],
    /// Published ports.
    pub ports: &'a [PortSpec],
    /// `--dns`: whom our DNS asks for other names; none means the host's servers.
    pub dns: &'a [Ipv4Addr],
}

/// A connected container.
#[derive(Debug)]
pub struct Connected {
    /// Its interfaces, in the order of the networks.
    pub attachments: Vec<Attachment>,
    /// The host's ports, to be held as long as the container runs.
    pub held: Held,
    /// For the user: what was asked for and cannot be.
    pub warnings: Vec<String>,
}

impl Networks {
    /// Connects a container. What an earlier run of it has left is cleared away first. A failure leaves nothing, also no pinned
    /// namespace.
    pub fn setup(&self, guest: &Guest<'_>) -> Result<Connected> {
        let pin = Namespace::of(&self.dirs, guest.id);
        // The first error is the one to report, here and below.
        self.setup_pinned(guest, &pin).inspect_err(|_| drop(pin.remove()))
    }

    fn setup_pinned(&self, guest: &Guest<'_>, pin: &Namespace) -> Result<Connected> {
        let netavark = Netavark::find()?;
        self.predefined()?;
        let mut book = Book::open(&self.dirs)?;
        if let Some(old) = book.leases().get(guest.id).cloned() {
            // Where this fails, what matters of it fails below again.
            drop(self.clear(&netavark, pin, guest.id, &old));
            book.remove(guest.id)?;
        }
        let mut lease = Lease { name: guest.name.into(), dns: guest.dns.to_vec(), ..Lease::default() };
        let networks: Vec<Network> = guest.joins.iter().map(|join| self.find(&join.network)).collect::<Result<_>>()?;
        for (join, network) in guest.joins.iter().zip(&networks) {
            let attachment = attach(&mut book, &lease, guest.id, network, join)?;
            lease.attachments.push(attachment);
        }
        let mut specs = guest.ports.to_vec();
        let binding = networks.first().map_or(Ipv4Addr::UNSPECIFIED, Network::host_binding);
        specs.iter_mut().filter(|spec| spec.host_ip.is_unspecified()).for_each(|spec| spec.host_ip = binding);
        let held = hold(&specs, &book.ports(guest.id))?;
        lease.ports.clone_from(&held.ports);
        book.put(guest.id, lease.clone())?;
        if guest.namespace != pin.path() {
            pin.remove()?;
        }
        // Before there is a bridge: it is never there without its guard.
        let done = guard(networks.iter())
            .and_then(|()| pin.pin(guest.namespace))
            .and_then(|()| netavark.setup(&self.dirs, pin, guest.id, &lease, &networks));
        let answered = done.map_err(|error| {
            drop(self.clear(&netavark, pin, guest.id, &lease).and_then(|()| book.remove(guest.id)));
            drop(self.unguard(&book, &lease));
            error.within(format!("connect container {}", guest.name))
        })?;
        let mut warnings = warnings(&netavark, guest, &networks);
        if !answered {
            warnings.push("containers have no DNS by name: aardvark-dns does not answer; does another program have port 53?".into());
        }
        Ok(Connected { warnings, attachments: lease.attachments, held })
    }

    /// Takes a container off all networks and unpins its namespace, whatever state they are in; also for a container that is gone.
    /// Its address and ports are free afterwards even if an error is returned.
    pub fn teardown(&self, id: &str) -> Result<()> {
        let pin = Namespace::of(&self.dirs, id);
        let mut book = Book::open(&self.dirs)?;
        let lease = book.leases().get(id).cloned().unwrap_or_default();
        let cleared = match lease.attachments.as_slice() {
            [] => Ok(()),
            _ => Netavark::find().and_then(|netavark| self.clear(&netavark, &pin, id, &lease)),
        };
        let unpinned = pin.remove();
        book.remove(id)?;
        cleared.and(self.unguard(&book, &lease)).and(unpinned)
    }

    /// Connects a running container to one more network.
    pub fn connect(&self, id: &str, join: &Join) -> Result<Attachment> {
        let netavark = Netavark::find()?;
        self.predefined()?;
        let mut book = Book::open(&self.dirs)?;
        let before = self.lease(&book, id)?;
        let network = self.find(&join.network)?;
        if before.attachments.iter().any(|attachment| attachment.network_id == network.id) {
            return Err(Error::new(format!("container {} is already connected to network {}", before.name, network.name)));
        }
        let attachment = attach(&mut book, &before, id, &network, join)?;
        let mut lease = before.clone();
        lease.attachments.push(attachment.clone());
        book.put(id, lease.clone())?;
        let (pin, network) = (Namespace::of(&self.dirs, id), [network]);
        let done = guard(network.iter()).and_then(|()| netavark.setup(&self.dirs, &pin, id, &lease, &network));
        if let Err(error) = done {
            drop(netavark.teardown(&self.dirs, &pin, id, &lease, &network));
            drop(book.put(id, before.clone()));
            drop(self.unguard(&book, &lease));
            return Err(error.within(format!("connect container {} to network {}", before.name, network[0].name)));
        }
        Ok(attachment)
    }

    /// Takes a running container off one network.
    pub fn disconnect(&self, id: &str, network: &str) -> Result<()> {
        let netavark = Netavark::find()?;
        self.predefined()?;
        let mut book = Book::open(&self.dirs)?;
        let network = self.find(network)?;
        let mut lease = self.lease(&book, id)?;
        let Some(at) = lease.attachments.iter().position(|attachment| attachment.network_id == network.id) else {
            return Err(Error::new(format!("container {} is not connected to network {}", lease.name, network.name)));
        };
        let pin = Namespace::of(&self.dirs, id);
        netavark
            .teardown(&self.dirs, &pin, id, &lease, std::slice::from_ref(&network))
            .map_err(|error| error.within(format!("disconnect container {} from network {}", lease.name, network.name)))?;
        let left = Lease { attachments: vec![lease.attachments.remove(at)], ..Lease::default() };
        book.put(id, lease)?;
        self.unguard(&book, &left)
    }

    /// Takes the guard away from those networks of a lease that nobody is on any more; a bridge
    /// goes with its last container.
    fn unguard(&self, book: &Book, lease: &Lease) -> Result<()> {
        let all = if lease.attachments.is_empty() { Vec::new() } else { self.read_all()? };
        guard::unguard(all.iter().filter(|network| on(lease, network) && book.on(network).is_empty()))
    }

    /// Where DNS by name answers the container: on its networks' gateways (also on those that are no way out), if aardvark-dns is
    /// there.
    pub fn resolvers(&self, attachments: &[Attachment]) -> Result<Vec<Ipv4Addr>> {
        if attachments.is_empty() || Netavark::find()?.aardvark.is_none() {
            return Ok(Vec::new());
        }
        let all = self.read_all()?;
        let gateway = |at: &Attachment| all.iter().find(|network| network.id == at.network_id).and_then(|network| network.gateway);
        Ok(attachments.iter().filter_map(gateway).collect())
    }

    /// Who has what, by container id; also those whose container is gone.
    pub fn leases(&self) -> Result<BTreeMap<String, Lease>> {
        Ok(Book::open(&self.dirs)?.leases().clone())
    }

    fn lease(&self, book: &Book, id: &str) -> Result<Lease> {
        book.leases().get(id).cloned().ok_or_else(|| {
            Error::new(format!("container {id} has no network of its own"))
                .hint("it is not running, or was started with --network none, host or container")
        })
    }

    /// Links, rules and names away. Where the namespace is gone or netavark does not find in it what it made, it is given a new one
    /// to make and unmake everything in: what it leaves out after an error is the bridge and the rules.
    fn clear(&self, netavark: &Netavark, pin: &Namespace, id: &str, lease: &Lease) -> Result<()> {
        let networks: Vec<Network> = self.read_all()?.into_iter().filter(|network| on(lease, network)).collect();
        if pin.exists() && netavark.teardown(&self.dirs, pin, id, lease, &networks).is_ok() {
            return Ok(());
        }
        pin.remove()?;
        pin.make()?;
        // If this fails, the teardown still may not.
        drop(netavark.setup(&self.dirs, pin, id, lease, &networks));
        netavark.teardown(&self.dirs, pin, id, lease, &networks)
    }
}

fn on(lease: &Lease, network: &Network) -> bool {
    lease.attachments.iter().any(|attachment| attachment.network_id == network.id)
}

/// Chooses address, MAC address, names and interface.
fn attach(book: &mut Book, lease: &Lease, id: &str, network: &Network, join: &Join) -> Result<Attachment> {
    let (subnet, gateway) = network.addresses()?;
    let address = book.address(network, join.address)?;
    // docker's own: locally administered, unique as the address is.
    let [a, b, c, d] = address.octets();
    let mac = join.mac.clone().unwrap_or_else(|| format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}"));
    let mut aliases = join.aliases.clone();
    aliases.push(id.chars().take(12).collect());
    aliases.retain(|alias| *alias != lease.name);
    Ok(Attachment {
        network: network.name.clone(),
        network_id: network.id.clone(),
        address,
        prefix: subnet.prefix(),
        gateway: (!network.internal).then_some(gateway),
        mac,
        aliases,
        interface: lease.next_interface(),
    })
}

fn warnings(netavark: &Netavark, guest: &Guest<'_>, networks: &[Network]) -> Vec<String> {
    let mut warnings = Vec::new();
    if !guest.ports.is_empty() && networks.iter().all(|network| network.internal) {
        warnings.push("ports are not published: all networks of the container are internal".into());
    }
    if netavark.aardvark.is_none() && networks.iter().any(|network| !network.is_predefined()) {
        warnings.push("containers have no DNS by name: aardvark-dns is not installed (package aardvark-dns)".into());
    }
    warnings
}
