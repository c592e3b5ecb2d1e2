//! The steps of a tail, one after the other. Only system calls: see the module above.

use super::super::raw::syscall;
use super::memory::header_slice;
use super::{ASK_NAMESPACES, CLONED, Call, HandOver, Header, NAMESPACES_MAX, Offset, REPORTED, program, string_at};
use crate::sys::signals::{default_signals, end_on_signals};
use crate::sys::{SchedAttr, SockFilter, Step};
use rustix::fd::RawFd;
use rustix::io::{Errno, Result};
use std::ffi::CStr;

/// Not a descriptor.
const NONE: RawFd = -1;

/// What the steps leave for those after them.
pub(super) struct State<'h> {
    start: usize,
    pub(super) header: &'h Header,
    sync: RawFd,
    /// What the next `HandOver` hands over: the listener of the filter that was loaded last, or a procfs.
    handed: RawFd,
    /// Whether [`Call::TryChdir`] is in the working directory.
    entered: bool,
    /// The candidate that [`Call::FindProgram`] chose.
    program: usize,
    /// Whether a clock may still be read: under a filter, that may be a call that it kills for.
    timed: bool,
}

/// Runs them to the exec, if the memory was given up.
pub(super) fn run(start: usize, header: &Header, alone: Result<()>) -> ! {
    let (sync, handed) = (header.sync, NONE);
    let mut state = State { start, header, sync, handed, entered: false, program: 0, timed: header.steps.is_some() };
    // SAFETY: `Tail::new` has put the calls there.
    let calls = unsafe { header_slice::<Call>(start, &header.calls) };
    if let Err(errno) = alone.and_then(|()| default_signals(header.ignored)) {
        state.fail(header.first, errno);
    }
    for (index, call) in (header.first..).zip(calls) {
        state.note(index, Step::begin_at);
        if matches!(call, Call::Seccomp) {
            state.timed = false;
        }
        match state.step(index, call) {
            Ok(()) => state.note(index, Step::end_at),
            Err(errno) => state.fail(index, errno),
        }
    }
    exit(REPORTED)
}

/// Ends the process.
pub(super) fn exit(code: i32) -> ! {
    crate::sys::exit(code)
}

