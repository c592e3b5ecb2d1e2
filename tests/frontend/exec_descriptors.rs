//! `exec` hands a container no descriptor of its caller: files would be open for writing once more through
//! `/proc/self/fd`, directories would lead into the host's tree, terminals could be read after the end.

use crate::common::{Said, eventually};
use crate::host::{Host, kill};
use crate::streams::noise;
use nix::pty::{OpenptyResult, openpty};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

/// What the program's descriptors are, one a line.
const LINKS: &str = "links=$(for fd in 0 1 2; do readlink /proc/$$/fd/$fd; done); echo \"$links\" > /links; ls /proc/self/fd > /numbers";

#[test]
fn whatever_ours_are_the_programs_are_pipes() {
    let host = Host::new();
    host.idle("box", &[]);
    let file = || File::open(host.write("in.sql", "SELECT 1;\n")).unwrap();
    let log = || OpenOptions::new().append(true).create(true).open(host.dir.join("app.log")).unwrap();
    let OpenptyResult { master: _master, slave } = openpty(None, None).unwrap();
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let (_reader, writer) = std::io::pipe().unwrap();
    let ours = [
        (Stdio::from(file()), Stdio::from(log()), "a file"),
        (Stdio::from(File::open(&host.dir).unwrap()), Stdio::from(log()), "a directory"),
        (Stdio::from(slave.try_clone().unwrap()), Stdio::from(slave.try_clone().unwrap()), "a terminal"),
        (Stdio::from(rustix::fd::OwnedFd::from(socket.try_clone().unwrap())), Stdio::from(rustix::fd::OwnedFd::from(socket)), "a socket"),
        (Stdio::from(reader.try_clone().unwrap()), Stdio::from(writer.try_clone().unwrap()), "a pipe"),
    ];
    let inode = |fd: &dyn AsFd| rustix::fs::fstat(fd.as_fd()).unwrap().st_ino;
    let pipes = [inode(&reader), inode(&writer)];
    for (input, output, what) in ours {
        let mut command = host.command(&["exec", "-i", "box", "sh", "-c", LINKS]);
        let said = Said::of(command.stdin(input).stdout(output).stderr(Stdio::piped()).output().unwrap());
        assert_eq!(said.code, 0, "{what}: {said:?}");
        let links = host.exec("box", "cat /links");
        assert_eq!(links.lines().filter(|link| link.starts_with("pipe:[")).count(), 3, "{what}: {links}");
        assert!(pipes.iter().all(|inode| !links.contains(&format!("[{inode}]"))), "{what}: {links}");
        assert_eq!(host.exec("box", "wc -l < /numbers").trim(), "4", "{what}");
    }
    // Without -i there is nothing to read, and detached there is nobody at all: the container's own /dev/null.
    host.my(&["exec", "box", "sh", "-c", LINKS]).ok();
    assert!(host.exec("box", "cat /links").starts_with("/dev/null\npipe:"));
    let mut detached = host.command(&["exec", "-d", "box", "sh", "-c", &format!("{LINKS}; mv /links /done")]);
    assert!(detached.stdin(file()).stdout(log()).stderr(log()).status().unwrap().success());
    eventually("it has run", || host.my(&["exec", "box", "test", "-e", "/done"]).code == 0);
    assert_eq!(host.exec("box", "cat /done"), "/dev/null\n/dev/null\n/dev/null\n");
    host.clear();
}

