//! What the user names to be written to is never exchanged for a file when it is a device, a FIFO or a
//! socket (the class of a device node that a build tool replaced). The devices here are nodes of our own.

use crate::host::Host;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

/// Inode, type and device number: what must be the same afterwards.
fn identity(path: &Path) -> (u64, u32, u64) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.ino(), meta.mode(), meta.rdev())
}

/// A node that swallows what is written, like /dev/null, a FIFO and a socket, each also behind a link.
fn nodes(host: &Host) -> [&'static str; 6] {
    let make = |program: &str, args: &[&str]| assert!(Command::new(program).args(args).current_dir(&host.dir).status().unwrap().success());
    make("mknod", &["nul", "c", "1", "3"]);
    make("mkfifo", &["fifo"]);
    drop(UnixListener::bind(host.dir.join("socket")).unwrap());
    for name in ["nul", "fifo", "socket"] {
        symlink(name, host.dir.join(format!("link-to-{name}"))).unwrap();
    }
    ["nul", "fifo", "socket", "link-to-nul", "link-to-fifo", "link-to-socket"]
}

#[test]
fn cp_refuses_a_node_and_leaves_it() {
    let host = Host::new();
    host.idle("box", &[]);
    host.write("file", "from the host\n");
    for name in nodes(&host) {
        let path = host.dir.join(name);
        let before = (identity(&path), identity(&fs::canonicalize(&path).unwrap()));
        let kind = if name.ends_with("nul") {
            "a device"
        } else if name.ends_with("fifo") {
            "a FIFO"
        } else {
            "a socket"
        };
        let words = format!("\"{name}\" must be a directory or a regular file: got {kind}");
        host.my(&["cp", "box:/etc/hosts", name]).fails(1, &["invalid output path", &words]);
        host.my(&["cp", "box:/etc", name]).fails(1, &["invalid output path", &words]);
        assert_eq!((identity(&path), identity(&fs::canonicalize(&path).unwrap())), before, "{name}");
    }
    // The same where the node is found in a directory that is copied into.
    for name in ["nul", "fifo", "socket"] {
        host.exec("box", &format!("mkdir -p /tree; echo x > /tree/{name}"));
        let before = identity(&host.dir.join(name));
        host.my(&["cp", &format!("box:/tree/{name}"), "."]).fails(1, &["cannot overwrite a"]);
        host.my(&["cp", "box:/tree/.", "."]).fails(1, &["cannot overwrite a"]);
        let archive = host.bytes(&["cp", &format!("box:/tree/{name}"), "-"]);
        assert!(!archive.is_empty());
        assert_eq!(identity(&host.dir.join(name)), before, "{name}");
        host.exec("box", &format!("rm /tree/{name}"));
    }
    // Into a container.
    host.exec("box", "mknod /nul c 1 3; mkfifo /fifo; ln -s /nul /link; mkdir /d; mknod /d/file c 1 3");
    for to in ["box:/nul", "box:/fifo", "box:/link", "box:/dev/null"] {
        host.my(&["cp", "file", to]).fails(1, &["must be a directory or a regular file: got a"]);
    }
    host.my(&["cp", "file", "box:/d"]).fails(1, &["cannot overwrite a device"]);
    assert_eq!(host.exec("box", "stat -c %F /nul /fifo /d/file").matches("character special file").count(), 2);
    // A tree with a FIFO can be copied again, and so can an archive with the same device.
    host.exec("box", "mkdir /again; mkfifo /again/fifo; echo y > /again/file; mknod /again/nul c 1 3");
    let archive = host.bytes(&["cp", "box:/again", "-"]);
    for _ in 0..2 {
        host.my(&["cp", "box:/again", "."]).ok();
        host.fed(&["cp", "-", "box:/"], &archive).ok();
    }
    assert!(fs::metadata(host.dir.join("again/fifo")).unwrap().file_type().is_fifo());
    host.clear();
}

#[test]
fn archives_and_ids_are_written_into_a_node_and_replace_only_files() {
    let host = Host::new();
    host.idle("box", &[]);
    let names = nodes(&host);
    for args in [&["save", "-o"][..], &["export", "-o"]] {
        let what = if args[0] == "save" { "busybox" } else { "box" };
        let to = |name: &str| host.my(&[args, &[name, what]].concat());
        for name in ["nul", "link-to-nul"] {
            let before = (identity(&host.dir.join(name)), identity(&host.dir.join("nul")));
            to(name).ok();
            assert_eq!((identity(&host.dir.join(name)), identity(&host.dir.join("nul"))), before, "{args:?} {name}");
        }
        to("socket").fails(1, &["write socket"]);
        let before = identity(&host.dir.join("fifo"));
        let path = host.dir.join("fifo");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            fs::File::open(path).unwrap().read_to_end(&mut all).unwrap();
            all
        });
        to("link-to-fifo").ok();
        let archive = reader.join().unwrap();
        assert_eq!(identity(&host.dir.join("fifo")), before);
        // A file, also behind a link, is replaced; the link stays, and so does one that leads nowhere.
        host.write("archive.tar", "before");
        let _ = symlink("archive.tar", host.dir.join("link-to-file"));
        let _ = symlink("nothing", host.dir.join("dangling"));
        to("link-to-file").ok();
        assert_eq!(fs::metadata(host.dir.join("archive.tar")).unwrap().len(), archive.len() as u64, "{args:?}");
        to("dangling").fails(1, &["dangling is a link to nothing"]);
        to("root").fails(1, &["write root: is a directory"]);
        for name in ["link-to-file", "dangling"] {
            assert!(fs::symlink_metadata(host.dir.join(name)).unwrap().is_symlink(), "{args:?} {name}");
        }
    }
    for name in names {
        let before = identity(&host.dir.join(name));
        host.my(&["create", "--cidfile", name, "busybox"]).fails(125, &["container ID file found"]);
        assert_eq!(identity(&host.dir.join(name)), before, "{name}");
    }
    host.clear();
}
