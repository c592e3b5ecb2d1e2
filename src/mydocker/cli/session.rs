//! The front-end's side of an attached container: our terminal or streams on one side, the monitor's wire on the other.

use crate::mydocker::monitor::protocol::{AHEAD, Frame, Wire};
use crate::sys::{Context, Error, Result, Signals, catchable_signals, signal_from_raw};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::collections::VecDeque;

/// A pipe that poll(2) calls writable takes this much at once (PIPE_BUF of pipe(7)), so that no write of ours waits and
/// signals are always heard.
pub(super) const PIECE: usize = 4096;

/// Signals that docker's `--sig-proxy` does not pass on here: they stop us as any job of a shell's that uses the terminal from
/// the background. If they were caught, reading the terminal would fail instead (tty_ioctl(4)).
const JOB_CONTROL: [Signal; 2] = [Signal::TTIN, Signal::TTOU];

/// How one is attached.
#[derive(Clone, Debug)]
pub struct Session {
    /// The container has a terminal.
    pub tty: bool,
    /// Our input is passed on.
    pub input: bool,
    /// stdout and stderr are wanted.
    pub outputs: [bool; 2],
    /// Our signals are passed on.
    pub proxy: bool,
    /// The bytes that detach.
    pub detach: Vec<u8>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The container ended with this exit code.
    Exit(i32),
    /// It could not start: docker's exit code and why.
    Failed(i32, String),
    /// The user detached.
    Detached,
    /// The monitor is gone.
    Lost,
}

/// `ctrl-p,ctrl-q` as bytes.
pub fn detach_keys(text: &str) -> Result<Vec<u8>> {
    let bad =
        || Error::new(format!("invalid detach keys {text:?}")).hint("letters, or ctrl- and one of a-z @ ^ [ , _, separated by commas");
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|key| match (key.strip_prefix("ctrl-").map(str::as_bytes), key.as_bytes()) {
            (Some(&[key @ b'a'..=b'z']), _) => Ok(key - b'a' + 1),
            (Some(&[key @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]), _) => Ok(key - b'@'),
            (None, &[key]) => Ok(key),
            _ => Err(bad()),
        })
        .collect()
}

/// Our terminal in raw mode; put back when dropped.
struct Raw(Termios);

impl Raw {
    fn new() -> Result<Self> {
        let stdin = rustix::stdio::stdin();
        let before = tcgetattr(stdin).context(|| "read the modes of our terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw).context(|| "put our terminal into raw mode")?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Blocks the signals that are wanted; they come through the descriptor from now on.
pub(super) fn catch(wanted: impl Fn(Signal) -> bool) -> Result<Signals> {
    let signals = catchable_signals().filter(|&number| signal_from_raw(number).is_some_and(&wanted));
    Signals::catch(signals).context(|| "prepare to pass signals on")
}

impl Session {
    /// Passes everything both ways until the container ends or the user detaches.
    pub fn run(&self, wire: &mut Wire) -> Result<End> {
        let ours = isatty(rustix::stdio::stdin());
        let proxied = |signal| self.proxy && !JOB_CONTROL.contains(&signal);
        let signals = catch(|signal| proxied(signal) || [Signal::WINCH, Signal::HUP].contains(&signal))?;
        let raw = if self.tty && self.input && ours { Some(Raw::new()?) } else { None };
        let end = self.pass(wire, &signals);
        drop(raw);
        end
    }

    fn pass(&self, wire: &mut Wire, signals: &Signals) -> Result<End> {
        let mut flow = Flow { keys: Keys { wanted: &self.detach, matched: 0 }, ..Flow::default() };
        flow.input = self.input;
        loop {
            let clear = flow.outputs.iter().all(VecDeque::is_empty);
            if clear && let Some(end) = flow.end.take() {
                return flow.failure.map_or(Ok(end), Err);
            }
            let readable = {
                // A descriptor that is not wanted now is not asked about: poll(2) would tell its hang-up again and again.
                let idle = || PollFd::new(signals, PollFlags::empty());
                let out = if wire.pending() > 0 { PollFlags::OUT } else { PollFlags::empty() };
                let reads = flow.begun && flow.input && flow.ahead < AHEAD;
                let to = |fd: BorrowedFd<'static>, queue: &VecDeque<u8>| {
                    if queue.is_empty() { idle() } else { PollFd::from_borrowed_fd(fd, PollFlags::OUT) }
                };
                let mut fds = [
                    PollFd::new(signals, if flow.begun { PollFlags::IN } else { PollFlags::empty() }),
                    if clear { PollFd::new(&wire.socket, PollFlags::IN | out) } else { idle() },
                    if reads { PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN) } else { idle() },
                    to(rustix::stdio::stdout(), &flow.outputs[0]),
                    to(rustix::stdio::stderr(), &flow.outputs[1]),
                ];
                match poll(&mut fds, None) {
                    Err(Errno::INTR) => continue,
                    other => other.context(|| "wait for the container")?,
                };
                for ((queue, fd), name) in flow.outputs.iter_mut().zip(&fds[3..]).zip(["output", "error"]) {
                    if fd.revents().is_empty() {
                        continue;
                    }
                    match write(fd, queue) {
                        Ok(()) => {}
                        // As SIGPIPE would end us: what nobody reads need not run, and a foreground ends with us.
                        Err(Errno::PIPE) => return Ok(End::Exit(128 + Signal::PIPE.as_raw())),
                        Err(errno) => {
                            flow.failure.get_or_insert(Error::new(format!("write the standard {name}")).errno(errno));
                        }
                    }
                }
                reads && !fds[2].revents().is_empty()
            };
            if flow.begun && !self.signalled(wire, signals) {
                return Ok(End::Detached);
            }
            if clear {
                self.heard(wire, &mut flow);
            }
            if readable && !self.read(wire, &mut flow) {
                return Ok(End::Detached);
            }
            wire.flush();
            if clear && wire.closed && flow.end.is_none() {
                flow.end = Some(End::Lost);
            }
        }
    }

    /// Passes our signals on; false if our terminal is gone.
    fn signalled(&self, wire: &mut Wire, signals: &Signals) -> bool {
        while let Some(signal) = signals.next().and_then(signal_from_raw) {
            match signal {
                Signal::WINCH if self.tty => resize(wire),
                // As docker's, the container lives on. Without a terminal of its own the program gets the signal.
                Signal::HUP if self.tty || !self.proxy => {
                    wire.send(&Frame::Detach);
                    return false;
                }
                signal => wire.send(&Frame::Signal(signal.as_raw())),
            }
        }
        true
    }

    /// What the monitor said.
    fn heard(&self, wire: &mut Wire, flow: &mut Flow<'_>) {
        for frame in wire.receive() {
            match frame {
                Frame::Output(bytes) if self.outputs[0] => flow.outputs[0].extend(bytes),
                Frame::Errors(bytes) if self.outputs[1] => flow.outputs[1].extend(bytes),
                Frame::Taken(count) => flow.ahead = flow.ahead.saturating_sub(count as usize),
                Frame::Started => {
                    flow.begun = true;
                    if self.tty {
                        resize(wire);
                    }
                }
                Frame::Exit(code) => flow.end = Some(End::Exit(code)),
                Frame::Failed(code, why) => flow.end = Some(End::Failed(code, why)),
                _ => {}
            }
        }
    }

    /// Passes our input on; false if it said to detach.
    fn read(&self, wire: &mut Wire, flow: &mut Flow<'_>) -> bool {
        let mut space = [0; 8192];
        match rustix::io::read(rustix::stdio::stdin(), &mut space[..]) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(count) if count > 0 => {
                let (bytes, leaves) = if self.tty { flow.keys.pass(&space[..count]) } else { (space[..count].to_vec(), false) };
                if !bytes.is_empty() {
                    flow.ahead += bytes.len();
                    wire.send(&Frame::Input(bytes));
                }
                if leaves {
                    wire.send(&Frame::Detach);
                    return false;
                }
            }
            _ => {
                flow.input = false;
                wire.send(&Frame::InputEnd);
            }
        }
        true
    }
}

