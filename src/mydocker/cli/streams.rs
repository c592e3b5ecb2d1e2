//! The standard streams of a program that `exec` runs without a terminal: pipes of our own, which are
//! copied from and to our streams.
//!
//! The program never has a descriptor of ours. Through `/proc/self/fd` it could open a file of the host
//! once more, for writing or from its first byte; a directory would be a way into the host's tree; and a
//! terminal could be read for as long as any process of the container has it open.

use super::session::{PIECE, catch};
use crate::sandbox::Process;
use crate::sys::{Context, Error, Result, Signals, signal_from_raw};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Uid, fchown, fstat};
use rustix::io::{Errno, ioctl_fionbio, ioctl_fionread};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use rustix::process::{Signal, pidfd_send_signal};
use rustix::termios::isatty;
use std::io::Write;
use std::time::{Duration, Instant};

/// How long output is waited for after the program has ended: a process that it left in the background
/// may still write. This is what docker's daemon waits.
const LINGER: Duration = Duration::from_secs(2);

/// The most that one system call copies through a buffer: what a pipe holds unless it is told (pipe(7)).
const BUFFER: usize = 1 << 16;

/// What our pipes hold, so that the program and we seldom wait for each other. Where the kernel has no more
/// for this user, they hold less.
const PIPE: usize = 1 << 18;

/// The most that one splice(2) moves.
const SPLICE: usize = 1 << 20;

/// Signals that stop us instead of reaching the program, as there is no terminal that it could be stopped at.
const JOB_CONTROL: [Signal; 3] = [Signal::TSTP, Signal::TTIN, Signal::TTOU];

/// `/dev/null` three times, for a program that nobody talks to.
pub fn nowhere() -> Result<[OwnedFd; 3]> {
    Ok([null()?, null()?, null()?])
}

/// `/dev/null`.
pub fn null() -> Result<OwnedFd> {
    rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(|| "open /dev/null")
}

/// Our ends of a program's pipes.
pub struct Streams {
    signals: Signals,
    input: Option<Channel<BorrowedFd<'static>, OwnedFd>>,
    outputs: [Option<Channel<OwnedFd, BorrowedFd<'static>>>; 2],
    /// The first output that could not be written, which must not look like success.
    failure: Option<Error>,
}

impl Streams {
    /// Makes the pipes and blocks the signals that the program is to get. The second half is the program's;
    /// without `input` it reads the end of its input at once.
    pub fn new(input: bool) -> Result<(Self, [OwnedFd; 3])> {
        let what = || "make the program's pipes";
        let pipe = || pipe_with(PipeFlags::CLOEXEC).context(what);
        let (theirs_in, ours_in) = if input { pipe().map(|(read, write)| (read, Some(write)))? } else { (null()?, None) };
        let ((ours_out, theirs_out), (ours_err, theirs_err)) = (pipe()?, pipe()?);
        for ours in [ours_in.as_ref(), Some(&ours_out), Some(&ours_err)].into_iter().flatten() {
            ioctl_fionbio(ours, true).context(what)?;
            let _ = fcntl_setpipe_size(ours, PIPE);
        }
        // SIGPIPE among them: an output that nobody reads is an error of write(2) and splice(2) here, and the end of the pipe there.
        let signals = catch(|signal| !JOB_CONTROL.contains(&signal))?;
        let input = ours_in.map(|to| Channel::new("the standard input", rustix::stdio::stdin(), to, Way::Now));
        let outputs = [
            Some(Channel::out("the standard output", ours_out, rustix::stdio::stdout())),
            Some(Channel::out("the standard error", ours_err, rustix::stdio::stderr())),
        ];
        Ok((Self { signals, input, outputs, failure: None }, [theirs_in, theirs_out, theirs_err]))
    }

    /// Gives the pipes to a user of the host, for a program whose user namespace cannot: it is to be able to
    /// open `/dev/stdout` and its relatives.
    pub fn give_to(&self, uid: u32) -> Result<()> {
        let input = self.input.iter().map(|channel| channel.to.as_fd());
        let outputs = self.outputs.iter().flatten().map(|channel| channel.from.as_fd());
        let give = |fd| fchown(fd, Some(Uid::from_raw(uid)), None).context(|| "give the program its pipes");
        input.chain(outputs).try_for_each(give)
    }

