//! Mount options: the words of fstab(5), mount(8) and runc, and what each asks of the kernel's mount API.
//!
//! [`TABLE`] is the one list; `features` prints it. A later option overrides an earlier one that it contradicts, as
//! in mount(8). Words that are not in the table belong to the file system and go to fsconfig(2) in their order.

use super::Mount;
use super::names::PROPAGATION;
use libc::{MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID};
use libc::{MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME};
use libc::{MS_DIRSYNC, MS_LAZYTIME, MS_MANDLOCK, MS_RDONLY, MS_SYNCHRONOUS};

/// What one option does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Accepted and without effect on Linux today (mount(8), "defaults", "silent", "iversion").
    Nothing,
    /// A bind mount; true with all mounts below the source.
    Bind(bool),
    /// Changes a mount that is there already.
    Remount,
    /// Sets a `MOUNT_ATTR_*` flag of mount_setattr(2) on the mount itself.
    Set(u64),
    /// Clears one.
    Clear(u64),
    /// As `Set`, on all mounts of the tree.
    SetAll(u64),
    /// As `Clear`, on all mounts of the tree.
    ClearAll(u64),
    /// Sets an `MS_*` flag of the superblock, by fsconfig(2) `FSCONFIG_SET_FLAG` (no effect on a bind mount).
    Super(u64),
    /// Clears one.
    NotSuper(u64),
    /// `ro`: the mount and, where it is a new one, its superblock.
    ReadOnly,
    /// `rw`.
    ReadWrite,
    /// tmpfs that starts with a copy of what the image has at that place (runc's extension).
    CopyUp,
    /// An idmapped mount with the container's own mappings or the mount's; true for the whole tree.
    IdMap(bool),
    /// A source that is a link is not mounted: the link is made at the destination (crun's extension, podman's `no-dereference`).
    CopyLink,
    /// A source that is a link is itself what is mounted (crun's extension).
    SourceItself,
    /// A destination that is a link is itself mounted over (crun's extension).
    DestinationItself,
}

/// Every option keel knows, sorted, but for those of [`PROPAGATION`].
pub const TABLE: &[(&str, Effect)] = {
    use Effect::*;
    &[
        ("async", NotSuper(MS_SYNCHRONOUS)),
        ("atime", Clear(MOUNT_ATTR_NOATIME)),
        ("bind", Bind(false)),
        ("copy-symlink", CopyLink),
        ("defaults", Nothing),
        ("dest-nofollow", DestinationItself),
        ("dev", Clear(MOUNT_ATTR_NODEV)),
        ("diratime", Clear(MOUNT_ATTR_NODIRATIME)),
        ("dirsync", Super(MS_DIRSYNC)),
        ("exec", Clear(MOUNT_ATTR_NOEXEC)),
        ("idmap", IdMap(false)),
        ("iversion", Nothing),
        ("lazytime", Super(MS_LAZYTIME)),
        ("loud", Nothing),
        ("mand", Super(MS_MANDLOCK)),
        ("noatime", Set(MOUNT_ATTR_NOATIME)),
        ("nodev", Set(MOUNT_ATTR_NODEV)),
        ("nodiratime", Set(MOUNT_ATTR_NODIRATIME)),
        ("noexec", Set(MOUNT_ATTR_NOEXEC)),
        ("noiversion", Nothing),
        ("nolazytime", NotSuper(MS_LAZYTIME)),
        ("nomand", NotSuper(MS_MANDLOCK)),
        ("norelatime", Clear(MOUNT_ATTR_RELATIME)),
        ("nostrictatime", Clear(MOUNT_ATTR_STRICTATIME)),
        ("nosuid", Set(MOUNT_ATTR_NOSUID)),
        ("nosymfollow", Set(MOUNT_ATTR_NOSYMFOLLOW)),
        ("ratime", ClearAll(MOUNT_ATTR_NOATIME)),
        ("rbind", Bind(true)),
        ("rdev", ClearAll(MOUNT_ATTR_NODEV)),
        ("rdiratime", ClearAll(MOUNT_ATTR_NODIRATIME)),
        ("relatime", Set(MOUNT_ATTR_RELATIME)),
        ("remount", Remount),
        ("rexec", ClearAll(MOUNT_ATTR_NOEXEC)),
        ("ridmap", IdMap(true)),
        ("rnoatime", SetAll(MOUNT_ATTR_NOATIME)),
        ("rnodev", SetAll(MOUNT_ATTR_NODEV)),
        ("rnodiratime", SetAll(MOUNT_ATTR_NODIRATIME)),
        ("rnoexec", SetAll(MOUNT_ATTR_NOEXEC)),
        ("rnorelatime", ClearAll(MOUNT_ATTR_RELATIME)),
        ("rnostrictatime", ClearAll(MOUNT_ATTR_STRICTATIME)),
        ("rnosuid", SetAll(MOUNT_ATTR_NOSUID)),
        ("rnosymfollow", SetAll(MOUNT_ATTR_NOSYMFOLLOW)),
        ("ro", ReadOnly),
        ("rrelatime", SetAll(MOUNT_ATTR_RELATIME)),
        ("rro", SetAll(MOUNT_ATTR_RDONLY)),
        ("rrw", ClearAll(MOUNT_ATTR_RDONLY)),
        ("rstrictatime", SetAll(MOUNT_ATTR_STRICTATIME)),
        ("rsuid", ClearAll(MOUNT_ATTR_NOSUID)),
        ("rsymfollow", ClearAll(MOUNT_ATTR_NOSYMFOLLOW)),
        ("rw", ReadWrite),
        ("silent", Nothing),
        ("src-nofollow", SourceItself),
        ("strictatime", Set(MOUNT_ATTR_STRICTATIME)),
        ("suid", Clear(MOUNT_ATTR_NOSUID)),
        ("symfollow", Clear(MOUNT_ATTR_NOSYMFOLLOW)),
        ("sync", Super(MS_SYNCHRONOUS)),
        ("tmpcopyup", CopyUp),
    ]
};

