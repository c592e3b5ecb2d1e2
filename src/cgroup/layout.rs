//! What cgroup hierarchies the host has, learned from a few statfs(2) and one read of `/proc/self/cgroup`.
//!
//! mountinfo is not read: it has a line for every mount of every container. Everybody mounts below `/sys/fs/cgroup`.

use super::clean;
use super::file::{get, open_dir};
use crate::plan::limits::Version;
use crate::sys::{Context, Error, Result};
use rustix::fs::{CWD, statfs};
use rustix::io::Errno;

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

/// Only what is not there, or not for us to see, is not mounted: any other failure must not leave a container outside a
/// hierarchy that would have held it, the one with its device rules for instance.
fn is(path: &str, magic: u64) -> Result<bool> {
    match statfs(path) {
        Ok(fs) => Ok(fs.f_type as u64 == magic),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(Error::new(format!("ask for the file system at {path}")).errno(errno)),
    }
}

impl Layout {
    /// Looks at the host.
    pub fn detect() -> Result<Self> {
        let path = "/proc/self/cgroup";
        let text = get(CWD, path).context(|| format!("read {path}"))?;
        if is(ROOT, CGROUP2_SUPER_MAGIC)? {
            let own = own_paths(&text).find(|(controllers, _)| controllers.is_empty());
            let path = own.map_or("/", |(_, path)| path).to_string();
            let hierarchies = vec![Hierarchy { controllers: Vec::new(), mount: ROOT.into(), path }];
            return Ok(Self { version: Version::V2, hierarchies });
        }
        let hierarchies =
            own_paths(&text).filter_map(|(controllers, path)| mounted(controllers, path).transpose()).collect::<Result<_>>()?;
        Ok(Self { version: Version::V1, hierarchies })
    }

    pub(super) fn must_have_one(&self) -> Result<()> {
        match self.hierarchies.is_empty() {
            true => {
                Err(Error::new(format!("no cgroup filesystem is mounted at {ROOT}")).hint("mount one, or use --cgroup-manager=disabled"))
            }
            false => Ok(()),
        }
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
fn mounted(controllers: &str, path: &str) -> Result<Option<Hierarchy>> {
    let names: Vec<String> = controllers.split(',').filter(|name| !name.is_empty()).map(String::from).collect();
    let path = path.to_string();
    if names.is_empty() {
        let mount = format!("{ROOT}/unified");
        return Ok(is(&mount, CGROUP2_SUPER_MAGIC)?.then_some(Hierarchy { controllers: names, mount, path }));
    }
    // Mounted together, the directory has the joined name, and each single name is a link to it.
    let joined = controllers.strip_prefix("name=").unwrap_or(controllers);
    let single = names.iter().map(String::as_str).filter(|name| *name != joined);
    for mount in std::iter::once(joined).chain(single).map(|name| format!("{ROOT}/{name}")) {
        if is(&mount, CGROUP_SUPER_MAGIC)? {
            return Ok(Some(Hierarchy { controllers: names, mount, path }));
        }
    }
    Ok(None)
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
