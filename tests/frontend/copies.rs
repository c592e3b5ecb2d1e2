//! `cp`, both ways, into good containers and hostile ones.

use crate::host::{Host, members};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

#[test]
fn files_and_directories_both_ways() {
    let host = Host::new();
    host.running("c1", &[], "mkdir -p /d/e; echo in > /d/e/f; chown -R 5:6 /d; ln -s /d/e /link; echo y > /old");
    // Out: a directory into one that exists, under a new name, its contents, a link, what a link leads to.
    fs::create_dir(host.dir.join("here")).unwrap();
    host.my(&["cp", "c1:/d", "here"]).ok();
    assert_eq!(host.read("here/d/e/f"), "in\n");
    assert_eq!(fs::metadata(host.dir.join("here/d/e/f")).unwrap().uid(), 0, "it belongs to who asked");
    host.my(&["cp", "-a", "c1:/d/", "named"]).ok();
    assert_eq!(fs::metadata(host.dir.join("named/e/f")).unwrap().uid(), 5);
    host.my(&["cp", "c1:/d/.", "here"]).ok();
    assert_eq!(host.names("here"), ["d", "e"]);
    host.my(&["cp", "c1:/link", "l"]).ok();
    assert!(fs::symlink_metadata(host.dir.join("l")).unwrap().is_symlink());
    host.my(&["cp", "-L", "c1:/link", "followed"]).ok();
    assert_eq!(host.names("followed"), ["f"]);
    // In: a file into a directory, over a file, by a new name, through a link, over a file that is mounted.
    host.write("mine", "mine\n");
    std::os::unix::fs::chown(host.dir.join("mine"), Some(7), Some(8)).unwrap();
    for to in ["c1:/d", "c1:/old", "c1:/new", "c1:/link/g", "c1:/etc/hosts"] {
        host.my(&["cp", "mine", to]).ok();
    }
    assert_eq!(host.exec("c1", "cat /d/mine /old /new /d/e/g /etc/hosts; stat -c %u:%g /new"), "mine\nmine\nmine\nmine\nmine\n0:0\n");
    host.my(&["cp", "-a", "mine", "c1:/kept"]).ok();
    host.my(&["cp", "here/.", "c1:/tree"]).ok();
    assert_eq!(host.exec("c1", "stat -c %u:%g /kept; find /tree -type f | sort"), "7:8\n/tree/d/e/f\n/tree/e/f\n");
    // Hard links stay links.
    host.exec("c1", "mkdir /h; echo x > /h/a; ln /h/a /h/b");
    host.my(&["cp", "c1:/h", "h"]).ok();
    assert_eq!(fs::metadata(host.dir.join("h/a")).unwrap().ino(), fs::metadata(host.dir.join("h/b")).unwrap().ino());
}

#[test]
fn streams() {
    let host = Host::new();
    host.running("c1", &[], "mkdir -p /d/e; echo in > /d/e/f");
    let archive = host.bytes(&["cp", "c1:/d", "-"]);
    assert_eq!(members(&archive), ["d/", "d/e/", "d/e/f"]);
    host.fed(&["cp", "-", "c1:/root"], &archive).ok();
    assert_eq!(host.exec("c1", "cat /root/d/e/f"), "in\n");
    host.fed(&["cp", "-", "c1:/d/e/f"], &archive).fails(1, &["must be a directory"]);
    host.fed(&["cp", "-", "c1:/root"], &archive[..700]).fails(1, &["ends early"]);
}

#[test]
fn what_cannot_be_is_said() {
    let host = Host::new();
    host.running("c1", &[], "echo x > /file");
    host.write("dir/x", "x");
    let wrong: [(&[&str], &str); 10] = [
        (&["a", "b"], "must specify at least one container source"),
        (&["c1:/a", "c1:/b"], "copying between containers is not supported"),
        (&["nope:/a", "b"], "no such container: nope"),
        (&["c1:/nope", "b"], "could not find c1:/nope: no such file"),
        (&["nope", "c1:/"], "could not find nope: no such file"),
        (&["dir", "c1:/file"], "cannot copy a directory to the file c1:/file"),
        (&["dir/x", "c1:/nope/"], "destination directory c1:/nope/ must exist"),
        (&["dir/x", "c1:/nope/x"], "could not find c1:/nope/x"),
        (&["dir/x/", "c1:/"], "not a directory"),
        (&["c1:", "."], "no path"),
    ];
    for (args, words) in wrong {
        host.my(&[&["cp"], args].concat()).fails(1, &[words]);
    }
    assert_eq!(host.names("."), ["dir", "root"]);
    // A directory is not exchanged for a file, nor a file for a directory.
    host.exec("c1", "mkdir -p /t/x");
    host.my(&["cp", "dir/x", "c1:/t"]).fails(1, &["cannot overwrite a directory"]);
    host.exec("c1", "mkdir -p /u; echo > /u/dir");
    host.my(&["cp", "dir", "c1:/u"]).fails(1, &["cannot overwrite with a directory"]);
}

