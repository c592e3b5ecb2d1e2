//! A connection to a message bus: one blocking socket, one call at a time, and a limit to every wait.

use super::message::{self, ERROR, METHOD_RETURN, Message, Method, SIGNAL, Value};
use crate::cgroup::freeze::timespec;
use crate::sys::{Context, Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with};
use std::time::{Duration, Instant};

/// How long systemd may take for one answer: it answers nobody while it reads its units again, which can take many
/// seconds on a large host. runc waits as long.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Why a call was answered with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// `org.freedesktop.systemd1.UnitExists`
    pub name: String,
    /// For people.
    pub text: String,
}

/// A connection.
pub(super) struct Bus {
    socket: OwnedFd,
    address: String,
    patience: Duration,
    serial: u32,
    /// Received and not yet a whole message.
    buffer: Vec<u8>,
    /// Signals that came while something else was waited for.
    signals: Vec<Message>,
}

/// The bus of the system, or of this user.
fn addresses(user: bool) -> Result<String> {
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    match (user, variable(if user { "DBUS_SESSION_BUS_ADDRESS" } else { "DBUS_SYSTEM_BUS_ADDRESS" })) {
        (_, Some(address)) => Ok(address),
        (false, None) => Ok("unix:path=/run/dbus/system_bus_socket".into()),
        (true, None) => match variable("XDG_RUNTIME_DIR") {
            Some(dir) => Ok(format!("unix:path={dir}/bus")),
            None => Err(Error::new("neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set")
                .hint("the systemd cgroup manager of an ordinary user is his own systemd, found through one of them")),
        },
    }
}

/// `unix:path=/x,guid=y` or `unix:abstract=z`; of a list the first one that is a unix socket.
fn socket_address(text: &str) -> Option<SocketAddrUnix> {
    text.split(';').find_map(|one| {
        let pairs = one.strip_prefix("unix:")?.split(',').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find_map(|(key, value)| match key {
            "path" => SocketAddrUnix::new(unescape(value)?).ok(),
            "abstract" => SocketAddrUnix::new_abstract_name(&unescape(value)?).ok(),
            _ => None,
        })
    })
}

/// `%20` and its like.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut out = parts.next()?.as_bytes().to_vec();
    for part in parts {
        out.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        out.extend(&part.as_bytes()[2..]);
    }
    Some(out)
}

impl Bus {
    /// Connects to the bus of the system or of this user, as this user.
    pub(super) fn connect(user: bool) -> Result<Self> {
        Self::open(addresses(user)?, PATIENCE)
    }

