//! `cp`, both ways, into good containers and hostile ones.

use super::{Host, members};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

#[test]
fn files_and_directories_both_ways() {
    let host = Host::new();
    host.running("c", &[], "mkdir -p /d/e; echo in > /d/e/f; chown -R 5:6 /d; ln -s /d/e /link; echo y > /old");
    // Out: a directory into one that exists, under a new name, its contents, a link, what a link leads to.
    fs::create_dir(host.dir.join("here")).unwrap();
    host.my(&["cp", "c:/d", "here"]).ok();
    assert_eq!(host.read("here/d/e/f"), "in\n");
    assert_eq!(fs::metadata(host.dir.join("here/d/e/f")).unwrap().uid(), 0, "it belongs to who asked");
    host.my(&["cp", "-a", "c:/d/", "named"]).ok();
    assert_eq!(fs::metadata(host.dir.join("named/e/f")).unwrap().uid(), 5);
    host.my(&["cp", "c:/d/.", "here"]).ok();
    assert_eq!(host.names("here"), ["d", "e"]);
    host.my(&["cp", "c:/link", "l"]).ok();
    assert!(fs::symlink_metadata(host.dir.join("l")).unwrap().is_symlink());
    host.my(&["cp", "-L", "c:/link", "followed"]).ok();
    assert_eq!(host.names("followed"), ["f"]);
    // In: a file into a directory, over a file, by a new name, through a link, over a file that is mounted.
    host.write("mine", "mine\n");
    std::os::unix::fs::chown(host.dir.join("mine"), Some(7), Some(8)).unwrap();
    for to in ["c:/d", "c:/old", "c:/new", "c:/link/g", "c:/etc/hosts"] {
        host.my(&["cp", "mine", to]).ok();
    }
    assert_eq!(host.exec("c", "cat /d/mine /old /new /d/e/g /etc/hosts; stat -c %u:%g /new"), "mine\nmine\nmine\nmine\nmine\n0:0\n");
    host.my(&["cp", "-a", "mine", "c:/kept"]).ok();
    host.my(&["cp", "here/.", "c:/tree"]).ok();
    assert_eq!(host.exec("c", "stat -c %u:%g /kept; find /tree -type f | sort"), "7:8\n/tree/d/e/f\n/tree/e/f\n");
    // Hard links stay links.
    host.exec("c", "mkdir /h; echo x > /h/a; ln /h/a /h/b");
    host.my(&["cp", "c:/h", "h"]).ok();
    assert_eq!(fs::metadata(host.dir.join("h/a")).unwrap().ino(), fs::metadata(host.dir.join("h/b")).unwrap().ino());
}

#[test]
fn streams() {
    let host = Host::new();
    host.running("c", &[], "mkdir -p /d/e; echo in > /d/e/f");
    let archive = host.bytes(&["cp", "c:/d", "-"]);
    assert_eq!(members(&archive), ["d/", "d/e/", "d/e/f"]);
    host.fed(&["cp", "-", "c:/root"], &archive).ok();
    assert_eq!(host.exec("c", "cat /root/d/e/f"), "in\n");
    host.fed(&["cp", "-", "c:/d/e/f"], &archive).fails(1, &["must be a directory"]);
    host.fed(&["cp", "-", "c:/root"], &archive[..700]).fails(1, &["ends early"]);
}