    /// Copies until the program and its output have ended; the exit code. An output that nobody reads any
    /// more is closed, so that the program hears of it as it would at a pipe of the shell's.
    pub fn relay(mut self, process: &Process) -> Result<i32> {
        let mut ended: Option<Instant> = None;
        let mut last_call = false;
        loop {
            if ended.is_some() && self.outputs.iter().all(Option::is_none) {
                break;
            }
            let limit = match ended {
                // What was in the pipes then is still passed on, and whatever is not there is not waited for.
                Some(_) if last_call && self.idle() => Some(Duration::ZERO),
                Some(at) if !last_call => Some(LINGER.saturating_sub(at.elapsed())),
                _ => None,
            };
            let exit = self.turn(process, ended.is_some(), limit)?;
            if exit && ended.is_none() {
                (ended, self.input) = (Some(Instant::now()), None);
            }
            if !last_call && ended.is_some_and(|at| at.elapsed() >= LINGER) {
                last_call = true;
                self.outputs.iter_mut().flatten().for_each(Channel::last_call);
            }
        }
        let code = process.wait()?;
        self.failure.map_or(Ok(code), Err)
    }

    /// Whether an output waits for the program rather than for its reader.
    fn idle(&self) -> bool {
        self.outputs.iter().flatten().any(|channel| !channel.holds())
    }

    /// Waits for the next thing to happen, at most so long, and does it. Whether the program has ended.
    fn turn(&mut self, process: &Process, ended: bool, limit: Option<Duration>) -> Result<bool> {
        let limit = limit.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        let revents = {
            // poll(2) tells of a hang-up whether it is asked or not, so what is of no interest is left out.
            let idle = || PollFd::new(&self.signals, PollFlags::empty());
            let exit = if ended { idle() } else { PollFd::new(&process.pidfd, PollFlags::IN) };
            let [input, input_pipe] = self.input.as_ref().map_or_else(|| [idle(), idle()], |channel| channel.interests(idle));
            let output = |number: usize| self.outputs[number].as_ref().map_or_else(|| [idle(), idle()], |channel| channel.interests(idle));
            let ([out_pipe, out], [err_pipe, err]) = (output(0), output(1));
            let mut fds = [PollFd::new(&self.signals, PollFlags::IN), exit, input, input_pipe, out_pipe, out, err_pipe, err];
            match poll(&mut fds, limit.as_ref()) {
                Err(Errno::INTR) => return Ok(false),
                other => other.context(|| "wait for the program")?,
            };
            fds.each_ref().map(PollFd::revents)
        };
        if !revents[0].is_empty() {
            self.forward(process);
        }
        if let Some(channel) = &mut self.input {
            match channel.pass(revents[2], revents[3]) {
                Ok(true) => {}
                Ok(false) => self.input = None,
                Err(error) => {
                    let _ = writeln!(std::io::stderr(), "mydocker: {error}");
                    self.input = None;
                }
            }
        }
        for (output, ready) in self.outputs.iter_mut().zip(revents[4..].chunks_exact(2)) {
            match output.as_mut().map_or(Ok(true), |channel| channel.pass(ready[0], ready[1])) {
                Ok(true) => {}
                Ok(false) => *output = None,
                Err(error) => {
                    *output = None;
                    self.failure.get_or_insert(error);
                }
            }
        }
        Ok(!revents[1].is_empty())
    }

    fn forward(&self, process: &Process) {
        while let Some(signal) = self.signals.next().and_then(signal_from_raw) {
            let _ = pidfd_send_signal(&process.pidfd, signal);
        }
    }
}

/// How bytes get from one descriptor to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By splice(2), from pipe to pipe and never waiting. Only out of a container: pages of the host's page
    /// cache in a pipe of the container's are what Dirty Pipe (CVE-2022-0847) and CVE-2026-31431 write to.
    Splice,
    /// Through the buffer, all at once: a file, or a pipe of ours that does not wait.
    Now,
    /// Through the buffer, so much that a descriptor which poll(2) calls writable takes it without waiting.
    Piecewise,
}

/// Bytes on their way in one direction.
struct Channel<F, T> {
    /// Which of our own streams it is, for messages.
    name: &'static str,
    from: F,
    to: T,
    way: Way,
    buffer: Vec<u8>,
    /// Where in the buffer the bytes begin that were not written yet.
    start: usize,
    /// The last splice(2) did not go on, for want of room.
    full: bool,
    /// How many bytes may still be taken, after the program has ended.
    left: Option<usize>,
}

