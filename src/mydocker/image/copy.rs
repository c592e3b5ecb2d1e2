//! `cp`: trees in and out of a container, as tar archives. What is here knows directories, not containers.
//!
//! The receiving side may be written to by a hostile container at the same time: directories are opened one below the other
//! and never through a link (CVE-2018-15664). A file or link that is there already is replaced, never written through; a
//! device, FIFO or socket is refused.

use super::overlay::{is_kept, kind, open_dir, stat};
use super::tar_read::{Entries, Entry, Kind};
use super::unpack::{copy, times};
use super::walk::names;
use crate::mydocker::userns::{COUNT, FileOwner};
use crate::sys::{Context, Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::BufRead;

/// How [`receive`] treats what comes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Receive {
    /// Everything belongs to this user and group; without, to whom the archive says.
    pub owner: Option<(u32, u32)>,
    /// The id on the host that is root's in the directory, for a container of `--userns auto`; else 0.
    pub first: u32,
    /// What a container may not bring out of itself is left: device nodes, set-user-id and set-group-id.
    pub distrusted: bool,
}

/// What [`receive`] did.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Bytes of the files.
    pub bytes: u64,
    /// Device nodes that were left out.
    pub left_out: Vec<String>,
}

/// Unpacks an archive into a directory, beside what is there.
pub fn receive(source: impl BufRead, dir: BorrowedFd<'_>, how: Receive) -> Result<Received> {
    let _owner = if how.first == 0 { None } else { Some(FileOwner::new(how.first)?) };
    let mut entries = Entries::new(source);
    let mut work = Work { dir, how, done: Received::default(), times: Vec::new() };
    while let Some(entry) = entries.next()? {
        let what = || format!("copy {}", String::from_utf8_lossy(&entry.path));
        work.add(&entry, &mut entries).map_err(|e| e.within(what()))?;
    }
    // Directories last: what is made in them changes their times.
    for (dir, times) in &work.times {
        rustix::fs::futimens(dir, times).context(|| "set the time of a directory")?;
    }
    Ok(work.done)
}

/// Most directories whose times wait to be set; each is an open descriptor, and more keep the time of the copy.
const TIMES_LIMIT: usize = 256;

struct Work<'a> {
    dir: BorrowedFd<'a>,
    how: Receive,
    done: Received,
    times: Vec<(OwnedFd, Timestamps)>,
}

