//! `start`: lets the waiting process go, and says so if it could not execute the program.

use super::hooks::{self, Place};
use super::notify::Notify;
use super::status::{Present, Status, knock, look, namespaces};
use super::timeline::Timeline;
use super::{Runtime, agent, delete};
use crate::plan::Facts;
use crate::spec::Spec;
use crate::store::ContainerId;
use crate::sys::{Context, Error, Kind, Log, Result};
use crate::{arm, plan, sandbox};
use rustix::fd::OwnedFd;
use rustix::net::{SendFlags, send};

/// `keel start`. Returns when the program runs and the poststart hooks have. `protect` runs before anything of ours enters
/// the container: only a hook may, and its file may be the image's (CVE-2019-5736).
pub fn start(runtime: &Runtime, id: &ContainerId, log: &Log, protect: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut present = look(runtime, id, true)?;
    let word = match present.status {
        Status::Created => None,
        Status::Stopped => Some("cannot start a container that has stopped"),
        Status::Creating => Some("cannot start a container that is being created"),
        Status::Running | Status::Paused => Some("cannot start an already running container"),
    };
    if let Some(word) = word {
        return Err(Error::new(format!("{word}: {id}")).kind(Kind::WrongState));
    }
    let pidfd = present.init.take().ok_or_else(|| Error::new("the container's process is gone"))?;
    let (container, record) = (&present.container, &present.record);
    let mut process = sandbox::Process::new(record.init.map_or(0, |init| init.pid), pidfd);
    let spec = super::kept_spec(container)?;
    if !spec.hooks.start_container.is_empty() {
        protect()?;
    }
    let labelled = spec.process.as_ref().is_some_and(|process| !process.apparmor_profile.is_empty() || !process.selinux_label.is_empty());
    let facts = match spec.hooks.start_container.is_empty() && spec.hooks.poststart.is_empty() {
        true => Facts::default(),
        false => arm::facts(labelled),
    };
    let mut door = present.door.take();
    if !spec.hooks.start_container.is_empty() {
        process.namespaces = namespaces(record, door.as_ref(), &facts)?;
        // A hook may take long, and others want to ask the process meanwhile.
        drop(door);
        if let Err(error) = hooks::start(&spec, record, &process, &facts, &Timeline::OFF) {
            undo(&present, &process.pidfd, &spec, log);
            return Err(error);
        }
        door = knock(container);
    }
    let notify = Notify::bind(container)?;
    let what = || format!("tell the container's process to start: {id}");
    let socket = door.as_ref().ok_or_else(|| Error::new(what()).hint("its process has ended"))?;
    send(socket, b"+", SendFlags::NOSIGNAL).context(what)?;
    let listener = |_, process: &sandbox::Process| {
        agent::tell(&spec, record, Status::Creating, process).inspect_err(|_| drop(delete::end(record, &process.pidfd)))
    };
    sandbox::released(&plan::after_start(&spec)?, record.start_at, socket, &mut process, listener)?;
    container.remove_socket();
    let host = Place { facts: &facts, container: None, like: None, timeline: &Timeline::OFF };
    if let Err(error) = hooks::run("poststart", &spec.hooks.poststart, record, Status::Running, &host) {
        undo(&present, &process.pidfd, &spec, log);
        return Err(error);
    }
    let Some(notify) = notify else { return Ok(()) };
    // It may take long: others may pause, kill and delete the container meanwhile.
    container.unlock();
    notify.wait(&process.pidfd, process.pid)
}

/// runtime.md, "Lifecycle", steps 7 and 9: a failed hook stops the container, which is destroyed, and its poststop hooks run, as after
/// a failed hook of `create` or `run`. Who then deletes it hears that it does not exist: containerd's shim takes that for success, and
/// podman says `--force`. What cannot be undone is left to `delete`; the hook's failure is the one to tell.
fn undo(present: &Present, init: &OwnedFd, spec: &Spec, log: &Log) {
    let _ = delete::end(&present.record, init).and_then(|()| delete::destroy(&present.container, &present.record, Some(spec), log));
}
