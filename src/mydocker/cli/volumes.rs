//! Commands on volumes.

use crate::mydocker::volume::{Volume, Volumes};
use serde_json::{Value, json};

/// As docker shows it.
pub fn value(volumes: &Volumes, volume: &Volume) -> Value {
    json!({"Name": volume.name, "Driver": "local", "Mountpoint": volumes.data(volume), "Labels": volume.labels, "Options": volume.options, "Scope": "local", "CreatedAt": volume.created})
}
