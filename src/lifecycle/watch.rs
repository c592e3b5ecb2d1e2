//! `--seccomp-log` and `--seccomp-record`: which system calls a profile refuses, and which a container uses.
//!
//! The calls wait for an answer (`plan::seccomp::watched`). Somebody has to give it at any time, also while keel waits for a
//! poststart hook that waits for the program: so it is a process of its own, which ends with the last process under the
//! filter, also if keel is killed. If it is killed itself, the kernel answers ENOSYS in its place.

use super::{CreateOptions, output};
use crate::plan::seccomp::{self, Call, Filter};
use crate::sandbox::Process;
use crate::spec::{Seccomp, Spec};
use crate::sys::{self, Cloned, Context, Error, Log, Notification, Result, SeccompData, SockFilter};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, CWD, accessat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// What was asked for, then the process that answers.
pub(super) struct Watcher {
    /// Names our own calls to the filter.
    pub mark: u64,
    tell: bool,
    record: Option<PathBuf>,
    /// The profile that was asked for; what is recorded permits no more.
    base: Seccomp,
    /// Its program.
    program: Vec<SockFilter>,
    helper: Option<(Process, OwnedFd)>,
}

impl Watcher {
    /// Judges what was asked for. To record without a profile is to begin with one that permits everything.
    pub fn prepare(spec: &mut Spec, options: &CreateOptions) -> Result<Option<Self>> {
        let flag = match (&options.seccomp_record, options.seccomp_log) {
            (None, false) => return Ok(None),
            (Some(_), _) => "--seccomp-record",
            _ => "--seccomp-log",
        };
        if options.detach {
            return Err(Error::new(format!("{flag} with --detach")).hint("somebody has to answer while the container runs"));
        }
        let present = spec.linux.seccomp.clone().filter(|profile| !profile.default_action.is_empty() || !profile.syscalls.is_empty());
        if present.is_none() && options.seccomp_record.is_none() {
            return Err(Error::new("--seccomp-log without a profile: nothing is refused").at("linux.seccomp"));
        }
        let base = present.unwrap_or_else(|| Seccomp { default_action: "SCMP_ACT_ALLOW".into(), ..Seccomp::default() });
        if base.notifies() {
            return Err(Error::new(format!("{flag} with SCMP_ACT_NOTIFY: the kernel takes one listener")).at("linux.seccomp"));
        }
        if let Some(path) = &options.seccomp_record {
            writable(path)?;
            seccomp::recordable(&base).map_err(|rule| {
                Error::new("--seccomp-record with a profile that permits by default and refuses by argument")
                    .at(format!("linux.seccomp.syscalls[{rule}].args"))
                    .hint("record without a profile, or with one that refuses by default")
            })?;
        }
        spec.linux.seccomp = Some(base.clone());
        let (mark, record) = (super::random()?, options.seccomp_record.clone());
        Ok(Some(Self { mark, tell: options.seccomp_log, record, base, program: Vec::new(), helper: None }))
    }

    /// The filter to load in the place of the profile's own.
    pub fn filter(&mut self, filter: Filter) -> Filter {
        let watched = seccomp::watched(&filter, self.record.is_some(), self.mark);
        self.program = filter.program;
        watched
    }

