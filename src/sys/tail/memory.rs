//! The region of a tail, and how everything else is given up.

use super::super::raw::syscall;
use super::{Header, NAME, NAMESPACES_MAX, calls};
use rustix::fd::RawFd;
use rustix::io::{Errno, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

const PAGE: usize = 4096;

/// Memory that a child keeps. It is unmapped when dropped, so in the parent only.
pub(super) struct Region {
    start: NonNull<c_void>,
    size: usize,
}

// SAFETY: the memory has no other owner; nothing about it belongs to a thread.
unsafe impl Send for Region {}

impl Region {
    /// For so many bytes of content, and `room` more.
    pub(super) fn new(content: usize, room: usize) -> Result<Self> {
        let size = (content + room).next_multiple_of(PAGE);
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), size, access, flags) }?;
        Ok(Self { start: NonNull::new(start).ok_or(Errno::NOMEM)?, size })
    }

    pub(super) fn start(&self) -> usize {
        self.start.as_ptr() as usize
    }

    pub(super) fn end(&self) -> usize {
        self.start() + self.size
    }

    /// With its content, at whose beginning the header goes.
    pub(super) fn filled(self, content: &[u8], header: Header) -> Self {
        let header = Header { end: self.end(), ..header };
        assert!(content.len() + super::STACK <= self.size && size_of::<Header>() <= content.len());
        // SAFETY: the region is that large and page-aligned, and nobody else refers to it.
        unsafe {
            std::ptr::copy_nonoverlapping(content.as_ptr(), self.start.as_ptr().cast(), content.len());
            self.start.as_ptr().cast::<Header>().write(header);
        }
        self
    }

    /// Notes the descriptors, which are known only after the clone.
    pub(super) fn set_descriptors(&self, sync: RawFd, listener: RawFd, namespaces: ([RawFd; NAMESPACES_MAX], usize)) {
        // SAFETY: `filled` has written the header there.
        let header = unsafe { &mut *self.start.as_ptr().cast::<Header>() };
        (header.sync, header.listener, header.namespaces) = (sync, listener, namespaces);
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever borrowed from it is gone.
        let _ = unsafe { munmap(self.start.as_ptr(), self.size) };
    }
}

/// Address ranges, each from its first byte to the one after its last.
type Ranges = Vec<[usize; 2]>;

/// What the executable and its libraries have mapped.
#[derive(Default)]
pub(super) struct Segments {
    /// All of it, sorted: it stays mapped.
    pub(super) keep: Ranges,
    /// The writable parts, whose content a child gives up; code that reads there finds what stands in the file. What is
    /// read-only after relocation (PT_GNU_RELRO) is not among them: it holds addresses only.
    pub(super) wipe: Ranges,
    /// The parts that were never written to.
    pub(super) constant: Ranges,
}

impl Segments {
    /// Those of this process, from the C library.
    pub(super) fn of_process() -> Self {
        let mut found = Self::default();
        // SAFETY: `object` is called while this call lasts, with the pointer that is given here.
        unsafe { libc::dl_iterate_phdr(Some(object), (&raw mut found).cast()) };
        found.keep.sort_unstable();
        found.keep.dedup_by(|next, range| {
            let meets = next[0] <= range[1];
            if meets {
                range[1] = range[1].max(next[1]);
            }
            meets
        });
        found
    }
}

/// One loaded object (dl_iterate_phdr(3)).
///
/// # Safety
/// `info` is a valid description, and `found` the pointer of [`Segments::of_process`].
unsafe extern "C" fn object(info: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
    // SAFETY: `of_process` passes its pointer, and the C library a valid description with its headers.
    let (found, info) = unsafe { (&mut *found.cast::<Segments>(), &*info) };
    // SAFETY: as above.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let range = |header: &libc::Elf64_Phdr| {
        let start = info.dlpi_addr as usize + header.p_vaddr as usize;
        [start, start + header.p_memsz as usize]
    };
    let relro = headers.iter().find(|header| header.p_type == libc::PT_GNU_RELRO).map(range);
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD) {
        let [start, end] = range(header);
        let [start, end] = [start / PAGE * PAGE, end.next_multiple_of(PAGE)];
        found.keep.push([start, end]);
        if header.p_flags & libc::PF_W == 0 {
            found.constant.push([start, end]);
            continue;
        }
        // Whole pages are protected: the last one of the part only if it ends with it.
        let constant = relro.filter(|part| (start..end).contains(&part[0])).map_or(start, |part| part[1] / PAGE * PAGE);
        if constant < end {
            found.wipe.push([constant.max(start), end]);
        }
    }
    0
}

