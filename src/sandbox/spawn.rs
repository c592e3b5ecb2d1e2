//! The parent's half: one clone, then answers to the child's reports until it has executed the program or waits for
//! `start`.

use super::report::{Report, Sent, failure};
use super::{child, ids, listener, net_devices, report};
use crate::arm::{self, Armed};
use crate::cgroup::Entry;
use crate::plan::{Facts, Op, Plan, Stage, TASKS_MAX};
use crate::sys::{self, ASK_NAMESPACES, CLONED, Cloned, Context, Error, NAME, Result, ns};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};

/// A spawned process of ours.
pub struct Process {
    /// In our pid namespace.
    pub pid: i32,
    /// Names the process beyond doubt.
    pub pidfd: OwnedFd,
    /// What it has handed over at a stage: its seccomp listener, a mount.
    pub handed: Option<OwnedFd>,
    /// Its namespaces and their kinds, if it had to hand them over ([`Stage::Namespaces`]).
    pub namespaces: Namespaces,
}

/// Descriptors of namespaces, each with its kind, in the order in which they are to be joined.
pub type Namespaces = Vec<(u64, OwnedFd)>;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

impl Process {
    /// A process that has handed over nothing.
    pub fn new(pid: i32, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd, handed: None, namespaces: Vec::new() }
    }

    /// Kills and reaps: nothing of a failed start is left.
    pub fn end(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = self.wait();
    }

    /// Waits for the end and reaps.
    pub fn ended(&self) -> Result<End> {
        let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED));
        let status = status.context(|| format!("wait for process {}", self.pid))?;
        let signal = status.as_ref().and_then(rustix::process::WaitIdStatus::terminating_signal);
        Ok(signal.map_or_else(|| End::Exit(status.and_then(|status| status.exit_status()).unwrap_or_default()), End::Signal))
    }

    /// The same. The exit code as a shell gives it: 128+N for signal N.
    pub fn wait(&self) -> Result<i32> {
        Ok(match self.ended()? {
            End::Exit(code) => code,
            End::Signal(number) => 128 + number,
        })
    }
}

/// Clones and leads the child through its plan. `beside` does what need not be done before the clone, and gives the `tasks`
/// files that the child awaits; `stage` is called for each hook stage and for `Created` with the process while it waits.
/// Returns when the program runs, or when the child waits for `start`.
pub fn spawn(
    plan: &Plan,
    armed: &mut Armed,
    facts: &Facts,
    beside: impl FnOnce() -> Result<Vec<OwnedFd>>,
    mut stage: impl FnMut(Stage, &Process) -> Result<()>,
) -> Result<Process> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).context(|| "make a socket pair for the child")?;
    if let Some(cpus) = &plan.affinity {
        let what = || "run keel on the initial CPUs";
        sys::sched_setaffinity(cpus).context(what).map_err(|e| e.at("process.execCPUAffinity.initial"))?;
    }
    if plan.ops.iter().any(|op| matches!(op, Op::CloneAgain(_))) {
        // `second` has to know who says so.
        rustix::net::sockopt::set_socket_passcred(&ours, true).context(|| "ask for the sender of the child's reports")?;
    }
    // The child allocates nothing.
    armed.tasks.reserve(TASKS_MAX);
    if let Some(steps) = armed.steps {
        steps.cloned().begin();
    }
    let cloned = sys::clone3(plan.clone, armed.into.as_ref().map(AsFd::as_fd));
    let (pid, pidfd) = match cloned.map_err(|errno| refused(plan, armed.into.as_ref(), errno))? {
        Cloned::Child(alone) => {
            drop(ours);
            child::run(plan, armed, theirs, alone)
        }
        Cloned::Parent(pid, pidfd) => (pid, pidfd),
    };
    drop(theirs);
    // What only the child needs would keep the container's mounts and namespaces busy.
    armed.trees.clear();
    armed.joins.clear();
    let mut process = Process::new(pid, pidfd);
    if let Some(steps) = armed.steps {
        steps.cloned().end();
        steps.set_pid(pid);
    }
    let done = beside().and_then(|tasks| {
        let handed = if tasks.is_empty() { Ok(()) } else { hand_tasks(&ours, &tasks) };
        armed.tasks.extend(tasks);
        handed
    });
    let led = done.and_then(|()| lead(plan, facts, &ours, &mut process, armed, &mut stage));
    armed.id_maps.clear();
    match led {
        Ok(()) => Ok(process),
        Err(error) => {
            process.end();
            Err(error)
        }
    }
}

/// The error of the clone. Where the cgroup may be the reason, it names it.
fn refused(plan: &Plan, into: Option<&OwnedFd>, errno: Errno) -> Error {
    let sentence = plan.clone_sentence();
    let cgroup = into.and_then(|fd| rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new()).ok());
    match (cgroup, Entry::refusal_hint(errno)) {
        (Some(cgroup), Some(hint)) => Error::new(format!("{sentence}, in the cgroup {}", cgroup.to_string_lossy())).errno(errno).hint(hint),
        _ => Error::new(sentence).errno(errno),
    }
}

