//! Where the two runtimes differ, and why. `*` stands for any text, where a value is the machine's.

use std::path::Path;

/// One fact, or several by a pattern, that the two do not share.
pub struct Difference {
    /// The bundles in which it shows; empty for all.
    pub bundles: &'static [&'static str],
    /// The machines on which it shows.
    pub machine: fn() -> bool,
    pub fact: &'static str,
    /// The value in keel's container; `-` where there is none.
    pub keel: &'static str,
    pub libcontainer: &'static str,
    pub reason: &'static str,
}

impl Difference {
    pub fn holds(&self, bundle: &str) -> bool {
        (self.bundles.is_empty() || self.bundles.contains(&bundle)) && (self.machine)()
    }

    pub fn is(&self, fact: &str, keel: &str, libcontainer: &str) -> bool {
        matches(self.fact, fact) && matches(self.keel, keel) && matches(self.libcontainer, libcontainer)
    }
}

/// A pattern in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => {
            text.strip_prefix(head).is_some_and(|tail| (0..=tail.len()).any(|at| tail.is_char_boundary(at) && matches(rest, &tail[at..])))
        }
    }
}

fn any() -> bool {
    true
}

/// Controllers in cgroup v1 hierarchies.
fn v1() -> bool {
    !Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// v1 with systemd's named hierarchy or a unified one beside it, whether or not systemd runs.
fn hybrid() -> bool {
    v1() && Path::new("/sys/fs/cgroup/unified").exists() && Path::new("/sys/fs/cgroup/systemd").exists()
}

fn without_kcore() -> bool {
    !Path::new("/proc/kcore").exists()
}

const fn row(
    bundles: &'static [&'static str],
    fact: &'static str,
    keel: &'static str,
    libcontainer: &'static str,
    reason: &'static str,
) -> Difference {
    Difference { bundles, machine: any, fact, keel, libcontainer, reason }
}

const fn on(machine: fn() -> bool, row: Difference) -> Difference {
    Difference { machine, ..row }
}

const EXEC: &str = "runc's exec takes the container's process settings; libcontainer's takes its capabilities and environment only";
const HOST_USERNS: &str =
    "libcontainer's exec does not join the user namespace: its process is the host's root inside the container's other namespaces";
const ALL_HIERARCHIES: &str =
    "config-linux.md, Cgroups Path: keel joins every hierarchy, as runc and crun do, so that none shows the caller's cgroup";
const OPTIONS_LOST: &str =
    "libcontainer does not apply the mount's options to the v1 hierarchies; with `ro` a container must not write there";

pub const ALL: &[Difference] = &[
    row(
        &[],
        "* signals ignored",
        "0",
        "1000",
        "SIGPIPE: libcontainer hands on that Rust's start-up ignores it, and so breaks `yes | head`",
    ),
    row(
        &[],
        "* fd 0",
        "Path(\"/dev/null\") FDPermissions(READ | WRITE | EXECUTE)",
        "Path(\"/dev/null\") FDPermissions(READ | EXECUTE)",
        "keel opens the container's own null device in place of the caller's, as runc does; libcontainer hands the host's on",
    ),
    row(&[], "says loopback flags", "0x9", "0x8", "keel brings the loopback interface up, as runc and crun do"),
    on(
        without_kcore,
        row(
            &[],
            "file /dev /core",
            "120777 * → /proc/kcore",
            "-",
            "keel makes this link on every kernel, as crun does; runc and libcontainer only where /proc/kcore is",
        ),
    ),
    on(
        v1,
        row(
            &[],
            "cgroup file devices.list",
            "*",
            "*; c 5:1 rwm; *",
            "libcontainer allows the host's console, 5:1, too; runc left it out in 1.0",
        ),
    ),
    on(hybrid, row(&[], "* cgroup name=systemd", "/ID", "/", ALL_HIERARCHIES)),
    on(hybrid, row(&[], "* cgroup unified", "/ID", "/", ALL_HIERARCHIES)),
    on(hybrid, row(&["spec", "mounts"], "says cgroup as seen inside", "0::/ID *", "0::/ *", ALL_HIERARCHIES)),
    on(
        hybrid,
        row(&[], "mount /sys/fs/cgroup/unified", "cgroup2 of cgroup2 at *: nodev,noexec,nosuid,relatime,ro; ", "-", ALL_HIERARCHIES),
    ),
    on(
        v1,
        row(
            &[],
            "mount /sys/fs/cgroup",
            "tmpfs of tmpfs at /: nodev,noexec,nosuid,relatime,ro; *",
            "tmpfs of tmpfs at /: nodev,noexec,nosuid,relatime,rw; *",
            OPTIONS_LOST,
        ),
    ),
    on(
        v1,
        row(
            &[],
            "mount /sys/fs/cgroup/*",
            "cgroup of cgroup at *: nodev,noexec,nosuid,relatime,ro; ",
            "cgroup of cgroup at *relatime,rw; ",
            OPTIONS_LOST,
        ),
    ),
    on(v1, row(&["spec", "mounts", "userns"], "says may write /sys/fs/cgroup", "no", "yes", OPTIONS_LOST)),
    row(
        &["spec", "mounts"],
        "mount /proc/*",
        "proc of proc at /*: relatime,ro; ",
        "proc of proc at /*: nodev,noexec,nosuid,relatime,ro; ",
        "keel, as runc, leaves a read-only path the flags of the mount it is on; this /proc has none",
    ),
    row(&["mounts"], "mount /mnt/shared", "* shared", "*", "libcontainer does not apply the option `shared`"),
    row(
        &["userns"],
        "file /dev /mqueue",
        "041777 0:0",
        "041777 100000:100000",
        "keel's one clone makes the IPC namespace, and so the root of its queues, before the process has become root of the new user namespace",
    ),
    row(
        &["userns"],
        "mount /dev/*",
        "devtmpfs of devtmpfs at /*: *,ro; *",
        "devtmpfs of devtmpfs at /*: *,rw; *",
        "keel binds the host's devices read-only: they can be read and written, their nodes' modes and owners not be changed",
    ),
    row(&["userns"], "exec *id_map", "0 100000 65536", "0 0 4294967295", HOST_USERNS),
    row(&["userns"], "exec *ids", "100000 100000 100000 100000", "0 0 0 0", HOST_USERNS),
    row(&["userns"], "exec namespace user", "its own", "the host's", HOST_USERNS),
    row(
        &["docker"],
        "exec capabilities *",
        "0",
        "a80425fb",
        "a process that is not root has no effective and permitted capabilities but ambient ones; libcontainer's is root",
    ),
    row(&["docker"], "exec cwd", "/tmp", "/", EXEC),
    row(&["docker"], "exec *ids", "1000 1000 1000 1000", "0 0 0 0", EXEC),
    row(&["docker"], "exec groups", "[4, 27]", "[]", EXEC),
    row(&["docker"], "exec limit Max core file size", "0 0 bytes", "*", EXEC),
    row(&["docker"], "exec limit Max open files", "256 512 files", "1024 1024 files", EXEC),
    row(&["docker"], "exec oom_score_adj", "100", "*", EXEC),
    row(&["docker"], "exec seccomp mode", "2", "0", "libcontainer's exec runs without the container's seccomp filter"),
    row(&["docker"], "exec umask", "0027", "0022", EXEC),
];
