//! User callbacks, and what is reported through them.
//!
//! Hooks run without any lock held; a hook that panics is caught. The error handler is where heist
//! tells what nobody else can hear of: a panic in a detached task, a thread that could not be
//! started, a poll that holds up the end of the loop.

#![forbid(unsafe_code)]

use crate::task::{Id, JoinError, Label};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Something that went wrong and that no return value can tell.
#[derive(Debug)]
#[non_exhaustive]
pub enum Report<'a> {
    /// A task panicked, or a destructor of it, and nobody waits for the task any more.
    Panicked(&'a JoinError),
    /// A task of `spawn_fallible` ended with an `Err`, and nobody waits for the task any more.
    Failed {
        /// The task.
        task: Label,
        /// The error, as its `Debug` shows it.
        error: &'a str,
    },
    /// A thread of the runtime could not be started. The runtime goes on with those it has and
    /// tries again later.
    ThreadNotStarted {
        /// Why.
        error: &'a io::Error,
        /// What the thread was for: `"worker"`, `"monitor"`, `"blocking"`.
        role: &'static str,
    },
    /// A poll has lasted longer than `stall_threshold` (debug mode only).
    Stalled {
        /// The task, or `None` for `main`.
        id: Option<Id>,
        /// The name given to the task with a task builder.
        name: Option<&'a str>,
        /// Where the task was spawned; `None` for `main`, and for a task whose poll is over and
        /// whose joiner's waker blocks.
        spawned_at: Option<&'static Location<'static>>,
        /// How long the poll has lasted so far.
        lasted: Duration,
    },
    /// A task is idle, and no waker and no handle of it exists: it can never run again, and will be
    /// dropped at the end of the loop (debug mode only). Reported once.
    Stuck {
        /// The task.
        task: Label,
    },
    /// A task has ended, aborted or at the end of the loop, before anybody has polled it once: it has
    /// done nothing (debug mode only).
    NeverPolled {
        /// The task.
        task: Label,
    },
    /// The end of the loop waits for a task that is inside `poll` or `drop`. Reported once a
    /// second.
    ShutdownWaits {
        /// The task.
        id: Id,
        /// Where it was spawned.
        spawned_at: &'static Location<'static>,
        /// How long the loop has waited.
        waited: Duration,
    },
    /// Blocking closures were still running when their grace ended; their threads were left behind.
    BlockingAbandoned {
        /// How many.
        count: usize,
    },
    /// A hook of the user's panicked.
    HookPanicked {
        /// Which one.
        hook: &'static str,
    },
    /// The destructor of `main`'s future panicked after `main` had ended otherwise.
    MainDropPanicked,
}

impl<'a> Report<'a> {
    /// A panic, or an error, that nobody has seen.
    pub(crate) fn unseen(error: &'a JoinError) -> Report<'a> {
        match error.failure() {
            Some(text) => Report::Failed {
                task: error.label(),
                error: text,
            },
            None => Report::Panicked(error),
        }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Panicked(error) => write!(f, "{error}, and nobody awaits it"),
            Report::Failed { task, error } => {
                write!(f, "{task} failed: {error}, and nobody awaits it")
            }
            Report::Stuck { task } => {
                write!(f, "{task} can never run again: nobody is left to wake it")
            }
            Report::ThreadNotStarted { error, role } => {
                write!(f, "a {role} thread could not be started: {error}")
            }
            Report::Stalled {
                id: Some(id),
                name,
                spawned_at,
                lasted,
            } => {
                write!(f, "task {id}")?;
                if let Some(name) = name {
                    write!(f, " '{name}'")?;
                }
                if let Some(site) = spawned_at {
                    write!(f, " (spawned at {site})")?;
                }
                write!(f, " has blocked its worker for {lasted:?}")
            }
            Report::Stalled { lasted, .. } => {
                write!(f, "the main future has blocked its thread for {lasted:?}")
            }
            Report::NeverPolled { task } => {
                write!(
                    f,
                    "{task} has ended and was never polled: it has done nothing"
                )
            }
            Report::ShutdownWaits {
                id,
                spawned_at,
                waited,
            } => write!(
                f,
                "the runtime has waited {waited:?} for task {id} (spawned at {spawned_at}) to \
                 come back from its poll or destructor"
            ),
            Report::BlockingAbandoned { count } => {
                write!(
                    f,
                    "{count} blocking closures outlasted their grace and were left behind"
                )
            }
            Report::HookPanicked { hook } => write!(f, "the hook {hook} panicked"),
            Report::MainDropPanicked => f.write_str("the destructor of the main future panicked"),
        }
    }
}

