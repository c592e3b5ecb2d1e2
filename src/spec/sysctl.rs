//! Names of kernel parameters: which file below `/proc/sys` a key of `linux.sysctl` is, and whose namespace it belongs to.

/// The namespace that a parameter belongs to; anything else is the host's and refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// System V IPC and POSIX message queues, ipc_namespaces(7).
    Ipc,
    /// `net.*`, network_namespaces(7).
    Network,
    /// `user.*`, namespaces(7): how many namespaces of each kind may be made below a user namespace.
    User,
    /// `kernel.domainname`, uts_namespaces(7).
    Uts,
    /// `kernel.hostname`: namespaced, but the spec has the field `hostname` for it.
    Hostname,
    /// Not in any namespace that a container has of its own.
    Host,
}

const IPC: &[&str] = &[
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// The path below `/proc/sys`. sysctl.d(5): whichever of `.` and `/` comes first separates, the other is part of a
/// name, so that `net.ipv4.conf.eth0/100.rp_filter` and `net/ipv4/conf/eth0.100/rp_filter` are the same parameter.
/// None for a key that would leave the directory or name none of its files.
pub fn file(key: &str) -> Option<String> {
    let path: String = match key.bytes().find(|b| matches!(b, b'.' | b'/')) {
        Some(b'.') => key.chars().map(swap_separators).collect(),
        _ => key.to_owned(),
    };
    let plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
    (path.contains('/') && path.split('/').all(plain)).then_some(path)
}

/// Whose parameter the file is; takes what [`file()`] returns.
pub fn scope(file: &str) -> Scope {
    match file {
        "kernel/domainname" => Scope::Uts,
        "kernel/hostname" => Scope::Hostname,
        _ if file.starts_with("net/") => Scope::Network,
        _ if file.starts_with("user/") => Scope::User,
        _ if file.starts_with("fs/mqueue/") || IPC.contains(&file) => Scope::Ipc,
        _ => Scope::Host,
    }
}

fn swap_separators(c: char) -> char {
    match c {
        '.' => '/',
        '/' => '.',
        _ => c,
    }
}