    /// What will not be told, each a sentence.
    fn untold(&self) -> Option<&'static str> {
        let traps = |action: &str| action == "SCMP_ACT_TRAP";
        let some = traps(&self.base.default_action) || self.base.syscalls.iter().any(|rule| traps(&rule.action));
        let warning = "linux.seccomp: what SCMP_ACT_TRAP refuses is not told, as only the kernel can raise that signal";
        (self.tell && some).then_some(warning)
    }

    /// The process has handed its listener over and waits: from now on somebody answers.
    pub fn begin(&mut self, watched: &Process, log: &Log) -> Result<()> {
        self.untold().iter().for_each(|words| log.notice(words));
        let listener = watched.handed.as_ref().ok_or_else(|| Error::new("there is no seccomp listener"))?;
        let (results, theirs) = pipe_with(PipeFlags::CLOEXEC).context(|| "make a pipe for the seccomp listener")?;
        let what = || "clone the process that answers system calls";
        match sys::clone3(0, None).context(what)? {
            Cloned::Parent(pid, pidfd) => self.helper = Some((Process::new(pid, pidfd), results)),
            Cloned::Child(_) => {
                close_all_but(&[Some(listener.as_fd()), Some(theirs.as_fd()), Some(watched.pidfd.as_fd()), log.descriptor()]);
                let log = if self.tell { Some(log) } else { None };
                let heard = Helper { listener: listener.as_fd(), program: &self.program, log, init: watched }.serve();
                let _ = std::fs::File::from(theirs).write_all(&serde_json::to_vec(&heard).unwrap_or_default());
                sys::exit(0);
            }
        }
        Ok(())
    }

    /// Nobody is under the filter any more: writes the profile. `code` is the exit code as the kernel has it, back comes
    /// the one that the profile's own action would have given.
    pub fn finish(mut self, code: i32) -> Result<i32> {
        let Some(heard) = self.hear()? else { return Ok(code) };
        if let Some(path) = &self.record {
            let used = heard.used.iter().map(|(arch, nr, first)| call(*arch, *nr, *first)).collect();
            write_profile(path, &seccomp::minimal(&self.base, &used))?;
        }
        Ok(if heard.killed && code == 128 + libc::SIGKILL { 128 + libc::SIGSYS } else { code })
    }

    /// Why a start failed, if it is that nobody answered. The container's process is gone by now.
    pub fn failure(mut self) -> Option<Error> {
        self.hear().err()
    }

    /// Waits for the helper's end.
    fn hear(&mut self) -> Result<Option<Heard>> {
        let Some((process, results)) = self.helper.take() else { return Ok(None) };
        let mut text = Vec::new();
        std::fs::File::from(results).read_to_end(&mut text).context(|| "read which system calls were made")?;
        process.wait()?;
        let heard: Heard = serde_json::from_slice(&text)
            .map_err(|_| Error::new("the process that answered system calls was killed before it could tell which they were"))?;
        match heard.failed {
            0 => Ok(Some(heard)),
            errno => Err(Error::new("answer the container's system calls")
                .errno(Errno::from_raw_os_error(errno))
                .hint("--seccomp-log and --seccomp-record need Linux 5.9")),
        }
    }
}

/// What the helper has heard, as it crosses the pipe.
#[derive(Default, Serialize, Deserialize)]
struct Heard {
    /// Architecture, number and, where that says which call it is, first argument of all calls that went on.
    used: BTreeSet<(u32, u32, u64)>,
    /// The container's first process was killed in the kernel's place.
    killed: bool,
    /// The errno at which it gave up.
    failed: i32,
}

fn call(arch: u32, nr: u32, first: u64) -> Call {
    Call::of(&SeccompData { nr, arch, args: [first, 0, 0, 0, 0, 0], ..SeccompData::default() })
}

/// The process that answers.
struct Helper<'a> {
    listener: BorrowedFd<'a>,
    program: &'a [SockFilter],
    /// Where refusals are told.
    log: Option<&'a Log>,
    /// The container's first process.
    init: &'a Process,
}

