//! Makes the tree of a layer from a tar archive that nobody vouches for.
//!
//! Where an entry goes is decided by `walk`, which never leaves the layer. What is hidden from the layers below is written as
//! overlayfs has it (Documentation/filesystems/overlayfs.rst): a character device 0:0, or an attribute that makes a directory opaque.

use super::overlay::{DIRECTORY, Lowers, is_kept, is_whiteout, kind, make_whiteout, open_dir, read_xattrs, set_opaque, stat};
use super::tar_read::{Entries, Entry, Kind, PATH_LIMIT};
use super::walk::{Step, join, names};
use crate::mydocker::files::tree;
use crate::mydocker::userns::has_one_id;
use crate::sys::{Context, Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Most entries of one layer.
const ENTRIES_LIMIT: u64 = 10_000_000;

/// Most bytes of one layer, holes included.
const SIZE_LIMIT: u64 = 1 << 40;

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    /// Bytes of all files.
    pub size: u64,
}

/// Unpacks an archive into the empty directory `root`. `lowers` are the layers below, topmost first: they lend the owner and mode of
/// directories that the archive does not mention, and the targets of hard links.
pub(super) fn unpack(source: impl BufRead, root: &Path, lowers: &[impl AsRef<Path>]) -> Result<Made> {
    let lowers = Lowers::open(lowers)?;
    let root = rustix::fs::open(root, DIRECTORY, Mode::empty()).context(|| format!("open {}", root.display()))?;
    let mut tree = Tree { root, lowers, stack: Vec::new(), root_times: None, owners: owners(), hide_all: false };
    tree.begin()?;
    let mut entries = Entries::new(source);
    let (mut made, mut count) = (Made::default(), 0);
    while let Some(entry) = entries.next()? {
        count += 1;
        made.size = made.size.saturating_add(if entry.kind == Kind::File { entry.size } else { 0 });
        if count > ENTRIES_LIMIT || made.size > SIZE_LIMIT {
            return Err(Error::new(format!("the layer is too large: the limits are {ENTRIES_LIMIT} entries and {} GiB", SIZE_LIMIT >> 30)));
        }
        let what = || format!("unpack {}", String::from_utf8_lossy(&entry.path));
        tree.add(&entry, &mut entries).map_err(|e| e.within(what()))?;
    }
    tree.finish()?;
    Ok(made)
}

/// What can be done about owners.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owners {
    /// As the archive says.
    Kept,
    /// All is ours: we may be nobody else.
    Ours,
}

/// Root keeps owners, but for one who is root only over the single id of a user namespace.
fn owners() -> Owners {
    if rustix::process::geteuid().is_root() && !has_one_id() { Owners::Kept } else { Owners::Ours }
}

/// A layer that is being made.
pub(super) struct Tree {
    pub root: OwnedFd,
    pub lowers: Lowers,
    /// The real directories down to where the last entry was made; most entries are beside the one before.
    pub stack: Vec<Step>,
    /// The times of the root, set at the end.
    pub root_times: Option<Timestamps>,
    owners: Owners,
    /// The layer hides everything below; overlayfs knows no opaque root.
    hide_all: bool,
}

impl Tree {
    /// Until the archive says otherwise, the root is as in the layer below: overlayfs shows that of the topmost layer.
    fn begin(&mut self) -> Result<()> {
        let Some(below) = self.lowers.root() else { return Ok(()) };
        let mut entry = of_stat(&rustix::fs::fstat(below).context(|| "stat the layer below")?);
        entry.kind = Kind::Dir;
        entry.xattrs = read_xattrs(below)?;
        self.root_entry(&entry)
    }

