//! `root` and `mounts` as mount trees and operations.

use super::devices::devices;
use super::{At, CgroupView, Facts, Fs, IdMap, Op, Options, Plan, Rule, Stage, Target, Tree, below_root, cstring};
use crate::spec::options::{LOCKABLE, MountOptions, SUPERBLOCK};
use crate::spec::{Mount, Spec, names};
use crate::sys::{Error, MountAttr, Result, ns};
use libc::{MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Files below /proc that engines mount over (lxcfs and the like); anything else there could fake what the kernel
/// tells this process about itself (CVE-2019-16884, CVE-2023-28642).
const PROC_FILES: [&str; 11] = [
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/meminfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "proc/loadavg",
    "proc/slabinfo",
    "proc/net/dev",
    "proc/sys/kernel/ns_last_pid",
    "proc/sys/crypto/fips_enabled",
];

/// File systems whose superblock is shared or must stay writable for keel: `ro` is for the mount alone.
const VIRTUAL: [&str; 5] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue"];

/// What mount(2) takes as options, in bytes.
const PAGE: usize = 4096;
/// The longest value that fsconfig(2) takes.
const PARAMETER: usize = 255;

/// The MS_* flags of a `rootfsPropagation`; runc's default is a recursive slave.
pub(super) fn propagation(name: &str) -> Result<u64> {
    let name = if name.is_empty() { "rslave" } else { name };
    let row = names::PROPAGATION.iter().find(|row| row.0 == name);
    let unknown = || Error::new(format!("unknown propagation {name:?}")).at("linux.rootfsPropagation");
    row.map(|&(_, flag, recursive)| flag | if recursive { MS_REC } else { 0 }).ok_or_else(unknown)
}

/// What the mounts of one container have in common.
struct Common<'a> {
    /// SELinux label of new file systems (`linux.mountLabel`).
    label: &'a str,
    facts: &'a Facts,
    options: &'a Options,
    /// MS_SLAVE or MS_PRIVATE: how mounts are cut off from the host's.
    cut: u64,
    /// The trees stay peers of the host's mounts (`rootfsPropagation` shared).
    shared: bool,
    /// Trees are opened before the child's copy of the host's mounts is cut off, and so have to be cut off themselves.
    early: bool,
}