impl Channel<OwnedFd, BorrowedFd<'static>> {
    fn out(name: &'static str, from: OwnedFd, to: BorrowedFd<'static>) -> Self {
        let way = match fstat(to).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Fifo) => Way::Splice,
            Ok(FileType::Socket) => Way::Piecewise,
            Ok(FileType::CharacterDevice) if isatty(to) => Way::Piecewise,
            _ => Way::Now,
        };
        Self::new(name, from, to, way)
    }

    /// From now on only what is in the pipe at this moment is taken.
    fn last_call(&mut self) {
        self.left = Some(ioctl_fionread(&self.from).map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX)));
    }
}

impl<F: AsFd, T: AsFd> Channel<F, T> {
    fn new(name: &'static str, from: F, to: T, way: Way) -> Self {
        Self { name, from, to, way, buffer: Vec::new(), start: 0, full: false, left: None }
    }

    /// Whether there is something that waits to be written.
    fn holds(&self) -> bool {
        self.full || self.start < self.buffer.len()
    }

    /// What poll(2) is asked about both ends. The writing end is always watched, since the end of its reader
    /// is told as an error.
    fn interests<'a>(&'a self, idle: impl FnOnce() -> PollFd<'a>) -> [PollFd<'a>; 2] {
        if self.holds() {
            [idle(), PollFd::new(&self.to, PollFlags::OUT)]
        } else {
            [PollFd::new(&self.from, PollFlags::IN), PollFd::new(&self.to, PollFlags::empty())]
        }
    }

    /// Passes on what can be; false at the end of the bytes or of who reads them. An error is that of our own stream.
    fn pass(&mut self, from: PollFlags, to: PollFlags) -> Result<bool> {
        if to.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            return Ok(false);
        }
        let (readable, writable) = (!from.is_empty(), !to.is_empty());
        if !self.holds() && (self.left == Some(0) || self.left.is_some() && !readable) {
            return Ok(false);
        }
        if self.way == Way::Splice {
            return if readable || writable { self.splice() } else { Ok(true) };
        }
        if !self.holds() && readable && !self.fill()? {
            return Ok(false);
        }
        if self.holds() && (writable || self.way == Way::Now) { self.drain() } else { Ok(true) }
    }

    fn splice(&mut self) -> Result<bool> {
        let length = self.left.map_or(SPLICE, |left| left.min(SPLICE));
        match splice(&self.from, None, &self.to, None, length, SpliceFlags::NONBLOCK) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                self.full = false;
                self.taken(count);
            }
            // Either end may be the reason: the one that was not asked about now is the next to be.
            Err(Errno::AGAIN) => self.full = !self.full,
            Err(Errno::INTR) => {}
            Err(Errno::INVAL) => (self.way, self.full) = (Way::Piecewise, false),
            Err(Errno::PIPE) => return Ok(false),
            Err(errno) => return Err(Error::new(format!("write to {}", self.name)).errno(errno)),
        }
        Ok(true)
    }

    fn taken(&mut self, count: usize) {
        self.left = self.left.map(|left| left.saturating_sub(count));
    }

    /// Reads into the buffer; false at the end.
    fn fill(&mut self) -> Result<bool> {
        self.buffer.resize(self.left.map_or(BUFFER, |left| left.min(BUFFER)), 0);
        self.start = 0;
        let read = rustix::io::read(&self.from, &mut self.buffer[..]);
        self.buffer.truncate(read.unwrap_or(0));
        match read {
            Ok(count) => {
                self.taken(count);
                Ok(count > 0)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(errno) => Err(Error::new(format!("read {}", self.name)).errno(errno)),
        }
    }

    /// Writes out of the buffer; false if nobody will read it.
    fn drain(&mut self) -> Result<bool> {
        let rest = &self.buffer[self.start..];
        let length = if self.way == Way::Piecewise { rest.len().min(PIECE) } else { rest.len() };
        match rustix::io::write(&self.to, &rest[..length]) {
            Ok(count) => self.start += count,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::PIPE) => return Ok(false),
            Err(errno) => return Err(Error::new(format!("write to {}", self.name)).errno(errno)),
        }
        Ok(true)
    }
}
