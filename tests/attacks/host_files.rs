//! What keel reads, writes and listens on: files that are something else than they should be, links in their place, descriptors
//! that nobody asked for, annotations of other runtimes. None of it reaches the host, none of it makes keel wait.

use super::Guard;
use crate::common::{Bundle, Said};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType};
use serde_json::json;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

/// Puts something that is no ordinary small file there.
fn put(kind: &str, path: &Path) {
    let _ = fs::remove_file(path);
    match kind {
        "fifo" => mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap(),
        "zero" => mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o644), rustix::fs::makedev(1, 5)).unwrap(),
        "link to zero" => symlink("/dev/zero", path).unwrap(),
        "huge" => fs::File::create(path).unwrap().set_len(1 << 40).unwrap(),
        other => unreachable!("{other}"),
    }
}

const KINDS: [&str; 4] = ["fifo", "zero", "link to zero", "huge"];

/// Within a few seconds: what is waited for or read without end is killed.
fn soon(bundle: &Bundle, args: &[&str]) -> Said {
    let mut command = std::process::Command::new("timeout");
    let keel = bundle.command(args);
    command.args(["-s", "KILL", "20"]).arg(keel.get_program()).args(keel.get_args()).current_dir(&bundle.dir);
    super::said(command.stdin(std::process::Stdio::null()).output().unwrap())
}

#[test]
fn a_configuration_that_is_no_small_file_is_refused() {
    let bundle = Bundle::new(&["true"]);
    for kind in KINDS {
        put(kind, &bundle.dir.join("config.json"));
        let said = soon(&bundle, &["run", &bundle.id()]);
        let words = if kind == "huge" { "keel reads at most 16 MiB" } else { "is not a regular file" };
        said.fails(1, &["config.json", words]);
    }
}

#[test]
fn an_image_whose_accounts_are_no_files_has_none() {
    let bundle = Bundle::new(&["/bin/sh", "-c", "echo $HOME"]).with(|c| c["process"]["env"] = json!(["PATH=/bin"]));
    bundle.write();
    assert_eq!(soon(&bundle, &["run", &bundle.id()]).ok(), "/root\n");
    for kind in KINDS {
        put(kind, &bundle.rootfs().join("etc/passwd"));
        assert_eq!(soon(&bundle, &["run", &bundle.id()]).ok(), "/\n", "{kind}");
    }
}

#[test]
fn annotations_of_other_runtimes_write_nothing_and_run_nothing() {
    let bundle = Bundle::new(&["true"]);
    let guard = Guard::new(&bundle);
    let target = guard.canary.join("made");
    let names = [
        "run.oci.hooks.stdout",
        "run.oci.hooks.stderr",
        "run.oci.handler",
        "run.oci.pidfd_receiver",
        "run.oci.seccomp.receiver",
        "run.oci.seccomp.plugins",
        "run.oci.systemd.subgroup",
        "run.oci.delegate-cgroup",
        "module.wasm.image/variant",
        "org.systemd.property.ExecStart",
    ];
    let annotations: serde_json::Map<_, _> = names.iter().map(|name| ((*name).to_owned(), json!(target))).collect();
    let hook = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo said"]}]});
    let bundle = bundle.with(|c| (c["annotations"], c["hooks"]) = (annotations.into(), hook));
    bundle.run().ok();
    guard.unchanged_and_empty(&bundle);
}

/// Who waits for `start` takes no descriptors from those that connect, and nothing that they send hinders `start`.
#[test]
fn descriptors_sent_to_a_waiting_container_are_not_taken() {
    let bundle = Bundle::new(&["sh", "-c", "ls /proc/self/fd | wc -l; sleep 1000"]);
    bundle.write();
    bundle.detached(&["create", "--pid-file", "pid", "ID"]).ok();
    let open = || fs::read_dir(format!("/proc/{}/fd", bundle.pid())).unwrap().count();
    let (before, secret) = (open(), fs::File::open("/etc/hostname").unwrap());
    let socket = bundle.state_root().join(bundle.id()).join("start.sock");
    for _ in 0..100 {
        let client = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        rustix::net::connect(&client, &SocketAddrUnix::new(&socket).unwrap()).unwrap();
        let sent = [secret.as_fd(); 100];
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(100))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&sent)));
        // Without a byte of its own a message is as good as none: the container goes on waiting.
        let _ = rustix::net::sendmsg(&client, &[std::io::IoSlice::new(b"")], &mut ancillary, SendFlags::NOSIGNAL);
    }
    crate::common::eventually("it has closed them all", || open() == before);
    assert_eq!(bundle.status(), "created");
    bundle.keel(&["start", "ID"]).ok();
    crate::common::eventually("it runs", || bundle.status() == "running");
    bundle.delete();
}

#[test]
fn the_state_is_roots_alone_and_no_socket_has_an_abstract_name() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.write();
    let id = bundle.id();
    let keel = bundle.command(&["create", &id]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--net", "sh", "-c", "umask 0; \"$@\" > /dev/null 2>&1 && cat /proc/net/unix", "sh"]);
    let sockets = super::said(command.arg(keel.get_program()).args(keel.get_args()).current_dir(&bundle.dir).output().unwrap()).ok();
    assert!(sockets.contains("start.sock") && !sockets.contains(" @"), "{sockets}");
    let mut pending = vec![bundle.state_root()];
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        // A socket's mode is that of its directory, which nobody else may enter.
        assert!(meta.mode() & 0o077 == 0 || !meta.is_dir() && !meta.is_file(), "{} {:o}", path.display(), meta.mode());
        if meta.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    bundle.delete();
}
