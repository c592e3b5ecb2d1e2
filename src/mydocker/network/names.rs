//! `resolv.conf` and `hosts` of a container, as text; nothing is read or written here.

use crate::sys::{Error, Result};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

/// `--dns`, `--dns-search` and `--dns-option`; an empty list means the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Domains to complete short names with; a single `.` means none.
    pub search: Vec<String>,
    /// Options of resolv.conf(5).
    pub options: Vec<String>,
}

/// docker's: for a host that has only name servers a container cannot reach.
const PUBLIC: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];

/// The resolv.conf(5) of a container. `host` is the host's; `own` are the addresses our DNS answers on in the container's networks
/// (`--dns` is then whom it asks). `with_host`: the container shares the host's network namespace, where any address will do.
/// Otherwise a loopback name server is the host's alone, and one of IPv6 is out of reach.
pub fn resolv_conf(host: &str, dns: &Dns, own: &[Ipv4Addr], with_host: bool) -> String {
    let words = |key: &str| {
        let line = host.lines().map(str::trim).rfind(|line| line.split_whitespace().next() == Some(key));
        line.map_or_else(Vec::new, |line| line.split_whitespace().skip(1).map(str::to_owned).collect())
    };
    let mut servers: Vec<IpAddr> = own.iter().copied().map(IpAddr::from).collect();
    if servers.is_empty() {
        servers.clone_from(&dns.servers);
    }
    if servers.is_empty() {
        let server = |line: &str| {
            let mut words = line.split_whitespace();
            words.next().filter(|key| *key == "nameserver").and_then(|_| words.next()?.parse().ok())
        };
        let reachable = |ip: &IpAddr| with_host || !ip.is_loopback() && ip.is_ipv4();
        servers.extend(host.lines().filter_map(server).filter(reachable));
    }
    if servers.is_empty() {
        servers.extend(PUBLIC.map(IpAddr::from));
    }
    let search = match dns.search.as_slice() {
        [] => words("search"),
        [none] if none == "." => Vec::new(),
        given => given.to_vec(),
    };
    let options = if dns.options.is_empty() { words("options") } else { dns.options.clone() };
    let mut text: String = servers.iter().map(|ip| format!("nameserver {ip}\n")).collect();
    for (key, words) in [("search", search), ("options", options)] {
        if !words.is_empty() {
            let _ = writeln!(text, "{key} {}", words.join(" ")); // a String takes everything
        }
    }
    text
}

/// `--add-host`: a name and its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraHost {
    /// As it stands before the colon.
    pub name: String,
    /// `None` is `host-gateway`: the host, as the container sees it.
    pub address: Option<IpAddr>,
}

impl ExtraHost {
    /// `NAME:ADDRESS` or `NAME=ADDRESS`; an IPv6 address may be in brackets.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::new(format!("invalid --add-host {text:?}: {why}"));
        let (name, address) = text.split_once(['=', ':']).ok_or_else(|| bad("NAME:ADDRESS is needed"))?;
        if !is_host_name(name) {
            return Err(bad("it is not the name of a host"));
        }
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let address = match bare {
            "host-gateway" => None,
            _ => Some(bare.parse().map_err(|_| bad("not an IP address, nor host-gateway"))?),
        };
        Ok(Self { name: name.into(), address })
    }
}

/// The longest name that sethostname(2) and setdomainname(2) take.
const UTS_MAX: usize = 64;

/// Whether a text is a name that hosts(5) and the DNS can hold: labels of letters, digits and `-` between dots (RFC 1123,
/// section 2.1), with `_` as docker's users write it.
fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Refuses what is not the name of a host. Such a text would write more than one name into `hosts`, `hostname` and the file that
/// aardvark-dns reads, whose separators are spaces, commas and ends of lines.
pub fn host_name(flag: &str, text: &str) -> Result<()> {
    if !is_host_name(text) {
        let form = "letters, digits, - and _ with dots between them, at most 63 in a row";
        return Err(Error::new(format!("invalid {flag} {text:?}: it is not the name of a host")).hint(form));
    }
    if matches!(flag, "--hostname" | "--domainname") && text.len() > UTS_MAX {
        return Err(Error::new(format!("invalid {flag} {text:?}: it has more than {UTS_MAX} characters")));
    }
    Ok(())
}

/// What a container's `hosts` begins with.
const LOCAL: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// The hosts(5) of a container: what every host has (or `base`: with `--network host`, the host's own file), `--add-host`, and the
/// container's addresses with its host name. `gateway` is what `host-gateway` means.
pub fn hosts(
    base: Option<&str>,
    hostname: &str,
    domain: &str,
    own: &[Ipv4Addr],
    extra: &[ExtraHost],
    gateway: Option<IpAddr>,
) -> Result<String> {
    let mut text = base.unwrap_or(LOCAL).to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for host in extra {
        let address = host.address.or(gateway).ok_or_else(|| {
            Error::new(format!("--add-host {}:host-gateway: the container has no way to the host", host.name)).hint("it is on no bridge")
        })?;
        let _ = writeln!(text, "{address}\t{}", host.name); // a String takes everything
    }
    let names = if domain.is_empty() { hostname.to_owned() } else { format!("{hostname}.{domain} {hostname}") };
    for address in own {
        let _ = writeln!(text, "{address}\t{names}");
    }
    Ok(text)
}
