//! `create` and `run`: validate all, then touch; undo in reverse.

use super::decide::{Decided, decide, list, show_others, view};
use super::hooks::{self, Place};
use super::notify::Notify;
use super::status::Status;
use super::timeline::{Timeline, traced};
use super::watch::Watcher;
use super::{Runtime, agent, foreground, listen_fds, owner, resctrl_of, root_mount, write_pid_file};
use crate::arm::Armed;
use crate::cgroup::Entry;
use crate::plan::{Op, Stage};
use crate::sandbox::{Process, joined_proc, spawn};
use crate::spec::{self, Spec};
use crate::store::{Container, ContainerId, Part, ProcessId, Record};
use crate::sys::{Context, Error, Kind, Log, Result, bind_private, ns, prlimit, rfc3339_now};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, listen, socket_with};
use std::path::PathBuf;

/// What `create` and `run` take beside the id.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// The bundle directory.
    pub bundle: PathBuf,
    /// The configuration, if it is not the bundle's `config.json`; relative to the bundle.
    pub config: Option<PathBuf>,
    /// Where to write the pid.
    pub pid_file: Option<PathBuf>,
    /// Receives the terminal's other end.
    pub console_socket: Option<PathBuf>,
    /// Receives a pidfd of the container's process.
    pub pidfd_socket: Option<PathBuf>,
    /// MS_MOVE and chroot(2) instead of pivot_root(2).
    pub no_pivot: bool,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors from 3 on that stay open.
    pub preserve_fds: u32,
    /// `run`: return once the program runs.
    pub detach: bool,
    /// `run`: keep the state directory after the exit.
    pub keep: bool,
    /// Where to write how long each step took.
    pub trace: Option<PathBuf>,
    /// `run`: tell which system calls the seccomp profile refuses.
    pub seccomp_log: bool,
    /// `run`: where to write the least profile under which the container would run the same.
    pub seccomp_record: Option<PathBuf>,
    /// The caller stays when this is done: nothing is left for its exit to close.
    pub stays: bool,
}

/// `keel create`. Warnings are told once all has succeeded: on failure podman wants exactly one line in the log.
pub fn create(runtime: &Runtime, id: &ContainerId, options: &CreateOptions, log: &Log) -> Result<()> {
    traced(options.trace.as_deref(), options.preserve_fds, log, |timeline| create_in(runtime, id, options, log, timeline))
}

fn create_in(runtime: &Runtime, id: &ContainerId, options: &CreateOptions, log: &Log, timeline: &Timeline) -> Result<()> {
    let decided = decide(runtime, id, options, true, timeline)?;
    decided.unknown.iter().for_each(|key| log.debug(|| key.clone()));
    if decided.plan.process.terminal && options.console_socket.is_none() {
        return Err(no_console());
    }
    let (made, _) = Made::begin(runtime, id, options, decided, None, log, timeline)?;
    made.decided.warnings.iter().for_each(|warning| log.warning(warning));
    Ok(())
}

/// `keel run`: the exit code of the program, or 0 when detached.
pub fn run(runtime: &Runtime, id: &ContainerId, options: &CreateOptions, log: &Log) -> Result<i32> {
    traced(options.trace.as_deref(), options.preserve_fds, log, |timeline| run_in(runtime, id, options, log, timeline))
}

fn run_in(runtime: &Runtime, id: &ContainerId, options: &CreateOptions, log: &Log, timeline: &Timeline) -> Result<i32> {
    let decided = decide(runtime, id, options, false, timeline)?;
    decided.unknown.iter().for_each(|key| log.debug(|| key.clone()));
    let terminal = decided.plan.process.terminal;
    if terminal && options.detach && options.console_socket.is_none() {
        return Err(no_console());
    }
    let relay = (!options.detach).then(|| foreground::Relay::prepare(terminal && options.console_socket.is_none())).transpose()?;
    let console = relay.as_ref().and_then(foreground::Relay::socket);
    let (made, process) = Made::begin(runtime, id, options, decided, console, log, timeline)?;
    made.decided.warnings.iter().for_each(|warning| log.warning(warning));
    let place = Place { facts: &made.decided.facts, container: None, like: None, timeline };
    if let Err(error) = hooks::run("poststart", &made.decided.spec.hooks.poststart, &made.record, Status::Running, &place) {
        process.end();
        made.undo(timeline);
        return Err(error);
    }
    made.attend(process, relay, options, log, timeline)
}

pub(super) fn no_console() -> Error {
    Error::new("cannot allocate tty if keel will detach without setting console socket")
        .at("process.terminal")
        .hint("give --console-socket, or set terminal to false")
}

