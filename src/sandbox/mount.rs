//! The child's mounts: made by file descriptor, attached by file descriptor.
//!
//! Allocates nothing: runs between clone and exec.

use super::copy_up::copy_up;
use super::ground::{Ground, leave_open};
use super::path::{Buffer, PATH_MAX, create, is_directory, parent, resolve, resolve_or_make};
use crate::plan::{Fs, Node, Rule, Target};
use crate::sys::{MountAttr, mount_setattr};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags, chownat, fstat, fstatfs, mknodat, readlinkat_raw, statat,
    symlinkat,
};
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::ffi::CStr;

/// linux/magic.h
pub const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// linux/magic.h
pub const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// fsopen(2), unless `opened` was opened already, to fsmount(2). A tmpfs without a mode takes that of the directory it will cover,
/// as in runc. On failure `opened` is what the kernel's words about it can be read from.
fn new_fs(fs: &Fs, opened: &mut Option<OwnedFd>, root: BorrowedFd<'_>, at: &CStr) -> Result<OwnedFd> {
    if opened.is_none() {
        *opened = Some(fsopen(&*fs.kind, FsOpenFlags::FSOPEN_CLOEXEC)?);
    }
    let context = opened.as_ref().ok_or(Errno::BADF)?;
    fsconfig_set_string(context, c"source", &*fs.source)?;
    for (key, value) in &fs.params {
        match value {
            Some(value) => fsconfig_set_string(context, &**key, &**value)?,
            None => fsconfig_set_flag(context, &**key)?,
        }
    }
    if takes_mode(fs)
        && let Ok(covered) = resolve(root, at, OFlags::DIRECTORY, ResolveFlags::empty())
    {
        let text = octal(fstat(&covered)?.st_mode);
        fsconfig_set_string(context, c"mode", CStr::from_bytes_with_nul(&text).map_err(|_| Errno::INVAL)?)?;
    }
    fsconfig_create(context)?;
    let mount = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(fs.attr as u32))?;
    leave_open(opened.take().ok_or(Errno::BADF)?);
    Ok(mount)
}

/// Whether it takes the mode of the directory that it covers.
fn takes_mode(fs: &Fs) -> bool {
    fs.kind.as_bytes() == b"tmpfs" && !fs.params.iter().any(|(key, _)| key.as_bytes() == b"mode")
}

/// The permission bits as text, with its NUL.
fn octal(mode: u32) -> [u8; 5] {
    let [high, user, group, others] = [9u32, 6, 3, 0].map(|shift| b'0' + (mode >> shift & 7) as u8);
    [high, user, group, others, 0]
}

