//! What the spec has and keel does not do yet: one row each, refused in one sentence instead of being dropped.
//! `features` reads the same table, so that it cannot promise what is refused here. A row goes when its field comes.

use super::Spec;
use crate::sys::{Error, Result};

/// Path in `config.json`, whether a document uses it, and what to say.
pub type Row = (&'static str, fn(&Spec) -> bool, &'static str);

/// The table.
pub const UNSUPPORTED: &[Row] = &[
    ("linux.namespaces", |s| s.linux.namespace("mount").is_none(), "a container without a mount namespace is not supported"),
    ("linux.intelRdt", |s| s.linux.intel_rdt.is_some(), "Intel RDT is not supported"),
    ("linux.seccomp.listenerPath", notifies, "seccomp notification is not supported"),
];

/// Whether keel does what `path` (a row of the table, while there is one) asks for.
pub fn supported(path: &str) -> bool {
    UNSUPPORTED.iter().all(|row| row.0 != path)
}

/// Refuses the first field of a document that is in the table.
pub(super) fn refuse(spec: &Spec) -> Result<()> {
    match UNSUPPORTED.iter().find(|(_, used, _)| used(spec)) {
        Some((path, _, words)) => Err(Error::new(format!("{words} by keel {}", env!("CARGO_PKG_VERSION"))).at(*path)),
        None => Ok(()),
    }
}

/// The spec ignores the listener's path where no rule notifies it.
fn notifies(spec: &Spec) -> bool {
    const NOTIFY: &str = "SCMP_ACT_NOTIFY";
    spec.linux.seccomp.as_ref().is_some_and(|s| s.default_action == NOTIFY || s.syscalls.iter().any(|rule| rule.action == NOTIFY))
}