    fn open(address: String, patience: Duration) -> Result<Self> {
        let what = || format!("connect to the message bus at {address}");
        let place = socket_address(&address).ok_or_else(|| Error::new(what()).hint("it names no unix socket"))?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).context(what)?;
        // A bus that accepts nobody and reads nothing must not hold us either.
        set_socket_timeout(&socket, Timeout::Send, Some(patience)).context(what)?;
        connect(&socket, &place).context(what).map_err(|e| e.hint("is systemd running, with its D-Bus?"))?;
        let mut bus = Self { socket, address, patience, serial: 0, buffer: Vec::new(), signals: Vec::new() };
        bus.authenticate()?;
        let hello = Method {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
        };
        match bus.call(hello, &[])? {
            Ok(_) => Ok(bus),
            Err(refusal) => Err(Error::new(format!("connect to the message bus at {}: {}", bus.address, refusal.text))),
        }
    }

    /// D-Bus Specification, "Authentication Protocol". Without an initial response the bus takes the socket's
    /// credentials for who we are, which is right inside a user namespace too.
    fn authenticate(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.patience;
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for expected in ["DATA", "OK "] {
            let end = loop {
                if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                    break end;
                }
                self.receive(deadline, "the authentication")?;
            };
            let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
            if !line.starts_with(expected.as_bytes()) {
                let words = String::from_utf8_lossy(&line).into_owned();
                return Err(Error::new(format!("the message bus at {} does not let us in: {words}", self.address)));
            }
        }
        Ok(())
    }

    fn send(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let sent = rustix::io::retry_on_intr(|| send(&self.socket, bytes, SendFlags::NOSIGNAL));
            bytes = &bytes[sent.context(|| format!("write to the message bus at {}", self.address))?..];
        }
        Ok(())
    }

    /// Waits for more bytes.
    fn receive(&mut self, deadline: Instant, waited_for: &str) -> Result<()> {
        let what = || format!("read from the message bus at {}", self.address);
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut fds, Some(&timespec(left))) {
            Err(Errno::INTR) => return Ok(()),
            Ok(0) => {
                let words = format!("{waited_for} was not answered within {} s on {}", self.patience.as_secs(), self.address);
                return Err(Error::new(words).hint("systemd or the message bus hangs or is overloaded"));
            }
            other => drop(other.context(what)?),
        }
        let mut bytes = [0; 4096];
        match rustix::io::retry_on_intr(|| recv(&self.socket, &mut bytes, RecvFlags::empty())).context(what)? {
            (0, _) => Err(Error::new(format!("the message bus at {} hung up", self.address))),
            (count, _) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }

    /// The next whole message.
    fn next(&mut self, deadline: Instant, waited_for: &str) -> Result<Message> {
        let foreign = |address: &str, why: &str| Error::new(format!("the message bus at {address} said something strange: {why}"));
        loop {
            match message::length(&self.buffer).map_err(|why| foreign(&self.address, why))? {
                Some(length) if self.buffer.len() >= length => {
                    let bytes: Vec<u8> = self.buffer.drain(..length).collect();
                    return message::decode(&bytes).ok_or_else(|| foreign(&self.address, "it is malformed"));
                }
                _ => self.receive(deadline, waited_for)?,
            }
        }
    }

    /// Calls a method and waits for its answer. The outer error is one of the connection.
    pub(super) fn call(&mut self, method: Method, arguments: &[Value]) -> Result<std::result::Result<Message, Refusal>> {
        self.serial += 1;
        let (serial, deadline) = (self.serial, Instant::now() + self.patience);
        self.send(&message::encode(method, serial, arguments))?;
        loop {
            let message = self.next(deadline, method.member)?;
            match message.kind {
                METHOD_RETURN if message.reply_to == serial => return Ok(Ok(message)),
                ERROR if message.reply_to == serial => {
                    let text = if let Some(Value::Str(text)) = message.body.first() { text.clone() } else { message.error.clone() };
                    return Ok(Err(Refusal { name: message.error, text }));
                }
                SIGNAL => self.signals.push(message),
                _ => {}
            }
        }
    }

    /// Waits for a signal that `wanted` makes something of; those that came before are looked at first.
    pub(super) fn wait<T>(&mut self, what: &str, wanted: impl Fn(&Message) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + self.patience;
        if let Some(found) = std::mem::take(&mut self.signals).iter().find_map(&wanted) {
            return Ok(found);
        }
        loop {
            let message = self.next(deadline, what)?;
            if let Some(found) = (message.kind == SIGNAL).then(|| wanted(&message)).flatten() {
                return Ok(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    #[test]
    fn addresses_are_read() {
        let unix = |text: &str| {
            socket_address(text).map(|address| (address.path_bytes().map(<[u8]>::to_vec), address.abstract_name().map(<[u8]>::to_vec)))
        };
        assert_eq!(unix("unix:path=/run/a%20b,guid=5"), Some((Some(b"/run/a b".to_vec()), None)));
        assert_eq!(unix("tcp:host=x;unix:abstract=/tmp/y"), Some((None, Some(b"/tmp/y".to_vec()))));
        assert_eq!((unix("tcp:host=x"), unix("unix:path=%zz"), unix("")), (None, None, None));
    }

    /// What `Bus::open` says to a bus that says `says` and then nothing.
    fn met(says: &'static [u8]) -> String {
        let name = format!("keel-test-bus-{}-{}", std::process::id(), says.len());
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.write_all(says).unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        });
        let error = Bus::open(format!("unix:abstract={name}"), Duration::from_millis(50)).err().unwrap().to_string();
        server.join().unwrap();
        error
    }

    #[test]
    fn a_bus_that_accepts_nobody_is_an_error() {
        let name = format!("keel-test-bus-{}-full", std::process::id());
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let place = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        rustix::net::bind(&socket, &place).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        // Of the connections that nobody accepts the first fits into the queue.
        let open = || Bus::open(format!("unix:abstract={name}"), Duration::from_millis(50)).err().unwrap().to_string();
        let queued = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        connect(&queued, &place).unwrap();
        let error = open();
        assert!(error.contains("connect to the message bus") && error.contains("temporarily unavailable"), "{error}");
    }

    #[test]
    fn a_bus_that_hangs_or_talks_nonsense_is_an_error() {
        assert!(met(b"").contains("the authentication was not answered within 0 s"), "{}", met(b""));
        assert!(met(b"REJECTED EXTERNAL\r\n").contains("does not let us in: REJECTED EXTERNAL"));
        assert!(met(b"DATA\r\nOK 1234\r\n").contains("Hello was not answered"));
        assert!(met(b"DATA\r\nOK 12345\r\nl\x02\0\x02aaaabbbbcccc").contains("said something strange"));
        assert!(Bus::open("unix:path=/nonexistent/bus".into(), PATIENCE).err().unwrap().to_string().contains("no such file"));
    }
}
