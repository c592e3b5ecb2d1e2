//! The store: names, ids, removal, and what a crash or two commands at once leave.

use super::{Archive, Overlay, Store, names, quiet, read};
use keel::mydocker::image::{DEFAULT_DOMAIN, Import, Reference, Removed};
use std::fs;

fn hello() -> Vec<u8> {
    Archive::new().dir("etc", 0o755).file("etc/hello", "hello\n").done()
}

fn unused(_: &keel::mydocker::image::Image) -> Option<String> {
    None
}

#[test]
fn an_imported_archive_is_an_image_with_a_name_and_a_layer() {
    let store = Store::new();
    let changes = ["CMD [\"sh\", \"-l\"]", "ENV A=b C=\"d e\"", "EXPOSE 80 53/udp", "LABEL x=y", "WORKDIR /w", "USER 5:6", "VOLUME /data"]
        .map(str::to_owned);
    let reference = Reference::parse("hello:v1").unwrap();
    let asked = Import { reference: Some(&reference), changes: &changes, message: Some("by hand") };
    let image = store.images.import(&hello()[..], &asked, &mut quiet).unwrap();
    let config = image.config.config().clone().unwrap();
    assert_eq!(config.cmd().clone().unwrap(), ["sh", "-l"]);
    assert_eq!(config.env().clone().unwrap(), ["A=b", "C=d e"]);
    assert_eq!(config.exposed_ports().clone().unwrap(), ["53/udp", "80/tcp"]);
    assert_eq!(config.labels().clone().unwrap()["x"], "y");
    assert_eq!(config.working_dir().as_deref(), Some("/w"));
    assert_eq!(config.user().as_deref(), Some("5:6"));
    assert_eq!(config.volumes().clone().unwrap(), ["/data"]);
    assert_eq!(image.config.history().as_ref().unwrap()[0].comment().as_deref(), Some("by hand"));
    assert_eq!(image.title(), "hello:v1");
    assert_eq!(store.images.size(&image), 6);
    let layers = store.images.layers(&image, &mut quiet).unwrap();
    assert_eq!(layers.len(), 1);
    assert_eq!(layers[0].file_name().unwrap().len(), 12);
    assert_eq!(read(layers[0].join("etc/hello")), "hello\n");
    // The layout is what other tools expect.
    assert_eq!(read(store.dir.join("images/oci-layout")).trim(), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: serde_json::Value = serde_json::from_str(&read(store.dir.join("images/index.json"))).unwrap();
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], format!("{DEFAULT_DOMAIN}/library/hello:v1"));
    assert_eq!(index["manifests"][0]["digest"], image.digest.as_str());
}

#[test]
fn an_image_is_found_by_name_id_prefix_and_digest() {
    let store = Store::new();
    let one = store.import(&hello(), "one").unwrap();
    let two = store.import(&Archive::new().file("two", "2").done(), "some/two:x").unwrap();
    let id = |what: &str| store.images.resolve(what).map(|image| image.id).map_err(|e| e.to_string());
    for what in
        ["one", "one:latest", &format!("{DEFAULT_DOMAIN}/library/one"), one.id.as_str(), one.id.hex(), one.id.short(), one.digest.as_str()]
    {
        assert_eq!(id(what).as_ref(), Ok(&one.id), "{what}");
    }
    assert_eq!(id(&format!("one@{}", one.digest)), Ok(one.id.clone()));
    assert_eq!(id("some/two:x"), Ok(two.id.clone()));
    assert_eq!(id("some/two").unwrap_err(), "no such image: some/two");
    assert_eq!(id("three").unwrap_err(), "no such image: three");
    assert!(id("A B").unwrap_err().contains("is not the name of an image"));
    // A name that looks like the beginning of an id is a name first.
    let prefix = &one.id.hex()[..4];
    store.images.tag("some/two:x", &Reference::parse(prefix).unwrap()).unwrap();
    assert_eq!(id(prefix), Ok(two.id.clone()));
    let common = (0..=64).rev().find(|n| one.id.hex()[..*n] == two.id.hex()[..*n]).unwrap();
    if common > 0 {
        assert!(id(&one.id.hex()[..common]).unwrap_err().contains("beginning of the ids of 2 images"));
    }
    assert_eq!(store.images.list().unwrap().len(), 2);
}

