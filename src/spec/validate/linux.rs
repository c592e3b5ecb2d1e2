//! config-linux.md, but for the resources.

use super::{absolute, below_root, no_nul};
use crate::spec::names::{PROPAGATION, namespace};
use crate::spec::sysctl::{self, Scope};
use crate::spec::user::UNCHANGED;
use crate::spec::{Device, IdMapping, IntelRdt, Linux, Seccomp, Spec};
use crate::sys::{Error, Result};

/// The most lines that the kernel takes in a uid_map or gid_map, user_namespaces(7).
const MAX_MAPPINGS: usize = 340;

/// The longest host and domain name, uts_namespaces(7) and sethostname(2), in bytes.
const MAX_UTS_NAME: usize = 64;

pub(super) fn check(spec: &Spec, warnings: &mut Vec<String>) -> Result<()> {
    let linux = &spec.linux;
    namespaces(linux)?;
    uts_name(linux, &spec.hostname, "hostname")?;
    uts_name(linux, &spec.domainname, "domainname")?;
    id_mappings(spec, warnings)?;
    time_offsets(linux)?;
    sysctls(spec)?;
    devices(linux)?;
    net_devices(linux)?;
    linux.intel_rdt.as_ref().map_or(Ok(()), |rdt| intel_rdt(rdt, warnings))?;
    if !linux.rootfs_propagation.is_empty() && !PROPAGATION.iter().any(|row| row.0 == linux.rootfs_propagation) {
        let words = format!("{:?} is not a kind of mount propagation, mount_namespaces(7)", linux.rootfs_propagation);
        return Err(Error::new(words).at("linux.rootfsPropagation"));
    }
    if !linux.rootfs_propagation.is_empty() && linux.namespace("mount").is_none_or(|ns| !ns.path.is_empty()) {
        let words = "how the root propagates mounts cannot be changed in a mount namespace that is not the container's own";
        return Err(Error::new(words).at("linux.rootfsPropagation").hint("linux.namespaces has no new one of type mount"));
    }
    for (list, name) in [(&linux.masked_paths, "maskedPaths"), (&linux.readonly_paths, "readonlyPaths")] {
        for (i, path) in list.iter().enumerate() {
            let at = || format!("linux.{name}[{i}]");
            below_root(path, at)?;
            if !path.starts_with('/') {
                warnings.push(format!("{}: the path {path:?} is not absolute and is taken as relative to /", at()));
            }
        }
    }
    no_nul(&linux.cgroups_path, || "linux.cgroupsPath".into())?;
    no_nul(&linux.mount_label, || "linux.mountLabel".into())?;
    linux.seccomp.as_ref().map_or(Ok(()), seccomp)
}

fn namespaces(linux: &Linux) -> Result<()> {
    for (i, ns) in linux.namespaces.iter().enumerate() {
        let at = || format!("linux.namespaces[{i}]");
        if namespace(&ns.kind).is_none() {
            return Err(Error::new(format!("namespace {:?} does not exist", ns.kind)).at(at()));
        }
        if linux.namespaces[..i].iter().any(|other| other.kind == ns.kind) {
            return Err(Error::new(format!("namespace {:?} is given twice", ns.kind)).at(at()));
        }
        if !ns.path.is_empty() {
            absolute(&ns.path, "the path of the namespace", || format!("{}.path", at()))?;
        }
    }
    if linux.namespace("mount").is_none() && linux.namespace("user").is_some() {
        return Err(Error::new("a user namespace has no rights over the mounts of the host")
            .at("linux.namespaces")
            .hint("it needs a namespace of type mount too"));
    }
    Ok(())
}

