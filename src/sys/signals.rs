//! Signals: of a process between its clone and its exec by system calls alone, without the C library; and of one that waits
//! for another.

use super::raw::syscall;
use rustix::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Result;

/// The kernel's `struct sigaction`.
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

fn sigaction(signal: i32, action: &Action) -> Result<()> {
    // SAFETY: rt_sigaction(2) reads an action whose set of signals has 8 bytes, and writes no former one.
    unsafe { syscall(libc::SYS_rt_sigaction, [signal as usize, (&raw const *action) as usize, 0, 8]) }.map(drop)
}

/// The signals that this process ignores, a bit for each, from 0 on for signal 1 (proc_pid_status(5)); all of them if that
/// cannot be read.
pub fn ignored_signals() -> u64 {
    // The line stands within the first two kilobytes.
    let mut text = [0; 4096];
    let file = rustix::fs::open(c"/proc/self/status", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let length = file.and_then(|file| rustix::io::read(file, &mut text)).unwrap_or_default();
    let mut lines = text[..length].split(|&byte| byte == b'\n');
    let digits = lines.find_map(|line| str::from_utf8(line.strip_prefix(b"SigIgn:")?).ok());
    digits.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(u64::MAX)
}

/// The signals that can be caught and handed on: not SIGCHLD, by which children are waited for, nor 32 and 33, which the C
/// library keeps for itself (nptl(7)).
pub fn catchable_signals() -> impl Iterator<Item = i32> {
    (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, 32, 33].contains(signal))
}

/// Signals that a process reads instead of dying of them: signalfd(2).
pub struct Signals(OwnedFd);

impl Signals {
    /// From now on these signals come through the descriptor and do nothing else. A fault of our own (SIGSEGV …) ends us all
    /// the same.
    pub fn catch(signals: impl IntoIterator<Item = i32>) -> Result<Self> {
        let mask = signals.into_iter().fold(0u64, |mask, signal| mask | 1 << (signal - 1));
        let at = (&raw const mask) as usize;
        // SAFETY: rt_sigprocmask(2) reads a set of 8 bytes.
        unsafe { syscall(libc::SYS_rt_sigprocmask, [libc::SIG_BLOCK as usize, at, 0, 8]) }?;
        let flags = (libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) as usize;
        // SAFETY: signalfd4(2) reads a set of 8 bytes; -1 asks for a new descriptor.
        let fd = unsafe { syscall(libc::SYS_signalfd4, [usize::MAX, at, 8, flags]) }?;
        // SAFETY: the descriptor is new, so nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// The number of the next one that waits. What the kernel tells us of our own writes (SIGPIPE, SIGXFSZ) seems to come
    /// from ourselves, and is skipped.
    pub fn next(&self) -> Option<i32> {
        loop {
            // `struct signalfd_siginfo`: the signal's number, two fields more, the sender's pid.
            let mut info = [0; 128];
            let length = rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut info)).ok()?;
            let field = |index: usize| info[index * 4..][..4].try_into().map(i32::from_ne_bytes);
            if length < info.len() {
                return None;
            }
            let (number, sender) = (field(0).ok()?, field(3).ok()?);
            if sender != rustix::process::getpid().as_raw_nonzero().get() {
                return Some(number);
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Puts these signals, which the parent ignores, back to their default action, and empties the signal mask: both survive
/// execve(2) (signal(7)). Handlers of the parent are gone since the clone (CLONE_CLEAR_SIGHAND).
pub fn default_signals(ignored: u64) -> Result<()> {
    let default = Action { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    let ignored = (1..=64).filter(|signal| ignored >> (signal - 1) & 1 == 1);
    ignored.filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)).try_for_each(|signal| sigaction(signal, &default))?;
    let none = 0u64;
    // SAFETY: rt_sigprocmask(2) reads a set of 8 bytes.
    unsafe { syscall(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as usize, (&raw const none) as usize, 0, 8]) }.map(drop)
}

extern "C" fn end_by(signal: i32) {
    super::exit(128 + signal)
}

/// From now on the signals that ask a process to end do end this one, also where it is the first of its pid namespace,
/// which the kernel spares every signal without a handler (pid_namespaces(7)).
pub(super) fn end_on_signals() -> Result<()> {
    // sigaction(2) as the C library calls it: the kernel wants to know how a handler returns, though this one never does.
    const SA_RESTORER: usize = 0x0400_0000;
    let handler = end_by as *const () as usize;
    let action = Action { handler, flags: SA_RESTORER, restorer: handler, mask: 0 };
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM].into_iter().try_for_each(|signal| sigaction(signal, &action))
}
