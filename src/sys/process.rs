//! clone3(2), setns(2), unshare(2), execve(2), execveat(2) and their neighbours.
//!
//! Everything here may be called between clone and exec: no allocation, no lock; errno lives in the calling
//! process's own thread-local storage (the child is a copy, never a sharer, of its parent's memory).

use super::raw::syscall;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::{Errno, Result};
use std::ffi::{CStr, CString, c_char};

/// Namespace flags of clone(2) that setns(2) and unshare(2) share.
pub mod ns {
    /// Time namespace.
    pub const TIME: u64 = libc::CLONE_NEWTIME as u64;
    /// Mount namespace.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
    /// Cgroup namespace.
    pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// UTS namespace: host and domain name.
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
    /// System V IPC and POSIX message queues.
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    /// User namespace.
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
    /// PID namespace.
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    /// Network namespace.
    pub const NET: u64 = libc::CLONE_NEWNET as u64;

    /// The files of a process's own namespaces, in the order in which setns(2) takes them: the user
    /// namespace gives the rights for the others, and the mount namespace changes what paths mean.
    /// The pid namespace is that of the children, since a process that has joined one is not in it
    /// (pid_namespaces(7)).
    pub const FILES: [(u64, &std::ffi::CStr); 8] = [
        (USER, c"/proc/self/ns/user"),
        (CGROUP, c"/proc/self/ns/cgroup"),
        (IPC, c"/proc/self/ns/ipc"),
        (UTS, c"/proc/self/ns/uts"),
        (NET, c"/proc/self/ns/net"),
        (PID, c"/proc/self/ns/pid_for_children"),
        (TIME, c"/proc/self/ns/time"),
        (MOUNT, c"/proc/self/ns/mnt"),
    ];

    /// The files of the namespaces of these kinds.
    pub fn files(kinds: u64) -> impl Iterator<Item = (u64, &'static std::ffi::CStr)> {
        FILES.into_iter().filter(move |(kind, _)| kinds & kind != 0)
    }
}

/// The new process becomes a sibling of the caller (clone(2)).
const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Handlers of the caller's do not run in the new process (Linux 5.5).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// Says that the calling process is one that `clone3` has just made: it has one thread and a copy of
/// its parent's memory, which nobody else sees.
#[derive(Debug)]
pub struct Forked(());

/// What clone3(2) returned, seen from either side.
pub enum Cloned {
    /// The new process; only system calls from here on.
    Child(Forked),
    /// The caller: the new process's id in the caller's pid namespace, and a pidfd for it.
    Parent(i32, OwnedFd),
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// clone3(2) like fork(2): with namespace `flags`, a pidfd, and, on cgroup v2, born in `cgroup` (never migrated there).
/// Only the calling thread is in the new process, which must not wait for a lock that another one held.
pub(crate) fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets its own copy of the address space and goes on from here on its own stack;
    // `args` and `pidfd` outlive the call.
    match unsafe { syscall(libc::SYS_clone3, [(&raw mut args) as usize, size_of::<CloneArgs>()]) }? {
        0 => Ok(Cloned::Child(Forked(()))),
        // SAFETY: the kernel stored a new descriptor that nobody else owns.
        pid => Ok(Cloned::Parent(pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// clone3(2) with CLONE_PARENT, in a process that is a clone itself: the new one's pid, as its parent sees it, which is also the
/// caller's; 0 in the new one. It is in the pid namespace that setns(2) chose for children, and new namespaces `flags`.
pub(crate) fn clone_sibling(flags: u64) -> Result<i32> {
    // clone3(2) takes no exit signal with CLONE_PARENT: the sibling's is then the caller's own.
    let mut args = CloneArgs { flags: flags | CLONE_PARENT, ..CloneArgs::default() };
    // SAFETY: as in `clone3`.
    unsafe { syscall(libc::SYS_clone3, [(&raw mut args) as usize, size_of::<CloneArgs>()]) }.map(|pid| pid as i32)
}

fn last_errno() -> Errno {
    // SAFETY: __errno_location returns this thread's errno, always valid.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

pub(super) fn check(ret: i64) -> Result<i64> {
    if ret < 0 { Err(last_errno()) } else { Ok(ret) }
}

/// setns(2): `fd` is a namespace file or a pidfd, `flags` the kinds to join.
pub fn setns(fd: impl AsFd, flags: u64) -> Result<()> {
    // SAFETY: takes two integers.
    check(unsafe { libc::syscall(libc::SYS_setns, fd.as_fd().as_raw_fd(), flags) }).map(drop)
}

/// setfsuid(2) and setfsgid(2) of this thread alone: whose the files are that it makes. The effective capabilities over files
/// go with the change from 0 and come back with the way back (capabilities(7)).
pub fn set_fs_ids(uid: u32, gid: u32) -> Result<()> {
    for (call, id) in [(libc::SYS_setfsgid, gid), (libc::SYS_setfsuid, uid)] {
        // SAFETY: both take one integer. They give the former id and no error; an invalid one changes nothing and tells.
        let now = unsafe {
            libc::syscall(call, id);
            libc::syscall(call, u32::MAX)
        };
        if now as u32 != id {
            return Err(Errno::PERM);
        }
    }
    Ok(())
}

/// Working directory, root directory and umask of this thread are its own from now on (`CLONE_FS` of unshare(2)), without
/// which a thread cannot join a mount namespace (setns(2)).
pub fn unshare_directories() -> Result<()> {
    // SAFETY: nothing of the address space or the descriptor table is unshared.
    check(unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_FS) }).map(drop)
}

/// unshare(2) for namespaces.
pub fn unshare(flags: u64) -> Result<()> {
    // SAFETY: namespace flags only; nothing of the address space or the descriptor table is unshared.
    check(unsafe { libc::syscall(libc::SYS_unshare, flags) }).map(drop)
}

/// A NULL-terminated array of C strings for execve(2), made before the clone.
pub struct CStrings {
    pointers: Vec<*const c_char>,
    /// Owns what `pointers` points at.
    _strings: Vec<CString>,
}

impl CStrings {
    /// Takes over the strings.
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }
}

/// execve(2). Returns only with an error.
pub fn execve(path: &CStr, argv: &CStrings, envp: &CStrings) -> Errno {
    // SAFETY: all three are NUL-terminated and the arrays NULL-terminated, owned by `argv` and `envp`.
    unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    last_errno()
}

/// execveat(2) of the file that `fd` refers to. Returns only with an error.
pub fn execveat(fd: impl AsFd, argv: &CStrings, envp: &CStrings) -> Errno {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: as for `execve`; the empty path with AT_EMPTY_PATH names the descriptor itself.
    unsafe {
        libc::syscall(libc::SYS_execveat, fd, c"".as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr(), libc::AT_EMPTY_PATH);
    }
    last_errno()
}

/// _exit(2): no destructors, no flushing. Under a seccomp profile that refuses even that, SIGILL: musl would try again for
/// ever.
pub fn exit(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe {
        let _ = syscall(libc::SYS_exit_group, [code as usize]);
        let _ = syscall(libc::SYS_exit, [code as usize]);
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an undefined instruction, which the kernel answers with a signal that nobody here handles.
    unsafe {
        std::arch::asm!("ud2", options(noreturn))
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("udf #0", options(noreturn))
    }
}

/// Sets close-on-exec on every descriptor from `first` to `last`, or closes them (close_range(2), Linux 5.11).
pub(crate) fn close_range(first: u32, last: u32, only_on_exec: bool) -> Result<()> {
    let flags = if only_on_exec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: callers name descriptors that no live `OwnedFd` of this process will use again.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// Makes the keyring of that name, or a new one, that of the session (keyctl(2) KEYCTL_JOIN_SESSION_KEYRING).
///
/// It is then one that its user may search, so that who comes later finds it by its name. Where that cannot be, they get one of
/// their own. A kernel without keyrings has none to protect.
pub fn join_session_keyring(name: &CStr) -> Result<()> {
    const JOIN_SESSION_KEYRING: i32 = 1;
    const SETPERM: i32 = 5;
    // keyrings(7): all to who possesses it; to its user view, read, link, as the kernel gives them, and search.
    const PERMISSIONS: u32 = 0x3f1b_0000;
    // SAFETY: `name` is NUL-terminated.
    let serial = match check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) }) {
        Err(Errno::NOSYS) => return Ok(()),
        other => other?,
    };
    // SAFETY: only numbers.
    let _ = check(unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, serial, PERMISSIONS) });
    Ok(())
}