/// The name would be the host's without a UTS namespace.
fn uts_name(linux: &Linux, name: &str, field: &str) -> Result<()> {
    match () {
        () if name.is_empty() => Ok(()),
        () if linux.namespace("uts").is_none() => Err(Error::new(format!("unable to set {field} without a private UTS namespace"))
            .at(field)
            .hint("linux.namespaces needs one of type uts")),
        () if name.len() > MAX_UTS_NAME => {
            Err(Error::new(format!("the name has {} bytes; the kernel takes at most {MAX_UTS_NAME}", name.len())).at(field))
        }
        () => no_nul(name, || field.into()),
    }
}

fn id_mappings(spec: &Spec, warnings: &mut Vec<String>) -> Result<()> {
    let linux = &spec.linux;
    let lists = [(&linux.uid_mappings, "linux.uidMappings"), (&linux.gid_mappings, "linux.gidMappings")];
    for (list, at) in lists {
        match linux.namespace("user") {
            None if !list.is_empty() => {
                return Err(Error::new("user namespace mappings are specified, but no user namespace").at(at));
            }
            Some(ns) if ns.path.is_empty() && list.is_empty() => {
                return Err(Error::new("a new user namespace needs mappings, and none are specified").at(at));
            }
            Some(ns) if !ns.path.is_empty() && !list.is_empty() => {
                warnings.push(format!("{at}: the user namespace joined has mappings of its own; these are not applied"));
            }
            _ => {}
        }
        ranges(list, at)?;
    }
    mapped(spec)
}

/// setresuid(2) fails with EINVAL for an id that the new namespace does not have.
fn mapped(spec: &Spec) -> Result<()> {
    let Some(process) = spec.process.as_ref().filter(|_| spec.linux.namespace("user").is_some_and(|ns| ns.path.is_empty())) else {
        return Ok(());
    };
    let ids = [(process.user.uid, &spec.linux.uid_mappings, "uid"), (process.user.gid, &spec.linux.gid_mappings, "gid")];
    for (id, list, field) in ids {
        if !list.iter().any(|map| id.checked_sub(map.container_id).is_some_and(|n| n < map.size)) {
            let words = format!("{field} {id} is not mapped into the user namespace");
            return Err(Error::new(words).at(format!("process.user.{field}")).hint(format!("linux.{field}Mappings has the ids there are")));
        }
    }
    Ok(())
}

/// The kernel's rules for a map (user_namespaces(7)), which it answers with a bare EINVAL.
pub(super) fn ranges(list: &[IdMapping], at: &str) -> Result<()> {
    if list.len() > MAX_MAPPINGS {
        return Err(Error::new(format!("{} mappings; the kernel takes at most {MAX_MAPPINGS}, user_namespaces(7)", list.len())).at(at));
    }
    for (i, map) in list.iter().enumerate() {
        let refuse = |why: String| Err(Error::new(why).at(format!("{at}[{i}]")));
        if map.size == 0 {
            return refuse("the mapping is empty: size is 0".into());
        }
        for (first, side) in [(map.container_id, "container"), (map.host_id, "host")] {
            if first.checked_add(map.size).is_none() {
                let (from, last) = (u64::from(first), u64::from(first) + u64::from(map.size) - 1);
                return refuse(format!("the {side} ids {from} to {last} go beyond {}", UNCHANGED - 1));
            }
        }
    }
    for (side, first) in [("container", (|map| map.container_id) as fn(&IdMapping) -> u32), ("host", |map| map.host_id)] {
        let mut sorted: Vec<_> = list.iter().enumerate().collect();
        sorted.sort_unstable_by_key(|(_, map)| first(map));
        if let Some(pair) = sorted.windows(2).find(|pair| first(pair[0].1) + pair[0].1.size > first(pair[1].1)) {
            let (one, two) = (pair[0].0.min(pair[1].0), pair[0].0.max(pair[1].0));
            return Err(Error::new(format!("the {side} ids overlap those of {at}[{one}]")).at(format!("{at}[{two}]")));
        }
    }
    Ok(())
}