/// mount(2) at its place. The working directory is the mount point from then on, as its path may be another's by now; the root
/// becomes it later.
///
/// Inlined, its buffers would be part of the frame of whoever mounts anything, and each page of a frame is touched: a fault of the
/// child for each.
#[inline(never)]
fn mount_at<'p>(fs: &Fs, data: &CStr, ground: &mut Ground<'p>, to: &'p Target) -> Result<()> {
    const FLAGS: [(u64, MountFlags); 8] = [
        (libc::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (libc::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (libc::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (libc::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        (libc::MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
        (libc::MOUNT_ATTR_STRICTATIME, MountFlags::STRICTATIME),
        (libc::MOUNT_ATTR_NODIRATIME, MountFlags::NODIRATIME),
        (libc::MOUNT_ATTR_NOSYMFOLLOW, MountFlags::from_bits_retain(libc::MS_NOSYMFOLLOW as u32)),
    ];
    let flags = FLAGS.iter().filter(|(attr, _)| fs.attr & attr != 0).fold(MountFlags::empty(), |all, (_, flag)| all | *flag);
    let mode = match takes_mode(fs).then(|| resolve(ground.root(), &to.path, OFlags::DIRECTORY, ResolveFlags::empty())) {
        Some(Ok(covered)) => Some(fstat(&covered)?.st_mode),
        // It is yet to be made, or is no directory, which the next look-up tells.
        None | Some(Err(Errno::NOENT | Errno::NOTDIR)) => None,
        Some(Err(error)) => return Err(error),
    };
    let point = point(ground.root(), to, true)?;
    rustix::process::fchdir(&point)?;
    let mut data = Buffer::new(data.to_bytes())?;
    if let Some(mode) = mode {
        data.push(b",mode=")?;
        data.push(&octal(mode)[..4])?;
    }
    rustix::mount::mount(&*fs.source, c".", &*fs.kind, flags, data.options()?)?;
    leave_open(point);
    ground.covered(&to.path, None);
    Ok(())
}

/// Attaches `mount` at `to`, making the mount point: a directory for a directory, a file for anything else.
pub fn attach<'p>(mount: BorrowedFd<'_>, directory: bool, ground: &mut Ground<'p>, to: &'p Target) -> Result<()> {
    if to.rule == Rule::ProcRoot && fstatfs(mount)?.f_type != PROC_SUPER_MAGIC {
        return Err(Errno::REMOTE);
    }
    if to.rule == Rule::Plain
        && let Some((fresh, name)) = ground.fresh(&to.path)
    {
        create(fresh, name, directory)?;
        // Without MOVE_MOUNT_T_SYMLINKS a link of that name is not followed; it is left to the walk below.
        match move_mount(mount, c"", fresh, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH) {
            Err(Errno::NOTDIR | Errno::INVAL | Errno::LOOP) => {}
            other => return other.map(|()| ground.covered(&to.path, None)),
        }
    }
    let point = point(ground.root(), to, directory)?;
    move_onto(mount, point.as_fd()).map_err(|error| match is_directory(&point) {
        // The kernel has no word of its own for a directory on a file, or a file on a directory.
        Ok(other) if error == Errno::INVAL && other != directory => Errno::NOTDIR,
        _ => error,
    })?;
    leave_open(point);
    ground.covered(&to.path, None);
    Ok(())
}

/// The mount point, made if it is not there: a directory, or a file.
fn point(root: BorrowedFd<'_>, to: &Target, directory: bool) -> Result<OwnedFd> {
    Ok(match to.rule {
        Rule::RealDirectory | Rule::ProcRoot => match resolve(root, &to.path, OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS) {
            Err(Errno::NOENT) => {
                resolve_or_make(root, &to.path, true)?;
                resolve(root, &to.path, OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)?
            }
            Err(Errno::NOTDIR) => return Err(Errno::LOOP),
            other => other?,
        },
        Rule::OnProc => resolve_or_make(root, &to.path, directory)?,
        Rule::Itself => {
            let (parent, name) = parent(root, &to.path)?;
            if fstatfs(&parent)?.f_type == PROC_SUPER_MAGIC {
                return Err(Errno::REMOTE);
            }
            create(parent.as_fd(), name, directory)?;
            rustix::fs::openat(&parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?
        }
        Rule::Plain => {
            let point = resolve_or_make(root, &to.path, directory)?;
            if fstatfs(&point)?.f_type == PROC_SUPER_MAGIC {
                return Err(Errno::REMOTE);
            }
            point
        }
    })
}

/// move_mount(2) from descriptor to descriptor.
pub fn move_onto(mount: BorrowedFd<'_>, point: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", point, c"", flags)
}

/// open_tree(2) of what `fd` refers to, as a mount of its own.
pub fn clone_fd(fd: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(fd, c"", flags)
}

/// A mount of its own of a path on the host, with attributes.
pub fn clone_host(path: &CStr, attr: u64) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, path, flags)?;
    mount_setattr(&tree, c"", true, &MountAttr { attr_set: attr, propagation: libc::MS_SLAVE, ..MountAttr::default() })?;
    Ok(tree)
}

/// A new tmpfs that is attached nowhere, and read-only.
pub fn empty() -> Result<OwnedFd> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// Mounts a new file system. Where the kernel refuses it with EPERM or EBUSY (sysfs without a network namespace, cgroup2
/// in a foreign cgroup namespace), the host's own is shown instead, as in runc. `opened` as in [`new_fs`].
pub fn mount<'p>(fs: &Fs, opened: &mut Option<OwnedFd>, to: &'p Target, fallback: Option<&CStr>, ground: &mut Ground<'p>) -> Result<()> {
    match fs.data.as_ref().map(|data| mount_at(fs, data, ground, to)) {
        None => {}
        // The other way the kernel says why.
        Some(Err(Errno::INVAL)) => {}
        Some(done) => return done,
    }
    let mount = match new_fs(fs, opened, ground.root(), &to.path) {
        Err(error @ (Errno::PERM | Errno::BUSY)) if fallback.is_some() => {
            *opened = None;
            clone_host(fallback.ok_or(error)?, fs.attr)?
        }
        other => other?,
    };
    if let Some(label) = &fs.root_label {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&mount, c".", flags, Mode::empty())?;
        rustix::fs::fsetxattr(directory, c"security.selinux", label.to_bytes_with_nul(), XattrFlags::empty())?;
    }
    if fs.copy_up {
        copy_up(ground, &to.path, mount.as_fd())?;
    }
    attach(mount.as_fd(), true, ground, to)?;
    if fs.kind.as_bytes() == b"tmpfs" && !fs.copy_up {
        ground.covered(&to.path, Some(mount))
    } else {
        leave_open(mount)
    }
    Ok(())
}

