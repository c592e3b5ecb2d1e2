//! User namespaces for idmapped mounts: mount_setattr(2) takes the maps from one.

use crate::plan::IdMap;
use crate::spec::IdMapping;
use crate::sys::{self, Cloned, Context, Error, Result, ns};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

/// Opens the namespace of the joins, or makes one.
pub fn open(map: &IdMap, joins: &[OwnedFd]) -> Result<OwnedFd> {
    match map {
        IdMap::New(uids, gids) => make(uids, gids),
        IdMap::Joined(i) => {
            let joined = joins.get(*i).ok_or_else(|| Error::new("there is no user namespace to join"))?;
            rustix::io::fcntl_dupfd_cloexec(joined, 3).context(|| "copy the descriptor of the user namespace")
        }
    }
}

/// Makes a user namespace with these maps of users and groups.
///
/// It lives as long as somebody holds it, but only a process can make one, so one is cloned for that time.
pub fn make(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    let what = || "make a user namespace for idmapped mounts";
    let (wait, hold) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
    match sys::clone3(ns::USER, None).context(what)? {
        Cloned::Child(_) => {
            // Ends with its parent too: then nobody holds the other end.
            drop(hold);
            let _ = rustix::io::retry_on_intr(|| rustix::io::read(&wait, &mut [0; 1]));
            sys::exit(0)
        }
        Cloned::Parent(pid, pidfd) => {
            let namespace = mapped(pid, uids, gids);
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            let ended = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(rustix::fd::AsFd::as_fd(&pidfd)), WaitIdOptions::EXITED));
            ended.context(what).and(namespace)
        }
    }
}

fn mapped(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    for (file, list) in [("uid_map", uids), ("gid_map", gids)] {
        let (path, text) = (format!("/proc/{pid}/{file}"), IdMapping::map_text(list));
        let written =
            rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).and_then(|fd| rustix::io::write(fd, text.as_bytes()));
        written.context(|| format!("write {} to {path}, for idmapped mounts", text.trim_end().replace('\n', ", ")))?;
    }
    let path = format!("/proc/{pid}/ns/user");
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(|| format!("open {path}"))
}
