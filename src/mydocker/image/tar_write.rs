//! Writes tar archives: ustar, with pax headers where ustar is too narrow. The same tree gives the same bytes.

use super::overlay::{DIRECTORY, is_opaque, is_whiteout, kind, names, read_xattrs, stat};
use super::tar_read::{Entry, Kind};
use crate::mydocker::files::tree::{DEPTH_LIMIT, Walk};
use crate::mydocker::userns::COUNT;
use crate::sys::{Context, Error, Result};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// What is copied at once, in bytes.
const CHUNK: usize = 1 << 20;

/// Largest number that the eleven octal digits of a size or the seven of an id can hold.
const SIZE_FIELD: u64 = 0o77_777_777_777;
const ID_FIELD: u64 = 0o7_777_777;

/// Writes the tree of a container's root file system as a plain archive, for `export` and `cp`. Sockets are left out.
///
/// `first` is the id on the host that is root's in the tree (`--userns auto`); 0 where the ids are as they should be.
pub fn export(root: &Path, first: u32, out: impl Write) -> Result<()> {
    tree(root, out, Form::Plain, first)
}

/// Writes one name of a directory, with all that is below it, under the name `shown`, for `cp`.
pub fn pack(dir: BorrowedFd<'_>, name: &[u8], shown: &[u8], first: u32, out: impl Write) -> Result<()> {
    let what = || format!("archive {}", String::from_utf8_lossy(shown));
    let there = stat(dir, name).context(what)?;
    // What is mounted in a container's tree is part of what it shows.
    let walk = dir.try_clone_to_owned().and_then(|dir| Ok(Walk::new(dir)?.with_mounts())).context(what)?;
    let mut pack = Pack { walk, out: Writer::new(out), form: Form::Plain, first, links: HashMap::new() };
    let mut path = shown.to_vec();
    if pack.one(name, &there, &path).map_err(|e| e.within(what()))? {
        path.push(b'/');
        pack.dir(&mut path)?;
    }
    pack.out.finish().map(drop)
}

/// Writes the upper directory of overlayfs as a layer of the image specification: whiteouts become `.wh.` entries.
pub(super) fn layer(upper: &Path, out: impl Write) -> Result<()> {
    tree(upper, out, Form::Layer, 0)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Layer,
}

fn tree(root: &Path, out: impl Write, form: Form, first: u32) -> Result<()> {
    let dir = rustix::fs::open(root, DIRECTORY, Mode::empty()).context(|| format!("open {}", root.display()))?;
    let walk = Walk::new(dir).context(|| format!("open {}", root.display()))?;
    let mut pack = Pack { walk, out: Writer::new(out), form, first, links: HashMap::new() };
    pack.dir(&mut Vec::new())?;
    pack.out.finish().map(drop)
}

