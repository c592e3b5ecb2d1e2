//! netavark and aardvark-dns: where they are, and one call of them.

use super::book::{Lease, runs};
use super::dns::Dns;
use super::pin::Namespace;
use super::store::Network;
use crate::mydocker::files::{Dirs, make_dir};
use crate::sys::{Context, Error, Result};
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where distributions put podman's helpers, before `$PATH`.
const PLACES: &[&str] = &["/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman"];
/// Where firewall tools are, which an ordinary login's `$PATH` lacks.
pub(super) const TOOLS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Below `Dirs::run`: netavark adds the last part to the directory it is given.
const DNS_DIR: &str = "network/aardvark-dns";

/// The programs that were found.
#[derive(Clone, Debug)]
pub struct Netavark {
    program: PathBuf,
    /// Without it, containers have no DNS by name.
    pub aardvark: Option<PathBuf>,
}

impl Netavark {
    /// Looks in the usual places and in `$PATH`.
    pub fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::find_in(PLACES.iter().map(PathBuf::from).chain(std::env::split_paths(&path)))
    }

    /// Looks in these directories.
    pub fn find_in(places: impl Iterator<Item = PathBuf>) -> Result<Self> {
        let places: Vec<PathBuf> = places.filter(|place| place.is_absolute()).collect();
        let find = |name: &str| places.iter().map(|place| place.join(name)).find(|path| path.is_file());
        let program = find("netavark").ok_or_else(|| {
            Error::new("netavark is not installed, which bridge networks need")
                .hint("install the packages netavark and aardvark-dns, or use --network none or host")
        })?;
        Ok(Self { program, aardvark: find("aardvark-dns") })
    }

    /// Makes the links, addresses, rules and names of a lease on these networks; whether DNS answers there.
    pub fn setup(&self, dirs: &Dirs, namespace: &Namespace, id: &str, lease: &Lease, networks: &[Network]) -> Result<bool> {
        self.call("setup", dirs, namespace.path(), &self.options(id, lease, networks))?;
        let Some(aardvark) = &self.aardvark else { return Ok(true) };
        let dns = Dns { program: aardvark, dir: &dirs.run.join(DNS_DIR) };
        let name: String = id.chars().take(12).collect();
        let mut answers = true;
        for gateway in networks.iter().filter_map(|network| network.gateway) {
            answers &= dns.answers(namespace, gateway, &name)?;
        }
        Ok(answers)
    }

    /// Takes them away.
    pub fn teardown(&self, dirs: &Dirs, namespace: &Namespace, id: &str, lease: &Lease, networks: &[Network]) -> Result<()> {
        let done = self.call("teardown", dirs, namespace.path(), &self.options(id, lease, networks));
        if let Some(aardvark) = &self.aardvark {
            let dns = Dns { program: aardvark, dir: &dirs.run.join(DNS_DIR) };
            dns.wait_for_end();
            dns.revive()?;
        }
        match done {
            // It has ended before it was told to: an earlier signal made it look when its files were gone already.
            Err(error) if error.to_string() == "netavark teardown: IO error: aardvark pid not found" => Ok(()),
            other => other,
        }
    }

    /// The document that netavark reads: its "NetworkOptions", of podman's network backend protocol.
    fn options(&self, id: &str, lease: &Lease, networks: &[Network]) -> Value {
        let ports = runs(&lease.ports).into_iter().map(|(port, count)| {
            let host_ip = if port.host_ip.is_unspecified() { String::new() } else { port.host_ip.to_string() };
            json!({ "host_ip": host_ip, "host_port": port.host_port, "container_port": port.container_port, "range": count, "protocol": port.protocol })
        });
        let mut options = json!({ "container_id": id, "container_name": lease.name, "port_mappings": ports.collect::<Vec<_>>() });
        if !lease.dns.is_empty() {
            options["dns_servers"] = json!(lease.dns);
        }
        (options["networks"], options["network_info"]) = (json!({}), json!({}));
        for network in networks {
            let Some(at) = lease.attachments.iter().find(|attachment| attachment.network_id == network.id) else { continue };
            options["networks"][&network.name] = json!({
                "interface_name": at.interface, "static_ips": [at.address], "static_mac": at.mac, "aliases": at.aliases,
            });
            options["network_info"][&network.name] = json!({
                "name": network.name, "id": network.id, "driver": network.driver, "network_interface": network.interface,
                "subnets": [{ "subnet": network.subnet, "gateway": network.gateway }],
                "ipv6_enabled": false, "internal": network.internal, "dns_enabled": self.aardvark.is_some(),
                "options": network.netavark_options(), "ipam_options": { "driver": "host-local" },
            });
        }
        options
    }

    /// Standard input and output are files of memory, not pipes: aardvark-dns may inherit them and stay, and a pipe's end would
    /// never come.
    fn call(&self, verb: &str, dirs: &Dirs, namespace: &Path, options: &Value) -> Result<()> {
        let what = || format!("netavark {verb}");
        let config = dirs.run.join("network");
        make_dir(&config)?;
        let file = || memfd_create("mydocker", MemfdFlags::CLOEXEC).map(File::from).context(what);
        let (mut input, mut output) = (file()?, file()?);
        write!(input, "{options}").and_then(|()| input.rewind()).context(what)?;
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&config);
        if let Some(aardvark) = &self.aardvark {
            command.arg("--aardvark-binary").arg(aardvark);
        }
        command.arg(verb).arg(namespace).env_clear().env("PATH", TOOLS).current_dir("/");
        // NETAVARK_FW chooses the firewall driver, NETAVARK_DNS_PORT moves DNS off a port that is taken.
        command.envs(std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NETAVARK_")));
        let errors = output.try_clone().context(what)?;
        command.stdin(input).stdout(output.try_clone().context(what)?).stderr(errors);
        let status = command.status().context(|| format!("execute {}", self.program.display()))?;
        if status.success() {
            return Ok(());
        }
        let mut text = Vec::new();
        output.rewind().and_then(|()| output.take(65_536).read_to_end(&mut text)).context(what)?;
        Err(failure(verb, String::from_utf8_lossy(&text).trim()))
    }
}

/// netavark says why in JSON, on one line of its standard output.
fn failure(verb: &str, text: &str) -> Error {
    let said = text.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
    let said = said.as_ref().and_then(|value| value["error"].as_str()).unwrap_or(text);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let error = Error::new(format!("netavark {verb}: {said}"));
    if said.contains("iptables") && said.contains("No such file") {
        return error.hint("install the package iptables");
    }
    if said.contains("aardvark") && said.contains("in use") {
        return error.hint("another program answers on port 53 of all addresses; NETAVARK_DNS_PORT moves ours");
    }
    error
}