/// Everything from the private copy of the host's mounts to the finished /dev.
///
/// The child opens the trees itself, each when its turn comes: they are then cut off from the host already. In a user
/// namespace it could not reach every source (a home of mode 0700), so there the parent opens them; for a shared root they
/// have to be opened before the cut.
///
/// Without a mount namespace `of_its_own` nothing is cut off but the container's own mounts, all below its root, which is noted before
/// it is attached: `delete` unmounts it with everything in it.
pub(super) fn plan(plan: &mut Plan, spec: &Spec, facts: &Facts, options: &Options, of_its_own: bool) -> Result<()> {
    if !spec.linux.mount_label.is_empty() && !facts.selinux {
        return Err(Error::new("SELinux is not enabled on this host").at("linux.mountLabel"));
    }
    let wanted = propagation(&spec.linux.rootfs_propagation)?;
    let shared = wanted & MS_SHARED != 0;
    plan.trees_outside = facts.privileged && plan.in_user_namespace;
    let cut = if wanted & MS_PRIVATE != 0 { MS_PRIVATE } else { MS_SLAVE };
    let common = Common { label: &spec.linux.mount_label, facts, options, cut, shared, early: shared || plan.trees_outside || !of_its_own };
    // pivot_root(2) refuses a shared or unbindable root; `RootPropagation` makes it so afterwards.
    let own = if common.early { MountAttr::propagation(cut) } else { MountAttr::default() };
    let (source, at) = (plan.rootfs.clone(), At::field("root.path"));
    let mut ops = Vec::with_capacity(64);
    let mounted = spec.mounts.first().map(|first| (first, MountOptions::of(first)));
    let mounted = mounted.filter(|(first, parsed)| clean(plan, first).as_os_str().is_empty() && !parsed.remount);
    if mounted.as_ref().is_some_and(|(_, parsed)| !parsed.propagation.is_empty()) {
        plan.warnings.push("mounts[0]: how mounts propagate has no effect on the root, for which there is linux.rootfsPropagation".into());
    }
    if let Some((mount, parsed)) = mounted.as_ref().filter(|(_, parsed)| !parsed.bind) {
        ops.push(root_mount(mount, parsed, &common, At::entry("mounts", 0))?);
    } else {
        let tree = match &mounted {
            Some((mount, parsed)) => bound(plan, &ops, mount, parsed, At::entry("mounts", 0), &common)?,
            None => Tree { source, recursive: true, at, ..Tree::default() },
        };
        let attr_recursive = MountAttr { propagation: own.propagation, ..tree.attr_recursive };
        let root = open(plan, &mut ops, Tree { directory: true, attr_recursive, ..tree });
        if of_its_own {
            ops.push(Op::AttachRoot(root));
        } else {
            let attr = MountAttr::propagation(MS_PRIVATE);
            // Below a shared mount it has become shared.
            let cut = Op::SetAttr { path: c".".into(), attr, recursive: true, at };
            ops.extend([Op::Sync(Stage::Root(root)), Op::AttachRoot(root), cut]);
        }
    }
    for (i, mount) in spec.mounts.iter().enumerate().skip(usize::from(mounted.is_some())) {
        one(plan, &mut ops, mount, At::entry("mounts", i), &common)?;
    }
    if !binds_dev(spec) {
        devices(&mut ops, spec)?;
    }
    mount_at_once(&mut ops);
    if shared && of_its_own {
        let (first, rest) = ops.into_iter().partition(|op| matches!(op, Op::OpenTree(_)));
        plan.ops.extend::<Vec<Op>>(first);
        ops = rest;
    }
    if of_its_own {
        plan.ops.push(Op::PrivateMounts(cut));
    }
    plan.ops.append(&mut ops);
    Ok(())
}

