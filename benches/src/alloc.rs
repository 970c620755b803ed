//! An allocator that counts the bytes in use, for the shape that measures memory.
//!
//! A program has it by naming it in a `#[global_allocator]` static; the programs that measure time do not.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::meter::Held;

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

// Two counters each, since a difference would go below zero when a thread frees what another one has allocated just now.
static ASKED: AtomicU64 = AtomicU64::new(0);
static ASKED_BACK: AtomicU64 = AtomicU64::new(0);
static GIVEN: AtomicU64 = AtomicU64::new(0);
static GIVEN_BACK: AtomicU64 = AtomicU64::new(0);

/// The bytes in use now, by all threads; `None` in a program without [`Counting`].
#[must_use]
pub fn in_use() -> Option<Held> {
    // Ordering: Relaxed, all four. The reader waits until the runtime is idle, and has heard that from it.
    let asked = ASKED.load(Ordering::Relaxed);
    if asked == 0 {
        // No program gets here without an allocation.
        return None;
    }
    Some(Held {
        asked: asked as f64 - ASKED_BACK.load(Ordering::Relaxed) as f64,
        given: GIVEN.load(Ordering::Relaxed) as f64 - GIVEN_BACK.load(Ordering::Relaxed) as f64,
    })
}

/// What the allocator set aside for the block at `ptr`.
///
/// # Safety
///
/// `ptr` is a live block of [`System`].
unsafe fn size_of_block(ptr: *mut u8) -> u64 {
    // SAFETY: `System` is malloc on every Unix, and the caller says that the block is live.
    unsafe { libc::malloc_usable_size(ptr.cast()) as u64 }
}

// SAFETY: every method passes its arguments to `System` and returns what that returned; counting touches no block.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's duties are those of `System`, and are passed on.
        let ptr = unsafe { System.alloc(layout) };
        if !ptr.is_null() {
            // Ordering: Relaxed, here and below. They are counters; see `in_use`.
            ASKED.fetch_add(layout.size() as u64, Ordering::Relaxed);
            // SAFETY: `System` has just returned it.
            GIVEN.fetch_add(unsafe { size_of_block(ptr) }, Ordering::Relaxed);
        }
        ptr
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        ASKED_BACK.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller says that the block is live and from `alloc`, which is `System`'s.
        GIVEN_BACK.fetch_add(unsafe { size_of_block(ptr) }, Ordering::Relaxed);
        // SAFETY: the caller's duties are those of `System`, and are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}