/// A container that has been begun; dropped with an error, it is undone.
pub(super) struct Made {
    pub container: Container,
    pub record: Record,
    entry: Option<Entry>,
    pub notify: Option<Notify>,
    pub decided: Decided,
}

impl Made {
    /// Takes the name: from here on something exists.
    pub(super) fn open(runtime: &Runtime, id: &ContainerId, decided: Decided, timeline: &Timeline) -> Result<Self> {
        let container = timeline.step("make the state directory", "", || runtime.root.create(id))?;
        Ok(Self { container, record: Record::default(), entry: None, notify: None, decided })
    }

    /// From here on something exists. The console is where the terminal goes in the foreground.
    fn begin(
        runtime: &Runtime,
        id: &ContainerId,
        options: &CreateOptions,
        decided: Decided,
        console: Option<OwnedFd>,
        log: &Log,
        timeline: &Timeline,
    ) -> Result<(Self, Process)> {
        let console = decided.console(options, console)?;
        let mut made = Self::open(runtime, id, decided, timeline)?;
        match made.build(options, console, log, timeline) {
            Ok(process) => Ok((made, process)),
            Err(error) => {
                let unanswered = made.decided.watcher.take().and_then(Watcher::failure);
                made.undo(timeline);
                Err(unanswered.unwrap_or(error))
            }
        }
    }

    /// Makes what describes a container, and of its cgroup what a clone needs (`all`: every directory).
    pub(super) fn prepare(&mut self, all: bool, timeline: &Timeline) -> Result<()> {
        let decided = &mut self.decided;
        let bundle = decided.options.bundle.clone();
        let kinds = decided.spec.linux.namespaces.iter().filter_map(|n| spec::names::namespace(&n.kind));
        self.record = Record {
            oci_version: decided.spec.oci_version.clone(),
            id: self.container.id().to_string(),
            rootfs: bundle.join(decided.spec.root.as_ref().map_or("", |root| &root.path)),
            bundle: bundle.clone(),
            created: rfc3339_now(),
            owner: decided.facts.uid,
            creator: Some(ProcessId::own()?),
            namespaces: kinds.fold(0, |set, kind| set | u64::from(kind.cast_unsigned())),
            owns_pid_namespace: decided.spec.linux.namespace("pid").is_some_and(|pid| pid.path.is_empty()),
            cgroup: Part::of(&decided.cgroup)?,
            resctrl: Part::of(&decided.resctrl)?,
            keyring: decided.options.keyring.clone(),
            annotations: decided.spec.annotations.clone(),
            ..Record::default()
        };
        timeline.step("write the record", "", || self.container.save(&self.record))?;
        if decided.notifies {
            self.container.make_notify()?;
        }
        if !decided.options.park {
            self.notify = Notify::bind(&self.container)?;
        }
        // Hooks run in the bundle, as runc's do.
        std::env::set_current_dir(&bundle).context(|| format!("change to the bundle {}", bundle.display()))?;
        let before = decided.cgroup.clone();
        let rootless = decided.facts.rootless();
        let begin = || decided.cgroup.begin(&decided.limits, rootless, all);
        self.entry = Some(timeline.step("make the cgroup", "linux.cgroupsPath", begin)?);
        if decided.cgroup != before {
            self.record.cgroup = Part::of(&decided.cgroup)?;
            self.container.save(&self.record)?;
            // Some hierarchies are not for this user: they can neither be joined nor mounted.
            decided.facts.cgroup = view(&decided.cgroup);
            show_others(&mut decided.facts.cgroup, &decided.cgroup)?;
            decided.plan = list(&decided.spec, &decided.facts, &decided.options)?;
        }
        Ok(())
    }