/// Brings the loopback interface up: SIOCSIFFLAGS with IFF_UP|IFF_RUNNING (netdevice(7)).
pub fn loopback_up(socket: impl AsFd) -> Result<()> {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as c_char;
    request.ifr_name[1] = b'o' as c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads an ifreq.
    check(i64::from(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) })).map(drop)
}

/// Borrows an inherited descriptor by number: `--preserve-fds`, LISTEN_FDS, a socket handed over.
///
/// Fails with EBADF unless it is open; this process never closes such numbers while it lives.
pub(crate) fn inherited(fd: RawFd) -> Result<BorrowedFd<'static>> {
    // SAFETY: F_GETFD only asks whether the number is open.
    check(i64::from(unsafe { libc::fcntl(fd, libc::F_GETFD) }))?;
    // SAFETY: just seen open; numbers handed over by the caller have no owner in this process that could close them.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Copies `fd` to exactly the number `to` without close-on-exec: dup3(2) over 0, 1 or 2.
pub(crate) fn dup_to(fd: impl AsFd, to: RawFd) -> Result<()> {
    // SAFETY: callers name the standard descriptors, which no `OwnedFd` owns.
    check(i64::from(unsafe { libc::dup2(fd.as_fd().as_raw_fd(), to) })).map(drop)
}

/// setgroups(2) of this (only) thread.
pub fn setgroups(groups: &[u32]) -> Result<()> {
    // SAFETY: pointer and length are those of the slice; gid_t is 32 bits.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// setrlimit(2) by number, for this process or another.
pub fn prlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    // SAFETY: the kernel's rlimit64 is two 64-bit numbers; the old limit is not asked for.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, limit.as_ptr(), 0) }).map(drop)
}

/// getrlimit(2) by number, of this process or another: the soft and the hard limit.
pub fn limits_of(pid: i32, resource: u32) -> Result<[u64; 2]> {
    let mut limits = [0u64; 2];
    // SAFETY: the kernel's rlimit64 is two 64-bit numbers, which it writes; no new limit is given.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, 0, limits.as_mut_ptr()) }).map(|_| limits)
}

/// A signal by number, real-time ones included.
pub fn signal_from_raw(number: i32) -> Option<rustix::process::Signal> {
    // SAFETY: numbers from 1 to 64 are the kernel's signals; they are only ever sent, never handled.
    (1..=64).contains(&number).then(|| unsafe { rustix::process::Signal::from_raw_unchecked(number) })
}
