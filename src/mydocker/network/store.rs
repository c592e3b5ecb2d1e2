//! The networks there are: one JSON file each below `Dirs::networks`.

use super::book::{self, Book};
use super::subnet::{self, Subnet};
use crate::mydocker::files::{Dirs, Keep, Lock, make_dir, random, read_json, write_json};
use crate::sys::{Context, Error, Result, rfc3339_now};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// The default network: containers are on it unless `--network` says otherwise.
const BRIDGE: &str = "bridge";
/// Networks that are always there, with their drivers' names as docker shows them.
const PREDEFINED: &[(&str, &str)] = &[(BRIDGE, "bridge"), ("host", "host"), ("none", "null")];
/// The name of the interface, which netavark also knows; 15 bytes at most (IFNAMSIZ).
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// Where `-p` without an address publishes.
const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
/// Bytes a packet; docker's and podman's name.
const MTU: &[&str] = &["mtu", "com.docker.network.driver.mtu"];
/// Whether containers of other networks are kept out.
const ISOLATE: &str = "isolate";

/// One network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Unique on this host.
    pub name: String,
    /// 64 random hexadecimal digits.
    pub id: String,
    /// `bridge`; `host` and `null` for the two predefined ones that are none.
    pub driver: String,
    /// The bridge device on the host.
    #[serde(default)]
    pub interface: String,
    /// Where addresses come from; only a bridge has one.
    pub subnet: Option<Subnet>,
    /// The host's address on the bridge.
    pub gateway: Option<Ipv4Addr>,
    /// The part of the subnet that addresses are chosen from.
    #[serde(default)]
    pub ip_range: Option<Subnet>,
    /// Without a way out.
    pub internal: bool,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `-o`
    pub options: BTreeMap<String, String>,
    /// RFC 3339, UTC.
    pub created: String,
}

impl Network {
    /// Whether it is there without having been created.
    pub fn is_predefined(&self) -> bool {
        PREDEFINED.iter().any(|(name, _)| *name == self.name)
    }

    /// Where `-p` without an address publishes.
    pub fn host_binding(&self) -> Ipv4Addr {
        self.options.get(HOST_BINDING).and_then(|text| text.parse().ok()).unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    pub(super) fn addresses(&self) -> Result<(Subnet, Ipv4Addr)> {
        let both = self.subnet.zip(self.gateway);
        both.ok_or_else(|| Error::new(format!("containers cannot be connected to the network {}: it has no addresses", self.name)))
    }

    pub(super) fn netavark_options(&self) -> Value {
        let mtu = MTU.iter().find_map(|name| self.options.get(*name)).map(|value| ("mtu", value));
        let isolate = self.options.get(ISOLATE).map(|value| (ISOLATE, value));
        Value::Object(mtu.into_iter().chain(isolate).map(|(key, value)| (key.into(), value.clone().into())).collect::<Map<_, _>>())
    }
}

/// What `network create` is told.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// The new name.
    pub name: String,
    /// `--driver`; empty is `bridge`.
    pub driver: String,
    /// `--subnet`; else a free one.
    pub subnet: Option<Subnet>,
    /// `--gateway`; else the subnet's first address.
    pub gateway: Option<Ipv4Addr>,
    /// `--ip-range`
    pub ip_range: Option<Subnet>,
    /// `--internal`
    pub internal: bool,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `-o`
    pub options: BTreeMap<String, String>,
}

/// All networks of one installation.
#[derive(Clone, Debug)]
pub struct Networks {
    pub(super) dirs: Dirs,
}

impl Networks {
    /// Makes the directory; the predefined networks come into being when they are first looked at.
    pub fn open(dirs: &Dirs) -> Result<Self> {
        make_dir(&dirs.networks())?;
        Ok(Self { dirs: dirs.clone() })
    }

    /// All of them, by name.
    pub fn list(&self) -> Result<Vec<Network>> {
        self.predefined()?;
        self.read_all()
    }