/// What is under way.
#[derive(Default)]
struct Flow<'k> {
    /// The program runs.
    begun: bool,
    /// Our input has not ended.
    input: bool,
    /// How much of it the monitor still holds.
    ahead: usize,
    /// Output that is not written yet.
    outputs: [VecDeque<u8>; 2],
    keys: Keys<'k>,
    /// The first output that could not be written, which must not look like success.
    failure: Option<Error>,
    /// Once all is written.
    end: Option<End>,
}

/// Writes a piece. The container goes on although it cannot be written, on a full disk for example; but not when nobody will ever
/// read it (EPIPE). A terminal that is gone (EIO) is no failure: its user left.
fn write(to: &PollFd<'_>, queue: &mut VecDeque<u8>) -> rustix::io::Result<()> {
    let (first, _) = queue.as_slices();
    match rustix::io::write(to, &first[..first.len().min(PIECE)]) {
        Ok(count) => drop(queue.drain(..count)),
        Err(Errno::INTR | Errno::AGAIN) => {}
        Err(errno) => {
            queue.clear();
            return if errno == Errno::IO { Ok(()) } else { Err(errno) };
        }
    }
    Ok(())
}

fn resize(wire: &mut Wire) {
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        wire.send(&Frame::Size(size.ws_row, size.ws_col));
    }
}

/// How much of the detach keys has been typed.
#[derive(Default)]
struct Keys<'k> {
    wanted: &'k [u8],
    matched: usize,
}

impl Keys<'_> {
    /// What is to be passed on, and whether all keys were typed after it. Keys that begin the sequence wait until the next says.
    fn pass(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.wanted.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.wanted.len() {
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(&self.wanted[..self.matched]);
            self.matched = usize::from(self.wanted.first() == Some(&byte) && self.wanted.len() > 1);
            if self.matched == 0 {
                out.push(byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_and_other_keys_pass() {
        let keys = detach_keys("ctrl-p,ctrl-q").unwrap();
        assert_eq!(keys, [16, 17]);
        assert_eq!(detach_keys("a,ctrl-[").unwrap(), [b'a', 27]);
        assert!(detach_keys("ctrl-").is_err() && detach_keys("ab").is_err() && detach_keys("ctrl-ab").is_err());
        let mut state = Keys { wanted: &keys, matched: 0 };
        assert_eq!(state.pass(b"ls\x10"), (b"ls".to_vec(), false));
        assert_eq!(state.pass(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(state.pass(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(state.pass(b"\x11"), (Vec::new(), true));
        let mut state = Keys { wanted: &keys, matched: 0 };
        assert_eq!(state.pass(b"last\n\x10\x11lost"), (b"last\n".to_vec(), true));
        let mut none = Keys { wanted: &[], matched: 0 };
        assert_eq!(none.pass(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
