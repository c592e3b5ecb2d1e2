//! The container's terminal: through a console socket, and in the foreground through a terminal of the caller's.

mod common;

use common::{Bundle, Census, eventually};
use nix::pty::{OpenptyResult, openpty};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{LocalModes, OutputModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

fn with_terminal(args: &[&str]) -> Bundle {
    Bundle::new(args).with(|c| c["process"]["terminal"] = json!(true))
}

/// Everything that comes out of a terminal, read by a thread until it hangs up.
#[derive(Clone)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Screen {
    fn watch(master: &OwnedFd) -> Self {
        let screen = Self(Arc::default());
        let (copy, mut file) = (screen.clone(), File::from(master.try_clone().unwrap()));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = file.read(&mut buffer) {
                copy.0.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        screen
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        eventually(&format!("{text:?} on the terminal"), || self.text().contains(text));
    }
}

/// Accepts one connection: the payload, and the descriptors that came with it.
fn accept(listener: &UnixListener) -> (Vec<u8>, Vec<OwnedFd>) {
    let (socket, _) = listener.accept().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut payload = vec![0; 8192];
    let length = recvmsg(&socket, &mut [std::io::IoSliceMut::new(&mut payload)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
    payload.truncate(length);
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    (payload, fds)
}

/// The one terminal that a console socket gets.
fn console(listener: &UnixListener) -> OwnedFd {
    let (payload, mut fds) = accept(listener);
    assert_eq!(fds.len(), 1, "exactly one descriptor");
    assert!((1..4096).contains(&payload.len()), "a name of 1 to 4095 bytes: {payload:?}");
    fds.remove(0)
}

#[test]
fn create_sends_the_terminal_to_the_console_socket() {
    let line = "tty; stty size; stat -c '%t:%T %a' /dev/console; echo to the console > /dev/console; echo to the tty > /dev/tty; read answer; echo got $answer; sleep 1000";
    let bundle = with_terminal(&["sh", "-c", line]).with(|c| c["process"]["consoleSize"] = json!({"height": 33, "width": 111}));
    let socket = bundle.dir.join("console.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    bundle.write();
    bundle.detached(&["create", "--console-socket", "console.sock", "--pid-file", "pid", "ID"]).ok();
    let master = console(&listener);
    // As runc's and crun's: containerd's TestTaskResize reads the carriage returns.
    assert!(tcgetattr(&master).unwrap().output_modes.contains(OutputModes::ONLCR), "the terminal is as the kernel made it");
    let screen = Screen::watch(&master);
    assert_eq!(bundle.status(), "created");
    bundle.keel(&["start", "ID"]).ok();
    screen.shows("/dev/pts/0\r\n33 111\r\n");
    screen.shows("to the console\r\n");
    screen.shows("to the tty\r\n");
    assert!(screen.text().contains("88:0 "), "the console is the slave itself: {}", screen.text());
    File::from(master.try_clone().unwrap()).write_all(b"forty-two\n").unwrap();
    screen.shows("got forty-two\r\n");
    assert_eq!(bundle.out(), "", "nothing of the terminal's goes to the runtime's stdout");
    bundle.delete();
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn run_detached_and_exec_use_a_console_socket_too() {
    let bundle = with_terminal(&["sleep", "1000"]);
    let listener = UnixListener::bind(bundle.dir.join("c.sock")).unwrap();
    bundle.write();
    bundle.detached(&["run", "--detach", "--console-socket", "c.sock", "--pid-file", "pid", "ID"]).ok();
    let _first = console(&listener);
    let line = "tty; ls /dev/pts; test -t 0 && test -t 1 && test -t 2 && echo three";
    bundle.detached(&["exec", "--detach", "--tty", "--console-socket", "c.sock", "ID", "sh", "-c", line]).ok();
    let second = console(&listener);
    assert!(tcgetattr(&second).unwrap().output_modes.contains(OutputModes::ONLCR));
    Screen::watch(&second).shows("three");
    let said = bundle.keel(&["exec", "--detach", "--tty", "ID", "true"]);
    said.fails(255, &["console socket"]);
}

#[test]
fn a_terminal_and_a_console_socket_need_each_other() {
    let bundle = with_terminal(&["true"]);
    bundle.write();
    bundle.keel(&["create", "ID"]).fails(1, &["console socket", "process.terminal"]);
    bundle.keel(&["run", "--detach", "ID"]).fails(1, &["console socket"]);
    bundle.keel(&["create", "--console-socket", "missing.sock", "ID"]).fails(1, &["missing.sock", "no such file or directory"]);
    let bundle = Bundle::new(&["true"]);
    let _listener = UnixListener::bind(bundle.dir.join("c.sock")).unwrap();
    bundle.write();
    bundle.keel(&["create", "--console-socket", "c.sock", "ID"]).fails(1, &["process.terminal"]);
    Census::of(&bundle).nothing_left(&bundle);
}

/// A keel in the foreground of a terminal that the test has made.
struct Session {
    master: OwnedFd,
    slave: OwnedFd,
    screen: Screen,
    keel: Child,
}

impl Session {
    fn start(bundle: &Bundle, args: &[&str]) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        tcsetwinsize(&master, size(40, 120)).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let keel = bundle.command(args).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self { screen: Screen::watch(&master), master, slave, keel }
    }

    fn types(&self, text: &str) {
        rustix::io::write(&self.master, text.as_bytes()).unwrap();
    }

    /// The exit code, after which the terminal is as it was.
    #[track_caller]
    fn ends(mut self) -> (i32, String) {
        eventually("keel's end", || self.keel.try_wait().unwrap().is_some());
        let code = self.keel.wait().unwrap().code().unwrap();
        let modes = tcgetattr(&self.slave).unwrap();
        assert!(modes.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG), "the terminal is left raw");
        (code, self.screen.text())
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

#[test]
fn run_in_the_foreground_relays_input_output_and_the_exit_code() {
    let bundle = with_terminal(&["sh", "-c", "stty size; echo ready; read line; echo got $line; tty; exit 12"]);
    bundle.write();
    let session = Session::start(&bundle, &["run", &bundle.id()]);
    session.screen.shows("ready\r\n");
    assert!(session.screen.text().starts_with("40 120\r\n"), "the size is there from the start: {:?}", session.screen.text());
    assert!(!tcgetattr(session.slave.as_fd()).unwrap().local_modes.contains(LocalModes::ICANON), "our terminal is raw meanwhile");
    session.types("words\r");
    session.screen.shows("got words\r\n");
    session.screen.shows("/dev/pts/0\r\n");
    assert_eq!(session.ends().0, 12);
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn ctrl_c_and_resizes_reach_the_program() {
    let line = "trap 'echo interrupted; exit 3' INT; trap 'stty size' WINCH; echo ready; while :; do usleep 20000; done";
    let bundle = with_terminal(&["sh", "-c", line]);
    bundle.write();
    let session = Session::start(&bundle, &["run", &bundle.id()]);
    session.screen.shows("ready");
    tcsetwinsize(&session.master, size(50, 99)).unwrap();
    let pid = nix::unistd::Pid::from_raw(session.keel.id().cast_signed());
    // The kernel sends it to the foreground of a controlling terminal; BuildKit sends it itself.
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGWINCH).unwrap();
    session.screen.shows("50 99");
    session.types("\x03");
    session.screen.shows("interrupted");
    assert_eq!(session.ends().0, 3);
}

#[test]
fn exec_in_the_foreground_has_a_terminal_of_its_own() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    let session = Session::start(&bundle, &["exec", "--tty", &bundle.id(), "sh", "-c", "tty; stty size; read x; echo got $x; exit 21"]);
    session.screen.shows("/dev/pts/0\r\n40 120\r\n");
    session.types("it\r");
    session.screen.shows("got it\r\n");
    assert_eq!(session.ends().0, 21);
    let session = Session::start(&bundle, &["exec", "-t", &bundle.id(), "sh", "-c", "echo up; exec sleep 1000"]);
    session.screen.shows("up");
    session.types("\x03");
    assert_eq!(session.ends().0, 130, "128 and SIGINT");
}

/// Its output so far is all that is waited for, were it endless.
#[test]
fn exec_ends_with_its_program_whoever_else_has_the_terminal() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    for line in ["sleep 1000 & seq 1 3000; echo end", "yes & echo end"] {
        let line = format!("trap '' HUP; {line}");
        let session = Session::start(&bundle, &["exec", "-t", &bundle.id(), "sh", "-c", &line]);
        session.screen.shows("end\r\n");
        assert_eq!(session.ends().0, 0);
    }
}

#[test]
fn a_program_that_closes_its_terminal_still_gets_signals() {
    let line = "trap 'exit 4' TERM; echo ready; exec <&- >&- 2>&-; while :; do usleep 20000; done";
    let bundle = with_terminal(&["sh", "-c", line]);
    bundle.write();
    let mut session = Session::start(&bundle, &["run", &bundle.id()]);
    session.screen.shows("ready");
    let raw = || !tcgetattr(&session.slave).unwrap().local_modes.contains(LocalModes::ICANON);
    eventually("the end of the relay", || !raw());
    assert_eq!(session.keel.try_wait().unwrap(), None, "the program goes on");
    let pid = nix::unistd::Pid::from_raw(session.keel.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(session.ends().0, 4);
}

/// poll(2) tells of a hung-up pipe at once, however often it is asked and whatever it is asked for.
#[test]
fn pipes_that_are_closed_cost_no_time() {
    let bundle = with_terminal(&["sh", "-c", "echo ready; exec sleep 1"]);
    bundle.write();
    let mut keel = bundle.command(&["run", &bundle.id()]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    drop(keel.stdin.take());
    let mut ready = [0; 6];
    keel.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", keel.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    assert_eq!(keel.wait().unwrap().code(), Some(0));
    assert!(ticks < 20, "{ticks} of the 70 ticks of the time that there was nothing to do");
}

/// A script in a pipe, for a program with a terminal: its end is the program's end of input.
#[test]
fn the_end_of_a_pipe_ends_the_programs_input() {
    for (text, says) in [("echo one\n", "one"), ("echo half a line", "half a line"), ("", "")] {
        let bundle = with_terminal(&["sh", "-c", "stty -echo; cat > /script; . /script; exit 7"]);
        bundle.write();
        let mut keel = bundle.command(&["run", &bundle.id()]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut keel.stdin.take().unwrap(), text.as_bytes()).unwrap();
        let output = keel.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(says), "{output:?}");
        Census::of(&bundle).nothing_left(&bundle);
    }
}

#[test]
fn all_output_arrives_however_much_it_is() {
    let bundle = with_terminal(&["sh", "-c", "seq 1 20000; echo end"]);
    bundle.write();
    let session = Session::start(&bundle, &["run", &bundle.id()]);
    session.screen.shows("\r\nend\r\n");
    let (code, text) = session.ends();
    assert_eq!(code, 0);
    let numbers: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(numbers.len(), 20002);
    assert!(numbers[..20000].iter().enumerate().all(|(n, line)| *line == (n + 1).to_string()));
}

#[test]
fn a_failure_in_the_foreground_gives_the_terminal_back() {
    let bundle = with_terminal(&["/no/such/program"]);
    bundle.write();
    let session = Session::start(&bundle, &["run", &bundle.id()]);
    session.screen.shows("no such file or directory");
    assert_eq!(session.ends().0, 1);
    Census::of(&bundle).nothing_left(&bundle);
}

#[test]
fn a_terminal_that_an_ordinary_user_is_given_is_its_own() {
    let bundle = with_terminal(&["sh", "-c", "stat -c %u:%g $(tty); echo hi > $(tty) && echo writable"]);
    let bundle = bundle.with(|c| c["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    bundle.write();
    let session = Session::start(&bundle, &["run", &bundle.id()]);
    session.screen.shows("1000:5");
    session.screen.shows("writable");
    assert_eq!(session.ends().0, 0);
}
