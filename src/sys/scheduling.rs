//! How the kernel schedules a process: sched_setattr(2), ioprio_set(2), sched_setaffinity(2), set_mempolicy(2), and
//! personality(2).
//!
//! The tail of a child makes these calls too, so none of them goes through the C library.

use super::raw::syscall;
use rustix::io::Result;

/// `struct sched_attr` of sched_setattr(2); times in nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// Size of this structure in bytes.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// For `SCHED_DEADLINE`, as are the next two.
    pub runtime: u64,
    /// Relative to the beginning of the period.
    pub deadline: u64,
    /// Length of the period.
    pub period: u64,
    /// For `SCHED_FLAG_UTIL_CLAMP_MIN`.
    pub util_min: u32,
    /// For `SCHED_FLAG_UTIL_CLAMP_MAX`.
    pub util_max: u32,
}

/// sched_setattr(2) of a process, 0 for the caller.
pub fn sched_setattr(pid: i32, attr: &SchedAttr) -> Result<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attr };
    // SAFETY: `attr` is a sched_attr of the size it names; the kernel only reads it.
    unsafe { syscall(libc::SYS_sched_setattr, [pid as usize, (&raw const attr) as usize]) }.map(drop)
}

/// ioprio_set(2) of a process, 0 for the caller. `priority` is `class << 13 | level`.
pub fn ioprio_set(pid: i32, priority: u32) -> Result<()> {
    const WHO_PROCESS: usize = 1;
    // SAFETY: takes integers.
    unsafe { syscall(libc::SYS_ioprio_set, [WHO_PROCESS, pid as usize, priority as usize]) }.map(drop)
}

/// sched_setaffinity(2) of the caller; one bit for each CPU. CPUs that there are not, or not in its cpuset, are ignored
/// unless there are no others.
pub fn sched_setaffinity(cpus: &[u64]) -> Result<()> {
    // SAFETY: the kernel reads that many bytes of the slice.
    unsafe { syscall(libc::SYS_sched_setaffinity, [0, size_of_val(cpus), cpus.as_ptr() as usize]) }.map(drop)
}

/// set_mempolicy(2) of the caller: `MPOL_*` with `MPOL_F_*`, and one bit for each node; no bit set is no node.
pub fn set_mempolicy(mode: u32, nodes: &[u64]) -> Result<()> {
    let empty = nodes.iter().all(|word| *word == 0);
    let (pointer, bits) = if empty { (std::ptr::null(), 0) } else { (nodes.as_ptr(), 8 * size_of_val(nodes) + 1) };
    // SAFETY: the kernel reads one bit less than it is told, so the whole slice, and nothing for none.
    unsafe { syscall(libc::SYS_set_mempolicy, [mode as usize, pointer as usize, bits]) }.map(drop)
}

/// personality(2) of the caller.
pub fn personality(domain: u32) -> Result<()> {
    // SAFETY: takes an integer.
    unsafe { syscall(libc::SYS_personality, [domain as usize]) }.map(drop)
}
