//! Published ports: docker's `-p` and `-P`.

use crate::sys::{Context, Error, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrV4, SocketFlags, SocketType, bind, getsockname, socket_with};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // they are their names
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    fn parse(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Error::new(format!("invalid proto: {text}")).hint("tcp, udp or sctp")),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// One port of a container that is to be reached from outside, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// The host's address; unspecified means all of them.
    pub host_ip: Ipv4Addr,
    /// The first and last of the host's ports to choose from; (0, 0) leaves the choice to the kernel.
    pub host_ports: (u16, u16),
    /// The container's port.
    pub container_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

impl PortSpec {
    /// `[ip:][hostPort[-range]]:containerPort[-range][/proto]`, or `containerPort[-range][/proto]`: one for each port.
    pub fn parse(text: &str) -> Result<Vec<Self>> {
        let within = |error: Error| error.within(format!("invalid port {text:?}"));
        let (rest, protocol) = text.split_once('/').map_or((text, Ok(Protocol::Tcp)), |(rest, name)| (rest, Protocol::parse(name)));
        let protocol = protocol.map_err(within)?;
        let (rest, container) = rest.rsplit_once(':').map_or((None, rest), |(rest, port)| (Some(rest), port));
        let (ip, host) = match rest {
            None => ("", ""),
            Some(rest) => rest.rsplit_once(':').unwrap_or(("", rest)),
        };
        let host_ip = host_ip(ip).map_err(within)?;
        let container = range(container, "containerPort").map_err(within)?;
        let host = if host.is_empty() { (0, 0) } else { range(host, "hostPort").map_err(within)? };
        let (wanted, given) = (container.1 - container.0, host.1 - host.0);
        if host != (0, 0) && wanted != given && wanted != 0 {
            let words = format!("invalid ranges specified for container and host ports: {} and {} ports", wanted + 1, u32::from(given) + 1);
            return Err(within(Error::new(words)));
        }
        let one = |offset: u16| Self {
            host_ip,
            // A single port may choose from a range; a range is laid on a range.
            host_ports: if host == (0, 0) || wanted == 0 { host } else { (host.0 + offset, host.0 + offset) },
            container_port: container.0 + offset,
            protocol,
        };
        Ok((0..=wanted).map(one).collect())
    }

    /// `-P`: an image's `EXPOSE`d port (or range) on a port of the kernel's choice.
    pub fn exposed(text: &str) -> Result<Vec<Self>> {
        if text.contains(':') {
            return Err(Error::new(format!("invalid exposed port {text:?}")).hint("PORT[-PORT][/PROTOCOL]"));
        }
        Self::parse(text)
    }
}

fn host_ip(text: &str) -> Result<Ipv4Addr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    match bare.parse() {
        _ if text.is_empty() => Ok(Ipv4Addr::UNSPECIFIED),
        Ok(IpAddr::V4(ip)) => Ok(ip),
        Ok(IpAddr::V6(_)) => Err(Error::new(format!("{text} is an IPv6 address")).hint("networks are IPv4 only")),
        Err(_) => Err(Error::new(format!("invalid IP address: {text}"))),
    }
}

fn range(text: &str, what: &str) -> Result<(u16, u16)> {
    let port = |text: &str| text.parse().ok().filter(|port| *port > 0 && text.bytes().all(|b| b.is_ascii_digit()));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(Error::new(format!("invalid {what}: {text}")).hint("a port is 1 to 65535, a range rises")),
    }
}

/// A published port after the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The host's address; unspecified means all of them.
    pub host_ip: Ipv4Addr,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

impl fmt::Display for Port {
    /// As `docker ps` shows it: `0.0.0.0:8080->80/tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}->{}/{}", self.host_ip, self.host_port, self.container_port, self.protocol)
    }
}

impl Port {
    fn collides(&self, other: &Self) -> bool {
        let any = self.host_ip.is_unspecified() || other.host_ip.is_unspecified() || self.host_ip == other.host_ip;
        any && self.host_port == other.host_port && self.protocol == other.protocol
    }
}

/// Chosen ports, and the sockets that keep them: firewall rules alone would let any program of the host bind the same port and
/// wonder. They are bound, do not listen, and should be held as long as the container runs.
#[derive(Debug, Default)]
pub struct Held {
    /// In the order of the specifications.
    pub ports: Vec<Port>,
    /// One for each port of TCP and UDP.
    pub sockets: Vec<OwnedFd>,
}

/// Chooses the host's ports; `taken` are those of other containers. Called in the host's network namespace.
pub fn hold(specs: &[PortSpec], taken: &[Port]) -> Result<Held> {
    let mut held = Held::default();
    for spec in specs {
        let (first, last) = spec.host_ports;
        let mut found = None;
        // The kernel's choice may fall on a port of a container whose holder has died: it is asked again.
        let attempts = if first == 0 { 64 } else { u32::from(last - first) + 1 };
        for attempt in 0..attempts {
            let wanted = if first == 0 { 0 } else { first + attempt as u16 };
            let mut port = Port { host_ip: spec.host_ip, host_port: wanted, container_port: spec.container_port, protocol: spec.protocol };
            if wanted != 0 && taken.iter().chain(&held.ports).any(|other| other.collides(&port)) {
                continue;
            }
            let Some(socket) = reserve(&mut port)? else { continue };
            if !taken.iter().chain(&held.ports).any(|other| other.collides(&port)) {
                found = Some((port, socket));
                break;
            }
        }
        let (port, socket) = found.ok_or_else(|| {
            let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
            Error::new(format!("publish {}:{range}->{}/{}: port is already allocated", spec.host_ip, spec.container_port, spec.protocol))
        })?;
        held.ports.push(port);
        held.sockets.extend(socket);
    }
    Ok(held)
}

/// Binds a socket to the port; `None` if somebody has it. SCTP may be missing in the kernel and is not held.
fn reserve(port: &mut Port) -> Result<Option<Option<OwnedFd>>> {
    let what = format!("publish {port}");
    let (kind, protocol) = match port.protocol {
        Protocol::Tcp => (SocketType::STREAM, rustix::net::ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, rustix::net::ipproto::UDP),
        Protocol::Sctp if port.host_port == 0 => return Err(Error::new(what).hint("an SCTP port needs a host port")),
        Protocol::Sctp => return Ok(Some(None)),
    };
    let socket = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, Some(protocol)).context(|| what.clone())?;
    match bind(&socket, &SocketAddrV4::new(port.host_ip, port.host_port)) {
        Err(Errno::ADDRINUSE) => return Ok(None),
        Err(Errno::ADDRNOTAVAIL) => return Err(Error::new(what).hint(format!("{} is no address of this host", port.host_ip))),
        other => other.context(|| what.clone())?,
    }
    if port.host_port == 0 {
        let address = getsockname(&socket).and_then(SocketAddrV4::try_from).context(|| what)?;
        port.host_port = address.port();
    }
    Ok(Some(Some(socket)))
}
