//! Hooks, config.md, "POSIX-platform Hooks": the state on stdin, an environment, a timeout.
//!
//! All six are started by the same spawn as everything else, those of the container with its namespaces joined, `startContainer` with
//! all that the container's program has.

use super::status::{State, Status, state_of};
use super::timeline::Timeline;
use super::{agent, cgroup_of, note, resctrl_of};
use crate::arm::Armed;
use crate::plan::{self, CgroupView, Facts, Plan};
use crate::sandbox::{End, Process, spawn};
use crate::spec::{Hook, Spec};
use crate::store::Record;
use crate::sys::{Context, Error, Result, ns};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::io::Errno;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// How much of a failed hook's output an error shows, in bytes from its end.
const OUTPUT_SHOWN: u64 = 2048;

/// Where hooks run.
pub(super) struct Place<'a> {
    /// The host, as far as a plan needs to know.
    pub facts: &'a Facts,
    /// The container's process and the kinds of namespaces to join, for the hooks that run in the container.
    pub container: Option<(&'a Process, u64)>,
    /// The configuration whose program the hook is to be like, and the record with its cgroup.
    pub like: Option<(&'a Spec, &'a Record)>,
    /// Where it is noted how long each took.
    pub timeline: &'a Timeline,
}

/// Runs the hooks of one kind in order. The first that fails ends it.
pub(super) fn run(kind: &'static str, hooks: &[Hook], record: &Record, status: Status, place: &Place<'_>) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let mut state = state_of(record, status);
    // runtime.md, "State": for a hook in the container's pid namespace the pid as seen from there.
    if let (Some((_, kinds)), Some(init)) = (&place.container, record.init)
        && kinds & ns::PID != 0
    {
        state.pid = init.innermost()?;
    }
    each(kind, hooks, &state, place).collect()
}

/// Runs the hooks `poststop`: all of them, whatever the others end with (runtime.md, "Lifecycle", step 13). What failed.
pub(super) fn poststop(hooks: &[Hook], record: &Record, place: &Place<'_>) -> Vec<Error> {
    each("poststop", hooks, &state_of(record, Status::Stopped), place).filter_map(Result::err).collect()
}

fn each(kind: &'static str, hooks: &[Hook], state: &State, place: &Place<'_>) -> impl Iterator<Item = Result<()>> {
    hooks.iter().enumerate().map(move |(index, hook)| {
        let at = format!("hooks.{kind}[{index}]");
        let ran = place.timeline.step("hook", &at, || one(hook, state, place));
        ran.map_err(|e| e.within(format!("error running {kind} hook #{index}: {}", hook.path)).at(at))
    })
}

/// The hooks `startContainer` of a created container whose first process is `init`.
pub(super) fn start(spec: &Spec, record: &Record, init: &Process, facts: &Facts, timeline: &Timeline) -> Result<()> {
    let container = Some((init, record.namespaces & !ns::TIME));
    let place = Place { facts, container, like: Some((spec, record)), timeline };
    run("startContainer", &spec.hooks.start_container, record, Status::Created, &place)
}

/// The hook's plan, armed. Those of the host have the caller's environment unless they have one, as in runc and crun: hooks that look
/// for their tools in PATH count on it (NVIDIA's, for one).
fn armed(hook: &Hook, state: &State, place: &Place<'_>) -> Result<(Plan, Armed)> {
    let kinds = place.container.as_ref().map_or(0, |(_, kinds)| *kinds);
    let Some((spec, record)) = place.like else {
        let root = CString::new(state.rootfs.as_os_str().as_bytes()).unwrap_or_default();
        let environment = own_environment(place.container.is_some());
        let plan = plan::hook(hook, &environment, kinds, &root, place.facts)?;
        let armed = Armed::new(&plan, None, None)?;
        return Ok((plan, armed));
    };
    let entry = cgroup_of(record)?.map(|cgroup| cgroup.entry(&[])).transpose()?.unwrap_or_default();
    let cgroup = CgroupView { tasks: entry.tasks.len(), ..CgroupView::default() };
    let mut facts = Facts { cgroup, ..place.facts.clone() };
    note(&mut facts, record)?;
    let plan = plan::start_hook(hook, spec, kinds, &facts)?;
    let mut armed = Armed::new(&plan, spec.linux.seccomp.as_ref().map(plan::seccomp::compile).transpose()?, None)?;
    (armed.into, armed.tasks) = (entry.into, entry.tasks);
    armed.resctrl = resctrl_of(record)?.map(|groups| groups.tasks()).transpose()?.unwrap_or_default();
    Ok((plan, armed))
}

