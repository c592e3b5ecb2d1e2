//! Walks and removes directory trees that somebody else made, however deep they are.
//!
//! A container can make a tree of 100,000 levels: its paths are longer than `PATH_MAX`, and one
//! descriptor for each level is more than `RLIMIT_NOFILE`. [`Walk`] therefore holds only the
//! directories nearest to where it is. Of those above it remembers the inode and the place in the
//! listing, 24 bytes each. It goes back up by `..` and looks whether it arrived in the same inode:
//! who renames directories meanwhile can stop it, but never lead it elsewhere. It follows no link
//! and crosses no mount.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat, unlinkat};
use rustix::io::{Errno, Result};
use std::collections::VecDeque;
use std::ffi::CString;
use std::io::ErrorKind;
use std::path::Path;

/// Deepest directory that goes into an archive, a layer or a volume, and comes out of one. Removing
/// and measuring know no limit.
pub const DEPTH_LIMIT: usize = 256;

/// Directories that are open at once. Trees that people make are less deep, and are walked without
/// `..`.
const OPEN: usize = 24;

/// How often [`remove`] begins again with a directory that got new entries, or that was moved,
/// while it was being emptied.
const AGAIN: u32 = 1000;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Where a walk goes on when it comes back to a directory that it had to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resume {
    /// With the entry that it had entered, which is still to be removed.
    Same,
    /// With the entry after it.
    Next,
}

/// A directory that is open.
#[derive(Debug)]
struct Open {
    dir: Dir,
    /// Its name in the directory above, unless it was closed in between.
    name: Option<Box<[u8]>>,
    /// The places in the listing before and after the entry that was read last.
    at: [i64; 2],
}

/// A directory that was closed, because the walk is far below it.
#[derive(Debug)]
struct Closed {
    device: u64,
    inode: u64,
    at: i64,
}

/// A walk through a tree, depth first.
#[derive(Debug)]
pub struct Walk {
    closed: Vec<Closed>,
    /// Never empty.
    open: VecDeque<Open>,
    resume: Resume,
    /// What [`ResolveFlags`] say of mounts.
    mounts: ResolveFlags,
}

impl Walk {
    /// Begins in this directory.
    pub fn new(dir: OwnedFd) -> Result<Self> {
        let first = Open { dir: Dir::new(dir)?, name: None, at: [0; 2] };
        Ok(Self { closed: Vec::new(), open: VecDeque::from([first]), resume: Resume::Next, mounts: ResolveFlags::NO_XDEV })
    }

    /// Enters mounts too: those inside a container's root belong to what the container shows.
    #[must_use]
    pub fn with_mounts(mut self) -> Self {
        self.mounts = ResolveFlags::empty();
        self
    }

    /// The present directory.
    pub fn top(&self) -> BorrowedFd<'_> {
        // A `Dir` of Linux always has its descriptor, and there is always one.
        self.open[self.open.len() - 1].dir.fd().expect("a directory that is open")
    }

    /// How many directories lie above the present one.
    pub fn depth(&self) -> usize {
        self.closed.len() + self.open.len() - 1
    }

    fn last(&mut self) -> &mut Open {
        let last = self.open.len() - 1;
        &mut self.open[last]
    }

    /// The next entry of the present directory; `.` and `..` are left out.
    pub fn read(&mut self) -> Option<Result<(CString, FileType)>> {
        let open = self.last();
        loop {
            let entry = match open.dir.read()? {
                Ok(entry) => entry,
                Err(errno) => return Some(Err(errno)),
            };
            open.at = [open.at[1], entry.offset()];
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Some(Ok((entry.file_name().to_owned(), entry.file_type())));
            }
        }
    }

    /// Goes into a directory of the present one. A link is refused (ELOOP, ENOTDIR), and so is a
    /// mount (EXDEV).
    pub fn enter(&mut self, name: &[u8]) -> Result<()> {
        let dir = open_below(self.top(), name, self.mounts)?;
        if self.open.len() == OPEN {
            self.close_topmost()?;
        }
        self.open.push_back(Open { dir: Dir::new(dir)?, name: Some(name.into()), at: [0; 2] });
        Ok(())
    }

    fn close_topmost(&mut self) -> Result<()> {
        let Some(open) = self.open.front() else { return Ok(()) };
        let stat = open.dir.stat()?;
        let at = open.at[usize::from(self.resume == Resume::Next)];
        self.closed.push(Closed { device: stat.st_dev, inode: stat.st_ino, at });
        self.open.pop_front();
        Ok(())
    }

    /// Goes back up; gives the name of the directory that was left, if it is still known. At the
    /// top it stays where it is. If that directory lies elsewhere by now, it says ESTALE.
    pub fn leave(&mut self) -> Result<Option<Box<[u8]>>> {
        if self.open.len() == 1 {
            let Some(closed) = self.closed.pop() else { return Ok(None) };
            let above = openat(self.top(), c"..", DIRECTORY, Mode::empty())?;
            let stat = fstat(&above)?;
            if (stat.st_dev, stat.st_ino) != (closed.device, closed.inode) {
                return Err(Errno::STALE);
            }
            let mut dir = Dir::new(above)?;
            dir.seek(closed.at)?;
            self.open.push_front(Open { dir, name: None, at: [closed.at; 2] });
        }
        Ok(self.open.pop_back().and_then(|left| left.name))
    }

    /// Reads the present directory from its beginning.
    fn rewind(&mut self) -> Result<()> {
        self.last().dir.seek(0)
    }
}

