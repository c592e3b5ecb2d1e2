//! Paths below the container's root: everything there is hostile and may change under our hands.
//!
//! Allocates nothing: runs between clone and exec.

use super::ground::leave_open;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, mkdirat, openat, openat2, readlinkat_raw, statat};
use rustix::io::{Errno, Result};
use std::ffi::CStr;

/// A path with its NUL (limits.h).
pub const PATH_MAX: usize = 4096;
/// The kernel's own bound on links in one look-up (path_resolution(7)).
const LINKS_MAX: u32 = 40;

/// openat2(2) with O_PATH below `root`; links are followed inside it, magic links never. EAGAIN (a rename raced with
/// `..`) is tried again a bounded number of times.
pub fn resolve(root: BorrowedFd<'_>, path: &CStr, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
    for _ in 0..64 {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | resolve;
        match openat2(root, path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens `path` of the image in `root` with O_PATH, as the container would find it.
pub fn in_root(root: &std::path::Path, path: &str) -> Result<OwnedFd> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let path = std::ffi::CString::new(path).map_err(|_| Errno::INVAL)?;
    resolve(root.as_fd(), &path, OFlags::empty(), ResolveFlags::empty())
}

/// Resolves `path`, making what is missing: directories 0755, and at the end a directory or an empty file.
pub fn resolve_or_make(root: BorrowedFd<'_>, path: &CStr, directory: bool) -> Result<OwnedFd> {
    match resolve(root, path, OFlags::empty(), ResolveFlags::empty()) {
        Err(Errno::NOENT) => make_last(root, path, directory),
        other => other,
    }
}

/// Often only the last component is missing. Not inlined, because its buffer is large and most often nothing is missing.
#[inline(never)]
fn make_last(root: BorrowedFd<'_>, path: &CStr, directory: bool) -> Result<OwnedFd> {
    let (above, name) = split(path);
    let above = Buffer::new(above)?;
    if [&b""[..], b".", b".."].contains(&name.to_bytes()) {
        return make(root, path, directory);
    }
    let parent = match resolve(root, above.c_str()?, OFlags::DIRECTORY, ResolveFlags::empty()) {
        Err(Errno::NOENT) => return make(root, path, directory),
        other => other?,
    };
    create(parent.as_fd(), name, directory)?;
    leave_open(parent);
    match resolve(root, path, OFlags::empty(), ResolveFlags::empty()) {
        // There is a link that leads to nothing.
        Err(Errno::NOENT) => make(root, path, directory),
        other => other,
    }
}

/// NUL-terminated text in a fixed buffer: a path, or the options of mount(2).
pub struct Buffer {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl Buffer {
    pub fn new(text: &[u8]) -> Result<Self> {
        let mut buffer = Self { bytes: [0; PATH_MAX], length: 0 };
        buffer.push(text)?;
        Ok(buffer)
    }

    pub fn push(&mut self, text: &[u8]) -> Result<()> {
        if self.length + text.len() >= PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        self.bytes[self.length..self.length + text.len()].copy_from_slice(text);
        self.truncate(self.length + text.len());
        Ok(())
    }

    fn truncate(&mut self, length: usize) {
        self.length = length;
        self.bytes[length] = 0;
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// As a path: nothing is the present directory.
    fn c_str(&self) -> Result<&CStr> {
        if self.length == 0 { Ok(c".") } else { self.options() }
    }

    pub fn options(&self) -> Result<&CStr> {
        CStr::from_bytes_until_nul(&self.bytes).map_err(|_| Errno::INVAL)
    }
}

/// Walks component by component. `done` is a path without links, so that each step can be opened with NO_SYMLINKS: a
/// component swapped for a link meanwhile is an error, never a way out. A dangling link is followed and its target
/// made, inside the root.
fn make(root: BorrowedFd<'_>, path: &CStr, directory: bool) -> Result<OwnedFd> {
    let mut pending = Buffer::new(path.to_bytes())?;
    let mut done = Buffer::new(b"")?;
    let mut current = resolve(root, c".", OFlags::DIRECTORY, ResolveFlags::empty())?;
    let mut links = 0;
    let mut attempts = 0;
    loop {
        let text = pending.text();
        let start = text.iter().position(|&b| b != b'/').unwrap_or(text.len());
        if start == text.len() {
            return Ok(current);
        }
        let end = text[start..].iter().position(|&b| b == b'/').map_or(text.len(), |n| start + n);
        let last = text[end..].iter().all(|&b| b == b'/');
        let name = Buffer::new(&text[start..end])?;
        let rest = Buffer::new(&text[end..])?;
        let before = done.length;
        match name.text() {
            b"." => {}
            b".." => {
                let parent = done.text().iter().rposition(|&b| b == b'/').unwrap_or(0);
                done.truncate(parent);
                current = resolve(root, done.c_str()?, OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)?;
            }
            component => {
                if before > 0 {
                    done.push(b"/")?;
                }
                done.push(component)?;
                match statat(&current, name.c_str()?, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => create(current.as_fd(), name.c_str()?, directory || !last)?,
                    Err(error) => return Err(error),
                    Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                        links += 1;
                        // The link of a descriptor, which may have come to be since `resolve`
                        // looked, as we open some here, reads as a path of the host's: it must not
                        // be made.
                        if links > LINKS_MAX || is_on_proc(&current)? {
                            return Err(Errno::LOOP);
                        }
                        let mut space = [const { std::mem::MaybeUninit::<u8>::uninit() }; PATH_MAX];
                        let (target, _) = readlinkat_raw(&current, name.c_str()?, &mut space[..])?;
                        done.truncate(before);
                        if target.first() == Some(&b'/') {
                            done.truncate(0);
                            current = resolve(root, c".", OFlags::DIRECTORY, ResolveFlags::empty())?;
                        }
                        pending = Buffer::new(target)?;
                        pending.push(rest.text())?;
                        continue;
                    }
                    Ok(_) => {}
                }
                match resolve(root, done.c_str()?, OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS) {
                    Ok(fd) => current = fd,
                    // Removed or swapped since: look again, but not for ever.
                    Err(Errno::NOENT | Errno::LOOP) if attempts < 64 => {
                        attempts += 1;
                        done.truncate(before);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        pending = rest;
    }
}

/// Whether `fd` is on a procfs, where nothing can be made and magic links look like others.
fn is_on_proc(fd: impl AsFd) -> Result<bool> {
    Ok(fstatfs(fd)?.f_type == super::mount::PROC_SUPER_MAGIC)
}

/// Makes a directory or an empty file; one that is there already is no error.
pub fn create(parent: BorrowedFd<'_>, name: &CStr, directory: bool) -> Result<()> {
    let made = if directory {
        mkdirat(parent, name, Mode::from_raw_mode(0o755))
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
    };
    match made {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// The directory part of a path, without its slash, and the last component.
pub fn split(path: &CStr) -> (&[u8], &CStr) {
    let bytes = path.to_bytes_with_nul();
    let slash = bytes.iter().rposition(|&b| b == b'/');
    let name = &bytes[slash.map_or(0, |at| at + 1)..];
    (&bytes[..slash.unwrap_or(0)], CStr::from_bytes_with_nul(name).unwrap_or(c""))
}

/// Opens the directory that `path` is in, making it, and gives the last component. Below /dev no link is followed: an
/// image's link would carry devices into a volume, which is the host's (CVE-2026-41579).
pub fn parent<'a>(root: BorrowedFd<'_>, path: &'a CStr) -> Result<(OwnedFd, &'a CStr)> {
    let (directory, name) = split(path);
    let directory = Buffer::new(directory)?;
    let in_dev = directory.text() == b"dev" || directory.text().starts_with(b"dev/");
    let how = if in_dev { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::empty() };
    match resolve(root, directory.c_str()?, OFlags::empty(), how) {
        Err(Errno::NOENT) => Ok((make(root, directory.c_str()?, true)?, name)),
        found => Ok((found?, name)),
    }
}

/// Whether `fd` is a directory.
pub fn is_directory(fd: impl AsFd) -> Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}
