//! The operations a child executes, as plain data, and the sentence each one has.

use super::seccomp;
use crate::spec::{IdMapping, numbers};
use crate::sys::{MountAttr, SchedAttr};
use std::ffi::CString;
use std::fmt;

/// Where in `config.json` something stands: `mounts[3]`, `process.cwd`; empty for what keel does of its own accord.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// The field's path.
    pub field: &'static str,
    /// The entry of a list.
    pub index: Option<usize>,
}

impl At {
    /// A field that is no list.
    pub const fn field(field: &'static str) -> Self {
        Self { field, index: None }
    }

    /// The entry `index` of the list `field`.
    pub const fn entry(field: &'static str, index: usize) -> Self {
        Self { field, index: Some(index) }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}[{index}]", self.field),
            None => f.write_str(self.field),
        }
    }
}

/// A namespace to join by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// `sys::ns` flag.
    pub kind: u64,
    /// A namespace file such as `/proc/1/ns/net` or `/run/netns/x`.
    pub path: CString,
    /// Where it stands.
    pub at: At,
}

/// A tree of mounts to clone from the host, detached, and then to attach (open_tree(2)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// An absolute path on the host.
    pub source: CString,
    /// Together with the mounts below (`rbind`).
    pub recursive: bool,
    /// A link at `source` is what is mounted.
    pub itself: bool,
    /// Known to be a directory.
    pub directory: bool,
    /// For the top mount.
    pub attr: MountAttr,
    /// Of `attr`, what was named to be cleared; the rest is cleared where it can be.
    pub cleared: u64,
    /// The mount goes into a user namespace, and comes from outside: some of its flags are locked.
    pub locked: bool,
    /// The source is one of the container's own mounts, so that only the child can open it, when its turn comes.
    pub inside: bool,
    /// For all mounts of the tree (`rro` and its relatives).
    pub attr_recursive: MountAttr,
    /// Idmapped: the number in `Plan::id_maps`, and whether for all mounts of the tree (`ridmap`).
    pub id_map: Option<(usize, bool)>,
    /// Where it stands.
    pub at: At,
}

/// A network device of the host that goes into the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    pub host: String,
    /// Its name in the container; with `%d` in it the kernel chooses a number.
    pub name: String,
}

/// A user namespace whose id maps are those of idmapped mounts.
#[derive(Clone, Debug, PartialEq)]
pub enum IdMap {
    /// To be made, with these user and group maps; no process stays in it.
    New(Vec<IdMapping>, Vec<IdMapping>),
    /// The one that the container joins, by its number in `Plan::joins`.
    Joined(usize),
}

/// A file system to make in the child's namespaces (fsopen(2)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fs {
    /// `proc`, `tmpfs`, …
    pub kind: CString,
    /// What mountinfo shows as the source.
    pub source: CString,
    /// Parameters; those without a value are flags.
    pub params: Vec<(CString, Option<CString>)>,
    /// The parameters as mount(2) takes them, for a file system that is mounted at its place at once: where one is longer than
    /// fsconfig(2) takes (255 bytes), or where that spares system calls.
    pub data: Option<CString>,
    /// MOUNT_ATTR_* of fsmount(2).
    pub attr: u64,
    /// What it covers is copied into it first (`tmpcopyup`).
    pub copy_up: bool,
    /// SELinux label that its root is given, where the kernel takes none for the whole.
    pub root_label: Option<CString>,
}

/// What a mount point may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Anything that is not on a procfs: a link into /proc must not redirect a mount (CVE-2025-31133's relatives).
    Plain,
    /// The same, but for a link at the end of the path, which is mounted over (`dest-nofollow`).
    Itself,
    /// One of the few files of /proc that may be covered.
    OnProc,
    /// A directory reached through no link: where proc, sysfs and /dev go (CVE-2019-19921, CVE-2026-41579).
    RealDirectory,
    /// /proc itself: as `RealDirectory`, and only for a procfs, so that no volume takes its place (CVE-2019-16884).
    ProcRoot,
}

/// Where a mount goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Path from the container's root.
    pub path: CString,
    /// What may be there.
    pub rule: Rule,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Path from the container's root.
    pub path: CString,
    /// S_IFCHR, S_IFBLK or S_IFIFO and the permission bits.
    pub mode: u32,
    /// Device number.
    pub rdev: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whether it is one of the default devices, for which an existing one of the same number will do.
    pub default: bool,
}

