//! The directory of all containers, and that of one.

use super::tree::Overlay;
use super::{Layers, Record, State, Status, journal};
use crate::cgroup::Manager;
use crate::lifecycle::Runtime;
use crate::mydocker::files::{self, Dirs, Keep, Lock, make_dir, read_json, tree, write, write_json};
use crate::mydocker::userns::free_ids;
use crate::store::{ContainerId, ProcessId, Root};
use crate::sys::{Context, Error, Kind, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// All containers of an installation.
#[derive(Clone, Debug)]
pub struct Containers {
    dirs: Dirs,
    boot: String,
}

impl Containers {
    /// Those of `dirs`.
    pub fn new(dirs: &Dirs) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { dirs: dirs.clone(), boot: boot.trim().to_owned() }
    }

    /// Where everything is.
    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    pub(super) fn names(&self) -> PathBuf {
        self.dirs.data.join("names")
    }

    /// One command at a time gives and takes names.
    pub(super) fn lock(&self) -> Result<Lock> {
        make_dir(&self.names())?;
        Lock::dir(&self.names())
    }

    /// Makes a container's directory, whole or not at all, and claims its name.
    pub fn create(&self, record: &Record) -> Result<Container> {
        let container = self.container(&record.id);
        let parent = self.dirs.containers();
        make_dir(&parent)?;
        let _lock = self.lock()?;
        let mut record = record.clone();
        if record.settings.userns == "auto" {
            let others = self.list()?.into_iter().filter_map(|other| other.record().ok()?.first_id);
            record.first_id = Some(free_ids(&others.collect::<Vec<_>>())?);
        }
        let record = &record;
        self.claim(&record.name, &record.id, keep(record))?;
        // A leading dot: no id begins with one, so nobody lists it before it is complete.
        let temporary = parent.join(format!(".{}", record.id));
        let made = ["upper", "work", "rootfs"]
            .iter()
            .try_for_each(|name| make_dir(&temporary.join(name)))
            .and_then(|()| write_json(&temporary.join("container.json"), record, keep(record)))
            // The root directory of the container: what its upper layer says counts.
            .and_then(|()| open_to_all(&temporary.join("upper")))
            .and_then(|()| fs::rename(&temporary, container.dir()).context(|| format!("make {}", container.dir().display())));
        match made {
            Ok(()) => {
                journal::tell(&self.dirs, record, "create", &[]);
                Ok(container)
            }
            Err(error) => {
                let _ = tree::remove_path(&temporary);
                let _ = fs::remove_file(self.names().join(&record.name));
                Err(error)
            }
        }
    }

    /// Takes a name. One whose container is gone or has another name is free: its removal or rename was killed.
    fn claim(&self, name: &str, id: &str, keep: Keep) -> Result<()> {
        let path = self.names().join(name);
        if let Ok(holder) = fs::read_to_string(&path)
            && holder != id
            && self.container(&holder).record().is_ok_and(|record| record.name == name)
        {
            let short = &holder[..12.min(holder.len())];
            return Err(Error::new(format!("the container name \"/{name}\" is already in use by container \"{short}\""))
                .hint("remove or rename that container to be able to reuse the name"));
        }
        write(&path, id.as_bytes(), keep)
    }

    /// `mydocker rename`.
    pub fn rename(&self, container: &Container, name: &str) -> Result<()> {
        // In the order of a removal, which holds the container when it frees the name.
        let _own = container.lock()?;
        let _lock = self.lock()?;
        let mut record = container.record()?;
        if record.name == name {
            return Err(Error::new("renaming a container with the same name as its current name"));
        }
        self.claim(name, &record.id, keep(&record))?;
        let old = std::mem::replace(&mut record.name, name.to_owned());
        container.save_record(&record)?;
        fs::remove_file(self.names().join(&old)).context(|| format!("free the name {old}"))?;
        journal::tell(&self.dirs, &record, "rename", &[("oldName", &format!("/{old}"))]);
        Ok(())
    }

    /// By name, by id, or by the start of an id that is no other's.
    pub fn find(&self, wanted: &str) -> Result<Container> {
        let missing = || Error::new(format!("no such container: {wanted}")).kind(Kind::NoContainer);
        let word = wanted.strip_prefix('/').unwrap_or(wanted);
        if word.is_empty() || word.starts_with('.') || word.contains('/') {
            return Err(missing());
        }
        if let Ok(id) = fs::read_to_string(self.names().join(word)) {
            let container = self.container(&id);
            if container.record().is_ok_and(|record| record.name == word) {
                return Ok(container);
            }
        }
        let mut ids = self.ids()?.into_iter().filter(|id| id.starts_with(word));
        match (ids.next(), ids.next()) {
            (Some(id), None) => Ok(self.container(&id)),
            (Some(_), Some(_)) => Err(Error::new(format!("multiple IDs found with provided prefix: {wanted}"))),
            _ => Err(missing()),
        }
    }

    /// All, in no order.
    pub fn list(&self) -> Result<Vec<Container>> {
        Ok(self.ids()?.iter().map(|id| self.container(id)).collect())
    }

    fn ids(&self) -> Result<Vec<String>> {
        let dir = self.dirs.containers();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.context(|| format!("read {}", dir.display()))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter(|name| !name.starts_with('.')).collect())
    }

    pub(super) fn container(&self, id: &str) -> Container {
        Container { id: id.to_owned(), dir: self.dirs.containers().join(id), dirs: self.dirs.clone(), boot: self.boot.clone() }
    }
}