/// Superblock flags and the words that fsconfig(2) knows them by; `MS_RDONLY` is among them.
pub const SUPERBLOCK: &[(u64, &str)] =
    &[(MS_RDONLY, "ro"), (MS_SYNCHRONOUS, "sync"), (MS_DIRSYNC, "dirsync"), (MS_LAZYTIME, "lazytime"), (MS_MANDLOCK, "mand")];

/// How mounts at a place propagate, mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// `MS_PRIVATE`, `MS_SHARED`, `MS_SLAVE` or `MS_UNBINDABLE`.
    pub flag: u64,
    /// For the whole tree: `AT_RECURSIVE` of mount_setattr(2).
    pub recursive: bool,
}

/// The flags to set and clear by mount_setattr(2). Access times are one field of the kernel's: where they are set,
/// `clear` has the whole of `MOUNT_ATTR__ATIME`, as that call demands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
}

/// What the options of one mount amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// A bind mount instead of a new one.
    pub bind: bool,
    /// With all mounts below the source.
    pub recursive: bool,
    /// Change the mount that is there.
    pub remount: bool,
    /// Flags of the mount itself.
    pub attr: Attributes,
    /// Some flag of the mount itself was named, to be set or to be cleared.
    pub named: bool,
    /// Flags of it and all mounts below; to be applied after `attr`.
    pub rec_attr: Attributes,
    /// `MS_*` flags of a new superblock; [`SUPERBLOCK`] has the words for fsconfig(2).
    pub superblock: u64,
    /// To be applied in this order; `slave` then `shared` makes both (mount_namespaces(7)).
    pub propagation: Vec<Propagation>,
    /// The file system's own options: a flag, or a key and its value.
    pub data: Vec<(String, Option<String>)>,
    /// Start with a copy of what the image has there.
    pub tmpcopyup: bool,
    /// An idmapped mount; true for the whole tree.
    pub idmap: Option<bool>,
    /// Make the link that the source is, instead of a mount.
    pub copy_link: bool,
    /// Mount a link itself.
    pub source_itself: bool,
    /// Mount over a link itself.
    pub destination_itself: bool,
}

impl MountOptions {
    /// Reads the options of a mount. Its type `bind` asks for a bind mount even without the option of that name.
    pub fn of(mount: &Mount) -> Self {
        let mut all = Self { bind: mount.kind == "bind", ..Self::default() };
        for option in &mount.options {
            all.apply(option);
        }
        all
    }