#[test]
fn files_of_the_host_are_neither_written_nor_read_again() {
    let host = Host::new();
    host.idle("box", &[]);
    let path = host.write("in.sql", "SELECT 1;\n");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
    let line = "cat; (echo PWNED > /proc/self/fd/0) 2>/dev/null; true";
    let mut command = host.command(&["exec", "-i", "box", "sh", "-c", line]);
    let said = Said::of(command.stdin(File::open(&path).unwrap()).output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (0, "SELECT 1;\n"));
    assert_eq!(host.read("in.sql"), "SELECT 1;\n");
    // A log that the output is appended to: what stood there before stays the host's, then and later.
    host.write("app.log", "earlier\n");
    let log = || OpenOptions::new().append(true).open(host.dir.join("app.log")).unwrap();
    let line = "echo now; for fd in 1 2; do (timeout 1 cat /proc/$$/fd/$fd > /seen$fd; true) 2> /dev/null; done; true";
    let mut command = host.command(&["exec", "box", "sh", "-c", line]);
    assert!(command.stdout(log()).stderr(log()).status().unwrap().success());
    assert_eq!(host.read("app.log"), "earlier\nnow\n");
    assert_eq!(host.exec("box", "cat /seen1 /seen2"), "");
    // A directory is no way into the host's tree, and the end of the input is told.
    let mut command = host.command(&["exec", "-i", "box", "sh", "-c", "ls /proc/self/fd/0/; cat; echo end"]);
    let said = Said::of(command.stdin(File::open(&host.dir).unwrap()).output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (0, "end\n"), "{said:?}");
    assert!(said.err.contains("mydocker: read the standard input: is a directory"), "{said:?}");
    assert!(!said.err.contains("in.sql"), "{said:?}");
    host.clear();
}

#[test]
fn a_terminal_is_the_users_again_after_exec() {
    let host = Host::new();
    host.idle("box", &[]);
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let mut master = File::from(master);
    let line = "exec 3<&0; read first; echo got $first; cat <&3 > /stolen 2> /dev/null & ";
    let mut command = host.command(&["exec", "-i", "box", "sh", "-c", line]);
    let mut child = command.stdin(slave.try_clone().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    master.write_all(b"first\n").unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!((out.as_str(), child.wait().unwrap().code()), ("got first\n", Some(0)));
    // Opened anew, so that it does not wait where somebody else was faster.
    let path = format!("/proc/self/fd/{}", slave.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut reader = File::from(rustix::fs::open(path, flags, Mode::empty()).unwrap());
    for number in 0..8 {
        let typed = format!("line {number}\n");
        master.write_all(typed.as_bytes()).unwrap();
        let mut ready = [PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN)];
        let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
        let _ = poll(&mut ready, Some(&limit));
        let mut space = [0; 64];
        let read = reader.read(&mut space).map(|count| String::from_utf8_lossy(&space[..count]).into_owned());
        assert!(read.as_ref().is_ok_and(|read| *read == typed), "the user reads all that is typed: {read:?}");
    }
    assert_eq!(host.exec("box", "cat /stolen"), "");
    host.clear();
}

#[test]
fn much_data_passes_both_ways_to_every_kind_of_reader() {
    let host = Host::new();
    host.idle("box", &[]);
    let data = noise(3_000_000);
    fs::write(host.dir.join("data"), &data).unwrap();
    let said = |input: Stdio, line: &str| {
        let mut command = host.command(&["exec", "-i", "box", "sh", "-c", line]);
        command.stdin(input).stderr(Stdio::piped()).output().unwrap()
    };
    let output = said(File::open(host.dir.join("data")).unwrap().into(), "cat; echo done >&2; exit 3");
    assert!(output.stdout == data, "{} of {} bytes", output.stdout.len(), data.len());
    assert_eq!((output.stderr.as_slice(), output.status.code()), (&b"done\n"[..], Some(3)));
    said(File::open(host.dir.join("data")).unwrap().into(), "cat > /data");
    let to = |out: Stdio| assert!(host.command(&["exec", "box", "cat", "/data"]).stdout(out).status().unwrap().success());
    let path = host.dir.join("copy");
    to(File::create(&path).unwrap().into());
    assert!(fs::read(&path).unwrap() == data);
    to(OpenOptions::new().append(true).open(&path).unwrap().into());
    assert_eq!(fs::metadata(&path).unwrap().len(), 6_000_000);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        { ours }.read_to_end(&mut all).unwrap();
        all
    });
    to(Stdio::from(rustix::fd::OwnedFd::from(theirs)));
    assert!(reader.join().unwrap() == data);
    // A reader that takes its time: everything is still there when the program has long ended.
    let mut child = host.command(&["exec", "box", "sh", "-c", "head -c 200000 /data"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let mut late = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut late).unwrap();
    assert!(late == data[..200_000] && child.wait().unwrap().success(), "{} bytes", late.len());
    // What cannot be written is not taken for success.
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = host.command(&["exec", "box", "echo", "x"]).stdout(full()).output().unwrap();
    Said::of(output).fails(125, &["write to the standard output", "no space left"]);
    host.clear();
}

