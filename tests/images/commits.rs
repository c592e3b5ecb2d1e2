//! `commit`, `diff` and `export`, on a real overlayfs.

use super::{Archive, Overlay, Store, names, quiet, read};
use keel::mydocker::image::{Commit, Image, Reference, diff, export};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

fn base(store: &Store) -> Image {
    let archive = Archive::new()
        .dir("etc", 0o755)
        .file("etc/changed", "before")
        .file("etc/gone", "x")
        .dir("dir", 0o755)
        .file("dir/old", "x")
        .dir("gonedir", 0o755)
        .file("gonedir/x", "x")
        .file("same", "same");
    store.import(&archive.done(), "base").unwrap()
}

/// Changes of every kind in a container's root.
fn work(root: &Path) {
    fs::write(root.join("etc/changed"), "after").unwrap();
    fs::remove_file(root.join("etc/gone")).unwrap();
    fs::remove_dir_all(root.join("gonedir")).unwrap();
    fs::remove_dir_all(root.join("dir")).unwrap();
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("dir/new"), "new").unwrap();
    fs::write(root.join("su"), "x").unwrap();
    std::os::unix::fs::chown(root.join("su"), Some(3_000_000), Some(5)).unwrap();
    fs::set_permissions(root.join("su"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::hard_link(root.join("su"), root.join("su2")).unwrap();
    symlink("/etc/passwd", root.join("link")).unwrap();
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    let long = "l".repeat(150);
    fs::write(root.join(&long), "long").unwrap();
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(root.join(&long), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("user.note", b"a\nb\0c");
    rustix::fs::mknodat(rustix::fs::CWD, root.join("null"), rustix::fs::FileType::CharacterDevice, 0o666.into(), rustix::fs::makedev(1, 3))
        .unwrap();
}

/// Everything that can be seen of a tree, by path.
fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for name in names(&dir) {
            let path = dir.join(name);
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = match meta.file_type() {
                kind if kind.is_file() => read(&path),
                kind if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
                _ => String::new(),
            };
            let note = if meta.is_file() {
                let mut value = [0; 64];
                let length = rustix::fs::getxattr(&path, "user.note", &mut value[..]).unwrap_or(0);
                String::from_utf8_lossy(&value[..length]).into_owned()
            } else {
                String::new()
            };
            // The links of a directory are counted differently by overlayfs.
            let links = if meta.is_dir() { 0 } else { meta.nlink() };
            let what = format!("{:o} {}:{} {links} {} {note:?} {content}", meta.mode(), meta.uid(), meta.gid(), meta.rdev());
            all.insert(path.strip_prefix(root).unwrap().to_owned(), what);
            if meta.is_dir() {
                todo.push(path);
            }
        }
    }
    all
}

fn commit<'a>(parent: &'a Image, upper: &'a Path, reference: Option<&'a Reference>) -> Commit<'a> {
    Commit { upper, parent, reference, config: None, changes: &[], author: Some("me"), message: Some("why"), command: Some("sh -c work") }
}

#[test]
fn a_commit_shows_what_the_container_showed() {
    let store = Store::new();
    let parent = base(&store);
    let container = Overlay::new(&store.images.layers(&parent, &mut quiet).unwrap());
    work(&container.dir);
    let reference = Reference::parse("new:1").unwrap();
    let changes = ["ENTRYPOINT [\"/su\"]".to_owned(), "LABEL a=\"b c\"".to_owned()];
    let asked = Commit { changes: &changes, ..commit(&parent, &container.upper, Some(&reference)) };
    let image = store.images.commit(&asked, &mut quiet).unwrap();
    let mut wanted = seen(&container.dir);
    assert!(wanted.remove(Path::new("socket")).is_some());
    let new = Overlay::new(&store.images.layers(&image, &mut quiet).unwrap());
    assert_eq!(seen(&new.dir), wanted);

    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.layers[0], parent.layers[0]);
    assert_eq!(image.title(), "new:1");
    let config = image.config.config().clone().unwrap();
    assert_eq!(config.entrypoint().clone().unwrap(), ["/su"]);
    assert_eq!(config.labels().clone().unwrap()["a"], "b c");
    assert_eq!(image.config.author().as_deref(), Some("me"));
    let last = image.config.history().clone().unwrap().pop().unwrap();
    assert_eq!((last.comment().as_deref(), last.created_by().as_deref()), (Some("why"), Some("sh -c work")));
    let blob = image.manifest.layers()[1].clone();
    assert_eq!(blob.media_type().as_ref(), "application/vnd.oci.image.layer.v1.tar+gzip");

    // The same changes give the same layer; the new image needs nothing of its parent's name.
    let again = store.images.commit(&commit(&parent, &container.upper, None), &mut quiet).unwrap();
    assert_eq!(again.manifest.layers()[1].digest(), blob.digest());
    store.images.remove("base", false, &|_| None).unwrap();
    assert_eq!(store.images.layers(&image, &mut quiet).unwrap().len(), 2);
}