    fn build(&mut self, options: &CreateOptions, console: Option<OwnedFd>, log: &Log, timeline: &Timeline) -> Result<Process> {
        self.prepare(!self.decided.plan.ops.contains(&Op::AwaitCgroup), timeline)?;
        let decided = &mut self.decided;
        if console.is_some() && options.console_socket.is_none() {
            foreground::fit_console(&mut decided.plan);
        }
        if decided.cgroup.is_none() && !self.record.owns_pid_namespace {
            let words = "the container has neither a cgroup nor a pid namespace of its own: kill --all, ps and delete do not find what \
                         outlives its first process";
            decided.warnings.push(words.into());
        }
        self.record.start_at = decided.plan.last as u32;
        self.record.hands_namespaces = decided.plan.ops.iter().any(|op| matches!(op, Op::Sync(Stage::Namespaces(_))));
        let resctrl = resctrl_of(&self.record)?.map(|groups| groups.create()).transpose()?;
        let _raised = decided.plan.descriptors.map(Descriptors::raise).transpose()?;
        let steps = timeline.steps(&decided.plan)?;
        let mut armed = timeline.step("arm", "", || Armed::new(&decided.plan, decided.filter.take(), steps))?;
        armed.procs = joined_proc::open(&decided.plan, &armed, &decided.facts)?;
        armed.console = console;
        armed.resctrl = resctrl.unwrap_or_default();
        armed.preserve_fds = options.preserve_fds + listen_fds();
        if decided.plan.ops.contains(&Op::Sync(Stage::Created)) {
            armed.listener = Some(listener(&self.container)?);
        }
        let Self { container, record, entry, .. } = self;
        let entry = entry.as_mut().ok_or_else(|| Error::new("there is no cgroup to begin in"))?;
        (armed.into, armed.tasks) = (entry.into.take(), std::mem::take(&mut entry.tasks));
        let Decided { plan, facts, spec, watcher, cgroup, limits, devices, warnings, .. } = decided;
        for op in &plan.ops {
            log.debug(|| format!("the container's process will {}", plan.sentence(op)));
        }
        let place = Place { facts, container: None, like: None, timeline };
        let beside = || {
            keep(container, spec, timeline)?;
            let fill = || cgroup.fill(entry, limits, devices.as_ref(), facts.rootless());
            timeline.step("fill the cgroup", "linux.resources", fill)?;
            warnings.append(&mut entry.warnings);
            Ok(std::mem::take(&mut entry.tasks))
        };
        let process = timeline.step("spawn", "", || {
            spawn(plan, &mut armed, facts, beside, |stage, process| {
                log.debug(|| format!("process {} waits: {stage:?}", process.pid));
                match (stage, watcher.as_mut()) {
                    (Stage::Listener(_), Some(watcher)) => watcher.begin(process, log),
                    _ => reached(stage, process, spec, &place, record, container, options),
                }
            })
        });
        timeline.child(plan, armed.steps);
        // Closed by our exit: a dozen system calls less. Trees, which would keep mounts busy, are closed already. In a caller that stays
        // the child's listening socket would outlive the child, and `start` wait for ever at the door of one that was killed.
        if !options.stays {
            std::mem::forget(armed);
        }
        let process = process?;
        self.entered().inspect_err(|_| process.end())?;
        Ok(process)
    }

    /// All that a container without a process of ours needs: its configuration is kept, its cgroup complete. The way in.
    pub(super) fn complete(&mut self) -> Result<(Option<OwnedFd>, Vec<OwnedFd>)> {
        self.prepare(true, &Timeline::OFF)?;
        let Decided { spec, facts, cgroup, limits, devices, warnings, .. } = &mut self.decided;
        keep(&self.container, spec, &Timeline::OFF)?;
        let entry = self.entry.as_mut().ok_or_else(|| Error::new("there is no cgroup to begin in"))?;
        cgroup.fill(entry, limits, devices.as_ref(), facts.rootless())?;
        warnings.append(&mut entry.warnings);
        Ok((entry.into.take(), std::mem::take(&mut entry.tasks)))
    }

    /// A process is in the container's cgroup.
    pub(super) fn entered(&mut self) -> Result<()> {
        self.entry.as_mut().map_or(Ok(()), Entry::entered)
    }

    /// The program runs: waits for its end, if in the foreground, and deletes the container then. The exit code.
    pub(super) fn attend(
        self,
        process: Process,
        relay: Option<foreground::Relay>,
        options: &CreateOptions,
        log: &Log,
        timeline: &Timeline,
    ) -> Result<i32> {
        // The program may run for long, and keel be killed meanwhile.
        let _ = timeline.write();
        // Others may pause, kill and delete it while it runs.
        self.container.unlock();
        let Some(relay) = relay else {
            return self.notify.map_or(Ok(()), |notify| notify.wait(&process.pidfd, process.pid)).map(|()| 0);
        };
        let code = timeline.step("wait for the program", "", || relay.wait(&process, self.notify.as_ref()))?;
        if !options.keep {
            match self.container.lock() {
                Err(error) if error.get_kind() == Kind::NoContainer => {} // deleted by somebody else
                locked => {
                    locked?;
                    let delete = || super::delete::destroy(&self.container, &self.record, Some(&self.decided.spec), log);
                    timeline.step("delete", "", delete)?;
                }
            }
        }
        self.decided.watcher.map_or(Ok(code), |watcher| watcher.finish(code))
    }