fn one(hook: &Hook, state: &State, place: &Place<'_>) -> Result<()> {
    let text = serde_json::to_vec(state).map_err(|e| Error::new(format!("write the state: {e}")))?;
    let input = memory(c"state", &text)?;
    let output = memory(c"output", b"")?;
    let (plan, mut armed) = armed(hook, state, place)?;
    let copy = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3).context(|| "copy a descriptor for the hook");
    if let Some((init, _)) = place.container {
        armed.init = Some(copy(init.pidfd.as_fd())?);
        let namespaces = init.namespaces.iter().map(|(kind, fd)| Ok((*kind, copy(fd.as_fd())?)));
        armed.handed = namespaces.collect::<Result<_>>()?;
    }
    armed.stdio = Some([copy(input.as_fd())?, copy(output.as_fd())?, copy(output.as_fd())?]);
    let listener = |_, process: &Process| place.like.map_or(Ok(()), |(spec, record)| agent::tell(spec, record, Status::Created, process));
    let process = spawn(&plan, &mut armed, place.facts, || Ok(Vec::new()), listener).map_err(Error::nowhere)?;
    match wait(&process, hook.timeout)? {
        End::Exit(0) => Ok(()),
        End::Exit(code) => Err(Error::new(format!("exited with status {code}")).hint(said(output))),
        End::Signal(libc::SIGSYS) => {
            Err(Error::new("killed by signal 31: bad system call, which linux.seccomp does not permit").hint(said(output)))
        }
        End::Signal(number) => Err(Error::new(format!("killed by signal {number}")).hint(said(output))),
    }
}

/// The caller's environment; for a hook whose working directory is the image's, without what would make it load files from there:
/// CVE-2025-23266 came through LD_PRELOAD with such a directory.
fn own_environment(in_image: bool) -> Vec<CString> {
    let absolute = |path: &OsString| {
        let entries = path.as_bytes().split(|&byte| byte == b':').filter(|entry| entry.starts_with(b"/"));
        OsString::from_vec(entries.collect::<Vec<_>>().join(&b':'))
    };
    let kept = |(name, value): (OsString, OsString)| match name.as_bytes() {
        loader if in_image && loader.starts_with(b"LD_") => None,
        b"PATH" if in_image => Some((absolute(&value), name)),
        _ => Some((value, name)),
    };
    let entry = |(value, name): (OsString, OsString)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok();
    std::env::vars_os().filter_map(kept).filter_map(entry).collect()
}

/// Waits on the pidfd; a hook that outlives its timeout is killed.
fn wait(process: &Process, timeout: Option<i64>) -> Result<End> {
    if let Some(seconds) = timeout {
        let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let mut fds = [PollFd::new(&process.pidfd, PollFlags::IN)];
        let ready = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&limit))).context(|| "wait for the hook")?;
        if ready == 0 {
            process.end();
            return Err(Error::new(format!("killed, as it ran longer than its timeout of {seconds} s")));
        }
    }
    process.ended()
}

fn memory(name: &std::ffi::CStr, text: &[u8]) -> Result<OwnedFd> {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC).context(|| "make a memfd for the hook")?;
    let written = rustix::io::write(&fd, text).and_then(|n| if n == text.len() { Ok(()) } else { Err(Errno::NOSPC) });
    written.and_then(|()| seek(&fd, SeekFrom::Start(0))).context(|| "write the hook's input")?;
    Ok(fd)
}

fn said(output: OwnedFd) -> String {
    use std::io::{Read, Seek};
    let mut file = std::fs::File::from(output);
    let length = file.metadata().map_or(0, |m| m.len());
    let mut text = Vec::new();
    let _ = file.seek(std::io::SeekFrom::Start(length.saturating_sub(OUTPUT_SHOWN)));
    let _ = file.read_to_end(&mut text);
    match String::from_utf8_lossy(&text).trim() {
        "" => "it printed nothing".into(),
        text => format!("it printed: {}", text.replace('\n', "; ")),
    }
}
