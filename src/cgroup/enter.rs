//! The way into a cgroup for one new process.

use super::file::{get, open_dir, open_write, put};
use super::systemd::Holder;
use super::{Cgroup, Tree, Version, layout};
use crate::sys::{Context, Error, Result};
use rustix::fd::OwnedFd;
use rustix::fs::CWD;
use rustix::io::Errno;

/// What a new process needs to be in the container's cgroups from its first instruction on.
#[derive(Debug, Default)]
pub struct Entry {
    /// The cgroup2 directory, for clone3's `CLONE_INTO_CGROUP`.
    pub into: Option<OwnedFd>,
    /// The open `tasks` file of each v1 hierarchy: the child, while it has one thread, writes `0` into each.
    /// (`tasks` moves a single thread, so the kernel need not stop all forks, as it does for `cgroup.procs`.)
    pub tasks: Vec<OwnedFd>,
    /// What could not be limited, one sentence each.
    pub warnings: Vec<String>,
    /// Mount points of the hierarchies that are open.
    pub(super) open: Vec<String>,
    /// Directories that were made for it, outermost first.
    pub(super) made: Vec<String>,
    /// [`Cgroup::fill`] has done its part.
    pub(super) filled: bool,
    /// What keeps the scope alive until the container's process is in it.
    pub(super) holder: Option<Holder>,
    /// A limit that the holder and the container's process would not both fit in: directory, file, value.
    pub(super) late: Option<(String, &'static str, String)>,
}

impl Entry {
    /// To be called once the container's process is in.
    pub fn entered(&mut self) -> Result<()> {
        self.holder = None;
        match self.late.take() {
            Some((dir, file, value)) => {
                open_dir(&dir).and_then(|fd| put(fd, file, &value)).context(|| format!("set {file} to {value} in {dir}"))
            }
            None => Ok(()),
        }
    }

    /// What clone3 means when it refuses `CLONE_INTO_CGROUP` with this errno (clone(2) says little of it).
    pub fn refusal_hint(errno: Errno) -> Option<&'static str> {
        match errno {
            Errno::BUSY => Some("the cgroup has controllers enabled for its children, so it can hold no process itself"),
            Errno::OPNOTSUPP => Some("the cgroup is below a threaded one and not threaded itself, so it can hold no process (cgroups(7))"),
            Errno::ACCESS => Some("a process enters a cgroup only from below an ancestor of both whose cgroup.procs its user may write"),
            Errno::AGAIN => Some("a pids limit or RLIMIT_NPROC is reached"),
            _ => None,
        }
    }
}

/// `exec --cgroup`: for all hierarchies, or only for those of the named controllers, a path below the container's.
struct Sub<'a> {
    controllers: Vec<&'a str>,
    path: &'a str,
}

impl<'a> Sub<'a> {
    /// `[CONTROLLER[,CONTROLLER...]:]PATH`
    fn parse(text: &'a str) -> Result<Self> {
        let (controllers, path) = text.split_once(':').map_or((Vec::new(), text), |(names, path)| (names.split(',').collect(), path));
        if path.split('/').any(|part| part == "..") {
            return Err(Error::new(format!("bad sub cgroup path: {path} is not a sub cgroup path")));
        }
        if path.contains(':') {
            return Err(Error::new(format!("bad sub cgroup path: {text}")));
        }
        Ok(Self { controllers, path: path.trim_matches('/') })
    }

    fn is_for(&self, tree: &Tree) -> bool {
        self.controllers.is_empty() || self.controllers.iter().any(|name| tree.has(name) || tree.has(&format!("name={name}")))
    }
}

impl Cgroup {
    /// The way into the existing cgroup, or into sub-cgroups of it that exist (`exec --cgroup`, each
    /// `[CONTROLLER,...:]PATH`).
    pub fn entry(&self, subs: &[String]) -> Result<Entry> {
        let subs = subs.iter().map(|text| Sub::parse(text)).collect::<Result<Vec<_>>>()?;
        for name in subs.iter().flat_map(|sub| &sub.controllers) {
            if self.version == Version::V2 {
                return Err(Error::new(format!("cgroup v2 has one path for all controllers, none for {name} alone")));
            }
            if !self.trees.iter().any(|tree| tree.has(name) || tree.has(&format!("name={name}"))) {
                return Err(Error::new(format!("the container has no cgroup of controller {name}")));
            }
        }
        if let Some(unit) = &self.unit {
            unit.come_closer()?;
        }
        let mut entry = Entry::default();
        for tree in &self.trees {
            let mut dir = tree.dir();
            if let Some(sub) = subs.iter().rfind(|sub| sub.is_for(tree)).filter(|sub| !sub.path.is_empty()) {
                dir = format!("{dir}/{}", sub.path);
            }
            entry.open(tree, &dir).context(|| format!("open the cgroup {dir}"))?;
        }
        Ok(entry)
    }

    /// The way into the cgroup in which the container's first process is now.
    ///
    /// On v2 a container that delegates (systemd inside) moves its processes into children and so makes its own cgroup
    /// an inner node, which no process may enter: clone3 says EBUSY or EOPNOTSUPP. runc's exec then does this too.
    pub fn entry_beside(&self, pid: i32) -> Result<Entry> {
        let mut entry = Entry::default();
        for tree in &self.trees {
            let dir = if tree.is_unified() { format!("{}{}", tree.mount, unified_path(pid)?) } else { tree.dir() };
            entry.open(tree, &dir).context(|| format!("open the cgroup {dir}"))?;
        }
        Ok(entry)
    }
}

/// Where a process is in the unified hierarchy, as seen from our cgroup namespace.
fn unified_path(pid: i32) -> Result<String> {
    let path = format!("/proc/{pid}/cgroup");
    let text = get(CWD, &path).context(|| format!("read {path}"))?;
    let found = layout::own_paths(&text).find(|(controllers, _)| controllers.is_empty()).map(|(_, path)| path.to_string());
    let found = found.filter(|path| !path.split('/').any(|part| part == ".."));
    found.ok_or_else(|| Error::new(format!("process {pid} is in no cgroup that can be seen from here")))
}

impl Entry {
    pub(super) fn open(&mut self, tree: &Tree, dir: &str) -> rustix::io::Result<()> {
        if tree.is_unified() {
            self.into = Some(open_dir(dir)?);
        } else {
            self.tasks.push(open_write(CWD, &format!("{dir}/tasks"))?);
        }
        self.open.push(tree.mount.clone());
        Ok(())
    }
}
