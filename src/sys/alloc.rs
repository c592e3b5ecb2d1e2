//! The allocator of both binaries: a pointer into a static arena.
//!
//! A command lives for milliseconds; what it allocates, some 200 KiB, is given back by its exit. The arena is part of
//! `.bss`: no system call, and only pages that are written take memory. What does not fit goes to the C library.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes; a 16 MiB `config.json` does not fit and need not.
const SIZE: usize = 1 << 20;

#[repr(C, align(64))]
struct Memory(UnsafeCell<[u8; SIZE]>);

// SAFETY: ranges are handed out once, by an atomic addition.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; SIZE]));

/// Offset of the first free byte.
static NEXT: AtomicUsize = AtomicUsize::new(0);

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
        let taken = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            let start = (base() + next).next_multiple_of(layout.align()) - base();
            start.checked_add(layout.size()).filter(|end| *end <= SIZE)
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
        let grown = start.checked_add(size).filter(|end| *end <= SIZE);
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