impl Helper<'_> {
    /// Until nobody is under the filter any more: the listener hangs up (Linux 5.9).
    fn serve(&self) -> Heard {
        let mut heard = Heard::default();
        let mut told = BTreeSet::new();
        loop {
            let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
            match rustix::io::retry_on_intr(|| poll(&mut fds, None)) {
                Ok(_) if fds[0].revents().contains(PollFlags::IN) => {}
                _ => return heard,
            }
            let waiting = match sys::notification(self.listener) {
                Ok(waiting) => waiting,
                // It was interrupted or killed meanwhile.
                Err(Errno::NOENT | Errno::INTR) => continue,
                Err(errno) => return self.give_up(heard, errno),
            };
            let verdict = seccomp::verdict(self.program, &waiting.data);
            let SeccompData { arch, nr, args, .. } = waiting.data;
            if seccomp::permits(verdict) {
                let first = call(arch, nr, args[0]).multiplexed.map_or(0, |_| args[0]);
                heard.used.insert((arch, nr, first));
            } else if let (Some(log), true) = (self.log, told.insert((arch, nr, verdict))) {
                log.notice(&refusal(&waiting, verdict));
            }
            match self.answer(&waiting, verdict) {
                Ok(killed) => heard.killed |= killed,
                // Nobody waits any more.
                Err(Errno::NOENT) => {}
                // A kernel that cannot let a call go on.
                Err(errno) => return self.give_up(heard, errno),
            }
        }
    }

    /// Until its exec the container's process has the listener too and would wait for itself.
    fn give_up(&self, heard: Heard, errno: Errno) -> Heard {
        let _ = pidfd_send_signal(&self.init.pidfd, Signal::KILL);
        Heard { failed: errno.raw_os_error(), ..heard }
    }

    /// Gives the profile's answer; whether that was the end of the container's first process.
    fn answer(&self, waiting: &Notification, verdict: u32) -> rustix::io::Result<bool> {
        if seccomp::permits(verdict) {
            return sys::answer(self.listener, waiting.id, None).map(|()| false);
        }
        let errno = match verdict & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_ERRNO => verdict & libc::SECCOMP_RET_DATA,
            _ => match self.kill(waiting) {
                Ok(pid) => return Ok(pid == self.init.pid),
                // It must not go on, whatever happens.
                Err(_) => libc::EPERM as u32,
            },
        };
        sys::answer(self.listener, waiting.id, Some(errno.cast_signed())).map(|()| false)
    }

    /// SIGKILL, as a SIGSYS from outside would be nothing to the first process of a pid namespace. Gives the process.
    fn kill(&self, waiting: &Notification) -> rustix::io::Result<i32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", waiting.pid)).map_err(|_| Errno::SRCH)?;
        let group = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok()).and_then(Pid::from_raw);
        let group = group.ok_or(Errno::SRCH)?;
        let pidfd = pidfd_open(group, PidfdFlags::empty())?;
        if !sys::still_waits(self.listener, waiting.id) {
            return Err(Errno::NOENT);
        }
        pidfd_send_signal(&pidfd, Signal::KILL)?;
        Ok(group.as_raw_pid())
    }
}

/// One sentence. All six registers are shown, of which the call uses the first.
fn refusal(waiting: &Notification, verdict: u32) -> String {
    let call = Call::of(&waiting.data);
    let name = call.name.map_or_else(|| format!("system call {}", waiting.data.nr), String::from);
    let args = waiting.data.args.map(|arg| format!("{arg:#x}")).join(", ");
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", waiting.pid)).unwrap_or_default();
    let through = match call.architecture {
        Some(name) if name == seccomp::NATIVE.name() => String::new(),
        Some(name) => format!(" by {name}"),
        None => " by an unknown architecture".into(),
    };
    let what = format!("seccomp refused {name}({args}){through} to process {} ({})", waiting.pid, comm.trim_end());
    match verdict & libc::SECCOMP_RET_ACTION_FULL {
        libc::SECCOMP_RET_ERRNO => {
            Error::new(what).errno(Errno::from_raw_os_error((verdict & libc::SECCOMP_RET_DATA).cast_signed())).to_string()
        }
        _ => format!("{what}: killed"),
    }
}

/// Neither the container's lock nor its sockets are this process's business. What is closed is never used again, as it ends
/// without running destructors.
fn close_all_but(keep: &[Option<BorrowedFd<'_>>]) {
    let mut keep: Vec<u32> = keep.iter().flatten().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep {
        if fd > first {
            let _ = sys::close_range(first, fd - 1, false);
        }
        first = first.max(fd + 1);
    }
    let _ = sys::close_range(first, u32::MAX, false);
}

/// How messages call the file of `--seccomp-record`.
const PROFILE: &str = "the seccomp profile";

/// Sees that a profile can be written, before anything is made.
fn writable(path: &Path) -> Result<()> {
    output::check(PROFILE, path)?;
    let what = || format!("write {PROFILE} {}", path.display());
    let directory = path.parent().filter(|_| path.file_name().is_some()).ok_or_else(|| Error::new(what()))?;
    accessat(CWD, directory, Access::WRITE_OK | Access::EXEC_OK, rustix::fs::AtFlags::EACCESS).context(what)
}

fn write_profile(path: &Path, profile: &Seccomp) -> Result<()> {
    let text = serde_json::to_string_pretty(profile).map_err(|e| Error::new(format!("write {PROFILE} {}: {e}", path.display())))?;
    output::write(PROFILE, path, &(text + "\n"))
}