/// A tmpfs in which nothing else is made is mounted by one mount(2), where fsopen(2) and its relatives need a call for each
/// option. Another one keeps the descriptor that fsmount(2) gives, by which what is made in it needs no look-up.
fn mount_at_once(ops: &mut [Op]) {
    for i in 0..ops.len() {
        let (before, after) = ops.split_at_mut(i + 1);
        let Some(Op::Mount { fs, to, .. }) = before.last_mut() else { continue };
        let is_plain = |(_, value): &(CString, Option<CString>)| value.as_ref().is_none_or(|value| !value.as_bytes().contains(&b','));
        if fs.kind.as_bytes() != b"tmpfs" || fs.copy_up || fs.data.is_some() || !fs.params.iter().all(is_plain) {
            continue;
        }
        let inside = |path: &CString| path.as_bytes().strip_prefix(to.path.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"));
        let is_used = after.iter().any(|op| match op {
            Op::Mount { to, .. } | Op::Attach { to, .. } => inside(&to.path),
            Op::Symlink { path, .. } | Op::CopyLink { path, .. } => inside(path),
            Op::Device(node, _) => inside(&node.path),
            _ => false,
        });
        if !is_used {
            let word = |(key, value): &(CString, Option<CString>)| match value {
                Some(value) => [key.as_bytes(), value.as_bytes()].join(&b'='),
                None => key.as_bytes().to_vec(),
            };
            fs.data = CString::new(fs.params.iter().map(word).collect::<Vec<_>>().join(&b',')).ok();
        }
    }
}

/// Adds a tree, opened by the child unless the parent does; its number.
fn open(plan: &mut Plan, ops: &mut Vec<Op>, tree: Tree) -> usize {
    let child = !plan.trees_outside || tree.inside;
    let maps = tree.inside && tree.id_map.is_some();
    plan.trees.push(tree);
    let number = plan.trees.len() - 1;
    if child {
        ops.push(Op::OpenTree(number));
    }
    if maps {
        ops.push(Op::Sync(Stage::IdMap(number)));
    }
    number
}

/// Whether a source is below the container's root where something has been mounted before: what is meant is that mount.
fn covered(plan: &Plan, ops: &[Op], source: &Path) -> bool {
    let Ok(inside) = source.strip_prefix(OsStr::from_bytes(plan.rootfs.as_bytes())) else { return false };
    ops.iter().any(|op| match op {
        Op::Attach { to, .. } | Op::Mount { to, .. } => inside.starts_with(OsStr::from_bytes(to.path.as_bytes())),
        _ => false,
    })
}

/// runc makes no devices or links where the whole of /dev is bound from the host.
fn binds_dev(spec: &Spec) -> bool {
    spec.mounts.iter().any(|m| {
        m.destination.trim_end_matches('/') == "/dev" && (m.kind == "bind" || m.options.iter().any(|o| o == "bind" || o == "rbind"))
    })
}

fn one(plan: &mut Plan, ops: &mut Vec<Op>, mount: &Mount, at: At, common: &Common<'_>) -> Result<()> {
    let parsed = MountOptions::of(mount);
    let mut to = target(plan, mount, at)?;
    if to.path.as_bytes() == b"." && !parsed.remount {
        let late = "a mount at / is the root, and has to be the first of all: it would cover the others";
        return Err(Error::new(late).at(at.to_string()));
    }
    if parsed.destination_itself && to.rule == Rule::Plain {
        to.rule = Rule::Itself;
    }
    if parsed.copy_link
        && let Some(target) = at.index.and_then(|number| common.facts.links.get(&number))
    {
        ops.push(Op::CopyLink { target: target.clone(), path: to.path, at });
        return Ok(());
    }
    if parsed.bind {
        let tree = bound(plan, ops, mount, &parsed, at, common)?;
        let tree = open(plan, ops, tree);
        ops.push(Op::Attach { tree, to: to.clone() });
    } else if mount.kind == "cgroup" || mount.kind == "cgroup2" {
        cgroup(plan, ops, mount, &parsed, &to, at, common)?;
    } else if parsed.remount {
        let attr = MountAttr { attr_set: parsed.attr.set, attr_clr: parsed.attr.clear, ..MountAttr::default() };
        ops.push(Op::SetAttr { path: to.path.clone(), attr, recursive: false, at });
    } else {
        let fallback = (mount.kind == "sysfs").then(|| c"/sys".into());
        let mut fs = fs(mount, &parsed, common, at)?;
        if plan.in_user_namespace && fs.root_label.take().is_some() {
            plan.warnings.push(format!(
                "{at}: {} keeps the label that the policy gives it: root of a user namespace does not own it",
                mount.destination
            ));
        }
        ops.push(Op::Mount { fs: Box::new(fs), to: to.clone(), fallback, at });
    }
    for wanted in &parsed.propagation {
        ops.push(Op::SetAttr { path: to.path.clone(), attr: MountAttr::propagation(wanted.flag), recursive: wanted.recursive, at });
    }
    Ok(())
}

/// What a bind mount shows.
fn bound(plan: &mut Plan, ops: &[Op], mount: &Mount, parsed: &MountOptions, at: At, common: &Common<'_>) -> Result<Tree> {
    let source = common.options.bundle.join(&mount.source);
    if mount.source.is_empty() {
        return Err(Error::new(format!("the bind mount at {} has no source", mount.destination)).at(format!("{at}.source")));
    }
    let bound = parsed.bound();
    let propagation = if common.early && !common.shared { common.cut } else { 0 };
    Ok(Tree {
        inside: plan.trees_outside && covered(plan, ops, &source),
        source: cstring(&source.to_string_lossy(), at)?,
        recursive: parsed.recursive,
        itself: parsed.source_itself,
        attr: MountAttr { attr_set: bound.set, attr_clr: bound.clear, ..MountAttr::default() },
        cleared: parsed.attr.clear & LOCKABLE,
        locked: plan.in_user_namespace,
        attr_recursive: MountAttr { attr_set: parsed.rec_attr.set, attr_clr: parsed.rec_attr.clear, propagation, userns_fd: 0 },
        id_map: id_map(plan, mount, parsed, common, at)?,
        at,
        ..Tree::default()
    })
}

/// A first mount at `/` is the root file system, in place of what `root.path` has: an overlay, say, that nobody on the
/// host sees. crun takes it for the same.
fn root_mount(mount: &Mount, parsed: &MountOptions, common: &Common<'_>, at: At) -> Result<Op> {
    let data = page(mount, parsed, common, at)?;
    let source = if mount.source.is_empty() { &mount.kind } else { &mount.source };
    // One mount, of which those of the tree come last.
    let (own, tree) = (parsed.attr, parsed.rec_attr);
    let attr = MountAttr { attr_set: own.set & !tree.clear | tree.set, attr_clr: own.clear | tree.clear, ..MountAttr::default() };
    let (kind, source) = (cstring(&mount.kind, at)?, cstring(source, at)?);
    Ok(Op::MountRoot { kind, source, data, attr, copy_up: parsed.tmpcopyup, at })
}

/// The options as mount(2) takes them: separated by commas, and no more than a page.
fn page(mount: &Mount, parsed: &MountOptions, common: &Common<'_>, at: At) -> Result<CString> {
    let words = SUPERBLOCK.iter().filter(|(flag, _)| parsed.superblock & flag != 0).map(|(_, word)| (*word).to_owned());
    if let Some((key, _)) = parsed
        .data
        .iter()
        .find(|(key, value)| splits(&mount.kind, key, key) || value.as_ref().is_some_and(|value| splits(&mount.kind, key, value)))
    {
        return Err(Error::new(format!("the option {key} of the {} has a comma, at which mount(2) would end it", mount.kind))
            .at(format!("{at}.options"))
            .hint("mount(2) alone takes options of more than 255 bytes, and the root; shorter paths, or names without commas"));
    }
    let options = parsed.data.iter().map(|(key, value)| value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}")));
    // A label may have commas.
    let label = label(mount, parsed, common).map(|label| format!("context=\"{label}\""));
    let data = words.chain(options).chain(label).collect::<Vec<_>>().join(",");
    if data.len() >= PAGE {
        return Err(Error::new(format!("the options of the {} take {} bytes, more than a page", mount.kind, data.len()))
            .at(format!("{at}.options"))
            .hint("fewer layers, or shorter paths to them"));
    }
    cstring(&data, at)
}

/// Whether mount(2) would take `text`, the key or the value of an option, for the end of one and the
/// begin of another: it ends one at each comma, but for those in the quotes of an SELinux label and,
/// for an overlay, those after a backslash.
fn splits(kind: &str, key: &str, text: &str) -> bool {
    match kind {
        _ if unquoted(key, text) != text => false,
        "overlay" => text.replace(r"\\", "").replace(r"\,", "").contains(','),
        _ => text.contains(','),
    }
}

/// The SELinux label in an option (mount(8), "context"), without the quotes that it needs where mount(2) takes it.
fn unquoted<'a>(key: &str, value: &'a str) -> &'a str {
    let label = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    label.filter(|_| key.ends_with("context")).unwrap_or(value)
}

