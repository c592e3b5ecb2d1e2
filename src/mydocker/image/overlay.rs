//! How overlayfs writes down what a layer hides (Documentation/filesystems/overlayfs.rst), and which attributes a layer may have.

use crate::sys::{Context, Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::path::Path;

/// How a directory is opened: never through a link.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The attribute of an opaque directory: what root's mounts read, and what mounts of a user namespace do (`userxattr`).
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Attributes by which a file has its content, or a directory its place, elsewhere (`redirect_dir`, `metacopy`).
const ELSEWHERE: [&[u8]; 4] =
    [b"trusted.overlay.redirect", b"user.overlay.redirect", b"trusted.overlay.metacopy", b"user.overlay.metacopy"];

pub(super) fn kind(there: &Stat) -> FileType {
    FileType::from_raw_mode(there.st_mode)
}

/// The status of a name in a directory, of a link itself.
pub(super) fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Stat> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

pub(super) fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, name, DIRECTORY, Mode::empty())
}

/// The names in a directory, sorted.
pub(super) fn names(dir: BorrowedFd<'_>) -> Result<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for entry in rustix::fs::Dir::read_from(dir).context(|| "read a directory")? {
        let entry = entry.context(|| "read a directory")?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.insert(name.to_vec());
        }
    }
    Ok(names)
}

/// The character device 0:0.
pub(super) fn is_whiteout(there: &Stat) -> bool {
    kind(there) == FileType::CharacterDevice && there.st_rdev == 0
}

/// Hides a name of the layers below. No privilege is needed since Linux 5.8.
pub(super) fn make_whiteout(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0).context(|| "make the whiteout")
}

/// Hides what the layers below have in a directory.
pub(super) fn set_opaque(dir: BorrowedFd<'_>) -> Result<()> {
    let set = |name: &str| rustix::fs::fsetxattr(dir, name, b"y", XattrFlags::empty());
    set(OPAQUE[0]).or_else(|errno| if errno == Errno::PERM { set(OPAQUE[1]) } else { Err(errno) }).context(|| "make opaque")
}

/// Whether a directory hides what the layers below have in it.
pub(super) fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    OPAQUE.iter().any(|name| {
        let mut value = [0; 1];
        rustix::fs::fgetxattr(dir, *name, &mut value[..]) == Ok(1) && value[0] == b'y'
    })
}

/// The attributes that a layer may bring: what a program may do, and what is the user's own. `trusted.` and overlayfs's own
/// could make the kernel look elsewhere; labels belong to the host.
pub(super) fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// The attributes of a file that [`is_kept`] lets through. A file whose content is elsewhere is refused.
pub(super) fn read_xattrs(file: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut small = [0; 256];
    let mut large = Vec::new();
    let list: &[u8] = match rustix::fs::flistxattr(file, &mut small[..]) {
        Err(Errno::NOTSUP) => &[],
        Err(Errno::RANGE) => {
            large.resize(65536, 0); // XATTR_LIST_MAX
            let length = rustix::fs::flistxattr(file, &mut large[..]).context(|| "list extended attributes")?;
            &large[..length]
        }
        other => &small[..other.context(|| "list extended attributes")?],
    };
    let mut all = Vec::new();
    for name in list.split(|b| *b == 0) {
        if ELSEWHERE.contains(&name) {
            return Err(Error::new("overlayfs has its content in another layer").hint("mount with redirect_dir=off,metacopy=off"));
        }
        if is_kept(name) {
            let mut value = vec![0; 65536]; // XATTR_SIZE_MAX
            let length = rustix::fs::fgetxattr(file, name, &mut value[..]).context(|| "read an extended attribute")?;
            value.truncate(length);
            all.push((name.to_vec(), value));
        }
    }
    all.sort();
    Ok(all)
}

/// Layers as they lie on each other, topmost first.
pub(super) struct Lowers(Vec<OwnedFd>);

impl Lowers {
    pub fn open(paths: &[impl AsRef<Path>]) -> Result<Self> {
        let open = |path: &Path| rustix::fs::open(path, DIRECTORY, Mode::empty()).context(|| format!("open {}", path.display()));
        paths.iter().map(|path| open(path.as_ref())).collect::<Result<_>>().map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The root of the topmost.
    pub fn root(&self) -> Option<BorrowedFd<'_>> {
        self.0.first().map(AsFd::as_fd)
    }

    /// Calls `each` for the names in their roots, one by one: nobody knows how many there are. A
    /// name may come twice, and may be hidden.
    pub fn each_name_of_roots(&self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        for lower in &self.0 {
            for entry in rustix::fs::Dir::read_from(lower).context(|| "read a directory")? {
                let entry = entry.context(|| "read a directory")?;
                let name = entry.file_name().to_bytes();
                if !matches!(name, b"." | b"..") && !stat(lower.as_fd(), name).is_ok_and(|there| is_whiteout(&there)) {
                    each(name)?;
                }
            }
        }
        Ok(())
    }

    /// What they show at a path, with its directory: the topmost that has it, unless something above hides it.
    pub fn find(&self, path: &[&[u8]]) -> Option<(OwnedFd, Stat)> {
        let (last, dirs) = path.split_last()?;
        'lowers: for lower in &self.0 {
            let mut dir = lower.try_clone().ok()?;
            let mut opaque = false;
            for name in dirs {
                match stat(dir.as_fd(), name) {
                    Ok(there) if kind(&there) == FileType::Directory => {}
                    Ok(_) => return None,
                    Err(_) if opaque => return None,
                    Err(_) => continue 'lowers,
                }
                dir = open_dir(dir.as_fd(), name).ok()?;
                opaque |= is_opaque(dir.as_fd());
            }
            match stat(dir.as_fd(), last) {
                Ok(there) if is_whiteout(&there) => return None,
                Ok(there) => return Some((dir, there)),
                Err(_) if opaque => return None,
                Err(_) => {}
            }
        }
        None
    }

    /// The names that they show in a directory.
    pub fn names(&self, path: &[&[u8]]) -> Result<BTreeSet<Vec<u8>>> {
        let (mut shown, mut hidden) = (BTreeSet::new(), BTreeSet::new());
        'lowers: for lower in &self.0 {
            let mut dir = lower.try_clone().context(|| "open a layer")?;
            let mut opaque = false;
            for name in path {
                match stat(dir.as_fd(), name) {
                    Ok(there) if kind(&there) == FileType::Directory => {}
                    Ok(_) => return Ok(shown),
                    Err(_) if opaque => return Ok(shown),
                    Err(_) => continue 'lowers,
                }
                dir = open_dir(dir.as_fd(), name).context(|| "open a directory of a layer")?;
                opaque |= is_opaque(dir.as_fd());
            }
            for name in names(dir.as_fd())? {
                let there = stat(dir.as_fd(), &name).context(|| "stat")?;
                if is_whiteout(&there) {
                    hidden.insert(name);
                } else if !hidden.contains(&name) {
                    shown.insert(name);
                }
            }
            if opaque {
                break;
            }
        }
        Ok(shown)
    }
}
