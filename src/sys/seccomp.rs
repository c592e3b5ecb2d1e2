//! seccomp(2).

use super::SockFilter;
use super::process::check;
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
    let result = unsafe { call(flags as usize, &raw const program) };
    u32::try_from(result).map_err(|_| Errno::from_raw_os_error(-result as i32))
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

/// The bare system call; returns the negated errno on failure.
///
/// # Safety
/// `program` points to a `SockFprog` whose pointer and length describe readable instructions.
#[cfg(target_arch = "x86_64")]
unsafe fn call(flags: usize, program: *const SockFprog) -> isize {
    let result: isize;
    // SAFETY: the caller vouches for the memory that is read; the kernel writes none and keeps all registers but
    // rax, rcx and r11.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") libc::SYS_seccomp as isize => result,
            in("rdi") libc::SECCOMP_SET_MODE_FILTER as usize,
            in("rsi") flags,
            in("rdx") program,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack, readonly, preserves_flags),
        );
    }
    result
}

/// The bare system call; returns the negated errno on failure.
///
/// # Safety
/// `program` points to a `SockFprog` whose pointer and length describe readable instructions.
#[cfg(target_arch = "aarch64")]
unsafe fn call(flags: usize, program: *const SockFprog) -> isize {
    let result: isize;
    // SAFETY: the caller vouches for the memory that is read; the kernel writes none and keeps all registers but x0.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") libc::SYS_seccomp as usize,
            inlateout("x0") libc::SECCOMP_SET_MODE_FILTER as isize => result,
            in("x1") flags,
            in("x2") program,
            options(nostack, readonly, preserves_flags),
        );
    }
    result
}
