//! Layers unpacked once and shared by all containers, read-only.
//!
//! A layer is unpacked onto what is below it, so that its name is the chain id of the image specification: the digest of its own
//! archive and of all below. Directories are named by the first digits of it, since overlayfs takes all names of a
//! mount in one page; `NAME.json` beside says whose digits they are. A directory that has its final name is complete.

use super::blob::Digest;
use super::stream::{Counting, Watched, decompress, detect, pipe};
use super::unpack::{Made, unpack};
use super::{Image, Images, Lease, Progress, Watcher};
use crate::mydocker::files::{self, Dirs, Lock, tree};
use crate::sys::{Context, Error, Result};
use oci_spec::image::{Descriptor, History};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Digits in the name of a layer, and more when another layer has them.
const DIGITS: [usize; 3] = [12, 24, 64];

/// Bytes of options that mount(2) takes for a container's overlay: a page, with a NUL at its end.
/// It holds the paths of all layers, and so says how many an image may have; overlayfs itself takes
/// 500 (OVL_MAX_STACK).
const MOUNT_OPTIONS: usize = 4095;

/// How many layers an image may have here, so that a container of it can start.
pub(super) fn most_layers(dirs: &Dirs) -> usize {
    let length = |path: PathBuf| path.as_os_str().len();
    // As the bundle of a container has them: its own two directories, and the layers with colons
    // between them.
    let own = "lowerdir=,upperdir=,workdir=,userxattr".len() + 2 * (length(dirs.containers()) + "//upper".len() + 64);
    (MOUNT_OPTIONS + 1).saturating_sub(own) / (length(dirs.layers()) + "/:".len() + DIGITS[0])
}

/// The layer of an image that has none: that of an archive of no bytes.
pub(super) fn empty_chain() -> Digest {
    Digest::of(b"")
}

/// `NAME.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    chain: Digest,
    /// Bytes of all files.
    size: u64,
}

/// A directory that is being filled; unless it is kept, it is removed.
pub(super) struct Growing(pub PathBuf);

impl Drop for Growing {
    fn drop(&mut self) {
        let _ = tree::remove_path(&self.0);
    }
}

/// The chain ids for the diff ids, lowest first: image specification, "Layer ChainID".
pub(super) fn chain(diffs: &[String]) -> Result<Vec<Digest>> {
    let mut chain: Vec<Digest> = Vec::new();
    for diff in diffs {
        let diff = Digest::parse(diff)?;
        chain.push(match chain.last() {
            None => diff,
            Some(below) => Digest::of(format!("{below} {diff}").as_bytes()),
        });
    }
    Ok(chain)
}

impl Images {
    /// The directories of an image's layers for overlayfs's `lowerdir`: **topmost first**. What is not unpacked yet is unpacked now, and
    /// only once, however many ask at the same time. An image without layers has one empty directory.
    pub fn layers(&self, image: &Image, watcher: Watcher<'_>) -> Result<Vec<PathBuf>> {
        if let Some(all) = self.unpacked(&image.layers)? {
            return Ok(all);
        }
        self.adding(|lease| self.unpack_all(lease, image, watcher))
    }

    /// Refuses an image of so many layers, if none of its containers could start.
    pub(super) fn can_start(&self, layers: usize) -> Result<()> {
        if layers <= self.most_layers {
            return Ok(());
        }
        let (most, place) = (self.most_layers, self.layers.display());
        Err(Error::new(format!("the image has {layers} layers, and no container of it could start: a mount takes {most} below {place}"))
            .hint("export a container of it and import that, which makes one layer; a shorter --root has room for more"))
    }

    /// Bytes of all files in an image's layers; of those that are not unpacked yet, of their blobs.
    pub fn size(&self, image: &Image) -> u64 {
        let layers = image.layers.iter().zip(image.manifest.layers());
        // A manifest may say any size.
        layers.map(|(chain, blob)| self.layer_size(chain).unwrap_or_else(|| blob.size())).fold(0, u64::saturating_add)
    }

    /// Bytes on the disk of all blobs, and of all unpacked layers.
    pub fn disk_use(&self) -> (u64, u64) {
        (tree::size(&self.blobs.dir).disk, tree::size(&self.layers).disk)
    }

    /// Bytes of the layer of that chain id, if it is unpacked.
    pub fn layer_size(&self, chain: &Digest) -> Option<u64> {
        self.place(chain).ok().and_then(|(dir, note)| note.filter(|_| dir.exists())).map(|note| note.size)
    }

