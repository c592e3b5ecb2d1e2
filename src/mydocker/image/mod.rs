//! Images: references, the OCI layout, layers, archives, registries, commit.
//!
//! - `images/` is an OCI image layout: `index.json` has one descriptor for each name, with the full reference in the annotation
//!   `org.opencontainers.image.ref.name`, or none for an image without a name.
//! - `layers/` has what is unpacked, one directory for each chain of layers (`layers`).
//!
//! Two locks guard them. Whoever changes `index.json` holds [`Images::hold`] for a moment. Whoever adds blobs or layers holds a
//! shared *lease* for as long as it takes; what no image refers to is swept away by whoever gets the lease for himself, and each
//! command that changed something tries, so that the last one leaves nothing behind, not even what a crash left.

mod archive;
mod blob;
mod busybox;
mod changes;
mod commit;
mod copy;
mod http;
mod import;
mod index;
mod layers;
mod login;
mod overlay;
mod platform;
mod reference;
mod registry;
mod stream;
mod tags;
mod tar_read;
mod tar_write;
mod unpack;
mod walk;

pub use archive::Loaded;
pub use blob::Digest;
pub use busybox::is_static;
pub use commit::{Commit, Difference, diff};
pub use copy::{Receive, Received, receive, special};
pub use import::{Import, architecture};
pub use index::{Image, Removed};
pub use login::Logins;
pub use reference::{DEFAULT_DOMAIN, Reference};
pub use registry::{Pulled, login};
pub use tags::tags;
pub use tar_write::{export, pack};

use super::files::{self, Dirs, Lock};
use crate::sys::{Context, Error, Result};
use blob::Blobs;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::path::PathBuf;

/// How far something is, for a bar on the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// What is being done: `pull`, `unpack`.
    pub doing: &'a str,
    /// To what: the short digest of a layer, a file.
    pub what: &'a str,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, if that is known.
    pub total: Option<u64>,
}

/// Who is told of progress.
pub type Watcher<'a> = &'a mut dyn FnMut(Progress<'_>);

/// The images of one installation.
#[derive(Clone, Debug)]
pub struct Images {
    layout: PathBuf,
    layers: PathBuf,
    blobs: Blobs,
    most_layers: usize,
}

/// The right to add blobs and layers, while nothing is swept, or to sweep, while nothing is added.
#[derive(Debug)]
struct Lease {
    file: rustix::fd::OwnedFd,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A child of another thread has the descriptor too, until it is executed: it would hold what we no longer do.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Images {
    /// The store in these directories, made if missing.
    pub fn open(dirs: &Dirs) -> Result<Self> {
        let layout = dirs.images();
        let images = Self { blobs: Blobs::new(&layout), layers: dirs.layers(), most_layers: layers::most_layers(dirs), layout };
        let marker = images.layout.join("oci-layout");
        if !marker.exists() {
            for dir in [&images.blobs.dir, &images.blobs.ingest, &images.layers] {
                files::make_dir(dir)?;
            }
            // Image specification, "Image Layout": the version of the layout, not of the specification.
            files::write(&marker, b"{\"imageLayoutVersion\":\"1.0.0\"}\n", files::Keep::Always)?;
        }
        Ok(images)
    }

    /// The lock on the list of images. Hold it from [`Images::resolve`] to the moment when a container's record names the image:
    /// nobody can remove the image in between.
    pub fn hold(&self) -> Result<Lock> {
        Lock::file(&self.layout.join("lock"))
    }

    /// Not locked yet.
    fn lease_file(&self) -> Result<Lease> {
        let path = self.layout.join("lease");
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).context(|| format!("open {}", path.display())).map(|file| Lease { file })
    }

    fn lease(&self) -> Result<Lease> {
        let lease = self.lease_file()?;
        let lock = rustix::io::retry_on_intr(|| flock(&lease.file, FlockOperation::LockShared));
        lock.context(|| format!("lock {}", self.layout.join("lease").display()))?;
        Ok(lease)
    }

    /// Removes blobs and layers that no image refers to, and what was never finished; gives the bytes that became free.
    /// Does nothing while somebody adds: that one sweeps afterwards.
    pub fn sweep(&self) -> Result<u64> {
        // One sweeper waits for the other, which may have read the list of images before our change; whoever else has the lease adds.
        let _turn = Lock::file(&self.layout.join("sweep"))?;
        let lease = self.lease_file()?;
        match flock(&lease.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => self.sweep_all(),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(0),
            Err(errno) => Err(Error::new("lock the image store").errno(errno)),
        }
    }

    /// Downloads, imports and layers that were never finished; none while somebody adds.
    pub fn unfinished(&self) -> Result<Vec<PathBuf>> {
        let lease = self.lease_file()?;
        match flock(&lease.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Vec::new()),
            Err(errno) => return Err(Error::new("lock the image store").errno(errno)),
        }
        let entries = |dir: &std::path::Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let growing = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) && path.is_dir();
        Ok(entries(&self.blobs.ingest).chain(entries(&self.layers).filter(growing)).collect())
    }

    /// Adds something under a lease, and sweeps afterwards, above all if it failed.
    fn adding<T>(&self, add: impl FnOnce(&Lease) -> Result<T>) -> Result<T> {
        let lease = self.lease()?;
        let done = add(&lease);
        drop(lease);
        let swept = self.sweep();
        let done = done?;
        swept?;
        Ok(done)
    }
}
