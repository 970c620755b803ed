//! More about tasks: names, identities, and what a task knows of itself.

#![forbid(unsafe_code)]

use crate::handle::{spawn_at, spawn_blocking_at, spawn_fallible_at, spawn_local_at};
use heist_core::Spawn;
use std::fmt;
use std::future::Future;
use std::panic::Location;

pub use heist_core::{AbortHandle, Id, JoinError, JoinHandle, Label, YieldNow};

/// Says more of a task before it is spawned.
///
/// ```
/// heist::run(async {
///     let task = heist::task::Builder::new()
///         .name("answer")
///         .spawn(async { heist::task::name() });
///     assert_eq!(task.name(), Some("answer"));
///     assert_eq!(task.await.unwrap().as_deref(), Some("answer"));
/// });
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until one of its `spawn` methods"]
pub struct Builder {
    name: Option<Box<str>>,
}

impl Builder {
    /// Says nothing yet.
    ///
    /// ```
    /// heist::run(async {
    ///     let task = heist::task::Builder::new().spawn(async { 1 });
    ///     assert_eq!(task.name(), None);
    ///     assert_eq!(task.await.unwrap(), 1);
    /// });
    /// ```
    pub fn new() -> Builder {
        Builder::default()
    }

    /// The task's name, for errors and reports. Any text; names need not differ.
    ///
    /// ```
    /// heist::run(async {
    ///     let task = heist::task::Builder::new().name("clock").spawn(std::future::pending::<()>());
    ///     task.abort();
    ///     assert_eq!(task.await.unwrap_err().name(), Some("clock"));
    /// });
    /// ```
    pub fn name(mut self, name: impl Into<Box<str>>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// Like [`heist::spawn`](crate::spawn).
    ///
    /// ```
    /// heist::run(async {
    ///     let task = heist::task::Builder::new().name("sum").spawn(async { 1 + 2 });
    ///     assert_eq!(task.await.unwrap(), 3);
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// Where there is no runtime, as `spawn` does.
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        spawn_at(self.at(Location::caller()), future)
    }

    /// Like [`heist::spawn_fallible`](crate::spawn_fallible).
    ///
    /// ```
    /// heist::run(async {
    ///     let task = heist::task::Builder::new()
    ///         .name("number")
    ///         .spawn_fallible(async { "7".parse::<u32>() });
    ///     assert_eq!(task.await.unwrap(), Ok(7));
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// Where there is no runtime, as `spawn_fallible` does.
    #[track_caller]
    pub fn spawn_fallible<F, T, E>(self, future: F) -> JoinHandle<Result<T, E>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: fmt::Debug + Send + 'static,
    {
        spawn_fallible_at(self.at(Location::caller()), future)
    }

    /// Like [`heist::spawn_local`](crate::spawn_local).
    ///
    /// ```
    /// use std::rc::Rc;
    ///
    /// heist::run(async {
    ///     let shared = Rc::new(5);
    ///     let task = heist::task::Builder::new().name("local").spawn_local(async move { *shared });
    ///     assert_eq!(task.await.unwrap(), 5);
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// Where there is no thread the task could stay on, as `spawn_local` does.
    #[track_caller]
    pub fn spawn_local<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawn_local_at(self.at(Location::caller()), future)
    }

    /// Like [`heist::spawn_blocking`](crate::spawn_blocking).
    ///
    /// ```
    /// heist::run(async {
    ///     let task = heist::task::Builder::new().name("disk").spawn_blocking(heist::task::name);
    ///     assert_eq!(task.await.unwrap().as_deref(), Some("disk"));
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// Where there is no runtime, as `spawn_blocking` does.
    #[track_caller]
    pub fn spawn_blocking<F, T>(self, call: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_blocking_at(self.at(Location::caller()), call)
    }

    fn at(self, site: &'static Location<'static>) -> Spawn {
        let mut spawn = Spawn::at(site);
        spawn.name = self.name;
        spawn
    }
}

/// The identity of the task that is being polled on this thread. A closure of `spawn_blocking` is a
/// task in this sense, with an identity of its own.
///
/// ```
/// heist::run(async {
///     let task = heist::spawn(async { heist::task::id() });
///     let id = task.id();
///     assert_eq!(task.await.unwrap(), id);
///
///     let closure = heist::spawn_blocking(heist::task::id);
///     let id = closure.id();
///     assert_eq!(closure.await.unwrap(), id);
/// });
/// ```
///
/// # Panics
///
/// Outside of a task; the main future of `run` is none.
#[track_caller]
pub fn id() -> Id {
    try_id().unwrap_or_else(|| {
        panic!("heist: `task::id` was called outside of a task; the main future is none")
    })
}

/// The identity of the task that is being polled on this thread, if there is one.
///
/// ```
/// assert_eq!(heist::task::try_id(), None);
/// heist::run(async {
///     // The main future is no task.
///     assert_eq!(heist::task::try_id(), None);
///     let task = heist::spawn(async { heist::task::try_id() });
///     let id = task.id();
///     assert_eq!(task.await.unwrap(), Some(id));
/// });
/// ```
pub fn try_id() -> Option<Id> {
    heist_core::task_id()
}

/// The name of the task that is being polled on this thread, if there is a task and it has one.
///
/// ```
/// assert_eq!(heist::task::name(), None);
/// heist::run(async {
///     let task = heist::task::Builder::new().name("a").spawn(async { heist::task::name() });
///     assert_eq!(task.await.unwrap().as_deref(), Some("a"));
/// });
/// ```
pub fn name() -> Option<String> {
    heist_core::task_name()
}
