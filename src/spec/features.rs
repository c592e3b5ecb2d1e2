//! The document of `keel features`, features.md and features-linux.md of runtime-spec 1.3.0.
//!
//! It is read from the tables that parsing and validation use, so it says what this build does and nothing else.

use super::VERSIONS;
use super::names::{CAPABILITIES, HOOKS, MEMORY_FLAGS, MEMORY_MODES, NAMESPACES, PROPAGATION};
use super::names::{SECCOMP_ACTIONS, SECCOMP_ARCHES, SECCOMP_FLAGS, SECCOMP_OPERATORS};
use super::options::TABLE;
use serde_json::{Value, json};

// What other rooms do or do not do.
const SYSTEMD_CGROUPS: bool = true;
const CHECKPOINT: bool = true;
const APPARMOR: bool = true;
const SELINUX: bool = true;

/// The whole document.
pub fn features() -> Value {
    json!({
        "ociVersionMin": VERSIONS.0,
        "ociVersionMax": VERSIONS.1,
        "hooks": HOOKS,
        "mountOptions": mount_options(),
        "linux": linux(),
        "annotations": {
            "keel.version": env!("CARGO_PKG_VERSION"),
            "keel.checkpoint.enabled": CHECKPOINT.to_string(),
        },
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property.", "org.criu.config", "run.oci.keep_original_groups"],
    })
}

fn linux() -> Value {
    let flags: Vec<_> = SECCOMP_FLAGS.iter().map(|row| row.0).collect();
    json!({
        "namespaces": NAMESPACES.iter().map(|row| row.0).collect::<Vec<_>>(),
        "capabilities": CAPABILITIES,
        "cgroup": { "v1": true, "v2": true, "systemd": SYSTEMD_CGROUPS, "systemdUser": SYSTEMD_CGROUPS, "rdma": true },
        "seccomp": {
            "enabled": true,
            "actions": SECCOMP_ACTIONS,
            "operators": SECCOMP_OPERATORS,
            "archs": SECCOMP_ARCHES,
            "knownFlags": flags,
            "supportedFlags": flags,
        },
        "apparmor": { "enabled": APPARMOR },
        "selinux": { "enabled": SELINUX },
        "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
        "memoryPolicy": {
            "modes": MEMORY_MODES.iter().map(|row| row.0).collect::<Vec<_>>(),
            "flags": MEMORY_FLAGS.iter().map(|row| row.0).collect::<Vec<_>>(),
        },
        "mountExtensions": { "idmap": { "enabled": true } },
        "netDevices": { "enabled": true },
    })
}

fn mount_options() -> Vec<&'static str> {
    let mut names: Vec<_> = TABLE.iter().map(|row| row.0).chain(PROPAGATION.iter().map(|row| row.0)).collect();
    names.sort_unstable();
    names
}