/// Points at which the child stops until its parent has done something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The parent writes uid_map, gid_map and what else needs the host's privileges.
    Ids,
    /// The parent notes which mount tree number…, the root, is: without a mount namespace of the container's it has to be unmounted.
    Root(usize),
    /// The parent maps the ids of tree number…, which the child has opened: it takes privileges over the file system.
    IdMap(usize),
    /// The parent moves network devices of the host into the container's namespace.
    NetDevices,
    /// The parent takes the descriptors of the child's namespaces of these kinds: without
    /// CAP_SYS_PTRACE it may not open those of a non-dumpable process (ptrace(2), "Ptrace access
    /// mode checking").
    Namespaces(u64),
    /// The hooks `prestart` and `createRuntime` in the runtime's namespaces.
    CreateRuntime,
    /// The hooks `createContainer` in the container's namespaces, before pivot_root.
    CreateContainer,
    /// The hooks `startContainer` in the container.
    StartContainer,
    /// `create` has written its record; the child waits for `start` on its socket.
    Created,
    /// The filter is loaded; the parent sends its listener to the seccomp agent.
    Listener(seccomp::Handover),
}

/// One thing the child does, in the order of `Plan::ops`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Take the `tasks` files of the v1 cgroups, which the parent makes meanwhile.
    AwaitCgroup,
    /// Write `0` into the v1 file `tasks` of the armed cgroup hierarchy number…
    JoinCgroup(usize),
    /// Write `0` into the `tasks` of the resctrl group number…
    JoinResctrl(usize),
    /// Write the security label for what comes into the attribute that takes it.
    Label {
        /// For what: the next exec, or keys.
        what: &'static str,
        /// The attribute, below the host's /proc.
        file: CString,
        /// What is written.
        label: CString,
        /// Where `config.json` says so.
        at: At,
    },
    /// Write /proc/self/oom_score_adj.
    OomScoreAdj(CString),
    /// dup2(2) of the armed descriptors over 0, 1 and 2 (hooks).
    Stdio,
    /// prctl(PR_SET_PDEATHSIG, SIGKILL): the end of keel is the end of a hook.
    DieWithParent,
    /// prctl(PR_SET_DUMPABLE, 0): no other process of the container may look into this one.
    NonDumpable,
    /// Tell the parent, wait for its answer.
    Sync(Stage),
    /// setns(2) on the armed namespace number…
    JoinNamespace(usize),
    /// setns(2) on the pidfd of the container's init, for these kinds.
    JoinInit(u64),
    /// clone3(2) once more as a sibling: a namespace of the joined user namespace can only be made by a process in it, and
    /// a pid namespace that was joined is that of children alone (setns(2)).
    CloneAgain(u64),
    /// Become uid and gid 0 of the user namespace.
    BecomeRoot,
    /// unshare(2).
    Unshare(u64),
    /// Write /proc/self/timens_offsets.
    TimeOffsets(CString),
    /// setns(2) into the time namespace that unshare(2) has made for what comes after this process.
    EnterTime,
    /// An empty file system becomes the root and the working directory.
    EmptyRoot,
    /// fsopen(2) of a procfs, whose descriptor the next `Sync` hands over.
    OpenProc,
    /// setsid(2).
    Setsid,
    /// TIOCSCTTY: the terminal on stdin becomes that of the session.
    ControllingTerminal,
    /// sethostname(2).
    Hostname(CString),
    /// setdomainname(2).
    Domainname(CString),
    /// Bring `lo` up.
    LoopbackUp,
    /// keyctl(KEYCTL_JOIN_SESSION_KEYRING).
    Keyring(CString),
    /// open_tree(2) of tree number…, where the parent is not privileged to do it.
    OpenTree(usize),
    /// mount_setattr(2) on / with AT_RECURSIVE, MS_SLAVE or MS_PRIVATE: nothing may travel back to the host.
    PrivateMounts(u64),
    /// move_mount(2) of the root file system onto itself.
    AttachRoot(usize),
    /// mount(2) of the root file system, where the first mount is at `/`. By the old call: an overlay of many layers has
    /// longer options than fsconfig(2) takes at once (256 bytes), and adding layers one by one needs Linux 6.8.
    MountRoot {
        /// `overlay`, mostly.
        kind: CString,
        /// What mountinfo shows as the source.
        source: CString,
        /// The file system's options, at most a page.
        data: CString,
        /// Attributes of the mount.
        attr: MountAttr,
        /// What `root.path` has is copied into it (`tmpcopyup`).
        copy_up: bool,
        /// Where it stands.
        at: At,
    },
    /// move_mount(2) of tree number… to a path below the root.
    Attach {
        /// Number in `Plan::trees`.
        tree: usize,
        /// Where.
        to: Target,
    },
    /// fsopen(2), fsconfig(2), fsmount(2), move_mount(2).
    Mount {
        /// What.
        fs: Box<Fs>,
        /// Where.
        to: Target,
        /// The tree to attach instead where the kernel refuses this file system (sysfs without its own network namespace).
        fallback: Option<CString>,
        /// Where it stands.
        at: At,
    },
    /// mount_setattr(2) of something already attached.
    SetAttr {
        /// Path from the container's root.
        path: CString,
        /// What.
        attr: MountAttr,
        /// With the mounts below.
        recursive: bool,
        /// Where it stands.
        at: At,
    },
    /// symlinkat(2) below the root.
    Symlink {
        /// What the link says.
        target: CString,
        /// Path from the container's root.
        path: CString,
    },
    /// symlinkat(2) below the root of a link that a mount's source is; another entry of that name is an error.
    CopyLink {
        /// What the link says.
        target: CString,
        /// Path from the container's root.
        path: CString,
        /// Where it stands.
        at: At,
    },
    /// mknodat(2) below the root, or a bind of the host's node in a user namespace.
    Device(Box<Node>, At),
    /// mkdir(2) of the working directory with its parents, if it is missing; `Cwd` tells if that did not help.
    MakeDir(CString, At),
    /// Write a value below the private /proc/sys.
    Sysctl {
        /// Path below /proc.
        path: CString,
        /// The value.
        value: CString,
    },
    /// A pseudoterminal of the container's devpts becomes its stdio; the other end goes to the console socket.
    Console {
        /// Bind it to /dev/console too (create and run).
        bind: bool,
        /// Rows and columns.
        size: Option<(u16, u16)>,
        /// The output gets no carriage returns (ONLCR is cleared), because the terminal that it is shown on adds them: so it is
        /// when keel's own foreground relays it. Behind a console socket the terminal is as the kernel made it.
        bare_newlines: bool,
    },
    /// Cover a path with /dev/null or an empty read-only directory.
    Mask(CString, At),
    /// Bind a path to itself, read-only.
    ReadOnly(CString, At),
    /// The root mount becomes read-only.
    RootReadonly,
    /// pivot_root(2) into the root file system and umount2(2) of the old one.
    PivotRoot,
    /// MS_MOVE and chroot(2) instead, for a root on a ramfs (`--no-pivot`).
    MoveRoot,
    /// chroot(2) instead, where the mounts are not the container's alone.
    Chroot,
    /// chroot(2) into the root of a container whose mounts are not its alone: the mount of this number at this place.
    EnterRoot {
        /// The root file system on the host.
        path: CString,
        /// Its mount, as [`sys::mount_id`](crate::sys::mount_id) has it.
        mount: u64,
    },
    /// mount_setattr(2) of the propagation of the new /.
    RootPropagation(u64),
    /// close_range(2): nothing of the host's stays open.
    CloseFds,
    /// setrlimit(2).
    Rlimit {
        /// RLIMIT_*.
        resource: u32,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
        /// Where it stands.
        at: At,
    },
    /// setrlimit(2) of the hard limit, if it is lower: the right to do so ends before the limits
    /// are set, which to lower takes none.
    RaiseLimit {
        /// RLIMIT_*.
        resource: u32,
        /// Hard limit.
        hard: u64,
        /// Where it stands.
        at: At,
    },
    /// sched_setattr(2).
    Scheduler(Box<SchedAttr>),
    /// ioprio_set(2): class and level.
    IoPriority(u32),
    /// sched_setaffinity(2).
    CpuAffinity(Box<numbers::Set>),
    /// set_mempolicy(2).
    MemoryPolicy {
        /// `MPOL_*` and `MPOL_F_*`.
        mode: u32,
        /// The nodes; none is the empty set.
        nodes: Box<numbers::Set>,
    },
    /// personality(2).
    Personality(u32),
    /// prctl(PR_CAPBSET_DROP) for every capability not in the set.
    BoundingSet(u64),
    /// prctl(PR_SET_KEEPCAPS).
    KeepCaps,
    /// setgroups(2), also with the empty list: the caller's groups never leak (CVE-2022-36109).
    Groups(Vec<u32>),
    /// setresgid(2).
    Gid(u32),
    /// setresuid(2).
    Uid(u32),
    /// fchown(2) of the container's own terminal and pipes to its user.
    OwnStdio(u32),
    /// Where stdio is the host's /dev/null, open the container's own instead, for reading and writing: containerd
    /// gives one descriptor opened for reading as all three.
    OwnNull,
    /// capset(2).
    Capset {
        /// Effective set.
        effective: u64,
        /// Permitted set.
        permitted: u64,
        /// Inheritable set.
        inheritable: u64,
    },
    /// prctl(PR_CAP_AMBIENT_RAISE) for each.
    Ambient(u64),
    /// chdir(2) of a hook, on the host's paths; a directory that is not there is none of its business.
    HookDirectory(CString),
    /// chdir(2); it may fail here if only the user may enter it, as `Cwd` then tries again.
    TryChdir(CString),
    /// chdir(2) and the check that it did not leave the root (CVE-2024-21626).
    Cwd(CString),
    /// umask(2).
    Umask(u32),
    /// Look the program up among the candidates.
    FindProgram,
    /// Look HOME up in the container's /etc/passwd.
    Home(u32),
    /// prctl(PR_SET_NO_NEW_PRIVS).
    NoNewPrivs,
    /// seccomp(SECCOMP_SET_MODE_FILTER).
    Seccomp,
    /// execve(2).
    Exec,
}
