//! What the spec has and keel does not do yet: one row each, refused in one sentence instead of being dropped.
//! `features` reads the same table, so that it cannot promise what is refused here. A row goes when its field comes.

use super::{Mount, Process, Spec};
use crate::sys::{Error, Result};

/// Looks whether a document uses the field.
pub enum Uses {
    /// Anywhere in the document.
    Spec(fn(&Spec) -> bool),
    /// In its process, or in the document of `exec --process`.
    Process(fn(&Process) -> bool),
    /// In one of its mounts.
    Mount(fn(&Mount) -> bool),
}

/// Path in `config.json`, how to see that it is used, and what to say.
pub type Row = (&'static str, Uses, &'static str);

/// The table.
pub const UNSUPPORTED: &[Row] = &[
    ("process.scheduler", Uses::Process(|p| p.scheduler.is_some()), "scheduling policies are not supported"),
    ("process.ioPriority", Uses::Process(|p| p.io_priority.is_some()), "I/O priorities are not supported"),
    ("process.execCPUAffinity", Uses::Process(|p| p.exec_cpu_affinity.is_some()), "CPU affinity of exec is not supported"),
    ("mounts[].uidMappings", Uses::Mount(idmapped), "idmapped mounts are not supported"),
    ("linux.namespaces", Uses::Spec(|s| s.linux.namespace("mount").is_none()), "a container without a mount namespace is not supported"),
    ("linux.netDevices", Uses::Spec(|s| !s.linux.net_devices.is_empty()), "moving network devices is not supported"),
    ("linux.intelRdt", Uses::Spec(|s| s.linux.intel_rdt.is_some()), "Intel RDT is not supported"),
    ("linux.memoryPolicy", Uses::Spec(|s| s.linux.memory_policy.is_some()), "memory policies are not supported"),
    ("linux.personality", Uses::Spec(|s| s.linux.personality.is_some()), "execution domains are not supported"),
    ("linux.seccomp.listenerPath", Uses::Spec(notifies), "seccomp notification is not supported"),
];

/// Whether keel does what `path` (a row of the table, while there is one) asks for.
pub fn supported(path: &str) -> bool {
    UNSUPPORTED.iter().all(|row| row.0 != path)
}

/// Refuses the first field of a whole document that is in the table.
pub(super) fn refuse(spec: &Spec) -> Result<()> {
    for (path, uses, words) in UNSUPPORTED {
        let found = match uses {
            Uses::Spec(used) => used(spec).then(|| (*path).to_owned()),
            Uses::Process(used) => spec.process.as_ref().filter(|p| used(p)).map(|_| (*path).to_owned()),
            Uses::Mount(used) => spec.mounts.iter().position(used).map(|i| path.replace("[]", &format!("[{i}]"))),
        };
        if let Some(path) = found {
            return Err(sentence(words).at(path));
        }
    }
    Ok(())
}

/// As [`refuse`], for the document of `exec --process`.
pub(super) fn refuse_process(process: &Process) -> Result<()> {
    let used = |row: &&Row| matches!(row.1, Uses::Process(used) if used(process));
    UNSUPPORTED.iter().find(used).map_or(Ok(()), |row| Err(sentence(row.2).at(row.0)))
}

fn sentence(words: &str) -> Error {
    Error::new(format!("{words} by keel {}", env!("CARGO_PKG_VERSION")))
}

fn idmapped(mount: &Mount) -> bool {
    !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() || mount.options.iter().any(|o| o == "idmap" || o == "ridmap")
}

/// The spec ignores the listener's path where no rule notifies it.
fn notifies(spec: &Spec) -> bool {
    const NOTIFY: &str = "SCMP_ACT_NOTIFY";
    spec.linux.seccomp.as_ref().is_some_and(|s| s.default_action == NOTIFY || s.syscalls.iter().any(|rule| rule.action == NOTIFY))
}
