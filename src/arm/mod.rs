//! Room `arm`: what the host opens and prepares before the clone: everything that may allocate, fail or block.

mod facts;
mod id_map;
mod own_binary;
mod tail;

pub use facts::facts;
pub use id_map::make as user_namespace;
pub use own_binary::{executable, protect, protect_early};

use crate::plan::seccomp::Filter;
use crate::plan::{Plan, Tree};
use crate::spec::options::LOCKABLE;
use crate::sys::{Context, Error, MountAttr, Result, Steps, Tail, close_range, mount_setattr, ns};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

/// What EINVAL from an idmapped mount means (mount_setattr(2)).
pub const ID_MAP_REFUSED: &str = "this file system does not support idmapped mounts, or the source is idmapped already";

/// What EPERM for the flags of a bind mount means.
pub const LOCKED: &str = "a user namespace may not clear ro, nosuid, nodev or noexec of a mount of the host's, nor change its access times";

/// Everything a child needs beside its plan; all descriptors are close-on-exec.
pub struct Armed {
    /// What is left to do when the memory of the parent is given up.
    pub tail: Option<Tail>,
    /// The socket on which it waits for `start`.
    pub listener: Option<OwnedFd>,
    /// One for each of `Plan::trees`; the child fills those that the host may not open.
    pub trees: Vec<Option<OwnedFd>>,
    /// One for each of `Plan::joins`.
    pub joins: Vec<OwnedFd>,
    /// One for each of `Plan::id_maps`.
    pub id_maps: Vec<OwnedFd>,
    /// The `tasks` files of the container's v1 cgroups; the child gets them later where it awaits its cgroup.
    pub tasks: Vec<OwnedFd>,
    /// The `tasks` files of the container's resctrl groups.
    pub resctrl: Vec<OwnedFd>,
    /// The v2 cgroup to be born in.
    pub into: Option<OwnedFd>,
    /// Where the terminal's other end goes.
    pub console: Option<OwnedFd>,
    /// The container's init (exec).
    pub init: Option<OwnedFd>,
    /// The namespaces to join with their kinds, where init does not let itself be looked into.
    pub handed: Vec<(u64, OwnedFd)>,
    /// The child's own namespaces, which it hands over.
    pub own: Vec<OwnedFd>,
    /// The three standard descriptors of a hook.
    pub stdio: Option<[OwnedFd; 3]>,
    /// One procfs for each that the container mounts, if it joins a pid namespace: opened there, not yet made (fsopen(2)).
    pub procs: Vec<OwnedFd>,
    /// Descriptors from 3 on that stay open.
    pub preserve_fds: u32,
    /// Where the times of the operations go, if somebody asks.
    pub steps: Option<Steps>,
}

impl Armed {
    /// Opens namespaces and trees, and lays out the tail. The times of the operations go to `steps`, if somebody asks.
    pub fn new(plan: &Plan, filter: Option<Filter>, steps: Option<Steps>) -> Result<Self> {
        let mut joins = Vec::with_capacity(plan.joins.len());
        for join in &plan.joins {
            let what = || format!("open the namespace {}", join.path.to_string_lossy());
            let fd = rustix::fs::open(&join.path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
                .context(what)
                .map_err(|e| e.at(format!("{}.path", join.at)))?;
            joins.push(fd);
        }
        let id_maps = plan.id_maps.iter().map(|map| id_map::open(map, &joins)).collect::<Result<Vec<_>>>()?;
        let mut trees = Vec::with_capacity(plan.trees.len());
        for tree in &plan.trees {
            let fd = if plan.trees_outside && !tree.inside {
                let refused = |e: Error| match e.get_errno() {
                    Some(Errno::INVAL) if tree.id_map.is_some() => e.hint(ID_MAP_REFUSED),
                    Some(Errno::PERM) if tree.attr.attr_clr != 0 => e.hint(LOCKED),
                    _ => e,
                };
                Some(clone_tree(tree, &id_maps).context(|| tree.sentence()).map_err(|e| refused(e).at(tree.at.to_string()))?)
            } else {
                None
            };
            trees.push(fd);
        }
        Ok(Self {
            tail: Some(tail::lay_out(plan, filter.as_ref(), steps)?),
            listener: None,
            trees,
            joins,
            id_maps,
            tasks: Vec::new(),
            resctrl: Vec::new(),
            into: None,
            console: None,
            init: None,
            handed: Vec::new(),
            own: Vec::with_capacity(ns::FILES.len()),
            stdio: None,
            procs: Vec::new(),
            preserve_fds: 0,
            steps,
        })
    }
}

impl Armed {
    /// The tree number `i`, if it is open.
    pub fn tree(&mut self, i: usize) -> rustix::io::Result<OwnedFd> {
        self.trees.get_mut(i).and_then(Option::take).ok_or(Errno::BADF)
    }
}

/// open_tree(2) with OPEN_TREE_CLONE and the tree's attributes. Allocates nothing: the child calls it too.
pub fn clone_tree(tree: &Tree, id_maps: &[OwnedFd]) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if tree.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if tree.itself {
        flags |= OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    }
    let fd = open_tree(CWD, &*tree.source, flags)?;
    if !tree.attr_recursive.is_empty() {
        mount_setattr(&fd, c"", true, &tree.attr_recursive)?;
    }
    if !tree.attr.is_empty() {
        match mount_setattr(&fd, c"", false, &unlocked(tree, &fd, tree.locked)?) {
            // Linux before 5.14 does not know the flag, so that no mount has it.
            Err(Errno::INVAL) if tree.attr.attr_clr & !tree.attr.attr_set & libc::MOUNT_ATTR_NOSYMFOLLOW != 0 => {
                let attr = unlocked(tree, &fd, tree.locked)?;
                mount_setattr(&fd, c"", false, &MountAttr { attr_clr: attr.attr_clr & !libc::MOUNT_ATTR_NOSYMFOLLOW, ..attr })?;
            }
            // We are in a user namespace ourselves: what the kernel has locked is not ours to clear.
            Err(Errno::PERM) if !tree.locked => mount_setattr(&fd, c"", false, &unlocked(tree, &fd, true)?)?,
            other => other?,
        }
    }
    if !tree.inside {
        map_ids(tree, &fd, id_maps)?;
    }
    Ok(fd)
}

