//! Room `cgroup`: where the container's processes are counted, limited, frozen and found again.
//!
//! [`Layout`] is what the host offers, [`Cgroup`] the container's place in it (kept in the container's record),
//! [`Entry`] the way in for one process. Limits come as data from [`crate::plan::limits`], device rules as [`Devices`].
//!
//! With [`Manager::Systemd`] the directory is a scope that systemd makes (module `systemd`); everything else is the same.
//!
//! A process is never moved by writing its pid into `cgroup.procs`: that waits for an RCU grace period (7-11 ms) and
//! stalls every fork of the machine meanwhile. It is cloned into its cgroup (v2) or, still single-threaded, writes
//! `0` into the `tasks` files that were opened for it (v1).

mod create;
mod devices;
mod enter;
mod file;
mod freeze;
mod kill;
mod layout;
mod limits;
mod oom;
mod remove;
mod resctrl;
mod stat;
mod stat_v1;
mod stat_v2;
mod systemd;
mod update;

pub use crate::plan::limits::Version;
pub use devices::Devices;
pub use enter::Entry;
pub use layout::{Hierarchy, Layout};
pub use oom::OomWatch;
pub use resctrl::Resctrl;
pub use stat::*;
pub use update::Change;

use crate::sys::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use systemd::Unit;

/// Who makes and removes the container's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manager {
    /// We do, in the file system.
    #[default]
    Cgroupfs,
    /// systemd, over D-Bus: the container is a scope (`--systemd-cgroup`).
    Systemd,
    /// Nobody: the container stays in the cgroup of its creator (crun's `--cgroup-manager=disabled`).
    Disabled,
}

/// The container's cgroup in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Tree {
    /// `memory`; `cpu` and `cpuacct` where they are mounted together; `name=systemd`; none for the unified hierarchy.
    controllers: Vec<String>,
    /// `/sys/fs/cgroup/memory`
    mount: String,
    /// `/keel/x`, below the mount point.
    path: String,
}

impl Tree {
    fn dir(&self) -> String {
        format!("{}{}", self.mount, self.path)
    }

    fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// A container's place in every hierarchy. Serialisable: it is part of the container's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    version: Version,
    /// Whether `linux.cgroupsPath` asked for this place; then a failure to have it is never tolerated.
    explicit: bool,
    trees: Vec<Tree>,
    /// The scope, if systemd makes the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
}

/// What a hierarchy looks like inside the container, for mounts of type `cgroup`: material, nothing is mounted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount {
    /// The directory below the mount's destination: `memory`, `cpu,cpuacct`, `systemd`; empty on v2, where the
    /// destination itself is it.
    pub name: String,
    /// The container's directory on the host.
    pub source: String,
    /// Links to make beside it, name and target: `cpu` to `cpu,cpuacct`.
    pub links: Vec<(String, String)>,
}

impl CgroupMount {
    fn new(version: Version, controllers: &[String], mount: &str, path: &str) -> Self {
        let name = match version {
            Version::V1 => mount.rsplit('/').next().unwrap_or_default().to_string(),
            Version::V2 => String::new(),
        };
        let several = if controllers.len() > 1 { controllers } else { &[] };
        let links = several.iter().filter(|link| **link != name).map(|link| (link.clone(), name.clone())).collect();
        Self { source: format!("{mount}{path}"), links, name }
    }
}

/// Where the device rules of a scope are on v1: systemd allows every device in the scope's own directory whenever it looks at
/// the unit again, and leaves alone what is below it (docs/decisions/0012-systemd.md).
const BELOW_SYSTEMD: &str = "/container";

/// The path as runc's `CleanPath` leaves it: without `.`, `..` and empty parts, never above where it starts.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.iter().flat_map(|part| ["/", part]).collect()
}

