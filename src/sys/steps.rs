//! When the operations of a child began and ended, in memory that it shares with its parent.
//!
//! The readings survive the child, however it ends. Nothing here allocates; where the vDSO has the clock, as nearly
//! everywhere, taking a reading is no system call either.

use super::{Context, Result};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

/// Now, in nanoseconds since 1970. CLOCK_REALTIME is the clock that no time namespace shifts (time_namespaces(7)): a child
/// that joins one goes on with its parent's time.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, ours for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// One operation. A time is 0 until it is taken.
#[repr(C)]
pub struct Step {
    begun: AtomicU64,
    ended: AtomicU64,
    errno: AtomicI32,
}

impl Step {
    /// It begins now.
    pub fn begin(&self) {
        self.begun.store(now(), Relaxed);
    }

    /// It begins, as [`Step::begin`] has it, by the clock that the caller read.
    pub(super) fn begin_at(&self, time: u64) {
        self.begun.store(time, Relaxed);
    }

    /// It has ended, by the clock that the caller read.
    pub(super) fn end_at(&self, time: u64) {
        self.ended.store(time, Relaxed);
    }

    /// It has ended now.
    pub fn end(&self) {
        self.ended.store(now(), Relaxed);
    }

    /// It has failed. No clock is read: the process may be under its seccomp filter.
    pub fn fail(&self, errno: i32) {
        self.errno.store(errno, Relaxed);
    }

    /// When it began and ended, in nanoseconds since 1970, and what it failed with; each 0 if unknown.
    pub fn read(&self) -> (u64, u64, i32) {
        (self.begun.load(Relaxed), self.ended.load(Relaxed), self.errno.load(Relaxed))
    }
}

/// The operations of one child, what its parent does for each while the child waits, and the clone.
#[derive(Clone, Copy)]
pub struct Steps {
    all: &'static [Step],
    count: usize,
}

impl Steps {
    /// For a plan of so many operations. The memory stays for the life of the process, and of a child until it executes
    /// its program.
    pub fn new(count: usize) -> Result<Self> {
        let length = 2 * count + 2;
        let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), length * size_of::<Step>(), read_write, shared, -1, 0) };
        if memory == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context(|| "map memory for the timeline");
        }
        // SAFETY: the mapping is large enough, page-aligned, zeroed, which is a valid `Step`, and never unmapped; whoever
        // else has it writes through atomics only.
        let all = unsafe { std::slice::from_raw_parts(memory.cast::<Step>(), length) };
        Ok(Self { all, count })
    }

    /// Operation number `index`, by the child.
    pub fn child(&self, index: usize) -> &'static Step {
        &self.all[index.min(self.count)]
    }

    /// What the parent does while the child waits in operation number `index`.
    pub fn parent(&self, index: usize) -> &'static Step {
        &self.all[self.count + 1 + index.min(self.count)]
    }

    /// The addresses of all of them: the first, and the one after the last, on page boundaries.
    pub(super) fn memory(&self) -> [usize; 2] {
        let bytes = self.all.as_ptr_range();
        [bytes.start as usize, (bytes.end as usize).next_multiple_of(4096)]
    }

    /// The clone.
    pub fn cloned(&self) -> &'static Step {
        &self.all[self.count]
    }

    /// Notes the child's process id, in our pid namespace.
    pub fn set_pid(&self, pid: i32) {
        self.pid().store(pid, Relaxed);
    }

    /// The child's process id; 0 if none was cloned.
    pub fn get_pid(&self) -> i32 {
        self.pid().load(Relaxed)
    }

    /// The last entry has no operation, so that its errno is free for this.
    fn pid(&self) -> &'static AtomicI32 {
        &self.all[2 * self.count + 1].errno
    }
}
