//! Whom a record of regions belongs to: a task, or the main future of a run.
//!
//! The main future has no cell and no queue. Its word is set to *running* when its run begins and
//! stays so, hence no transition ever answers that it is to be pushed; where a task would be, `main`
//! is woken.

#![forbid(unsafe_code)]

use super::join::TaskRef;
use super::raw::Runnable;
use super::region::Owner;
use super::state::{Close, State};
use super::waker;
use crate::pinned::Pinned;
use std::sync::Arc;
use std::task::Waker;

/// A counted reference to whom a record belongs to.
#[derive(Clone, Debug)]
pub(crate) enum Keeper {
    Task(TaskRef),
    Main(Arc<Pinned>),
}

/// What is to be run, or to be woken.
#[derive(Debug)]
pub(crate) enum Due {
    Task(Runnable),
    Main(Arc<Pinned>),
}

impl Owner for Keeper {
    type Due = Due;

    fn state(&self) -> &State {
        match self {
            Keeper::Task(task) => task.state(),
            Keeper::Main(pinned) => pinned.word(),
        }
    }

    fn request_cancel(&self) -> Option<Due> {
        match self {
            Keeper::Task(task) => task.request_cancel().map(Due::Task),
            Keeper::Main(pinned) => {
                let _ = pinned.word().request_cancel();
                Some(Due::Main(pinned.clone()))
            }
        }
    }

    fn request_close(&self) -> (Close, Option<Due>) {
        match self {
            Keeper::Task(task) => {
                let (close, due) = task.request_close();
                (close, due.map(Due::Task))
            }
            Keeper::Main(_) => unreachable!("the main future has ended before the loop does"),
        }
    }

    fn leave_region(&self, requested: bool) -> Option<Due> {
        match self {
            Keeper::Task(task) => task.leave_region(requested).map(Due::Task),
            Keeper::Main(pinned) => {
                let _ = pinned.word().leave_region(requested);
                requested.then(|| Due::Main(pinned.clone()))
            }
        }
    }

    fn push(due: Due) {
        match due {
            Due::Task(task) => waker::schedule(task),
            Due::Main(pinned) => std::task::Wake::wake(pinned),
        }
    }

    fn wake(waker: Waker) {
        waker::wake_foreign(waker);
    }

    fn drop_waker(waker: Waker) {
        waker::drop_foreign(waker);
    }
}