#[test]
fn removal_is_docker_s() {
    let store = Store::new();
    let image = store.import(&hello(), "a").unwrap();
    store.images.tag("a", &Reference::parse("b").unwrap()).unwrap();
    let remove = |what: &str, force, used: Option<&str>| {
        let used = used.map(str::to_owned);
        store.images.remove(what, force, &|_| used.clone()).map_err(|e| e.to_string())
    };
    assert!(remove(image.id.short(), false, None).unwrap_err().contains("has several names: a:latest, b:latest"));
    assert_eq!(remove("a", false, Some("c1")), Ok(vec![Removed::Untagged("a:latest".into())]));
    assert!(remove("b", false, Some("c1")).unwrap_err().contains("is used by container c1"));
    // By force a used image loses its name, and stays.
    assert_eq!(remove("b", true, Some("c1")), Ok(vec![Removed::Untagged("b:latest".into())]));
    assert!(remove(image.id.short(), true, Some("c1")).unwrap_err().contains("is used by container c1"));
    let left = store.images.resolve(image.id.short()).unwrap();
    assert!(left.names.is_empty());
    assert_eq!(store.images.layers(&left, &mut quiet).unwrap().len(), 1);
    assert_eq!(remove(image.id.short(), false, None), Ok(vec![Removed::Deleted(image.id.clone())]));
    assert_eq!(store.files(), [] as [std::path::PathBuf; 0]);
    assert_eq!(remove("a", true, None).unwrap_err(), "no such image: a");
}

#[test]
fn a_name_that_is_given_again_leaves_the_old_image_without_one_and_prune_takes_it() {
    let store = Store::new();
    let old = store.import(&hello(), "x").unwrap();
    let new = store.import(&Archive::new().file("new", "new").done(), "x").unwrap();
    assert_eq!(store.images.resolve("x").unwrap().id, new.id);
    assert!(store.images.resolve(old.id.as_str()).unwrap().names.is_empty());
    let (removed, freed) = store.images.prune(false, &unused).unwrap();
    assert_eq!(removed, [Removed::Deleted(old.id)]);
    assert!(freed > 0);
    assert_eq!(store.images.list().unwrap().len(), 1);
    assert_eq!(store.images.prune(false, &unused).unwrap().0, []);
    let used = |image: &keel::mydocker::image::Image| (image.id == new.id).then(|| "c".to_owned());
    assert_eq!(store.images.prune(true, &used).unwrap().0, []);
    assert_eq!(store.images.prune(true, &unused).unwrap().0.len(), 2);
    assert_eq!(store.files(), [] as [std::path::PathBuf; 0]);
}

#[test]
fn layers_are_shared_and_go_with_their_last_image() {
    let store = Store::new();
    let one = store.import(&hello(), "one").unwrap();
    let changes = ["LABEL other=1".to_owned()];
    let reference = Reference::parse("two").unwrap();
    let two =
        store.images.import(&hello()[..], &Import { reference: Some(&reference), changes: &changes, message: None }, &mut quiet).unwrap();
    assert_ne!(one.id, two.id);
    assert_eq!(store.images.layers(&one, &mut quiet).unwrap(), store.images.layers(&two, &mut quiet).unwrap());
    store.images.remove("one", false, &unused).unwrap();
    assert_eq!(read(store.images.layers(&two, &mut quiet).unwrap()[0].join("etc/hello")), "hello\n");
    store.images.remove("two", false, &unused).unwrap();
    assert_eq!(store.files(), [] as [std::path::PathBuf; 0]);
}

#[test]
fn what_a_crash_leaves_is_swept_by_the_next_change() {
    let store = Store::new();
    let kept = store.import(&hello(), "kept").unwrap();
    let before = store.files();
    // A blob that nothing names, half a blob, half a layer, a whole layer whose image was never named.
    fs::write(store.dir.join("images/blobs/sha256").join("0".repeat(64)), "x").unwrap();
    fs::write(store.dir.join("images/ingest/half"), "x").unwrap();
    fs::create_dir_all(store.dir.join("layers/.half/deep/er")).unwrap();
    fs::create_dir_all(store.dir.join("layers/0123456789ab/etc")).unwrap();
    fs::write(store.dir.join("layers/0123456789ab.json"), "{}").unwrap();
    assert!(store.images.sweep().unwrap() > 0);
    assert_eq!(store.files(), before);
    // The layer of an image that is there is unpacked again if it is lost.
    let layer = store.images.layers(&kept, &mut quiet).unwrap().remove(0);
    fs::remove_dir_all(&layer).unwrap();
    assert_eq!(store.images.layers(&kept, &mut quiet).unwrap(), std::slice::from_ref(&layer));
    assert_eq!(read(layer.join("etc/hello")), "hello\n");
}

/// A source of bytes that has our locks, as a child does between fork(2) and execve(2).
struct Child<'a> {
    store: &'a Store,
    held: Vec<std::os::fd::OwnedFd>,
}