/// Brings the child the `tasks` files that it awaits.
fn hand_tasks(ours: &OwnedFd, tasks: &[OwnedFd]) -> Result<()> {
    match report::send_tasks(ours, tasks) {
        // It has failed meanwhile: its report is there already.
        Err(Errno::PIPE) => Ok(()),
        sent => sent.context(|| "hand the cgroup to the child"),
    }
}

fn lead(
    plan: &Plan,
    facts: &Facts,
    ours: &OwnedFd,
    process: &mut Process,
    armed: &Armed,
    stage: &mut impl FnMut(Stage, &Process) -> Result<()>,
) -> Result<()> {
    let steps = armed.steps;
    let mut reports = Reports { next: 0, second: plan.ops.iter().position(|op| matches!(op, Op::CloneAgain(_))), held: None };
    loop {
        let Some((report, sent)) = reports.receive(ours, process, steps)? else {
            ended(process)?;
            // The end of the exec, as far as it can be seen from here.
            steps.inspect(|steps| steps.child(plan.ops.len() - 1).end());
            return Ok(());
        };
        let answer = steps.map(|steps| steps.parent(report.op as usize));
        let reached = reached(plan, report, sent, process)?;
        answer.inspect(|answer| answer.begin());
        match reached {
            Stage::IdMap(i) => {
                let mapped = process.handed.take().ok_or(Errno::BADF).and_then(|fd| arm::map_ids(&plan.trees[i], &fd, &armed.id_maps));
                mapped.map_err(|errno| failure(plan, report.op, errno.raw_os_error()))?;
            }
            Stage::Ids => ids::establish(plan, facts, process.pid)?,
            Stage::Namespaces(_) => {}
            Stage::NetDevices => net_devices::establish(plan, process.pid)?,
            other => stage(other, process)?,
        }
        process.handed = None;
        answer.inspect(|answer| answer.end());
        match send(ours, b"+", SendFlags::NOSIGNAL) {
            // It has failed meanwhile: its report, or its end, is next.
            Err(Errno::PIPE) => continue,
            sent => sent.context(|| "answer the child")?,
        };
        if reached == Stage::Created {
            return Ok(());
        }
    }
}

/// The child's reports, each in its turn.
struct Reports {
    /// The least index that the next one may have.
    next: usize,
    /// Index of the second clone, until it is made.
    second: Option<usize>,
    /// What the second process has said before the first one told of it.
    held: Option<(Report, Sent)>,
}

impl Reports {
    /// The next report and what came with it; `None` at the end of file. `process` becomes that of the second clone.
    fn receive(&mut self, ours: &OwnedFd, process: &mut Process, steps: Option<sys::Steps>) -> Result<Option<(Report, Sent)>> {
        loop {
            let next = if self.second.is_none() { self.held.take() } else { None };
            let next = next.map_or_else(|| Report::receive(ours).context(|| "receive the child's report"), |held| Ok(Some(held)));
            let Some((report, sent)) = next? else { return Ok(None) };
            let out_of_turn = || Error::new(format!("the child reported operation {} out of turn", report.op));
            if report.op == CLONED {
                self.second.take().ok_or_else(out_of_turn)?;
                *process = second(process, report.errno, &sent)?;
                steps.inspect(|steps| steps.set_pid(report.errno));
                continue;
            }
            let op = report.op as usize;
            if self.second.is_some_and(|second| op > second) {
                // Both processes send on their own, and this one waits for an answer. That of the first is on its way.
                if self.held.replace((report, sent)).is_some() {
                    return Err(out_of_turn());
                }
                continue;
            }
            // The tail runs in sight of others, who might speak in its name: what was answered is not answered again.
            if op < self.next && report.errno <= 0 {
                return Err(out_of_turn());
            }
            self.next = op + 1;
            return Ok(Some((report, sent)));
        }
    }
}

/// The stage that a report tells of, or the error.
fn reached(plan: &Plan, report: Report, sent: Sent, process: &mut Process) -> Result<Stage> {
    if report.errno > 0 {
        let error = failure(plan, report.op, report.errno);
        return Err(match sent.fds.into_iter().next().and_then(report::words_of_context) {
            Some(words) => error.hint(words),
            None => error,
        });
    }
    let Some(Op::Sync(reached)) = plan.ops.get(report.op as usize) else {
        return Err(Error::new(format!("the child reported operation {} out of turn", report.op)));
    };
    if let Stage::Listener(_) = reached {
        let taken = listener::take(report, sent.fds.into_iter().next(), &process.pidfd);
        process.handed = Some(taken.map_err(|errno| failure(plan, report.op, errno.raw_os_error()))?);
    } else if let Stage::Namespaces(kinds) = reached {
        process.namespaces = with_kinds(*kinds, sent.fds);
    } else {
        process.handed = sent.fds.into_iter().next();
    }
    Ok(*reached)
}

