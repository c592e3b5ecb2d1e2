//! `exec`: one more process in a running container.

use super::decide::view;
use super::kill::not_running;
use super::status::{Status, look, namespaces};
use super::timeline::{Timeline, traced};
use super::{Runtime, agent, cgroup_of, foreground, listen_fds, note, resctrl_of, write_pid_file};
use crate::arm::{self, Armed};
use crate::cgroup::{Cgroup, Entry};
use crate::plan::{self, Op, Stage};
use crate::sandbox::{Process, spawn};
use crate::spec::{self, Spec};
use crate::store::ContainerId;
use crate::sys::{Error, Kind, Log, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::path::PathBuf;

/// What `exec` takes beside the id.
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    /// Return once the program runs.
    pub detach: bool,
    /// Where to write the pid.
    pub pid_file: Option<PathBuf>,
    /// Receives the terminal's other end.
    pub console_socket: Option<PathBuf>,
    /// Receives a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// Descriptors from 3 on that stay open.
    pub preserve_fds: u32,
    /// Sub-cgroups: `[CONTROLLER,...:]PATH`.
    pub cgroups: Vec<String>,
    /// Also into a paused container, where the program waits for `resume`.
    pub ignore_paused: bool,
    /// Where to write the timeline, which is also that of a failed exec.
    pub trace: Option<PathBuf>,
}

/// `keel exec`: `process` makes the process from the configuration the container was created with. The exit code of the
/// program, or 0 when detached.
pub fn exec(
    runtime: &Runtime,
    id: &ContainerId,
    options: &ExecOptions,
    process: impl FnOnce(&Spec) -> Result<spec::Process>,
    log: &Log,
) -> Result<i32> {
    traced(options.trace.as_deref(), options.preserve_fds, log, |timeline| {
        let (started, relay) = exec_in(runtime, id, options, None, process, log, timeline)?;
        let Some(relay) = relay else { return Ok(0) };
        let _ = timeline.write();
        timeline.step("wait for the program", "", || relay.wait(&started, None))
    })
}

/// [`exec`] of a program without a terminal whose stdin, stdout and stderr are these descriptors and
/// never the caller's own. It returns once the program runs; waiting for its end is up to the caller.
pub fn exec_with_stdio(
    runtime: &Runtime,
    id: &ContainerId,
    options: &ExecOptions,
    stdio: [OwnedFd; 3],
    process: impl FnOnce(&Spec) -> Result<spec::Process>,
    log: &Log,
) -> Result<Process> {
    traced(options.trace.as_deref(), options.preserve_fds, log, |timeline| {
        exec_in(runtime, id, options, Some(stdio), process, log, timeline).map(|(started, _)| started)
    })
}