/// A registration of restartable sequences (rseq(2)), which glibc makes from 2.35 on: the kernel writes
/// to that memory whenever the thread is moved, and kills a process where it is not there any more.
#[derive(Clone, Copy)]
pub(super) struct Rseq {
    area: usize,
    size: usize,
}

/// That of this thread, by the symbols that glibc has for it (`const ptrdiff_t __rseq_offset`, `const unsigned int __rseq_size`).
/// Other C libraries have neither, so they are weak, which a declaration in Rust cannot be.
pub(super) fn rseq() -> Option<Rseq> {
    let (offset, size): (*const isize, *const u32);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads two addresses from the global offset table, where those of missing symbols are 0.
    unsafe {
        std::arch::asm!(
            ".weak __rseq_offset", ".weak __rseq_size",
            "mov {0}, qword ptr [rip + __rseq_offset@GOTPCREL]", "mov {1}, qword ptr [rip + __rseq_size@GOTPCREL]",
            out(reg) offset, out(reg) size, options(nostack, readonly, preserves_flags),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads two addresses from the global offset table, where those of missing symbols are 0.
    unsafe {
        std::arch::asm!(
            ".weak __rseq_offset", ".weak __rseq_size",
            "adrp {0}, :got:__rseq_offset", "ldr {0}, [{0}, #:got_lo12:__rseq_offset]",
            "adrp {1}, :got:__rseq_size", "ldr {1}, [{1}, #:got_lo12:__rseq_size]",
            out(reg) offset, out(reg) size, options(nostack, readonly, preserves_flags),
        );
    }
    if offset.is_null() || size.is_null() {
        return None;
    }
    // SAFETY: glibc's constants, of these types.
    let (offset, size) = unsafe { (*offset, *size) };
    // The size that is registered is 32 at least, also where `__rseq_size` says how much of it is used.
    (size != 0).then(|| Rseq { area: thread_pointer().wrapping_add_signed(offset), size: size.max(32) as usize })
}

#[cfg(target_arch = "x86_64")]
fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: the ABI has the thread pointer at the address that it refers to (ELF thread-local storage).
    unsafe { std::arch::asm!("mov {}, fs:0", out(reg) pointer, options(nostack, readonly, preserves_flags)) };
    pointer
}

#[cfg(target_arch = "aarch64")]
fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: reads a register.
    unsafe { std::arch::asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// Goes on with the region at `start`, on a stack that ends at `stack`.
///
/// # Safety
/// This is the only thread of the process, and `Region::filled` has filled the region.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn go_on(start: usize, stack: usize) -> ! {
    // SAFETY: the caller's; the stack pointer is a multiple of 16 before the call, as the ABI wants it.
    unsafe {
        std::arch::asm!(
            "mov rsp, {stack}", "xor ebp, ebp", "call {alone}", "ud2",
            stack = in(reg) stack & !15, alone = sym alone, in("rdi") start, options(noreturn),
        )
    }
}

/// Goes on with the region at `start`, on a stack that ends at `stack`.
///
/// # Safety
/// This is the only thread of the process, and `Region::filled` has filled the region.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn go_on(start: usize, stack: usize) -> ! {
    // SAFETY: the caller's; the stack pointer is a multiple of 16, as the ABI wants it.
    unsafe {
        std::arch::asm!(
            "mov sp, {stack}", "mov x29, xzr", "bl {alone}", "udf #0",
            stack = in(reg) stack & !15, alone = sym alone, in("x0") start, options(noreturn),
        )
    }
}

/// On the new stack.
///
/// # Safety
/// As [`go_on`], which calls it.
unsafe extern "C" fn alone(start: usize) -> ! {
    // SAFETY: `Region::filled` has written the header there; nobody else refers to it.
    let header = unsafe { &mut *(start as *mut Header) };
    let alone = give_up(start, header);
    calls::run(start, header, alone)
}

