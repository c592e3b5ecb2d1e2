//! The document of `keel features`, features.md and features-linux.md of runtime-spec 1.3.0.
//!
//! It is read from the tables that parsing and validation use, so it says what this build does and nothing else.

use super::names::{CAPABILITIES, HOOKS, MEMORY_FLAGS, MEMORY_MODES, NAMESPACES, PROPAGATION};
use super::names::{SECCOMP_ACTIONS, SECCOMP_ARCHES, SECCOMP_FLAGS, SECCOMP_OPERATORS};
use super::options::TABLE;
use super::{VERSIONS, supported};
use serde_json::{Value, json};

// What other rooms do or do not do; `UNSUPPORTED` cannot know it.
const SYSTEMD_CGROUPS: bool = true;
const CHECKPOINT: bool = false;
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
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property.", "org.criu.config"],
    })
}

fn linux() -> Value {
    let notify = supported("linux.seccomp.listenerPath");
    let actions: Vec<_> = SECCOMP_ACTIONS.iter().filter(|name| notify || **name != "SCMP_ACT_NOTIFY").collect();
    let known: Vec<_> = SECCOMP_FLAGS.iter().map(|row| row.0).collect();
    // This one changes how a notified call waits, nothing else.
    let done: Vec<_> = known.iter().filter(|name| notify || !name.ends_with("WAIT_KILLABLE_RECV")).collect();
    json!({
        "namespaces": NAMESPACES.iter().map(|row| row.0).collect::<Vec<_>>(),
        "capabilities": CAPABILITIES,
        "cgroup": { "v1": true, "v2": true, "systemd": SYSTEMD_CGROUPS, "systemdUser": SYSTEMD_CGROUPS, "rdma": true },
        "seccomp": {
            "enabled": true,
            "actions": actions,
            "operators": SECCOMP_OPERATORS,
            "archs": SECCOMP_ARCHES,
            "knownFlags": known,
            "supportedFlags": done,
        },
        "apparmor": { "enabled": APPARMOR },
        "selinux": { "enabled": SELINUX },
        "intelRdt": {
            "enabled": supported("linux.intelRdt"),
            "schemata": supported("linux.intelRdt"),
            "monitoring": supported("linux.intelRdt"),
        },
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
