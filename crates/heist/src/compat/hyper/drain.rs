//! How a server tells its connections to end, and learns that they have.
//!
//! The server holds the [`Drain`], every connection a [`Connection`]. The phase only goes forward:
//!
//! ```text
//!  serving ──1──▶ closing ──2──▶ cut          1 `close`: finish what you are at
//!                                             2 `cut`: end now
//! ```
//!
//! # No phase is missed
//!
//! The phase is written, and wakers are put in and taken out, under one lock. So a connection that
//! registers under the lock either sees the new phase or is in the list that `advance` takes. A
//! connection whose waker is registered for the phase it reads needs no lock: if the phase has moved
//! on since, `advance` has its waker. Hence a poll in the steady state is one load.
//!
//! Wakers are users' code: they are cloned, woken and dropped outside the lock.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};

use heist_core::{drop_foreign, wake_foreign};
use parking_lot::Mutex;

/// How far the end of the server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    Closing,
    Cut,
}

impl Phase {
    fn from_u8(n: u8) -> Phase {
        match n {
            0 => Phase::Serving,
            1 => Phase::Closing,
            _ => Phase::Cut,
        }
    }
}

#[derive(Debug)]
struct Shared {
    /// Written under the lock, read by connections without it.
    phase: AtomicU8,
    open: Mutex<Open>,
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Open {
    count: usize,
    next_key: u64,
    wakers: HashMap<u64, Waker>,
    /// Whoever waits for `count` to be zero.
    empty: Option<Waker>,
}

/// The server's end. Dropping it closes.
#[derive(Debug)]
pub(super) struct Drain {
    shared: Arc<Shared>,
}

impl Drain {
    pub(super) fn new() -> Drain {
        Drain {
            shared: Arc::new(Shared {
                phase: AtomicU8::new(Phase::Serving as u8),
                open: Mutex::default(),
            }),
        }
    }

    /// Counts one more connection in.
    pub(super) fn connection(&self) -> Connection {
        let mut open = self.shared.open.lock();
        open.count += 1;
        open.next_key += 1;
        Connection {
            shared: self.shared.clone(),
            key: open.next_key,
            registered: None,
        }
    }

    /// Asks every connection to finish what it is at.
    pub(super) fn close(&self) {
        self.advance(Phase::Closing);
    }

    /// Asks every connection to end now, and tells how many there are.
    pub(super) fn cut(&self) -> usize {
        self.advance(Phase::Cut);
        self.shared.open.lock().count
    }

    fn advance(&self, phase: Phase) {
        let mut open = self.shared.open.lock();
        if self.shared.phase.load(Ordering::Relaxed) >= phase as u8 {
            return;
        }
        // Ordering: Relaxed. A connection that must not miss it reads it under this lock; one that
        // reads the old value without is in `wakers`, and is woken below.
        self.shared.phase.store(phase as u8, Ordering::Relaxed);
        let wakers = mem::take(&mut open.wakers);
        drop(open);
        // A panic of one must not take the others' wake-ups.
        wakers.into_values().for_each(wake_foreign);
    }

    /// Waits until no connection is open.
    pub(super) async fn drained(&self) {
        poll_fn(|cx| {
            let waker = cx.waker().clone();
            let mut open = self.shared.open.lock();
            if open.count == 0 {
                return Poll::Ready(());
            }
            let old = open.empty.replace(waker);
            drop(open);
            old.into_iter().for_each(drop_foreign);
            Poll::Pending
        })
        .await;
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.close();
    }
}

/// A connection's end. Dropping it counts the connection out.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    key: u64,
    /// The waker that is in the list, and the phase at which it was put there.
    registered: Option<(Waker, Phase)>,
}

impl Connection {
    /// The phase; the task is woken when it changes.
    pub(super) fn poll_phase(&mut self, cx: &Context<'_>) -> Phase {
        // Ordering: Relaxed, see `advance`: an old value means that a wake is on its way.
        let now = Phase::from_u8(self.shared.phase.load(Ordering::Relaxed));
        match &self.registered {
            Some((waker, phase)) if *phase == now && waker.will_wake(cx.waker()) => now,
            _ => self.register(cx.waker()),
        }
    }

    fn register(&mut self, waker: &Waker) -> Phase {
        let (own, listed) = (waker.clone(), waker.clone());
        let mut open = self.shared.open.lock();
        let now = Phase::from_u8(self.shared.phase.load(Ordering::Relaxed));
        let old = open.wakers.insert(self.key, listed);
        drop(open);
        old.into_iter().for_each(drop_foreign);
        self.registered = Some((own, now));
        now
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock();
        open.count -= 1;
        let own = open.wakers.remove(&self.key);
        let empty = if open.count == 0 {
            open.empty.take()
        } else {
            None
        };
        drop(open);
        own.into_iter().for_each(drop_foreign);
        empty.into_iter().for_each(wake_foreign);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn every_phase_wakes_a_connection_once() {
        let drain = Drain::new();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let cx = Context::from_waker(&waker);
        let mut connection = drain.connection();

        assert_eq!(connection.poll_phase(&cx), Phase::Serving);
        drain.close();
        drain.close();
        assert_eq!(count.get(), 1);
        assert_eq!(connection.poll_phase(&cx), Phase::Closing);
        assert_eq!(drain.cut(), 1);
        assert_eq!(count.get(), 2);
        assert_eq!(connection.poll_phase(&cx), Phase::Cut);
    }

    #[test]
    fn a_connection_that_moved_is_woken_where_it_is() {
        let drain = Drain::new();
        let (before, after) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let mut connection = drain.connection();
        for count in [&before, &after] {
            let waker = Waker::from(count.clone());
            connection.poll_phase(&Context::from_waker(&waker));
        }
        drop(drain);
        assert_eq!((before.get(), after.get()), (0, 1));
    }

    #[test]
    fn drained_is_ready_when_the_last_connection_is_gone() {
        let drain = Drain::new();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        let (first, second) = (drain.connection(), drain.connection());
        let mut drained = pin!(drain.drained());

        assert!(drained.as_mut().poll(&mut cx).is_pending());
        drop(first);
        assert_eq!(count.get(), 0);
        assert!(drained.as_mut().poll(&mut cx).is_pending());
        drop(second);
        assert_eq!(count.get(), 1);
        assert!(drained.as_mut().poll(&mut cx).is_ready());
    }
}
