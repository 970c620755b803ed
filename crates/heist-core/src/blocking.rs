//! The blocking pool: threads for closures that block.
//!
//! A closure is a task that is polled once. Threads start on demand up to `blocking_threads` and
//! end after `blocking_keep_alive` without work. Beyond the bound closures wait their turn; a
//! caller who awaits each handle before it sends more has its back-pressure there.
//!
//! | who                     | under the lock                                              |
//! |-------------------------|-------------------------------------------------------------|
//! | spawner                 | push; call                                                  |
//! | thread, new             | starting − 1; then as the others                            |
//! | thread, queue not empty | pop; call; then run the closure                             |
//! | thread, queue empty     | idle + 1; wait; if notified > 0: notified − 1, else timeout: idle − 1 |
//! | call, notified > 0      | nothing: whoever is on the way will call                    |
//! | call, idle > 0          | idle − 1, notified + 1; wake one                            |
//! | call, starting ≥ queued | nothing: there is a thread for each                         |
//! | call, idle = 0          | threads + 1, starting + 1, start one, if below the bound    |
//!
//! A call is for a closure that is queued; with an empty queue there is none.
//!
//! **Invariant**: while the lock is free and a closure is queued, a thread is on its way to `next`
//! (notified, or being started), or all threads there may be run closures. So no closure waits for
//! the end of another while the bound allows for one more thread, also if the other waits for it:
//! a thread calls for the next closure before it runs its own. Where a start fails, the call is
//! repeated with the back-off of all starts (`threads.rs`).
//!
//! One thread at a time is woken, and not one for each closure of a burst: most would come too
//! late for short ones, and each would cost a switch. Who calls takes the idle thread out of the
//! count, not the thread when it wakes: otherwise two calls would both count on the same one.
//! Started is one for each, since a start takes long, and no more: who comes first counts on the others.

#![forbid(unsafe_code)]

use crate::context::{self, Context, Role};
use crate::shared::{Shared, Spawn};
use crate::sim::Part;
use crate::sync::own::{Condvar, Mutex, MutexGuard};
use crate::task::{
    JoinError, JoinHandle, Kind, Runnable, Running, Started, TaskList, Unseen, create,
};
use crate::threads::{self, Purpose};
use crate::worker;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError};
use std::task::{self, Poll};

#[cfg(all(test, not(any(heist_loom, heist_shuttle))))]
mod tests;

/// See the module.
///
/// The lock is the standard library's: idle threads wait here for long, and `parking_lot` would keep
/// them in a table of the whole process. The child of a fork inherits that table without the
/// threads, and would trip over it.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) tasks: TaskList,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Runnable>,
    /// Threads that wait and that no spawner counts on.
    idle: usize,
    /// Wake-ups on their way to threads that wait.
    notified: usize,
    /// Threads, waiting or not, and those being started.
    threads: usize,
    /// Those of them that have not come for a closure yet. One that calls the user's hook before is counted on
    /// no more: the hook may wait for a closure.
    starting: usize,
    closed: bool,
}

/// A closure as a future that is ready at its first poll.
struct Call<F>(Option<F>);

// The closure is moved out before it is called; it is never pinned.
impl<F> Unpin for Call<F> {}

impl<F: FnOnce() -> T, T> Future for Call<F> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<T> {
        let call = self.0.take().expect("a closure is polled once");
        Poll::Ready(call())
    }
}

impl Pool {
    pub(crate) fn new() -> Pool {
        Pool {
            tasks: TaskList::new(),
            state: Mutex::default(),
            work: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Panic: nothing under the lock panics, so it is not poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a closure.
    pub(crate) fn spawn<F, T>(
        &self,
        shared: &Shared,
        cx: Option<&Context<'_>>,
        spawn: Spawn,
        call: F,
    ) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let cx = cx.filter(|cx| cx.is_inside(shared));
        let owner = NonNull::from(shared).cast();
        let new = shared.new_task(cx, spawn, Kind::Blocking, owner);
        let published = create(new, Call(Some(call)), Unseen::dropped())
            .inheriting()
            .publish(&self.tasks);
        let (handle, task) = match published {
            Ok(published) => published,
            Err((call, label)) => {
                drop(call);
                return JoinHandle::refused(label.clone(), JoinError::closed(&label));
            }
        };
        self.push(shared, task);
        handle
    }

    fn push(&self, shared: &Shared, task: Runnable) {
        let mut state = self.lock();
        if state.closed {
            // The list was open a moment ago: the end of the loop has just come by here, and
            // waits for this task.
            drop(state);
            return cancel_unrun(shared, task);
        }
        state.queue.push_back(task);
        self.call(shared, state);
    }

    /// Sees to it that a thread comes for what is queued. See the module.
    fn call(&self, shared: &Shared, state: MutexGuard<'_, State>) {
        let starting = state.starting;
        self.call_beside(shared, state, starting);
    }

    /// A thread could not be started some time ago: is there a closure that still waits for one? It does not
    /// count on those that are being started, which may have failed as well.
    pub(crate) fn call_again(&self, shared: &Shared) {
        self.call_beside(shared, self.lock(), 0);
    }

    /// The same, where so many threads will come by themselves.
    fn call_beside(&self, shared: &Shared, mut state: MutexGuard<'_, State>, starting: usize) {
        if state.queue.is_empty() || state.notified > 0 {
            // Whoever is on the way will call.
            return;
        }
        if state.idle > 0 {
            state.idle -= usize::from(!cfg!(heist_bug_25));
            state.notified += 1;
            drop(state);
            // Who wakes needs the lock first thing.
            self.work.notify_one();
        } else if starting < state.queue.len() && state.threads < shared.config.blocking_threads {
            state.threads += 1;
            state.starting += 1;
            drop(state);
            if let Err(error) = self.start(shared) {
                #[cfg(heist_bug_37)]
                shared.threads.try_later(shared);
                self.not_started(shared, &error);
                #[cfg(not(heist_bug_37))]
                shared.threads.try_later(shared);
                shared
                    .threads
                    .report_failure(shared, Purpose::Blocking, &error);
            }
        }
    }

    fn start(&self, shared: &Shared) -> io::Result<()> {
        if let Some(sim) = &shared.sim {
            // It is there at once.
            self.lock().starting -= 1;
            if !sim.activate(Part::closures()) {
                self.lock().starting += 1;
                return Err(threads::closed());
            }
            return Ok(());
        }
        let me = shared
            .me
            .upgrade()
            .ok_or_else(|| io::Error::other("the runtime is gone"))?;
        shared
            .threads
            .start(shared, Purpose::Blocking, move || thread(&me))
    }

    /// A thread could not be had. If there are others, or others are being started, they get to
    /// the closure; if there is none, the handles of all that wait say so.
    fn not_started(&self, shared: &Shared, error: &io::Error) {
        let queue = {
            let mut state = self.lock();
            state.threads -= 1;
            state.starting -= 1;
            if state.threads > 0 || cfg!(heist_bug_24) {
                return;
            }
            std::mem::take(&mut state.queue)
        };
        for task in queue {
            // Errors of the operating system are cloned by their number.
            let error = match error.raw_os_error() {
                Some(number) => io::Error::from_raw_os_error(number),
                None => io::Error::new(error.kind(), error.to_string()),
            };
            end_unrun(shared, task, |label| JoinError::no_thread(label, error));
        }
    }

    /// How many threads it has, those being started included, and how many closures wait for one.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.lock();
        (state.threads, state.queue.len())
    }