#[test]
fn what_cannot_be_is_said() {
    let host = Host::new();
    host.running("c", &[], "echo x > /file");
    host.write("dir/x", "x");
    let wrong: [(&[&str], &str); 10] = [
        (&["a", "b"], "must specify at least one container source"),
        (&["c:/a", "c:/b"], "copying between containers is not supported"),
        (&["nope:/a", "b"], "no such container: nope"),
        (&["c:/nope", "b"], "could not find c:/nope: no such file"),
        (&["nope", "c:/"], "could not find nope: no such file"),
        (&["dir", "c:/file"], "cannot copy a directory to the file c:/file"),
        (&["dir/x", "c:/nope/"], "destination directory c:/nope/ must exist"),
        (&["dir/x", "c:/nope/x"], "could not find c:/nope/x"),
        (&["dir/x/", "c:/"], "not a directory"),
        (&["c:", "."], "no path"),
    ];
    for (args, words) in wrong {
        host.my(&[&["cp"], args].concat()).fails(1, &[words]);
    }
    assert_eq!(host.names("."), ["dir", "root"]);
    // A directory is not exchanged for a file, nor a file for a directory.
    host.exec("c", "mkdir -p /t/x");
    host.my(&["cp", "dir/x", "c:/t"]).fails(1, &["cannot overwrite a directory"]);
    host.exec("c", "mkdir -p /u; echo > /u/dir");
    host.my(&["cp", "dir", "c:/u"]).fails(1, &["cannot overwrite with a directory"]);
}

#[test]
fn a_stopped_container_with_its_volumes() {
    let host = Host::new();
    let ro = host.write("ro/x", "x");
    let ro = ro.trim_end_matches("/x");
    host.write("f", "new\n");
    let mount = format!("{ro}:/ro:ro");
    let line = "cat /data/f /f; ls /etc";
    host.my(&["create", "--name", "c", "--network", "none", "-v", "vol:/data", "-v", &mount, "busybox", "sh", "-c", line]).ok();
    host.my(&["cp", "f", "c:/data/"]).ok();
    host.my(&["cp", "f", "c:/"]).ok();
    host.my(&["cp", "f", "c:/ro/"]).fails(1, &["read-only"]);
    assert_eq!(host.names("ro"), ["x"]);
    host.my(&["cp", "c:/ro/x", "back"]).ok();
    assert_eq!(host.read("back"), "x");
    assert!(host.my(&["start", "-a", "c"]).ok().starts_with("new\nnew\n"));
    // After its end as before it; and nothing stays mounted.
    host.my(&["cp", "c:/data/f", "again"]).ok();
    assert_eq!(host.read("again"), "new\n");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(host.dir.to_str().unwrap()));
    host.my(&["create", "--name", "fixed", "--network", "none", "--read-only", "busybox"]).ok();
    host.my(&["cp", "f", "fixed:/etc/"]).fails(1, &["read-only"]);
}

/// CVE-2018-15664 and its kin: links in the container lead nowhere but into it, whether it runs or not.
#[test]
fn links_that_lead_out() {
    let host = Host::new();
    let canary = host.write("canary/file", "host\n");
    let outside = canary.trim_end_matches("/file");
    let line = format!(
        "mkdir -p {outside}; echo inside > {canary}; ln -s {outside} /abs; ln -s ../../../../../../..{outside} /rel; \
         ln -s /proc/self/root{outside} /magic; ln -s {canary} /link; ln -s /loop /loop"
    );
    host.running("c", &[], &line);
    host.write("f", "f\n");
    for state in ["running", "exited"] {
        assert_eq!(host.my(&["inspect", "-f", "{{.State.Status}}", "c"]).ok(), format!("{state}\n"));
        for (from, code) in [("c:/abs/file", 0), ("c:/rel/file", 0), ("c:/magic/file", 1), ("c:/loop/file", 1)] {
            let said = host.my(&["cp", from, "got"]);
            assert_eq!(said.code, code, "{state} {from}: {said:?}");
            assert!(code != 0 || host.read("got") == "inside\n", "{state} {from}");
            let _ = fs::remove_file(host.dir.join("got"));
        }
        host.my(&["cp", "-L", "c:/link", "got"]).ok();
        assert_eq!(host.read("got"), "inside\n");
        for to in ["c:/abs", "c:/rel/", "c:/abs/new", "c:/link"] {
            host.my(&["cp", "f", to]).ok();
        }
        host.my(&["cp", "f", "c:/magic/x"]).fails(1, &["could not find"]);
        host.my(&["cp", "f", "c:/../../../../../../../top"]).ok();
        host.my(&["cp", "c:/top", "got"]).ok();
        assert_eq!(host.names("canary"), ["file"], "{state}");
        assert_eq!(host.read("canary/file"), "host\n", "{state}");
        if state == "running" {
            assert_eq!(host.exec("c", &format!("cat {canary} /top; echo inside > {canary}")), "f\nf\n");
            host.my(&["stop", "-t", "0", "c"]).ok();
        }
    }
}

