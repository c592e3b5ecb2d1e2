//! Volumes and other mounts of the user: `-v`, `--mount`, `--tmpfs`, and the named volumes below `Dirs::volumes`.
//!
//! [`MountPoint`] is one of them as the container's record keeps it; [`MountPoint::spec`] is what the runtime is told. A container's
//! record that names a volume must be written before [`Volumes::provide`] is called for it, and so be seen by `remove` and `prune`, which
//! ask the caller for users: a volume cannot go between its choice and its use.

mod copy_up;
mod flags;
mod store;

pub use copy_up::copy_up;
pub use flags::{clean, size};
pub use store::{Volume, Volumes};

use crate::spec::Mount;
use crate::sys::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// What is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A file or directory of the host.
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
}

/// One mount that the user asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MountPoint {
    /// What is mounted.
    pub kind: Kind,
    /// The volume's name; an anonymous one has its random name from the start.
    #[serde(default)]
    pub name: String,
    /// Nobody named the volume.
    #[serde(default)]
    pub anonymous: bool,
    /// The path on the host; of a volume, once it is provided.
    #[serde(default)]
    pub source: String,
    /// The absolute path in the container, without `.` and `..`.
    pub destination: String,
    /// Nothing can be written, also not to what is mounted below the source.
    #[serde(default)]
    pub read_only: bool,
    /// How mounts below it propagate, as in mount_namespaces(7); empty is `rprivate`.
    #[serde(default)]
    pub propagation: String,
    /// More options for the runtime: those of a tmpfs, or `bind` where mounts below the source are not to come along.
    #[serde(default)]
    pub options: Vec<String>,
    /// A new volume stays empty.
    #[serde(default)]
    pub no_copy: bool,
    /// A source that is missing is made, as `-v` does.
    #[serde(default)]
    pub make_source: bool,
    /// `z` or `Z`: the label of SELinux that the source should get.
    #[serde(default)]
    pub relabel: String,
    /// For a volume that has yet to be made: labels (`volume-label`) and options (`volume-opt`).
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// See `labels`.
    #[serde(default)]
    pub volume_options: BTreeMap<String, String>,
    /// `volume-subpath`: the part of the volume that is mounted.
    #[serde(default)]
    pub subpath: String,
}

impl MountPoint {
    /// Sees to it that a bind's source is there. Volumes are for [`Volumes::provide`].
    pub fn prepare(&self) -> Result<()> {
        // Present where SELinux is enabled (selinux(8)).
        if !self.relabel.is_empty() && Path::new("/sys/fs/selinux/enforce").exists() {
            let words = format!("the source of {} cannot be relabelled for SELinux", self.destination);
            return Err(Error::new(words).hint(format!("leave the option {} out and set the label with chcon", self.relabel)));
        }
        if self.kind != Kind::Bind || fs::exists(&self.source).context(|| format!("look at {}", self.source))? {
            return Ok(());
        }
        if !self.make_source {
            let words = format!("invalid mount config for type \"bind\": bind source path does not exist: {}", self.source);
            return Err(Error::new(words));
        }
        DirBuilder::new().recursive(true).mode(0o755).create(&self.source).context(|| format!("make the directory {}", self.source))
    }

    /// The entry of `mounts` in `config.json`.
    pub fn spec(&self) -> Mount {
        let propagation = if self.propagation.is_empty() { "rprivate" } else { &self.propagation };
        let (kind, source) = if self.kind == Kind::Tmpfs { ("tmpfs", "tmpfs") } else { ("bind", self.source.as_str()) };
        let mut options = self.options.clone();
        if self.kind != Kind::Tmpfs && !options.iter().any(|option| option == "bind") {
            options.insert(0, "rbind".into());
        }
        let partly = options.iter().any(|option| option == "ro");
        options.extend(match (self.read_only, self.kind) {
            _ if partly => None,
            (true, Kind::Tmpfs) => Some("ro".into()),
            (true, _) => Some("rro".into()),
            (false, Kind::Tmpfs) => Some("rw".into()),
            // As docker: all flags are the source's, where none is named.
            (false, _) => None,
        });
        options.push(propagation.into());
        Mount { destination: self.destination.clone(), kind: kind.into(), source: source.into(), options, ..Mount::default() }
    }

    /// As `docker ps` and `inspect` show it: a volume's name, or the path on the host.
    pub fn shown(&self) -> &str {
        if self.kind == Kind::Volume { &self.name } else { &self.source }
    }
}

/// The order in which mounts must be made, outer ones first; two at one place are refused.
pub fn in_order(mut mounts: Vec<MountPoint>) -> Result<Vec<MountPoint>> {
    mounts.sort_by_key(|mount| mount.destination.matches('/').count());
    for (i, mount) in mounts.iter().enumerate() {
        if mounts[..i].iter().any(|other| other.destination == mount.destination) {
            return Err(Error::new(format!("duplicate mount point: {}", mount.destination)));
        }
    }
    Ok(mounts)
}