fn exec_in(
    runtime: &Runtime,
    id: &ContainerId,
    options: &ExecOptions,
    stdio: Option<[OwnedFd; 3]>,
    process: impl FnOnce(&Spec) -> Result<spec::Process>,
    log: &Log,
    timeline: &Timeline,
) -> Result<(Process, Option<foreground::Relay>)> {
    options.pid_file.iter().try_for_each(|file| super::output::check(super::PID_FILE, file))?;
    let present = timeline.step("look at the container", "", || look(runtime, id, false))?;
    match present.status {
        Status::Paused if !options.ignore_paused => {
            return Err(Error::new(format!("cannot exec in a paused container: {id}")).kind(Kind::WrongState).hint("--ignore-paused"));
        }
        Status::Created | Status::Running | Status::Paused => {}
        Status::Creating | Status::Stopped => return Err(not_running(id).within("cannot exec in a stopped container")),
    }
    let init = present.init.ok_or_else(|| not_running(id))?;
    let spec = timeline.step("load", "", || super::kept_spec(&present.container))?;
    let process = process(&spec)?;
    let mut warnings = timeline.step("validate", "", || spec::validate_process(&process))?;
    let attached = !options.detach && stdio.is_none();
    if process.terminal && !attached && options.console_socket.is_none() {
        return Err(Error::new("cannot allocate tty if keel will detach without setting console socket").hint("give --console-socket"));
    }
    let wants_label = !process.apparmor_profile.is_empty() || !process.selinux_label.is_empty();
    let mut facts = arm::facts(wants_label);
    note(&mut facts, &present.record)?;
    let listening = listen_fds();
    arm::preserved(options.preserve_fds + listening)?;
    let cgroup = cgroup_of(&present.record)?.ok_or_else(|| not_running(id))?;
    facts.cgroup = view(&cgroup);
    let first = present.record.init.unwrap_or_default().pid;
    // Who names a cgroup gets that one or none.
    let beside = options.cgroups.is_empty().then_some(first);
    let entry = timeline.step("open the cgroup", "linux.cgroupsPath", || match cgroup.entry(&options.cgroups) {
        // Its processes have left it, and it was removed.
        Err(error) if beside.is_some() && error.get_errno() == Some(Errno::NOENT) => cgroup.entry_beside(first).map_err(|_| error),
        entry => entry,
    })?;
    facts.cgroup.tasks = entry.tasks.len();
    let mut plan = timeline.step("plan", "", || plan::exec(&spec, &process, present.record.namespaces, &facts))?;
    if stdio.is_some() {
        // First of all, so that the process has nothing of the caller's when the container sees it.
        plan.ops.insert(0, Op::Stdio);
        (plan.tail, plan.last) = (plan.tail + 1, plan.last + 1);
    }
    warnings.append(&mut plan.warnings);
    for op in &plan.ops {
        log.debug(|| format!("the process will {}", plan.sentence(op)));
    }
    if let Some(cpus) = &plan.affinity {
        // In words that callers of runc and youki look for.
        log.debug(|| format!("until it is in its cgroup (nsexec in runc): affinity: {:#x}", cpus[0]));
    }
    let compile = |profile| timeline.step("compile the seccomp filter", "linux.seccomp", || plan::seccomp::compile(profile));
    let filter = spec.linux.seccomp.as_ref().map(compile).transpose()?;
    let relay = attached.then(|| foreground::Relay::prepare(process.terminal && options.console_socket.is_none())).transpose()?;
    if relay.as_ref().is_some_and(foreground::Relay::has_terminal) {
        foreground::fit_console(&mut plan);
    }
    let steps = timeline.steps(&plan)?;
    let mut armed = timeline.step("arm", "", || Armed::new(&plan, filter, steps))?;
    armed.console = match &options.console_socket {
        Some(path) => Some(arm::connect_to("console socket", path)?),
        None => relay.as_ref().and_then(foreground::Relay::socket),
    };
    armed.preserve_fds = options.preserve_fds + listening;
    armed.init = Some(init);
    armed.handed = namespaces(&present.record, present.door.as_ref(), &facts)?;
    armed.stdio = stdio;
    armed.resctrl = resctrl_of(&present.record)?.map(|groups| groups.tasks()).transpose()?.unwrap_or_default();
    let agent = |_: Stage, process: &Process| agent::tell(&spec, &present.record, present.status, process);
    let started = timeline.step("spawn", "", || enter(&plan, armed, entry, &facts, &cgroup, beside, agent));
    timeline.child(&plan, steps);
    let started = started.map_err(|error| match look(runtime, id, false).map(|present| present.status) {
        // The kernel kills whoever is on the way into a pid namespace that ends: that is the reason, and not what failed.
        Ok(Status::Stopped) if error.get_kind() != Kind::Exec => not_running(id).within("cannot exec in a stopped container"),
        _ => error,
    })?;
    warnings.iter().for_each(|warning| log.warning(warning));
    if let Some(path) = &options.pidfd_socket {
        super::send_pidfd(path, &started)?;
    }
    if let Some(path) = &options.pid_file {
        write_pid_file(path, started.pid).inspect_err(|_| started.end())?;
    }
    Ok((started, relay))
}

/// A container that delegates moves its processes into children and so makes its own cgroup an inner node, which no
/// process may enter: then the process goes where the container's first one is.
fn enter(
    plan: &plan::Plan,
    mut armed: Armed,
    entry: Entry,
    facts: &plan::Facts,
    cgroup: &Cgroup,
    beside: Option<i32>,
    stage: impl Fn(Stage, &Process) -> Result<()>,
) -> Result<Process> {
    (armed.into, armed.tasks) = (entry.into, entry.tasks);
    let first = spawn(plan, &mut armed, facts, || Ok(Vec::new()), &stage);
    match (first, beside) {
        (Err(error), Some(init)) if armed.into.is_some() && matches!(error.get_errno(), Some(Errno::BUSY | Errno::OPNOTSUPP)) => {
            let beside = cgroup.entry_beside(init)?;
            (armed.into, armed.tasks) = (beside.into, beside.tasks);
            spawn(plan, &mut armed, facts, || Ok(Vec::new()), &stage)
        }
        (other, _) => other,
    }
}