    /// Removes what was made, in reverse. The first failure has been told; a second would only hide it.
    pub(super) fn undo(mut self, timeline: &Timeline) {
        let _ = timeline.step("undo", "", || {
            self.take_back(timeline);
            Ok(())
        });
    }

    fn take_back(&mut self, timeline: &Timeline) {
        if self.record.init.is_some() {
            let place = Place { facts: &self.decided.facts, container: None, like: None, timeline };
            hooks::poststop(&self.decided.spec.hooks.poststop, &self.record, &place);
        }
        if let Some(entry) = self.entry.take() {
            self.decided.cgroup.abandon(entry);
        }
        if let Ok(Some(groups)) = resctrl_of(&self.record) {
            let _ = groups.remove();
        }
        let _ = root_mount::remove(&self.record);
        let _ = self.container.remove();
    }
}

/// The soft limit of open descriptors is as high as it may be; dropped, it is the caller's again.
struct Descriptors([u64; 2]);

impl Descriptors {
    fn raise([soft, hard]: [u64; 2]) -> Result<Self> {
        prlimit(0, libc::RLIMIT_NOFILE, hard, hard).context(|| "raise the soft limit of open descriptors")?;
        Ok(Self([soft, hard]))
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        let [soft, hard] = self.0;
        let _ = prlimit(0, libc::RLIMIT_NOFILE, soft, hard);
    }
}

/// Keeps the configuration, for the commands to come.
fn keep(container: &Container, spec: &Spec, timeline: &Timeline) -> Result<()> {
    timeline.step("keep the configuration", "", || {
        let text = serde_json::to_vec(spec).map_err(|e| Error::new(format!("write the configuration: {e}")))?;
        container.save_config(&text)
    })
}

/// The socket on which the child will wait for `start`.
fn listener(container: &Container) -> Result<OwnedFd> {
    let what = || format!("listen on {}/start.sock", container.path().display());
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context(what)?;
    let address = SocketAddrUnix::new(container.socket()).context(what)?;
    bind_private(&socket, &address).context(what)?;
    listen(&socket, 16).context(what)?;
    Ok(socket)
}

/// What the parent does while the child waits.
fn reached(
    stage: Stage,
    process: &Process,
    spec: &Spec,
    host: &Place<'_>,
    record: &mut Record,
    container: &Container,
    options: &CreateOptions,
) -> Result<()> {
    // The process that is in a pid namespace of others is not the one that the hooks before it were told of.
    if record.init.is_none_or(|init| init.pid != process.pid) {
        record.init = Some(ProcessId::of(process.pid)?);
        // Hooks and other commands see it; where there are no hooks, `finish` writes it at once.
        let hooks = stage == Stage::CreateRuntime || stage == Stage::CreateContainer || !spec.hooks.start_container.is_empty();
        if hooks && stage != Stage::Created {
            container.save(record)?;
        }
    }
    // A hook before pivot_root has the host's files in sight: it does not enter a pid namespace of others, who would see it.
    let kinds = record.namespaces & if record.owns_pid_namespace { !ns::TIME } else { !(ns::TIME | ns::PID) };
    let inside = Place { container: Some((process, kinds)), ..*host };
    match stage {
        Stage::Ids | Stage::IdMap(_) | Stage::NetDevices | Stage::Namespaces(_) => Ok(()),
        Stage::Root(_) => {
            record.root_mount = Some(root_mount::of(process, spec)?);
            container.save(record)
        }
        Stage::CreateRuntime => {
            hooks::run("prestart", &spec.hooks.prestart, record, Status::Creating, host)?;
            hooks::run("createRuntime", &spec.hooks.create_runtime, record, Status::Creating, host)
        }
        Stage::CreateContainer => hooks::run("createContainer", &spec.hooks.create_container, record, Status::Creating, &inside),
        Stage::StartContainer => {
            owner::settle(spec, record, process.pid, host.facts)?;
            hooks::start(spec, record, process, host.facts, host.timeline)?;
            finish(process, record, container, options)
        }
        Stage::Created => {
            owner::settle(spec, record, process.pid, host.facts)?;
            finish(process, record, container, options)
        }
        Stage::Listener(_) => agent::tell(spec, record, Status::Creating, process),
    }
}

/// The last thing before the child may go on alone.
fn finish(process: &Process, record: &mut Record, container: &Container, options: &CreateOptions) -> Result<()> {
    if let Some(path) = &options.pidfd_socket {
        super::send_pidfd(path, process)?;
    }
    if let Some(path) = &options.pid_file {
        write_pid_file(path, process.pid)?;
    }
    record.creator = None;
    container.save(record)
}
