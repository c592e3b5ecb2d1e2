//! A terminal through a pty of ours: job control, size, keys that detach, attach again.

use crate::common::eventually;
use crate::host::{Host, kill};
use nix::pty::{OpenptyResult, openpty};
use rustix::fd::OwnedFd;
use rustix::process::Signal;
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::process::Child;
use std::sync::{Arc, Mutex};

/// A front-end before a terminal.
struct Seat {
    master: File,
    slave: OwnedFd,
    child: Child,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Seat {
    fn take(host: &Host, args: &[&str]) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        size(&master, 24, 80);
        let end = || slave.try_clone().unwrap();
        let child = host.command(args).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let screen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (copy, mut file) = (screen.clone(), File::from(master.try_clone().unwrap()));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = file.read(&mut buffer) {
                copy.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { master: master.into(), slave, child, screen }
    }

    fn run(host: &Host, args: &[&str]) -> Self {
        Self::take(host, &[&["run", "--network", "none", "-it"], args].concat())
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        let seen = || String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned();
        for _ in 0..1000 {
            if seen().contains(text) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{text:?} is not on the terminal: {:?}", seen());
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Types a line and forgets what was on the screen before.
    fn line(&mut self, text: &str) {
        self.screen.lock().unwrap().clear();
        self.types(&format!("{text}\n"));
    }

    /// Types a line until its answer comes.
    #[track_caller]
    fn asks(&mut self, line: &str, answer: &str) {
        for _ in 0..20 {
            self.line(line);
            for _ in 0..50 {
                if String::from_utf8_lossy(&self.screen.lock().unwrap()).contains(answer) {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        panic!("{line:?} is not answered by {answer:?}");
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    fn ends(mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        assert!(!self.is_raw(), "the terminal is as it was");
        code
    }
}

fn size(terminal: impl rustix::fd::AsFd, rows: u16, columns: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

#[test]
fn a_shell_has_job_control_and_the_size_of_our_terminal() {
    let host = Host::new();
    let mut seat = Seat::run(&host, &["--rm", "-e", "PS1=ready> ", "busybox", "sh"]);
    seat.shows("ready>");
    assert!(seat.is_raw());
    seat.line("stty size; tty; echo $TERM");
    seat.shows("24 80");
    seat.shows("/dev/pts/0");
    seat.shows("xterm");
    size(&seat.master, 40, 132);
    kill(seat.child.id().cast_signed(), Signal::WINCH);
    seat.asks("stty size", "40 132");
    // Ctrl-C ends the foreground job and not the shell; Ctrl-Z stops it, fg continues it.
    seat.line("sleep 1000; echo code $?");
    eventually("the job runs", || host.my(&["ps", "-q"]).out.lines().any(|id| host.exec(id, "ps").contains("sleep 1000")));
    seat.types("\x03");
    seat.line("echo al''ive");
    seat.shows("alive");
    seat.line("sleep 1001");
    eventually("the job runs", || host.my(&["ps", "-q"]).out.lines().any(|id| host.exec(id, "ps").contains("sleep 1001")));
    seat.types("\x1a");
    seat.shows("Stopped");
    seat.line("kill %1; exit 3");
    seat.line("exit 3");
    assert_eq!(seat.ends(), Some(3));
    host.nothing_left();
}

#[test]
fn keys_detach_and_attach_comes_back() {
    let host = Host::new();
    let mut seat = Seat::run(&host, &["--name", "box", "-e", "PS1=ready> ", "busybox", "sh"]);
    seat.shows("ready>");
    seat.line("here=1");
    seat.types("\x10\x11");
    assert_eq!(seat.ends(), Some(0));
    assert_eq!(host.status("box"), "running");
    let mut seat = Seat::take(&host, &["attach", "--detach-keys", "ctrl-x,d", "box"]);
    seat.asks("echo here=$here", "here=1");
    seat.types("\x18d");
    assert_eq!(seat.ends(), Some(0));
    // The terminal goes: the container stays.
    let seat = Seat::take(&host, &["attach", "box"]);
    eventually("attached", || seat.is_raw());
    kill(seat.child.id().cast_signed(), Signal::HUP);
    assert_eq!(seat.ends(), Some(0));
    assert_eq!(host.status("box"), "running");
    // A restart of a terminal's container makes a new one.
    host.my(&["restart", "-t", "0", "box"]).ok();
    let mut seat = Seat::take(&host, &["attach", "box"]);
    eventually("attached", || seat.is_raw());
    seat.line("exit 5");
    assert_eq!(seat.ends(), Some(5));
    host.clear();
}

#[test]
fn exec_has_a_terminal_of_its_own() {
    let host = Host::new();
    host.detached(&["--name", "box", "-e", "PS1=ready> ", "busybox", "sleep", "1000"]);
    let mut seat = Seat::take(&host, &["exec", "-it", "box", "sh"]);
    seat.shows("ready>");
    assert!(seat.is_raw());
    seat.line("stty size; tty");
    seat.shows("24 80");
    seat.shows("/dev/pts/");
    seat.line("exit 4");
    assert_eq!(seat.ends(), Some(4));
    host.my(&["exec", "-it", "box", "true"]).fails(1, &["not a TTY"]);
    host.clear();
}