    /// How an image came to be, the latest step first, with the bytes that each layer has.
    pub fn history(&self, image: &Image) -> Vec<(History, u64)> {
        let steps = image.config.history().clone().unwrap_or_default();
        let mut sizes = image.layers.iter().zip(image.manifest.layers());
        let size = |step: &History| if step.empty_layer() == Some(true) { None } else { sizes.next() };
        let sized = |(chain, blob): (&Digest, &Descriptor)| self.layer_size(chain).unwrap_or_else(|| blob.size());
        let sizes: Vec<u64> = steps.iter().map(size).map(|layer| layer.map_or(0, sized)).collect();
        steps.into_iter().zip(sizes).rev().collect()
    }

    fn unpacked(&self, chain: &[Digest]) -> Result<Option<Vec<PathBuf>>> {
        let mut all = Vec::with_capacity(chain.len());
        let empty = [empty_chain()];
        for id in if chain.is_empty() { &empty[..] } else { chain }.iter().rev() {
            let (dir, note) = self.place(id)?;
            if note.is_none() || !dir.exists() {
                return Ok(None);
            }
            all.push(dir);
        }
        Ok(Some(all))
    }

    pub(super) fn unpack_all(&self, lease: &Lease, image: &Image, watcher: Watcher<'_>) -> Result<Vec<PathBuf>> {
        let mut below: Vec<PathBuf> = Vec::new();
        for ((id, diff), blob) in image.layers.iter().zip(image.diff_ids()).zip(image.manifest.layers()) {
            let digest = Digest::from(blob.digest());
            let dir =
                self.unpack_one(lease, id, diff, &digest, &below, watcher).map_err(|e| e.within(format!("layer {}", digest.short())))?;
            below.insert(0, dir);
        }
        if below.is_empty() {
            let growing = self.grow()?;
            below.push(self.keep(growing, &empty_chain(), Made::default())?);
        }
        Ok(below)
    }

    fn unpack_one(
        &self,
        _lease: &Lease,
        id: &Digest,
        diff: &str,
        blob: &Digest,
        below: &[PathBuf],
        watcher: Watcher<'_>,
    ) -> Result<PathBuf> {
        // One after the other: who waited here finds it done.
        let _lock = Lock::file(&self.layers.join(LOCK))?;
        let (dir, note) = self.place(id)?;
        if note.is_some() && dir.exists() {
            return Ok(dir);
        }
        let growing = self.grow()?;
        let file = self.blobs.open(blob)?;
        let total = file.metadata().ok().map(|meta| meta.len());
        let (counting, counted) = Counting::new(file);
        let (compression, source) = detect(counting)?;
        let progress = Progress { doing: "unpack", what: blob.short(), done: 0, total };
        let (made, passed) = pipe(decompress(compression, source)?, |chunks| {
            unpack(&mut Watched { chunks, counted, watcher, progress }, &growing.0, below)
        })?;
        if passed.digest.as_str() != diff {
            return Err(Error::new(format!("its content is not what the configuration promises: {} instead of {diff}", passed.digest)));
        }
        self.keep(growing, id, made)
    }

    /// A new directory to unpack into.
    pub(super) fn grow(&self) -> Result<Growing> {
        let path = self.layers.join(format!(".{}", files::random(16)));
        fs::create_dir(&path).context(|| format!("make the directory {}", path.display()))?;
        let growing = Growing(path);
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(&growing.0, mode).context(|| "set the mode of a layer")?;
        Ok(growing)
    }

    /// Gives a complete layer its name.
    pub(super) fn keep(&self, growing: Growing, chain: &Digest, made: Made) -> Result<PathBuf> {
        let (dir, note) = self.place(chain)?;
        if dir.exists() {
            return Ok(dir); // somebody was faster
        }
        if note.is_none() {
            files::write_json(&dir.with_extension("json"), &Note { chain: chain.clone(), size: made.size }, files::Keep::Always)?;
        }
        match fs::rename(&growing.0, &dir) {
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty) => {}
            other => other.context(|| format!("make the layer {}", dir.display()))?,
        }
        Ok(dir)
    }

    /// Where a layer is or will be: the shortest name that is free or already its own.
    fn place(&self, chain: &Digest) -> Result<(PathBuf, Option<Note>)> {
        for digits in DIGITS {
            let dir = self.layers.join(&chain.hex()[..digits]);
            match files::read_json::<Note>(&dir.with_extension("json"))? {
                Some(note) if note.chain != *chain => {}
                note => return Ok((dir, note)),
            }
        }
        Err(Error::new(format!("the layer {chain} has no place in {}", self.layers.display())))
    }

    /// The names in the directory of layers that belong to these.
    pub(super) fn layer_files(&self, layers: &BTreeSet<Digest>) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::from([LOCK.to_owned()]);
        for chain in layers {
            let name = self.place(chain)?.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
            names.insert(format!("{name}.json"));
            names.insert(name);
        }
        Ok(names)
    }
}

const LOCK: &str = "lock";