/// mount_setattr(2) of the mount at `path` below the root.
pub fn set_attr(root: BorrowedFd<'_>, path: &CStr, attr: &MountAttr, recursive: bool) -> Result<()> {
    mount_setattr(resolve(root, path, OFlags::empty(), ResolveFlags::empty())?, c"", recursive, attr)
}

/// A link in /dev, made beside whatever the image has there: an existing entry is left alone, but for a `ptmx`, which
/// must lead to the container's own devpts.
pub fn symlink<'p>(ground: &Ground<'p>, target: &CStr, path: &'p CStr) -> Result<()> {
    ground.parent(path, |directory, name| match symlinkat(target, directory, name) {
        Err(Errno::EXIST) if name.to_bytes() == b"ptmx" => {
            rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
            symlinkat(target, directory, name)
        }
        Err(Errno::EXIST) => Ok(()),
        other => other,
    })
}

/// The link that a mount's source is, made anew, as crun's `copy-symlink` does; one that is there already and says the same will do.
pub fn copy_link<'p>(ground: &Ground<'p>, target: &CStr, path: &'p CStr) -> Result<()> {
    ground.parent(path, |directory, name| match symlinkat(target, directory, name) {
        Err(Errno::EXIST) => {
            let mut space = [const { std::mem::MaybeUninit::<u8>::uninit() }; PATH_MAX];
            match readlinkat_raw(directory, name, &mut space[..]) {
                Ok((there, _)) if *there == *target.to_bytes() => Ok(()),
                _ => Err(Errno::EXIST),
            }
        }
        other => other,
    })
}

/// mknodat(2); in a user namespace, where that is not permitted, or where the image has something else of that name, a
/// bind of the host's node, which is checked to be the device asked for (CVE-2026-41579).
pub fn device<'p>(ground: &Ground<'p>, node: &'p Node) -> Result<()> {
    ground.parent(&node.path, |directory, name| device_in(directory, name, node))
}

fn device_in(directory: BorrowedFd<'_>, name: &CStr, node: &Node) -> Result<()> {
    let kind = FileType::from_raw_mode(node.mode);
    match mknodat(directory, name, kind, Mode::from_raw_mode(node.mode & 0o7777), node.rdev) {
        Ok(()) if node.uid != 0 || node.gid != 0 => {
            let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
            chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        }
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let same = FileType::from_raw_mode(stat.st_mode) == kind && (kind == FileType::Fifo || stat.st_rdev == node.rdev);
            if same { Ok(()) } else { bind_device(directory, name, node) }
        }
        Err(Errno::PERM) => bind_device(directory, name, node),
        Err(error) => Err(error),
    }
}

