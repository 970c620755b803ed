//! What to do when `accept` fails.
//!
//! | error | meaning | answer |
//! |---|---|---|
//! | `WouldBlock` | the queue is empty | wait for the next event |
//! | no descriptors, no memory | stays until someone closes something | pause, doubling, then again |
//! | aborted, reset, network errors | one connection died in the queue | take the next one |
//! | anything else | the listener is broken | the caller's |
//!
//! A shortage is not the caller's error: a server that got it would either stop, or try again at
//! once and use up a processor, since the listener stays readable. The pause is in the accepting
//! future (or, for `poll_accept`, in the listener), and starts anew with each connection.

#![forbid(unsafe_code)]

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use heist_io::Direction;
use parking_lot::Mutex;
use socket2::{SockAddr, Socket};

use super::pause::{Pace, Pause};
use crate::context::reads_to_accept;
use crate::io::Registered;
use crate::io::sys::{self, AsIo};

/// The first pause is about what it takes other connections to end; a server that stays out of
/// descriptors is looked at once a second.
const SHORTAGE: Pace = Pace {
    first: Duration::from_millis(5),
    longest: Duration::from_secs(1),
};

/// What an error of `accept` asks for.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Trouble {
    /// The caller gets it.
    Fatal,
    /// Take the next connection at once.
    NextConnection,
    /// Try again after a pause.
    Shortage,
}

pub(super) fn classify(e: &io::Error) -> Trouble {
    if sys::out_of_resources(e) {
        Trouble::Shortage
    } else if sys::lost_connection(e) {
        Trouble::NextConnection
    } else {
        Trouble::Fatal
    }
}

/// Takes the next connection of `listener`, beside any number of others.
///
/// The budget pays for every attempt, so a flood of dead connections cannot hold the worker.
pub(super) fn accept<T: AsIo>(
    listener: &Registered<T>,
) -> impl Future<Output = io::Result<(Socket, SockAddr)>> {
    accept_by(listener, sys::accept)
}

async fn accept_by<T: AsIo, C>(
    listener: &Registered<T>,
    mut attempt: impl FnMut(&T) -> io::Result<C>,
) -> io::Result<C> {
    let mut pause = None;
    loop {
        let mut connection = pin!(listener.op(Direction::Read, &mut attempt));
        let accepted = poll_fn(|cx| {
            let polled = connection.as_mut().poll(cx);
            if polled.is_pending() {
                reads_to_accept(|| sys::number(listener.get_ref()));
            }
            polled
        });
        match accepted.await {
            Ok(connection) => return Ok(connection),
            Err(e) => match classify(&e) {
                Trouble::Fatal => return Err(e),
                Trouble::NextConnection => {}
                Trouble::Shortage => {
                    let pause = Pause::next(&mut pause, listener.driver(), &SHORTAGE);
                    #[cfg(not(heist_bug_26))]
                    pause.over().await?;
                }
            },
        }
    }
}

/// The pause of those who accept by polling, kept by their listener.
#[derive(Debug, Default)]
pub(super) struct SharedPause {
    /// Taken out while it is polled, since that may clone and drop wakers, which are users' code.
    /// A second acceptor that finds it gone meanwhile makes one attempt more, and starts a pause
    /// of its own if need be.
    pause: Mutex<Option<Pause>>,
}

/// Takes the next connection of `listener`, waiting in its one waker slot.
pub(super) fn poll_accept<T: AsIo>(
    listener: &Registered<T>,
    shared: &SharedPause,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(Socket, SockAddr)>> {
    loop {
        let mut pause = shared.pause.lock().take();
        if let Some(waiting) = &mut pause {
            let over = waiting.poll_over(cx);
            if over.is_pending() {
                let left = std::mem::replace(&mut *shared.pause.lock(), pause);
                drop(left);
                return Poll::Pending;
            }
            ready!(over)?;
        }
        let polled = listener.poll_op(Direction::Read, cx, sys::accept);
        if polled.is_pending() {
            reads_to_accept(|| sys::number(listener.get_ref()));
        }
        match ready!(polled) {
            Ok(connection) => return Poll::Ready(Ok(connection)),
            Err(e) => match classify(&e) {
                Trouble::Fatal => return Poll::Ready(Err(e)),
                Trouble::NextConnection => {}
                Trouble::Shortage => {
                    Pause::next(&mut pause, listener.driver(), &SHORTAGE);
                    let left = std::mem::replace(&mut *shared.pause.lock(), pause);
                    drop(left);
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(unix)]
    use crate::io::testing::{poll_once, run};

    #[test]
    fn a_broken_listener_is_the_callers_business() {
        let invalid = io::Error::from(io::ErrorKind::InvalidInput);
        assert_eq!(classify(&invalid), Trouble::Fatal);
    }

    #[cfg(unix)]
    #[test]
    fn every_shortage_asks_for_a_pause() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            let e = io::Error::from_raw_os_error(code);
            assert_eq!(classify(&e), Trouble::Shortage, "{e}");
        }
    }

    /// No descriptors are left, and the listener stays readable: one attempt, then a pause. Without it
    /// there would be as many in this one poll as the budget allows, and again in the next.
    #[cfg(unix)]
    #[test]
    fn a_shortage_is_not_tried_again_at_once() {
        run(|| async {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            listener.set_nonblocking(true).unwrap();
            let address = listener.local_addr().unwrap();
            let listener = Registered::new(listener).unwrap();
            let _waits = std::net::TcpStream::connect(address).unwrap();
            listener.ready(Direction::Read).await.unwrap();
            let mut attempts = 0;
            let fails = |_: &_| {
                attempts += 1;
                Err::<(), _>(io::Error::from_raw_os_error(libc::EMFILE))
            };
            assert!(poll_once(&mut pin!(accept_by(&listener, fails))).is_pending());
            assert_eq!(attempts, 1);
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn errors_of_one_connection_leave_the_listener_alone() {
        for code in [
            libc::ECONNABORTED,
            libc::ENETDOWN,
            libc::EHOSTUNREACH,
            libc::ENETUNREACH,
            libc::EPROTO,
            libc::ENOPROTOOPT,
            libc::EHOSTDOWN,
            libc::ENONET,
        ] {
            let e = io::Error::from_raw_os_error(code);
            assert_eq!(classify(&e), Trouble::NextConnection, "{e}");
        }
    }
}