/// Unmaps everything but the region and what [`Segments`] has, and gives up the content of its writable
/// parts. A kernel that seals some mapping of its own (mseal(2), the vDSO) keeps that.
///
/// # Errors
/// Something of the parent's would have stayed.
fn give_up(start: usize, header: &Header) -> Result<()> {
    if let Some(rseq) = header.rseq {
        const UNREGISTER: usize = 1;
        // SAFETY: only ends the registration.
        unsafe { syscall(libc::SYS_rseq, [rseq.area, rseq.size, UNREGISTER, RSEQ_SIGNATURE]) }?;
    }
    // SAFETY: the header's offsets are those of slices that lie in the region.
    let (keep, wipe) = unsafe { (header_slice::<[usize; 2]>(start, &header.keep), header_slice::<[usize; 2]>(start, &header.wipe)) };
    for [from, to] in wipe {
        // SAFETY: what stood there is not read any more: only system calls and constants follow.
        unsafe { syscall(libc::SYS_madvise, [*from, to - from, libc::MADV_DONTNEED as usize]) }?;
    }
    let region = [start, header.end];
    let times = header.steps.map(|steps| steps.memory());
    let mut free = 0;
    // In order: the ranges that stay are a few, so that each time the nearest is looked for.
    loop {
        let ahead = |range: &[usize; 2]| range[1] > free;
        let all = keep.iter().copied().chain([region]).chain(times);
        let Some([from, to]) = all.filter(ahead).min() else { break };
        if free < from {
            unmap(free, from)?;
        }
        free = to;
    }
    unmap_rest(free)?;
    // SAFETY: prctl(2) reads a string.
    unsafe { syscall(libc::SYS_prctl, [libc::PR_SET_NAME as usize, NAME.as_ptr() as usize]) }.map(drop)
}

/// What glibc registers with (sys/rseq.h).
#[cfg(target_arch = "x86_64")]
const RSEQ_SIGNATURE: usize = 0x5305_3053;
#[cfg(target_arch = "aarch64")]
const RSEQ_SIGNATURE: usize = 0xd428_bc00;

/// Where the address space of a process ends on nearly every kernel: a page below 2^47 on x86-64, 2^48 on arm64.
#[cfg(target_arch = "x86_64")]
const END: usize = (1 << 47) - PAGE;
#[cfg(target_arch = "aarch64")]
const END: usize = 1 << 48;

/// Unmaps up to the end of the address space. Where a kernel has another end (arm64 is configured, user-mode Linux has less),
/// munmap(2) refuses what is beyond (EINVAL), by which it is found.
fn unmap_rest(from: usize) -> Result<()> {
    let done = if from < END { unmap(from, END) } else { Err(Errno::INVAL) };
    if done != Err(Errno::INVAL) {
        return done;
    }
    // No machine has more bits of address than 56.
    let (mut below, mut beyond) = (from / PAGE, (1 << 56) / PAGE);
    while beyond - below > 1 {
        let middle = below + (beyond - below) / 2;
        match unmap((middle - 1) * PAGE, middle * PAGE) {
            Err(Errno::INVAL) => beyond = middle,
            other => {
                other?;
                below = middle;
            }
        }
    }
    if from < below * PAGE { unmap(from, below * PAGE) } else { Ok(()) }
}

/// munmap(2). A range in which something is sealed is refused as a whole (EPERM): then it is halved, down to the page that
/// stays, which is the kernel's own.
fn unmap(from: usize, to: usize) -> Result<()> {
    // SAFETY: nothing there is referred to any more.
    match unsafe { syscall(libc::SYS_munmap, [from, to - from]) } {
        Err(Errno::PERM) if to - from > PAGE => {
            let middle = from + (to - from) / 2 / PAGE * PAGE;
            unmap(from, middle)?;
            unmap(middle, to)
        }
        Err(Errno::PERM) => Ok(()),
        other => other.map(drop),
    }
}

/// A slice of the region.
///
/// # Safety
/// `range` is what `Bytes::items` gave for a slice of `T` that went into the region at `start`.
pub(super) unsafe fn header_slice<'r, T>(start: usize, range: &std::ops::Range<usize>) -> &'r [T] {
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts((start + range.start) as *const T, (range.end - range.start) / size_of::<T>()) }
}
