//! `import`, `load`, `save`, and the books' flow through them.

use crate::host::{Host, members, tarball};
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Stdio};

/// Paths and contents.
type Files = Vec<(String, Vec<u8>)>;

/// The files of an archive of images.
fn files(archive: &[u8]) -> Files {
    let mut archive = tar::Archive::new(archive);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        (path, bytes)
    };
    archive.entries().unwrap().map(read).filter(|(path, _)| !path.ends_with('/')).collect()
}

fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        archive.append_data(&mut header, path, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn the_books_flow() {
    let host = Host::bare("root");
    host.write("busybox.tar", tarball());
    // import → run → commit → save → load → run
    let id = host.my(&["import", "busybox.tar", "busybox"]).ok();
    assert!(id.starts_with("sha256:"), "{id}");
    host.run(&["--name", "c1", "-e", "WHO=me", "busybox", "sh", "-c", "echo kept > /root/file; rm /etc/group"]).ok();
    host.my(&["commit", "c1", "mine:1"]).ok();
    host.my(&["save", "-o", "mine.tar", "mine:1", "busybox"]).ok();
    let other = Host::bare("root");
    fs::copy(host.dir.join("mine.tar"), other.dir.join("mine.tar")).unwrap();
    assert_eq!(other.my(&["load", "-i", "mine.tar"]).ok(), "Loaded image: mine:1\nLoaded image: busybox:latest\n");
    let said = other.run(&["--rm", "mine:1", "sh", "-c", "cat /root/file; ls /etc; echo $WHO"]).ok();
    assert!(said.starts_with("kept\n") && said.ends_with("me\n") && !said.contains("group"), "{said}");
    // The layers are the same files: nothing is stored twice.
    let before = other.store();
    other.my(&["load", "-q", "-i", "mine.tar"]).ok();
    assert_eq!(other.store(), before);
}

#[test]
fn busybox_is_there_without_a_network() {
    let host = Host::bare("root");
    host.run(&["--pull", "never", "other", "true"]).fails(125, &["no such image: other:latest"]);
    assert_eq!(host.run(&["--rm", "busybox", "echo", "offline"]).ok(), "offline\n");
    assert_eq!(host.my(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok(), "busybox:latest\n");
    let said = host.my(&["create", "--network", "none", "--pull", "missing", "127.0.0.1:1/nothing"]);
    said.fails(125, &["Unable to find image '127.0.0.1:1/nothing:latest' locally", "pull 127.0.0.1:1/nothing:latest"]);
    host.my(&["create", "--network", "none", "--pull", "sometimes", "busybox"]).fails(125, &["sometimes"]);
}

#[test]
fn import_with_changes_and_compressed() {
    let host = Host::bare("root");
    let mut gzip = Command::new("gzip").arg("-1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = gzip.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || std::io::Write::write_all(&mut pipe, tarball()).unwrap());
    let archive = gzip.wait_with_output().unwrap().stdout;
    feeder.join().unwrap();
    host.fed(&["image", "import", "-m", "from a pipe", "-c", "ENTRYPOINT [\"echo\", \"-n\"]", "-c", "CMD a  b", "-", "x:1"], &archive).ok();
    assert_eq!(host.run(&["--rm", "x:1", "said"]).ok(), "said");
    assert!(host.my(&["history", "x:1"]).ok().contains("from a pipe"));
    let before = host.store();
    host.fed(&["import", "-c", "RUN rm -rf /", "-"], &archive).fails(1, &["RUN"]);
    host.my(&["import", "missing.tar", "x"]).fails(1, &["open missing.tar", "no such file"]);
    host.my(&["import", "http://127.0.0.1/x.tar"]).fails(1, &["does not fetch", "curl"]);
    host.fed(&["import", "-", "NAME"], &archive).fails(1, &["lower case"]);
    host.fed(&["import", "--platform", "plan9/mips", "-"], &archive).fails(1, &["plan9/mips"]);
    host.fed(&["import", "-"], b"").fails(1, &["archive is empty"]);
    assert_eq!(host.store(), before, "something is left of a refused import");
}

#[test]
fn save_writes_whole_files_and_no_terminal() {
    let host = Host::new();
    let archive = host.bytes(&["save", "busybox"]);
    let names = members(&archive);
    for name in ["index.json", "manifest.json", "oci-layout"] {
        assert!(names.iter().any(|member| member == name), "{names:?}");
    }
    host.my(&["save", "busybox", "nope"]).fails(1, &["no such image: nope"]);
    host.my(&["save", "-o", "x.tar", "nope"]).fails(1, &["no such image: nope"]);
    host.my(&["save", "-o", "missing/x.tar", "busybox"]).fails(1, &["missing/x.tar"]);
    assert_eq!(host.names("."), ["root"], "something is left of a save that failed");
    host.my(&["save", "-o", "/dev/full", "busybox"]).fails(1, &["no space"]);
    host.my(&["save", "-o", "whole.tar", "busybox"]).ok();
    assert_eq!(fs::read(host.dir.join("whole.tar")).unwrap(), archive);
    for words in ["save busybox", "export c1"] {
        let line = format!("{} --root {} {words}", crate::host::MYDOCKER, host.dir.join("root").display());
        host.my(&["create", "--name", "c1", "--network", "none", "busybox"]);
        let said = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(!said.status.success() && text.contains("cowardly refusing to"), "{words}: {text}");
    }
}

#[test]
fn bad_archives_leave_nothing() {
    let host = Host::new();
    let good = host.bytes(&["save", "busybox"]);
    host.my(&["rmi", "busybox"]).ok();
    assert!(host.store().is_empty());
    let refused = |archive: &[u8], words: &[&str]| {
        let said = host.fed(&["load"], archive).fails(1, words);
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(host.store().is_empty(), "left of {words:?}: {:?}", host.store());
    };
    refused(&good[..good.len() / 2], &["ends early"]);
    refused(b"not a tar", &["load"]);
    refused(tarball(), &["no archive of images", "import"]);
    let with = |change: &dyn Fn(&mut Files)| {
        let mut all = files(&good);
        change(&mut all);
        pack(&all)
    };
    let edit = |name: &'static str, change: &dyn Fn(&mut Value)| {
        with(&|all| {
            let (_, bytes) = all.iter_mut().find(|(path, _)| path == name).unwrap();
            let mut value: Value = serde_json::from_slice(bytes).unwrap();
            change(&mut value);
            *bytes = value.to_string().into_bytes();
        })
    };
    // A blob that is not what its name says.
    let lying = with(&|all| all.iter_mut().find(|(path, _)| path.starts_with("blobs/")).unwrap().1.push(b' '));
    refused(&lying, &["the digest is not what was promised"]);
    // A manifest whose layer is not in the archive.
    let largest = files(&good).into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0;
    refused(&with(&|all| all.retain(|(path, _)| *path != largest)), &["is missing"]);
    refused(&edit("index.json", &|index| index["manifests"] = json!([])), &["no image for this machine"]);
    refused(
        &edit("index.json", &|index| index["manifests"][0]["digest"] = json!("sha256:../../etc/passwd")),
        &["index.json of the archive"],
    );
    let no_index = |all: &mut Files| all.retain(|(path, _)| path != "index.json");
    let docker = |change: &dyn Fn(&mut Value)| {
        with(&|all| {
            no_index(all);
            let (_, bytes) = all.iter_mut().find(|(path, _)| path == "manifest.json").unwrap();
            let mut value: Value = serde_json::from_slice(bytes).unwrap();
            change(&mut value);
            *bytes = value.to_string().into_bytes();
        })
    };
    refused(&docker(&|list| list[0]["Config"] = json!("../../../etc/passwd")), &["the archive has no file"]);
    refused(&docker(&|list| list[0]["Layers"] = json!([])), &["layers"]);
    refused(&docker(&|list| list[0]["RepoTags"] = json!(["UPPER"])), &["lower case"]);
    // The form without an index alone is good.
    assert_eq!(host.fed(&["load"], &with(&no_index)).ok(), "Loaded image: busybox:latest\n");
}

/// An archive of docker's older form: busybox, and empty layers upon it.
fn stack(layers: usize) -> Vec<u8> {
    let hex = |bytes: &[u8]| <sha2::Sha256 as sha2::Digest>::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (bottom, empty) = (tarball(), [0; 1024]);
    let ids: Vec<String> = (0..layers).map(|n| format!("sha256:{}", if n == 0 { hex(bottom) } else { hex(&empty) })).collect();
    let paths: Vec<&str> = (0..layers).map(|n| if n == 0 { "bottom.tar" } else { "empty.tar" }).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": ids}});
    let manifest = json!([{"Config": "config.json", "RepoTags": [format!("stack:{layers}")], "Layers": paths}]);
    let documents = [("config.json", config.to_string()), ("manifest.json", manifest.to_string())];
    let files = [("bottom.tar", bottom), ("empty.tar", &empty[..])].map(|(path, bytes)| (path.to_owned(), bytes.to_vec()));
    let documents = documents.map(|(path, text)| (path.to_owned(), text.into_bytes()));
    pack(&[&files[..], &documents[..]].concat())
}

#[test]
fn an_image_has_no_more_layers_than_can_start() {
    let host = Host::bare("root");
    let words = ["the image has 600 layers, and no container of it could start: a mount takes ", "a shorter --root"];
    let said = host.fed(&["load"], &stack(600)).fails(1, &words);
    let (_, rest) = said.split_once("a mount takes ").unwrap();
    let most: usize = rest.split(' ').next().unwrap().parse().unwrap();
    assert!((20..500).contains(&most), "{most}");
    host.fed(&["load"], &stack(most + 1)).fails(1, &[&format!("the image has {} layers", most + 1)]);
    assert!(host.store().iter().all(|name| name == "lock"), "{:?}", host.store());
    // As many as it says do start, and one more by a commit would not.
    host.fed(&["load"], &stack(most)).ok();
    let name = format!("stack:{most}");
    assert_eq!(host.run(&["--name", "top", &name, "echo", "up"]).ok(), "up\n");
    let before = host.store();
    host.my(&["commit", "top", "higher"]).fails(1, &[&format!("the image has {} layers", most + 1)]);
    assert_eq!(host.store(), before);
    host.clear();
}
