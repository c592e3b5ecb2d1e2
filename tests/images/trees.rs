//! Trees that somebody else made: as deep as they like, with links and mounts in them, changed
//! while they are removed.

use keel::mydocker::files::{random, tree};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A file system of its own, in memory: a disk takes its time to make a hundred thousand directories.
/// The place lies so deep in it that a walk which goes too far up ends among directories of the test.
struct Place {
    top: PathBuf,
    dir: PathBuf,
}

impl Place {
    fn new() -> Self {
        let top = std::env::temp_dir().join(format!("trees-{}", random(12)));
        fs::create_dir(&top).unwrap();
        mount("tmpfs", &top, "tmpfs", MountFlags::empty(), Some(c"nr_inodes=0")).unwrap();
        let dir = top.join("shell/".repeat(100));
        fs::create_dir_all(dir.join("tree")).unwrap();
        fs::create_dir(dir.join("outside")).unwrap();
        (0..20).for_each(|i| fs::write(dir.join(format!("outside/{i}")), "untouched").unwrap());
        Self { top, dir }
    }

    fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    fn outside(&self) -> PathBuf {
        self.dir.join("outside")
    }

    #[track_caller]
    fn untouched(&self) {
        let files = (0..20).filter(|i| fs::read(self.outside().join(i.to_string())).is_ok_and(|text| text == b"untouched"));
        assert_eq!(files.count(), 20);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = unmount(&self.top, UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.top);
    }
}

/// Goes down that many levels, which it makes; the deepest directory.
fn deep(dir: &Path, levels: usize) -> OwnedFd {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(CWD, dir, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        mkdirat(&at, c"directory", Mode::RWXU).unwrap();
        at = openat(&at, c"directory", flags, Mode::empty()).unwrap();
    }
    at
}

fn file(dir: &OwnedFd, name: &str, size: u64) {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::ftruncate(openat(dir, name, flags, Mode::RUSR).unwrap(), size).unwrap();
}

/// Peak and present resident memory in KiB, proc_pid_status(5).
fn resident(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_tree_of_any_depth_is_measured_and_removed_with_few_descriptors() {
    let place = Place::new();
    let tree = place.tree();
    // Other tests run beside this one, so that the limit leaves room for theirs.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(1024), maximum: limit.maximum }).unwrap();
    for levels in [3_000, 100_000] {
        let bottom = deep(&tree, levels);
        (0..100).for_each(|i| file(&bottom, &format!("file{i}"), 1 << 20));
        // Beside the way down too, so that a level is more than one entry.
        let middle = deep(&tree.join("directory/directory"), 0);
        (0..100).for_each(|i| file(&middle, &format!("file{i}"), 1 << 10));
        drop((bottom, middle));
        let before = resident("VmRSS:");
        assert_eq!(tree::size(&tree).files, 100 * ((1 << 20) + (1 << 10)), "{levels}");
        tree::remove_path(&tree).unwrap();
        let grown = resident("VmHWM:").saturating_sub(before);
        assert!(!tree.exists());
        println!("{levels} levels: {grown} KiB");
        fs::create_dir(&tree).unwrap();
    }
    setrlimit(Resource::Nofile, limit).unwrap();
    place.untouched();
}

#[test]
fn many_deep_branches_of_a_wide_directory_are_all_removed() {
    let place = Place::new();
    for i in 0..300 {
        let branch = place.tree().join(format!("branch{i}"));
        fs::create_dir(&branch).unwrap();
        file(&deep(&branch, 60), "file", 10);
        (0..5).for_each(|j| fs::write(place.tree().join(format!("file{i}.{j}")), "x").unwrap());
    }
    assert_eq!(tree::size(&place.tree()).files, 300 * 10 + 1500);
    tree::remove_content(&place.tree()).unwrap();
    assert_eq!(fs::read_dir(place.tree()).unwrap().count(), 0);
    fs::write(place.dir.join("file"), "x").unwrap();
    tree::remove_path(&place.dir.join("file")).unwrap();
    let missing = tree::remove_path(&place.dir.join("file")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn links_are_removed_and_never_followed() {
    let place = Place::new();
    let bottom = deep(&place.tree(), 50);
    rustix::fs::symlinkat(place.outside(), &bottom, "link").unwrap();
    std::os::unix::fs::symlink(place.outside(), place.tree().join("link")).unwrap();
    assert_eq!(tree::size(&place.tree()).files, 0);
    tree::remove_path(&place.tree()).unwrap();
    std::os::unix::fs::symlink(place.outside(), place.tree()).unwrap();
    assert_eq!(tree::size(&place.tree()).files, 0);
    tree::remove_path(&place.tree()).unwrap();
    assert!(!place.tree().is_symlink());
    place.untouched();
}

#[test]
fn a_mount_in_a_tree_keeps_its_content() {
    let place = Place::new();
    for below in ["mount", "directory/directory/mount", ""] {
        let at = place.tree().join(below);
        fs::create_dir_all(&at).unwrap();
        mount_bind(place.outside(), &at).unwrap();
        let counted = tree::size(&place.tree()).files;
        let said = tree::remove_path(&place.tree());
        unmount(&at, UnmountFlags::DETACH).unwrap();
        assert_eq!(said.unwrap_err().raw_os_error(), Some(libc::EBUSY), "{below}");
        // A tree that is itself a mount is measured, as a volume on a disk of its own is.
        assert_eq!(counted, if below.is_empty() { 20 * 9 } else { 0 }, "{below}");
        place.untouched();
    }
    tree::remove_path(&place.tree()).unwrap();
}

#[test]
fn a_tree_that_is_moved_while_it_is_removed_does_not_lead_out_of_itself() {
    let place = Place::new();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Again and again the middle of the tree lies in the other directory, to which `..` leads
        // then.
        scope.spawn(|| {
            let middle = place.tree().join("directory/".repeat(10));
            while !over.load(Ordering::Relaxed) {
                if fs::rename(&middle, place.outside().join("moved")).is_ok() {
                    std::thread::sleep(std::time::Duration::from_micros(300));
                    let _ = fs::rename(place.outside().join("moved"), &middle);
                }
            }
        });
        for _ in 0..300 {
            let _ = fs::create_dir(place.tree());
            // What is left of the last round, moved away in time, is in nobody's way.
            let _ = tree::remove_path(&place.outside().join("moved"));
            if let Ok(()) = fs::create_dir_all(place.tree().join("directory/".repeat(60))) {
                for i in 0..50 {
                    let _ = fs::write(place.tree().join("directory/".repeat(60)).join(format!("file{i}")), "x");
                }
            }
            let _ = tree::remove_path(&place.tree());
            place.untouched();
        }
        over.store(true, Ordering::Relaxed);
    });
    place.untouched();
}
