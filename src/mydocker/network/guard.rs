//! What netavark leaves open is closed here: one table of nftables for each bridge that has
//! containers.
//!
//! netavark sets `route_localnet` on the bridge, so that the host reaches published ports by
//! 127.0.0.1. With it the kernel no longer drops packets of others to and from 127.0.0.0/8 as
//! martians. Its rules translate addresses before the route is chosen, so that a port on 127.0.0.1
//! answers whoever sends to it on a link; and they accept what is forwarded to a container, from
//! wherever it comes.
//!
//! The table is ours alone, and is replaced or removed as a whole. Its chains come before everybody
//! else's filter, and a drop is final whatever the others accept (nft(8), "Verdict statements").

use super::netavark::TOOLS;
use super::store::Network;
use crate::sys::{Context, Error, Result};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::process::Command;

/// Guards the bridges of these networks; one that is guarded already is so afterwards too.
pub(super) fn guard<'a>(networks: impl Iterator<Item = &'a Network>) -> Result<()> {
    nft(&networks.map(|network| format!("{}{}", removal(network), table(network))).collect::<String>())
}

/// Takes the guard of these networks away, if it is there.
pub(super) fn unguard<'a>(networks: impl Iterator<Item = &'a Network>) -> Result<()> {
    nft(&networks.map(removal).collect::<String>())
}

fn name(network: &Network) -> String {
    format!("mydocker-{}", network.interface)
}

/// A table is deleted only if it is there, so that it is made first.
fn removal(network: &Network) -> String {
    let name = name(network);
    format!("table ip {name} {{ }}\ndelete table ip {name}\n")
}

fn table(network: &Network) -> String {
    let (name, bridge) = (name(network), &network.interface);
    // Both chains come after conntrack (-200) and before addresses are translated (-100).
    // RFC 1122, section 3.2.1.3: outside of a host there is no 127. Only what belongs to a
    // container's own connection, or was sent to a published port, comes in from elsewhere.
    format!(
        "table ip {name} {{
chain loopback {{ type filter hook prerouting priority -160; policy accept;
iifname != \"lo\" ip daddr 127.0.0.0/8 drop
iifname \"{bridge}\" ip saddr 127.0.0.0/8 drop
}}
chain forward {{ type filter hook forward priority -160; policy accept;
ct state established,related accept
ct status dnat accept
iifname != \"{bridge}\" oifname \"{bridge}\" drop
}}
}}
"
    )
}

/// One call of nft(8), which does all of it or nothing.
fn nft(script: &str) -> Result<()> {
    if script.is_empty() {
        return Ok(());
    }
    let what = || "set the firewall rules of a network";
    let missing = || {
        Error::new("nft is not installed, which bridge networks need").hint("install the package nftables, or use --network none or host")
    };
    let program = TOOLS.split(':').map(|dir| Path::new(dir).join("nft")).find(|path| path.is_file()).ok_or_else(missing)?;
    let mut input = memfd_create("mydocker", MemfdFlags::CLOEXEC).map(File::from).context(what)?;
    input.write_all(script.as_bytes()).and_then(|()| input.rewind()).context(what)?;
    let mut command = Command::new(&program);
    command.args(["-f", "-"]).env_clear().env("PATH", TOOLS).current_dir("/").stdin(input);
    let said = command.output().context(|| format!("execute {}", program.display()))?;
    if said.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&said.stderr);
    Err(Error::new(format!("{}: nft: {}", what(), text.lines().next().unwrap_or_default())))
}
