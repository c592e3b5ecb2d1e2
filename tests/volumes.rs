//! Volumes and the flags that ask for mounts, on real directories.

#![cfg(feature = "mydocker")]

use keel::mydocker::files::Dirs;
use keel::mydocker::volume::{Kind, MountPoint, Volumes, copy_up, in_order, size};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, XattrFlags, chownat, getxattr, mknodat, open, setxattr};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// An installation and an image, in a directory that goes with it.
struct Place {
    dirs: Dirs,
    volumes: Volumes,
    image: PathBuf,
}

impl Place {
    fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let data = std::env::temp_dir().join(format!("mydocker-vol-{}-{number}", std::process::id()));
        let image = data.join("image");
        fs::create_dir_all(&image).unwrap();
        let dirs = Dirs { run: data.join("run"), data };
        Self { volumes: Volumes::open(&dirs).unwrap(), image, dirs }
    }

    fn root(&self) -> OwnedFd {
        directory(&self.image)
    }

    /// Provides what `-v` asks for; the mount with its source.
    fn provide(&self, flag: &str) -> keel::sys::Result<MountPoint> {
        let mut mount = MountPoint::volume_flag(flag)?;
        self.volumes.provide(&mut mount, self.root().as_fd()).map(|()| mount)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dirs.data));
    }
}

fn directory(path: &Path) -> OwnedFd {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: keel::sys::Result<T>, words: &str) {
    let error = result.expect_err(words).to_string();
    assert!(error.contains(words), "{words:?} is missing in {error:?}");
}

fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

#[test]
fn volume_flags_are_read_as_docker_reads_them() {
    let bind = MountPoint::volume_flag("/srv/../srv//data:/data/:ro,rslave").unwrap();
    assert_eq!((bind.kind, bind.source.as_str(), bind.destination.as_str()), (Kind::Bind, "/srv/data", "/data"));
    assert_eq!(bind.spec().options, ["rbind", "rro", "rslave"]);
    let named = MountPoint::volume_flag("data:/data:nocopy,z").unwrap();
    assert_eq!((named.kind, named.name.as_str(), named.no_copy, named.relabel.as_str()), (Kind::Volume, "data", true, "z"));
    assert_eq!(named.spec().options, ["rbind", "rprivate"]);
    let anonymous = MountPoint::volume_flag("/data").unwrap();
    assert_eq!((anonymous.kind, anonymous.anonymous, anonymous.name.len()), (Kind::Volume, true, 64));
    for (flag, words) in [
        ("./x:/x", "includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended"),
        ("../x:/x", "use absolute path"),
        ("a:/x", "too short"),
        ("ab:x", "invalid mount path: 'x' mount path must be absolute"),
        ("x", "mount path must be absolute"),
        ("/:/x:rw:z", "too many colons"),
        ("/a:/", "destination can't be '/'"),
        ("/a:/b/..", "destination can't be '/'"),
        ("/a::ro", "empty section between colons"),
        ("", "empty section between colons"),
        ("/a:/b:wo", "invalid mode: wo"),
        ("/a:/b:nocopy", "invalid mode: nocopy"),
        ("ab:/b:rshared", "invalid mode: rshared"),
    ] {
        refused(MountPoint::volume_flag(flag), words);
    }
}

