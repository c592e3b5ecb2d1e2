//! What an image has at a volume's destination goes into the new volume: docker's copy-up.
//!
//! Directories, files, links, nodes and hard links with owner, mode, times and extended attributes; holes stay holes. The tree is the
//! image's, and hostile: its path is resolved inside its root (CVE-2019-18837, CVE-2021-30465 were paths that left it), then nothing is
//! followed, only directories and regular files are opened, and the depth is bounded.

use crate::mydocker::files::tree::{DEPTH_LIMIT, Walk};
use crate::sys::{Context, Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fgetxattr, flistxattr, fsetxattr, fstat, ftruncate, futimens, linkat, mkdirat, mknodat, openat, openat2, readlinkat, seek, sendfile,
    statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};

/// Bytes of all names and of one value of extended attributes (xattr(7), linux/limits.h).
const XATTR_MAX: usize = 65_536;

/// Bytes a sendfile(2).
const CHUNK: usize = 1 << 24;

/// One copy.
struct Copy<'a> {
    /// The volume's root.
    root: BorrowedFd<'a>,
    /// Where we are in the image.
    from: Walk,
    /// Where we are in the volume.
    to: Walk,
    /// Files with several names: where the first one is in the volume.
    seen: HashMap<(u64, u64), CString>,
}

/// Copies what is at `path` below `image` into the empty directory `to`, which takes its owner and mode; whether there was anything.
pub fn copy_up(image: BorrowedFd<'_>, path: &str, to: BorrowedFd<'_>) -> Result<bool> {
    let what = || format!("copy {path} of the image");
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = match openat2(image, path, flags, Mode::empty(), how) {
        Err(Errno::NOENT) => return Ok(false),
        Err(Errno::NOTDIR) => return Err(Error::new(what()).hint("it is no directory, and a volume cannot be mounted over a file")),
        found => found.context(what)?,
    };
    let into = to.try_clone_to_owned().context(what)?;
    let (from, into) = Walk::new(from).and_then(|from| Ok((from, Walk::new(into)?))).context(what)?;
    Copy { root: to, from, to: into, seen: HashMap::new() }.directory(c"")?;
    Ok(true)
}

impl Copy<'_> {
    /// The present directories. `at` is their path in the volume, with a slash at its end unless it
    /// is empty.
    fn directory(&mut self, at: &CStr) -> Result<()> {
        if self.from.depth() >= DEPTH_LIMIT {
            return Err(Error::new(format!("copy {at:?} of the image")).hint(format!("it is more than {DEPTH_LIMIT} directories deep")));
        }
        while let Some(entry) = self.from.read() {
            let (name, _) = entry.context(|| format!("list {at:?} of the image"))?;
            let path = CString::new([at.to_bytes(), name.to_bytes()].concat()).unwrap_or_default();
            self.one(&name, &path)?;
        }
        // After its entries, which would change its times.
        let stat = fstat(self.from.top()).context(|| format!("stat {at:?} of the image"))?;
        opened(self.from.top(), self.to.top(), &stat).context(|| format!("copy the attributes of {at:?}"))
    }

    fn one(&mut self, name: &CStr, path: &CStr) -> Result<()> {
        let what = || format!("copy {path:?} of the image");
        let (from, to) = (self.from.top(), self.to.top());
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).context(what)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.seen.get(&(stat.st_dev, stat.st_ino)) {
                return linkat(self.root, first, to, name, AtFlags::empty()).context(what);
            }
            self.seen.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        match kind {
            FileType::Directory => {
                mkdirat(to, name, Mode::RWXU).context(what)?;
                self.from.enter(name.to_bytes()).and_then(|()| self.to.enter(name.to_bytes())).context(what)?;
                let path = CString::new([path.to_bytes(), b"/"].concat()).unwrap_or_default();
                self.directory(&path)?;
                self.from.leave().and_then(|_| self.to.leave()).map(drop).context(what)
            }
            FileType::RegularFile => file(from, to, name).context(what),
            // Of no use without the process that listens.
            FileType::Socket => Ok(()),
            FileType::Symlink => readlinkat(from, name, Vec::new())
                .and_then(|target| symlinkat(target, to, name))
                .and_then(|()| unopened(to, name, &stat))
                .context(what),
            _ => mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev)
                .and_then(|()| unopened(to, name, &stat))
                .context(what),
        }
    }
}

/// Opens a file that was just looked at. It may have been swapped meanwhile, but not for anything
/// outside.
fn source(from: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    openat2(from, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty(), how)
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    let from = source(from, name)?;
    let stat = fstat(&from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::LOOP);
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
    content(&from, &to, stat.st_size as u64)?;
    opened(from.as_fd(), to.as_fd(), &stat)
}

/// Data without holes: a file of a terabyte of nothing costs nothing.
fn content(from: &OwnedFd, to: &OwnedFd, size: u64) -> rustix::io::Result<()> {
    ftruncate(to, size)?;
    let mut at = 0;
    loop {
        let start = match seek(from, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => return Ok(()),
            other => other?,
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        seek(to, SeekFrom::Start(start))?;
        let mut read = start;
        // Not copy_file_range(2): it refuses to go from overlayfs to another file system.
        while read < end {
            let chunk = usize::try_from(end - read).unwrap_or(usize::MAX).min(CHUNK);
            if sendfile(to, from, Some(&mut read), chunk)? == 0 {
                return Ok(()); // became shorter
            }
        }
        at = end;
    }
}

/// Owner, mode, extended attributes and times of a file or directory. The owner first: a change of owner takes the set-user-ID bit
/// and the capabilities away.
fn opened(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let mut names = vec![0; XATTR_MAX];
    let length = match flistxattr(from, &mut names) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut value = vec![0; if length == 0 { 0 } else { XATTR_MAX }];
    for name in names[..length].split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok()) {
        // overlayfs's own notes are about the layer, not about the file.
        if [&b"trusted.overlay."[..], b"user.overlay."].iter().any(|prefix| name.to_bytes().starts_with(prefix)) {
            continue;
        }
        let length = fgetxattr(from, name, &mut value[..])?;
        fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    futimens(to, &times(stat))
}

/// Owner and times of a link or a node.
fn unopened(to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
    chownat(to, name, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)), AtFlags::SYMLINK_NOFOLLOW)?;
    utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime as _, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
    }
}
