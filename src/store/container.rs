//! A container's state directory: what is in it, who may change it.

use super::{ContainerId, ProcessId};
use crate::sys::{Context, Error, Kind, Result};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const RECORD: &CStr = c"record.jsonl";
const SOCKET: &CStr = c"start.sock";
const TEMPORARY: &CStr = c"record.jsonl.new";

/// What a line of the file is, by what it begins with.
const IS_RECORD: &[u8] = b"{\"record\":";
const IS_CONFIG: &[u8] = b"{\"config\":";

/// What is remembered of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// `ociVersion` of the configuration.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root file system.
    pub rootfs: PathBuf,
    /// RFC 3339, when create began.
    pub created: String,
    /// Effective user id of the creator.
    pub owner: u32,
    /// Whoever creates it now; create is finished when this is absent.
    pub creator: Option<ProcessId>,
    /// The container's first process.
    pub init: Option<ProcessId>,
    /// Namespaces that the container does not share with the host, as clone(2) flags.
    pub namespaces: u64,
    /// The first process hands descriptors of them over while it waits for `start`.
    pub hands_namespaces: bool,
    /// The first process is pid 1 of a namespace made for it: its end is the end of all.
    pub owns_pid_namespace: bool,
    /// The container's cgroup, in the form of the room `cgroup`.
    pub cgroup: Part,
    /// The container's Intel RDT groups, in the form of the room `cgroup`; null without.
    #[serde(skip_serializing_if = "Part::is_null")]
    pub resctrl: Part,
    /// The mount of the root file system, where the container's mounts are not in a namespace of its own; null otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_mount: Option<RootMount>,
    /// Index in the plan of the first operation after `start`.
    pub start_at: u32,
    /// The session keyring of the container's processes, if it is not the caller's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyring: Option<String>,
    /// The configuration's annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A part of the record that another room writes and reads: its JSON text, which nobody else need parse.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Part(Box<RawValue>);

impl Part {
    /// The text of a value.
    pub fn of(value: &impl Serialize) -> Result<Self> {
        to_raw_value(value).map(Self).map_err(|e| Error::new(format!("write the record: {e}")))
    }

    /// The value again; none for `null`. An error is the parser's.
    pub fn read<T: DeserializeOwned>(&self) -> serde_json::Result<Option<T>> {
        serde_json::from_str(self.text())
    }

    /// Whether there is nothing in it.
    pub fn is_null(&self) -> bool {
        self.text() == "null"
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl Default for Part {
    fn default() -> Self {
        Self(RawValue::NULL.to_owned())
    }
}

impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

/// A mount that `delete` has to unmount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RootMount {
    /// By which it is known.
    pub id: u64,
    /// What mountinfo shows for it.
    pub shown: u64,
    /// The mount namespace that the container has joined; absent is the runtime's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<PathBuf>,
}

pub(super) fn missing(id: &ContainerId) -> Error {
    Error::new(format!("container {id:?} does not exist", id = id.as_str())).kind(Kind::NoContainer)
}

/// One container's state directory.
///
/// Record and configuration are lines of one file, of which the last of its kind counts (docs/decisions/0021). A line is added
/// by one write(2), and one without its end is none: whoever reads meanwhile, or after a kill, finds what was there before.
#[derive(Debug)]
pub struct Container {
    id: ContainerId,
    path: PathBuf,
    dir: OwnedFd,
    /// The file as [`Container::record`] read it last.
    text: RefCell<Vec<u8>>,
    /// The file, once something was added.
    file: RefCell<Option<OwnedFd>>,
}

/// The documents of the whole lines of a kind, the last one first.
fn documents<'t>(text: &'t [u8], kind: &'static [u8]) -> impl Iterator<Item = &'t [u8]> {
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(&text[..0], |end| &text[..end]);
    whole.rsplit(|&byte| byte == b'\n').filter_map(move |line| line.strip_prefix(kind)?.strip_suffix(b"}"))
}

/// It begins with a line end, so that what a killed writer left before it stays a line of its own.
fn line(kind: &[u8], document: &[u8]) -> Vec<u8> {
    [b"\n", kind, document, b"}\n"].concat()
}

impl Container {
    /// The directory `dir` at `path`, without a look into it.
    pub(super) fn new(id: &ContainerId, path: PathBuf, dir: OwnedFd) -> Self {
        Self { id: id.clone(), path, dir, text: RefCell::default(), file: RefCell::default() }
    }

