//! A conversation with CRIU: `criu swrk`, one request with its notifications, over a socket (CRIU's rpc.proto).
//!
//! The messages are protocol buffers. What is said of them here is two kinds of fields, numbers and bytes, so they are written
//! and read by hand.

use super::criu_fields::{notify as notified, opts, req, resp, restore_resp};
use crate::cgroup::{Cgroup, Version};
use crate::sandbox::Process;
use crate::store::Container;
use crate::sys::{self, CStrings, Cloned, Context, Error, MountAttr, Result};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType, recvmsg, send, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// `criu_req_type`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
}

/// Longer than any answer: a type, a pid, CRIU's last error.
const ANSWER_MAX: usize = 64 << 10;

/// What CRIU finds its socket by.
const SOCKET: i32 = 3;

/// A protocol buffer under construction.
#[derive(Clone, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A field of a number, an enumeration or a truth value.
    pub fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3);
        self.varint(value);
    }

    /// A field of a truth value; false is the same as none.
    pub fn flag(&mut self, field: u32, value: bool) {
        if value {
            self.number(field, 1);
        }
    }

    /// A field of text.
    pub fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// A field that is a message itself.
    pub fn message(&mut self, field: u32, value: &Message) {
        self.bytes(field, &value.0);
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }
}

/// One field of a received message.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message; ends at the first that is not whole.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    fn varint(rest: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, tail) = rest.split_first()?;
            *rest = tail;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    std::iter::from_fn(move || {
        let key = varint(&mut rest)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut rest)?),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (bytes, tail) = rest.split_at_checked(length)?;
                rest = tail;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((key >> 3, value))
    })
}

fn number(message: &[u8], field: u32) -> Option<u64> {
    fields(message).find_map(|(number, value)| match value {
        Value::Number(value) if number == u64::from(field) => Some(value),
        _ => None,
    })
}

fn bytes(message: &[u8], field: u32) -> Option<&[u8]> {
    fields(message).find_map(|(number, value)| match value {
        Value::Bytes(value) if number == u64::from(field) => Some(value),
        _ => None,
    })
}

/// Where the hierarchy of v2 is, without those of v1 beside it.
const UNIFIED: &CStr = c"/sys/fs/cgroup";

/// Where the cgroups of a container are shown to CRIU. Otherwise it mounts cgroup2 anew to look for them, and a mount from the
/// host's cgroup namespace takes the options of the whole host, `nsdelegate` for one, for its own (4.2.1; cgroup-v2.rst,
/// "Mounting": they are system-wide). Made for v2 alone; taken away when dropped.
pub(super) struct Yard(Option<PathBuf>);

impl Yard {
    /// A link for a dump of this process, which is made from the host's mount namespace. For a restore what [`Surroundings::unified`] is
    /// mounted on: its processes have other roots, in which a link led elsewhere.
    pub fn new(container: &Container, cgroup: &Cgroup, dumped: Option<i32>) -> Result<Self> {
        if cgroup.version() != Version::V2 {
            return Ok(Self(None));
        }
        let beside = beside(dumped)?;
        container.make_yard(dumped.map(|_| UNIFIED.to_string_lossy()).as_deref(), &beside).map(|dir| Self(Some(dir)))
    }

    /// What it is mounted on.
    pub fn unified(&self) -> Option<PathBuf> {
        self.0.as_ref().map(|dir| dir.join("unified"))
    }

    /// Tells CRIU.
    pub fn show(&self, request: &mut Message) {
        if let Some(dir) = &self.0 {
            request.text(opts::CGROUP_YARD, &dir.to_string_lossy());
        }
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        self.0.iter().for_each(|dir| Container::clear_yard(dir));
    }
}

/// Where a process, or we, are in hierarchies of v1 beside v2, each under the name that CRIU looks for. They are nothing of the container's:
/// it is shown empty directories in their place, so that it makes and changes nothing there, and what is restored stays where we are.
fn beside(pid: Option<i32>) -> Result<Vec<PathBuf>> {
    let file = pid.map_or_else(|| "/proc/self/cgroup".into(), |pid| format!("/proc/{pid}/cgroup"));
    let text = std::fs::read_to_string(&file).context(|| format!("read {file}"))?;
    let places = text.lines().filter_map(|line| {
        let (name, path) = line.split_once(':')?.1.split_once(':')?;
        let name = name.strip_prefix("name=").unwrap_or(name);
        (!matches!(name, "" | "unified")).then(|| Path::new(name).join(path.trim_start_matches('/')))
    });
    // A process outside our cgroup namespace is at `/..`: CRIU will tell.
    Ok(places.filter(|place| place.components().all(|part| matches!(part, Component::Normal(_)))).collect())
}

