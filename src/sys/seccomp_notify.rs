//! seccomp_unotify(2): system calls that wait for somebody's answer.

use super::process::check;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Result;

/// `struct seccomp_data` of linux/seccomp.h: what a filter sees.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeccompData {
    /// The system call's number.
    pub nr: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Where the program is.
    pub instruction_pointer: u64,
    /// The registers of its arguments; a call uses the first few.
    pub args: [u64; 6],
}

/// `struct seccomp_notif`: a call that waits. Its size is part of the ioctl's number, so it cannot grow unnoticed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Notification {
    /// Names the call in the answer.
    pub id: u64,
    /// The thread, in the reader's pid namespace.
    pub pid: u32,
    flags: u32,
    /// The call.
    pub data: SeccompData,
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

const RECV: libc::Ioctl = request(3, 0, size_of::<Notification>());
const SEND: libc::Ioctl = request(3, 1, size_of::<Response>());
const ID_VALID: libc::Ioctl = request(1, 2, size_of::<u64>());

/// `_IOC(direction, '!', number, size)` of asm-generic/ioctl.h.
const fn request(direction: u32, number: u32, size: usize) -> libc::Ioctl {
    (direction << 30 | (size as u32) << 16 | (b'!' as u32) << 8 | number) as libc::Ioctl
}

/// The next call that waits.
///
/// # Errors
/// `ENOENT` if its thread was killed or interrupted meanwhile.
pub fn notification(listener: impl AsFd) -> Result<Notification> {
    let mut waiting = Notification::default();
    // SAFETY: the kernel fills one `seccomp_notif`, which it wants zeroed before.
    check(i64::from(unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), RECV, &raw mut waiting) }))?;
    Ok(waiting)
}

/// Whether the call still waits: what was looked up of its thread since it was received is then that thread's.
pub fn still_waits(listener: impl AsFd, id: u64) -> bool {
    // SAFETY: the kernel reads one number.
    check(i64::from(unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), ID_VALID, &raw const id) })).is_ok()
}

/// Lets a call go on (`None`; Linux 5.5), or fail with an errno.
///
/// # Errors
/// `ENOENT` if nobody waits any more.
pub fn answer(listener: impl AsFd, id: u64, errno: Option<i32>) -> Result<()> {
    let flags = if errno.is_none() { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 };
    let response = Response { id, val: 0, error: -errno.unwrap_or(0), flags };
    // SAFETY: the kernel reads one `seccomp_notif_resp`.
    check(i64::from(unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), SEND, &raw const response) })).map(drop)
}