type Hook = Arc<dyn Fn() + Send + Sync>;
type ErrorHandler = Arc<dyn Fn(&Report<'_>) + Send + Sync>;
type SpawnHook = Arc<dyn Fn(Id) + Send + Sync>;

/// The user's callbacks.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Runs on every worker and blocking thread before its first work.
    pub on_thread_start: Option<Hook>,
    /// Runs on every worker and blocking thread after its last work.
    pub on_thread_stop: Option<Hook>,
    /// Runs in the spawning call, for every task.
    pub on_task_spawn: Option<SpawnHook>,
    /// Receives every [`Report`]; without it they go to standard error.
    pub on_error: Option<ErrorHandler>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("on_thread_start", &self.on_thread_start.is_some())
            .field("on_thread_stop", &self.on_thread_stop.is_some())
            .field("on_task_spawn", &self.on_task_spawn.is_some())
            .field("on_error", &self.on_error.is_some())
            .finish()
    }
}

impl Hooks {
    /// Tells the error handler, or standard error if there is none or it panics.
    pub(crate) fn report(&self, report: &Report<'_>) {
        if let Some(handler) = &self.on_error {
            match catch_unwind(AssertUnwindSafe(|| handler(report))) {
                Ok(()) => return,
                Err(payload) => drop_payload(payload),
            }
        }
        report_to_stderr(report);
    }

    pub(crate) fn thread_start(&self) {
        if let Some(hook) = &self.on_thread_start {
            self.call("on_thread_start", &**hook);
        }
    }

    pub(crate) fn thread_stop(&self) {
        if let Some(hook) = &self.on_thread_stop {
            self.call("on_thread_stop", &**hook);
        }
    }

    #[inline]
    pub(crate) fn task_spawn(&self, id: Id) {
        if let Some(hook) = &self.on_task_spawn {
            self.call("on_task_spawn", &|| hook(id));
        }
    }

    fn call(&self, name: &'static str, hook: &dyn Fn()) {
        #[cfg(heist_bug_34)]
        return hook();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(hook)) {
            drop_payload(payload);
            self.report(&Report::HookPanicked { hook: name });
        }
    }
}

/// Where reports go when no handler can be reached.
pub(crate) fn report_to_stderr(report: &Report<'_>) {
    use std::io::Write;
    // Not `eprintln!`: it panics when standard error is closed.
    let _ = writeln!(std::io::stderr(), "heist: {report}");
}

/// Drops a panic's payload, whose destructor is user code and may panic in its turn. The payload
/// of that second panic is leaked: it could go on like this for ever.
pub fn drop_payload(payload: Box<dyn std::any::Any + Send>) {
    #[cfg(heist_bug_14)]
    return drop(payload);
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}

/// Drops a value of the user's while a panic is on its way already: on top of that, a panic of this one
/// would end the process. So nobody sees it.
pub fn drop_beside_panic<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        drop_payload(payload);
    }
}

/// Drops a future before its output is given out: whoever sees that knows that all the future had is gone.
/// A panic of the destructor takes the output's place.
pub(crate) fn drop_before<F, T>(mut future: Pin<&mut Option<F>>, output: T) -> thread::Result<T> {
    match catch_unwind(AssertUnwindSafe(|| future.set(None))) {
        Ok(()) => Ok(output),
        Err(payload) => {
            drop_beside_panic(output);
            Err(payload)
        }
    }
}
