//! Who has which address and port: one file below `Dirs::run`, read and written under one lock.

use super::ports::{Port, Protocol};
use super::store::Network;
use super::subnet::Subnet;
use crate::mydocker::files::{Dirs, Keep, Lock, make_dir, read_json, write_json};
use crate::sys::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// One interface of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// The network's id: a network made anew under the same name is another.
    pub network_id: String,
    /// The container's address.
    pub address: Ipv4Addr,
    /// The subnet's prefix length.
    pub prefix: u8,
    /// The default route; none on an internal network.
    pub gateway: Option<Ipv4Addr>,
    /// The container's MAC address.
    pub mac: String,
    /// The names that DNS answers for on this network, beside the container's own.
    pub aliases: Vec<String>,
    /// The name inside the container: `eth0`.
    pub interface: String,
}

/// What one container has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The container's name.
    pub name: String,
    /// Its published ports.
    pub ports: Vec<Port>,
    /// The name servers that DNS asks on for this container (`--dns`); none means the host's.
    pub dns: Vec<Ipv4Addr>,
    /// Its interfaces.
    pub attachments: Vec<Attachment>,
}

impl Lease {
    /// The first free name of an interface.
    pub(super) fn next_interface(&self) -> String {
        let free = |name: &String| !self.attachments.iter().any(|attachment| attachment.interface == *name);
        (0..).map(|n| format!("eth{n}")).find(free).unwrap_or_default()
    }
}

/// The whole file, locked as long as this lives.
pub(super) struct Book {
    pages: Pages,
    path: PathBuf,
    _lock: Lock,
}

#[derive(Default, Serialize, Deserialize)]
struct Pages {
    /// boot_id of random(4): after a reboot nothing in the file is true any more.
    boot: String,
    /// By container id.
    leases: BTreeMap<String, Lease>,
    /// By network id, the address given last: the next one is searched after it, so that an address is not reused while
    /// neighbours still remember its MAC address.
    last: BTreeMap<String, Ipv4Addr>,
}

/// The lock of everything in this room; also makes its directory.
pub(super) fn lock(dirs: &Dirs) -> Result<Lock> {
    make_dir(&dirs.run.join("network"))?;
    Lock::file(&dirs.run.join("network/lock"))
}

impl Book {
    pub(super) fn open(dirs: &Dirs) -> Result<Self> {
        let lock = lock(dirs)?;
        let path = dirs.run.join("network/leases.json");
        let boot_id = "/proc/sys/kernel/random/boot_id";
        let boot = fs::read_to_string(boot_id).context(|| format!("read {boot_id}"))?.trim().to_owned();
        let pages = read_json::<Pages>(&path)?.filter(|pages| pages.boot == boot);
        Ok(Self { pages: pages.unwrap_or_else(|| Pages { boot, ..Pages::default() }), path, _lock: lock })
    }

    pub(super) fn save(&self) -> Result<()> {
        write_json(&self.path, &self.pages, Keep::UntilReboot)
    }

    pub(super) fn leases(&self) -> &BTreeMap<String, Lease> {
        &self.pages.leases
    }

    pub(super) fn put(&mut self, id: &str, lease: Lease) -> Result<()> {
        self.pages.leases.insert(id.into(), lease);
        self.save()
    }

    pub(super) fn remove(&mut self, id: &str) -> Result<()> {
        self.pages.leases.remove(id).map_or(Ok(()), |_| self.save())
    }

    /// The containers on a network, as id and name.
    pub(super) fn on(&self, network: &Network) -> Vec<(&str, &str)> {
        let attached = |lease: &Lease| lease.attachments.iter().any(|attachment| attachment.network_id == network.id);
        self.pages.leases.iter().filter(|(_, lease)| attached(lease)).map(|(id, lease)| (id.as_str(), lease.name.as_str())).collect()
    }

    /// All published ports but those of one container.
    pub(super) fn ports(&self, but: &str) -> Vec<Port> {
        self.pages.leases.iter().filter(|(id, _)| *id != but).flat_map(|(_, lease)| lease.ports.iter().copied()).collect()
    }

    /// The address that was asked for, or the next free one.
    pub(super) fn address(&mut self, network: &Network, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr> {
        let (subnet, gateway) = network.addresses()?;
        let others = self.pages.leases.values().flat_map(|lease| &lease.attachments);
        let mut used: Vec<Ipv4Addr> = others.filter(|other| other.network_id == network.id).map(|other| other.address).collect();
        used.extend([subnet.base(), subnet.last(), gateway]);
        if let Some(wanted) = wanted {
            return match subnet.contains(wanted) {
                false => Err(Error::new(format!(
                    "invalid address {wanted}: it does not belong to the subnet {subnet} of network {}",
                    network.name
                ))),
                true if used.contains(&wanted) => {
                    Err(Error::new(format!("address {wanted} of network {} is already in use", network.name)))
                }
                true => Ok(wanted),
            };
        }
        let pool = network.ip_range.unwrap_or(subnet);
        let address = next(pool, self.pages.last.get(&network.id).copied(), &used).ok_or_else(|| {
            Error::new(format!("network {} has no free address left in {pool}", network.name))
                .hint("remove containers, or use another network")
        })?;
        self.pages.last.insert(network.id.clone(), address);
        Ok(address)
    }
}

/// The first address of the pool after `last` that nobody uses, and round.
fn next(pool: Subnet, last: Option<Ipv4Addr>, used: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    let (low, high) = (pool.base().to_bits(), pool.last().to_bits());
    let after = last.filter(|last| pool.contains(*last)).map_or(low, |last| last.to_bits().saturating_add(1));
    (after..=high).chain(low..after).map(Ipv4Addr::from_bits).find(|address| !used.contains(address))
}

/// Neighbouring ports as one entry, as netavark takes them: first host port, first container port, how many.
pub(super) fn runs(ports: &[Port]) -> Vec<(Port, u16)> {
    let mut runs: Vec<(Port, u16)> = Vec::new();
    for port in ports {
        match runs.last_mut() {
            Some((first, count)) if continues(first, *count, port) => *count += 1,
            _ => runs.push((*port, 1)),
        }
    }
    runs
}

fn continues(first: &Port, count: u16, port: &Port) -> bool {
    let same: (Ipv4Addr, Protocol) = (first.host_ip, first.protocol);
    same == (port.host_ip, port.protocol)
        && first.host_port.checked_add(count) == Some(port.host_port)
        && first.container_port.checked_add(count) == Some(port.container_port)
}
