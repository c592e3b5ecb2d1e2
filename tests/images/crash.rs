//! SIGKILL at any moment, and a disk that is full: what was there stays, what was not finished goes.

use super::{Archive, Store, names, quiet, read};
use keel::mydocker::files::{Dirs, random};
use keel::mydocker::image::{Images, Import, Reference};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Tells the helper where to work.
const STORE: &str = "KEEL_TEST_STORE";

fn archive(n: usize) -> Vec<u8> {
    (0..40).fold(Archive::new(), |archive, i| archive.file(&format!("d{i}/file"), &format!("{n}\n").repeat(2000))).done()
}

/// What the killed process does, over and over: this test is its program.
#[test]
#[ignore = "the helper of the test below"]
fn helper() {
    let Some(dir) = std::env::var_os(STORE).map(PathBuf::from) else { return };
    let images = Images::open(&Dirs::new(Some(&dir)).unwrap()).unwrap();
    for n in 0.. {
        let reference = Reference::parse(&format!("image:{}", n % 3)).unwrap();
        let asked = Import { reference: Some(&reference), ..Import::default() };
        images.import(&archive(n)[..], &asked, &mut quiet).unwrap();
        images.tag(&reference.to_string(), &Reference::parse("last").unwrap()).unwrap();
        if n % 2 == 1 {
            images.remove(&reference.to_string(), true, &|_| None).unwrap();
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_and_leaves_nothing() {
    let store = Store::new();
    let kept = store.import(&Archive::new().file("kept", "kept").done(), "kept").unwrap();
    let mut half = 0;
    for round in 0..25 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "crash::helper", "--ignored"]).env(STORE, &store.dir);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Not a wait for something: a moment that is different each time.
        std::thread::sleep(Duration::from_millis(5 + round * 7));
        child.kill().unwrap();
        child.wait().unwrap();
        half += usize::from(names(&store.dir.join("layers")).iter().any(|name| name.starts_with('.')));

        let images = Images::open(&Dirs::new(Some(&store.dir)).unwrap()).unwrap();
        assert_eq!(read(images.layers(&kept, &mut quiet).unwrap()[0].join("kept")), "kept");
        for image in images.list().unwrap() {
            let layer = images.layers(&image, &mut quiet).unwrap().remove(0);
            assert!(image.id == kept.id || names(&layer).len() == 40, "round {round}: {:?}", names(&layer));
        }
    }
    assert!(half > 0, "no round was killed in the middle of anything: this test shows nothing");
    for image in store.images.list().unwrap() {
        store.images.remove(image.id.as_str(), true, &|_| None).unwrap();
    }
    assert!(store.files().is_empty(), "{:?}", store.files());
}

/// A small disk; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn new(size: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("disk-{}", random(12)));
        fs::create_dir(&dir).unwrap();
        let options = std::ffi::CString::new(format!("size={size}")).unwrap();
        mount("tmpfs", &dir, "tmpfs", MountFlags::empty(), Some(options.as_c_str())).unwrap();
        Self(dir)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.0);
    }
}

fn used(dir: &Path) -> u64 {
    let disk = rustix::fs::statvfs(dir).unwrap();
    (disk.f_blocks - disk.f_bfree) * disk.f_frsize
}

#[test]
fn a_full_disk_is_told_and_everything_is_as_before() {
    let disk = Disk::new("4m");
    let images = Images::open(&Dirs::new(Some(&disk.0)).unwrap()).unwrap();
    let import = |archive: &[u8]| {
        let reference = Reference::parse("x").unwrap();
        images.import(archive, &Import { reference: Some(&reference), ..Import::default() }, &mut quiet)
    };
    import(&Archive::new().file("small", "small").done()).unwrap();
    let before = used(&disk.0);
    // Both the archive and its content must fit.
    let said = import(&Archive::new().file("large", &"x".repeat(3 << 20)).done()).unwrap_err().to_string();
    assert!(said.contains("no space left on device"), "{said}");
    assert_eq!(used(&disk.0), before);
    assert_eq!(images.list().unwrap().len(), 1);
    let layer = images.layers(&images.resolve("x").unwrap(), &mut quiet).unwrap().remove(0);
    assert_eq!(read(layer.join("small")), "small");
}