    /// The end of the loop: refuses closures, ends those that have not begun, and lets idle
    /// threads go. The list of tasks must be closed.
    pub(crate) fn close(&self, shared: &Shared) {
        let queue = {
            let mut state = self.lock();
            state.closed = true;
            self.work.notify_all();
            std::mem::take(&mut state.queue)
        };
        for task in queue {
            cancel_unrun(shared, task);
        }
    }

    /// The next closure for a part of a simulation that stands for a thread, or `None`: it ends, since
    /// to keep it alive would spare nothing.
    pub(crate) fn next_simulated(&self) -> Option<Runnable> {
        let mut state = self.lock();
        let next = state.queue.pop_front();
        state.threads -= usize::from(next.is_none());
        next
    }

    /// The next closure for a thread of the pool, or `None`: the thread ends. `is_starting`: it is counted as such.
    fn next(&self, shared: &Shared, is_starting: bool) -> Option<Runnable> {
        let mut state = self.lock();
        state.starting -= usize::from(is_starting);
        loop {
            if let Some(task) = state.queue.pop_front() {
                self.call(shared, state);
                return Some(task);
            }
            let mut again = false;
            if !state.closed {
                (state, again) = self.wait(shared, state);
            }
            if !again {
                state.threads -= 1;
                return None;
            }
        }
    }

    /// Waits for a spawner; false if none came for the length of the keep-alive.
    fn wait<'a>(
        &self,
        shared: &Shared,
        mut state: MutexGuard<'a, State>,
    ) -> (MutexGuard<'a, State>, bool) {
        state.idle += 1;
        loop {
            let (back, waited) = self
                .work
                .wait_timeout(state, shared.config.blocking_keep_alive)
                .unwrap_or_else(PoisonError::into_inner);
            state = back;
            if state.notified > 0 {
                state.notified -= 1;
                return (state, true);
            }
            if waited.timed_out() || state.closed {
                state.idle -= 1;
                let again = state.closed;
                return (state, again);
            }
        }
    }
}

fn thread(shared: &Arc<Shared>) {
    let hooks = &shared.config.hooks;
    let mut is_starting = hooks.on_thread_start.is_none();
    if !is_starting {
        shared.blocking.lock().starting -= 1;
        hooks.thread_start();
    }
    let cx = Context::new(shared, Role::Blocking, shared.site);
    context::enter(&cx, || {
        while !shared.is_forked() {
            let Some(task) = shared
                .blocking
                .next(shared, std::mem::take(&mut is_starting))
            else {
                break;
            };
            if shared.is_forked() {
                // The error handler has forked, when the call for the next thread failed.
                break;
            }
            let _ = worker::run_task(&cx, None, task);
        }
    });
    if shared.is_forked() {
        // The hook or a closure has forked, and returned in the child. The runtime is leaked there.
        std::mem::forget(shared.clone());
        return;
    }
    hooks.thread_stop();
}

/// The end of the loop ends a closure before it has begun.
fn cancel_unrun(shared: &Shared, task: Runnable) {
    // Counted before its list is empty, which the end of the loop waits for.
    shared.closing.count_cancelled(Kind::Blocking);
    end_unrun(shared, task, |label| JoinError::cancelled(label, None));
}

/// Ends a closure that will not run.
fn end_unrun(shared: &Shared, task: Runnable, why: impl FnOnce(&crate::task::Label) -> JoinError) {
    let Some(shared) = shared.me.upgrade() else {
        return;
    };
    let cx = Context::new(&shared, Role::Service, shared.site);
    let (Started::Poll(mut running) | Started::Drop(mut running)) = task.start();
    let error = why(&running.header().label());
    drop_call(&cx, &mut running, error);
    worker::complete(&cx, running);
}

fn drop_call(cx: &Context<'_>, running: &mut Running, error: JoinError) {
    context::enter(cx, || running.cancel(error));
}
