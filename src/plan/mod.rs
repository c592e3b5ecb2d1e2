//! Room `plan`: the pure function from a spec and facts about the host to everything a start will do.
//!
//! Nothing here touches the host. `order` is the one place that states the sequence and why it is so.

mod devices;
mod exec;
pub mod limits;
mod mounts;
mod op;
mod order;
mod process;
pub mod seccomp;
mod sentence;
mod update;

pub use exec::{exec, hook, start_hook};
pub use op::*;
pub use order::{TASKS_MAX, after_start, create, joined_procs, needs_helper, proc_opener};
pub use process::{Program, capability_set};
pub use sentence::namespace_names;
pub use update::{Update, update};

use crate::spec::{self, numbers};
use crate::sys::{Error, Result};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::PathBuf;

/// What a plan has to know about the host; gathered by `arm::facts`.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Has CAP_SYS_ADMIN over its own namespaces: may clone mount trees and join namespaces before the clone.
    pub privileged: bool,
    /// Effective capabilities, as a bit mask.
    pub capabilities: u64,
    /// Our own user namespace is not the first one.
    pub in_user_namespace: bool,
    /// The kernel forbids setgroups(2) in our own user namespace.
    pub groups_denied: bool,
    /// The caller's limits of open descriptors, soft and hard (create and run).
    pub descriptors: Option<[u64; 2]>,
    /// AppArmor is enabled.
    pub apparmor: bool,
    /// SELinux is enabled.
    pub selinux: bool,
    /// The session keyring of the container, if it has one of its own (exec).
    pub keyring: Option<String>,
    /// Where the root of a container is that has no mounts of its own alone, and which mount (exec).
    pub shared_root: Option<(CString, u64)>,
    /// The v1 hierarchies the container will be in, or the one v2 directory.
    pub cgroup: CgroupView,
    /// Of the mounts with `copy-symlink`, by their number, those whose source is a link, and what it says.
    pub links: BTreeMap<usize, CString>,
}

impl Facts {
    /// Whether the caller may look into a process that is not dumpable.
    pub fn may_trace(&self) -> bool {
        const CAP_SYS_PTRACE: u64 = 1 << 19;
        self.capabilities & CAP_SYS_PTRACE != 0
    }

    /// Whether the caller is an ordinary user, who may not make everything that the specification asks for.
    pub fn rootless(&self) -> bool {
        !self.privileged || self.uid != 0
    }
}

/// How the container's cgroup looks from the host.
#[derive(Clone, Debug, Default)]
pub struct CgroupView {
    /// Only the unified hierarchy.
    pub v2: bool,
    /// Number of v1 `tasks` files that the child joins.
    pub tasks: usize,
    /// They are made while the child works: nothing about them can change the plan.
    pub beside: bool,
    /// Directories to show in a mount of type `cgroup`: name and host path.
    pub mounts: Vec<(String, PathBuf)>,
    /// Directories of others to show there, read-only: the creator's cgroups in v1 hierarchies
    /// where the container has none.
    pub others: Vec<(String, PathBuf)>,
    /// Links beside them: `cpu` → `cpu,cpuacct`.
    pub links: Vec<(String, String)>,
}

/// What the command line adds to the spec.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Container id.
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// MS_MOVE and chroot instead of pivot_root.
    pub no_pivot: bool,
    /// The name of a session keyring of the container's own; none: the caller's.
    pub keyring: Option<String>,
    /// Stop before the program until `start` (create), or go on at once (run).
    pub park: bool,
    /// Descriptors from 3 on that stay open.
    pub preserve_fds: u32,
    /// The seccomp filter is one that [`seccomp::watched`] made, with this mark.
    pub watched: Option<u64>,
}

/// Everything a start will do, decided before anything is touched.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The root file system on the host.
    pub rootfs: CString,
    /// Namespaces that clone3(2) creates.
    pub clone: u64,
    /// All namespaces joined by path.
    pub joins: Vec<Join>,
    /// User and group maps of a new user namespace.
    pub maps: Option<(Vec<spec::IdMapping>, Vec<spec::IdMapping>)>,
    /// Trees to clone, by the parent (`privileged`) or the child.
    pub trees: Vec<Tree>,
    /// User namespaces for the idmapped ones among them.
    pub id_maps: Vec<IdMap>,
    /// Devices that the parent moves into the container's network namespace.
    pub net_devices: Vec<NetDevice>,
    /// Whether the parent opens the trees.
    pub trees_outside: bool,
    /// The program.
    pub process: Program,
    /// SELinux label of the empty directories that mask others.
    pub mask_label: Option<CString>,
    /// The program's effective, permitted and inheritable capabilities, as bit masks.
    pub capabilities: [u64; 3],
    /// The process is root of a user namespace, with all capabilities in it.
    pub in_user_namespace: bool,
    /// The kernel forbids setgroups(2) in the user namespace, as only the user's own group is mapped.
    pub groups_denied: bool,
    /// An ordinary user enters a user namespace, and only the kernel knows whether it forbids
    /// setgroups(2): the caller's groups are given up where that is possible. They are the user's
    /// own in either case.
    pub groups_may_stay: bool,
    /// The caller's supplementary groups are to stay.
    pub keeps_groups: bool,
    /// Limits and priorities that the parent sets, since the child has no privileges for them.
    pub outside: Vec<Op>,
    /// The caller's limits of open descriptors, soft and hard, where keel raises the soft one for
    /// its own work: the program gets them, unless the configuration has others.
    pub descriptors: Option<[u64; 2]>,
    /// The CPUs that the parent goes to before the clone (exec).
    pub affinity: Option<numbers::Set>,
    /// What the child does, in this order.
    pub ops: Vec<Op>,
    /// The process is to be in a pid namespace of others: the tail begins with a second clone.
    pub enters_pids: bool,
    /// Index of the first operation of the tail: from there on the child has nothing of its parent's memory, and nothing
    /// of the host is open (`sys::Tail`).
    pub tail: usize,
    /// Index of the first operation after the last wait: `Seccomp` with its listener, `Capset` and `Exec` are all that
    /// comes there.
    pub last: usize,
    /// One sentence for each thing that was asked for and cannot be done, yet does no harm.
    pub warnings: Vec<String>,
}

/// A C string of something the spec says; a NUL byte inside is refused with its place.
fn cstring(value: &str, at: At) -> Result<CString> {
    CString::new(value).map_err(|_| Error::new(format!("{value:?} contains a NUL byte")).at(at.to_string()))
}

/// The operation for the session keyring, if there is one.
fn join_keyring(name: Option<&String>) -> Result<Option<Op>> {
    name.map(|name| Ok(Op::Keyring(cstring(name, At::default())?))).transpose()
}

/// A path below the container's root, as openat2(2) with RESOLVE_IN_ROOT wants it: no leading slash, never empty.
fn below_root(path: &str, at: At) -> Result<CString> {
    let trimmed = path.trim_start_matches('/').trim_end_matches('/');
    cstring(if trimmed.is_empty() { "." } else { trimmed }, at)
}