#[test]
fn other_tools_read_the_layer() {
    let store = Store::new();
    let parent = base(&store);
    let container = Overlay::new(&store.images.layers(&parent, &mut quiet).unwrap());
    work(&container.dir);
    let image = store.images.commit(&commit(&parent, &container.upper, None), &mut quiet).unwrap();
    let blob = store.dir.join("images/blobs/sha256").join(image.manifest.layers()[1].digest().digest());
    let said = std::process::Command::new("tar").arg("-tzf").arg(blob).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = String::from_utf8(said.stdout).unwrap();
    let long = "l".repeat(150);
    let wanted =
        ["dir/", "dir/.wh..wh..opq", "dir/new", "etc/", "etc/changed", "etc/.wh.gone", ".wh.gonedir", "link", &long, "null", "su", "su2"];
    assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
}

#[test]
fn diff_lists_what_was_added_changed_and_deleted() {
    let store = Store::new();
    let parent = base(&store);
    let lowers = store.images.layers(&parent, &mut quiet).unwrap();
    let container = Overlay::new(&lowers);
    assert_eq!(diff(&container.upper, &lowers).unwrap(), []);
    work(&container.dir);
    let lines: Vec<String> =
        diff(&container.upper, &lowers).unwrap().iter().map(|one| format!("{} {}", one.kind, one.path.display())).collect();
    let long = format!("A /{}", "l".repeat(150));
    let wanted = [
        "C /dir",
        "A /dir/new",
        "D /dir/old",
        "C /etc",
        "C /etc/changed",
        "D /etc/gone",
        "D /gonedir",
        "A /link",
        &long,
        "A /null",
        "A /socket",
        "A /su",
        "A /su2",
    ];
    assert_eq!(lines, wanted);
}

#[test]
fn what_has_its_content_elsewhere_is_refused() {
    let store = Store::new();
    let parent = base(&store);
    let container = Overlay::new(&store.images.layers(&parent, &mut quiet).unwrap());
    fs::create_dir(container.upper.join("moved")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(container.upper.join("moved"), "trusted.overlay.redirect", b"/etc", flags).unwrap();
    let before = store.files();
    let said = store.images.commit(&commit(&parent, &container.upper, None), &mut quiet).unwrap_err().to_string();
    assert!(said.contains("archive moved: overlayfs has its content in another layer (mount with redirect_dir=off"), "{said}");
    let changes = ["FROM x".to_owned()];
    let asked = Commit { changes: &changes, ..commit(&parent, &container.upper, None) };
    let said = store.images.commit(&asked, &mut quiet).unwrap_err().to_string();
    assert!(said.contains("there is no instruction FROM"), "{said}");
    assert_eq!(store.files(), before);
}

#[test]
fn an_exported_tree_is_imported_again() {
    let store = Store::new();
    let parent = base(&store);
    let container = Overlay::new(&store.images.layers(&parent, &mut quiet).unwrap());
    work(&container.dir);
    let mut archive = Vec::new();
    export(&container.dir, 0, &mut archive).unwrap();
    let layer = store.unpacked(&archive);
    let mut wanted = seen(&container.dir);
    wanted.remove(Path::new("socket"));
    assert_eq!(seen(&layer), wanted);
}

#[test]
fn bad_instructions_are_told_before_anything_is_done() {
    let store = Store::new();
    let parent = base(&store);
    for (change, words) in [
        ("CMD [\"sh\"", "is not a list of JSON strings"),
        ("CMD", "an instruction and its arguments are expected"),
        ("EXPOSE 99999", "is not a port"),
        ("EXPOSE 80/icmp", "is not a port"),
        ("ENV =x", "KEY=VALUE is expected"),
        ("ENV A=\"x", "a quote is not closed"),
        ("HEALTHCHECK --interval=5 CMD x", "is not a duration"),
        ("HEALTHCHECK x", "CMD is expected"),
        ("RUN x", "there is no instruction RUN"),
    ] {
        let changes = [change.to_owned()];
        let asked = Commit { changes: &changes, ..commit(&parent, Path::new("/nowhere"), None) };
        let said = store.images.commit(&asked, &mut quiet).unwrap_err().to_string();
        assert!(said.contains(words), "{change}: {said}");
    }
    let upper = store.dir.join("upper");
    fs::create_dir(&upper).unwrap();
    let changes = [
        "CMD echo hi",
        "ENV A=1 B=2",
        "ENV A=3",
        "ENV OLD some words",
        "WORKDIR /a",
        "WORKDIR b",
        "HEALTHCHECK --interval=1m30s --retries=3 CMD true",
        "EXPOSE 1-2/udp",
        "STOPSIGNAL SIGINT",
        "ONBUILD RUN x",
    ]
    .map(str::to_owned);
    let image = store.images.commit(&Commit { changes: &changes, ..commit(&parent, &upper, None) }, &mut quiet).unwrap();
    let config = &image.raw["config"];
    assert_eq!(config["Cmd"], serde_json::json!(["/bin/sh", "-c", "echo hi"]));
    assert_eq!(config["Env"], serde_json::json!(["A=3", "B=2", "OLD=some words"]));
    assert_eq!(config["WorkingDir"], "/a/b");
    assert_eq!(config["Healthcheck"], serde_json::json!({"Interval": 90_000_000_000_u64, "Retries": 3, "Test": ["CMD-SHELL", "true"]}));
    assert_eq!((&config["StopSignal"], &config["OnBuild"][0]), (&"SIGINT".into(), &"RUN x".into()));
    assert!(config["ExposedPorts"]["1-2/udp"].is_object());
}