    fn add<R: BufRead>(&mut self, entry: &Entry, data: &mut Entries<R>) -> Result<()> {
        let names = names(&entry.path)?;
        let Some((name, parents)) = names.split_last() else {
            return if entry.kind == Kind::Dir { self.root_entry(entry) } else { Err(Error::new("the root must be a directory")) };
        };
        if let Some(hidden) = name.strip_prefix(PREFIX) {
            return self.whiteout(parents, name, hidden);
        }
        if entry.kind == Kind::HardLink {
            return self.hard_link(parents, name, &entry.link);
        }
        self.walk(parents)?;
        let hid = self.make(entry, name, data)?;
        if entry.kind == Kind::Dir {
            self.enter(name)?;
            let dir = self.top();
            if hid {
                set_opaque(dir)?;
            }
            self.attributes(dir, entry)?;
            self.keep_times(entry);
        }
        Ok(())
    }

    /// Makes the entry itself; tells whether it took the place of a whiteout.
    fn make<R: BufRead>(&mut self, entry: &Entry, name: &[u8], data: &mut Entries<R>) -> Result<bool> {
        match self.try_make(entry, name, data) {
            Err(error) if error.get_errno() == Some(Errno::EXIST) => {}
            done => return done.map(|()| false),
        }
        // Twice in one archive: the last one holds, but a directory keeps what is in it.
        let old = stat(self.top(), name).context(|| "stat")?;
        let is_dir = kind(&old) == FileType::Directory;
        if is_dir && entry.kind == Kind::Dir {
            return Ok(false);
        }
        if is_dir {
            tree::remove(self.top(), name).context(|| "replace a directory")?;
        } else {
            rustix::fs::unlinkat(self.top(), name, AtFlags::empty()).context(|| "replace")?;
        }
        self.try_make(entry, name, data)?;
        Ok(is_whiteout(&old))
    }

