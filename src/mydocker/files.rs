//! Where everything is kept, and how it is written: whole or not at all; and how what others made
//! is removed.

pub mod tree;

use crate::sys::{Context, Error, Result, in_user_namespace};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The directories of one installation.
#[derive(Clone, Debug)]
pub struct Dirs {
    /// What must survive a reboot: `/var/lib/mydocker`.
    pub data: PathBuf,
    /// What must not: `/run/mydocker`.
    pub run: PathBuf,
}

impl Dirs {
    /// `--root` or `$MYDOCKER_ROOT` if given, with `run` below it; else the system's for root, and for an ordinary user
    /// those of the XDG base directory specification, also for one who is root in a user namespace.
    pub fn new(given: Option<&Path>) -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(root) = given.map(Path::to_owned).or_else(|| variable("MYDOCKER_ROOT")) {
            let data = std::path::absolute(&root).context(|| format!("--root {}", root.display()))?;
            return Ok(Self { run: data.join("run"), data });
        }
        if rustix::process::geteuid().is_root() && !in_user_namespace() {
            return Ok(Self { data: "/var/lib/mydocker".into(), run: "/run/mydocker".into() });
        }
        let data = variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
        let data = data.ok_or_else(|| Error::new("there is no home directory").hint("set HOME, or give --root"))?.join("mydocker");
        let run = variable("XDG_RUNTIME_DIR").map_or_else(|| data.join("run"), |run| run.join("mydocker"));
        Ok(Self { data, run })
    }

    /// The OCI image layout.
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// Unpacked layers, shared read-only.
    pub fn layers(&self) -> PathBuf {
        self.data.join("layers")
    }

    /// One directory for each container.
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// Named volumes.
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    /// User-defined networks.
    pub fn networks(&self) -> PathBuf {
        self.data.join("networks")
    }
}

/// Makes a directory with its parents, for the owner alone; one that exists stays as it is.
pub fn make_dir(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).context(|| format!("make the directory {}", path.display()))
}

/// Whether what is written must outlive a loss of power, for which a flush of the disk is waited for. What means nothing after a
/// reboot need not; it may then be empty or as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// On the disk when the call returns.
    Always,
    /// When the kernel likes.
    UntilReboot,
}

/// Replaces a file in one step: readers see the old text or the new one, also after a crash. For the owner alone: a
/// container's settings may hold secrets.
pub fn write(path: &Path, text: &[u8], keep: Keep) -> Result<()> {
    let what = || format!("write {}", path.display());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", random(8)));
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
    let done = open.and_then(|mut file| {
        file.write_all(text)?;
        if keep == Keep::Always {
            file.sync_data()?;
        }
        fs::rename(&temporary, path)
    });
    done.inspect_err(|_| drop(fs::remove_file(&temporary))).context(what)
}

/// What is at a path that the user named to be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A regular file or nothing, to be replaced in one step at this path, to which links have led.
    File(PathBuf),
    /// A device, FIFO or socket, which is opened and written to; it is never replaced.
    Node,
}

/// Looks at a path that the user named. What is neither a file nor a node is refused, and so is a link
/// that leads nowhere: a rename would replace the link itself.
pub fn target(path: &Path) -> Result<Target> {
    let what = || format!("write {}", path.display());
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => fs::canonicalize(path).map(Target::File).context(what),
        Ok(meta) if meta.is_dir() => Err(Error::new(what()).errno(rustix::io::Errno::ISDIR)),
        Ok(_) => Ok(Target::Node),
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => Ok(Target::File(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::new(format!("{} is a link to nothing", path.display()))),
        Err(error) => Err(error).context(what),
    }
}

/// [`write()`] of a JSON document.
pub fn write_json(path: &Path, value: &impl Serialize, keep: Keep) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| Error::new(format!("write {}: {e}", path.display())))?;
    text.push(b'\n');
    write(path, &text, keep)
}

/// A JSON document; `None` if there is no such file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.context(|| format!("read {}", path.display()))?,
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| Error::new(format!("read {}: {e}", path.display())))
}

/// An exclusive lock, held until it is dropped; the kernel drops it with its holder.
#[derive(Debug)]
pub struct Lock {
    _file: rustix::fd::OwnedFd,
}

impl Lock {
    /// Locks the file, made if missing, and waits for whoever holds it.
    pub fn file(path: &Path) -> Result<Self> {
        let what = || format!("lock {}", path.display());
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Self::take(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).context(what)?, what)
    }

    /// Locks a directory.
    pub fn dir(path: &Path) -> Result<Self> {
        let what = || format!("lock {}", path.display());
        Self::take(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context(what)?, what)
    }

    /// Locks a directory, unless somebody else has, or it is gone.
    pub fn try_dir(path: &Path) -> Option<Self> {
        let file = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).ok()?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok().map(|()| Self { _file: file })
    }

    fn take(file: rustix::fd::OwnedFd, what: impl Fn() -> String) -> Result<Self> {
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)).context(what)?;
        Ok(Self { _file: file })
    }
}

/// A random number of `digits` hexadecimal digits.
pub fn random(digits: usize) -> String {
    let mut bytes = vec![0; digits.div_ceil(2)];
    let mut filled = 0;
    while filled < bytes.len() {
        // getrandom(2) fails only before the kernel's pool is ready, and then it waits.
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    text
}

/// A time of the file system as RFC 3339.
pub fn rfc3339(time: std::time::SystemTime) -> String {
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    crate::sys::rfc3339(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos().into())
}
