//! Images: names, the store, archives good and hostile, commit. Real trees and the kernel's overlayfs, nothing mocked.

#![cfg(feature = "mydocker")]

mod archives;
mod commits;
mod crash;
mod hostile;
mod names;
mod registry;
mod rootless;
#[path = "../common/skip.rs"]
mod skip;
mod store;
mod trees;

use keel::mydocker::files::{Dirs, random};
use keel::mydocker::image::{Image, Images, Import, Progress, Reference};
use std::fs;
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// A store in a directory of its own; removed when dropped.
struct Store {
    dir: PathBuf,
    images: Images,
}

impl Store {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("images-{}", random(12)));
        let images = Images::open(&Dirs::new(Some(&dir)).unwrap()).unwrap();
        Self { dir, images }
    }

    /// Imports an archive under a name.
    fn import(&self, archive: &[u8], name: &str) -> Result<Image, String> {
        let reference = Reference::parse(name).unwrap();
        let asked = Import { reference: Some(&reference), ..Import::default() };
        self.images.import(archive, &asked, &mut quiet).map_err(|e| e.to_string())
    }

    /// The directory of the only layer of what was imported.
    fn unpacked(&self, archive: &[u8]) -> PathBuf {
        let image = self.import(archive, "unpacked").unwrap();
        self.images.layers(&image, &mut quiet).unwrap().remove(0)
    }

    /// The sentence with which an archive is refused, and nothing is left of it.
    fn refused(&self, archive: &[u8]) -> String {
        let before = self.files();
        let said = self.import(archive, "refused").expect_err("a bad archive was taken");
        assert_eq!(self.files(), before, "{said}");
        assert!(!said.contains('\n'), "{said}");
        said
    }

    /// Everything in the store but its locks.
    fn files(&self) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = ["images/blobs/sha256", "images/ingest", "layers"]
            .iter()
            .flat_map(|dir| fs::read_dir(self.dir.join(dir)).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.ends_with("layers/lock"))
            .collect();
        all.sort();
        all
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn quiet(_: Progress<'_>) {}

/// An archive that is built entry by entry, with whatever is asked for.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn new() -> Self {
        Self::default()
    }

    fn file(self, path: &str, text: &str) -> Self {
        self.entry(EntryType::Regular, path, "", 0o644, text.as_bytes())
    }

    fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path, "", mode, b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, 0o777, b"")
    }

    fn hard(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, 0o644, b"")
    }

    fn entry(self, kind: EntryType, path: &str, target: &str, mode: u32, data: &[u8]) -> Self {
        self.with(kind, path, target, data, |header| header.set_mode(mode))
    }

    /// An entry whose header is changed at will; the checksum is made right afterwards.
    fn with(mut self, kind: EntryType, path: &str, target: &str, data: &[u8], change: impl FnOnce(&mut Header)) -> Self {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A pax header for the entry that follows.
    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest + 1..).find(|length| length - rest == length.to_string().len()).unwrap();
            text.extend_from_slice(format!("{length} {key}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.entry(EntryType::XHeader, "pax", "", 0o644, &text)
    }

    fn done(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    /// Without the empty blocks at the end.
    fn cut(self, bytes: usize) -> Vec<u8> {
        self.0[..bytes].to_vec()
    }
}

/// A mount of overlayfs in the tests' own mount namespace; unmounted when dropped.
struct Overlay {
    dir: PathBuf,
    upper: PathBuf,
}

impl Overlay {
    fn new(lowers: &[PathBuf]) -> Self {
        Self::with(lowers, "redirect_dir=off,metacopy=off")
    }

    fn with(lowers: &[PathBuf], more: &str) -> Self {
        let top = std::env::temp_dir().join(format!("overlay-{}", random(12)));
        let made = Self { dir: top.join("merged"), upper: top.join("upper") };
        for dir in ["merged", "upper", "work"] {
            fs::create_dir_all(top.join(dir)).unwrap();
        }
        let lowers: Vec<_> = lowers.iter().map(|path| path.to_str().unwrap()).collect();
        let options =
            format!("lowerdir={},upperdir={},workdir={},{more}", lowers.join(":"), made.upper.display(), top.join("work").display());
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("overlay", &made.dir, "overlay", rustix::mount::MountFlags::empty(), Some(options.as_c_str())).unwrap();
        made
    }

    fn names(&self, below: &str) -> Vec<String> {
        names(&self.dir.join(below))
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.dir, rustix::mount::UnmountFlags::DETACH);
        let _ = fs::remove_dir_all(self.dir.parent().unwrap());
    }
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}