#[test]
fn mount_flags_are_read_as_docker_reads_them() {
    let bind = MountPoint::mount_flag("type=bind,\"src=/a,b\",dst=/x,readonly,bind-propagation=rshared").unwrap();
    assert_eq!((bind.source.as_str(), bind.make_source), ("/a,b", false));
    assert_eq!(bind.spec().options, ["rbind", "rro", "rshared"]);
    let flat = MountPoint::mount_flag("type=bind,source=/a,target=/x,bind-recursive=disabled").unwrap();
    assert_eq!(flat.spec().options, ["bind", "rprivate"]);
    let partly = MountPoint::mount_flag("type=bind,source=/a,target=/x,ro,bind-recursive=writable").unwrap();
    assert_eq!(partly.spec().options, ["rbind", "ro", "rprivate"]);
    let volume = MountPoint::mount_flag("src=data,dst=/x,volume-nocopy,volume-label=a=b,volume-opt=o=bind,volume-subpath=/p/q/").unwrap();
    assert_eq!((volume.kind, volume.name.as_str(), volume.no_copy, volume.subpath.as_str()), (Kind::Volume, "data", true, "p/q"));
    assert_eq!((volume.labels["a"].as_str(), volume.volume_options["o"].as_str()), ("b", "bind"));
    let tmpfs = MountPoint::mount_flag("type=tmpfs,destination=/x,tmpfs-size=64m,tmpfs-mode=1770,ro=true").unwrap().spec();
    assert_eq!((tmpfs.kind.as_str(), tmpfs.source.as_str()), ("tmpfs", "tmpfs"));
    assert_eq!(tmpfs.options, ["noexec", "nosuid", "nodev", "size=67108864", "mode=1770", "ro", "rprivate"]);
    let tmpfs = MountPoint::tmpfs_flag("/run:rw,exec,size=1g").unwrap().spec();
    assert_eq!(tmpfs.options, ["noexec", "nosuid", "nodev", "exec", "size=1g", "rw", "rprivate"]);
    for (flag, words) in [
        ("type=bind,src=/a", "target is required"),
        ("type=bind,dst=/a", "source is required"),
        ("type=bind,src=a,dst=/a", "'a' mount path must be absolute"),
        ("type=npipe,src=a,dst=/a", "type \"npipe\" is not supported"),
        ("type=bind,src=/a,dst=/a,tmpfs-size=1", "unexpected key \"tmpfs-size\""),
        ("type=tmpfs,dst=/a,tmpfs-size=1x", "invalid size: '1x'"),
        ("type=tmpfs,dst=/a,tmpfs-mode=8", "invalid value for tmpfs-mode"),
        ("type=tmpfs,src=/b,dst=/a", "unexpected key \"src\""),
        ("type=volume,src=./b,dst=/a", "invalid characters"),
        ("src=bb,dst=/a,volume-driver=nfs", "volume driver \"nfs\" is not supported"),
        ("src=bb,dst=/a,ro=maybe", "invalid value for ro: maybe"),
        ("src=bb,,dst=/a", "field 2 is empty"),
        ("src=bb,\"dst=/a", "a quote is not closed"),
    ] {
        refused(MountPoint::mount_flag(flag), words);
    }
    refused(MountPoint::tmpfs_flag("/run:lower=/etc"), "invalid tmpfs option");
    refused(MountPoint::tmpfs_flag("run"), "mount path must be absolute");
    assert_eq!((size("0").unwrap(), size("3KiB").unwrap(), size("2g").unwrap()), (0, 3072, 2 << 30));
    refused(size("99999999999t"), "invalid size");
}

#[test]
fn mounts_are_ordered_and_places_are_unique() {
    let mounts = ["/a/b/c", "/a", "/a/b"].map(|place| MountPoint::volume_flag(place).unwrap());
    let order: Vec<String> = in_order(mounts.to_vec()).unwrap().into_iter().map(|mount| mount.destination).collect();
    assert_eq!(order, ["/a", "/a/b", "/a/b/c"]);
    refused(in_order(vec![mounts[1].clone(), MountPoint::volume_flag("/b:/a/").unwrap()]), "duplicate mount point: /a");
}

#[test]
fn a_missing_source_is_made_for_v_and_refused_for_mount() {
    let place = Place::new();
    let source = place.dirs.data.join("new/dir");
    let text = source.to_str().unwrap();
    refused(MountPoint::mount_flag(&format!("type=bind,src={text},dst=/x")).unwrap().prepare(), "bind source path does not exist");
    assert!(!source.exists());
    MountPoint::volume_flag(&format!("{text}:/x")).unwrap().prepare().unwrap();
    assert!(source.is_dir());
    MountPoint::mount_flag(&format!("type=bind,src={text},dst=/x")).unwrap().prepare().unwrap();
}

