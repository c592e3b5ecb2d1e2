//! seccomp(2).

use super::SockFilter;
use super::process::check;
use super::raw::syscall;
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::{Errno, Result};

/// `struct sock_fprog` of linux/filter.h.
#[repr(C)]
struct SockFprog {
    len: u16,
    filter: *const SockFilter,
}

/// Loads a filter for the calling thread: `SECCOMP_SET_MODE_FILTER` of seccomp(2) with `SECCOMP_FILTER_FLAG_*`.
///
/// Only a system call: no allocation, and errno stays in its register instead of the C library's thread-local variable,
/// so that a child that shares its parent's memory may call it too.
///
/// Returns 0, but with `SECCOMP_FILTER_FLAG_NEW_LISTENER` the listener's file descriptor, and with
/// `SECCOMP_FILTER_FLAG_TSYNC` the id of a thread that could not take the filter.
///
/// # Errors
/// `EACCES` without `no_new_privs` or `CAP_SYS_ADMIN`; `EINVAL` for a program that is empty, longer than
/// `BPF_MAXINSNS` or malformed; `ENOMEM` when the filters of a thread are too long together.
pub fn seccomp(flags: u32, program: &[SockFilter]) -> Result<u32> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = SockFprog { len, filter: program.as_ptr() };
    // SAFETY: seccomp(2) only reads `program` and the `len` instructions behind its pointer, which the borrowed slice
    // keeps alive; a filter cannot touch memory, only decide about system calls to come.
    unsafe { syscall(libc::SYS_seccomp, [libc::SECCOMP_SET_MODE_FILTER as usize, flags as usize, (&raw const program) as usize]) }
        .map(|result| result as u32)
}

/// As [`seccomp`] with `SECCOMP_FILTER_FLAG_NEW_LISTENER` among the flags: the listener, close-on-exec.
///
/// # Errors
/// Also `EBUSY` where an earlier filter of this thread has a listener.
pub fn seccomp_listener(flags: u32, program: &[SockFilter]) -> Result<OwnedFd> {
    let number = seccomp(flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32, program)?;
    // SAFETY: the kernel made this descriptor just now, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number.cast_signed()) })
}

/// pidfd_getfd(2), Linux 5.6: a copy of another process's descriptor, close-on-exec.
pub fn pidfd_getfd(pidfd: impl AsFd, number: RawFd) -> Result<OwnedFd> {
    // SAFETY: takes integers.
    let copy = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_fd().as_raw_fd(), number, 0) })?;
    // SAFETY: the kernel made this descriptor just now.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
}
