//! The one small process that stands by a running container.
//!
//! `run` and `start` begin it as a process of its own, from a read-only clone of our executable; it makes the container, owns
//! its terminal or pipes, writes the log, records the end, restarts by policy, checks the health, and answers on a
//! socket. Commands that find no monitor (it was killed) do what it would have done: [`settle`].

mod health;
mod init;
mod link;
pub mod log;
pub mod protocol;
mod stand;
mod start;

pub use init::init;
pub use stand::main;
pub use start::{must_run, settle};

use crate::arm;
use crate::mydocker::container::{Container, Containers, Record, journal};
use crate::mydocker::volume::{Kind, Volumes};
use crate::sys::{Context, Error, Result};
use protocol::{Frame, Hello, Wire};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, socketpair};
use rustix::process::Signal;
use std::process::{Command, Stdio};

/// The hidden command that a monitor is.
pub const COMMAND: &str = "monitor";

/// The command that a health check is.
const COMMAND_EXEC: &str = "exec";

/// Begins a monitor, which starts the container at once; the wire to it.
pub fn begin(container: &Container, hello: Hello) -> Result<Wire> {
    let what = || "start the container's monitor";
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).context(what)?;
    let executable = arm::executable()?;
    let path = executable
        .as_ref()
        .map_or_else(|| "/proc/self/exe".to_owned(), |fd| format!("/proc/self/fd/{}", rustix::fd::AsRawFd::as_raw_fd(fd)));
    let dirs = container.dirs();
    let mut command = Command::new(path);
    std::os::unix::process::CommandExt::arg0(&mut command, "mydocker");
    command.args([
        "--root".as_ref(),
        dirs.data.as_os_str(),
        "--run-root".as_ref(),
        dirs.run.as_os_str(),
        COMMAND.as_ref(),
        container.id().as_ref(),
    ]);
    command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    // Nobody waits for it: it outlives us, or we are its client to the end.
    command.spawn().context(what).map(drop)?;
    let mut wire = Wire::new(ours);
    wire.send(&Frame::Hello(hello));
    Ok(wire)
}

/// Connects to the monitor of a running container; `None` if there is none.
pub fn attach(container: &Container, hello: Hello) -> Result<Option<Wire>> {
    let state = container.state()?;
    if !container.monitored(&state) {
        return Ok(None);
    }
    let what = || format!("connect to the monitor of container {}", container.id());
    let dir = rustix::fs::open(container.run_dir(), rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty());
    let dir = dir.context(what)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).context(what)?;
    match connect(&socket, &address(&dir)?) {
        // It ended meanwhile.
        Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => return Ok(None),
        other => other.context(what)?,
    }
    let mut wire = Wire::new(socket);
    wire.send(&Frame::Hello(hello));
    Ok(Some(wire))
}

/// The socket's address by the directory's descriptor: paths of sockets are at most 107 bytes long (unix(7)).
fn address(dir: &rustix::fd::OwnedFd) -> Result<SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/attach.sock", rustix::fd::AsRawFd::as_raw_fd(dir));
    SocketAddrUnix::new(path).map_err(|errno| Error::new("the address of the monitor's socket").errno(errno))
}

/// What a user's stop begins with.
pub fn stop_signal(record: &Record) -> Signal {
    let name = if record.settings.stop_signal.is_empty() { "TERM" } else { &record.settings.stop_signal };
    crate::lifecycle::signal(name).unwrap_or(Signal::TERM)
}

/// Removes a container that is not running; with its anonymous volumes if `volumes`.
pub fn remove(container: &Container, record: &Record, volumes: bool) -> Result<()> {
    let lock = container.retire()?;
    settle(container)?;
    container.remove(&record.name)?;
    journal::tell(container.dirs(), record, "destroy", &[]);
    drop(lock);
    if volumes {
        let store = Volumes::open(container.dirs())?;
        let anonymous = record.settings.mounts.iter().filter(|mount| mount.kind == Kind::Volume && mount.anonymous);
        // One that another container has by --volumes-from stays; what is gone already need not be removed.
        let others = Containers::new(container.dirs()).list()?;
        let user = |name: &str| {
            let uses = |other: &Container| other.record().is_ok_and(|record| record.settings.mounts.iter().any(|mount| mount.name == name));
            others.iter().find(|other| uses(other)).map(|other| other.id().to_owned())
        };
        anonymous.for_each(|mount| drop(store.remove(&mount.name, |volume| user(&volume.name))));
    }
    Ok(())
}