#[test]
fn volumes_are_made_listed_and_removed() {
    let place = Place::new();
    let volumes = &place.volumes;
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let made = volumes.create("data", &labels, &none()).unwrap();
    assert_eq!(volumes.create("data", &none(), &none()).unwrap(), made);
    assert!(volumes.data(&made).is_dir());
    let anonymous = volumes.create("", &none(), &none()).unwrap();
    assert!(anonymous.anonymous && anonymous.name.len() == 64);
    assert_eq!(volumes.list().unwrap().len(), 2);
    refused(volumes.remove("data", |_| Some("c1".into())), "remove data: volume is in use - [c1]");
    refused(volumes.remove("other", |_| None), "get other: no such volume");
    refused(volumes.get("../data"), "no such volume");
    refused(volumes.create("x y", &none(), &none()), "invalid characters");
    refused(volumes.create("sized", &none(), &BTreeMap::from([("size".into(), "1g".into())])), "not supported");
    // What a crash leaves is swept by prune.
    fs::create_dir(place.dirs.volumes().join(".new.0123")).unwrap();
    assert_eq!(volumes.prune(|volume| volume.anonymous).unwrap(), [anonymous]);
    assert_eq!(fs::read_dir(place.dirs.volumes()).unwrap().count(), 1);
    volumes.remove("data", |_| None).unwrap();
    assert_eq!(fs::read_dir(place.dirs.volumes()).unwrap().count(), 0);
}

#[test]
fn a_directory_of_the_host_can_be_a_volume() {
    let place = Place::new();
    let device = place.image.to_str().unwrap().to_owned();
    let options = BTreeMap::from([("type".into(), "none".into()), ("o".into(), "bind".into()), ("device".into(), device.clone())]);
    place.volumes.create("host", &none(), &options).unwrap();
    refused(place.volumes.create("host", &none(), &none()), "exists already with other options");
    assert_eq!(place.provide("host:/x").unwrap().source, device);
    place.volumes.remove("host", |_| None).unwrap();
    assert!(place.image.is_dir());
}

#[test]
fn a_new_volume_takes_the_images_content() {
    let place = Place::new();
    let inside = place.image.join("srv");
    fs::create_dir_all(inside.join("sub")).unwrap();
    fs::write(inside.join("sub/file"), "text").unwrap();
    fs::hard_link(inside.join("sub/file"), inside.join("twin")).unwrap();
    symlink("/etc/passwd", inside.join("link")).unwrap();
    mknodat(directory(&inside), "fifo", rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    chownat(rustix::fs::CWD, inside.join("sub/file"), Some(Uid::from_raw(7)), Some(Gid::from_raw(8)), AtFlags::empty()).unwrap();
    fs::set_permissions(inside.join("sub/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    // A capability and a label of the user's own.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    setxattr(inside.join("sub/file"), "security.capability", &capability, XattrFlags::empty()).unwrap();
    chownat(rustix::fs::CWD, &inside, Some(Uid::from_raw(33)), Some(Gid::from_raw(34)), AtFlags::empty()).unwrap();
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o2770)).unwrap();
    // 1 TiB of nothing with a word at its end.
    let sparse = File::create(inside.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", (1 << 40) - 3).unwrap();

    let mount = place.provide("data:/srv").unwrap();
    let data = PathBuf::from(&mount.source);
    let root = fs::metadata(&data).unwrap();
    assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (33, 34, 0o2770));
    let file = fs::metadata(data.join("sub/file")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777, file.nlink()), (7, 8, 0o4751, 2));
    assert_eq!(file.ino(), fs::metadata(data.join("twin")).unwrap().ino());
    assert_eq!(file.mtime_nsec(), fs::metadata(inside.join("sub/file")).unwrap().mtime_nsec());
    let mut value = [0; 64];
    assert_eq!(getxattr(data.join("sub/file"), "security.capability", &mut value).unwrap(), capability.len());
    assert_eq!(value[..capability.len()], capability);
    assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::metadata(data.join("fifo")).unwrap().mode() & 0o7777, 0o640);
    let copied = fs::metadata(data.join("sparse")).unwrap();
    assert!(copied.len() == 1 << 40 && copied.blocks() < 1000, "{} blocks", copied.blocks());

    // Not again: neither into a volume with content, nor with nocopy.
    fs::remove_file(data.join("twin")).unwrap();
    place.provide("data:/srv").unwrap();
    assert!(!data.join("twin").exists());
    let empty = place.provide("other:/srv:nocopy").unwrap();
    assert_eq!(fs::read_dir(&empty.source).unwrap().count(), 0);
}

