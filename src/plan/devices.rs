//! Device nodes and the links beside them.

use super::{At, Node, Op, below_root, cstring};
use crate::spec::Spec;
use crate::sys::{Error, Result};

/// config-linux.md, "Default Devices", with major and minor numbers.
const DEFAULT_DEVICES: [(&str, u32, u32); 6] =
    [("dev/null", 1, 3), ("dev/zero", 1, 5), ("dev/full", 1, 7), ("dev/random", 1, 8), ("dev/urandom", 1, 9), ("dev/tty", 5, 0)];

/// runtime-linux.md, "Dev symbolic links", and the links to the container's own devpts and to kcore
/// as runc makes them.
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
    ("/proc/kcore", "dev/core"),
    ("pts/ptmx", "dev/ptmx"),
];

/// The terminal multiplexer is always that of the container's own devpts, to which a link leads
/// (config-linux.md, "Default Devices"), as in runc: the host's, which a bind would bring, makes
/// terminals of the host.
fn is_ptmx(path: &str) -> bool {
    path.split('/').filter(|name| !name.is_empty() && *name != ".").eq(["dev", "ptmx"])
}

/// The default devices, then those of the spec (which replace a default one of the same path), then
/// the links.
pub(super) fn devices(ops: &mut Vec<Op>, spec: &Spec) -> Result<()> {
    let given = |path: &str| spec.linux.devices.iter().any(|d| d.path.trim_start_matches('/') == path);
    for (path, major, minor) in DEFAULT_DEVICES.iter().filter(|(path, ..)| !given(path)) {
        let node = Node {
            path: cstring(path, At::default())?,
            mode: libc::S_IFCHR | 0o666,
            rdev: libc::makedev(*major, *minor),
            uid: 0,
            gid: 0,
            default: true,
        };
        ops.push(Op::Device(Box::new(node), At::default()));
    }
    for (i, device) in spec.linux.devices.iter().enumerate() {
        let at = At::entry("linux.devices", i);
        if is_ptmx(&device.path) {
            continue;
        }
        let kind = match device.kind.as_str() {
            "c" | "u" => libc::S_IFCHR,
            "b" => libc::S_IFBLK,
            "p" => libc::S_IFIFO,
            other => return Err(Error::new(format!("unknown device type {other:?}")).at(at.to_string())),
        };
        let number = |n: i64| u32::try_from(n).map_err(|_| Error::new(format!("device number {n} is out of range")).at(at.to_string()));
        let rdev = if kind == libc::S_IFIFO { 0 } else { libc::makedev(number(device.major)?, number(device.minor)?) };
        let node = Node {
            path: below_root(&device.path, at)?,
            mode: kind | device.file_mode.unwrap_or(0o666) & 0o7777,
            rdev,
            uid: device.uid.unwrap_or(0),
            gid: device.gid.unwrap_or(0),
            default: false,
        };
        ops.push(Op::Device(Box::new(node), at));
    }
    for (to, path) in LINKS {
        ops.push(Op::Symlink { target: cstring(to, At::default())?, path: cstring(path, At::default())? });
    }
    Ok(())
}
