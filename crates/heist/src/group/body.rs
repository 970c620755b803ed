//! The future around a group's body: it ends when the body does, or cuts the body short when the
//! group aborts.
//!
//! It does so as a `timeout` does at its deadline: the body's `catch_cancel`s are asked, and waited
//! for, and a body without any is dropped.

#![forbid(unsafe_code)]

use super::state::{State, Who};
use heist_core::Limit;
use pin_project_lite::pin_project;
use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pin_project! {
    /// A future of the body's output, or `None` if it has none: it was cut short, or has panicked,
    /// which the state has been told.
    pub(super) struct Body<F> {
        // Dropped first, so that what is inside leaves before the limit does.
        #[pin]
        body: Option<F>,
        limit: Limit,
        // The group aborts, and what cleans up in the body was asked to.
        cleanup: bool,
        state: Arc<State>,
    }

    impl<F> PinnedDrop for Body<F> {
        fn drop(this: Pin<&mut Self>) {
            this.drop_body();
        }
    }
}

impl<F> Body<F> {
    pub(super) fn new(body: F, state: Arc<State>) -> Body<F> {
        Body {
            body: Some(body),
            limit: Limit::new(),
            cleanup: false,
            state,
        }
    }

    /// A panic of the body's destructor is one of the body's: the group is to wait for its children.
    fn drop_body(self: Pin<&mut Self>) {
        let mut this = self.project();
        let dropped = catch_unwind(AssertUnwindSafe(|| this.body.set(None)));
        if let Err(payload) = dropped {
            panicked(this.state, payload);
        }
    }

    /// The group aborts: asks those that clean up, and answers whether there are any.
    fn cut(self: Pin<&mut Self>, cx: &Context<'_>) -> Cut {
        let this = self.project();
        if *this.cleanup {
            return if this.limit.is_spent(cx.waker()) {
                Cut::Now
            } else {
                Cut::Not
            };
        }
        let Some(why) = this.state.aborting(cx) else {
            return Cut::Not;
        };
        if !this.limit.expire(why.reason, why.by, cx.waker()) {
            return Cut::Now;
        }
        *this.cleanup = true;
        Cut::Asked
    }
}

/// Whether a body goes on.
#[must_use]
#[derive(PartialEq, Eq)]
enum Cut {
    /// Yes.
    Not,
    /// Yes, and it has something to do.
    Asked,
    /// No.
    Now,
}

fn panicked(state: &Arc<State>, payload: Box<dyn Any + Send>) {
    if let Err(payload) = state.panicked(Who::Body, payload) {
        state.report_panic(payload);
    }
}

impl<F: Future> Future for Body<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut cut = self.as_mut().cut(cx);
        let output = loop {
            if cut == Cut::Now {
                break None;
            }
            let this = self.as_mut().project();
            let Some(body) = this.body.as_pin_mut() else {
                break None;
            };
            let polled = catch_unwind(AssertUnwindSafe(|| this.limit.poll(|| body.poll(cx))));
            match polled {
                Ok(Poll::Ready(output)) => break Some(output),
                Ok(Poll::Pending) => {}
                Err(payload) => {
                    panicked(this.state, payload);
                    break None;
                }
            }
            // It may itself have been what the group aborts for.
            cut = self.as_mut().cut(cx);
            if cut == Cut::Not {
                return Poll::Pending;
            }
        };
        let gives_up = self.cleanup || output.is_none();
        if gives_up {
            self.as_mut().project().limit.end();
        }
        self.as_mut().drop_body();
        if gives_up {
            // What the body has caught of others than the group goes on: it was cut, or has ended for the group.
            self.as_mut().project().limit.give_up_with_region();
        }
        *self.project().limit = Limit::new();
        Poll::Ready(output)
    }
}
