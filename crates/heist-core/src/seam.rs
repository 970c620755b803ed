//! The seam: what a worker parks on, the clock, and the source of randomness.
//!
//! The scheduler knows neither file descriptors nor a clock. Whatever it needs from the outside is
//! one object with this trait: the facade's real driver, a fake in tests, a simulator that steps
//! many workers with one thread. A slot is named by its index.

#![forbid(unsafe_code)]

use std::any::Any;

/// No deadline: later than every time.
pub const NEVER: u64 = u64::MAX;

/// What a runtime stands on. Times are nanoseconds on a monotonic clock of the implementation's
/// choice.
pub trait Seam: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> u64;

    /// Another number of the source of randomness: a seed for a worker's choices (whom to steal from);
    /// in a simulation, for everything that is left to chance.
    fn seed(&self) -> u64;

    /// The calling thread owns `slot` from now on: it alone parks on it.
    fn attach(&self, slot: usize);

    /// Blocks until [`Seam::unpark`] was called for `slot` since the last park returned, something
    /// the slot waits for has happened, or `deadline` has passed; it may also return without a reason. Wakers
    /// of what has happened are called on this thread before it returns.
    ///
    /// Calls `awake` once, when the thread sleeps no more and before the first waker, and says whether
    /// there may be wakers to call. Until then a timer that is due counts as armed
    /// ([`Seam::is_used`]).
    fn park(&self, slot: usize, deadline: u64, awake: &mut dyn FnMut(bool));

    /// Looks, without blocking, whether something has happened that `slot` waits for, and calls the wakers. Any thread of
    /// the runtime may call it. Returns how many wakers it called.
    fn poll(&self, slot: usize) -> usize;

    /// Makes the present or the next [`Seam::park`] of `slot` return. Any thread, any time; never
    /// blocks, never panics.
    fn unpark(&self, slot: usize);

    /// Whether `slot` waits for something (a socket, a timer), so that somebody must look after it.
    fn is_used(&self, slot: usize) -> bool;

    /// How many threads this process has, if nothing but threads can call wakers in it: no handler of a
    /// signal, for instance. `None` if that is not so, or not known.
    fn threads(&self) -> Option<usize> {
        None
    }

    /// What one thread needs to step all workers, if that is how the runtime is to run: see `sim`. Then
    /// [`Seam::attach`] and [`Seam::park`] are not called.
    fn simulated(&self) -> Option<&dyn Simulated> {
        None
    }

    /// The end of the loop has come: everybody who waits gets an error. Idempotent.
    fn close(&self);

    /// Gives everything back to the operating system. After `close`, when nobody parks any more.
    /// Threads that were left behind, and the one that closes the runtime, may still call the other
    /// methods, which must do no harm.
    fn release(&self);

    /// For the facade, to get its own driver back: what this is depends on the implementation.
    fn as_any(&self) -> &dyn Any;
}

/// What a simulation asks of a seam instead of blocking on it.
pub trait Simulated {
    /// The number that the numbers of [`Seam::seed`] come from.
    fn origin(&self) -> u64;

    /// The earliest time at which [`Seam::poll`] of `slot` may have something to do; [`NEVER`] if there
    /// is none.
    fn next_deadline(&self, slot: usize) -> u64;

    /// Whether [`Seam::unpark`] was called for `slot` since the last [`Simulated::take_unpark`].
    fn is_unparked(&self, slot: usize) -> bool;

    /// The same, and forgets it.
    fn take_unpark(&self, slot: usize) -> bool;

    /// It is `time` now, which is not before what [`Seam::now`] said last.
    fn advance(&self, time: u64);
}