impl State<'_> {
    /// A string of the region.
    fn text(&self, offset: Offset) -> &CStr {
        // SAFETY: `Bytes::string` has put one there.
        unsafe { string_at(self.start + offset) }
    }

    /// The paths of the program to try.
    pub(super) fn candidates(&self) -> impl Iterator<Item = &CStr> {
        // SAFETY: `Tail::new` has put the offsets there.
        let offsets = unsafe { header_slice::<Offset>(self.start, &self.header.candidates) };
        offsets.iter().map(|offset| self.text(*offset))
    }

    /// The room for HOME, if there is any.
    pub(super) fn home(&mut self) -> Option<&mut [u8]> {
        let offset = self.header.home?;
        // SAFETY: `Bytes::home` has put so many bytes there, to which nothing else refers but the kernel at the exec.
        Some(unsafe { std::slice::from_raw_parts_mut((self.start + offset) as *mut u8, super::HOME_MAX) })
    }

    /// Takes the time of an operation, if somebody asked for it.
    fn note(&self, index: u32, how: fn(&Step, u64)) {
        if let (true, Some(steps)) = (self.timed, self.header.steps) {
            how(steps.child(index as usize), now());
        }
    }

    /// Reports a failure and ends.
    fn fail(&self, index: u32, errno: Errno) -> ! {
        if let Some(steps) = self.header.steps {
            steps.child(index as usize).fail(errno.raw_os_error());
        }
        let _ = self.report(index, errno.raw_os_error());
        exit(REPORTED)
    }

    /// Eight bytes to the parent; one that is gone is the end of this process too.
    fn report(&self, index: u32, errno: i32) -> Result<()> {
        let bytes = report(index, errno);
        let flags = libc::MSG_NOSIGNAL as usize;
        // SAFETY: sendto(2) reads the bytes.
        unsafe { syscall(libc::SYS_sendto, [self.sync as usize, bytes.as_ptr() as usize, bytes.len(), flags]) }.map(drop)
    }

    /// Reports that the process stands at `index`, and waits for the answer. A parent that died without one ends it.
    fn tell(&self, index: u32) -> Result<()> {
        self.report(index, 0)?;
        match receive_byte(self.sync)? {
            Some(_) => Ok(()),
            None => exit(REPORTED),
        }
    }

    /// Waits on the listening socket for a connection that brings a byte. Those without one are `state` asking
    /// whether anybody is here, or a `start` that died. The connection becomes the way reports go.
    /// Whoever asks for the namespaces gets them, and may ask for the start on the same connection.
    fn park(&mut self, index: u32) -> Result<()> {
        // Engines stop a container that was never started as any other.
        end_on_signals()?;
        self.tell(index)?;
        self.release_pages();
        loop {
            let arguments = [self.header.listener as usize, 0, 0, libc::SOCK_CLOEXEC as usize];
            // SAFETY: accept4(2) is told not to write an address.
            match unsafe { syscall(libc::SYS_accept4, arguments) } {
                Err(Errno::INTR) => {}
                Err(_) => exit(REPORTED),
                Ok(connection) => {
                    while let Ok(Some(byte)) = receive_byte(connection as RawFd) {
                        if byte != ASK_NAMESPACES {
                            self.sync = connection as RawFd;
                            return Ok(());
                        }
                        let (namespaces, count) = &self.header.namespaces;
                        // Whoever has asked may be gone.
                        let _ = send_with(connection as RawFd, &report(index, 0), &namespaces[..*count], 0);
                    }
                    // SAFETY: the connection is ours.
                    let _ = unsafe { syscall(libc::SYS_close, [connection]) };
                }
            }
        }
    }

    /// Gives the pages of the executable back while nothing but a wait is to come. They come back from the page
    /// cache as they are executed; those that relocation has written to would not, and stay.
    fn release_pages(&self) {
        // SAFETY: `Tail::new` has put the ranges there.
        let keep = unsafe { header_slice::<[usize; 2]>(self.start, &self.header.constant) };
        for [from, to] in keep {
            // SAFETY: private mappings of files that nobody has written to: the content comes back the same.
            let _ = unsafe { syscall(libc::SYS_madvise, [*from, to - from, libc::MADV_DONTNEED as usize]) };
        }
    }

    fn step(&mut self, index: u32, call: &Call) -> Result<()> {
        match *call {
            Call::CloneAgain => self.clone_again(),
            Call::Setsid => call0(libc::SYS_setsid),
            Call::OpenProc => {
                const FSOPEN_CLOEXEC: usize = 1;
                // SAFETY: fsopen(2) reads a NUL-terminated name.
                let context = unsafe { syscall(libc::SYS_fsopen, [c"proc".as_ptr() as usize, FSOPEN_CLOEXEC]) }?;
                self.handed = context as RawFd;
                Ok(())
            }
            Call::ControllingTerminal => {
                // SAFETY: TIOCSCTTY takes an integer.
                match unsafe { syscall(libc::SYS_ioctl, [0, libc::TIOCSCTTY as usize, 0]) } {
                    // Whoever got the other end has closed it again: the program finds a terminal that hung up.
                    Ok(_) | Err(Errno::IO) => Ok(()),
                    Err(errno) => Err(errno),
                }
            }
            Call::DieWithParent => prctl(libc::PR_SET_PDEATHSIG, [libc::SIGKILL as usize, 0, 0, 0]),
            Call::Rlimit(resource, limit) => {
                // SAFETY: prlimit(2) reads two numbers of 64 bits.
                unsafe { syscall(libc::SYS_prlimit64, [0, resource as usize, limit.as_ptr() as usize, 0]) }.map(drop)
            }
            Call::Scheduler(attr) => {
                // SAFETY: `Bytes::call` has put a `SchedAttr` there.
                let attr = unsafe { &*((self.start + attr) as *const SchedAttr) };
                crate::sys::sched_setattr(0, attr)
            }
            Call::IoPriority(priority) => crate::sys::ioprio_set(0, priority),
            Call::MemoryPolicy(mode, nodes, length) => {
                // SAFETY: `Bytes::call` has put so many numbers there.
                let nodes = unsafe { std::slice::from_raw_parts((self.start + nodes) as *const u64, length) };
                crate::sys::set_mempolicy(mode, nodes)
            }
            Call::Personality(domain) => crate::sys::personality(domain),
            Call::BoundingSet(set) => drop_bounding(set),
            Call::KeepCaps => prctl(libc::PR_SET_KEEPCAPS, [1, 0, 0, 0]),
            Call::Groups(groups, length) => {
                // SAFETY: `Bytes::call` has put so many numbers there.
                unsafe { syscall(libc::SYS_setgroups, [length, self.start + groups]) }.map(drop)
            }
            Call::Gid(gid) => call3(libc::SYS_setresgid, gid as usize),
            Call::Uid(uid) => call3(libc::SYS_setresuid, uid as usize),
            Call::OwnStdio(uid, terminal) => program::own_stdio(uid, terminal),
            Call::OwnNull => {
                program::own_null();
                Ok(())
            }
            Call::Capset(sets) => capset(sets),
            Call::Ambient(set) => {
                members(set).try_for_each(|capability| prctl(libc::PR_CAP_AMBIENT, [libc::PR_CAP_AMBIENT_RAISE as usize, capability, 0, 0]))
            }
            Call::TryChdir(path) => {
                self.entered = program::chdir(self.text(path)).is_ok();
                Ok(())
            }
            Call::Cwd(path) => program::enter(self.text(path), self.entered),
            Call::Umask(mask) => {
                // SAFETY: takes an integer.
                unsafe { syscall(libc::SYS_umask, [mask as usize]) }.map(drop)
            }
            Call::Home(uid) => {
                program::home(uid, self);
                Ok(())
            }
            Call::FindProgram => program::find(self).map(|number| self.program = number),
            Call::NoNewPrivs => prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0]),
            Call::Tell => self.tell(index),
            Call::Park => self.park(index),
            Call::Seccomp => self.load_filter(),
            Call::HandOver(how) => self.hand_over(index, how),
            Call::Exec => self.exec(),
        }
    }

    /// The sibling goes on; this process tells its pid, as both processes' parent sees it, and ends.
    fn clone_again(&self) -> Result<()> {
        match crate::sys::process::clone_sibling(0)? {
            0 => Ok(()),
            pid => {
                let _ = self.report(CLONED, pid);
                exit(0)
            }
        }
    }

    /// Loads the filter; a profile without rules asks for nothing.
    fn load_filter(&mut self) -> Result<()> {
        let Some((range, flags)) = &self.header.filter else { return Ok(()) };
        // SAFETY: `Tail::new` has put the instructions there.
        let filter = unsafe { header_slice::<SockFilter>(self.start, range) };
        let listens = flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32 != 0;
        if !filter.is_empty() || listens {
            let loaded = crate::sys::seccomp(*flags, filter)?;
            self.handed = if listens { loaded.cast_signed() } else { NONE };
        }
        Ok(())
    }

    /// Returns once the parent has the listener and the agent knows of it. Only the calls that [`HandOver`] names, and
    /// read(2): the process is under its filter.
    fn hand_over(&mut self, index: u32, how: HandOver) -> Result<()> {
        let fd = self.handed;
        if fd == NONE {
            return Err(Errno::BADF);
        }
        let mark = if let HandOver::Marked(mark) = how { mark as usize } else { 0 };
        match how {
            HandOver::Message | HandOver::Marked(_) => send_with(self.sync, &report(index, 0), &[fd], mark)?,
            // No errno is negative: this is the descriptor's number.
            HandOver::Number => {
                let bytes = report(index, -fd);
                // SAFETY: write(2) reads the bytes.
                unsafe { syscall(libc::SYS_write, [self.sync as usize, bytes.as_ptr() as usize, bytes.len()]) }.map(drop)?;
            }
        }
        // The exec closes it: close(2) may be a call that the agent is asked about.
        let mut answer = 0u8;
        let arguments = [self.sync as usize, (&raw mut answer) as usize, 1, 0, 0, mark];
        loop {
            // SAFETY: read(2) writes one byte.
            match unsafe { syscall(libc::SYS_read, arguments) } {
                Err(Errno::INTR) => {}
                Ok(1) => return Ok(()),
                Ok(_) => return Err(Errno::PIPE),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn exec(&self) -> Result<()> {
        let Some(path) = self.candidates().nth(self.program) else { return Err(Errno::NOENT) };
        let (argv, envp) = (self.start + self.header.argv, self.start + self.header.envp);
        // SAFETY: `Tail::new` has laid out both arrays, NULL-terminated, of strings of the region.
        unsafe { syscall(libc::SYS_execve, [path.as_ptr() as usize, argv, envp]) }.map(drop)
    }
}

/// A report as it crosses the socket: index and errno, in native byte order.
fn report(index: u32, errno: i32) -> [u8; 8] {
    (u64::from(index) | u64::from(errno.cast_unsigned()) << 32).to_le_bytes()
}

/// The byte that came; none is the end of the file.
fn receive_byte(socket: RawFd) -> Result<Option<u8>> {
    let mut byte = 0u8;
    loop {
        // SAFETY: recvfrom(2) writes one byte, and no address.
        match unsafe { syscall(libc::SYS_recvfrom, [socket as usize, (&raw mut byte) as usize, 1]) } {
            Err(Errno::INTR) => {}
            received => return received.map(|length| (length == 1).then_some(byte)),
        }
    }
}

/// sendmsg(2) of a report with descriptors (SCM_RIGHTS, unix(7)), at most [`NAMESPACES_MAX`], and
/// `mark` in the sixth argument.
fn send_with(socket: RawFd, bytes: &[u8; 8], fds: &[RawFd], mark: usize) -> Result<()> {
    #[repr(C)]
    struct Control {
        length: usize,
        level: i32,
        kind: i32,
        fds: [RawFd; NAMESPACES_MAX],
    }
    const HEADER: usize = std::mem::offset_of!(Control, fds);
    let length = HEADER + size_of_val(fds);
    let mut control = Control { length, level: libc::SOL_SOCKET, kind: libc::SCM_RIGHTS, fds: [NONE; NAMESPACES_MAX] };
    control.fds.iter_mut().zip(fds).for_each(|(slot, fd)| *slot = *fd);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    if !fds.is_empty() {
        (message.msg_control, message.msg_controllen) = ((&raw mut control).cast(), length.next_multiple_of(8) as _);
    }
    let flags = libc::MSG_NOSIGNAL as usize;
    // SAFETY: sendmsg(2) reads the message, its bytes and its control data, which is laid out as a
    // `cmsghdr` with the descriptors behind it.
    unsafe { syscall(libc::SYS_sendmsg, [socket as usize, (&raw const message) as usize, flags, 0, 0, mark]) }.map(drop)
}

fn call0(number: i64) -> Result<()> {
    // SAFETY: takes nothing.
    unsafe { syscall(number, []) }.map(drop)
}

fn call3(number: i64, id: usize) -> Result<()> {
    // SAFETY: takes integers.
    unsafe { syscall(number, [id, id, id]) }.map(drop)
}

fn prctl(option: i32, [a, b, c, d]: [usize; 4]) -> Result<()> {
    // SAFETY: the options that are used here take integers.
    unsafe { syscall(libc::SYS_prctl, [option as usize, a, b, c, d]) }.map(drop)
}

/// The numbers of the capabilities in a set.
fn members(set: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |number| set >> number & 1 == 1)
}

fn drop_bounding(keep: u64) -> Result<()> {
    for capability in members(!keep) {
        match prctl(libc::PR_CAPBSET_DROP, [capability, 0, 0, 0]) {
            // Past the last capability that this kernel knows.
            Err(Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

/// capset(2) of this process, with sets of 64 bits.
fn capset(sets: [u64; 3]) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let half = |shift: u32| sets.map(|set| (set >> shift) as u32);
    let header = [VERSION_3, 0];
    let data = [half(0), half(32)];
    // SAFETY: capset(2) reads a header of two numbers and, in this version, two times three.
    unsafe { syscall(libc::SYS_capset, [header.as_ptr() as usize, data.as_ptr() as usize]) }.map(drop)
}

/// As [`crate::sys::now`], without the vDSO.
fn now() -> u64 {
    let mut time = [0u64; 2];
    // SAFETY: clock_gettime(2) writes two numbers of 64 bits.
    let _ = unsafe { syscall(libc::SYS_clock_gettime, [libc::CLOCK_REALTIME as usize, time.as_mut_ptr() as usize]) };
    time[0] * 1_000_000_000 + time[1]
}
