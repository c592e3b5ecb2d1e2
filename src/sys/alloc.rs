//! The allocator of both binaries: a pointer into a static arena.
//!
//! A command lives for milliseconds; what it allocates, some 200 KiB, is given back by its exit. The arena is part of
//! `.bss`: no system call, and only pages that are written take memory. What does not fit goes to the C library.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes; a 16 MiB `config.json` does not fit and need not.
const SIZE: usize = 1 << 20;

#[repr(C, align(64))]
struct Memory(UnsafeCell<[u8; SIZE]>);

// SAFETY: ranges are handed out once, by an atomic addition.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; SIZE]));

/// Offset of the first free byte.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Offset of the first byte taken from the other end, for what [`keep`] makes.
static KEPT: AtomicUsize = AtomicUsize::new(SIZE);

/// Whether allocations are made at the other end.
static KEEPING: AtomicBool = AtomicBool::new(false);

/// Leaves the arena as it is: from now on all allocations are the C library's, which gives back what is freed. For a process
/// that stays.
pub fn retire_arena() {
    NEXT.store(SIZE, Ordering::Relaxed);
}

/// For `#[global_allocator]`.
pub struct Arena;

fn base() -> usize {
    MEMORY.0.get() as usize
}

fn is_ours(pointer: *mut u8) -> bool {
    (base()..base() + SIZE).contains(&(pointer as usize))
}

// SAFETY: `alloc` gives each range once, aligned as asked for, inside MEMORY; anything else is the C library's, which
// also gets back only its own.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if KEEPING.load(Ordering::Relaxed) {
            let taken = KEPT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| {
                let start = (base() + kept.checked_sub(layout.size())?) / layout.align() * layout.align();
                start.checked_sub(base()).filter(|start| *start >= NEXT.load(Ordering::Relaxed))
            });
            return match taken {
                Ok(_) => (base() + KEPT.load(Ordering::Relaxed)) as *mut u8,
                // SAFETY: the caller's contract is passed on.
                Err(_) => unsafe { System.alloc(layout) },
            };
        }
        let taken = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            let start = (base() + next).next_multiple_of(layout.align()) - base();
            start.checked_add(layout.size()).filter(|end| *end <= KEPT.load(Ordering::Relaxed))
        });
        match taken {
            Ok(next) => (base() + next).next_multiple_of(layout.align()) as *mut u8,
            // SAFETY: the caller's contract is passed on.
            Err(_) => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if is_ours(pointer) {
            // Only the newest range can be taken back: the common case of a temporary.
            let end = pointer as usize - base() + layout.size();
            let _ = NEXT.compare_exchange(end, end - layout.size(), Ordering::Relaxed, Ordering::Relaxed);
        } else {
            // SAFETY: not from the arena, so from `System`.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !is_ours(pointer) {
            // SAFETY: not from the arena, so from `System`.
            return unsafe { System.realloc(pointer, layout, size) };
        }
        let start = pointer as usize - base();
        let grown = start.checked_add(size).filter(|end| *end <= KEPT.load(Ordering::Relaxed));
        if let Some(end) = grown
            && NEXT.compare_exchange(start + layout.size(), end, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            return pointer;
        }
        if size <= layout.size() {
            return pointer;
        }
        // SAFETY: a new range of `size` bytes with the same alignment, to which the old one's bytes are copied.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(pointer, new, layout.size());
            }
            new
        }
    }
}

/// Runs `make` with its allocations in a range of their own, which [`only_kept`] spares. One thread at a time.
pub fn keep<T>(make: impl FnOnce() -> T) -> T {
    KEEPING.store(true, Ordering::Relaxed);
    let made = make();
    KEEPING.store(false, Ordering::Relaxed);
    made
}

/// Gives back all memory that a process needs no more which will only wait, and goes on with `run(kept)`.
///
/// What goes: allocations outside [`keep`], the deeper part of the stack, and the pages of the executable, which come
/// back from the page cache as they are executed. A function pointer captures nothing, so that `run` can reach only what
/// it is given. Without [`Arena`] as the allocator only the stack and the executable's pages go.
pub fn only_kept<T: 'static>(run: fn(T) -> !, kept: T) -> ! {
    const PAGE: usize = 4096;
    // How far below this frame the kernel and `run` may go before the pages below are worth giving back.
    const NEAR: usize = 2 * PAGE;
    const DEEP: usize = 64 * PAGE;
    let drop_pages = |from: usize, to: usize| {
        let (from, to) = (from.next_multiple_of(PAGE), to / PAGE * PAGE);
        if from < to {
            // SAFETY: see the callers below.
            unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_DONTNEED) };
        }
    };
    // The arena's used part: nothing allocated there can be reached from `run`, which gets only `kept` and never returns.
    drop_pages(base(), base() + NEXT.load(Ordering::Relaxed));
    // Below this frame: what earlier, deeper calls left there. madvise(2) skips what is not mapped.
    let here = (&raw const drop_pages) as usize;
    drop_pages(here - DEEP, here - NEAR);
    // Read-only segments of the executable: private mappings of a file that nobody has written to.
    super::read_only_segments(drop_pages);
    run(kept)
}
