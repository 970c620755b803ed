//! The real primitives.

#![forbid(unsafe_code)]

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use std::{thread, thread_local};

/// The standard library's locks: for who waits for long. `parking_lot` would keep them in a table of
/// the whole process, which the child of a fork inherits without the threads.
pub(crate) mod own {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
}
