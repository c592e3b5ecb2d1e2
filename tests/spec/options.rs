//! Mount options, against mount(8) and runc.

use keel::spec::Mount;
use keel::spec::options::{Attributes, Effect, MountOptions, Propagation, SUPERBLOCK, TABLE};
use libc::*;

fn of(options: &str) -> MountOptions {
    let options = options.split(',').filter(|o| !o.is_empty()).map(str::to_owned).collect();
    MountOptions::of(&Mount { kind: "tmpfs".into(), options, ..Mount::default() })
}

/// (options, set, clear) of the mount itself.
#[test]
fn attributes_of_the_mount() {
    for (options, set, clear) in [
        ("", 0, 0),
        ("defaults", 0, 0),
        ("nosuid", MOUNT_ATTR_NOSUID, 0),
        ("nosuid,noexec,nodev", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV, 0),
        ("nosuid,suid", 0, MOUNT_ATTR_NOSUID),
        ("suid,nosuid", MOUNT_ATTR_NOSUID, 0),
        ("dev,exec", 0, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC),
        ("ro", MOUNT_ATTR_RDONLY, 0),
        ("ro,rw", 0, MOUNT_ATTR_RDONLY),
        ("rw,ro", MOUNT_ATTR_RDONLY, 0),
        ("nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0),
        ("nosymfollow,symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW),
        ("nodiratime", MOUNT_ATTR_NODIRATIME, 0),
        ("nodiratime,diratime", 0, 0),
        ("noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME),
        ("relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
        ("strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME),
        ("noatime,strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME),
        ("strictatime,noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME),
        ("noatime,atime", 0, 0),
        ("strictatime,atime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME),
        ("strictatime,nostrictatime", 0, 0),
        ("noatime,nostrictatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME),
        ("noatime,relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME),
        ("atime", 0, 0),
        ("norelatime", 0, 0),
        ("noatime,nodiratime", MOUNT_ATTR_NOATIME | MOUNT_ATTR_NODIRATIME, MOUNT_ATTR__ATIME),
    ] {
        assert_eq!(of(options).attr, Attributes { set, clear }, "{options}");
        assert!(of(options).rec_attr.is_empty());
    }
}

#[test]
fn the_tree_without_relatime_is_the_kernels_default_again() {
    let clear = |options: &str| of(options).rec_attr;
    assert_eq!(clear("rnorelatime"), Attributes { set: 0, clear: MOUNT_ATTR__ATIME });
    assert_eq!(clear("rnoatime,rnorelatime"), Attributes { set: MOUNT_ATTR_NOATIME, clear: MOUNT_ATTR__ATIME });
}

/// Each option of the mount itself has one for the tree, spelt with an r, which does the same there.
#[test]
fn recursive_options_mirror_the_others() {
    let mut mirrored = 0;
    for (name, effect) in TABLE {
        let recursive = match effect {
            Effect::Set(flag) => Effect::SetAll(*flag),
            Effect::Clear(flag) => Effect::ClearAll(*flag),
            Effect::ReadOnly => Effect::SetAll(MOUNT_ATTR_RDONLY),
            Effect::ReadWrite => Effect::ClearAll(MOUNT_ATTR_RDONLY),
            Effect::Bind(false) => Effect::Bind(true),
            Effect::IdMap(false) => Effect::IdMap(true),
            _ => continue,
        };
        assert!(TABLE.contains(&(&format!("r{name}"), recursive)), "r{name}");
        mirrored += 1;
    }
    assert_eq!(mirrored, 20);
    let options = of("ro,rnosuid,rnoatime,rrw");
    assert_eq!(options.attr, Attributes { set: MOUNT_ATTR_RDONLY, clear: 0 });
    let clear = MOUNT_ATTR__ATIME | MOUNT_ATTR_RDONLY;
    assert_eq!(options.rec_attr, Attributes { set: MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOATIME, clear });
}

#[test]
fn the_table_is_sorted_and_whole() {
    assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0), "look-ups are a binary search");
    for name in ["defaults", "silent", "loud", "iversion", "noiversion"] {
        assert_eq!(of(name), MountOptions::default(), "{name}");
    }
    for (name, effect) in TABLE.iter().filter(|row| row.1 != Effect::Nothing) {
        assert!(of(name).data.is_empty(), "{name} is {effect:?}, not for the file system");
    }
}

#[test]
fn superblock_flags() {
    let words = |options: &str| {
        let flags = of(options).superblock;
        SUPERBLOCK.iter().filter(|row| flags & row.0 != 0).map(|row| row.1).collect::<Vec<_>>().join(",")
    };
    assert_eq!(words("sync,dirsync,lazytime,mand,ro"), "ro,sync,dirsync,lazytime,mand");
    assert_eq!(words("sync,async,lazytime,nolazytime,mand,nomand,ro,rw,dirsync"), "dirsync");
    assert_eq!(words("rro"), "");
}

#[test]
fn binds_propagation_and_extensions() {
    let bind = |options: &str| (of(options).bind, of(options).recursive);
    assert_eq!((bind("ro"), bind("bind"), bind("rbind"), bind("rbind,bind")), ((false, false), (true, false), (true, true), (true, true)));
    let by_type = MountOptions::of(&Mount { kind: "bind".into(), ..Mount::default() });
    assert!(by_type.bind && !by_type.recursive);
    let at = |flag, recursive| Propagation { flag, recursive };
    assert_eq!(of("rslave,shared").propagation, [at(MS_SLAVE, true), at(MS_SHARED, false)]);
    assert_eq!(of("rprivate,unbindable").propagation, [at(MS_PRIVATE, true), at(MS_UNBINDABLE, false)]);
    assert!(of("remount,tmpcopyup").remount && of("remount,tmpcopyup").tmpcopyup);
    assert_eq!((of("idmap").idmap, of("ridmap").idmap, of("").idmap), (Some(false), Some(true), None));
}

#[test]
fn what_belongs_to_the_file_system() {
    let data = of("nosuid,mode=755,newinstance,size=,context=\"a=b\",ro,RO,acl").data;
    let rows: Vec<_> = data.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
    let expected =
        [("mode", Some("755")), ("newinstance", None), ("size", Some("")), ("context", Some("\"a=b\"")), ("RO", None), ("acl", None)];
    assert_eq!(rows, expected);
}

/// The kernel takes what the table says: each attribute on a real mount, detached, so nobody sees it. Needs root.
#[test]
fn the_kernel_takes_them() {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsmount, fsopen};
    if !rustix::process::geteuid().is_root() {
        crate::skip::skipped("it needs root");
        return;
    }
    for (name, effect) in TABLE {
        let options = of(name);
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        for (flag, word) in SUPERBLOCK {
            if options.superblock & flag != 0 {
                fsconfig_set_flag(&fs, *word).unwrap_or_else(|e| panic!("{word}: {e}"));
            }
        }
        fsconfig_create(&fs).unwrap();
        let attr = MountAttrFlags::from_bits_retain(u32::try_from(options.attr.set | options.rec_attr.set).unwrap());
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attr).unwrap_or_else(|e| panic!("{name} {effect:?}: {e}"));
    }
}
