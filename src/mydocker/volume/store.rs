//! Volumes: a directory each, with the user's data in `_data` and what was said at its creation in `volume.json`.

use super::copy_up::copy_up;
use super::flags::volume_name;
use super::{Kind, MountPoint};
use crate::mydocker::files::{Dirs, Keep, Lock, make_dir, random, read_json, tree, write_json};
use crate::sys::{Context, Error, Result, rfc3339_now};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const DATA: &str = "_data";
const RECORD: &str = "volume.json";

/// One volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Unique on this host; 64 hexadecimal digits for an anonymous one.
    pub name: String,
    /// RFC 3339, UTC.
    pub created: String,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `-o`: none, or `type=none`, `o=bind` and `device=DIRECTORY`: the data is there.
    pub options: BTreeMap<String, String>,
    /// Nobody named it: `rm -v` and `prune` remove it.
    pub anonymous: bool,
    /// The image's content is being copied in; after a crash it is done again.
    #[serde(default)]
    filling: bool,
}

/// All volumes of one installation.
#[derive(Clone, Debug)]
pub struct Volumes {
    dir: PathBuf,
}

impl Volumes {
    /// Makes the directory if missing.
    pub fn open(dirs: &Dirs) -> Result<Self> {
        let dir = dirs.volumes();
        make_dir(&dir)?;
        Ok(Self { dir })
    }

    /// Makes a volume; one that exists with the same options is given back. An empty name makes an anonymous one.
    pub fn create(&self, name: &str, labels: &BTreeMap<String, String>, options: &BTreeMap<String, String>) -> Result<Volume> {
        let _lock = Lock::dir(&self.dir)?;
        match name {
            "" => self.add(&random(64), true, labels, options),
            name => self.add(name, false, labels, options),
        }
    }

