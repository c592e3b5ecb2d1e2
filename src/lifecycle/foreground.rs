//! The runtime in the foreground: signals go to the program, the terminal is relayed, the exit code comes back.

use super::notify::Notify;
use crate::plan::{Op, Plan};
use crate::sandbox::Process;
use crate::sys::{Context, Error, Result, Signals, catchable_signals, signal_from_raw};
use nix::sys::signal::{SigSet, SigmaskHow, Signal as Number, sigprocmask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg, socketpair};
use rustix::process::{Signal, pidfd_send_signal};
use rustix::termios::{OptionalActions, OutputModes, SpecialCodeIndex, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// What the foreground needs, prepared before the clone: the child puts its own signal mask back.
pub(super) struct Relay {
    signals: Signals,
    sockets: Option<(OwnedFd, OwnedFd)>,
}

impl Relay {
    /// Catches every signal, because all of them are the program's (as below runc and crun) and none may end us before the
    /// program. With a terminal it makes the socket that its master comes through.
    pub fn prepare(terminal: bool) -> Result<Self> {
        let signals = Signals::catch(catchable_signals()).context(|| "prepare to forward signals")?;
        let sockets = terminal.then(|| socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)).transpose();
        Ok(Self { signals, sockets: sockets.context(|| "make a socket pair for the terminal")? })
    }

    /// Whether a terminal is relayed.
    pub fn has_terminal(&self) -> bool {
        self.sockets.is_some()
    }

    /// The child's end.
    pub fn socket(&self) -> Option<OwnedFd> {
        self.sockets.as_ref().and_then(|(_, theirs)| theirs.try_clone().ok())
    }

    /// Relays until the program ends; its exit code.
    /// Hands a message of `notify` on, too, unless there is a terminal: its user sees when the program is ready.
    pub fn wait(self, process: &Process, notify: Option<&Notify>) -> Result<i32> {
        let notify = match &self.sockets {
            Some((ours, _)) => {
                Terminal::new(receive(ours.as_fd())?)?.relay(&self.signals, process)?;
                None
            }
            None => notify,
        };
        // A program may go on without its terminal.
        self.signals_only(process, notify)?;
        process.wait()
    }

    fn signals_only(&self, process: &Process, mut notify: Option<&Notify>) -> Result<()> {
        loop {
            let mut fds = vec![PollFd::new(&process.pidfd, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            fds.extend(notify.map(|notify| PollFd::new(notify.socket(), PollFlags::IN)));
            rustix::io::retry_on_intr(|| poll(&mut fds, None)).context(|| "wait for the container")?;
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready.get(2) == Some(&true) && notify.map_or(Ok(false), |notify| notify.ready(None))? {
                notify = None;
            }
            if ready[0] {
                return Ok(());
            }
            while forward(&self.signals, process).is_some() {}
        }
    }
}

/// The program finds a terminal that fits ours from the start: as large, unless the configuration says how large, and without
/// carriage returns, which ours adds.
pub(super) fn fit_console(plan: &mut Plan) {
    let ours = tcgetwinsize(rustix::stdio::stdin()).ok().map(|ours| (ours.ws_row, ours.ws_col));
    for op in &mut plan.ops {
        if let Op::Console { size, bare_newlines, .. } = op {
            *size = size.or(ours);
            *bare_newlines = true;
        }
    }
}

/// Takes one pending signal and sends it on, and gives it back.
fn forward(signals: &Signals, process: &Process) -> Option<Signal> {
    let signal = signals.next().and_then(signal_from_raw)?;
    // With a terminal its new size tells the program; without one the signal is all that there is.
    if signal != Signal::WINCH {
        let _ = pidfd_send_signal(&process.pidfd, signal);
    }
    Some(signal)
}

/// The terminal's other end, as it comes through a console socket.
pub fn receive(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    let what = || "receive the container's terminal";
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut payload = [0; 64];
    let mut buffers = [std::io::IoSliceMut::new(&mut payload)];
    rustix::io::retry_on_intr(|| recvmsg(socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)).context(what)?;
    let descriptors = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    descriptors.ok_or_else(|| Error::new(what()))
}

/// Our terminal in raw mode beside the container's; put back when dropped.
struct Terminal {
    master: OwnedFd,
    before: Option<Termios>,
}

impl Terminal {
    fn new(master: OwnedFd) -> Result<Self> {
        rustix::io::ioctl_fionbio(&master, true).context(|| "make the terminal non-blocking")?;
        let stdin = rustix::stdio::stdin();
        let before = if isatty(stdin) { tcgetattr(stdin).ok() } else { None };
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            // The container's terminal adds no carriage returns (`fit_console`), so ours goes on doing so.
            raw.output_modes |= before.output_modes & (OutputModes::OPOST | OutputModes::ONLCR);
            // In the background this stops us until we are in the foreground, as it does any program (SIGTTOU).
            let mut stops = SigSet::empty();
            stops.add(Number::SIGTTOU);
            let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&stops), None);
            let done = tcsetattr(stdin, OptionalActions::Now, &raw);
            let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&stops), None);
            done.context(|| "put our terminal into raw mode")?;
        }
        let terminal = Self { master, before };
        terminal.resize();
        Ok(terminal)
    }

    fn resize(&self) {
        if self.before.is_some()
            && let Ok(size) = tcgetwinsize(rustix::stdio::stdin())
        {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// The end of a pipe or a file is that of the program's input, as if Ctrl-D were typed: twice after half a line, which the first
    /// sends off. A terminal that is gone has none.
    fn end(&self, input: &mut Pump) {
        if self.before.is_none()
            && let Ok(modes) = tcgetattr(&self.master)
        {
            let times = if matches!(input.last, None | Some(b'\n')) { 1 } else { 2 };
            input.buffer.extend(std::iter::repeat_n(modes.special_codes[SpecialCodeIndex::VEOF], times));
        }
    }

    /// Copies both ways with a buffer for each, so that neither side's silence stops the other.
    fn relay(&self, signals: &Signals, process: &Process) -> Result<()> {
        let mut input = Pump::default();
        let mut output = Pump::default();
        // What the program wrote is in the terminal when it has ended. Somebody else may still have it, and go on writing.
        let mut ended = false;
        let mut rest = 64;
        loop {
            let master = (if output.is_empty() { PollFlags::IN } else { PollFlags::empty() })
                | (if input.is_empty() { PollFlags::empty() } else { PollFlags::OUT });
            let stdin = if input.is_empty() && !input.closed { PollFlags::IN } else { PollFlags::empty() };
            let exit = if ended { PollFlags::empty() } else { PollFlags::IN };
            let stdout = if output.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            let interests = [
                (self.master.as_fd(), master),
                (rustix::stdio::stdin(), stdin),
                (signals.as_fd(), PollFlags::IN),
                (process.pidfd.as_fd(), exit),
                (rustix::stdio::stdout(), stdout),
            ];
            // Nothing is asked without an interest: poll(2) tells of HUP and ERR all the same, at once and for ever.
            let asked = interests.into_iter().filter(|(_, flags)| !flags.is_empty());
            let mut fds: Vec<PollFd<'_>> = asked.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
            let limit = (ended && output.is_empty()).then_some(&Timespec { tv_sec: 0, tv_nsec: 0 });
            rustix::io::retry_on_intr(|| poll(&mut fds, limit)).context(|| "relay the terminal")?;
            let mut answers = fds.iter().map(PollFd::revents);
            let [on_master, on_stdin, on_signal, on_exit, _] =
                interests.map(|(_, flags)| if flags.is_empty() { flags } else { answers.next().unwrap_or(flags) });
            let readable = on_master.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
            if !on_signal.is_empty() {
                while let Some(signal) = forward(signals, process) {
                    if signal == Signal::WINCH {
                        self.resize();
                    }
                }
            }
            if !on_stdin.is_empty() {
                input.fill(rustix::stdio::stdin());
                if input.closed {
                    self.end(&mut input);
                }
            }
            input.drain(self.master.as_fd());
            if readable && output.is_empty() {
                output.fill(self.master.as_fd());
                rest -= u32::from(ended);
            }
            output.drain(rustix::stdio::stdout());
            // The program is gone and what it wrote has been read: EIO once the last one with the terminal has closed it,
            // nothing more to read, or more than a terminal holds, if somebody else still has it.
            if output.is_empty() && (output.closed || ended && (!readable || rest == 0)) {
                return Ok(());
            }
            ended |= !on_exit.is_empty();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Bytes on their way.
#[derive(Default)]
struct Pump {
    buffer: Vec<u8>,
    last: Option<u8>,
    closed: bool,
}

impl Pump {
    fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    fn fill(&mut self, from: BorrowedFd<'_>) {
        let mut space = [0; 8192];
        match rustix::io::read(from, &mut space) {
            Ok(0) => self.closed = true,
            Ok(length) => {
                self.buffer.extend_from_slice(&space[..length]);
                self.last = self.buffer.last().copied();
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.closed = true,
        }
    }

    fn drain(&mut self, to: BorrowedFd<'_>) {
        while !self.buffer.is_empty() {
            match rustix::io::write(to, &self.buffer) {
                Ok(length) => drop(self.buffer.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody reads any more: the program goes on all the same.
                Err(_) => self.buffer.clear(),
            }
        }
    }
}