/// An archive, or a tree in the container, cannot write through links that it brings along or that are there.
#[test]
fn links_in_archives() {
    let host = Host::new();
    let canary = host.write("canary/file", "host\n");
    let outside = canary.trim_end_matches("/file");
    host.running("c", &[], &format!("mkdir -p {outside} /t; ln -s {outside} /t/dir"));
    let mut archive = tar::Builder::new(Vec::new());
    let mut entry = |kind, path: &str, link: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        archive.append(&header, data).unwrap();
    };
    entry(tar::EntryType::Symlink, "brought", outside, b"");
    entry(tar::EntryType::Regular, "brought/file", "", b"evil");
    let brought = archive.into_inner().unwrap();
    host.fed(&["cp", "-", "c:/root"], &brought).fails(1, &["brought is no directory"]);
    // A directory of the host over a link of the container's to a directory.
    host.write("t/dir/evil", "evil");
    host.my(&["cp", "t", "c:/"]).fails(1, &["cannot overwrite with a directory"]);
    assert_eq!(host.exec("c", &format!("ls {outside}")), "");
    // Out to the host, over a link of the host's.
    symlink(outside, host.dir.join("got")).unwrap();
    host.exec("c", "mkdir -p /out/got; echo evil > /out/got/file");
    host.my(&["cp", "c:/out/.", "."]).fails(1, &["cannot overwrite with a directory"]);
    assert_eq!(host.read("canary/file"), "host\n");
}

#[test]
fn a_container_brings_out_no_devices_and_no_setuid() {
    let host = Host::new();
    host.running("c", &[], "mkdir /x; cp /bin/busybox /x/su; chmod 4755 /x/su; mknod /x/mem c 1 1; mkfifo /x/fifo");
    let said = host.my(&["cp", "c:/x", "x"]);
    assert!(said.code == 0 && said.err.contains("device node x/mem was not copied"), "{said:?}");
    assert_eq!(host.names("x"), ["fifo", "su"]);
    assert_eq!(fs::metadata(host.dir.join("x/su")).unwrap().permissions().mode() & 0o7777, 0o755);
    // Into a container everything goes.
    fs::set_permissions(host.dir.join("x/su"), fs::Permissions::from_mode(0o4755)).unwrap();
    host.my(&["cp", "x", "c:/y"]).ok();
    assert_eq!(host.exec("c", "stat -c %a /y/su"), "4755\n");
}

/// A container that exchanges a directory and a link as fast as it can never gets a file of the host written or read.
#[test]
fn a_race_with_links_is_lost_by_the_container() {
    let host = Host::new();
    let canary = host.write("canary/file", "host\n");
    let outside = canary.trim_end_matches("/file");
    host.write("file", "copied\n");
    let line = format!(
        "mkdir -p {outside} /real; echo inside > {canary}; echo inside > /real/file; \
         (while :; do rm -rf /swap; ln -s {outside} /swap; rm /swap; mkdir /swap; echo inside > /swap/file; done) >/dev/null 2>&1 &"
    );
    host.running("c", &[], &line);
    for _ in 0..50 {
        // Either it finds the directory or the link, both inside, or neither.
        let _ = host.my(&["cp", "file", "c:/swap/file"]);
        let _ = fs::remove_dir_all(host.dir.join("got"));
        let _ = host.my(&["cp", "-L", "c:/swap/.", "got"]);
        let got = fs::read_to_string(host.dir.join("got/file")).unwrap_or_default();
        assert!(["", "inside\n", "copied\n"].contains(&got.as_str()), "{got}");
    }
    assert_eq!(host.read("canary/file"), "host\n");
    assert_eq!(host.names("canary"), ["file"]);
}
