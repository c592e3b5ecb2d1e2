//! The file system of a container as one tree: what it shows while it runs, or its layers put together while it does not.

use super::{Container, Record, State};
use crate::arm::ID_MAP_REFUSED;
use crate::mydocker::userns::{FileOwner, is_rootless};
use crate::mydocker::volume::{Kind, MountPoint, Volumes};
use crate::sandbox::{mount, path};
use crate::sys::{self, Context, Error, MountAttr, Result, mount_setattr, ns};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::CString;
use std::path::Path;

/// How a directory is held: to look things up in, not to read.
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The layers of an overlay by paths from the present directory, topmost first, and the directories that can be written to.
pub(super) struct Overlay<'a> {
    pub lowers: &'a [String],
    pub upper: Option<(&'a str, &'a str)>,
}

impl Overlay<'_> {
    /// A mount of it that is attached nowhere. The names must be short: one option of fsconfig(2) is at most 255 bytes long, and
    /// adding layer by layer needs Linux 6.8.
    pub fn mount(&self) -> rustix::io::Result<OwnedFd> {
        let begin = || {
            let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_set_string(&context, c"source", c"overlay").map(|()| context)
        };
        let context = begin()?;
        let one_by_one = self.lowers.iter().try_for_each(|layer| fsconfig_set_string(&context, c"lowerdir+", layer.as_str()));
        let context = match one_by_one {
            Ok(()) => context,
            Err(_) => {
                let context = begin()?;
                fsconfig_set_string(&context, c"lowerdir", self.lowers.join(":").as_str())?;
                context
            }
        };
        if let Some((upper, work)) = self.upper {
            fsconfig_set_string(&context, c"upperdir", upper)?;
            fsconfig_set_string(&context, c"workdir", work)?;
        }
        if is_rootless() {
            rustix::mount::fsconfig_set_flag(&context, c"userxattr")?;
        }
        fsconfig_create(&context)?;
        let attributes = if self.upper.is_some() { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_RDONLY };
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    }
}