    /// By name, id, or the unique start of an id.
    pub fn get(&self, name: &str) -> Result<Network> {
        self.predefined()?;
        self.find(name)
    }

    /// [`Self::get`] for whoever has the lock.
    pub(super) fn find(&self, name: &str) -> Result<Network> {
        let all = self.read_all()?;
        if let Some(found) = all.iter().find(|network| network.name == name || network.id == name) {
            return Ok(found.clone());
        }
        let mut found = all.into_iter().filter(|network| !name.is_empty() && network.id.starts_with(name));
        match (found.next(), found.count()) {
            (Some(one), 0) => Ok(one),
            (Some(_), more) => Err(Error::new(format!("network {name} is ambiguous ({} matches found on ID prefix)", more + 1))),
            (None, _) => Err(Error::new(format!("network {name} not found"))),
        }
    }

    /// Makes a network. Its bridge appears with its first container.
    pub fn create(&self, create: &Create) -> Result<Network> {
        self.predefined()?;
        let _lock = book::lock(&self.dirs)?;
        self.add(create)
    }

    /// Removes a network nobody is on.
    pub fn remove(&self, name: &str) -> Result<Network> {
        self.predefined()?;
        let book = Book::open(&self.dirs)?;
        let network = self.find(name)?;
        if network.is_predefined() {
            return Err(Error::new(format!("{} is a pre-defined network and cannot be removed", network.name)));
        }
        if let Some((_, container)) = book.on(&network).first() {
            let words = format!("network {} has active endpoints: container {container} is connected to it", network.name);
            return Err(Error::new(words).hint("stop or disconnect it first"));
        }
        self.delete(&network)?;
        Ok(network)
    }

    /// Removes all networks nobody is on and `keep` does not want; those that were removed.
    pub fn prune(&self, keep: impl Fn(&Network) -> bool) -> Result<Vec<Network>> {
        self.predefined()?;
        let book = Book::open(&self.dirs)?;
        let all = self.read_all()?;
        let unused = |network: &Network| !network.is_predefined() && book.on(network).is_empty() && !keep(network);
        let unused: Vec<Network> = all.into_iter().filter(unused).collect();
        unused.iter().try_for_each(|network| self.delete(network))?;
        Ok(unused)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dirs.networks().join(format!("{name}.json"))
    }

    fn delete(&self, network: &Network) -> Result<()> {
        let path = self.path(&network.name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context(|| format!("remove {}", path.display())),
            _ => Ok(()),
        }
    }

    pub(super) fn predefined(&self) -> Result<()> {
        let missing = |name: &str| !self.path(name).exists();
        if !PREDEFINED.iter().any(|(name, _)| missing(name)) {
            return Ok(());
        }
        let _lock: Lock = book::lock(&self.dirs)?;
        for (name, driver) in PREDEFINED.iter().filter(|(name, _)| missing(name)) {
            self.add(&Create { name: (*name).into(), driver: (*driver).into(), ..Create::default() })?;
        }
        Ok(())
    }