impl Cgroup {
    /// Where the container belongs, by the rules of runc's cgroupfs driver. Nothing is touched.
    ///
    /// An absolute `cgroups_path` starts at the root of each hierarchy, a relative one at our own cgroup (v1) or
    /// at the parent of it (v2: a cgroup with processes can have no limited children). Empty is the relative path
    /// that is the container's id.
    pub fn locate(layout: &Layout, cgroups_path: &str, id: &str) -> Result<Self> {
        const AT: &str = "linux.cgroupsPath";
        layout.must_have_one()?;
        if cgroups_path.contains(['\0', '\n']) {
            return Err(Error::new(format!("cgroup path {cgroups_path:?} has a character that no cgroup's name may have")).at(AT));
        }
        let inner = clean(if cgroups_path.is_empty() { id } else { cgroups_path });
        if inner.is_empty() {
            return Err(Error::new(format!("cgroup path {cgroups_path:?} names no cgroup below the root")).at(AT));
        }
        let trees = layout.hierarchies.iter().map(|hierarchy| {
            let base = match (cgroups_path.starts_with('/'), layout.version) {
                (true, _) => String::new(),
                (false, Version::V1) => hierarchy.own(),
                (false, Version::V2) => hierarchy.own().rsplit_once('/').map_or_else(String::new, |(parent, _)| parent.to_string()),
            };
            Tree { controllers: hierarchy.controllers.clone(), mount: hierarchy.mount.clone(), path: format!("{base}{inner}") }
        });
        Ok(Self { version: layout.version, explicit: !cgroups_path.is_empty(), trees: trees.collect(), unit: None })
    }

    /// Where the container belongs as a scope of systemd: `cgroups_path` is `slice:prefix:name`, by default a scope
    /// `keel-ID.scope` in `system.slice`, or in `user.slice` of this user's own systemd. Annotations
    /// `org.systemd.property.NAME` become its properties. Nothing is touched; a user's systemd is asked where it is.
    pub fn locate_unit(layout: &Layout, cgroups_path: &str, id: &str, annotations: &BTreeMap<String, String>) -> Result<Self> {
        let (unit, path) = Unit::locate(cgroups_path, id, annotations, layout.version)?;
        layout.must_have_one()?;
        let tree = |hierarchy: &Hierarchy| {
            let mut tree = Tree { controllers: hierarchy.controllers.clone(), mount: hierarchy.mount.clone(), path: path.clone() };
            if tree.has("devices") {
                tree.path.push_str(BELOW_SYSTEMD);
            }
            tree
        };
        Ok(Self { version: layout.version, explicit: true, trees: layout.hierarchies.iter().map(tree).collect(), unit: Some(unit) })
    }

    /// No cgroup of its own: for [`Manager::Disabled`].
    pub fn none(layout: &Layout) -> Self {
        Self { version: layout.version, explicit: false, trees: Vec::new(), unit: None }
    }

    /// Whether the container has no cgroup of its own: the manager is disabled, or it is rootless and may not have one.
    pub fn is_none(&self) -> bool {
        self.trees.is_empty()
    }

    /// Which files express this cgroup's limits.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The directory that holds a controller's files (`memory`, `cpuset`, ..) for this container.
    pub fn dir(&self, controller: &str) -> Option<String> {
        self.tree(controller).map(Tree::dir)
    }

    /// Hierarchy and path of each: (`memory`, `/keel/x`), as `state` and `events` show them; empty name on v2.
    pub fn paths(&self) -> impl Iterator<Item = (String, String)> {
        self.trees.iter().map(|tree| (tree.controllers.join(","), tree.dir()))
    }

    /// What the container's mounts of type `cgroup` and `cgroup2` consist of.
    pub fn mounts(&self) -> Vec<CgroupMount> {
        self.trees.iter().map(|tree| CgroupMount::new(self.version, &tree.controllers, &tree.mount, &tree.path)).collect()
    }

    /// The v1 hierarchies in which the container has no cgroup of its own: it stays in that of its
    /// creator, and may look at it.
    pub fn others(&self, layout: &Layout) -> Vec<CgroupMount> {
        let own = |hierarchy: &&Hierarchy| self.trees.iter().any(|tree| tree.mount == hierarchy.mount);
        let others = layout.hierarchies.iter().filter(|_| self.version == Version::V1).filter(|hierarchy| !own(hierarchy));
        others.map(|other| CgroupMount::new(self.version, &other.controllers, &other.mount, &other.own())).collect()
    }

    fn tree(&self, controller: &str) -> Option<&Tree> {
        match self.version {
            Version::V1 => self.trees.iter().find(|tree| tree.has(controller)),
            Version::V2 => self.trees.first(),
        }
    }

    /// The tree that is made of cgroup2: the only one on v2, a companion without controllers on a hybrid host.
    fn unified(&self) -> Option<&Tree> {
        self.trees.iter().find(|tree| tree.is_unified())
    }
}