impl Container {
    /// Mounts the root of a container with ids of its own at `rootfs`, in a mount namespace of our own, which this moves into. The
    /// layers' ids are mapped into those of the user namespace, so that on the disk they stay as the image has them. It is the
    /// runtime that takes the mount from there into the container's.
    pub fn mount_shifted(&self, record: &Record, first: u32, namespace: &OwnedFd) -> Result<()> {
        let what = || format!("map the ids of container {}", record.short());
        sys::unshare(ns::MOUNT).context(what)?;
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM).context(what)?;
        let (layers, place) = (self.dirs().layers(), self.dir().join("rootfs"));
        for (tree, at) in [(layers.as_path(), &layers), (self.dir(), &place)] {
            let hold = |path: &Path| rustix::fs::open(path, PLACE, Mode::empty()).context(what);
            let mapped = mount::clone_fd(hold(tree)?.as_fd(), false).context(what)?;
            let done = mount_setattr(&mapped, c"", false, &MountAttr::id_map(namespace));
            done.context(what).map_err(|e| if e.get_errno() == Some(Errno::INVAL) { e.hint(ID_MAP_REFUSED) } else { e })?;
            mount::move_onto(mapped.as_fd(), hold(at)?.as_fd()).context(what)?;
        }
        // What overlayfs itself makes in the upper layer has to be somebody's there.
        let owner = FileOwner::new(first)?;
        let overlay = self.overlay_in("rootfs/", record, true)?;
        drop(owner);
        let point = rustix::fs::open(&place, PLACE, Mode::empty()).context(what)?;
        mount::move_onto(overlay.as_fd(), point.as_fd()).context(what)
    }

    /// Mounts an overlay of the image's layers and the container's own.
    fn overlay(&self, record: &Record, write: bool) -> Result<OwnedFd> {
        self.overlay_in("", record, write)
    }

    /// The same, with the container's directory below its directory.
    fn overlay_in(&self, below: &str, record: &Record, write: bool) -> Result<OwnedFd> {
        let what = || format!("put the file system of container {} together", record.short());
        let own = |name: &str| format!("../containers/{}/{below}{name}", self.id());
        let (upper, work, empty) = (own("upper"), own("work"), own("rootfs"));
        let mut lowers = record.layers.clone();
        if lowers.is_empty() {
            lowers.push(empty);
        }
        if !write {
            lowers.insert(0, upper.clone());
        }
        let before = std::env::current_dir().context(what)?;
        std::env::set_current_dir(self.dirs().layers()).context(what)?;
        let mounted = Overlay { lowers: &lowers, upper: write.then_some((upper.as_str(), work.as_str())) }.mount();
        std::env::set_current_dir(before).context(what)?;
        mounted.context(what)
    }

    /// The tree without volumes, attached nowhere and not to be written to: what `export` writes. Of a running container it is its
    /// own mount, since the layer that it writes to must be in no other overlay.
    pub fn snapshot(&self, record: &Record) -> Result<OwnedFd> {
        let state = self.state()?;
        if !state.status.is_up() {
            return self.overlay(record, false);
        }
        let what = || format!("open the file system of container {}", record.short());
        let path = format!("/proc/{}/ns/mnt", state.process.map_or(0, |process| process.pid));
        let theirs = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(what)?;
        let root = self.live_root(&state)?;
        // A mount is cloned only in its own namespace. A thread goes there, since it never comes back; nothing is executed in it.
        let cloned = std::thread::scope(|scope| {
            let clone = || {
                sys::unshare(libc::CLONE_FS as u64)?;
                move_into_link_name_space(theirs.as_fd(), Some(LinkNameSpaceType::Mount))?;
                mount::clone_fd(root.as_fd(), false)
            };
            scope.spawn(clone).join()
        });
        let tree = cloned.map_err(|_| Error::new(what()))?.context(what)?;
        mount_setattr(&tree, c"", false, &MountAttr::RDONLY).context(what)?;
        Ok(tree)
    }

    /// The root that a running container sees, with everything that is mounted in it.
    pub fn live_root(&self, state: &State) -> Result<OwnedFd> {
        let gone = || Error::new(format!("container {} has just ended", self.id()));
        let process = state.process.ok_or_else(gone)?;
        let path = format!("/proc/{}/root", process.pid);
        let root = rustix::fs::open(&path, PLACE, Mode::empty()).context(|| format!("open {path}"))?;
        // If it lives now, it lived then, and the number was not another's.
        self.process(state).map(|_| root).ok_or_else(gone)
    }

    /// The root of a stopped container with its volumes and binds, in a mount namespace of our own, which this moves into. The
    /// caller holds [`Container::lock`], so that nobody starts it meanwhile: overlayfs wants its upper directory to itself.
    pub fn stopped_root(&self, record: &Record) -> Result<OwnedFd> {
        let what = || format!("mount the file system of container {}", record.short());
        sys::unshare(ns::MOUNT).context(what)?;
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).context(what)?;
        let overlay = self.overlay(record, true)?;
        let place = self.dir().join("rootfs");
        let point = rustix::fs::open(&place, PLACE, Mode::empty()).context(what)?;
        mount::move_onto(overlay.as_fd(), point.as_fd()).context(what)?;
        let root = openat(&overlay, c".", PLACE, Mode::empty()).context(what)?;
        let volumes = Volumes::open(self.dirs())?;
        for given in &record.settings.mounts {
            let mut given = given.clone();
            if given.kind == Kind::Volume {
                volumes.provide(&mut given, self.image_root(record)?.as_fd())?;
            }
            attach(&root, &given).map_err(|e| e.within(format!("mount {} at {}", given.shown(), given.destination)))?;
        }
        if record.settings.read_only {
            mount_setattr(&overlay, c"", false, &MountAttr::RDONLY).context(what)?;
        }
        Ok(root)
    }
}

/// One volume or bind, at its place inside the root. Links on the way lead nowhere else.
fn attach(root: &OwnedFd, given: &MountPoint) -> Result<()> {
    if given.kind == Kind::Tmpfs {
        return Ok(()); // of a stopped container nothing is left of it
    }
    let text = |path: &str| CString::new(path).map_err(|_| Error::new("the path holds a NUL"));
    let attributes = if given.read_only { MountAttr::RDONLY.attr_set } else { 0 };
    let tree = mount::clone_host(&text(&given.source)?, attributes).context(|| format!("open {}", given.source))?;
    let directory = Path::new(&given.source).is_dir();
    let point = path::resolve_or_make(root.as_fd(), &text(&given.destination)?, directory).context(|| "make the mount point")?;
    mount::move_onto(tree.as_fd(), point.as_fd()).context(|| "attach")
}
