//! Being told when the container runs out of memory.

use super::file::{get, number, open_dir, put};
use super::{Cgroup, Version};
use crate::sys::{Context, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, pread, read};

/// Tells of OOM kills from the moment it was made on.
#[derive(Debug)]
pub struct OomWatch {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// The eventfd that the kernel counts up, and the cgroup: it counts up too when that is removed.
    V1(OwnedFd, OwnedFd),
    /// `memory.events`, which poll(2) tells changes of, and the kills that it told of so far.
    V2(OwnedFd, u64),
}

impl Cgroup {
    /// Watches the container's cgroup; none if it has no memory controller.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let Some(path) = self.dir("memory") else { return Ok(None) };
        let dir = open_dir(&path).context(|| format!("open the cgroup {path}"))?;
        let file = if self.version == Version::V1 { "memory.oom_control" } else { "memory.events" };
        let opened = openat(&dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let kind = match (opened, self.version) {
            (Err(Errno::NOENT), _) => return Ok(None),
            (Err(errno), _) => Err(errno),
            (Ok(control), Version::V1) => register(&dir, &control).map(|event| Kind::V1(event, dir)),
            (Ok(events), Version::V2) => kills(&events).map(|seen| Kind::V2(events, seen)),
        };
        let kind = kind.context(|| format!("watch {path}/{file}"))?;
        Ok(Some(OomWatch { kind }))
    }
}

/// cgroup-v1/memory.rst, "OOM Control": an eventfd is registered by its number and that of the open control file.
fn register(dir: &OwnedFd, control: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    put(dir, "cgroup.event_control", &line)?;
    Ok(event)
}

fn kills(events: &OwnedFd) -> rustix::io::Result<u64> {
    let mut buffer = [0; 512];
    let count = pread(events, &mut buffer, 0)?;
    Ok(number(&String::from_utf8_lossy(&buffer[..count]), "oom_kill").unwrap_or(0))
}

impl OomWatch {
    /// To poll for; [`OomWatch::occurred`] says what it means.
    pub fn poll_fd(&self) -> PollFd<'_> {
        match &self.kind {
            Kind::V1(event, _) => PollFd::new(event, PollFlags::IN),
            Kind::V2(events, _) => PollFd::new(events, PollFlags::PRI),
        }
    }

    /// Whether there was an OOM kill since the last call; nothing once the cgroup is gone, which poll(2) tells of without
    /// end. Never waits.
    pub fn occurred(&mut self) -> Option<bool> {
        match &mut self.kind {
            Kind::V1(event, dir) => match read(event.as_fd(), &mut [0; 8]) {
                Ok(_) => get(dir, "memory.oom_control").ok().map(|_| true),
                Err(_) => Some(false),
            },
            Kind::V2(events, seen) => kills(events).ok().map(|now| std::mem::replace(seen, now) < now),
        }
    }
}