    /// All of them, by name.
    pub fn list(&self) -> Result<Vec<Volume>> {
        let mut all = Vec::new();
        for name in self.entries()?.iter().filter(|name| !name.starts_with('.')) {
            all.extend(self.read(name)?);
        }
        all.sort_by(|a: &Volume, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// By name.
    pub fn get(&self, name: &str) -> Result<Volume> {
        let found = if volume_name(name).is_ok() { self.read(name)? } else { None };
        found.ok_or_else(|| Error::new(format!("get {name}: no such volume")))
    }

    /// Where a volume's data is.
    pub fn data(&self, volume: &Volume) -> PathBuf {
        volume.options.get("device").map_or_else(|| self.dir.join(&volume.name).join(DATA), PathBuf::from)
    }

    /// Removes a volume that nobody uses; `user` names a container that does.
    pub fn remove(&self, name: &str, user: impl Fn(&Volume) -> Option<String>) -> Result<()> {
        let _lock = Lock::dir(&self.dir)?;
        let volume = self.get(name)?;
        if let Some(user) = user(&volume) {
            return Err(Error::new(format!("remove {name}: volume is in use - [{user}]")));
        }
        self.delete(name)
    }

    /// Removes all volumes that `unwanted` says, and what crashes have left; those that were removed.
    pub fn prune(&self, unwanted: impl Fn(&Volume) -> bool) -> Result<Vec<Volume>> {
        let _lock = Lock::dir(&self.dir)?;
        for name in self.entries()?.iter().filter(|name| name.starts_with('.')) {
            self.erase(name)?;
        }
        let gone: Vec<Volume> = self.list()?.into_iter().filter(|volume| unwanted(volume)).collect();
        gone.iter().try_for_each(|volume| self.delete(&volume.name))?;
        Ok(gone)
    }

    /// Makes the volume of a mount if it is missing, fills a new one with what the image has at the destination (`image` is the
    /// root of its tree, merged), and notes name and path in the mount.
    pub fn provide(&self, mount: &mut MountPoint, image: BorrowedFd<'_>) -> Result<()> {
        if mount.kind != Kind::Volume {
            return Ok(());
        }
        let volume = {
            let _lock = Lock::dir(&self.dir)?;
            match self.read(&mount.name)? {
                Some(volume) => volume,
                None => self.add(&mount.name, mount.anonymous, &mount.labels, &mount.volume_options)?,
            }
        };
        let data = self.data(&volume);
        let root = directory(&data)?;
        if !mount.no_copy && mount.subpath.is_empty() {
            self.fill(&volume.name, &data, root.as_fd(), mount, image)?;
        }
        let source = if mount.subpath.is_empty() { data } else { subpath(&data, root.as_fd(), &mount.subpath)? };
        mount.source = source.to_str().ok_or_else(|| Error::new(format!("the path {} is not UTF-8", source.display())))?.into();
        Ok(())
    }

    /// Under a lock of the volume's own: a long copy keeps nobody else waiting.
    fn fill(&self, name: &str, data: &Path, root: BorrowedFd<'_>, mount: &MountPoint, image: BorrowedFd<'_>) -> Result<()> {
        let what = || format!("fill the volume {name}");
        let _lock = Lock::dir(&self.dir.join(name))?;
        let mut volume = self.get(name)?;
        if volume.filling {
            tree::remove_content(data).context(what)?;
        } else if fs::read_dir(data).context(what)?.next().is_some() {
            return Ok(());
        }
        volume.filling = true;
        self.write(&volume)?;
        copy_up(image, &mount.destination, root).map_err(|error| error.within(what()))?;
        volume.filling = false;
        self.write(&volume)
    }

    fn read(&self, name: &str) -> Result<Option<Volume>> {
        read_json(&self.dir.join(name).join(RECORD))
    }

    fn write(&self, volume: &Volume) -> Result<()> {
        write_json(&self.dir.join(&volume.name).join(RECORD), volume, Keep::Always)
    }

    fn entries(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.dir).context(|| format!("list {}", self.dir.display()))?;
        Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }

    /// Made aside and renamed: a crash leaves a whole volume or none. The lock is held.
    fn add(&self, name: &str, anonymous: bool, labels: &BTreeMap<String, String>, options: &BTreeMap<String, String>) -> Result<Volume> {
        let name = volume_name(name)?.to_owned();
        judge(options)?;
        if let Some(volume) = self.read(&name)? {
            return match volume.options == *options {
                true => Ok(volume),
                false => Err(Error::new(format!("volume {name} exists already with other options"))),
            };
        }
        let volume = Volume { name, created: rfc3339_now(), labels: labels.clone(), options: options.clone(), anonymous, filling: false };
        let what = || format!("make the volume {}", volume.name);
        let aside = self.dir.join(format!(".new.{}", random(16)));
        let made = make_dir(&aside.join(DATA))
            // As in the image of most volumes; whoever may not enter the directory above does not get here.
            .and_then(|()| fs::set_permissions(aside.join(DATA), std::os::unix::fs::PermissionsExt::from_mode(0o755)).context(what))
            .and_then(|()| write_json(&aside.join(RECORD), &volume, Keep::Always))
            .and_then(|()| fs::rename(&aside, self.dir.join(&volume.name)).context(what));
        made.inspect_err(|_| drop(tree::remove_path(&aside)))?;
        Ok(volume)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let aside = format!(".old.{}", random(16));
        fs::rename(self.dir.join(name), self.dir.join(&aside)).context(|| format!("remove the volume {name}"))?;
        self.erase(&aside)
    }

    fn erase(&self, aside: &str) -> Result<()> {
        let path = self.dir.join(aside);
        tree::remove_path(&path).context(|| format!("remove {}", path.display()))
    }
}

fn judge(options: &BTreeMap<String, String>) -> Result<()> {
    if options.is_empty() {
        return Ok(());
    }
    let hint = "a directory of the host as a volume is type=none, o=bind and device=/PATH";
    if let Some(other) = options.keys().find(|key| !["type", "o", "device"].contains(&key.as_str())) {
        return Err(Error::new(format!("volume option {other:?} is not supported")).hint(hint));
    }
    let get = |key: &str| options.get(key).map_or("", String::as_str);
    if !matches!(get("type"), "" | "none" | "bind") || !matches!(get("o"), "bind" | "rbind" | "bind,rw") {
        return Err(Error::new(format!("a volume of type {:?} with the options {:?} is not supported", get("type"), get("o"))).hint(hint));
    }
    if !get("device").starts_with('/') || !Path::new(get("device")).is_dir() {
        return Err(Error::new(format!("volume option device={}: no directory of that absolute path", get("device"))));
    }
    Ok(())
}

fn directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).context(|| format!("open the volume's directory {}", path.display()))
}

/// A part of a volume; containers write there, so links are refused rather than followed.
fn subpath(data: &Path, root: BorrowedFd<'_>, part: &str) -> Result<PathBuf> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let what = || format!("volume-subpath={part}");
    openat2(root, part, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how).context(what)?;
    Ok(data.join(part))
}