/// Where CRIU runs: a restore begins where the container is to be.
#[derive(Default)]
pub(super) struct Surroundings {
    /// The v2 cgroup to be born in.
    pub into: Option<OwnedFd>,
    /// The `tasks` files of the v1 cgroups, and resctrl groups, to enter.
    pub tasks: Vec<OwnedFd>,
    /// A root file system that has to be a mount point, in a mount namespace of CRIU's own.
    pub root: Option<PathBuf>,
    /// A directory in CRIU's own mount namespace on which the cgroups of v2 are shown.
    pub unified: Option<PathBuf>,
    /// The session keyring that what is restored has.
    pub keyring: Option<CString>,
    /// Descriptors that CRIU gets from [`Surroundings::FIRST`] on.
    pub handed: Vec<OwnedFd>,
}

impl Surroundings {
    /// The number of the first descriptor handed over.
    pub const FIRST: i32 = SOCKET + 1;
}

/// A running `criu swrk`. When dropped it is waited for: it takes back what it had begun itself.
pub(super) struct Criu {
    socket: OwnedFd,
    process: Process,
}

impl Criu {
    /// Executes CRIU with our stdio, which becomes that of what is restored.
    pub fn start(given: Option<&Path>, surroundings: &Surroundings) -> Result<Self> {
        let program = find(given)?;
        let what = || format!("execute {}", program.display());
        let nul = |_| Error::new(format!("{}: the path contains a NUL byte", what()));
        let path = CString::new(program.as_os_str().as_bytes()).map_err(nul)?;
        let argv = CStrings::new(vec![c"criu".into(), c"swrk".into(), c"3".into()]);
        let environment =
            std::env::vars_os().filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok());
        let envp = CStrings::new(environment.collect());
        let root = surroundings.root.as_ref().map(|root| CString::new(root.as_os_str().as_bytes()).map_err(nul)).transpose()?;
        let unified = surroundings.unified.as_ref().map(|dir| CString::new(dir.as_os_str().as_bytes()).map_err(nul)).transpose()?;
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context(what)?;
        let (errors, told) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
        // Above the numbers that they are copied to.
        let last = Surroundings::FIRST + surroundings.handed.len() as i32;
        let high = |fd: OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, last).context(what);
        let (theirs, told) = (high(theirs)?, high(told)?);
        let handed = surroundings.handed.iter().map(|fd| high(fd.try_clone().context(what)?)).collect::<Result<Vec<_>>>()?;
        let ignored = sys::ignored_signals();
        match sys::clone3(0, surroundings.into.as_ref().map(AsFd::as_fd)).context(what)? {
            Cloned::Child(_) => {
                let enter = || -> rustix::io::Result<()> {
                    surroundings.tasks.iter().try_for_each(|tasks| rustix::io::write(tasks, b"0").map(drop))?;
                    if let Some(root) = &root {
                        sys::unshare(sys::ns::MOUNT)?;
                        // Slaves, not private: from them CRIU gives what was bound their part in the host's peer groups.
                        sys::mount_setattr(rustix::fs::CWD, c"/", true, &MountAttr::propagation(libc::MS_SLAVE))?;
                        rustix::mount::mount_bind_recursive(&**root, &**root)?;
                        if let Some(unified) = &unified {
                            rustix::mount::mount_bind(UNIFIED, &**unified)?;
                        }
                    }
                    if let Some(keyring) = &surroundings.keyring {
                        sys::join_session_keyring(keyring)?;
                    }
                    sys::dup_to(&theirs, SOCKET)?;
                    (Surroundings::FIRST..).zip(&handed).try_for_each(|(number, fd)| sys::dup_to(fd, number))?;
                    sys::close_range(last as u32, u32::MAX, true)?;
                    sys::default_signals(ignored)?;
                    Err(sys::execve(&path, &argv, &envp))
                };
                if let Err(errno) = enter() {
                    let _ = rustix::io::write(&told, &errno.raw_os_error().to_ne_bytes());
                }
                sys::exit(1)
            }
            Cloned::Parent(pid, pidfd) => {
                drop((theirs, told, handed));
                let criu = Self { socket, process: Process::new(pid, pidfd) };
                let mut errno = [0; 4];
                match std::fs::File::from(errors).read(&mut errno).context(what)? {
                    0 => Ok(criu),
                    _ => Err(Error::new(what()).errno(Errno::from_raw_os_error(i32::from_ne_bytes(errno)))),
                }
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.pid
    }

    /// Sends a request and hears CRIU to its end. `notify` is told each step by CRIU's name for it, with the first process's
    /// pid and a descriptor where there is one; CRIU waits meanwhile. The pid that a restore gives.
    pub fn ask(&self, ask: Ask, options: &Message, mut notify: impl FnMut(&str, i32, Option<OwnedFd>) -> Result<()>) -> Result<i32> {
        let mut request = Message::default();
        request.number(req::TYPE, ask as u64);
        request.message(req::OPTS, options);
        self.send(&request)?;
        let mut refused = None;
        loop {
            let (answer, sent) = self.receive()?;
            let success = number(&answer, resp::SUCCESS) == Some(1);
            if number(&answer, resp::TYPE) != Some(Ask::Notify as u64) {
                let errno = number(&answer, resp::CR_ERRNO).map(|errno| Errno::from_raw_os_error(errno as i32));
                return match (refused, errno) {
                    // CRIU has taken everything back by now.
                    (Some(refused), _) => Err(refused),
                    _ if success => {
                        Ok(bytes(&answer, resp::RESTORE).and_then(|restored| number(restored, restore_resp::PID)).unwrap_or(0) as i32)
                    }
                    (None, errno) => {
                        let errno = errno.filter(|errno| errno.raw_os_error() > 0);
                        Err(errno.into_iter().fold(Error::new("CRIU failed"), Error::errno))
                    }
                };
            }
            let told = bytes(&answer, resp::NOTIFY).unwrap_or_default();
            let name = String::from_utf8_lossy(bytes(told, notified::SCRIPT).unwrap_or_default()).into_owned();
            let done = notify(&name, number(told, notified::PID).unwrap_or(0) as i32, sent);
            let mut reply = Message::default();
            reply.number(req::TYPE, Ask::Notify as u64);
            reply.number(req::NOTIFY_SUCCESS, u64::from(done.is_ok()));
            self.send(&reply)?;
            refused = refused.or(done.err());
        }
    }

    fn send(&self, message: &Message) -> Result<()> {
        send(&self.socket, &message.0, SendFlags::NOSIGNAL).context(|| "speak to CRIU").map(drop)
    }

    fn receive(&self) -> Result<(Vec<u8>, Option<OwnedFd>)> {
        let mut answer = vec![0; ANSWER_MAX];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [std::io::IoSliceMut::new(&mut answer)];
        let received = rustix::io::retry_on_intr(|| recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC));
        let length = received.context(|| "hear CRIU")?.bytes;
        if length == 0 {
            return Err(Error::new("CRIU ended without an answer"));
        }
        let sent = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        answer.truncate(length);
        Ok((answer, sent))
    }
}

