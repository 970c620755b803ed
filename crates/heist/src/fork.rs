//! `fork`: how the two crates below learn that this process is a child.
//!
//! A runtime does not survive a `fork`: the child has none of its threads, and shares its poller with
//! the parent. What that means is in `fork.rs` of the core and of the driver; here is how they are
//! told.
//!
//! | way                       | when                      | costs                                |
//! |---------------------------|---------------------------|--------------------------------------|
//! | `pthread_atfork`          | inside `fork`             | nothing afterwards: a look is a load |
//! | the process id, compared  | where a loop is entered   | one system call, some 0.1 µs         |
//!
//! The second is for a child that was made without the C library (a bare `clone`), and for a
//! `pthread_atfork` that failed. Such a child must not come back to a poll of its parent's: only the
//! entrances tell it.

#[cfg(unix)]
mod sys {
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

    /// The process that last looked; 0 until one did.
    static PROCESS: AtomicI32 = AtomicI32::new(0);

    /// From now on children of this process are noticed. Called before there is a runtime.
    pub(crate) fn watch() {
        static WATCHED: AtomicBool = AtomicBool::new(false);
        // Ordering: Acquire and Release, with each other: whoever leaves it to another thread to
        // watch has that one's process id, by which a fork in between is noticed.
        if WATCHED.load(Ordering::Acquire) {
            return;
        }
        notice();
        if WATCHED.swap(true, Ordering::AcqRel) {
            return;
        }
        // SAFETY: `in_child` keeps the rules for what runs in the child of a process with several
        // threads: it touches atomics and this thread's own context. It is code of this program and
        // is not unloaded; a library that is takes its handlers along.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        // Without memory for it, the process id still tells.
        let _ = failed;
    }

    /// Notices that this process is a child, where nothing else has told it.
    pub(crate) fn notice() {
        let now = process_id();
        // Ordering: Relaxed. A child has one thread, and what it starts sees this.
        let before = PROCESS.swap(now, Ordering::Relaxed);
        if before != now && before != 0 {
            tell();
        }
    }

    extern "C" fn in_child() {
        // Ordering: Relaxed, as in `notice`.
        PROCESS.store(process_id(), Ordering::Relaxed);
        tell();
    }

    fn tell() {
        heist_core::forked();
        heist_io::forked();
    }

    fn process_id() -> i32 {
        // SAFETY: it has no conditions, and may be called in the child of a fork.
        unsafe { libc::getpid() }
    }
}

/// Where processes are not copied.
#[cfg(not(unix))]
mod sys {
    pub(crate) fn watch() {}
    pub(crate) fn notice() {}
}

pub(crate) use sys::{notice, watch};
