//! sd_notify(3): a service manager that gave keel a `NOTIFY_SOCKET` hears when the container is ready, as from runc.
//!
//! The container gets a socket of its own, in a directory of the state that is bound to /run/notify, since the manager
//! believes only processes of its unit. `create` makes the directory; `start` and `run` bind the socket and wait for
//! `READY=1`. Nothing else is handed on: the manager must not take orders from a container.

use crate::spec::{Mount, Spec};
use crate::store::Container;
use crate::sys::{Context, Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::fs::Mode;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, recv, sendto, socket_with};
use std::path::Path;

/// Where the container finds it.
const INSIDE: &str = "/run/notify";

/// The manager's socket, if keel was given one: a path, or an abstract name after `@`.
fn manager() -> Result<Option<SocketAddrUnix>> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(None) };
    let what = || format!("NOTIFY_SOCKET={}", name.display());
    let address = match name.as_encoded_bytes() {
        [b'@', rest @ ..] => SocketAddrUnix::new_abstract_name(rest),
        [b'/', ..] => SocketAddrUnix::new(name.as_os_str()),
        _ => return Err(Error::new(format!("{}: neither a path nor an abstract name", what()))),
    };
    address.map(Some).context(what)
}

/// Adds the mount and the variable to the configuration, if keel was given a socket. `directory` is the container's.
pub(super) fn offer(spec: &mut Spec, directory: &Path) -> Result<bool> {
    let (Some(_), Some(process)) = (manager()?, &mut spec.process) else { return Ok(false) };
    process.env.retain(|entry| !entry.starts_with("NOTIFY_SOCKET="));
    process.env.push(format!("NOTIFY_SOCKET={INSIDE}/{}", Container::NOTIFY_SOCKET));
    spec.mounts.push(Mount {
        destination: INSIDE.into(),
        kind: "bind".into(),
        source: directory.to_string_lossy().into_owned(),
        // One may write to a socket all the same.
        options: ["bind", "ro", "nosuid", "nodev", "noexec"].map(str::to_owned).to_vec(),
        ..Mount::default()
    });
    Ok(true)
}

/// The container's end, bound, and the manager's address.
pub(super) struct Notify {
    socket: OwnedFd,
    manager: SocketAddrUnix,
}

impl Notify {
    /// Binds the socket of a container that was offered one, so before its program can look for it.
    pub fn bind(container: &Container) -> Result<Option<Self>> {
        let Some(manager) = manager()?.filter(|_| container.path().join(Container::NOTIFY).is_dir()) else { return Ok(None) };
        let path = container.notify_socket();
        let what = || format!("bind the container's notify socket {path}");
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).context(what)?;
        // That of a start that was killed.
        let _ = rustix::fs::unlink(path.as_str());
        bind(&socket, &SocketAddrUnix::new(path.as_str()).context(what)?).context(what)?;
        // Whoever the container's user is, and its user namespace.
        rustix::fs::chmod(path.as_str(), Mode::from_raw_mode(0o777)).context(what)?;
        Ok(Some(Self { socket, manager }))
    }

    /// Waits until the container says that it is ready, or has ended, and tells the manager, with the pid of the container
    /// unless keel itself stays.
    pub fn wait(&self, pidfd: &OwnedFd, pid: i32) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(pidfd, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(&mut fds, None)).context(|| "wait for the container's READY=1")?;
            let [message, end] = fds.map(|fd| !fd.revents().is_empty());
            if message && self.ready(Some(pid))? || end && !message {
                return Ok(());
            }
        }
    }

    /// To be polled for reading by who waits for other things too.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Takes a message; whether it was the one that is waited for, which is handed on.
    pub fn ready(&self, pid: Option<i32>) -> Result<bool> {
        let mut buffer = [0; 4096];
        let length = recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT).map_or(0, |(length, _)| length);
        if !buffer[..length].split(|b| *b == b'\n').any(|line| line == b"READY=1") {
            return Ok(false);
        }
        let text = pid.map_or("READY=1\n".into(), |pid| format!("READY=1\nMAINPID={pid}\n"));
        sendto(&self.socket, text.as_bytes(), SendFlags::NOSIGNAL, &self.manager).context(|| "tell the service manager READY=1")?;
        Ok(true)
    }
}