#[test]
fn a_copy_that_was_interrupted_is_done_again() {
    let place = Place::new();
    fs::create_dir(place.image.join("srv")).unwrap();
    fs::write(place.image.join("srv/whole"), "whole").unwrap();
    let data = PathBuf::from(place.provide("data:/srv").unwrap().source);
    let record = place.dirs.volumes().join("data/volume.json");
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.contains("\"filling\": false"), "{text}");
    fs::write(&record, text.replace("\"filling\": false", "\"filling\": true")).unwrap();
    fs::write(data.join("whole"), "ha").unwrap();
    place.provide("data:/srv").unwrap();
    assert_eq!(fs::read_to_string(data.join("whole")).unwrap(), "whole");
}

#[test]
fn links_in_the_image_do_not_lead_out_of_it() {
    let place = Place::new();
    let canary = place.dirs.data.join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("secret"), "host").unwrap();
    // Absolute, by `..`, and through a magic link of /proc.
    symlink(&canary, place.image.join("absolute")).unwrap();
    symlink("../../../../../../../../..".to_owned() + canary.to_str().unwrap(), place.image.join("relative")).unwrap();
    symlink(format!("/proc/self/root{}", canary.display()), place.image.join("magic")).unwrap();
    for name in ["absolute", "relative", "magic"] {
        let data = place.provide(&format!("{name}:/{name}")).unwrap().source;
        assert_eq!(fs::read_dir(data).unwrap().count(), 0, "{name}");
    }
    // Inside the image a link is followed.
    fs::create_dir(place.image.join("real")).unwrap();
    fs::write(place.image.join("real/file"), "image").unwrap();
    symlink("/real", place.image.join("inner")).unwrap();
    let data = PathBuf::from(place.provide("inner:/inner").unwrap().source);
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "image");
    // A file is no place for a volume, and too deep a tree is refused rather than followed for ever.
    fs::write(place.image.join("file"), "").unwrap();
    refused(place.provide("onfile:/file"), "cannot be mounted over a file");
    let mut deep = place.image.join("deep");
    (0..300).for_each(|_| deep.push("d"));
    fs::create_dir_all(&deep).unwrap();
    refused(place.provide("deep:/deep"), "directories deep");
}

#[test]
fn a_subpath_does_not_follow_what_containers_put_there() {
    let place = Place::new();
    let volume = place.volumes.create("data", &none(), &none()).unwrap();
    let data = place.volumes.data(&volume);
    fs::create_dir(data.join("part")).unwrap();
    symlink("/etc", data.join("link")).unwrap();
    let provide = |part: &str| {
        let mut mount = MountPoint::mount_flag(&format!("src=data,dst=/x,volume-subpath={part}")).unwrap();
        place.volumes.provide(&mut mount, place.root().as_fd()).map(|()| mount.source)
    };
    assert_eq!(provide("part").unwrap(), data.join("part").to_str().unwrap());
    refused(provide("link"), "volume-subpath=link");
    refused(provide("../../.."), "volume-subpath");
    assert!(!copy_up(place.root().as_fd(), "/missing", directory(&data).as_fd()).unwrap());
}
