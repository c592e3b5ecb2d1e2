//! What cgroup hierarchies the host has, learned from a few statfs(2) and one read of `/proc/self/cgroup`.
//!
//! mountinfo is not read: it has a line for every mount of every container. Everybody mounts below `/sys/fs/cgroup`.

use super::clean;
use super::file::{get, open_dir};
use crate::plan::limits::Version;
use crate::sys::{Context, Result};
use rustix::fs::{CWD, statfs};

const ROOT: &str = "/sys/fs/cgroup";
const CGROUP_SUPER_MAGIC: u64 = 0x0027_e0eb; // statfs(2)
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// `memory`; `cpu` and `cpuacct` together; `name=systemd`; none for the unified one.
    pub controllers: Vec<String>,
    /// Where it is mounted: `/sys/fs/cgroup/memory`.
    pub mount: String,
    /// Our own cgroup in it, as `/proc/self/cgroup` has it.
    pub path: String,
}

/// The hierarchies of the host. No hierarchy at all is a valid answer: nothing is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// [`Version::V2`] if there is but the unified one.
    pub version: Version,
    /// In the order of `/proc/self/cgroup`.
    pub hierarchies: Vec<Hierarchy>,
}

fn is(path: &str, magic: u64) -> bool {
    statfs(path).is_ok_and(|fs| fs.f_type as u64 == magic)
}

impl Layout {
    /// Looks at the host.
    pub fn detect() -> Result<Self> {
        let path = "/proc/self/cgroup";
        let text = get(CWD, path).context(|| format!("read {path}"))?;
        if is(ROOT, CGROUP2_SUPER_MAGIC) {
            let own = own_paths(&text).find(|(controllers, _)| controllers.is_empty());
            let path = own.map_or("/", |(_, path)| path).to_string();
            let hierarchies = vec![Hierarchy { controllers: Vec::new(), mount: ROOT.into(), path }];
            return Ok(Self { version: Version::V2, hierarchies });
        }
        let hierarchies = own_paths(&text).filter_map(|(controllers, path)| mounted(controllers, path)).collect();
        Ok(Self { version: Version::V1, hierarchies })
    }

    /// Whether v1 has a companion of cgroup2 beside it.
    pub fn is_hybrid(&self) -> bool {
        self.version == Version::V1 && self.hierarchies.iter().any(|hierarchy| hierarchy.controllers.is_empty())
    }
}

/// The lines `hierarchy-ID:controller-list:cgroup-path` of `/proc/PID/cgroup`, cgroups(7).
pub(super) fn own_paths(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'))
}

/// Finds where a v1 hierarchy, or the unified one beside them, is mounted. Checked by type, because an engine may
/// make plain directories for controllers that the host lacks (podman 4.3).
fn mounted(controllers: &str, path: &str) -> Option<Hierarchy> {
    let names: Vec<String> = controllers.split(',').filter(|name| !name.is_empty()).map(String::from).collect();
    let path = path.to_string();
    if names.is_empty() {
        let mount = format!("{ROOT}/unified");
        return is(&mount, CGROUP2_SUPER_MAGIC).then_some(Hierarchy { controllers: names, mount, path });
    }
    // Mounted together, the directory has the joined name, and each single name is a link to it.
    let joined = controllers.strip_prefix("name=").unwrap_or(controllers);
    let single = names.iter().map(String::as_str).filter(|name| *name != joined);
    let mount = std::iter::once(joined).chain(single).map(|name| format!("{ROOT}/{name}")).find(|dir| is(dir, CGROUP_SUPER_MAGIC))?;
    Some(Hierarchy { controllers: names, mount, path })
}

impl Hierarchy {
    /// Our own cgroup as a path below the mount, empty for its root.
    ///
    /// In a container without a cgroup namespace `/proc/self/cgroup` tells the host's path, but what is mounted
    /// begins at our own cgroup: then that path is not there, and the mount's root is where we are.
    pub(super) fn own(&self) -> String {
        let own = clean(&self.path);
        let seen = own.is_empty() || (!self.path.contains("..") && open_dir(&format!("{}{own}", self.mount)).is_ok());
        if seen { own } else { String::new() }
    }
}
