//! Which process a runtime belongs to.
//!
//! `fork` copies the memory of a process and one of its threads. In the child a runtime looks as if
//! it were there, but its threads are not: its locks may be held for ever, its queues hold tasks that
//! the parent runs, and its poller *is* the parent's. So the child must leave it alone: use of it is
//! refused, and what it consists of is leaked, not closed.
//!
//! A *generation* tells the two apart. Every runtime keeps the number it was made in; in a child the
//! number goes up before anything of ours runs there ([`forked`]). A look is two loads, and is made
//! where a runtime is entered, spawned on, or left.
//!
//! # The thread that has forked
//!
//! If it did so inside a poll, that poll goes on in the child, and at its end comes back to the loop
//! of a worker that has no runtime any more. [`forked`] asks that loop for attention the way the end
//! of a runtime does, so it costs the loop nothing: it finds the generation gone by, and ends.
//!
//! | the loop of                     | in the child                                            |
//! |---------------------------------|---------------------------------------------------------|
//! | `run`                           | drops `main` unless it was ready, and answers           |
//! | a worker, the pool, the monitor | ends its thread; with it the process, if it is the last |
//! | `block_on`                      | answers when its future is pending                      |
//!
//! # What is the process's
//!
//! What is made once for the whole process, while other threads wait, must not be made by a thread of a
//! runtime: a child that is forked meanwhile has the lock, and nobody who lets it go. So that of the queues is
//! made with the first runtime ([`deque::prepare`](crate::deque::prepare)), and the number of processors is
//! kept without a lock. What a context variable is known by is still made with its first value: a child that is forked
//! in that moment must not use this variable.
//!
//! Nothing here can make `fork` safe for other code: what the standard library, the allocator and
//! `parking_lot` keep is theirs. A child that ends by `exec` or `_exit` needs none of this.

#![forbid(unsafe_code)]

use crate::context;
use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// To be called in the child of a fork, on its one thread, before it does anything else. It may be
/// called where only async-signal-safe code may run: it takes no lock and allocates nothing.
pub fn forked() {
    // Ordering: Relaxed. There is one thread; whoever it starts later sees this.
    GENERATION.fetch_add(1, Ordering::Relaxed);
    context::with(|cx| {
        if let Some(cx) = cx {
            cx.shared.closing.ask_for_a_look();
        }
    });
}

/// The generation that something was made in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generation(u32);

impl Generation {
    pub(crate) fn now() -> Generation {
        // Ordering: Relaxed, as in `forked`.
        Generation(GENERATION.load(Ordering::Relaxed))
    }

    /// Whether it was made by a parent of this process.
    #[inline]
    pub(crate) fn has_gone_by(self) -> bool {
        // Ordering: Relaxed, as in `forked`.
        GENERATION.load(Ordering::Relaxed) != self.0
    }
}