fn bind_device(directory: BorrowedFd<'_>, name: &CStr, node: &Node) -> Result<()> {
    // The node's path below the container's root is also its path on the host.
    let slash = rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let host = rustix::fs::openat(slash, &*node.path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&host)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::from_raw_mode(node.mode) || stat.st_rdev != node.rdev {
        return Err(Errno::NODEV);
    }
    create(directory, name, false)?;
    let point = rustix::fs::openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&point)?.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    // A read-only mount keeps nobody from writing to the device, but from changing the mode and owner of the host's node.
    let clone = clone_fd(host.as_fd(), false)?;
    mount_setattr(&clone, c"", false, &MountAttr::RDONLY)?;
    move_onto(clone.as_fd(), point.as_fd())
}

/// The host's /dev/null, proven to be 1:3: the container's may have been swapped (CVE-2025-31133).
pub fn host_null() -> Result<OwnedFd> {
    let null = rustix::fs::open(c"/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&null)?;
    let real = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3);
    if real { Ok(null) } else { Err(Errno::NODEV) }
}

/// Covers `path` with a clone of `null`, the first mask of a file, or with one of `empty`, the first of a directory, which has the
/// label; what does not exist needs no mask.
/// Any error but ENOENT fails the container.
pub fn mask(
    root: BorrowedFd<'_>,
    path: &CStr,
    null: &mut Option<OwnedFd>,
    empty: &mut Option<OwnedFd>,
    label: Option<&CStr>,
) -> Result<()> {
    let point = match resolve(root, path, OFlags::empty(), ResolveFlags::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if is_directory(&point)? {
        let cover = match empty {
            Some(empty) => clone_fd(empty.as_fd(), false)?,
            None => empty_directory(label)?,
        };
        move_onto(cover.as_fd(), point.as_fd())?;
        if empty.is_none() {
            *empty = Some(cover)
        } else {
            leave_open(cover)
        }
        leave_open(point);
        return Ok(());
    }
    if let Some(null) = null {
        let clone = clone_fd(null.as_fd(), false)?;
        move_onto(clone.as_fd(), point.as_fd())?;
        leave_open(clone);
    } else {
        // It is the host's own node: on a mount that can be written the container's root could change its mode for all. Private:
        // CRIU cannot make a slave of what is no mount of its own.
        let clone = clone_fd(host_null()?.as_fd(), false)?;
        mount_setattr(&clone, c"", false, &MountAttr { propagation: libc::MS_PRIVATE, ..MountAttr::RDONLY })?;
        move_onto(clone.as_fd(), point.as_fd())?;
        *null = Some(clone);
    }
    leave_open(point);
    Ok(())
}

/// A read-only tmpfs with room for nothing but its root.
fn empty_directory(label: Option<&CStr>) -> Result<OwnedFd> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", c"tmpfs")?;
    fsconfig_set_string(&context, c"nr_inodes", c"1")?;
    if let Some(label) = label {
        fsconfig_set_string(&context, c"context", label)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// Binds `path` to itself, read-only, keeping its other attributes.
pub fn read_only(root: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    let point = match resolve(root, path, OFlags::empty(), ResolveFlags::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let clone = clone_fd(point.as_fd(), true)?;
    mount_setattr(&clone, c"", false, &MountAttr::RDONLY)?;
    move_onto(clone.as_fd(), point.as_fd())?;
    leave_open(clone);
    leave_open(point);
    Ok(())
}

/// A procfs that no container has touched: new, detached, of the pid namespace this process is in; in a user namespace
/// without its own pid namespace, a clone of the host's.
pub fn private_proc() -> Result<OwnedFd> {
    let new = || {
        let context = fsopen(c"proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    };
    let proc = match new() {
        Err(Errno::PERM) => {
            open_tree(CWD, c"/proc", OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE)?
        }
        other => other?,
    };
    if fstatfs(&proc)?.f_type == PROC_SUPER_MAGIC { Ok(proc) } else { Err(Errno::NODEV) }
}

/// Writes below `proc`, through nothing mounted over it and no link (CVE-2025-52881).
pub fn write_proc(proc: BorrowedFd<'_>, path: &CStr, value: &[u8]) -> Result<()> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let file = rustix::fs::openat2(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), how)?;
    rustix::io::write(file, value).map(drop)
}