/// Those that a process has opened in the order of [`ns::FILES`]. All or none: it may have failed to
/// open them, or this process to take them (EMFILE is no error of recvmsg(2), but fewer of them).
fn with_kinds(kinds: u64, fds: Vec<OwnedFd>) -> Namespaces {
    if fds.len() != ns::files(kinds).count() {
        return Namespaces::new();
    }
    ns::files(kinds).map(|(kind, _)| kind).zip(fds).collect()
}

/// Asks a process that waits for `start` at the other end of `socket` for its namespaces, which are
/// of these kinds.
pub fn ask_namespaces(socket: &OwnedFd, kinds: u64) -> Result<Namespaces> {
    let what = || "ask the container's process for its namespaces";
    send(socket, &[ASK_NAMESPACES], SendFlags::NOSIGNAL).context(what)?;
    let mut answer = [PollFd::new(socket, PollFlags::IN)];
    // It does nothing else but wait, unless somebody has stopped it.
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    if rustix::io::retry_on_intr(|| poll(&mut answer, Some(&limit))).context(what)? == 0 {
        return Err(Error::new("the container's process, which was asked for its namespaces, did not answer within 10 s"));
    }
    let sent = Report::receive(socket).context(what)?.map(|(_, sent)| sent.fds);
    Ok(with_kinds(kinds, sent.unwrap_or_default()))
}

/// What is left to do for `start`: the process has been let go, and answers on `socket` until its program runs. `plan`
/// is that of `plan::after_start`, whose operations the process counts from `first`.
pub fn released(
    plan: &Plan,
    first: u32,
    socket: &OwnedFd,
    process: &mut Process,
    mut stage: impl FnMut(Stage, &Process) -> Result<()>,
) -> Result<()> {
    while let Some((report, sent)) = Report::receive(socket).context(|| "receive the report of the container's process")? {
        let report = Report { op: report.op.saturating_sub(first), ..report };
        let reached = reached(plan, report, sent, process)?;
        stage(reached, process)?;
        process.handed = None;
        send(socket, b"+", SendFlags::NOSIGNAL).context(|| "answer the container's process")?;
    }
    // It is not our child, so that nobody tells us of what it died; nor that it did, where its reaper was quicker than we are.
    if is_ending(process) && executed(process) == Some(false) {
        return Err(Error::new("the container's process was killed before it could execute the program").hint(SECCOMP_KILLS));
    }
    Ok(())
}

/// The socket closed: either the program was executed, or the child was killed before (out of memory in its cgroup, or
/// by somebody's signal).
fn ended(process: &Process) -> Result<()> {
    if is_ending(process) {
        // It has closed its descriptors, and cannot be waited for quite yet.
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        let mut pidfd = [PollFd::new(&process.pidfd, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut pidfd, Some(&second))).context(|| "wait for the child's end")?;
    }
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::PidFd(process.pidfd.as_fd()), options).context(|| "ask for the child's state")?;
    match status.as_ref().and_then(|s| s.terminating_signal()) {
        Some(signal) if executed(process) != Some(true) => {
            let hint = match signal {
                libc::SIGKILL => "a memory limit too small to start the program, or a kill from outside",
                // What sys::exit ends in, and what the kernel kills with.
                libc::SIGILL | libc::SIGSYS => SECCOMP_KILLS,
                _ => "a signal from outside",
            };
            Err(Error::new(format!("the container's process was killed by signal {signal} before it could execute the program")).hint(hint))
        }
        _ => Ok(()),
    }
}

/// Whether a process has given up its memory, which is before it closes its descriptors: it has no executable any more (proc_pid_exe(5)).
fn is_ending(process: &Process) -> bool {
    let executable = format!("/proc/{}/exe", process.pid);
    matches!(rustix::fs::readlink(executable, Vec::new()), Err(Errno::NOENT))
}

const SECCOMP_KILLS: &str = "linux.seccomp refuses the calls that execute it, as `run --seccomp-log` tells, or a signal from outside";

/// Whether a process that has ended had left our executable: its command name is no longer one of ours. A zombie keeps its name; of
/// one that is gone it is not known.
fn executed(process: &Process) -> Option<bool> {
    let own = std::fs::read("/proc/self/comm").ok()?;
    let comm = std::fs::read(format!("/proc/{}/comm", process.pid)).ok()?;
    Some(comm != own && comm.strip_suffix(b"\n") != Some(NAME.to_bytes()))
}

/// The process of a second clone: our child too, through CLONE_PARENT. The first one tells of it and ends. Only its word counts: the
/// second one may be in sight of others, who might speak in its name of any process.
fn second(first: &mut Process, pid: i32, sent: &Sent) -> Result<Process> {
    let known = Pid::from_raw(pid).filter(|_| sent.by == Some(first.pid));
    let known = known.ok_or_else(|| Error::new("the child reported a second clone out of turn"))?;
    first.wait()?;
    let pidfd = pidfd_open(known, PidfdFlags::empty()).context(|| format!("open a pidfd for process {pid}"))?;
    Ok(Process { namespaces: std::mem::take(&mut first.namespaces), ..Process::new(pid, pidfd) })
}
