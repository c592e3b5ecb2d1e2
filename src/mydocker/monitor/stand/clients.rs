//! Who is connected to a monitor, and what they ask.

use super::{GRACE, Stand};
use crate::mydocker::container::Container;
use crate::mydocker::monitor::protocol::{Frame, Hello, Wire};
use crate::mydocker::monitor::{address, stop_signal};
use crate::sys::{Context, Result, bind_private, signal_from_raw};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::pidfd_send_signal;
use rustix::termios::{Winsize, tcsetwinsize};
use std::time::{Duration, Instant};

/// Who is connected.
pub(super) struct Client {
    pub(super) wire: Wire,
    pub(super) hello: Hello,
    /// Bytes of its input that it has not been told are taken.
    owed: usize,
}

impl Stand {
    pub(super) fn welcome(&mut self) {
        let Some(listener) = &self.listener else { return };
        while let Ok(socket) = rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            self.clients.push(Client::new(Wire::new(socket)));
        }
    }

    /// What the clients say; those that are gone are dropped, and the container with its foreground.
    pub(super) fn hear(&mut self) {
        let mut clients = std::mem::take(&mut self.clients);
        for client in &mut clients {
            for frame in client.wire.receive() {
                self.obey(client, frame);
            }
        }
        let (gone, here): (Vec<Client>, Vec<Client>) = clients.into_iter().partition(|client| client.wire.closed);
        self.clients.extend(here);
        if gone.iter().any(|client| client.hello.foreground) {
            self.stopped = true;
            let grace = self.record.settings.stop_timeout.unwrap_or(GRACE);
            let signal = stop_signal(&self.record);
            if let Some(run) = &mut self.run {
                let _ = pidfd_send_signal(&run.pidfd, signal);
                run.deadline = Some(Instant::now() + Duration::from_secs(grace));
            }
        }
    }

    fn obey(&mut self, client: &mut Client, frame: Frame) {
        let run = self.run.as_mut();
        match (frame, run) {
            (Frame::Hello(hello), run) => {
                client.hello = hello;
                // Who comes while it runs need not be told that it has been started.
                if run.is_some() {
                    client.wire.send(&Frame::Started);
                }
            }
            (Frame::Detach, _) => client.hello = Hello::default(),
            (Frame::Input(bytes), run) => {
                client.owed += bytes.len();
                if let Some(run) = run.filter(|_| client.hello.input) {
                    run.waiting.extend(bytes);
                }
            }
            (Frame::InputEnd, Some(run)) if client.hello.input && !run.tty => run.input_ended = true,
            (Frame::Size(rows, columns), Some(run)) if run.tty => {
                if let Some(terminal) = &run.outputs[0] {
                    let _ = tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 });
                }
            }
            (Frame::Signal(number), Some(run)) => {
                if let Some(signal) = signal_from_raw(number) {
                    let _ = pidfd_send_signal(&run.pidfd, signal);
                }
            }
            _ => {}
        }
    }

    /// Sends what is queued, however long a client takes: the end is written down, and nobody else waits for us.
    pub(super) fn flush(&mut self) {
        loop {
            self.clients.iter_mut().for_each(|client| client.wire.flush());
            let mut waiting: Vec<PollFd<'_>> =
                self.clients.iter().filter(|c| c.wire.pending() > 0).map(|c| PollFd::new(&c.wire.socket, PollFlags::OUT)).collect();
            if waiting.is_empty() {
                return;
            }
            let _ = poll(&mut waiting, None);
        }
    }
}

impl Client {
    /// Before it has said what it wants.
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, hello: Hello::default(), owed: 0 }
    }

    /// Its input has gone on: it may send more.
    pub(super) fn taken(&mut self) {
        if self.owed > 0 {
            self.wire.send(&Frame::Taken(std::mem::take(&mut self.owed) as u32));
        }
    }
}

/// The socket for attach, wait and their like; for the owner alone.
pub(super) fn listen(container: &Container) -> Result<OwnedFd> {
    let what = || format!("listen on the socket of container {}", container.id());
    let dir = rustix::fs::open(container.run_dir(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(what)?;
    let _ = std::fs::remove_file(container.run_dir().join("attach.sock"));
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).context(what)?;
    bind_private(&socket, &address(&dir)?).context(what)?;
    rustix::net::listen(&socket, 64).context(what)?;
    Ok(socket)
}