    pub(super) fn read_all(&self) -> Result<Vec<Network>> {
        let dir = self.dirs.networks();
        let mut all: Vec<Network> = Vec::new();
        for entry in fs::read_dir(&dir).context(|| format!("list {}", dir.display()))?.flatten() {
            let path = entry.path();
            // A name cannot start with a dot: that is what a write in progress starts with.
            let ours =
                path.extension().is_some_and(|extension| extension == "json") && !entry.file_name().to_string_lossy().starts_with('.');
            all.extend(if ours { read_json(&path)? } else { None });
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Judges and writes; the lock is held.
    fn add(&self, create: &Create) -> Result<Network> {
        let all = self.read_all()?;
        let name = valid_name(&create.name)?;
        if all.iter().any(|network| network.name == name) {
            return Err(Error::new(format!("network with name {name} already exists")));
        }
        let predefined = PREDEFINED.iter().find(|(predefined, _)| *predefined == name);
        let driver = if create.driver.is_empty() { "bridge" } else { &create.driver };
        if driver != "bridge" && predefined.is_none() {
            return Err(
                Error::new(format!("network driver {driver:?} is not supported")).hint("bridge is; host and none are there already")
            );
        }
        judge_options(&create.options)?;
        let mut network = Network {
            name: name.into(),
            id: random(64),
            driver: driver.into(),
            interface: String::new(),
            subnet: None,
            gateway: None,
            ip_range: create.ip_range,
            internal: create.internal,
            labels: create.labels.clone(),
            options: create.options.clone(),
            created: rfc3339_now(),
        };
        if driver == "bridge" {
            self.place(&mut network, create, &all)?;
        }
        write_json(&self.path(name), &network, Keep::Always)?;
        Ok(network)
    }

    /// Subnet, gateway and interface of a bridge.
    fn place(&self, network: &mut Network, create: &Create, all: &[Network]) -> Result<()> {
        let subnet = match create.subnet {
            Some(subnet) => {
                if let Some(other) = all.iter().find(|other| other.subnet.is_some_and(|taken| taken.overlaps(subnet))) {
                    return Err(Error::new(format!("subnet {subnet} overlaps with that of network {}", other.name)));
                }
                subnet
            }
            None => {
                let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
                let mut taken = subnet::occupied(&read("/proc/thread-self/net/route"), &read("/etc/resolv.conf"));
                taken.extend(all.iter().filter_map(|network| network.subnet));
                subnet::free(&taken)?
            }
        };
        let gateway = create.gateway.unwrap_or_else(|| Ipv4Addr::from_bits(subnet.base().to_bits() + 1));
        if !subnet.contains(gateway) || gateway == subnet.base() || gateway == subnet.last() {
            return Err(Error::new(format!("gateway {gateway} is no host's address in {subnet}")));
        }
        if let Some(range) = create.ip_range.filter(|range| range.prefix() < subnet.prefix() || !subnet.contains(range.base())) {
            return Err(Error::new(format!("ip range {range} is not in the subnet {subnet}")));
        }
        (network.subnet, network.gateway) = (Some(subnet), Some(gateway));
        network.interface = match network.options.get(BRIDGE_NAME) {
            Some(name) if all.iter().any(|other| other.interface == *name) => {
                return Err(Error::new(format!("another network has the bridge {name}")));
            }
            Some(name) => name.clone(),
            // Another installation (--root) may have taken the plain name.
            None if network.name == BRIDGE && !is_device("mydocker0")? => "mydocker0".into(),
            None => format!("md-{}", &network.id[..12]),
        };
        Ok(())
    }
}

/// Whether this network namespace has a link of that name.
fn is_device(name: &str) -> Result<bool> {
    let what = || format!("look for the network device {name}");
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).context(what)?;
    match name_to_index(&socket, name) {
        Err(Errno::NODEV) => Ok(false),
        other => other.map(|_| true).context(what),
    }
}

/// docker's rule for names.
fn valid_name(name: &str) -> Result<&str> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && name.len() <= 128 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        return Ok(name);
    }
    Err(Error::new(format!("invalid network name {name:?}")).hint("letters, digits, _ . and -, and the first is a letter or digit"))
}

fn judge_options(options: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in options {
        let good = match name.as_str() {
            BRIDGE_NAME => !value.is_empty() && value.len() < 16 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)),
            HOST_BINDING => value.parse::<Ipv4Addr>().is_ok(),
            ISOLATE => value == "true" || value == "false",
            // The smallest that IPv4 allows (RFC 791), the largest that a link can have.
            mtu if MTU.contains(&mtu) => value.parse().is_ok_and(|mtu: u32| (68..=65_535).contains(&mtu)),
            _ => {
                let hint = format!("known are {BRIDGE_NAME}, {HOST_BINDING}, {ISOLATE}, {}", MTU.join(" and "));
                return Err(Error::new(format!("network option {name:?} is not supported")).hint(hint));
            }
        };
        if !good {
            return Err(Error::new(format!("invalid value {value:?} of network option {name}")));
        }
    }
    Ok(())
}