impl std::io::Read for Child<'_> {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        for entry in fs::read_dir("/proc/self/fd")?.flatten() {
            let number: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
            if fs::read_link(entry.path()).is_ok_and(|path| path == self.store.dir.join("images/lease")) {
                let pid = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())?;
                self.held.push(rustix::process::pidfd_getfd(pid, number, rustix::process::PidfdGetfdFlags::empty())?);
            }
        }
        assert!(!self.held.is_empty(), "the lease is held while something is added");
        Err(std::io::Error::other("it breaks"))
    }
}

#[test]
fn a_child_that_has_a_lock_for_a_moment_keeps_nobody_from_sweeping() {
    let store = Store::new();
    fs::write(store.dir.join("images/ingest/crashed"), "a crash left it").unwrap();
    let mut child = Child { store: &store, held: Vec::new() };
    let said = store.images.import(&mut child, &Import::default(), &mut quiet).unwrap_err().to_string();
    assert!(said.contains("it breaks"), "{said}");
    assert!(store.files().is_empty(), "{:?}", store.files());
    drop(child);
}

#[test]
fn two_layers_whose_names_begin_alike_have_places_of_their_own() {
    let store = Store::new();
    let image = store.import(&hello(), "x").unwrap();
    let layer = store.images.layers(&image, &mut quiet).unwrap().remove(0);
    // Another layer had the short name first.
    let note = layer.with_extension("json");
    fs::write(&note, read(&note).replace(image.layers[0].as_str(), &format!("sha256:{}", "0".repeat(64)))).unwrap();
    let other = store.images.layers(&image, &mut quiet).unwrap().remove(0);
    assert_eq!(other.file_name().unwrap().len(), 24);
    assert_eq!(read(other.join("etc/hello")), "hello\n");
}

#[test]
fn many_at_once_unpack_once_and_lose_nothing() {
    let store = Store::new();
    let image = store.import(&hello(), "x").unwrap();
    let layer = store.images.layers(&image, &mut quiet).unwrap().remove(0);
    fs::remove_dir_all(&layer).unwrap();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (store, image, layer) = (&store, &image, &layer);
            scope.spawn(move || {
                assert_eq!(store.images.layers(image, &mut quiet).unwrap(), std::slice::from_ref(layer));
                let name = Reference::parse(&format!("name{n}")).unwrap();
                store.images.tag("x", &name).unwrap();
                store.import(&Archive::new().file("n", &n.to_string()).done(), &format!("own{n}")).unwrap();
                store.images.remove(&format!("own{n}"), false, &unused).unwrap();
            });
        }
    });
    assert_eq!(store.images.list().unwrap().len(), 1);
    assert_eq!(store.images.resolve("x").unwrap().names.len(), 9);
    assert_eq!(names(&layer), ["etc"]);
    assert_eq!(names(&store.dir.join("layers")).len(), 3, "{:?}", names(&store.dir.join("layers")));
    assert_eq!(names(&store.dir.join("images/ingest")), [""; 0]);
}

#[test]
fn a_damaged_blob_is_told() {
    let store = Store::new();
    let image = store.import(&hello(), "x").unwrap();
    let blob = store.dir.join("images/blobs/sha256").join(image.id.hex());
    fs::write(&blob, read(&blob).replace("linux", "lunix")).unwrap();
    let said = store.images.resolve("x").unwrap_err().to_string();
    assert!(said.contains(&format!("the blob {} is damaged", image.id)), "{said}");
    // The others are still listed, and it goes by force.
    store.import(&Archive::new().file("other", "x").done(), "other").unwrap();
    assert_eq!(store.images.list().unwrap().len(), 1);
    assert_eq!(store.images.damaged().unwrap()[0].0, "x:latest");
    assert!(store.images.remove("x", false, &unused).is_err());
    assert_eq!(store.images.remove("x", true, &unused).unwrap(), [Removed::Untagged("x:latest".into()), Removed::Deleted(image.digest)]);
    assert!(store.images.damaged().unwrap().is_empty());
    store.images.remove("other", false, &unused).unwrap();
    assert!(store.files().is_empty());
}

#[test]
fn busybox_is_made_offline_and_runs() {
    let store = Store::new();
    let image = store.images.ensure_busybox().unwrap();
    assert_eq!(image.title(), "busybox:latest");
    assert_eq!(store.images.ensure_busybox().unwrap().id, image.id);
    assert_eq!(image.config.config().as_ref().unwrap().cmd().clone().unwrap(), ["sh"]);
    let overlay = Overlay::new(&store.images.layers(&image, &mut quiet).unwrap());
    let said = std::process::Command::new("chroot").arg(&overlay.dir).args(["/bin/sh", "-c", "echo hello; ls -ld /tmp"]).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(text.starts_with("hello\ndrwxrwxrwt"), "{text}{}", String::from_utf8_lossy(&said.stderr));
}