#[test]
fn what_a_program_leaves_in_the_background_holds_nobody_up() {
    let host = Host::new();
    host.idle("box", &[]);
    let said = host.my(&["exec", "box", "sh", "-c", "(sleep 0.3; echo late; echo error >&2) & echo now"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "now\nlate\n", "error\n"));
    // One that never ends, whether it is silent or not.
    let writer = "i=0; while [ $i -lt 1000 ]; do echo again; sleep 0.1; i=$((i + 1)); done & echo now";
    for line in ["sleep 100 & echo now", writer] {
        let begun = std::time::Instant::now();
        let said = host.my(&["exec", "box", "sh", "-c", line]);
        assert!(said.code == 0 && said.out.contains("now\n"), "{line}: {} {}", said.code, said.err);
        assert!(begun.elapsed().as_secs() < 60, "{line}");
    }
    // The one that wrote on has nobody who reads it.
    eventually("it was ended by SIGPIPE", || !host.exec("box", "ps").contains("echo again"));
    assert!(host.exec("box", "ps").contains("sleep 100"));
    host.clear();
}

#[test]
fn a_reader_that_leaves_and_signals() {
    let host = Host::new();
    host.idle("box", &[]);
    let mut command = host.command(&["exec", "box", "sh", "-c", "yes; echo $? > /code"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut space = [0; 100];
    child.stdout.take().unwrap().read_exact(&mut space).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(host.exec("box", "cat /code"), "141\n", "128 + SIGPIPE");
    // The program that is read and written by nobody any more hears of it also where it only waits to write.
    let said = host.fed(&["exec", "-i", "box", "sh", "-c", "exec <&-; sleep 0.1; exit 6"], &noise(1_000_000));
    assert_eq!(said.code, 6);
    let line = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.02; done";
    let mut child = host.command(&["exec", "box", "sh", "-c", line]).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    kill(child.id().cast_signed(), Signal::TERM);
    let said = Said::of(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (5, "got\n"));
    assert_eq!(host.my(&["exec", "box", "sh", "-c", "kill -KILL $$"]).code, 128 + 9);
    host.clear();
}

#[test]
fn another_user_can_open_its_streams_by_name() {
    let host = Host::new();
    for (name, flags) in [("plain", &[][..]), ("mapped", &["--userns", "auto"][..])] {
        host.idle(name, flags);
        for user in ["0", "33"] {
            let line = "cat /dev/stdin > /dev/stdout; echo error > /dev/stderr";
            let said = host.fed(&["exec", "-i", "-u", user, name, "sh", "-c", line], b"through\n");
            assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "through\n", "error\n"), "{name} {user}");
        }
    }
    host.clear();
}

#[test]
fn a_monitor_holds_no_descriptor_of_the_caller() {
    let host = Host::new();
    let file = host.write("held", "x");
    let mut command = std::process::Command::new("sh");
    let run = host.command(&["run", "-d", "--network", "none", "--name", "box", "busybox", "sleep", "1000"]);
    command.args(["-c", "exec 7< \"$1\" 8> \"$1.out\"; shift; exec \"$@\"", "sh", &file]).arg(run.get_program()).args(run.get_args());
    Said::of(command.current_dir(&host.dir).output().unwrap()).ok();
    for pid in [host.monitor("box"), host.pid("box")] {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let links: Vec<_> = links.map(|entry| fs::read_link(entry.unwrap().path()).unwrap_or_default()).collect();
        assert!(!links.is_empty() && !links.iter().any(|link| link.to_string_lossy().starts_with(&file)), "{links:?}");
    }
    host.clear();
}
