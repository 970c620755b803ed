//! The traits of `futures-task` for code that spawns through `&impl Spawn`: feature `futures-task`.

#![forbid(unsafe_code)]

use std::marker::PhantomData;
use std::rc::Rc;

use futures_task::{FutureObj, LocalFutureObj, LocalSpawn, Spawn, SpawnError};

use crate::Handle;

/// Spawns on the runtime, from any thread. The error is that the runtime is closed.
///
/// ```
/// use futures::task::{Spawn, SpawnExt};
///
/// /// Knows `futures`, and no executor.
/// fn double(executor: &impl Spawn, n: u32) -> futures::future::RemoteHandle<u32> {
///     executor.spawn_with_handle(async move { 2 * n }).unwrap()
/// }
///
/// let answer = heist::run(async { double(&heist::Handle::current(), 21).await });
/// assert_eq!(answer, 42);
/// ```
///
/// What is spawned may move between threads:
///
/// ```compile_fail
/// use futures::task::SpawnExt;
///
/// heist::run(async {
///     let shared = std::rc::Rc::new(1);
///     // `Rc` cannot be sent between threads: this is for a `LocalHandle`.
///     heist::Handle::current().spawn_with_handle(async move { drop(shared) }).unwrap();
/// });
/// ```
impl Spawn for Handle {
    #[track_caller]
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        match self.try_spawn(future) {
            Ok(detached) => {
                drop(detached);
                Ok(())
            }
            Err(_) => Err(SpawnError::shutdown()),
        }
    }

    fn status(&self) -> Result<(), SpawnError> {
        if self.is_closed() {
            Err(SpawnError::shutdown())
        } else {
            Ok(())
        }
    }
}

/// A [`Handle`] that stays on the thread of `run`, and so can spawn futures that are not `Send`.
///
/// It implements [`LocalSpawn`] and [`Spawn`] of `futures-task`, and gives out the [`Handle`] with
/// [`AsRef`]. A local task ends with the `run` it was spawned in, so spawning one between two runs
/// of a [`Runtime`](crate::Runtime), or inside the run of another, is refused. So it is where
/// [`spawn_local`](crate::spawn_local) would panic: in a task that may move between threads.
///
/// ```
/// use futures::task::{LocalSpawn, LocalSpawnExt};
/// use std::rc::Rc;
///
/// /// Knows `futures`, and no executor.
/// fn count(executor: &impl LocalSpawn, shared: Rc<u32>) -> futures::future::RemoteHandle<usize> {
///     executor.spawn_local_with_handle(async move { Rc::strong_count(&shared) }).unwrap()
/// }
///
/// heist::run(async {
///     let shared = Rc::new(0);
///     let executor = heist::LocalHandle::current();
///     assert_eq!(count(&executor, shared.clone()).await, 2);
/// });
/// ```
///
/// It cannot leave its thread:
///
/// ```compile_fail
/// heist::run(async {
///     let executor = heist::LocalHandle::current();
///     heist::spawn(async move { drop(executor) });
/// });
/// ```
#[derive(Clone, Debug)]
pub struct LocalHandle {
    handle: Handle,
    // `spawn_local` asks what the *calling* thread runs; a handle that moved would ask the wrong one.
    _not_send: PhantomData<Rc<()>>,
}

impl LocalHandle {
    /// The runtime of this thread.
    ///
    /// ```
    /// use futures::task::LocalSpawn;
    ///
    /// heist::run(async {
    ///     assert!(heist::LocalHandle::current().status_local().is_ok());
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// Where there is none. [`LocalHandle::try_current`] does not.
    #[must_use]
    #[track_caller]
    pub fn current() -> LocalHandle {
        LocalHandle::of(Handle::current())
    }

    /// The runtime of this thread, if there is one.
    ///
    /// ```
    /// assert!(heist::LocalHandle::try_current().is_none());
    /// ```
    #[must_use]
    pub fn try_current() -> Option<LocalHandle> {
        Handle::try_current().map(LocalHandle::of)
    }

    fn of(handle: Handle) -> LocalHandle {
        LocalHandle {
            handle,
            _not_send: PhantomData,
        }
    }

    /// Whether this thread is inside the runtime of this handle now.
    fn is_entered(&self) -> bool {
        Handle::try_current().is_some_and(|current| current.is_same(&self.handle))
    }
}

impl AsRef<Handle> for LocalHandle {
    fn as_ref(&self) -> &Handle {
        &self.handle
    }
}

impl Spawn for LocalHandle {
    #[track_caller]
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.handle.spawn_obj(future)
    }

    fn status(&self) -> Result<(), SpawnError> {
        self.handle.status()
    }
}

impl LocalSpawn for LocalHandle {
    #[track_caller]
    fn spawn_local_obj(&self, future: LocalFutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.status_local()?;
        let site = heist_core::Spawn::at(std::panic::Location::caller());
        match heist_core::spawn_local(site, future) {
            Ok(detached) => {
                drop(detached);
                Ok(())
            }
            Err(_) => Err(SpawnError::shutdown()),
        }
    }

    fn status_local(&self) -> Result<(), SpawnError> {
        self.status()?;
        if self.is_entered() {
            Ok(())
        } else {
            Err(SpawnError::shutdown())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Runtime;
    use std::cell::Cell;

    /// Spawns a future that would mark `ran`.
    fn mark(executor: &LocalHandle, ran: &Rc<Cell<bool>>) -> Result<(), SpawnError> {
        let ran = ran.clone();
        executor.spawn_local_obj(LocalFutureObj::new(Box::new(async move { ran.set(true) })))
    }

    #[test]
    fn a_closed_runtime_refuses_and_drops_the_future() {
        let mut runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        assert!(handle.status().is_ok());
        runtime.close();

        let captured = std::sync::Arc::new(());
        let held = captured.clone();
        let refused = handle.spawn_obj(FutureObj::new(Box::new(async move { drop(held) })));
        assert!(refused.unwrap_err().is_shutdown());
        assert!(handle.status().is_err());
        assert_eq!(std::sync::Arc::strong_count(&captured), 1);
    }

    #[test]
    fn a_local_handle_spawns_in_every_run_and_never_between_or_elsewhere() {
        let ran = Rc::new(Cell::new(false));
        let mut runtime = Runtime::new().unwrap();
        let executor = runtime.run(async { LocalHandle::current() });
        assert!(mark(&executor, &ran).unwrap_err().is_shutdown());
        crate::run(async {
            assert!(mark(&executor, &ran).unwrap_err().is_shutdown());
            crate::yield_now().await;
        });
        assert!(!ran.get());

        runtime.run(async {
            mark(&executor, &ran).unwrap();
            while !ran.get() {
                crate::yield_now().await;
            }
        });
    }
}
