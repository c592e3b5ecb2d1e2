//! `save` and `load`: what docker and podman write and read, and archives that lie.

use super::{Archive, Overlay, Store, names, quiet, read};
use keel::mydocker::image::{DEFAULT_DOMAIN, Digest, Image, Reference};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// A configuration for these uncompressed layers.
fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diffs: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "Healthcheck": {"Test": ["NONE"]}},
        "rootfs": {"type": "layers", "diff_ids": diffs}})
    .to_string()
    .into_bytes()
}

/// The archive of an old docker: one directory for each layer.
pub fn old_docker(layers: &[&[u8]], name: &str) -> Vec<u8> {
    let config = config(layers);
    let id = Digest::of(&config);
    let paths: Vec<String> = (0..layers.len()).map(|n| format!("layer{n}/layer.tar")).collect();
    let manifest = json!([{"Config": format!("{}.json", id.hex()), "RepoTags": [name], "Layers": paths}]);
    let mut archive = Archive::new();
    for (path, layer) in paths.iter().zip(layers) {
        archive = archive.dir(path.trim_end_matches("layer.tar"), 0o755).entry(tar::EntryType::Regular, path, "", 0o644, layer);
    }
    let text = String::from_utf8(config).unwrap();
    archive.file(&format!("{}.json", id.hex()), &text).file("manifest.json", &manifest.to_string()).done()
}

pub fn load(store: &Store, archive: &[u8]) -> Result<Vec<Image>, String> {
    let loaded = store.images.load(archive, &mut quiet).map_err(|e| e.to_string())?;
    Ok(loaded.iter().map(|loaded| store.images.resolve(loaded.digest.as_str()).unwrap()).collect())
}

fn refused(store: &Store, archive: &[u8]) -> String {
    let before = store.files();
    let said = load(store, archive).expect_err("a bad archive was loaded");
    assert_eq!(store.files(), before, "{said}");
    assert!(!said.contains('\n'), "{said}");
    said
}

#[test]
fn what_is_saved_is_loaded_with_the_same_digests() {
    let (here, there) = (Store::new(), Store::new());
    let one = here.import(&Archive::new().file("one", "1").done(), "one").unwrap();
    let two = here.import(&Archive::new().file("two", "2").done(), "localhost:5000/two:x").unwrap();
    here.images.tag("one", &Reference::parse("also:one").unwrap()).unwrap();
    let mut archive = Vec::new();
    here.images.save(&["one", "also:one", two.id.short()], &mut archive, &mut quiet).unwrap();
    let mut again = Vec::new();
    here.images.save(&["one", "also:one", two.id.short()], &mut again, &mut quiet).unwrap();
    assert!(archive == again, "the same images give the same archive");
    let loaded = load(&there, &archive).unwrap();
    assert!(loaded.iter().any(|image| image.id == one.id) && loaded.iter().any(|image| image.digest == two.digest));
    assert_eq!(there.images.resolve("one").unwrap().id, one.id);
    assert_eq!(there.images.resolve("also:one").unwrap().digest, one.digest);
    // Asked for by its id, the second came without a name.
    assert!(there.images.find("localhost:5000/two:x").unwrap().is_none());
    let two = there.images.resolve(two.id.short()).unwrap();
    assert!(two.names.is_empty());
    assert_eq!(read(there.images.layers(&two, &mut quiet).unwrap()[0].join("two")), "2");
    let said = here.images.save(&["one", "nothing"], &mut Vec::new(), &mut quiet).unwrap_err().to_string();
    assert_eq!(said, "no such image: nothing");
}

