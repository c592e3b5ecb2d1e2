//! The way to an entry of a layer, which never leads out of it.
//!
//! Directories are opened one below the other with `O_NOFOLLOW`; symbolic links on the way are expanded here, inside the layer.

use super::overlay::{is_whiteout, kind, open_dir, read_xattrs, set_opaque, stat};
use super::tar_read::{Entry, Kind, PATH_LIMIT};
use super::unpack::{Tree, of_stat, times};
use crate::mydocker::files::tree::DEPTH_LIMIT;
use crate::sys::{Context, Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, Timestamps};
use rustix::io::Errno;

/// Most symbolic links on one path, as in the kernel.
const LINKS_LIMIT: usize = 40;

/// A directory on the way to the present entry.
pub(super) struct Step {
    name: Vec<u8>,
    fd: OwnedFd,
    /// Its times, which what is made in it would change; they are set when it is left.
    pub times: Timestamps,
}

impl Tree {
    pub fn top(&self) -> BorrowedFd<'_> {
        self.stack.last().map_or(self.root.as_fd(), |step| step.fd.as_fd())
    }

    /// Goes into a directory of the topmost one.
    pub fn enter(&mut self, name: &[u8]) -> Result<()> {
        let fd = open_dir(self.top(), name).context(|| "open the directory")?;
        let times = times(&of_stat(&rustix::fs::fstat(&fd).context(|| "stat the directory")?));
        self.stack.push(Step { name: name.to_vec(), fd, times });
        Ok(())
    }

    /// Goes back to the directory so many below the root, and sets the times of those that it
    /// leaves.
    pub fn leave_to(&mut self, depth: usize) -> Result<()> {
        while self.stack.len() > depth
            && let Some(step) = self.stack.pop()
        {
            rustix::fs::futimens(&step.fd, &step.times).context(|| format!("set the time of {}", String::from_utf8_lossy(&step.name)))?;
        }
        Ok(())
    }

    /// The topmost directory gets the times of this entry in the end.
    pub fn keep_times(&mut self, entry: &Entry) {
        match self.stack.last_mut() {
            Some(step) => step.times = times(entry),
            None => self.root_times = Some(times(entry)),
        }
    }

    /// Goes to the directory of these names from the root, makes what is missing, and expands links within the layer.
    pub fn walk(&mut self, path: &[&[u8]]) -> Result<()> {
        let mut pending: Vec<Vec<u8>> = path.iter().rev().map(|name| name.to_vec()).collect();
        let (mut depth, mut links) = (0_usize, 0_usize);
        while let Some(name) = pending.pop() {
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    depth = depth.saturating_sub(1);
                    continue;
                }
                name if self.stack.get(depth).is_some_and(|step| step.name == name) => {
                    depth += 1;
                    continue;
                }
                _ => self.leave_to(depth)?,
            }
            if depth == DEPTH_LIMIT {
                return Err(too_deep());
            }
            match self.enter(&name) {
                Ok(()) => depth += 1,
                Err(error) if error.get_errno() == Some(Errno::NOENT) => match self.lend(&name)? {
                    Some(target) => expand(&target, &mut pending, &mut depth, &mut links)?,
                    None => depth += 1,
                },
                Err(error) if matches!(error.get_errno(), Some(Errno::LOOP | Errno::NOTDIR)) => {
                    match rustix::fs::readlinkat(self.top(), &name[..], Vec::new()) {
                        Ok(target) => expand(target.as_bytes(), &mut pending, &mut depth, &mut links)?,
                        Err(_) => {
                            self.instead_of_whiteout(&name)?;
                            depth += 1;
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.leave_to(depth)
    }

    /// A directory that was hidden first and has something new in it all the same.
    fn instead_of_whiteout(&mut self, name: &[u8]) -> Result<()> {
        let old = stat(self.top(), name).context(|| "stat")?;
        if !is_whiteout(&old) {
            return Err(Error::new("something on the way to it is no directory"));
        }
        rustix::fs::unlinkat(self.top(), name, AtFlags::empty()).context(|| "replace a whiteout")?;
        self.implied(name)?;
        set_opaque(self.top())
    }

    /// Makes a directory that the archive does not mention as the layers below have it, or gives the target if it is a link there.
    fn lend(&mut self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let path: Vec<&[u8]> = self.stack.iter().map(|step| &step.name[..]).chain([name]).collect();
        match self.lowers.find(&path) {
            Some((dir, old)) if kind(&old) == FileType::Directory => {
                let from = open_dir(dir.as_fd(), name).context(|| "open a directory of the layer below")?;
                self.implied(name)?;
                let mut entry = of_stat(&old);
                (entry.kind, entry.xattrs) = (Kind::Dir, read_xattrs(from.as_fd())?);
                self.attributes(self.top(), &entry)?;
                self.keep_times(&entry);
                Ok(None)
            }
            Some((dir, old)) if kind(&old) == FileType::Symlink => {
                let target = rustix::fs::readlinkat(&dir, name, Vec::new()).context(|| "read a link of the layer below")?;
                Ok(Some(target.into_bytes()))
            }
            _ => self.implied(name).map(|()| None),
        }
    }

    /// Makes a directory with the mode that every tool gives to what was not mentioned, and enters it.
    fn implied(&mut self, name: &[u8]) -> Result<()> {
        rustix::fs::mkdirat(self.top(), name, Mode::RWXU).context(|| "make the directory")?;
        self.enter(name)?;
        rustix::fs::fchmod(self.top(), Mode::from_raw_mode(0o755)).context(|| "set the mode")
    }
}

fn too_deep() -> Error {
    Error::new(format!("it is deeper than {DEPTH_LIMIT} directories"))
}

/// The names of a path from the root of the layer. A leading slash is dropped as every tar does, `..` may not lead out.
pub(super) fn names(path: &[u8]) -> Result<Vec<&[u8]>> {
    if path.len() > PATH_LIMIT || path.contains(&0) {
        return Err(Error::new(format!("its name holds a NUL or is longer than {PATH_LIMIT} bytes")));
    }
    let mut names = Vec::new();
    for name in path.split(|b| *b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop().ok_or_else(|| Error::new("the path leads out of the layer"))?),
            name => names.push(name),
        }
    }
    if names.len() > DEPTH_LIMIT { Err(too_deep()) } else { Ok(names) }
}

pub(super) fn join<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    names.collect::<Vec<_>>().join(&b'/')
}

/// Puts the names of a link's target before those that are to come; an absolute one begins at the root of the layer.
fn expand(target: &[u8], pending: &mut Vec<Vec<u8>>, depth: &mut usize, links: &mut usize) -> Result<()> {
    *links += 1;
    if *links > LINKS_LIMIT {
        return Err(Error::new("too many symbolic links lead to it"));
    }
    if target.starts_with(b"/") {
        *depth = 0;
    }
    pending.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
    Ok(())
}