    /// The flags of a bind mount. Without one named it has those of its source. Else it has those that are named and no others, as
    /// in runc (mount(8) keeps the source's where flags are only cleared); its access times stay unless a way is named.
    pub fn bound(&self) -> Attributes {
        if !self.named {
            return Attributes::default();
        }
        let times = self.attr.set & MOUNT_ATTR_NODIRATIME | self.attr.clear & MOUNT_ATTR__ATIME;
        let times = if times == 0 { 0 } else { MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME };
        Attributes { set: self.attr.set, clear: LOCKABLE | MOUNT_ATTR_NOSYMFOLLOW | times }
    }

    fn apply(&mut self, option: &str) {
        if option.is_empty() {
            return;
        }
        if let Some(&(_, flag, recursive)) = PROPAGATION.iter().find(|row| row.0 == option) {
            return self.propagation.push(Propagation { flag, recursive });
        }
        let Ok(row) = TABLE.binary_search_by(|row| row.0.cmp(option)) else {
            let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
            return self.data.push((key.to_owned(), value.map(str::to_owned)));
        };
        let effect = TABLE[row].1;
        self.named |= matches!(
            effect,
            Effect::Set(_) | Effect::Clear(_) | Effect::Super(_) | Effect::NotSuper(_) | Effect::ReadOnly | Effect::ReadWrite
        );
        match effect {
            Effect::Nothing => {}
            Effect::Bind(recursive) => (self.bind, self.recursive) = (true, self.recursive || recursive),
            Effect::Remount => self.remount = true,
            Effect::Set(flag) => self.attr.set(flag),
            Effect::Clear(flag) => self.attr.unset(flag),
            Effect::SetAll(flag) => self.rec_attr.set(flag),
            Effect::ClearAll(flag) => self.rec_attr.clear(flag),
            Effect::Super(flag) => self.superblock |= flag,
            Effect::NotSuper(flag) => self.superblock &= !flag,
            Effect::ReadOnly => {
                self.attr.set(MOUNT_ATTR_RDONLY);
                self.superblock |= MS_RDONLY;
            }
            Effect::ReadWrite => {
                self.attr.clear(MOUNT_ATTR_RDONLY);
                self.superblock &= !MS_RDONLY;
            }
            Effect::CopyUp => self.tmpcopyup = true,
            Effect::IdMap(tree) => self.idmap = Some(tree),
            Effect::CopyLink => self.copy_link = true,
            Effect::SourceItself => self.source_itself = true,
            Effect::DestinationItself => self.destination_itself = true,
        }
    }
}

/// The flags that a user namespace may not take from a mount that comes from outside, besides changing its access times
/// (mount_namespaces(7), "Restrictions on mount namespaces").
pub const LOCKABLE: u64 = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

const ATIME: [u64; 3] = [MOUNT_ATTR_RELATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME];

impl Attributes {
    fn set(&mut self, flag: u64) {
        match ATIME.contains(&flag) {
            true => self.atime(flag),
            false => {
                self.set |= flag;
                self.clear &= !flag;
            }
        }
    }

    /// `atime` and `nostrictatime` undo one way and leave the kernel's default, relatime; they do not undo another.
    /// So does `rnorelatime`, as in runc, crun and youki, which is odd but what its mount_setattr(2) says.
    fn clear(&mut self, flag: u64) {
        match flag {
            MOUNT_ATTR_RELATIME | MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME => {
                let other = self.set & MOUNT_ATTR__ATIME & !flag;
                self.atime(other);
            }
            _ => {
                self.set &= !flag;
                self.clear |= flag;
            }
        }
    }

    /// For the mount itself, as in mount(8): what undoes a way of access times takes back the word, and asks for nothing.
    fn unset(&mut self, flag: u64) {
        match flag {
            MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME if self.set & MOUNT_ATTR__ATIME == flag => {
                self.set &= !MOUNT_ATTR__ATIME;
                self.clear &= !MOUNT_ATTR__ATIME;
            }
            // `norelatime` says only that relatime isn't asked for, which is what the kernel does by default all the same.
            MOUNT_ATTR_RELATIME | MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME => {}
            MOUNT_ATTR_NODIRATIME => self.set &= !flag,
            _ => self.clear(flag),
        }
    }

    fn atime(&mut self, way: u64) {
        self.set = self.set & !MOUNT_ATTR__ATIME | way;
        self.clear |= MOUNT_ATTR__ATIME;
    }

    /// Nothing to do for mount_setattr(2).
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