/// time_namespaces(7): the offsets of two clocks, which can be set only before anything runs in the namespace.
fn time_offsets(linux: &Linux) -> Result<()> {
    let at = |clock: &str| format!("linux.timeOffsets.{clock}");
    for (clock, offset) in &linux.time_offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::new(format!("clock {clock:?} has no offset; monotonic and boottime have")).at(at(clock)));
        }
        if offset.nanosecs >= 1_000_000_000 {
            return Err(Error::new(format!("{} nanoseconds are a second or more", offset.nanosecs)).at(at(clock)));
        }
    }
    match linux.namespace("time") {
        _ if linux.time_offsets.is_empty() => Ok(()),
        Some(ns) if ns.path.is_empty() => Ok(()),
        Some(_) => Err(Error::new("the time namespace is joined; its offsets cannot be changed").at("linux.timeOffsets")),
        None => Err(Error::new("time namespace offsets are specified, but no time namespace").at("linux.timeOffsets")),
    }
}

/// As runc: only parameters of namespaces that the container has of its own, or they would be the host's. Whether a
/// network namespace joined is the host's, the host must look.
fn sysctls(spec: &Spec) -> Result<()> {
    let linux = &spec.linux;
    for (key, value) in &linux.sysctl {
        let refuse = |why: &str| Err(Error::new(format!("sysctl {key:?} {why}")).at("linux.sysctl"));
        let Some(file) = sysctl::file(key) else {
            return refuse("is not the name of a kernel parameter");
        };
        if value.contains('\0') {
            return refuse("has a NUL byte in its value");
        }
        let has = |kind| linux.namespace(kind).is_some();
        match sysctl::scope(&file) {
            Scope::Ipc if !has("ipc") => return refuse("is not allowed in the host's ipc namespace"),
            Scope::Network if !has("network") => return refuse("is not allowed in the host's network namespace"),
            Scope::Hostname if has("uts") => return refuse("is not allowed, as it conflicts with the field hostname"),
            // The later of two would win, and nobody be told.
            Scope::Uts if has("uts") && !["", value.trim_end_matches('\n')].contains(&spec.domainname.as_str()) => {
                return refuse(&format!("is {value:?}, and the field domainname says {:?}", spec.domainname));
            }
            Scope::Uts if has("uts") => {}
            Scope::User if has("user") => {}
            Scope::Ipc | Scope::Network => {}
            Scope::Hostname | Scope::User | Scope::Uts | Scope::Host => return refuse("is not in a separate kernel namespace"),
        }
    }
    Ok(())
}

fn devices(linux: &Linux) -> Result<()> {
    for (i, device) in linux.devices.iter().enumerate() {
        let at = || format!("linux.devices[{i}]");
        absolute(&device.path, "the path of the device", || format!("{}.path", at()))?;
        let refuse = |why: String| Err(Error::new(format!("device {} {why}", device.path)).at(at()));
        match device_fault(device) {
            Some(why) => return refuse(why),
            None if linux.devices[..i].iter().any(|other| other.path == device.path && other != device) => {
                return refuse("is given twice, and differently".into());
            }
            None => {}
        }
    }
    Ok(())
}

/// config-linux.md, "Network Devices"; names as the kernel takes them (`dev_valid_name`).
fn net_devices(linux: &Linux) -> Result<()> {
    if !linux.net_devices.is_empty() && linux.namespace("network").is_none() {
        return Err(Error::new("network devices are specified, but no network namespace").at("linux.netDevices"));
    }
    let mut names = Vec::with_capacity(linux.net_devices.len());
    for (host, device) in &linux.net_devices {
        let inside = if device.name.is_empty() { host } else { &device.name };
        let fault = match () {
            () if host.contains('%') => Some("a template names no device of the host".into()),
            () if !host.is_empty() && inside.contains('%') => (inside.matches('%').count() != 1 || !inside.contains("%d"))
                .then(|| format!("{inside:?} is no template: one %d may stand in it")),
            () if names.contains(&inside) => Some(format!("two devices are to have the name {inside:?}")),
            () => None,
        };
        let wrong = [host, inside].into_iter().find(|name| !is_interface(name));
        if let Some(why) = wrong.map(|name| format!("{name:?} cannot be the name of a network device")).or(fault) {
            return Err(Error::new(why).at(format!("linux.netDevices.{host}")));
        }
        names.push(inside);
    }
    Ok(())
}