impl Drop for Criu {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        let _ = self.process.wait();
    }
}

/// The program: `--criu PATH`, or a name, else `criu`, in `$PATH`, which is the host's.
fn find(given: Option<&Path>) -> Result<PathBuf> {
    let name = match given {
        Some(path) if path.components().count() > 1 => return std::path::absolute(path).context(|| format!("--criu {}", path.display())),
        Some(name) => name,
        None => Path::new("criu"),
    };
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    let found = std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_absolute() && path.is_file());
    found.ok_or_else(|| {
        let what = format!("{}: executable file not found in $PATH", name.display());
        Error::new(what).hint("install CRIU, version 4 for recent kernels, or name it with --criu PATH")
    })
}

/// The lines of a log that say what went wrong, the last few.
pub(super) fn excerpt(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // CRIU raises a limit for itself, says so, and goes on without.
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("Error (") && !line.contains("Can't setup RLIMIT_NOFILE")).collect();
    let shown = errors.iter().rev().take(4).rev().map(|line| line.split_once("Error (").map_or(*line, |(_, rest)| rest.trim()));
    let shown: Vec<String> = shown.map(|line| line.split_once("): ").map_or(line, |(_, words)| words).trim().to_owned()).collect();
    match shown.as_slice() {
        [] => format!("see {}", log.display()),
        lines => format!("{}; see {}", lines.join("; "), log.display()),
    }
}

/// The number of a descriptor, as CRIU finds it in our /proc/PID/fd.
pub(super) fn own(fd: &impl AsFd) -> u64 {
    fd.as_fd().as_raw_fd() as u64
}

#[cfg(test)]
mod tests {
    use super::{Message, bytes, number};

    #[test]
    fn what_is_written_is_read() {
        let mut inner = Message::default();
        inner.number(1, 4242);
        let mut outer = Message::default();
        outer.number(1, 1);
        outer.flag(2, true);
        outer.flag(3, false);
        outer.message(4, &inner);
        outer.text(68, "a name");
        outer.number(20, u64::MAX);
        assert_eq!(&outer.0[..6], [0x08, 1, 0x10, 1, 0x22, 3], "keys as protobuf has them");
        assert_eq!((number(&outer.0, 1), number(&outer.0, 2), number(&outer.0, 3)), (Some(1), Some(1), None));
        assert_eq!(bytes(&outer.0, 4).and_then(|inner| number(inner, 1)), Some(4242));
        assert_eq!((bytes(&outer.0, 68), number(&outer.0, 20)), (Some(&b"a name"[..]), Some(u64::MAX)));
        for end in 0..outer.0.len() {
            let _ = (number(&outer.0[..end], 20), bytes(&outer.0[..end], 68));
        }
    }
}
