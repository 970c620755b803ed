//! What the tests of the core and shuttle's models of all of it have in common: spawns, counts and events.

#![forbid(unsafe_code)]

use crate::sync::Mutex;
use crate::{JoinHandle, Spawn, Unseen};
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

#[track_caller]
pub(crate) fn here() -> Spawn {
    Spawn::at(Location::caller())
}

/// Spawns on the runtime of this thread.
#[track_caller]
pub(crate) fn go<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let Ok(handle) = crate::spawn(here(), future, Unseen::dropped()) else {
        panic!("no runtime here");
    };
    handle
}

/// Counts. Of the standard library, so that in a model it is no place to be interrupted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
    pub(crate) fn add(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
    /// Counts when it is dropped.
    pub(crate) fn on_drop(&self) -> Counted {
        Counted(self.clone())
    }
}

/// See [`Count::on_drop`].
#[derive(Debug)]
pub(crate) struct Counted(Count);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// A condition, and somewhere to leave wakers until it holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Event(pub(crate) Arc<Mutex<(bool, Vec<Waker>)>>);

impl Event {
    pub(crate) fn set(&self) {
        let wakers = {
            let mut inner = self.0.lock();
            inner.0 = true;
            std::mem::take(&mut inner.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Future for Event {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.0.lock();
        if inner.0 {
            return Poll::Ready(());
        }
        inner.1.push(cx.waker().clone());
        Poll::Pending
    }
}