struct Pack<W> {
    /// Where we are.
    walk: Walk,
    out: Writer<W>,
    form: Form,
    /// Which id is root's.
    first: u32,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Pack<W> {
    /// What is in the present directory, in the order of names. Whoever owns the tree may change it
    /// meanwhile: nothing is followed.
    fn dir(&mut self, path: &mut Vec<u8>) -> Result<()> {
        let depth = self.walk.depth();
        if depth > DEPTH_LIMIT {
            return Err(Error::new(format!("{} is deeper than {DEPTH_LIMIT} directories", String::from_utf8_lossy(path))));
        }
        let length = path.len();
        if self.form == Form::Layer && depth > 0 && is_opaque(self.walk.top()) {
            path.extend_from_slice(b".wh..wh..opq");
            self.out.entry(&Entry { path: path.clone(), ..Entry::default() })?;
            path.truncate(length);
        }
        for name in names(self.walk.top())? {
            path.extend_from_slice(&name);
            let entered = match stat(self.walk.top(), &name) {
                Err(Errno::NOENT) => Ok(false), // gone meanwhile
                Err(errno) => Err(Error::new("stat").errno(errno)),
                Ok(there) => self.one(&name, &there, path),
            };
            if entered.map_err(|e| e.within(format!("archive {}", String::from_utf8_lossy(path))))? {
                path.push(b'/');
                self.dir(path)?;
                self.walk.leave().context(|| format!("leave {}", String::from_utf8_lossy(path)))?;
            }
            path.truncate(length);
        }
        Ok(())
    }

    /// One name of the present directory; a directory is entered, and then this is true.
    fn one(&mut self, name: &[u8], there: &Stat, path: &[u8]) -> Result<bool> {
        let mut entry = of_stat(there, path.to_vec());
        (entry.uid, entry.gid) = (unshift(entry.uid, self.first), unshift(entry.gid, self.first));
        match kind(there) {
            FileType::Directory => {
                let entered = opened(self.walk.enter(name))?.is_some();
                if entered {
                    entry.path.push(b'/');
                    (entry.kind, entry.xattrs) = (Kind::Dir, read_xattrs(self.walk.top())?);
                    self.out.entry(&entry)?;
                }
                return Ok(entered);
            }
            FileType::CharacterDevice if self.form == Form::Layer && is_whiteout(there) => {
                let start = path.len() - name.len();
                entry.path.splice(start..start, *b".wh.");
                self.out.entry(&Entry { path: entry.path, ..Entry::default() })?;
                return Ok(false);
            }
            FileType::Socket => return Ok(false), // means nothing without its server
            _ if there.st_nlink > 1 => {
                if let Some(first) = self.links.get(&(there.st_dev, there.st_ino)) {
                    (entry.kind, entry.link) = (Kind::HardLink, first.clone());
                    return self.out.entry(&entry).map(|()| false);
                }
                self.links.insert((there.st_dev, there.st_ino), path.to_vec());
            }
            _ => {}
        }
        match kind(there) {
            FileType::RegularFile => return self.file(name, entry).map(|()| false),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(self.walk.top(), name, Vec::new()).context(|| "read the link")?;
                (entry.kind, entry.link) = (Kind::Symlink, target.into_bytes());
            }
            FileType::CharacterDevice => entry.kind = Kind::Char,
            FileType::BlockDevice => entry.kind = Kind::Block,
            FileType::Fifo => entry.kind = Kind::Fifo,
            other => return Err(Error::new(format!("it is of the unknown type {other:?}"))),
        }
        entry.device = (rustix::fs::major(there.st_rdev), rustix::fs::minor(there.st_rdev));
        self.out.entry(&entry).map(|()| false)
    }

    fn file(&mut self, name: &[u8], mut entry: Entry) -> Result<()> {
        // NONBLOCK, in case somebody puts a FIFO here at this moment.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Some(file) = opened(rustix::fs::openat(self.walk.top(), name, flags, Mode::empty()))? else { return Ok(()) };
        let now = rustix::fs::fstat(&file).context(|| "stat")?;
        if kind(&now) != FileType::RegularFile {
            return Ok(()); // changed under our hands; it was not this a moment ago
        }
        entry.size = u64::try_from(now.st_size).unwrap_or(0);
        entry.xattrs = read_xattrs(file.as_fd())?;
        self.out.entry(&entry)?;
        self.out.data(File::from(file), entry.size)
    }
}

/// `None` for what is no longer there, or is a link now.
fn opened<T>(result: rustix::io::Result<T>) -> Result<Option<T>> {
    match result {
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => Ok(None),
        other => other.map(Some).context(|| "open"),
    }
}

/// The container's id for one of the host's; of what it does not have, nobody's, as the kernel shows it there.
fn unshift(id: u64, first: u32) -> u64 {
    const OVERFLOW: u64 = 65534; // /proc/sys/kernel/overflowuid
    if first == 0 { id } else { id.checked_sub(first.into()).filter(|id| *id < COUNT.into()).unwrap_or(OVERFLOW) }
}

fn of_stat(there: &Stat, path: Vec<u8>) -> Entry {
    Entry {
        path,
        mode: there.st_mode & 0o7777,
        uid: there.st_uid.into(),
        gid: there.st_gid.into(),
        mtime: (there.st_mtime, 0), // whole seconds, as docker's layers have them
        ..Entry::default()
    }
}

