//! A container's network namespace, kept by a mount as long as its links are configured.
//!
//! netavark takes links and rules away through the namespace, which would die with the container's last process.

use crate::mydocker::files::{Dirs, make_dir};
use crate::sys::{self, Cloned, Context, Error, Result, ns};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fstatfs, open};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// linux/magic.h
const NSFS_MAGIC: i64 = 0x6e73_6673;
/// The namespace of this thread, which alone is moved for a moment.
const OWN: &str = "/proc/thread-self/ns/net";

/// The place of a pinned network namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    path: PathBuf,
}

impl Namespace {
    /// Where the namespace of a container is pinned, whether or not it is.
    pub fn of(dirs: &Dirs, id: &str) -> Self {
        Self { path: dirs.run.join("netns").join(id) }
    }

    /// For `linux.namespaces` of a container and for nsenter(1).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The container ids that have one, or the remains of one.
    pub fn all(dirs: &Dirs) -> Result<Vec<String>> {
        let path = dirs.run.join("netns");
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.context(|| format!("list {}", path.display()))?,
        };
        Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }

    /// Whether a namespace is pinned here, rather than an empty file that a crash or a reboot has left.
    pub fn exists(&self) -> bool {
        let file = open(&self.path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty());
        file.and_then(fstatfs).is_ok_and(|stat| stat.f_type == NSFS_MAGIC)
    }

    /// Does something in the namespace, this thread alone; sockets made there stay there.
    pub(super) fn inside<T>(&self, what: impl FnOnce() -> T) -> Result<T> {
        let enter = || format!("enter the network namespace {}", self.path.display());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let own = open(OWN, flags, Mode::empty()).context(enter)?;
        sys::setns(open(&self.path, flags, Mode::empty()).context(enter)?, ns::NET).context(enter)?;
        let done = what();
        sys::setns(&own, ns::NET).context(|| "return to the host's network namespace").map(|()| done)
    }

    /// A new namespace, with loopback up; one that is pinned already stays.
    pub fn make(&self) -> Result<()> {
        if self.exists() {
            return Ok(());
        }
        let what = || "make a network namespace";
        let own = open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(what)?;
        self.clear_place()?;
        sys::unshare(ns::NET).context(what)?;
        let made = loopback().context(what).and_then(|()| self.bind(Path::new(OWN)));
        sys::setns(&own, ns::NET).context(|| "return to the host's network namespace")?;
        made.inspect_err(|_| drop(fs::remove_file(&self.path)))
    }

    /// A new namespace that belongs to a user namespace, with loopback up. A process of ours is in it until it is pinned.
    pub fn make_for(&self, owner: &OwnedFd) -> Result<()> {
        let what = || "make a network namespace for a user namespace";
        let (ready, tell) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
        let (wait, hold) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
        match sys::clone3(0, None).context(what)? {
            Cloned::Child(_) => {
                let made = sys::setns(owner, ns::USER).and_then(|()| sys::unshare(ns::NET)).and_then(|()| loopback());
                let said = made.is_ok() && rustix::io::write(&tell, b"+").is_ok();
                // Until it is pinned, or who wants it is gone and holds the other end no more.
                drop(hold);
                let _ = said && rustix::io::retry_on_intr(|| rustix::io::read(&wait, &mut [0; 1])).is_ok();
                sys::exit(0)
            }
            Cloned::Parent(pid, pidfd) => {
                drop(tell);
                let came = rustix::io::retry_on_intr(|| rustix::io::read(&ready, &mut [0; 1]));
                let pinned = match came.context(what) {
                    Ok(1) => self.pin(Path::new(&format!("/proc/{pid}/ns/net"))),
                    other => other.and_then(|_| Err(Error::new(what()))),
                };
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
                pinned
            }
        }
    }

    /// Pins the namespace at `path` (`/proc/PID/ns/net`); one that is pinned already stays.
    pub fn pin(&self, path: &Path) -> Result<()> {
        if path == self.path || self.exists() {
            return Ok(());
        }
        self.clear_place()?;
        self.bind(path).inspect_err(|_| drop(fs::remove_file(&self.path)))
    }

    /// Unpins; what is not pinned is no error.
    pub fn remove(&self) -> Result<()> {
        let what = || format!("unpin the network namespace {}", self.path.display());
        loop {
            match unmount(&self.path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) => {}
                Err(Errno::INVAL | Errno::NOENT) => break,
                Err(error) => return Err(error).context(what),
            }
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.context(what),
        }
    }

    fn clear_place(&self) -> Result<()> {
        self.path.parent().map_or(Ok(()), make_dir)?;
        File::create(&self.path).map(drop).context(|| format!("make {}", self.path.display()))
    }

    fn bind(&self, from: &Path) -> Result<()> {
        mount_bind(from, &self.path).context(|| format!("pin the network namespace {} at {}", from.display(), self.path.display()))
    }
}

fn loopback() -> rustix::io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    sys::loopback_up(socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}