impl Work<'_> {
    fn add<R: BufRead>(&mut self, entry: &Entry, data: &mut Entries<R>) -> Result<()> {
        let path = names(&entry.path)?;
        let Some((name, parents)) = path.split_last() else {
            // The directory itself, which was there before.
            return if entry.kind == Kind::Dir { Ok(()) } else { Err(Error::new("it has no name")) };
        };
        let at = self.walk(parents, true)?;
        let old = match stat(at.as_fd(), name) {
            Err(Errno::NOENT) => None,
            other => Some(other.context(|| "stat")?),
        };
        if let Some((old, what)) = old.as_ref().and_then(|old| Some((old, special(kind(old))?))) {
            // One that is there already as the archive has it stays; nothing else takes its place.
            return if is_same_node(old, entry) { Ok(()) } else { Err(Error::new(format!("cannot overwrite {what}"))) };
        }
        let old = old.as_ref().map(kind);
        match (old, entry.kind) {
            (Some(FileType::Directory), Kind::Dir) | (None, _) => {}
            (Some(FileType::Directory), _) => return Err(Error::new("cannot overwrite a directory with something else")),
            (Some(_), Kind::Dir) => return Err(Error::new("cannot overwrite with a directory what is none")),
            (Some(_), _) => {}
        }
        match entry.kind {
            Kind::Dir => self.directory(at.as_fd(), name, entry, old.is_some()),
            Kind::File => self.file(at.as_fd(), name, entry, data),
            Kind::Char | Kind::Block if self.how.distrusted => {
                self.done.left_out.push(String::from_utf8_lossy(&entry.path).into_owned());
                Ok(())
            }
            _ => self.other(at.as_fd(), name, entry),
        }
    }

    /// The directory of these names; what is missing is made if `make`.
    fn walk(&self, path: &[&[u8]], make: bool) -> Result<OwnedFd> {
        let mut at = self.dir.try_clone_to_owned().context(|| "hold the directory")?;
        for name in path {
            let inner = match open_dir(at.as_fd(), name) {
                Err(Errno::NOENT) if make => {
                    rustix::fs::mkdirat(&at, *name, Mode::from_raw_mode(0o755)).context(|| "make the directory")?;
                    open_dir(at.as_fd(), name)
                }
                other => other,
            };
            let no_directory = |errno| match errno {
                Errno::LOOP | Errno::NOTDIR => Error::new(format!("{} is no directory", String::from_utf8_lossy(name))),
                errno => Error::new(format!("open {}", String::from_utf8_lossy(name))).errno(errno),
            };
            at = inner.map_err(no_directory)?;
        }
        Ok(at)
    }

    fn directory(&mut self, at: BorrowedFd<'_>, name: &[u8], entry: &Entry, exists: bool) -> Result<()> {
        if !exists {
            rustix::fs::mkdirat(at, name, Mode::RWXU).context(|| "make the directory")?;
        }
        let dir = open_dir(at, name).context(|| "open the directory")?;
        self.attributes(dir.as_fd(), entry)?;
        if self.times.len() < TIMES_LIMIT {
            self.times.push((dir, times(entry)));
        }
        Ok(())
    }

    fn file<R: BufRead>(&mut self, at: BorrowedFd<'_>, name: &[u8], entry: &Entry, data: &mut Entries<R>) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match free(at, name) {
            // A file that is a mount of its own, as /etc/hosts: its content is replaced.
            Err(Errno::BUSY) => rustix::fs::openat(at, name, flags | OFlags::TRUNC, Mode::empty()),
            other => other.and_then(|()| rustix::fs::openat(at, name, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)),
        };
        let file = File::from(file.context(|| "make the file")?);
        copy(entry, data, &file)?;
        self.done.bytes = self.done.bytes.saturating_add(entry.size);
        self.attributes(file.as_fd(), entry)?;
        rustix::fs::futimens(&file, &times(entry)).context(|| "set the time")
    }

    /// Links, FIFOs and devices.
    fn other(&self, at: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<()> {
        if entry.kind == Kind::HardLink {
            let path = names(&entry.link)?;
            let (last, parents) = path.split_last().ok_or_else(|| Error::new("it is a hard link to nothing"))?;
            let from = self.walk(parents, false)?;
            let same = |one: rustix::io::Result<rustix::fs::Stat>, other: rustix::io::Result<rustix::fs::Stat>| matches!((one, other), (Ok(one), Ok(other)) if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino));
            if same(stat(from.as_fd(), last), stat(at, name)) {
                return Ok(());
            }
            free(at, name).context(|| "replace")?;
            return rustix::fs::linkat(&from, *last, at, name, AtFlags::empty()).context(|| "make the hard link");
        }
        free(at, name).context(|| "replace")?;
        let node = |kind, device| rustix::fs::mknodat(at, name, kind, Mode::RUSR | Mode::WUSR, device);
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        match entry.kind {
            Kind::Symlink => rustix::fs::symlinkat(&entry.link[..], at, name),
            Kind::Fifo => node(FileType::Fifo, 0),
            Kind::Char => node(FileType::CharacterDevice, device),
            _ => node(FileType::BlockDevice, device),
        }
        .context(|| "make it")?;
        let (uid, gid) = self.owner(entry)?;
        rustix::fs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).context(|| "set the owner")?;
        if entry.kind != Kind::Symlink {
            // By a descriptor: chmod by name would follow what somebody put here in between.
            let made = rustix::fs::openat(at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).context(|| "open")?;
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&made));
            rustix::fs::chmod(path, self.mode(entry)).context(|| "set the mode")?;
        }
        rustix::fs::utimensat(at, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).context(|| "set the time")
    }

    fn owner(&self, entry: &Entry) -> Result<(Uid, Gid)> {
        // The largest number means "leave it".
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let said = || id(entry.uid).zip(id(entry.gid)).ok_or_else(|| Error::new(format!("there is no owner {}:{}", entry.uid, entry.gid)));
        let (uid, gid) = self.how.owner.map_or_else(said, Ok)?;
        if self.how.first != 0 && (uid >= COUNT || gid >= COUNT) {
            return Err(Error::new(format!("the container has no owner {uid}:{gid}")));
        }
        let (uid, gid) = (uid + self.how.first, gid + self.how.first);
        Ok((Uid::from_raw(uid), Gid::from_raw(gid)))
    }

    fn mode(&self, entry: &Entry) -> Mode {
        Mode::from_raw_mode(if self.how.distrusted { entry.mode & 0o1777 } else { entry.mode })
    }

    /// Owner, extended attributes and mode, in this order: a change of owner takes set-user-id and capabilities away.
    fn attributes(&self, file: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        let (uid, gid) = self.owner(entry)?;
        rustix::fs::fchown(file, Some(uid), Some(gid)).context(|| "set the owner")?;
        for (name, value) in
            entry.xattrs.iter().filter(|(name, _)| is_kept(name) && !(self.how.distrusted && name.starts_with(b"security.")))
        {
            match rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty()) {
                Err(Errno::NOTSUP) => {} // the file system has none
                other => other.context(|| format!("set the attribute {}", String::from_utf8_lossy(name)))?,
            }
        }
        rustix::fs::fchmod(file, self.mode(entry)).context(|| "set the mode")
    }
}

/// What is no file, directory or link, in words. Such a node is never replaced by a copy: a device of the
/// host would be gone for everybody.
pub fn special(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::CharacterDevice | FileType::BlockDevice => Some("a device"),
        FileType::Fifo => Some("a FIFO"),
        FileType::Socket => Some("a socket"),
        _ => None,
    }
}

/// Whether a node is what an archive would make.
fn is_same_node(old: &Stat, entry: &Entry) -> bool {
    let device = rustix::fs::makedev(entry.device.0, entry.device.1);
    match (kind(old), entry.kind) {
        (FileType::Fifo, Kind::Fifo) => true,
        (FileType::CharacterDevice, Kind::Char) | (FileType::BlockDevice, Kind::Block) => old.st_rdev == device,
        _ => false,
    }
}

/// Makes a name free.
fn free(at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