/// The attributes of a tree; where flags are locked, those of the source stay that were not named. One that was, and other access
/// times, are EPERM, as the kernel would say inside the user namespace (mount_namespaces(7)): root there does not get more of a mount
/// than its owner gave.
fn unlocked(tree: &Tree, fd: &OwnedFd, locked: bool) -> rustix::io::Result<MountAttr> {
    const TIMES: u64 = libc::MOUNT_ATTR__ATIME | libc::MOUNT_ATTR_NODIRATIME;
    if !locked {
        return Ok(tree.attr);
    }
    let has = rustix::fs::fstatvfs(fd)?.f_flag.bits();
    let times = [(libc::ST_NOATIME, libc::MOUNT_ATTR_NOATIME), (libc::ST_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME)];
    let now = times.iter().filter(|(st, _)| has & st != 0).fold(0, |all, (_, attr)| all | attr);
    let strict = if has & (libc::ST_NOATIME | libc::ST_RELATIME) == 0 { libc::MOUNT_ATTR_STRICTATIME } else { 0 };
    // The kernel's ST_RDONLY, ST_NOSUID, ST_NODEV and ST_NOEXEC are the same bits as MOUNT_ATTR_*.
    let other_times = tree.attr.attr_clr & TIMES != 0 && tree.attr.attr_set & TIMES != now | strict;
    if has & tree.cleared != 0 || other_times {
        return Err(Errno::PERM);
    }
    Ok(MountAttr { attr_clr: tree.attr.attr_clr & !(has & LOCKABLE), ..tree.attr })
}

/// Idmaps a detached tree.
pub fn map_ids(tree: &Tree, fd: &OwnedFd, id_maps: &[OwnedFd]) -> rustix::io::Result<()> {
    let Some((number, recursive)) = tree.id_map else { return Ok(()) };
    let namespace = id_maps.get(number).ok_or(Errno::BADF)?;
    mount_setattr(fd, c"", recursive, &MountAttr::id_map(namespace))
}

/// Connects to a unix socket that waits for a descriptor: that of `--console-socket` (runc's docs/terminals.md), of
/// `--pidfd-socket`, of the seccomp agent. `name` is what it is called.
pub fn connect_to(name: &str, path: &std::path::Path) -> Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let what = || format!("connect to the {name} {}", path.display());
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).context(what)?;
    let address = SocketAddrUnix::new(path).context(what)?;
    connect(&socket, &address).context(what)?;
    Ok(socket)
}

/// Sees that every descriptor of `--preserve-fds` is open.
pub fn preserved(count: u32) -> Result<()> {
    for fd in 3..3 + i64::from(count) {
        let number = i32::try_from(fd).map_err(|_| Error::new(format!("--preserve-fds {count} is out of range")))?;
        crate::sys::inherited(number).context(|| format!("--preserve-fds {count}: descriptor {number}"))?;
    }
    Ok(())
}

/// Closes what the caller leaked: everything from 3 on that is not handed over on purpose (CVE-2024-21626).
pub fn close_leaked(preserve_fds: u32) -> Result<()> {
    let listening = std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    close_range(3 + preserve_fds.saturating_add(listening), u32::MAX, true).context(|| "mark inherited descriptors close-on-exec")
}