/// An archive that is being written.
pub(super) struct Writer<W> {
    out: W,
    buffer: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self { out, buffer: Vec::new() }
    }

    /// A header; for a file, [`Writer::data`] with exactly its size must follow.
    pub fn entry(&mut self, entry: &Entry) -> Result<()> {
        let mut header = Header::new_ustar();
        let mut pax: Vec<(&[u8], Vec<u8>)> = Vec::new();
        if !set_text(&mut header, 0..100, &entry.path) {
            pax.push((b"path", entry.path.clone()));
        }
        if !set_text(&mut header, 157..257, &entry.link) {
            pax.push((b"linkpath", entry.link.clone()));
        }
        let mut number = |key: &'static [u8], value: u64, limit: u64| {
            if value > limit {
                pax.push((key, value.to_string().into_bytes()));
            }
        };
        number(b"size", entry.size, SIZE_FIELD);
        number(b"uid", entry.uid, ID_FIELD);
        number(b"gid", entry.gid, ID_FIELD);
        let seconds = u64::try_from(entry.mtime.0).ok().filter(|seconds| *seconds <= SIZE_FIELD);
        if seconds.is_none() {
            pax.push((b"mtime", entry.mtime.0.to_string().into_bytes()));
        }
        let names: Vec<Vec<u8>> = entry.xattrs.iter().map(|(name, _)| [b"SCHILY.xattr.", &name[..]].concat()).collect();
        pax.extend(names.iter().zip(&entry.xattrs).map(|(name, (_, value))| (&name[..], value.clone())));

        header.set_entry_type(match entry.kind {
            Kind::File => EntryType::Regular,
            Kind::Dir => EntryType::Directory,
            Kind::Symlink => EntryType::Symlink,
            Kind::HardLink => EntryType::Link,
            Kind::Char => EntryType::Char,
            Kind::Block => EntryType::Block,
            Kind::Fifo => EntryType::Fifo,
        });
        header.set_mode(entry.mode);
        header.set_uid(entry.uid.min(ID_FIELD));
        header.set_gid(entry.gid.min(ID_FIELD));
        header.set_size(entry.size.min(SIZE_FIELD));
        header.set_mtime(seconds.unwrap_or(0));
        let device = |set: std::io::Result<()>| set.context(|| "write a device number");
        device(header.set_device_major(entry.device.0))?;
        device(header.set_device_minor(entry.device.1))?;
        header.set_cksum();
        if !pax.is_empty() {
            self.pax(&pax)?;
        }
        self.write(header.as_bytes())
    }

    fn pax(&mut self, records: &[(&[u8], Vec<u8>)]) -> Result<()> {
        let mut text = Vec::new();
        for (key, value) in records {
            // The length counts its own digits.
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            text.extend_from_slice(format!("{length} ").as_bytes());
            text.extend_from_slice(&[key, &b"="[..], value, b"\n"].concat());
        }
        let mut header = Header::new_ustar();
        set_text(&mut header, 0..100, b"PaxHeaders/0");
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(text.len() as u64);
        header.set_cksum();
        self.write(header.as_bytes())?;
        self.data(&text[..], text.len() as u64)
    }

    /// Exactly `size` bytes of a file: one that grows is cut, one that shrinks is filled up, since the header is out already.
    pub fn data(&mut self, mut source: impl Read, size: u64) -> Result<()> {
        self.buffer.resize(CHUNK, 0);
        let mut left = size;
        while left > 0 {
            let want = CHUNK.min(usize::try_from(left).unwrap_or(CHUNK));
            let mut count = match source.read(&mut self.buffer[..want]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.context(|| "read")?,
            };
            if count == 0 {
                self.buffer[..want].fill(0);
                count = want;
            }
            self.out.write_all(&self.buffer[..count]).context(|| WRITE)?;
            left -= count as u64;
        }
        let padding = (size.wrapping_neg() % BLOCK as u64) as usize;
        self.write(&[0; BLOCK][..padding])
    }

    /// A whole small file.
    pub fn document(&mut self, path: &str, text: &[u8]) -> Result<()> {
        self.entry(&Entry { path: path.into(), mode: 0o644, size: text.len() as u64, ..Entry::default() })?;
        self.data(text, text.len() as u64)
    }

    /// The two empty blocks at the end.
    pub fn finish(mut self) -> Result<W> {
        self.write(&[0; 2 * BLOCK])?;
        self.out.flush().context(|| WRITE)?;
        Ok(self.out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).context(|| WRITE)
    }
}

const WRITE: &str = "write the archive";

/// Puts a text into its field; false if it does not fit.
fn set_text(header: &mut Header, field: std::ops::Range<usize>, text: &[u8]) -> bool {
    let field = &mut header.as_mut_bytes()[field];
    let fits = text.len() <= field.len();
    let count = text.len().min(field.len());
    field[..count].copy_from_slice(&text[..count]);
    fits
}