#[test]
fn a_stopped_container_with_its_volumes() {
    let host = Host::new();
    let ro = host.write("ro/x", "x");
    let ro = ro.trim_end_matches("/x");
    host.write("f", "new\n");
    let mount = format!("{ro}:/ro:ro");
    let line = "cat /data/f /f; ls /etc";
    host.my(&["create", "--name", "c1", "--network", "none", "-v", "vol:/data", "-v", &mount, "busybox", "sh", "-c", line]).ok();
    host.my(&["cp", "f", "c1:/data/"]).ok();
    host.my(&["cp", "f", "c1:/"]).ok();
    host.my(&["cp", "f", "c1:/ro/"]).fails(1, &["read-only"]);
    assert_eq!(host.names("ro"), ["x"]);
    host.my(&["cp", "c1:/ro/x", "back"]).ok();
    assert_eq!(host.read("back"), "x");
    assert!(host.my(&["start", "-a", "c1"]).ok().starts_with("new\nnew\n"));
    // After its end as before it; and nothing stays mounted.
    host.my(&["cp", "c1:/data/f", "again"]).ok();
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
    host.running("c1", &[], &line);
    host.write("f", "f\n");
    for state in ["running", "exited"] {
        assert_eq!(host.my(&["inspect", "-f", "{{.State.Status}}", "c1"]).ok(), format!("{state}\n"));
        for (from, code) in [("c1:/abs/file", 0), ("c1:/rel/file", 0), ("c1:/magic/file", 1), ("c1:/loop/file", 1)] {
            let said = host.my(&["cp", from, "got"]);
            assert_eq!(said.code, code, "{state} {from}: {said:?}");
            assert!(code != 0 || host.read("got") == "inside\n", "{state} {from}");
            let _ = fs::remove_file(host.dir.join("got"));
        }
        host.my(&["cp", "-L", "c1:/link", "got"]).ok();
        assert_eq!(host.read("got"), "inside\n");
        for to in ["c1:/abs", "c1:/rel/", "c1:/abs/new", "c1:/link"] {
            host.my(&["cp", "f", to]).ok();
        }
        host.my(&["cp", "f", "c1:/magic/x"]).fails(1, &["could not find"]);
        host.my(&["cp", "f", "c1:/../../../../../../../top"]).ok();
        host.my(&["cp", "c1:/top", "got"]).ok();
        assert_eq!(host.names("canary"), ["file"], "{state}");
        assert_eq!(host.read("canary/file"), "host\n", "{state}");
        if state == "running" {
            assert_eq!(host.exec("c1", &format!("cat {canary} /top; echo inside > {canary}")), "f\nf\n");
            host.my(&["stop", "-t", "0", "c1"]).ok();
        }
    }
}

/// An archive, or a tree in the container, cannot write through links that it brings along or that are there.
#[test]
fn links_in_archives() {
    let host = Host::new();
    let canary = host.write("canary/file", "host\n");
    let outside = canary.trim_end_matches("/file");
    host.running("c1", &[], &format!("mkdir -p {outside} /t; ln -s {outside} /t/dir"));
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
    host.fed(&["cp", "-", "c1:/root"], &brought).fails(1, &["brought is no directory"]);
    // A directory of the host over a link of the container's to a directory.
    host.write("t/dir/evil", "evil");
    host.my(&["cp", "t", "c1:/"]).fails(1, &["cannot overwrite with a directory"]);
    assert_eq!(host.exec("c1", &format!("ls {outside}")), "");
    // Out to the host, over a link of the host's.
    symlink(outside, host.dir.join("got")).unwrap();
    host.exec("c1", "mkdir -p /out/got; echo evil > /out/got/file");
    host.my(&["cp", "c1:/out/.", "."]).fails(1, &["cannot overwrite with a directory"]);
    assert_eq!(host.read("canary/file"), "host\n");
}

#[test]
fn a_container_brings_out_no_devices_and_no_setuid() {
    let host = Host::new();
    host.running("c1", &[], "mkdir /x; cp /bin/busybox /x/su; chmod 4755 /x/su; mknod /x/mem c 1 1; mkfifo /x/fifo");
    let said = host.my(&["cp", "c1:/x", "x"]);
    assert!(said.code == 0 && said.err.contains("device node x/mem was not copied"), "{said:?}");
    assert_eq!(host.names("x"), ["fifo", "su"]);
    assert_eq!(fs::metadata(host.dir.join("x/su")).unwrap().permissions().mode() & 0o7777, 0o755);
    // Into a container everything goes.
    fs::set_permissions(host.dir.join("x/su"), fs::Permissions::from_mode(0o4755)).unwrap();
    host.my(&["cp", "x", "c1:/y"]).ok();
    assert_eq!(host.exec("c1", "stat -c %a /y/su"), "4755\n");
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
    host.running("c1", &[], &line);
    for _ in 0..50 {
        // Either it finds the directory or the link, both inside, or neither.
        let _ = host.my(&["cp", "file", "c1:/swap/file"]);
        let _ = fs::remove_dir_all(host.dir.join("got"));
        let _ = host.my(&["cp", "-L", "c1:/swap/.", "got"]);
        let got = fs::read_to_string(host.dir.join("got/file")).unwrap_or_default();
        assert!(["", "inside\n", "copied\n"].contains(&got.as_str()), "{got}");
    }
    assert_eq!(host.read("canary/file"), "host\n");
    assert_eq!(host.names("canary"), ["file"]);
}