    /// The container's id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// The state directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until no other command changes this container. Held until the value is dropped. The directory may have
    /// been removed meanwhile: then the container does not exist.
    pub fn lock(&self) -> Result<()> {
        let what = || format!("lock the state directory {}", self.path.display());
        rustix::io::retry_on_intr(|| flock(&self.dir, FlockOperation::LockExclusive)).context(what)?;
        if rustix::fs::fstat(&self.dir).context(what)?.st_nlink == 0 { Err(missing(&self.id)) } else { Ok(()) }
    }

    /// [`Container::lock`], if that comes true within `limit`; whether it did.
    pub fn lock_within(&self, limit: Duration) -> Result<bool> {
        let until = Instant::now() + limit;
        while !self.try_lock() {
            if Instant::now() >= until {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.lock().map(|()| true)
    }

    /// Lets other commands change this container.
    pub fn unlock(&self) {
        let _ = flock(&self.dir, FlockOperation::Unlock);
    }

    /// Whether nobody holds the lock; it is held from then on if so. The directory may have been removed meanwhile.
    pub fn try_lock(&self) -> bool {
        flock(&self.dir, FlockOperation::NonBlockingLockExclusive).is_ok()
    }

    /// The record. A create that was killed before its first write leaves none: then only the id is known.
    pub fn record(&self) -> Result<Record> {
        self.record_in(&mut self.text.borrow_mut())
    }

    /// [`Container::record`], read into a buffer that serves for many containers; [`Container::config`] has nothing then.
    pub fn record_in(&self, text: &mut Vec<u8>) -> Result<Record> {
        let what = || format!("read the record {}/record.jsonl", self.path.display());
        text.clear();
        match self.read(RECORD, text) {
            Err(Errno::NOENT) => {}
            read => read.context(what)?,
        }
        let mut invalid = None;
        for document in documents(text, IS_RECORD) {
            match serde_json::from_slice(document) {
                Ok(record) => return Ok(record),
                Err(error) => invalid = invalid.or(Some(error)),
            }
        }
        match invalid {
            Some(error) => Err(Error::new(format!("{}: {error}", what()))),
            None if rustix::fs::fstat(&self.dir).is_ok_and(|stat| stat.st_nlink > 0) => {
                Ok(Record { id: self.id.as_str().into(), ..Record::default() })
            }
            None => Err(missing(&self.id)),
        }
    }

    /// Replaces the record.
    pub fn save(&self, record: &Record) -> Result<()> {
        let what = || format!("write the record {}/record.jsonl", self.path.display());
        let document = serde_json::to_vec(record).map_err(|e| Error::new(format!("{}: {e}", what())))?;
        self.append(&line(IS_RECORD, &document)).context(what)
    }

    /// Keeps the configuration as it was at create: later changes of the bundle have no effect (runtime.md, "Create").
    pub fn save_config(&self, document: &[u8]) -> Result<()> {
        let what = || format!("write the configuration into {}/record.jsonl", self.path.display());
        self.append(&line(IS_CONFIG, document)).context(what)
    }

    /// Replaces the kept configuration, after `update` has changed what it says: under the lock, after [`Container::record`].
    /// Engines update often, so that the file is written anew, without the lines that count no more.
    pub fn replace_config(&self, document: &[u8]) -> Result<()> {
        let what = || format!("write the configuration into {}/record.jsonl", self.path.display());
        let mut text = line(IS_CONFIG, document);
        // The one that `record` takes: what a kill has cut short is not written for good.
        let valid = |document: &&[u8]| serde_json::from_slice::<IgnoredAny>(document).is_ok();
        if let Some(record) = documents(&self.text.borrow(), IS_RECORD).find(valid) {
            text.extend(line(IS_RECORD, record));
        }
        write(&self.open(TEMPORARY, OFlags::TRUNC).context(what)?, &text).context(what)?;
        renameat(&self.dir, TEMPORARY, &self.dir, RECORD).context(what)?;
        self.file.replace(None);
        Ok(())
    }

    /// The kept configuration, as of [`Container::record`]; a create that was killed early has kept none.
    pub fn config(&self) -> Option<Vec<u8>> {
        documents(&self.text.borrow(), IS_CONFIG).next().map(<[u8]>::to_vec)
    }

    /// Path of the socket on which the created container waits. Through our own descriptor, since `sun_path` has only
    /// 108 bytes and engines' state directories are longer.
    pub fn socket(&self) -> String {
        format!("/proc/self/fd/{}/{}", self.dir.as_raw_fd(), SOCKET.to_string_lossy())
    }

    /// Whether the socket is still there: `start` takes it away.
    pub fn has_socket(&self) -> bool {
        rustix::fs::accessat(&self.dir, SOCKET, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// Removes the socket of a process that waits no more.
    pub fn remove_socket(&self) {
        // What is left of a `start` that was killed goes with the container.
        let _ = unlinkat(&self.dir, SOCKET, AtFlags::empty());
    }

    /// Directory of the socket for sd_notify(3), below the state directory.
    pub const NOTIFY: &str = "notify";
    /// Directory of the cgroups that CRIU is shown.
    const YARD: &str = "cgroups";
    /// Cgroup v2 in it.
    const UNIFIED: &str = "unified";
    /// The socket in [`Container::NOTIFY`].
    pub const NOTIFY_SOCKET: &str = "notify.sock";

    /// Makes the directory that the container sees as /run/notify; any user of the container may search it.
    pub fn make_notify(&self) -> Result<()> {
        let what = || format!("make {}/{}", self.path.display(), Self::NOTIFY);
        mkdirat(&self.dir, Self::NOTIFY, Mode::from_raw_mode(0o755)).context(what)?;
        // Whatever the umask is.
        rustix::fs::chmodat(&self.dir, Self::NOTIFY, Mode::from_raw_mode(0o755), AtFlags::empty()).context(what)
    }

    /// Path of the socket for sd_notify(3), as [`Container::socket`].
    pub fn notify_socket(&self) -> String {
        format!("/proc/self/fd/{}/{}/{}", self.dir.as_raw_fd(), Self::NOTIFY, Self::NOTIFY_SOCKET)
    }

    /// Removes everything of the container. A remove that is killed can be repeated: a directory without a record is one
    /// of a container of which nothing but the id is known.
    pub fn remove(&self) -> Result<()> {
        let what = || format!("remove the state directory {}", self.path.display());
        let unlink = |names: &[&CStr]| {
            names.iter().try_for_each(|name| match unlinkat(&self.dir, *name, AtFlags::empty()) {
                Err(Errno::NOENT) => Ok(()),
                other => other,
            })
        };
        unlink(&[SOCKET, RECORD]).context(what)?;
        match rustix::fs::rmdir(&self.path) {
            // What a killed command left.
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                unlink(&[TEMPORARY]).context(what)?;
                Self::clear_yard(&self.path.join(Self::YARD));
                if let Ok(notify) = openat(&self.dir, Self::NOTIFY, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
                    // The container cannot write there.
                    let _ = unlinkat(&notify, Self::NOTIFY_SOCKET, AtFlags::empty());
                    unlinkat(&self.dir, Self::NOTIFY, AtFlags::REMOVEDIR).context(what)?;
                }
                rustix::fs::rmdir(&self.path).context(what)
            }
            other => other.context(what),
        }
    }

    /// Makes the directory of the cgroups that CRIU is shown: `unified`, a link to `target`, or a directory to mount it on, and the
    /// directories `beside`, into which processes can be written if there is something to mount.
    pub fn make_yard(&self, target: Option<&str>, beside: &[PathBuf]) -> Result<PathBuf> {
        let yard = self.path.join(Self::YARD);
        let what = || format!("make {}", yard.display());
        Self::clear_yard(&yard);
        let make = |dir: &Path| std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).recursive(true).create(dir);
        make(&yard).context(what)?;
        let unified = yard.join(Self::UNIFIED);
        target.map_or_else(|| make(&unified), |target| std::os::unix::fs::symlink(target, &unified)).context(what)?;
        for place in beside.iter().map(|place| yard.join(place)) {
            make(&place).context(what)?;
            if target.is_none() {
                std::fs::write(place.join("cgroup.procs"), "").context(what)?;
            }
        }
        Ok(yard)
    }

    /// Takes it away; a mount on it in another namespace goes with it. Nothing else, if one is in ours: below are cgroups.
    pub fn clear_yard(yard: &Path) {
        let unified = yard.join(Self::UNIFIED);
        let _ = std::fs::remove_file(&unified).or_else(|_| std::fs::remove_dir(&unified));
        if std::fs::symlink_metadata(&unified).is_err() {
            let _ = std::fs::remove_dir_all(yard);
        }
    }

    fn read(&self, name: &CStr, text: &mut Vec<u8>) -> rustix::io::Result<()> {
        const PIECE: usize = 16 << 10;
        let file = openat(&self.dir, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        loop {
            text.reserve_exact(PIECE);
            let length = rustix::io::retry_on_intr(|| rustix::io::read(&file, rustix::buffer::spare_capacity(text)))?;
            // Less than asked for is the end of a regular file.
            if length < PIECE {
                return Ok(());
            }
        }
    }

    fn append(&self, line: &[u8]) -> rustix::io::Result<()> {
        let mut file = self.file.borrow_mut();
        let file = match &mut *file {
            Some(file) => file,
            none => none.insert(self.open(RECORD, OFlags::APPEND)?),
        };
        write(file, line)
    }

    fn open(&self, name: &CStr, how: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | how;
        openat(&self.dir, name, flags, Mode::from_raw_mode(0o600))
    }
}

fn write(file: &OwnedFd, text: &[u8]) -> rustix::io::Result<()> {
    let mut written = 0;
    while written < text.len() {
        match rustix::io::retry_on_intr(|| rustix::io::write(file, &text[written..])) {
            Ok(length) => written += length,
            Err(errno) => {
                // A full file system: half a line helps nobody.
                let _ = rustix::fs::fstat(file).and_then(|stat| rustix::fs::ftruncate(file, stat.st_size as u64 - written as u64));
                return Err(errno);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_line_counts() {
        let text = b"{\"record\":1}\n{\"config\":2}\n{\"record\":3}\n{\"record\":4";
        let last = |text, kind| documents(text, kind).next();
        assert_eq!(last(&text[..], IS_RECORD), Some(&b"3"[..]));
        assert_eq!(last(&text[..], IS_CONFIG), Some(&b"2"[..]));
        assert_eq!(last(&text[..5], IS_RECORD), None);
        assert_eq!(last(b"", IS_RECORD), None);
    }

    /// A write that a kill cut short, and one more after it.
    #[test]
    fn a_torn_line_spoils_no_other() {
        let text = [&line(IS_RECORD, b"1")[..], b"\n{\"record\":{\"a", &line(IS_RECORD, b"2")].concat();
        assert_eq!(documents(&text, IS_RECORD).collect::<Vec<_>>(), [b"2", b"1"]);
    }
}