#[test]
fn archives_of_old_and_new_docker_are_read() {
    let store = Store::new();
    let layers = [Archive::new().file("a", "a").done(), Archive::new().file("b", "b").done()];
    let image = load(&store, &old_docker(&[&layers[0], &layers[1]], "old:1")).unwrap().remove(0);
    assert_eq!((image.title().as_str(), image.layers.len()), ("old:1", 2));
    assert_eq!(image.raw["config"]["Healthcheck"]["Test"][0], "NONE", "what the types do not know is kept");
    let dirs = store.images.layers(&image, &mut quiet).unwrap();
    assert_eq!((names(&dirs[0]), names(&dirs[1])), (vec!["b".to_owned()], vec!["a".to_owned()]), "topmost first");

    // A layer that comes twice is a link, and only the bare tag is in the specification's annotation.
    let config = config(&[&layers[0], &layers[0]]);
    let id = Digest::of(&config);
    let manifest = json!([{"Config": "c.json", "RepoTags": ["twice:x"], "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    let archive = Archive::new()
        .entry(tar::EntryType::Regular, "./one/layer.tar", "", 0o644, &layers[0])
        .link("two/layer.tar", "../one/layer.tar")
        .file("c.json", &String::from_utf8(config).unwrap())
        .file("manifest.json", &manifest.to_string());
    let twice = load(&store, &archive.done()).unwrap().remove(0);
    assert_eq!((twice.id, twice.layers.len()), (id, 2));
    assert_ne!(twice.layers[0], twice.layers[1]);
}

/// The blobs of an OCI layout with one image, and its manifest's digest.
fn layout(layer: &[u8], change: impl FnOnce(&mut Value)) -> (Archive, Digest) {
    let config = config(&[layer]);
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let mut manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": Digest::of(layer), "size": layer.len()}]});
    change(&mut manifest);
    let text = manifest.to_string();
    let archive = Archive::new()
        .entry(tar::EntryType::Regular, &blob(layer), "", 0o644, layer)
        .file(&blob(&config), &String::from_utf8(config).unwrap())
        .file(&blob(text.as_bytes()), &text);
    (archive, Digest::of(text.as_bytes()))
}

fn index(manifests: &[Value]) -> String {
    json!({"schemaVersion": 2, "manifests": manifests}).to_string()
}

fn entry(digest: &Digest, more: Value) -> Value {
    let mut entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1});
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    entry
}

#[test]
fn of_an_index_the_image_for_this_machine_is_taken() {
    let store = Store::new();
    let (archive, digest) = layout(&Archive::new().file("x", "mine").done(), |_| ());
    let platform = |os: &str, arch: &str| json!({"platform": {"os": os, "architecture": arch}});
    let mine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let foreign = Digest::of(b"foreign");
    let inner = index(&[
        entry(&foreign, platform("linux", "s390x")),
        entry(&foreign, platform("windows", mine)),
        entry(&digest, platform("linux", mine)),
    ]);
    let name = format!("{DEFAULT_DOMAIN}/library/multi:1");
    let outer = index(&[
        json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": Digest::of(inner.as_bytes()), "size": inner.len(),
        "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "1"}}),
    ]);
    let path = format!("blobs/sha256/{}", Digest::of(inner.as_bytes()).hex());
    let image = load(&store, &archive.file(&path, &inner).file("index.json", &outer).done()).unwrap().remove(0);
    assert_eq!((image.title().as_str(), image.digest), ("multi:1", digest));

    let (archive, digest) = layout(&Archive::new().file("x", "other").done(), |_| ());
    let inner = index(&[entry(&digest, platform("linux", "s390x"))]);
    let outer = index(&[
        json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": Digest::of(inner.as_bytes()), "size": inner.len()}),
    ]);
    let path = format!("blobs/sha256/{}", Digest::of(inner.as_bytes()).hex());
    let said = refused(&store, &archive.file(&path, &inner).file("index.json", &outer).done());
    assert!(said.contains("no image for this machine"), "{said}");
}

#[test]
fn archives_that_lie_are_refused_and_leave_nothing() {
    let store = Store::new();
    let layer = Archive::new().file("x", "x").done();
    let say = |archive: Archive, digest: &Digest| refused(&store, &archive.file("index.json", &index(&[entry(digest, json!({}))])).done());
    let lie = |change: &dyn Fn(&mut Value)| {
        let (archive, digest) = layout(&layer, change);
        say(archive, &digest)
    };
    let digest = Digest::of(b"nothing");
    assert!(lie(&|m| m["layers"][0]["digest"] = json!(digest)).contains("is missing"));
    assert!(lie(&|m| m["layers"][0]["size"] = json!(7)).contains("of 7 bytes, which is not there"));
    assert!(lie(&|m| m["layers"] = json!([])).contains("has 0 layers, and its configuration speaks of 1"));
    assert!(lie(&|m| m["schemaVersion"] = json!(1)).contains("schemaVersion is 1"));
    assert!(lie(&|m| m["config"]["digest"] = json!("sha256:../../../etc/passwd")).contains("is not the manifest"));
    assert!(lie(&|m| m["config"]["digest"] = m["layers"][0]["digest"].clone()).contains("is not the configuration"));
    assert!(lie(&|m| m["config"]["size"] = json!(1_u64 << 40)).contains("too large"));
    let (archive, _) = layout(&layer, |_| ());
    assert!(say(archive, &digest).contains("no image for this machine"), "the index names what is not there");

    // A blob under a name that is not its digest.
    let named = Archive::new().file(&format!("blobs/sha256/{}", digest.hex()), "something else").file("index.json", "{}");
    assert!(refused(&store, &named.done()).contains("not what was promised"));
    // A layer whose content is not what the configuration says.
    let (good, other) = (old_docker(&[&layer], "x"), Archive::new().file("x", "y").done());
    assert_eq!(other.len(), layer.len());
    let at = good.windows(layer.len()).position(|window| window == layer).unwrap();
    let mut bad = good.clone();
    bad[at..at + layer.len()].copy_from_slice(&other);
    assert!(refused(&store, &bad).contains("its content is not what the configuration promises"));
    // A hostile layer in a good envelope.
    let hostile = Archive::new().file("../../x", "x").done();
    assert!(refused(&store, &old_docker(&[&hostile], "x")).contains("leads out of the layer"));
    assert!(refused(&store, &old_docker(&[&layer], "Bad Name")).contains("is not the name of an image"));

    for length in [0, 100, 1024, good.len() / 2] {
        refused(&store, &good[..length]);
    }
    assert!(refused(&store, &layer).contains("neither index.json nor manifest.json"));
    for text in ["", "{", "[]", "null", "[{\"Config\": \"../../etc/passwd\", \"Layers\": []}]"] {
        let said = load(&store, &Archive::new().file("manifest.json", text).done());
        assert!(said.as_ref().is_err() || said.as_ref().is_ok_and(Vec::is_empty), "{text}");
    }
    let big = "x".repeat(5 << 20);
    assert!(refused(&store, &Archive::new().file("manifest.json", &big).done()).contains("larger than 4 MiB"));
}

#[test]
fn layers_lie_on_each_other_as_the_specification_says() {
    let store = Store::new();
    let lower = Archive::new()
        .dir("tmp", 0o1777)
        .with(tar::EntryType::Directory, "owned", "", b"", |header| {
            header.set_uid(12);
            header.set_mode(0o2750);
        })
        .file("gone", "x")
        .dir("gonedir", 0o755)
        .file("gonedir/x", "x")
        .dir("fresh", 0o755)
        .file("fresh/old", "x")
        .dir("again", 0o755)
        .file("again/old", "x")
        .file("kept", "kept")
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .file("usr/lib/old", "old")
        .link("lib", "usr/lib")
        .dir("hidden", 0o755)
        .dir("hidden/deep", 0o755)
        .file("hidden/deep/old", "x")
        .done();
    let upper = Archive::new()
        .file("tmp/new", "in a directory that is not mentioned")
        .file("owned/new", "x")
        .file(".wh.gone", "")
        .file(".wh.gonedir", "")
        .file("fresh/.wh..wh..opq", "")
        .file("fresh/new", "x")
        .file("again/new", "x")
        .file(".wh.again", "")
        .file("lib/new", "through the link of the layer below")
        .hard("linked", "kept")
        .file(".wh.hidden", "")
        .file("hidden/deep/new", "x")
        .done();
    let image = load(&store, &old_docker(&[&lower, &upper], "x")).unwrap().remove(0);
    let overlay = Overlay::new(&store.images.layers(&image, &mut quiet).unwrap());
    assert_eq!(overlay.names(""), ["again", "fresh", "hidden", "kept", "lib", "linked", "owned", "tmp", "usr"]);
    assert_eq!((overlay.names("fresh"), overlay.names("again")), (vec!["new".to_owned()], vec!["new".to_owned()]));
    assert_eq!((overlay.names("hidden"), overlay.names("hidden/deep")), (vec!["deep".to_owned()], vec!["new".to_owned()]));
    assert_eq!(overlay.names("lib"), ["new", "old"]);
    assert_eq!(fs::read_link(overlay.dir.join("lib")).unwrap().to_str().unwrap(), "usr/lib");
    assert_eq!(read(overlay.dir.join("linked")), "kept");
    let meta = |name: &str| fs::metadata(overlay.dir.join(name)).unwrap();
    assert_eq!(meta("tmp").mode() & 0o7777, 0o1777);
    assert_eq!((meta("owned").uid(), meta("owned").mode() & 0o7777), (12, 0o2750));
    assert_eq!(meta("tmp").mtime(), 1_000_000_000);

    // An opaque root hides everything below, which overlayfs itself has no word for.
    let all = Archive::new().file(".wh..wh..opq", "").dir("usr", 0o755).file("only", "x").done();
    let image = load(&store, &old_docker(&[&lower, &all], "y")).unwrap().remove(0);
    let overlay = Overlay::new(&store.images.layers(&image, &mut quiet).unwrap());
    assert_eq!((overlay.names(""), overlay.names("usr")), (vec!["only".to_owned(), "usr".to_owned()], vec![]));
    let bad = Archive::new().hard("x", "gone").file(".wh.gone", "").done();
    assert!(load(&store, &old_docker(&[&lower, &bad], "z")).is_ok(), "the target is there until it is hidden");
    let bad = Archive::new().file(".wh.gone", "").hard("x", "gone").done();
    assert!(refused(&store, &old_docker(&[&lower, &bad], "z")).contains("removes"));
}
