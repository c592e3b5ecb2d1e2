//! IPv4 subnets, and the choice of one that is still free.

use crate::sys::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A block of IPv4 addresses in CIDR notation (RFC 4632); no bit is set below the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    base: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The block of `2^(32 - prefix)` addresses that `address` is in; `prefix` at most 32.
    pub fn of(address: Ipv4Addr, prefix: u8) -> Self {
        Self { base: Ipv4Addr::from_bits(address.to_bits() & mask(prefix)), prefix }
    }

    /// The number of leading bits that all addresses have in common.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The lowest address: the network's own, which nobody can have.
    pub fn base(self) -> Ipv4Addr {
        self.base
    }

    /// The highest address: the broadcast address, which nobody can have.
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() | !mask(self.prefix))
    }

    /// Whether the address is in the block.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        Self::of(address, self.prefix) == self
    }

    /// Whether any address is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.base) || other.contains(self.base)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = Error;

    /// `172.20.0.0/16`. A prefix above 29 leaves no room for a gateway and two containers, one below 8 is a slip.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::new(format!("invalid subnet {text:?}: {why}"));
        let (address, prefix) = text.split_once('/').ok_or_else(|| bad("an address and a prefix such as 172.20.0.0/16 are needed"))?;
        if address.contains(':') {
            return Err(bad("networks are IPv4 only"));
        }
        let address: Ipv4Addr = address.parse().map_err(|_| bad("not an IPv4 address"))?;
        let prefix: u8 = prefix.parse().ok().filter(|bits| (8..=29).contains(bits)).ok_or_else(|| bad("the prefix must be 8 to 29"))?;
        let subnet = Self::of(address, prefix);
        if subnet.base != address {
            return Err(bad(&format!("it should be {subnet}")));
        }
        Ok(subnet)
    }
}

impl Serialize for Subnet {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The first of docker's default pools (172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in pieces of /20) that overlaps
/// with nothing that is taken.
pub fn free(taken: &[Subnet]) -> Result<Subnet> {
    let large = (17..32).map(|n| Subnet::of(Ipv4Addr::new(172, n, 0, 0), 16));
    let small = (0..16).map(|n| Subnet::of(Ipv4Addr::new(192, 168, n * 16, 0), 20));
    large.chain(small).find(|pool| !taken.iter().any(|other| other.overlaps(*pool))).ok_or_else(|| {
        Error::new("all predefined address pools have been fully subnetted").hint("give a free one with --subnet, or remove networks")
    })
}

/// What the host's routes and name servers occupy: the text of `/proc/net/route` (proc_pid_net(5)) and of resolv.conf(5).
pub fn occupied(routes: &str, resolv_conf: &str) -> Vec<Subnet> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // The kernel prints a word that lies in memory in network order.
        let word = |at: usize| fields.get(at).and_then(|text| u32::from_str_radix(text, 16).ok()).map(u32::from_be);
        let prefix = u8::try_from(word(7)?.leading_ones()).ok()?;
        (prefix > 0).then_some(Subnet::of(Ipv4Addr::from_bits(word(1)?), prefix))
    };
    let server = |line: &str| {
        let address = line.strip_prefix("nameserver")?.trim().parse().ok()?;
        Some(Subnet::of(address, 32))
    };
    routes.lines().skip(1).filter_map(route).chain(resolv_conf.lines().filter_map(server)).collect()
}