/// The parameter by which a whole new file system has an SELinux label.
fn context(label: &str) -> Result<(CString, Option<CString>)> {
    Ok((c"context".into(), Some(cstring(label, At::field("linux.mountLabel"))?)))
}

/// The SELinux label of a new file system: `linux.mountLabel`, unless it has one of its own. The policy labels the files of
/// some kinds itself, and the kernel refuses a label for the whole.
fn label<'a>(mount: &Mount, parsed: &MountOptions, common: &Common<'a>) -> Option<&'a str> {
    let by_policy = ["proc", "sysfs", "cgroup", "cgroup2"].contains(&mount.kind.as_str());
    let own = parsed.data.iter().any(|(key, _)| key.ends_with("context"));
    (!common.label.is_empty() && !by_policy && !own).then_some(common.label)
}

/// The maps of an idmapped mount: its own, else those of the container's user namespace (config.md, "idmap"). Mounts with
/// the same maps share one namespace.
fn id_map(plan: &mut Plan, mount: &Mount, parsed: &MountOptions, common: &Common<'_>, at: At) -> Result<Option<(usize, bool)>> {
    let own = !mount.uid_mappings.is_empty();
    if parsed.idmap.is_none() && !own {
        return Ok(None);
    }
    if !common.facts.privileged {
        return Err(Error::new("an idmapped mount needs CAP_SYS_ADMIN over the file system, which an ordinary user does not have")
            .at(at.to_string()));
    }
    let map = match (&plan.maps, plan.joins.iter().position(|join| join.kind == ns::USER)) {
        _ if own => IdMap::New(mount.uid_mappings.clone(), mount.gid_mappings.clone()),
        (Some((uids, gids)), _) => IdMap::New(uids.clone(), gids.clone()),
        (None, Some(join)) => IdMap::Joined(join),
        (None, None) => return Err(Error::new("an idmapped mount needs mappings, its own or a user namespace's").at(at.to_string())),
    };
    let number = plan.id_maps.iter().position(|known| *known == map).unwrap_or_else(|| {
        plan.id_maps.push(map);
        plan.id_maps.len() - 1
    });
    Ok(Some((number, parsed.idmap.unwrap_or(false))))
}

