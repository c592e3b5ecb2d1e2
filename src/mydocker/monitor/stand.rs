//! The monitor's process: one loop that waits for everything at once.

mod clients;

use clients::{Client, listen};

use super::health::Health;
use super::link::Link;
use super::log::Writer;
use super::protocol::{AHEAD, FRAME_MAX, Frame, Wire, failure_code};
use super::start::{Started, settle, start};
use crate::lifecycle;
use crate::mydocker::container::{Container, Containers, HealthState, Record, State, Status, journal};
use crate::mydocker::files::{Dirs, make_dir};
use crate::store::ProcessId;
use crate::sys::{Context, Error, Kind, Result, rfc3339_now};
use nix::sys::signal::{SigSet, SigmaskHow, Signal as Number, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A client that is this many bytes behind stops the reading of the program's output: nothing is lost, and the program
/// waits for who reads it, as at a pipe.
const BEHIND: usize = 1 << 20;

/// Between the first two restarts; doubles up to a minute, as docker's does.
const PAUSE: Duration = Duration::from_millis(100);

/// After a run of this length the pauses begin anew.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// How long the output of a container whose processes are gone may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a foreground whose front-end was killed has to end before it is killed too, unless `--stop-timeout` says.
const GRACE: u64 = 10;

/// The hidden command `monitor`; the exit code of the process.
pub fn main(dirs: &Dirs, id: &str) -> i32 {
    match Stand::prepare(dirs, id) {
        Ok(mut stand) => {
            stand.stand();
            0
        }
        // Nobody can be told: the front-end sees its wire end.
        Err(_) => 1,
    }
}

/// A program that runs.
struct Run {
    pidfd: OwnedFd,
    tty: bool,
    /// stdout and stderr, or a terminal and nothing; `None` once ended.
    outputs: [Option<OwnedFd>; 2],
    input: Option<OwnedFd>,
    waiting: VecDeque<u8>,
    input_ended: bool,
    health: Option<Health>,
    /// Its network is ours while it runs.
    _link: Link,
    begun: Instant,
    /// When to kill it, as its foreground is gone.
    deadline: Option<Instant>,
}

struct Stand {
    container: Container,
    record: Record,
    own: ProcessId,
    signals: SignalFd,
    log: Writer,
    clients: Vec<Client>,
    listener: Option<OwnedFd>,
    run: Option<Run>,
    /// Its pid; `run` is out of sight while it is served.
    program: Option<i32>,
    /// A user stopped the container, or its foreground is gone: no restart.
    stopped: bool,
    restarts: u32,
}

impl Stand {
    fn prepare(dirs: &Dirs, id: &str) -> Result<Self> {
        let what = || "begin to stand by a container";
        // The wire came as our standard input; the container is to inherit none of it.
        let wire = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).context(what)?;
        let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(what)?;
        rustix::stdio::dup2_stdin(&null).context(what)?;
        // A session of its own: it survives the terminal.
        let _ = rustix::process::setsid();
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context(what)?;
        let mut mask = SigSet::empty();
        [Number::SIGHUP, Number::SIGINT, Number::SIGTERM, Number::SIGCHLD, Number::SIGPIPE].into_iter().for_each(|signal| mask.add(signal));
        let signals = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)
            .and_then(|()| SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK));
        let signals = signals.map_err(|errno| Error::new(what()).errno(Errno::from_raw_os_error(errno as i32)))?;
        let container = Containers::new(dirs).find(id)?;
        let record = container.record()?;
        let log = Writer::open(&container.log(), record.settings.log)?;
        let clients = vec![Client::new(Wire::new(wire))];
        let own = ProcessId::own()?;
        Ok(Self { container, record, own, signals, log, clients, listener: None, run: None, program: None, stopped: false, restarts: 0 })
    }

    /// From the first start to the end that no restart follows.
    fn stand(&mut self) {
        self.greet();
        if let Err(error) = self.claim() {
            self.clients[0].wire.send(&Frame::Failed(failure_code(&error), error.to_string()));
            return self.flush();
        }
        let mut pause = PAUSE;
        let last = loop {
            let before = self.container.state().unwrap_or_default();
            let ended = match self.begin() {
                Ok(()) => {
                    let lasted = self.run_to_end();
                    if lasted >= GOOD_RUN {
                        pause = PAUSE;
                    }
                    self.container.state().map(|state| (state.status == Status::Restarting, Frame::Exit(state.exit_code)))
                }
                Err(error) => {
                    let code = failure_code(&error);
                    self.failed(code, &error, before);
                    Ok((false, Frame::Failed(code, error.to_string())))
                }
            };
            let (again, frame) = ended.unwrap_or((false, Frame::Exit(255)));
            if !again || !self.rest(pause) {
                break frame;
            }
            pause = (pause * 2).min(Duration::from_secs(60));
            self.restarts += 1;
        };
        let mut last = Some(last);
        if self.record.settings.auto_remove {
            // Nobody need wait for files to be removed.
            let (container, record) = (self.container.clone(), self.record.clone());
            let _ = super::remove_and_tell(&container, &record, true, || self.part(last.take()));
        }
        self.part(last);
    }

    /// The last word to the clients.
    fn part(&mut self, last: Option<Frame>) {
        let Some(last) = last else { return };
        // Who connects now finds nobody and asks the files.
        self.listener = None;
        self.clients.iter_mut().for_each(|client| client.wire.send(&last));
        self.flush();
        // They need not wait for our end.
        self.clients.clear();
    }

    /// Of two starts of a container one wins, and none that is being removed begins.
    fn claim(&self) -> Result<()> {
        make_dir(&self.container.run_dir())?;
        let (own, boot) = (self.own, self.container.boot().to_owned());
        let changed = self.container.try_change(|state| {
            let busy = match state.status {
                Status::Running | Status::Paused | Status::Restarting => "running already",
                Status::Removing | Status::Dead => "being removed",
                _ if self.container.monitored(state) => "being started already",
                Status::Created | Status::Exited => "",
            };
            if !busy.is_empty() {
                return Err(Error::new(format!("container {} is {busy}", self.container.id())).kind(Kind::WrongState));
            }
            // Somebody wants it to run. What a user wishes from now on holds, whatever becomes of this start and of restarts.
            (state.monitor, state.boot, state.stopped_by_user) = (Some(own), boot, false);
            Ok(())
        });
        changed.map(drop)
    }

    /// The first frame on the first wire says what the front-end wants.
    fn greet(&mut self) {
        let first = &mut self.clients[0];
        let mut fds = [PollFd::new(&first.wire.socket, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&Timespec { tv_sec: 5, tv_nsec: 0 }));
        self.hear();
    }

    /// Starts the container and says so.
    fn begin(&mut self) -> Result<()> {
        self.record = self.container.record()?;
        if self.listener.is_none() {
            self.listener = Some(listen(&self.container)?);
        }
        let begun = Instant::now();
        let restarts = self.restarts;
        let check = self.record.settings.health.clone();
        let health = check.as_ref().map(|_| HealthState { status: "starting".into(), ..HealthState::default() });
        // Written down before the program is executed: killed at any moment, we leave none that nobody knows of.
        let ready = |process, attachments, ports| {
            let changed = self.container.change(|state| {
                let (monitor, stopped_by_user) = (state.monitor, state.stopped_by_user);
                let (boot, finished) = (std::mem::take(&mut state.boot), std::mem::take(&mut state.finished));
                let running = State { status: Status::Running, process: Some(process), started: rfc3339_now(), ..State::default() };
                *state = State { monitor, boot, finished, stopped_by_user, restarts, health, attachments, ports, ..running };
            });
            changed.map(drop)
        };
        let Started { pidfd, process, outputs, input, link, warnings } = start(&self.container, &self.record, ready)?;
        self.program = Some(process.pid);
        journal::tell(self.container.dirs(), &self.record, "start", &[]);
        let tty = self.record.settings.tty;
        let health = check.map(|check| Health::new(check, &self.container));
        let waiting = VecDeque::new();
        self.run = Some(Run { pidfd, tty, outputs, input, waiting, input_ended: false, health, _link: link, begun, deadline: None });
        for client in &mut self.clients {
            for warning in warnings.iter().filter(|_| restarts == 0) {
                client.wire.send(&Frame::Errors(format!("WARNING: {warning}\n").into_bytes()));
            }
            client.wire.send(&Frame::Started);
        }
        Ok(())
    }

    /// It could not start. docker calls a container that never ran created, also then.
    fn failed(&self, code: i32, error: &Error, before: State) {
        let _ = self.container.change(|state| {
            *state = State { stopped_by_user: state.stopped_by_user, ..before };
            state.status = if state.started.is_empty() { Status::Created } else { Status::Exited };
            (state.exit_code, state.error, state.process, state.monitor) = (code, error.to_string(), None, None);
            state.disconnect();
        });
    }

    /// Stands by the program until it has ended and all of it is cleared away; how long it ran.
    fn run_to_end(&mut self) -> Duration {
        while !self.turn(None) {}
        let Some(mut run) = self.run.take() else { return Duration::ZERO };
        let status = waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(&run.pidfd)), WaitIdOptions::EXITED).ok().flatten();
        let code =
            status.map_or(255, |status| status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or_default()));
        let ids = self.container.runtime().and_then(|runtime| Ok((runtime, self.container.runtime_id()?)));
        let oom = ids.and_then(|(runtime, id)| lifecycle::oom_kills(&runtime, &id)).unwrap_or(0) > 0;
        let lasted = run.begun.elapsed();
        run.input = None;
        // Its processes are gone after this, so that its pipes end.
        let _ = settle(&self.container);
        let until = Instant::now() + PATIENCE;
        while self.pass(&mut run) && Instant::now() < until {}
        self.log.finish();
        // `update` and `rename` may have changed it.
        if let Ok(record) = self.container.record() {
            self.record = record;
        }
        if oom {
            journal::tell(self.container.dirs(), &self.record, "oom", &[]);
        }
        let policy = self.record.settings.restart;
        let (own, restarts, stopped) = (self.own, self.restarts, self.stopped);
        let _ = self.container.change(|state| {
            let again = policy.again(code, restarts, state.stopped_by_user || stopped);
            state.status = if again { Status::Restarting } else { Status::Exited };
            state.monitor = again.then_some(own);
            (state.process, state.exit_code, state.oom_killed, state.finished) = (None, code, oom, rfc3339_now());
            state.disconnect();
        });
        journal::tell(self.container.dirs(), &self.record, "die", &[("exitCode", &code.to_string())]);
        lasted
    }

    /// Waits before a restart; false if a user wants none.
    fn rest(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while !self.stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            self.turn(Some(left));
        }
        let _ = self.container.change(|state| (state.status, state.monitor) = (Status::Exited, None));
        false
    }

    /// Waits for the next thing to happen, at most so long, and does it. Whether the program has ended.
    fn turn(&mut self, limit: Option<Duration>) -> bool {
        let full = self.clients.iter().any(|client| client.wire.pending() > BEHIND);
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        fds.extend(self.listener.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        for client in &self.clients {
            let out = if client.wire.pending() > 0 { PollFlags::OUT } else { PollFlags::empty() };
            fds.push(PollFd::new(&client.wire.socket, PollFlags::IN | out));
        }
        let mut timeout = limit;
        let mut program = None;
        if let Some(run) = &self.run {
            program = Some(fds.len());
            fds.push(PollFd::new(&run.pidfd, PollFlags::IN));
            fds.extend(run.outputs.iter().flatten().filter(|_| !full).map(|fd| PollFd::new(fd, PollFlags::IN)));
            fds.extend(run.input.iter().filter(|_| !run.waiting.is_empty()).map(|fd| PollFd::new(fd, PollFlags::OUT)));
            let next = [run.health.as_ref().and_then(Health::next), run.deadline].into_iter().flatten().min();
            let left = next.map(|at| at.saturating_duration_since(Instant::now()));
            timeout = [timeout, left].into_iter().flatten().min();
        }
        let timeout = timeout.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        let _ = poll(&mut fds, timeout.as_ref());
        let ended = program.is_some_and(|at| !fds[at].revents().is_empty());
        drop(fds);
        self.signalled();
        self.welcome();
        self.hear();
        if let Some(mut run) = self.run.take() {
            if !full {
                self.pass(&mut run);
            }
            run.feed();
            let room = run.waiting.len() < AHEAD;
            if let Some(health) = &mut run.health {
                health.turn(&self.container);
            }
            if run.deadline.is_some_and(|at| at <= Instant::now()) {
                run.deadline = None;
                let _ = pidfd_send_signal(&run.pidfd, Signal::KILL);
            }
            self.run = Some(run);
            if room {
                self.clients.iter_mut().for_each(Client::taken);
            }
        } else {
            self.clients.iter_mut().for_each(Client::taken);
        }
        self.clients.iter_mut().for_each(|client| client.wire.flush());
        ended
    }

    /// SIGTERM is a command's word that the container is not to be started again. Children that are nobody's are reaped.
    fn signalled(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match Number::try_from(info.ssi_signo.cast_signed()) {
                Ok(Number::SIGTERM) => self.stopped = true,
                Ok(Number::SIGCHLD) => self.reap(),
                _ => {}
            }
        }
    }

    /// As a subreaper we inherit what the container's processes leave behind; those that we wait for otherwise stay.
    fn reap(&self) {
        let health = self.run.as_ref().and_then(|run| run.health.as_ref()).and_then(Health::pid);
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        for pid in
            children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|pid| Some(*pid) != health && Some(*pid) != self.program)
        {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
        }
    }

    /// What the program wrote goes into the log and to the clients. Whether there may be more.
    fn pass(&mut self, run: &mut Run) -> bool {
        let mut space = [0; FRAME_MAX];
        let mut more = false;
        for stream in 0..2 {
            let Some(output) = &run.outputs[stream] else { continue };
            match rustix::io::read(output, &mut space[..]) {
                Ok(0) => run.outputs[stream] = None,
                Ok(count) => {
                    more = true;
                    self.log.write(stream, &space[..count]);
                    let bytes = space[..count].to_vec();
                    let frame = if stream == 0 { Frame::Output(bytes) } else { Frame::Errors(bytes) };
                    self.clients.iter_mut().filter(|client| client.hello.output).for_each(|client| client.wire.send(&frame));
                }
                Err(Errno::INTR) => more = true,
                Err(Errno::AGAIN) => {}
                // A terminal that nobody has open any more says EIO.
                Err(_) => run.outputs[stream] = None,
            }
        }
        more
    }
}

impl Run {
    /// Passes the input on, and its end.
    fn feed(&mut self) {
        let Some(input) = &self.input else {
            self.waiting.clear();
            return;
        };
        while !self.waiting.is_empty() {
            let (first, _) = self.waiting.as_slices();
            match rustix::io::write(input, first) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // The program has closed its input.
                Err(_) => self.waiting.clear(),
            }
        }
        if self.input_ended {
            self.input = None;
        }
    }
}
