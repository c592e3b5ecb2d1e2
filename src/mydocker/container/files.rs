//! Files of a container's file system, read from its layers without a mount.

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// No file that is looked at here is larger: passwd, group.
const LIMIT: u64 = 1 << 20;

/// The directories of an overlay, the topmost first, or one directory that has everything.
#[derive(Clone, Debug)]
pub struct Layers(Vec<PathBuf>);

impl Layers {
    /// The topmost first.
    pub fn new(dirs: Vec<PathBuf>) -> Self {
        Self(dirs)
    }

    /// The directories, topmost first.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.0
    }

    /// Opens what the container would see at `path`. A link is followed inside its layer and never out of it, and what
    /// is neither file nor directory is not opened.
    pub fn open(&self, path: &str) -> std::io::Result<File> {
        let path = Path::new(path.trim_start_matches('/'));
        for dir in &self.0 {
            match Self::open_in(dir, path) {
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
                Ok(None) => break,
                Ok(Some(file)) => return Ok(file.into()),
            }
        }
        Err(ErrorKind::NotFound.into())
    }

    /// `None` for a whiteout: the file is removed in this layer.
    fn open_in(dir: &Path, path: &Path) -> rustix::io::Result<Option<OwnedFd>> {
        let root = rustix::fs::openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let found = openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        match FileType::from_raw_mode(fstat(&found)?.st_mode) {
            FileType::RegularFile | FileType::Directory => {
                openat2(&root, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty(), resolve).map(Some)
            }
            FileType::CharacterDevice => Ok(None),
            _ => Err(Errno::INVAL),
        }
    }

    /// The text of a small file; empty if there is none.
    pub fn text(&self, path: &str) -> String {
        let mut bytes = Vec::new();
        let read = self.open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes));
        if read.is_ok() { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() }
    }
}