/// config-linux.md, "IntelRdt".
fn intel_rdt(rdt: &IntelRdt, warnings: &mut Vec<String>) -> Result<()> {
    let refuse = |why: String, field: &str| Err(Error::new(why).at(format!("linux.intelRdt.{field}")));
    let id = &rdt.clos_id;
    if id.contains(['/', '\n', '\0']) || [".", "..", "info", "mon_groups", "mon_data"].contains(&id.as_str()) {
        return refuse(format!("{id:?} cannot be the name of a class of service"), "closID");
    }
    if let Some(i) = rdt.schemata.iter().position(|line| line.contains('\n')) {
        return refuse("a line break in a line of the schemata".into(), &format!("schemata[{i}]"));
    }
    if !rdt.mem_bw_schema.is_empty() && (!rdt.mem_bw_schema.starts_with("MB:") || rdt.mem_bw_schema.contains('\n')) {
        return refuse("the schema of memory bandwidth has to be one line that starts with MB:".into(), "memBwSchema");
    }
    if rdt.enable_cmt || rdt.enable_mbm {
        warnings.push("linux.intelRdt: enableCMT and enableMBM have no effect; enableMonitoring makes a monitoring group".into());
    }
    Ok(())
}

fn is_interface(name: &str) -> bool {
    let byte = |b: u8| !b.is_ascii_whitespace() && b != 0x0b && b != b'/' && b != b':' && b != 0;
    (1..=15).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(byte)
}

/// Device numbers have 12 bits for the major and 20 for the minor, makedev(3) and linux/kdev_t.h. The file mode may
/// carry the type's bits, as stat(2) gives them.
fn device_fault(device: &Device) -> Option<String> {
    let numbers = (0..1 << 12).contains(&device.major) && (0..1 << 20).contains(&device.minor);
    match device.kind.as_str() {
        "b" | "c" | "u" if !numbers => Some(format!("has the numbers {}:{}, which no device has", device.major, device.minor)),
        "b" | "c" | "u" | "p" if device.uid == Some(UNCHANGED) || device.gid == Some(UNCHANGED) => {
            Some("has 4294967295 for an owner".into())
        }
        "b" | "c" | "u" | "p" if device.file_mode.is_some_and(|mode| mode & !0o177_777 != 0) => {
            Some("has a file mode with unknown bits".into())
        }
        "b" | "c" | "u" | "p" => None,
        kind => Some(format!("has the type {kind:?}; b, c, u and p exist")),
    }
}

/// What the compiler of the filter does not see; names of calls, actions and operators are its business.
fn seccomp(seccomp: &Seccomp) -> Result<()> {
    if seccomp.default_action.is_empty() {
        return Err(Error::new("the default action is missing").at("linux.seccomp.defaultAction"));
    }
    if seccomp.listener_path.is_empty() && !seccomp.listener_metadata.is_empty() {
        return Err(Error::new("there is no listener to send this to: listenerPath is missing").at("linux.seccomp.listenerMetadata"));
    }
    if seccomp.notifies() && seccomp.listener_path.is_empty() {
        return Err(Error::new("SCMP_ACT_NOTIFY needs the path of a seccomp agent's socket").at("linux.seccomp.listenerPath"));
    }
    no_nul(&seccomp.listener_path, || "linux.seccomp.listenerPath".into())?;
    match seccomp.syscalls.iter().position(|rule| rule.names.is_empty()) {
        Some(i) => Err(Error::new("the rule names no system call").at(format!("linux.seccomp.syscalls[{i}].names"))),
        None => Ok(()),
    }
}
