//! Commands on networks.

use crate::mydocker::network::{Network, Networks};
use crate::sys::Result;
use serde_json::{Map, Value, json};

/// As docker shows it.
pub fn value(networks: &Networks, network: &Network) -> Result<Value> {
    let mut containers = Map::new();
    for (id, lease) in networks.leases()? {
        for at in lease.attachments.iter().filter(|at| at.network_id == network.id) {
            containers.insert(
                id.clone(),
                json!({"Name": lease.name, "MacAddress": at.mac, "IPv4Address": format!("{}/{}", at.address, at.prefix)}),
            );
        }
    }
    Ok(
        json!({"Name": network.name, "Id": network.id, "Created": network.created, "Scope": "local", "Driver": network.driver, "Internal": network.internal, "Labels": network.labels, "Options": network.options, "Containers": containers, "IPAM": {"Driver": "default", "Config": [{"Subnet": network.subnet, "Gateway": network.gateway}]}}),
    )
}
