//! The parent's half: one clone, then answers to the child's reports until it has executed the program or waits for
//! `start`.

use super::report::{CLONED, Report, failure};
use super::{child, ids, listener, net_devices, report};
use crate::arm::{self, Armed};
use crate::plan::{Facts, Op, Plan, Stage, TASKS_MAX};
use crate::sys::{self, Cloned, Context, Error, Result, ns};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
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
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

impl Process {
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
    let outside = Outside::enter(plan, armed)?;
    // The child allocates nothing.
    armed.tasks.reserve(TASKS_MAX);
    if let Some(steps) = armed.steps {
        steps.cloned().begin();
    }
    let cloned = sys::clone3(plan.clone, armed.into.as_ref().map(AsFd::as_fd));
    if let Ok(Cloned::Child) = cloned {
        drop(ours);
        child::run(plan, armed, theirs);
    }
    outside.leave()?;
    drop(theirs);
    let Cloned::Parent(pid, pidfd) = cloned.context(|| plan.clone_sentence())? else { unreachable!("the child never returns") };
    // What only the child needs would keep the container's mounts and namespaces busy.
    armed.trees.clear();
    armed.joins.clear();
    let mut process = Process { pid, pidfd, handed: None };
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
    loop {
        let Some((report, sent)) = Report::receive(ours).context(|| "receive the child's report")? else {
            ended(process)?;
            // The end of the exec, as far as it can be seen from here.
            steps.inspect(|steps| steps.child(plan.ops.len() - 1).end());
            return Ok(());
        };
        if report.op == CLONED {
            process.wait()?;
            *process = second(report.errno)?;
            steps.inspect(|steps| steps.set_pid(report.errno));
            continue;
        }
        let answer = steps.map(|steps| steps.parent(report.op as usize));
        let reached = reached(plan, report, sent, process)?;
        answer.inspect(|answer| answer.begin());
        match reached {
            Stage::IdMap(i) => {
                let mapped = process.handed.take().ok_or(Errno::BADF).and_then(|fd| arm::map_ids(&plan.trees[i], &fd, &armed.id_maps));
                mapped.map_err(|errno| failure(plan, report.op, errno.raw_os_error()))?;
            }
            Stage::Ids => ids::establish(plan, facts, process.pid)?,
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

/// The stage that a report tells of, or the error.
fn reached(plan: &Plan, report: Report, sent: Option<OwnedFd>, process: &mut Process) -> Result<Stage> {
    if report.errno > 0 {
        return Err(failure(plan, report.op, report.errno));
    }
    let Some(Op::Sync(reached)) = plan.ops.get(report.op as usize) else {
        return Err(Error::new(format!("the child reported operation {} out of turn", report.op)));
    };
    if let Stage::Listener(_) = reached {
        let taken = listener::take(report, sent, &process.pidfd);
        process.handed = Some(taken.map_err(|errno| failure(plan, report.op, errno.raw_os_error()))?);
    } else {
        process.handed = sent;
    }
    Ok(*reached)
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

/// Whether a process that has ended had left our executable: its command name is no longer ours. A zombie keeps its name; of one that
/// is gone it is not known.
fn executed(process: &Process) -> Option<bool> {
    let own = std::fs::read("/proc/self/comm").ok()?;
    std::fs::read(format!("/proc/{}/comm", process.pid)).ok().map(|comm| comm != own)
}

/// The process of a second clone: our child too, through CLONE_PARENT.
fn second(pid: i32) -> Result<Process> {
    let known = Pid::from_raw(pid).ok_or_else(|| Error::new("the second clone gave no process"))?;
    let pidfd = pidfd_open(known, PidfdFlags::empty()).context(|| format!("open a pidfd for process {pid}"))?;
    Ok(Process { pid, pidfd, handed: None })
}

/// Namespaces that the parent is in only for the time of the clone.
struct Outside {
    back: Vec<(u64, OwnedFd)>,
    /// Nothing is cloned after this but by the same plan: an exec.
    last: bool,
}

impl Outside {
    fn enter(plan: &Plan, armed: &Armed) -> Result<Self> {
        let mut outside = Self { back: Vec::new(), last: plan.join_init != 0 };
        if plan.join_init != 0 {
            let init = armed.init.as_ref().ok_or_else(|| Error::new("there is no init to join"))?;
            outside.join(plan.join_init, init, "the container's")?;
        }
        for &i in &plan.join_outside {
            let join = &plan.joins[i];
            outside.join(join.kind, &armed.joins[i], &join.path.to_string_lossy()).map_err(|e| e.at(format!("{}.path", join.at)))?;
        }
        Ok(outside)
    }

    fn join(&mut self, kind: u64, to: impl AsFd, name: &str) -> Result<()> {
        let (word, file) = match kind {
            ns::PID => ("pid", "pid"),
            ns::NET => ("network", "net"),
            ns::IPC => ("ipc", "ipc"),
            ns::UTS => ("uts", "uts"),
            ns::CGROUP => ("cgroup", "cgroup"),
            ns::TIME => ("time", "time"),
            _ => ("mount", "mnt"),
        };
        let own = rustix::fs::open(format!("/proc/self/ns/{file}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        self.back.push((kind, own.context(|| format!("open our own {word} namespace"))?));
        sys::setns(to, kind).context(|| format!("join {name} {word} namespace"))
    }

    /// Root of a user namespace (rootless podman) may leave for a pid namespace of his, but not come back to one that
    /// belongs to the first user namespace. It concerns children to come, of which an exec has no other.
    fn leave(self) -> Result<()> {
        let back = |(kind, fd): (u64, OwnedFd)| match sys::setns(fd, kind) {
            Err(Errno::PERM) if kind == ns::PID && self.last => Ok(()),
            done => done.context(|| "step back into our own namespaces"),
        };
        self.back.into_iter().rev().try_for_each(back)
    }
}