    fn try_make<R: BufRead>(&mut self, entry: &Entry, name: &[u8], data: &mut Entries<R>) -> Result<()> {
        let at = self.top();
        let private = Mode::RUSR | Mode::WUSR;
        match entry.kind {
            Kind::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = File::from(rustix::fs::openat(at, name, flags, private).context(|| "open")?);
                copy(entry, data, &file)?;
                self.attributes(file.as_fd(), entry)?;
                return rustix::fs::futimens(&file, &times(entry)).context(|| "set the time");
            }
            Kind::Dir => return rustix::fs::mkdirat(at, name, Mode::RWXU).context(|| "make the directory"),
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) || entry.link.len() > PATH_LIMIT {
                    return Err(Error::new("the target of the symbolic link is empty, too long or holds a NUL"));
                }
                rustix::fs::symlinkat(&entry.link[..], at, name).context(|| "make the symbolic link")?;
            }
            Kind::Fifo => self.node(name, FileType::Fifo, entry)?,
            Kind::Char => self.node(name, FileType::CharacterDevice, entry)?,
            Kind::Block => self.node(name, FileType::BlockDevice, entry)?,
            Kind::HardLink => return Err(Error::new("a hard link in the wrong place")),
        }
        self.own(entry, |uid, gid| rustix::fs::chownat(at, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW))?;
        match rustix::fs::utimensat(at, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) if matches!(entry.kind, Kind::Char | Kind::Block) => Ok(()), // a device that could not be made
            other => other.context(|| "set the time"),
        }
    }

    /// A device or a FIFO. In a user namespace devices cannot be made and are left out, as docker and podman do.
    fn node(&self, name: &[u8], kind: FileType, entry: &Entry) -> Result<()> {
        let (major, minor) = entry.device;
        let device = if kind == FileType::Fifo { 0 } else { rustix::fs::makedev(major, minor) };
        if kind == FileType::CharacterDevice && device == 0 {
            return Err(Error::new("the character device 0:0 is a whiteout of overlayfs and has no place in a layer"));
        }
        match rustix::fs::mknodat(self.top(), name, kind, Mode::RUSR | Mode::WUSR, device) {
            Err(Errno::PERM) if kind != FileType::Fifo => return Ok(()),
            other => other.context(|| "make the node")?,
        }
        // Just made by us and no link, and nobody else is here: no other file can be meant.
        rustix::fs::chmodat(self.top(), name, Mode::from_raw_mode(entry.mode), AtFlags::empty()).context(|| "set the mode")
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<()> {
        self.attributes(self.root.as_fd(), entry)?;
        self.root_times = Some(times(entry));
        Ok(())
    }

    /// `.wh.NAME` hides NAME of the layers below, `.wh..wh..opq` all that they have in the directory
    /// (image specification, "Whiteouts"). What this layer itself has there stays, whichever comes first.
    fn whiteout(&mut self, parents: &[&[u8]], name: &[u8], hidden: &[u8]) -> Result<()> {
        if name == OPAQUE {
            self.walk(parents)?;
            if self.stack.is_empty() {
                self.hide_all = true;
                return Ok(());
            }
            return set_opaque(self.top());
        }
        if hidden.starts_with(PREFIX) {
            return Ok(()); // the bookkeeping of aufs
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Error::new("a whiteout must name a file"));
        }
        self.walk(parents)?;
        match stat(self.top(), hidden) {
            Ok(there) if kind(&there) == FileType::Directory => {
                self.enter(hidden)?;
                set_opaque(self.top())
            }
            Err(Errno::NOENT) if self.lowers.is_empty() => Ok(()),
            Err(Errno::NOENT) => make_whiteout(self.top(), hidden),
            other => other.map(drop).context(|| "stat"),
        }
    }

    /// The target is a path from the root of the layer; it may also be in a layer below, and is copied then.
    fn hard_link(&mut self, parents: &[&[u8]], name: &[u8], target: &[u8]) -> Result<()> {
        let to = String::from_utf8_lossy(target).into_owned();
        let missing = || Error::new(format!("it is a hard link to {to}, which is not there"));
        let target = names(target)?;
        let Some((last, dirs)) = target.split_last() else { return Err(missing()) };
        let found = self.find(dirs, last)?;
        self.walk(parents)?;
        let Some(found) = found else {
            let (from, old) = self.lowers.find(&target).ok_or_else(missing)?;
            return self.copy_up(name, &from, last, &old);
        };
        let link = |at: BorrowedFd<'_>| rustix::fs::linkat(&found, *last, at, name, AtFlags::empty());
        match link(self.top()) {
            Err(Errno::EXIST) => {
                let status = |at: BorrowedFd<'_>, name: &[u8]| stat(at, name).context(|| "stat");
                let (old, new) = (status(self.top(), name)?, status(found.as_fd(), last)?);
                if (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino) {
                    return Ok(()); // also a link to itself
                }
                tree::remove(self.top(), name).context(|| "replace")?;
                self.leave_to(0)?;
                self.walk(parents)?;
                link(self.top()).context(|| format!("link to {to}"))
            }
            other => other.context(|| format!("link to {to}")),
        }
    }

    /// The directory in which this layer has `last`, if it does; makes nothing.
    fn find(&mut self, dirs: &[&[u8]], last: &[u8]) -> Result<Option<OwnedFd>> {
        let path = join(dirs.iter().copied());
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let path = if path.is_empty() { b"." } else { &path[..] };
        let dir = match rustix::fs::openat2(&self.root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            other => other.context(|| "look for the target")?,
        };
        match stat(dir.as_fd(), last) {
            Ok(there) if kind(&there) == FileType::Directory => Err(Error::new("it is a hard link to a directory")),
            Ok(there) if is_whiteout(&there) => Err(Error::new("it is a hard link to what the same layer removes")),
            Ok(_) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno).context(|| "stat"),
        }
    }

    /// Makes `name` a copy of the file of a layer below.
    fn copy_up(&mut self, name: &[u8], from: &OwnedFd, last: &[u8], old: &Stat) -> Result<()> {
        if kind(old) != FileType::RegularFile {
            return Err(Error::new("it is a hard link to something else than a file of a layer below"));
        }
        let source = rustix::fs::openat(from, last, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let mut source = File::from(source.context(|| "open the target")?);
        if stat(self.top(), name).is_ok() {
            tree::remove(self.top(), name).context(|| "replace")?;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(self.top(), name, flags, Mode::RUSR | Mode::WUSR).context(|| "open")?);
        std::io::copy(&mut source, &mut file).context(|| "copy the target")?;
        let mut entry = of_stat(old);
        entry.xattrs = read_xattrs(source.as_fd())?;
        self.attributes(file.as_fd(), &entry)?;
        rustix::fs::futimens(&file, &times(&entry)).context(|| "set the time")
    }

    /// Owner, extended attributes and mode, in this order: a change of owner takes set-user-id and capabilities away.
    pub fn attributes(&self, file: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        self.own(entry, |uid, gid| rustix::fs::fchown(file, uid, gid))?;
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept(name)) {
            match rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty()) {
                // The file system below has none, or this file may have none.
                Err(Errno::NOTSUP) => {}
                other => other.context(|| format!("set the attribute {}", String::from_utf8_lossy(name)))?,
            }
        }
        // Who is not root can make nothing in a directory that he may not write himself, and never remove it.
        let ours = self.owners == Owners::Ours && entry.kind == Kind::Dir;
        let mode = if ours { entry.mode | 0o700 } else { entry.mode };
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode)).context(|| "set the mode")
    }

    fn own(&self, entry: &Entry, chown: impl Fn(Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) -> rustix::io::Result<()>) -> Result<()> {
        if self.owners == Owners::Ours {
            return Ok(());
        }
        // The largest number means "leave it".
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (Some(uid), Some(gid)) = (id(entry.uid), id(entry.gid)) else {
            return Err(Error::new(format!("there is no owner {}:{}", entry.uid, entry.gid)));
        };
        match chown(Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid))) {
            Err(Errno::INVAL) => Err(Error::new(format!("the owner {uid}:{gid} is not mapped in this user namespace"))
                .hint("give the user more ids in /etc/subuid and /etc/subgid")),
            Err(Errno::NOENT) if matches!(entry.kind, Kind::Char | Kind::Block) => Ok(()), // left out
            other => other.context(|| "set the owner"),
        }
    }

    /// Sets what had to wait: whiteouts for everything if the root was opaque, and the times of
    /// directories.
    fn finish(&mut self) -> Result<()> {
        self.leave_to(0)?;
        if std::mem::take(&mut self.hide_all) {
            self.lowers.each_name_of_roots(|name| match stat(self.root.as_fd(), name) {
                Ok(there) if kind(&there) == FileType::Directory => {
                    set_opaque(open_dir(self.root.as_fd(), name).context(|| "open")?.as_fd())
                }
                Ok(_) => Ok(()),
                Err(_) => make_whiteout(self.root.as_fd(), name),
            })?;
        }
        match &self.root_times {
            Some(times) => rustix::fs::futimens(&self.root, times).context(|| "set the time of the root"),
            None => Ok(()),
        }
    }
}

/// Writes the data of a file; what is not written of a sparse one is a hole.
pub(super) fn copy<R: BufRead>(entry: &Entry, data: &mut Entries<R>, file: &File) -> Result<()> {
    let write = || "write";
    let Some(pieces) = &entry.pieces else {
        loop {
            let bytes = data.data(u64::MAX)?;
            if bytes.is_empty() {
                return Ok(());
            }
            (&*file).write_all(bytes).context(write)?;
            let count = bytes.len();
            data.used(count);
        }
    };
    for piece in pieces {
        let mut at = piece.start;
        while at < piece.end {
            let bytes = data.data(piece.end - at)?;
            file.write_all_at(bytes, at).context(write)?;
            let count = bytes.len();
            if count == 0 {
                return Err(Error::new("the archive has less data than the file needs"));
            }
            at += count as u64;
            data.used(count);
        }
    }
    file.set_len(entry.size).context(|| "set the size")
}

pub(super) fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

pub(super) fn of_stat(old: &Stat) -> Entry {
    Entry {
        mode: old.st_mode & 0o7777,
        uid: old.st_uid.into(),
        gid: old.st_gid.into(),
        mtime: (old.st_mtime, old.st_mtime_nsec as u32),
        ..Entry::default()
    }
}