fn fs(mount: &Mount, parsed: &MountOptions, common: &Common<'_>, at: At) -> Result<Fs> {
    let mut params = Vec::with_capacity(parsed.data.len());
    for (key, value) in &parsed.data {
        params.push((cstring(key, at)?, value.as_deref().map(|value| cstring(unquoted(key, value), at)).transpose()?));
    }
    for (_, word) in
        SUPERBLOCK.iter().filter(|(flag, word)| parsed.superblock & flag != 0 && !(*word == "ro" && VIRTUAL.contains(&mount.kind.as_str())))
    {
        params.push((cstring(word, at)?, None));
    }
    let mut root_label = None;
    match label(mount, parsed, common) {
        // Each ipc namespace has made its own already, without.
        Some(label) if mount.kind == "mqueue" => root_label = Some(cstring(label, At::field("linux.mountLabel"))?),
        label => params.extend(label.map(context).transpose()?),
    }
    let source = if mount.source.is_empty() { &mount.kind } else { &mount.source };
    let late = if mount.kind == "tmpfs" { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let attr = (parsed.attr.set | parsed.rec_attr.set) & !late;
    let long = source.len() > PARAMETER || parsed.data.iter().any(|(_, value)| value.as_ref().is_some_and(|value| value.len() > PARAMETER));
    let data = long.then(|| page(mount, parsed, common, at)).transpose()?;
    let (kind, source) = (cstring(&mount.kind, at)?, cstring(source, at)?);
    Ok(Fs { kind, source, params, data, attr, copy_up: parsed.tmpcopyup, root_label })
}

/// A tmpfs of the spec becomes read-only when all is in it: devices in /dev, mount points, what was copied up.
pub(super) fn late_readonly(plan: &mut Plan, spec: &Spec) -> Result<()> {
    for (i, mount) in spec.mounts.iter().enumerate().filter(|(_, mount)| mount.kind == "tmpfs") {
        let (parsed, at) = (MountOptions::of(mount), At::entry("mounts", i));
        let own = !parsed.bind && !parsed.remount;
        if own && (parsed.attr.set | parsed.rec_attr.set) & libc::MOUNT_ATTR_RDONLY != 0 {
            let path = target(plan, mount, at)?.path;
            plan.ops.push(Op::SetAttr { path, attr: MountAttr::RDONLY, recursive: false, at });
        }
    }
    Ok(())
}

/// The destination from the root, cleaned lexically. One that begins with the path of the root file system is meant to be below
/// it, as in runc.
fn clean(plan: &Plan, mount: &Mount) -> PathBuf {
    let mut clean = PathBuf::new();
    let destination = Path::new(&mount.destination);
    let rootfs = Path::new(OsStr::from_bytes(plan.rootfs.as_bytes()));
    for component in destination.strip_prefix(rootfs).unwrap_or(destination).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

/// Where a mount goes and what may be there; links are the child's to resolve.
fn target(plan: &Plan, mount: &Mount, at: At) -> Result<Target> {
    let clean = clean(plan, mount);
    let path = clean.to_string_lossy();
    let rule = if path == "proc" {
        Rule::ProcRoot
    } else if mount.kind == "proc" || mount.kind == "sysfs" || path == "dev" {
        Rule::RealDirectory
    } else if PROC_FILES.contains(&path.as_ref()) {
        Rule::OnProc
    } else if clean.starts_with("proc") {
        return Err(Error::new(format!("mounting over {} is refused", mount.destination))
            .at(at.to_string())
            .hint("a container must not fake what /proc says"));
    } else {
        Rule::Plain
    };
    Ok(Target { path: below_root(&path, at)?, rule })
}

/// On v2 the hierarchy itself, seen from the container's cgroup namespace if it has one. On v1 a tmpfs with a bind of
/// the container's directory in each hierarchy.
fn cgroup(
    plan: &mut Plan,
    ops: &mut Vec<Op>,
    mount: &Mount,
    parsed: &MountOptions,
    to: &Target,
    at: At,
    common: &Common<'_>,
) -> Result<()> {
    let attr = MountAttr { attr_set: parsed.attr.set | parsed.rec_attr.set, ..MountAttr::default() };
    let view: &CgroupView = &common.facts.cgroup;
    let own_namespace = plan.ops.iter().any(|op| matches!(op, Op::Unshare(kinds) if kinds & ns::CGROUP != 0));
    let attr_recursive = if common.early { MountAttr::propagation(MS_PRIVATE) } else { MountAttr::default() };
    let tree = |source: &Path| -> Result<Tree> {
        let source = cstring(&source.to_string_lossy(), at)?;
        Ok(Tree { source, directory: true, attr, attr_recursive, at, ..Tree::default() })
    };
    if view.v2 {
        if own_namespace {
            let fallback = view.mounts.first().map(|(_, path)| cstring(&path.to_string_lossy(), at)).transpose()?;
            let fs = Fs { kind: c"cgroup2".into(), ..fs(mount, parsed, common, at)? };
            ops.push(Op::Mount { fs: Box::new(fs), to: to.clone(), fallback, at });
        } else {
            // Mounting it from the initial cgroup namespace would wait for an RCU grace period; a clone does not.
            let mut tree = tree(Path::new("/sys/fs/cgroup"))?;
            if common.facts.uid != 0 {
                // Part of the host's hierarchy is the user's own, and so the container's root's (CVE-2023-25809).
                tree.attr.attr_set |= libc::MOUNT_ATTR_RDONLY;
            }
            let tree = open(plan, ops, tree);
            ops.push(Op::Attach { tree, to: to.clone() });
        }
        return Ok(());
    }
    let mut params = vec![(c"mode".into(), Some(c"755".into()))];
    params.extend((!common.label.is_empty()).then(|| context(common.label)).transpose()?);
    let attr_set = attr.attr_set & !libc::MOUNT_ATTR_RDONLY;
    let tmpfs = Fs { kind: c"tmpfs".into(), source: c"tmpfs".into(), params, attr: attr_set, ..Fs::default() };
    ops.push(Op::Mount { fs: Box::new(tmpfs), to: to.clone(), fallback: None, at });
    let below = |name: &str| -> Result<CString> { cstring(&format!("{}/{name}", to.path.to_string_lossy()), at) };
    let others = view.others.iter().map(|other| (other, libc::MOUNT_ATTR_RDONLY));
    for ((name, source), more) in view.mounts.iter().map(|own| (own, 0)).chain(others) {
        let mut tree = tree(source)?;
        tree.attr.attr_set |= more;
        let tree = open(plan, ops, tree);
        ops.push(Op::Attach { tree, to: Target { path: below(name)?, rule: Rule::Plain } });
    }
    for (link, directory) in &view.links {
        ops.push(Op::Symlink { target: cstring(directory, at)?, path: below(link)? });
    }
    if attr.attr_set & libc::MOUNT_ATTR_RDONLY != 0 {
        ops.push(Op::SetAttr { path: to.path.clone(), attr: MountAttr::RDONLY, recursive: false, at });
    }
    Ok(())
}