/// A container that is to be removed when it ends is not missed after a reboot.
fn keep(record: &Record) -> Keep {
    if record.settings.auto_remove { Keep::UntilReboot } else { Keep::Always }
}

fn open_to_all(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).context(|| format!("set the mode of {}", path.display()))
}

/// One container's directory.
#[derive(Clone, Debug)]
pub struct Container {
    id: String,
    dir: PathBuf,
    dirs: Dirs,
    boot: String,
}

impl Container {
    /// 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where its record, log and writable layer are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where everything is.
    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// Its sockets, gone after a reboot.
    pub fn run_dir(&self) -> PathBuf {
        self.dirs.run.join("containers").join(&self.id)
    }

    /// The boot we are in.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// The log file.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log.json")
    }

    /// The writable layer.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    /// Its file system, without a mount of it.
    pub fn layers(&self, record: &Record) -> Layers {
        let lowers = record.layers.iter().map(|layer| self.dirs.layers().join(layer));
        Layers::new(std::iter::once(self.upper()).chain(lowers).collect())
    }

    /// The root of the image's file system, read-only, in a mount that is attached nowhere.
    pub fn image_root(&self, record: &Record) -> Result<OwnedFd> {
        let what = || format!("open the file system of the image {}", record.image);
        let layers = self.dirs.layers();
        let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        // overlayfs wants two directories at least.
        match record.layers.as_slice() {
            [] => return open(&self.dir.join("rootfs")).context(what),
            [only] => return open(&layers.join(only)).context(what),
            _ => {}
        }
        // Names alone, as Overlay wants them.
        let before = std::env::current_dir().context(what)?;
        std::env::set_current_dir(&layers).context(what)?;
        let mounted = Overlay { lowers: &record.layers, upper: None }.mount();
        std::env::set_current_dir(before).context(what)?;
        mounted.context(what)
    }

    /// The runtime's name of it.
    pub fn runtime_id(&self) -> Result<ContainerId> {
        ContainerId::new(&self.id)
    }

    /// The runtime that keeps its state for this installation.
    pub fn runtime(&self) -> Result<Runtime> {
        Ok(Runtime { root: Root::new(Some(&self.dirs.run.join("keel")))?, manager: Manager::Cgroupfs })
    }

    /// Whether it has its record: a loss of power may take that of a container with `--rm`.
    pub fn is_whole(&self) -> bool {
        fs::metadata(self.dir.join("container.json")).is_ok_and(|meta| meta.len() > 0)
    }

    pub(super) fn exists(&self) -> bool {
        self.id.len() == 64 && self.dir.join("container.json").exists()
    }

    /// Held while record or state are changed.
    pub fn lock(&self) -> Result<Lock> {
        let lock = Lock::dir(&self.dir);
        // Removed before we looked, or while we waited.
        if self.exists() { lock } else { Err(self.missing()) }
    }

    fn missing(&self) -> Error {
        Error::new(format!("no such container: {}", self.id)).kind(Kind::NoContainer)
    }

    /// What it is.
    pub fn record(&self) -> Result<Record> {
        read_json(&self.dir.join("container.json"))?.ok_or_else(|| self.missing())
    }

    /// Writes the record; the caller has the lock.
    pub fn save_record(&self, record: &Record) -> Result<()> {
        write_json(&self.dir.join("container.json"), record, keep(record))
    }

    /// What was written down last.
    pub fn written_state(&self) -> Result<State> {
        let path = self.dir.join("state.json");
        read_json(&path).map(Option::unwrap_or_default).or_else(|error| match fs::metadata(&path) {
            // A loss of power, for it is written without a flush of the disk: there is one only if it was started.
            Ok(meta) if meta.len() == 0 => Ok(State { status: Status::Running, ..State::default() }),
            _ => Err(error),
        })
    }

    /// How it is, truthfully: what the state file says of processes that live no more is corrected.
    pub fn state(&self) -> Result<State> {
        let mut state = self.written_state()?;
        let busy = state.status.is_up() || state.status == Status::Restarting;
        if busy && !self.monitored(&state) && self.process(&state).is_none() {
            let written = fs::metadata(self.dir.join("state.json")).and_then(|meta| meta.modified()).ok();
            state.finished = written.map(files::rfc3339).unwrap_or_default();
            (state.status, state.exit_code) = (Status::Exited, 255);
            state.error = super::state::UNSEEN.into();
            state.disconnect();
            if let Some(health) = &mut state.health {
                health.status = "unhealthy".into();
            }
        }
        Ok(state)
    }

    /// Whether a monitor stands by it.
    pub fn monitored(&self, state: &State) -> bool {
        self.alive(state, state.monitor).is_some()
    }

    /// Its first process, if that lives.
    pub fn process(&self, state: &State) -> Option<rustix::fd::OwnedFd> {
        self.alive(state, state.process)
    }

    fn alive(&self, state: &State, process: Option<ProcessId>) -> Option<rustix::fd::OwnedFd> {
        if state.boot == self.boot { process.and_then(ProcessId::open) } else { None }
    }

    /// Changes the state under the lock; gives back what it is now.
    pub fn change(&self, change: impl FnOnce(&mut State)) -> Result<State> {
        self.try_change(|state| {
            change(state);
            Ok(())
        })
    }

    /// [`change`](Self::change) that may refuse, and then changes nothing.
    pub fn try_change(&self, change: impl FnOnce(&mut State) -> Result<()>) -> Result<State> {
        let _lock = self.lock()?;
        self.locked_change(change)
    }

    fn locked_change(&self, change: impl FnOnce(&mut State) -> Result<()>) -> Result<State> {
        let mut state = self.state()?;
        change(&mut state)?;
        write_json(&self.dir.join("state.json"), &state, Keep::UntilReboot)?;
        Ok(state)
    }

    /// Marks it as being removed, unless it is up. Until the lock is dropped nobody starts it or removes it too.
    pub fn retire(&self) -> Result<Lock> {
        let lock = self.lock()?;
        self.locked_change(|state| {
            if state.status.is_up() || self.monitored(state) {
                return Err(Error::new(format!("cannot remove container {}: it was started meanwhile", self.id)).kind(Kind::WrongState));
            }
            state.status = Status::Removing;
            Ok(())
        })?;
        Ok(lock)
    }

    /// Removes the directory and the name. First the directory gets a name that nobody lists: however much of it is
    /// removed before a crash, no half container is ever seen. `gone` is called then, as files may take long; who
    /// has the lock of [`Container::retire`] keeps it to the end, as the sign that they are not left behind.
    pub fn remove(&self, name: &str, gone: impl FnOnce()) -> Result<()> {
        let containers = Containers::new(&self.dirs);
        let lock = containers.lock()?;
        let hidden = self.dirs.containers().join(format!(".{}", self.id));
        match fs::rename(&self.dir, &hidden) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other.context(|| format!("remove {}", self.dir.display()))?,
        }
        let path = containers.names().join(name);
        if fs::read_to_string(&path).is_ok_and(|holder| holder == self.id) {
            fs::remove_file(&path).context(|| format!("free the name {name}"))?;
        }
        drop(lock);
        gone();
        for dir in [hidden, self.run_dir()] {
            match tree::remove_path(&dir) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other.context(|| format!("remove {}", dir.display()))?,
            }
        }
        Ok(())
    }
}
