//! Signals of a process between its clone and its exec: only system calls, without the C library, but for what the parent asks.

use super::raw::syscall;
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
