//! What the tests of `io`, `net` and `time` share.

#![forbid(unsafe_code)]

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

/// How long a test may take before it counts as hanging.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs the future that `test` makes on a runtime of its own; a hang fails with a message.
#[track_caller]
pub(crate) fn run<F, T>(test: impl FnOnce() -> F + Send + 'static) -> T
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    within(|| crate::run(test()))
}

/// Runs `test` on a thread of its own; a hang fails with a message.
#[track_caller]
pub(crate) fn within<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = mpsc::channel();
    let thread = thread::spawn(move || {
        let output = test();
        // The receiver is gone only if the limit has passed already.
        let _ = done.send(());
        output
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = outcome.recv_timeout(LIMIT) {
        panic!("the test hangs: no end within {LIMIT:?}");
    }
    match thread.join() {
        Ok(output) => output,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Polls once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// What `future` answers at its first poll. For futures that must not wait.
#[track_caller]
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the operation waits, and there is nothing to wait for"),
    }
}

/// Runs two futures together until both are ready.
pub(crate) async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut left, mut right) = (None, None);
    poll_fn(|cx| {
        if left.is_none() {
            if let Poll::Ready(output) = a.as_mut().poll(cx) {
                left = Some(output);
            }
        }
        if right.is_none() {
            if let Poll::Ready(output) = b.as_mut().poll(cx) {
                right = Some(output);
            }
        }
        if left.is_some() && right.is_some() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    (left.expect("ready"), right.expect("ready"))
}

/// Fails unless `error` is the one of a closed runtime.
#[track_caller]
pub(crate) fn assert_closed(error: &std::io::Error) {
    let inner = error.get_ref().map(|e| e.is::<heist_io::Closed>());
    assert_eq!(
        inner,
        Some(true),
        "not the error of a closed runtime: {error:?}"
    );
}
