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
        if i == 0
            && clean(&mount.destination).is_empty()
            && !options.remount
            && spec.linux.namespace("mount").is_none_or(|ns| !ns.path.is_empty())
        {
            return Err(Error::new("a mount as the root needs a new mount namespace").at(at()).hint("linux.namespaces has none"));
        }
        idmapped(spec, mount, &options, &at)?;
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
        () if (options.copy_link || options.source_itself || options.destination_itself) && !options.bind => {
            format!("copy-symlink, src-nofollow and dest-nofollow are for bind mounts, the one at {target} is none")
        }
        () if options.copy_link && (options.source_itself || options.destination_itself) => {
            format!("the mount at {target} cannot have copy-symlink together with src-nofollow or dest-nofollow")
        }
        () if options.data.iter().any(|(key, _)| key.is_empty()) => format!("an option of the mount at {target} has no name"),
        () => return over_proc(mount, options),
    };
    Err(Error::new(conflict))
}

/// config.md, "idmap", "uidMappings" and "gidMappings". Mappings without one of the options are applied too: that is what
/// runc does, and to drop them would show files as somebody else's.
fn idmapped(spec: &Spec, mount: &Mount, options: &MountOptions, at: &dyn Fn() -> String) -> Result<()> {
    let lists = [(&mount.uid_mappings, "uidMappings"), (&mount.gid_mappings, "gidMappings")];
    let target = &mount.destination;
    let refuse = |why: String| Err(Error::new(why).at(at()));
    if options.data.iter().any(|(key, _)| key == "idmap" || key == "ridmap") {
        return Err(Error::new("mappings inside the option idmap are crun's own")
            .at(format!("{}.options", at()))
            .hint("mounts[].uidMappings and gidMappings are the specification's"));
    }
    if options.idmap.is_none() && lists.iter().all(|(list, _)| list.is_empty()) {
        return Ok(());
    }
    if !options.bind {
        return refuse(format!("only bind mounts can be idmapped, the one at {target} is none"));
    }
    if let Some((_, missing)) = lists.iter().find(|(list, _)| list.is_empty())
        && lists.iter().any(|(list, _)| !list.is_empty())
    {
        return refuse(format!("uidMappings and gidMappings of a mount go together, {missing} is missing"));
    }
    if lists[0].0.is_empty() && spec.linux.namespace("user").is_none() {
        return refuse(format!("the idmapped mount at {target} has no mappings, and the container no user namespace to take them from"));
    }
    lists.iter().try_for_each(|(list, name)| super::linux::ranges(list, &format!("{}.{name}", at())))
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
pub(crate) fn clean(path: &str) -> Vec<&str> {
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