fn open_below(dir: BorrowedFd<'_>, name: &[u8], mounts: ResolveFlags) -> Result<OwnedFd> {
    openat2(dir, name, DIRECTORY, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | mounts)
}

/// Removes a file, or a directory with everything below it. It stops at what cannot be removed:
/// EBUSY tells of a mount.
pub fn remove(at: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match unlinkat(at, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let mut again = 0;
    loop {
        let top = open_below(at, name, ResolveFlags::NO_XDEV);
        let done = top.and_then(Walk::new).and_then(|walk| empty(walk, &mut again));
        match done.and_then(|()| unlinkat(at, name, AtFlags::REMOVEDIR)) {
            Err(Errno::STALE | Errno::NOTEMPTY) if again < AGAIN => again += 1,
            Err(Errno::XDEV) => return Err(Errno::BUSY),
            other => return other,
        }
    }
}

/// [`remove`] by a path that is ours down to its last name.
pub fn remove_path(path: &Path) -> std::io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(ErrorKind::InvalidInput.into()) };
    let parent = openat(CWD, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    remove(parent.as_fd(), name.as_encoded_bytes()).map_err(Into::into)
}

/// Removes what is in a directory; the directory itself stays.
pub fn remove_content(path: &Path) -> std::io::Result<()> {
    let dir = openat(CWD, path, DIRECTORY, Mode::empty())?;
    empty(Walk::new(dir)?, &mut 0).map_err(|errno| if errno == Errno::XDEV { Errno::BUSY } else { errno }.into())
}

fn empty(mut walk: Walk, again: &mut u32) -> Result<()> {
    walk.resume = Resume::Same;
    loop {
        if let Some(entry) = walk.read() {
            let (name, kind) = entry?;
            if kind != FileType::Directory {
                match unlinkat(walk.top(), &name, AtFlags::empty()) {
                    Err(Errno::ISDIR) => {} // some file systems do not tell the kind
                    Ok(()) | Err(Errno::NOENT) => continue,
                    other => return other,
                }
            }
            match walk.enter(name.to_bytes()) {
                // It is no directory any more, or gone. What has taken its place is seen by whoever
                // removes this directory.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                done => done?,
            }
            continue;
        }
        if walk.depth() == 0 {
            return Ok(());
        }
        // Without its name the empty directory is found once more by the listing.
        let Some(name) = walk.leave()? else { continue };
        match unlinkat(walk.top(), &*name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::NOTDIR) if *again < AGAIN => {
                *again += 1;
                walk.rewind()?;
            }
            other => return other,
        }
    }
}

/// How much a tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of all regular files, holes included.
    pub files: u64,
    /// Bytes on the disk, of everything.
    pub disk: u64,
}

/// Measures what is at a path. What cannot be read, and what lies in a mount, counts nothing.
pub fn size(path: &Path) -> Size {
    let mut size = Size::default();
    let Ok(stat) = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) else { return size };
    size.add(&stat);
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        && let Ok(walk) = openat(CWD, path, DIRECTORY, Mode::empty()).and_then(Walk::new)
    {
        // A tree that is moved under our hands is measured as far as we came.
        let _ = size.add_all(walk);
    }
    size
}

impl Size {
    fn add(&mut self, stat: &rustix::fs::Stat) {
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let length = if is_file { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
        self.files = self.files.saturating_add(length);
        self.disk = self.disk.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
    }

    fn add_all(&mut self, mut walk: Walk) -> Result<()> {
        loop {
            let Some(entry) = walk.read() else {
                if walk.depth() == 0 {
                    return Ok(());
                }
                walk.leave()?;
                continue;
            };
            // What cannot be listed to its end is left as it is.
            let Ok((name, _)) = entry else { continue };
            let Ok(stat) = statat(walk.top(), &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            self.add(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let _ = walk.enter(name.to_bytes());
            }
        }
    }
}
