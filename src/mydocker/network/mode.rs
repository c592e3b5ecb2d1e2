//! What `--network` says.

use super::names::host_name;
use crate::sys::{Error, Result};
use std::net::Ipv4Addr;

/// A network that a container joins, and what it wants to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Join {
    /// Name or id, or the start of an id.
    pub network: String,
    /// `--ip`: this address and no other.
    pub address: Option<Ipv4Addr>,
    /// `--mac-address`; else made from the address.
    pub mac: Option<String>,
    /// `--network-alias`: more names.
    pub aliases: Vec<String>,
}

/// Where a container's network namespace comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A namespace of its own with nothing but loopback.
    None,
    /// The host's.
    Host,
    /// Another container's: its name or id.
    Container(String),
    /// A namespace of its own, on these networks.
    Networks(Vec<Join>),
}

impl Mode {
    /// One `--network`: `none`, `host`, `container:X`, a network's name, or docker's long form
    /// `name=NET,alias=A,ip=ADDRESS,mac-address=M`.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" => Err(Error::new("--network needs the name of a network")),
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            "container" | "container:" => Err(Error::new("--network container: needs the name or id of a container")),
            "default" => Ok(Self::Networks(vec![Join { network: "bridge".into(), ..Join::default() }])),
            long if long.contains('=') => Ok(Self::Networks(vec![join(long)?])),
            name => match name.strip_prefix("container:") {
                Some(container) => Ok(Self::Container(container.into())),
                None => Ok(Self::Networks(vec![Join { network: name.into(), ..Join::default() }])),
            },
        }
    }

    /// Several `--network`: all of them must be networks, each once. None is the default bridge.
    pub fn parse_all<S: AsRef<str>>(all: &[S]) -> Result<Self> {
        match all {
            [] => return Self::parse("bridge"),
            [one] => return Self::parse(one.as_ref()),
            _ => {}
        }
        let mut joins: Vec<Join> = Vec::new();
        for text in all {
            match Self::parse(text.as_ref())? {
                Self::Networks(more) => joins.extend(more),
                _ => return Err(Error::new(format!("--network {} cannot be combined with another network", text.as_ref()))),
            }
        }
        for (i, one) in joins.iter().enumerate() {
            if joins[..i].iter().any(|other| other.network == one.network) {
                return Err(Error::new(format!("--network {} is given twice", one.network)));
            }
        }
        Ok(Self::Networks(joins))
    }
}

fn join(text: &str) -> Result<Join> {
    let bad = |why: String| Error::new(format!("invalid --network {text:?}: {why}"));
    let mut join = Join::default();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| bad(format!("{field:?} is not KEY=VALUE")))?;
        match key {
            "name" => join.network = value.into(),
            "alias" => {
                host_name("alias", value).map_err(|e| bad(e.to_string()))?;
                join.aliases.push(value.into());
            }
            "ip" => join.address = Some(value.parse().map_err(|_| bad(format!("{value:?} is not an IPv4 address")))?),
            "mac-address" => join.mac = Some(mac(value)?),
            _ => return Err(bad(format!("{key:?} is not one of name, alias, ip, mac-address"))),
        }
    }
    if join.network.is_empty() {
        return Err(bad("name= is missing".into()));
    }
    Ok(join)
}

/// A MAC address of one station in the usual form, in lower case. A set first bit would mean a group (IEEE 802).
pub fn mac(text: &str) -> Result<String> {
    let bytes: Option<Vec<u8>> = text.split([':', '-']).map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2)).collect();
    match bytes.as_deref() {
        Some(bytes @ [first, ..]) if bytes.len() == 6 && first & 1 == 0 => Ok(text.replace('-', ":").to_ascii_lowercase()),
        _ => Err(Error::new(format!("invalid MAC address {text:?}"))),
    }
}
