//! Strings of a caller's or an image's.

use crate::accepted;
use crate::container::{Layers, users};
use keel::cgroup::{Cgroup, Hierarchy, Layout, Version};
use keel::spec::options::MountOptions;
use keel::spec::{Mount, user as ids};
use std::collections::BTreeMap;

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// What `--user` means is what it says.
pub fn user(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Some((uid, gid)) = accepted(ids::parse(text)) else { return };
    let again = gid.map_or(format!("{uid}"), |gid| format!("{uid}:{gid}"));
    assert_eq!(again, text);
    assert!(uid != u32::MAX && gid != Some(u32::MAX));
}

/// The first line is who is looked for, the rest a passwd, and after an empty line a group.
pub fn passwd(data: &[u8]) {
    let Some((name, rest)) = text(data).and_then(|text| text.split_once('\n')) else { return };
    let (passwd, group) = rest.split_once("\n\n").unwrap_or((rest, ""));
    for line in passwd.as_bytes().split(|byte| *byte == b'\n') {
        if let Some(home) = ids::home(line, 1000) {
            assert!(!home.is_empty() && !home.contains(&b':'));
        }
    }
    let layers = Layers { passwd: passwd.into(), group: group.into() };
    let Some(user) = accepted(users::resolve(name, &[], &layers)) else { return };
    assert!(user.uid != u32::MAX && user.gid != u32::MAX);
    // A number is that user, whatever the image says (CVE-2024-40635, CVE-2026-46680).
    let wanted = name.split(':').next().unwrap_or_default();
    if let Ok((uid, None)) = ids::parse(wanted) {
        let named = passwd.lines().any(|line| line.split(':').next() == Some(wanted));
        assert!(named || user.uid == uid, "{name} became {}", user.uid);
    }
}

/// One option on each line: what they amount to is free of contradictions, and the same when they are said twice.
pub fn mount_options(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let mut mount = Mount { options: text.lines().map(str::to_owned).collect(), ..Mount::default() };
    let once = MountOptions::of(&mount);
    for attr in [once.attr, once.rec_attr] {
        assert_eq!(attr.set & attr.clear & !libc_atime(), 0, "set and cleared at once");
    }
    mount.options.extend(mount.options.clone());
    let twice = MountOptions::of(&mount);
    assert_eq!((once.bind, once.recursive, once.attr, once.superblock), (twice.bind, twice.recursive, twice.attr, twice.superblock));
}

/// `MOUNT_ATTR__ATIME`: one field, which mount_setattr(2) wants cleared where it is set.
const fn libc_atime() -> u64 {
    0x70
}

fn layout(version: Version) -> Layout {
    let hierarchy = |name: &str, mount: &str| Hierarchy {
        controllers: if name.is_empty() { Vec::new() } else { vec![name.into()] },
        mount: mount.into(),
        path: "/our/own".into(),
    };
    let hierarchies = match version {
        Version::V1 => vec![hierarchy("memory", "/sys/fs/cgroup/memory"), hierarchy("", "/sys/fs/cgroup/unified")],
        Version::V2 => vec![hierarchy("", "/sys/fs/cgroup")],
    };
    Layout { version, hierarchies }
}

/// No path leaves its hierarchy.
fn stays_below(cgroup: &Cgroup) {
    for (_, path) in cgroup.paths() {
        assert!(path.starts_with("/sys/fs/cgroup/"), "{path:?}");
        assert!(path.split('/').skip(1).all(|part| !["", ".", ".."].contains(&part)), "{path:?}");
    }
}

/// `linux.cgroupsPath`, by files and as a unit of systemd.
pub fn cgroup_path(data: &[u8]) {
    let Some(text) = text(data) else { return };
    for version in [Version::V1, Version::V2] {
        accepted(Cgroup::locate(&layout(version), text, "id")).iter().for_each(stays_below);
    }
    accepted(Cgroup::locate_unit(&layout(Version::V2), text, "id", &BTreeMap::new())).iter().for_each(stays_below);
}

/// `org.systemd.property.NAME` and its value in GVariant's text form: `NAME=VALUE` on each line.
pub fn annotations(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let annotations = pairs.map(|(name, value)| (format!("org.systemd.property.{name}"), value.to_owned())).collect();
    accepted(Cgroup::locate_unit(&layout(Version::V2), "", "id", &annotations));
}
