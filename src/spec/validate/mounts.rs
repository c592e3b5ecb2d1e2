//! config.md, "Mounts".

use crate::spec::options::MountOptions;
use crate::spec::{Mount, Spec};
use crate::sys::{Error, Result};

/// What may be mounted on below `/proc`: the files that lxcfs emulates. Anything else could fake what the runtime
/// itself reads and writes there (CVE-2019-16884, CVE-2019-19921).
const PROC_FILES: &[&str] = &[
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "net/dev",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

pub(super) fn check(spec: &Spec, warnings: &mut Vec<String>) -> Result<()> {
    for (i, mount) in spec.mounts.iter().enumerate() {
        let at = || format!("mounts[{i}]");
        let options = MountOptions::of(mount);
        one(mount, &options).map_err(|e| e.at(at()))?;
        if !mount.destination.starts_with('/') {
            warnings.push(format!("{}: the destination {:?} is not absolute and is taken as relative to /", at(), mount.destination));
        }
        if options.bind && !options.data.is_empty() {
            let names: Vec<_> = options.data.iter().map(|(key, _)| key.as_str()).collect();
            warnings.push(format!("{}: {} has no effect on a bind mount", at(), names.join(", ")));
        }
    }
    Ok(())
}

fn one(mount: &Mount, options: &MountOptions) -> Result<()> {
    let texts = [&mount.destination, &mount.source, &mount.kind];
    if texts.into_iter().chain(&mount.options).any(|text| text.contains('\0')) {
        return Err(Error::new("the text contains a NUL byte"));
    }
    let target = &mount.destination;
    let conflict = match () {
        () if target.is_empty() => "the destination of the mount is empty".into(),
        () if options.bind && mount.source.is_empty() => format!("the bind mount at {target} has no source"),
        () if mount.kind.is_empty() && !options.bind && !options.remount => {
            format!("the mount at {target} has no type and is no bind mount")
        }
        () if options.tmpcopyup && (options.bind || mount.kind != "tmpfs") => {
            format!("tmpcopyup is for mounts of type tmpfs, the one at {target} is not")
        }
        () if options.data.iter().any(|(key, _)| key.is_empty()) => format!("an option of the mount at {target} has no name"),
        () => return over_proc(mount, options),
    };
    Err(Error::new(conflict))
}

/// By the name alone; links and races inside the image are for the child, which looks at what it has opened.
fn over_proc(mount: &Mount, options: &MountOptions) -> Result<()> {
    let names = clean(&mount.destination);
    let ["proc", below @ ..] = names.as_slice() else {
        return Ok(());
    };
    let target = &mount.destination;
    match below {
        [] if mount.kind == "proc" || options.bind || options.remount => Ok(()),
        [] => Err(Error::new(format!("{target} cannot be mounted because it is not of type proc"))),
        _ if PROC_FILES.contains(&below.join("/").as_str()) => Ok(()),
        _ => Err(Error::new(format!("{target} cannot be mounted because it is inside /proc"))),
    }
}

/// The names of a path without `.`, and with `..` resolved by name, never above the root.
fn clean(path: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => _ = names.pop(),
            name => names.push(name),
        }
    }
    names
}
