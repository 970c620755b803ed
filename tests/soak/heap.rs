//! An allocator that counts the bytes in use. What the system says of a process's memory also has what the
//! allocator keeps for later; this has not, so that a leak of a few bytes per request shows.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, counted.
pub(crate) struct Counting;

// Two counters, since a difference would go below zero when a thread frees what another one has just allocated.
static ASKED: AtomicU64 = AtomicU64::new(0);
static ASKED_BACK: AtomicU64 = AtomicU64::new(0);

/// The bytes in use now, as asked for.
pub(crate) fn in_use() -> u64 {
    // Ordering: Relaxed, both: counters, read beside the threads that count. Given back first, so that the
    // difference is never below zero.
    let back = ASKED_BACK.load(Ordering::Relaxed);
    ASKED.load(Ordering::Relaxed).saturating_sub(back)
}

// SAFETY: every method passes its arguments to `System` and returns what that returned; counting touches no block.
// What is not here is made of these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Ordering: Relaxed, here and below; see `in_use`.
        ASKED.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's duties are those of `System`, and are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        ASKED_BACK.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's duties are those of `System`, and are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}
