//! The directory of all containers' state: where it is, and whether it can be trusted.

use super::ContainerId;
use super::container::{Container, missing};
use crate::sys::{Context, Error, Kind, Result, in_user_namespace};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, mkdirat, open, openat, statat, unlinkat};
use rustix::io::Errno;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The directory that holds all containers: `--root`.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// The given directory; else `$XDG_RUNTIME_DIR/keel` for an ordinary user, `/run/keel` for
    /// root. Who is root in a user namespace only (rootless podman) is an ordinary user, unless his
    /// name is root, as for runc.
    pub fn new(given: Option<&Path>) -> Result<Self> {
        if let Some(path) = given {
            let path = std::path::absolute(path).context(|| format!("--root {}", path.display()))?;
            // Without a slash or dot at the end, which would follow a link.
            return Ok(Self(path.components().collect()));
        }
        let uid = rustix::process::geteuid().as_raw();
        let ordinary = || uid != 0 || std::env::var_os("USER").is_none_or(|user| user != "root") && in_user_namespace();
        match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(dir) if !dir.is_empty() && ordinary() => Ok(Self(Path::new(&dir).join("keel"))),
            _ if uid == 0 => Ok(Self("/run/keel".into())),
            _ => Err(Error::new("XDG_RUNTIME_DIR is not set").hint("an ordinary user needs it, or --root")),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Opens the directory, if it is there. Whoever may write in it decides what keel does as root:
    /// so it has to be ours or root's, and nobody else's to write. A link in its place would be
    /// followed to wherever its owner points it at that moment; links on the way (docker's
    /// /var/run) are the administrator's.
    fn directory(&self) -> Result<Option<OwnedFd>> {
        let what = || format!("open the state root {}", self.0.display());
        let directory = match open(&self.0, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.context(what)?,
        };
        let stat = fstat(&directory).context(what)?;
        let refused = |why: String| Err(Error::new(format!("the state root {} {why}", self.0.display())));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {}
            FileType::Symlink => return refused("is a symbolic link: give the directory that it leads to".into()),
            _ => return refused("is not a directory".into()),
        }
        if ![0, rustix::process::geteuid().as_raw()].contains(&stat.st_uid) {
            return refused(format!("belongs to user {}, who would decide what is done with containers", stat.st_uid));
        }
        if stat.st_mode & 0o022 != 0 {
            return refused(format!("may be written by others (mode {:04o}): chmod go-w", stat.st_mode & 0o7777));
        }
        Ok(Some(directory))
    }

    /// Makes the directory of a new container and locks it. The name is taken by mkdir(2): only one
    /// of two creates wins.
    pub fn create(&self, id: &ContainerId) -> Result<Container> {
        let what = || format!("make the state directory {}", self.0.join(id.as_str()).display());
        let parent = match self.directory()? {
            Some(directory) => directory,
            None => {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0).context(what)?;
                self.directory()?.ok_or_else(|| Error::new(what()).errno(Errno::NOENT))?
            }
        };
        match mkdirat(&parent, id.as_str(), Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => return Err(Error::new(format!("container with given ID already exists: {id}"))),
            other => other.context(what)?,
        }
        let locked = self.open_in(&parent, id).and_then(|container| container.lock().map(|()| container));
        // Nobody else knows the directory yet: a create that failed leaves none.
        locked.inspect_err(|_| {
            let _ = unlinkat(&parent, id.as_str(), AtFlags::REMOVEDIR);
        })
    }

    /// Opens the directory of an existing container, without locking it.
    pub fn open(&self, id: &ContainerId) -> Result<Container> {
        self.open_in(&self.directory()?.ok_or_else(|| missing(id))?, id)
    }

    fn open_in(&self, directory: &OwnedFd, id: &ContainerId) -> Result<Container> {
        let path = self.0.join(id.as_str());
        match openat(directory, id.as_str(), OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(dir) => Ok(Container::new(id, path, dir)),
            Err(Errno::NOENT) => Err(missing(id)),
            Err(errno) => Err(Error::new(format!("open the state directory {}", path.display())).errno(errno)),
        }
    }

    /// The ids of all containers, sorted. A missing root has none.
    pub fn list(&self) -> Result<Vec<ContainerId>> {
        self.directory()?.map_or_else(|| Ok(Vec::new()), |directory| self.list_in(&directory))
    }

    /// All containers, sorted by id, each opened when its turn comes. One that is deleted meanwhile is left out.
    pub fn containers(&self) -> Result<impl Iterator<Item = Result<Container>>> {
        let directory = self.directory()?;
        let ids = directory.as_ref().map_or_else(|| Ok(Vec::new()), |directory| self.list_in(directory))?;
        let open = move |id| directory.as_ref().map(|directory| self.open_in(directory, &id));
        let there = |opened: &Result<Container>| !opened.as_ref().is_err_and(|error| error.get_kind() == Kind::NoContainer);
        Ok(ids.into_iter().filter_map(open).filter(there))
    }

    fn list_in(&self, directory: &OwnedFd) -> Result<Vec<ContainerId>> {
        let what = || format!("read the state root {}", self.0.display());
        let mut ids = Vec::new();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let entries = openat(directory, c".", flags, Mode::empty()).and_then(Dir::new);
        for entry in entries.context(what)? {
            let entry = entry.context(what)?;
            let is_directory = || match entry.file_type() {
                FileType::Unknown => statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
                kind => kind == FileType::Directory,
            };
            let id = entry.file_name().to_str().ok().and_then(|name| ContainerId::new(name).ok());
            ids.extend(id.filter(|_| is_directory()));
        }
        ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(ids)
    }
}
