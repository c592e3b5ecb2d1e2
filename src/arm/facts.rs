//! What a plan has to know about the host.

use crate::plan::Facts;
use crate::sys::in_user_namespace;
use rustix::thread::CapabilitySet;

/// Asks the kernel: three ids and a capability set, and the two files that say whether a security module is enabled,
/// which are read only if a label was asked for. In a user namespace also whether setgroups(2) is forbidden there.
pub fn facts(wants_label: bool) -> Facts {
    let capabilities = rustix::thread::capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
    let reads_yes = |path: &str| std::fs::read(path).is_ok_and(|text| text.starts_with(b"Y"));
    let in_user_namespace = in_user_namespace();
    let denies = || std::fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"deny"));
    Facts {
        in_user_namespace,
        groups_denied: in_user_namespace && denies(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        privileged: capabilities.contains(CapabilitySet::SYS_ADMIN),
        capabilities: capabilities.bits(),
        apparmor: wants_label && reads_yes("/sys/module/apparmor/parameters/enabled"),
        selinux: wants_label && std::path::Path::new("/sys/fs/selinux/enforce").exists(),
        ..Facts::default()
    }
}
