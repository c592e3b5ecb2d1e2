//! The root of a container that has no mount namespace of its own: it is mounted where others see it, so that somebody has to unmount
//! it. With everything in it, as nothing of the container's is mounted anywhere else.

use crate::sandbox::Process;
use crate::spec::Spec;
use crate::store::{Record, RootMount};
use crate::sys::{self, Cloned, Context, Error, Result, ns};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Which mount it is: to be on record before it is attached.
pub(super) fn of(process: &Process, spec: &Spec) -> Result<RootMount> {
    let what = || "look at the mount of the root file system";
    let mount = process.handed.as_ref().ok_or_else(|| Error::new(what()))?;
    let joined = spec.linux.namespace("mount").map(|namespace| namespace.path.clone().into());
    Ok(RootMount { id: sys::mount_id(mount).context(what)?, shown: sys::mountinfo_id(mount).context(what)?, namespace: joined })
}

/// Where it is and which, for the plan of a process that is to enter the container.
pub(super) fn place(record: &Record) -> Result<Option<(CString, u64)>> {
    let Some(mount) = &record.root_mount else { return Ok(None) };
    let path = CString::new(record.rootfs.as_os_str().as_bytes()).map_err(|_| Error::new("the root's path contains a NUL byte"))?;
    Ok(Some((path, mount.id)))
}

/// Unmounts it. One that is not there any more, or never was, is no error.
pub(super) fn remove(record: &Record) -> Result<()> {
    let Some(mount) = &record.root_mount else { return Ok(()) };
    let done = match &mount.namespace {
        None => unmount(&record.rootfs, mount),
        Some(namespace) => unmount_in(namespace, &record.rootfs, mount),
    };
    done.context(|| format!("unmount the root file system {}", record.rootfs.display())).map_err(|error| match error.get_errno() {
        Some(Errno::BUSY) => error.hint("something else is mounted over it: that has to go first"),
        _ => error,
    })
}

fn unmount(path: &Path, mount: &RootMount) -> rustix::io::Result<()> {
    let root = match rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    if sys::mount_id(&root)? == mount.id {
        return unmount_fd(&root);
    }
    // Not on top: either it is gone, or covered.
    let shown = |line: &str| line.split(' ').next().and_then(|id| id.parse().ok()) == Some(mount.shown);
    let covered = |line: &str| shown(line) && line.split(' ').nth(4).is_some_and(|at| path.as_os_str() == at);
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").map_err(|_| Errno::IO)?;
    if mounts.lines().any(covered) { Err(Errno::BUSY) } else { Ok(()) }
}

/// umount2(2) by way of the working directory: the mount that was looked at, whatever is at its path by now.
fn unmount_fd(root: &OwnedFd) -> rustix::io::Result<()> {
    let before = rustix::fs::open(c".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::process::fchdir(root)?;
    let done = rustix::mount::unmount(c".", rustix::mount::UnmountFlags::DETACH);
    rustix::process::fchdir(before).and(done)
}

/// A process that has joined a mount namespace does not come back to its working directory: another one does it. If the namespace is
/// gone, its mounts are.
fn unmount_in(namespace: &Path, path: &Path, mount: &RootMount) -> rustix::io::Result<()> {
    let Ok(namespace) = rustix::fs::open(namespace, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else { return Ok(()) };
    match sys::clone3(0, None)? {
        Cloned::Child(_) => {
            let done = match sys::setns(namespace.as_fd(), ns::MOUNT) {
                // Another process has the number of the one that the path told of.
                Err(Errno::INVAL) => Ok(()),
                joined => joined.and_then(|()| unmount(path, mount)),
            };
            sys::exit(done.err().map_or(0, Errno::raw_os_error))
        }
        Cloned::Parent(pid, pidfd) => match Process::new(pid, pidfd).wait() {
            Ok(0) => Ok(()),
            Ok(errno) => Err(Errno::from_raw_os_error(errno)),
            Err(error) => Err(error.get_errno().unwrap_or(Errno::CHILD)),
        },
    }
}
