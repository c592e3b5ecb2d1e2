//! Files of a container's file system, read from its layers without a mount.

use rustix::fd::{AsRawFd, OwnedFd};
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
            // By the descriptor: a running container may have put a device in its place meanwhile, which to open is to do something.
            FileType::RegularFile | FileType::Directory => {
                let path = format!("/proc/self/fd/{}", found.as_raw_fd());
                rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(Some)
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, RenameFlags, mknodat, renameat_with};
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn what_is_no_file_is_not_opened_even_if_it_takes_the_place_of_one() {
        let dir = std::env::temp_dir().join(format!("mydocker-files-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        let (passwd, fifo) = (dir.join("etc/passwd"), dir.join("etc/fifo"));
        std::fs::write(&passwd, "text").unwrap();
        mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let layers = Layers::new(vec![dir.clone()]);
        assert!(layers.open("etc/fifo").is_err());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    renameat_with(CWD, &passwd, CWD, &fifo, RenameFlags::EXCHANGE).unwrap();
                }
            });
            let opened = (0..20_000).filter_map(|_| layers.open("etc/passwd").ok());
            let regular = opened.map(|file| file.metadata().unwrap().is_file()).fold((0, true), |(n, all), is| (n + 1, all && is));
            over.store(true, Ordering::Relaxed);
            assert!(regular.0 > 0 && regular.1, "{regular:?}");
        });
        // A link stays in the layer, and of an endless file no more is read than anybody needs.
        std::fs::remove_file(dir.join("etc/fifo")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.join("etc/fifo")).unwrap();
        assert!(layers.open("etc/fifo").is_err());
        File::create(dir.join("etc/large")).unwrap().set_len(4 << 20).unwrap();
        assert_eq!(layers.text("etc/large").len() as u64, LIMIT);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
