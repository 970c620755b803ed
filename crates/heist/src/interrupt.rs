//! Ctrl-C as a request to cancel `main`: the policy of
//! [`Builder::cancel_on_ctrl_c`](crate::Builder::cancel_on_ctrl_c).
//!
//! The mechanism is that of `signal.rs`: a run takes a seat there, and the handler tells it like any
//! listener. No thread and no task is needed to hear it, since `main` listens for itself: a wrapper
//! around it polls the seat first. When Ctrl-C was pressed the wrapper asks for the end of `main`,
//! like anybody else ([`heist_core::cancel_main`]), and suspends; the main loop drops it then, or a
//! region in it catches the request. If `main` has been asked before and goes on, the press is a further
//! request: it goes to the regions that are live by then, and with none, `main` is dropped where it
//! next suspends.
//!
//! # From the first press to the end
//!
//! | when                             | the seat       | Ctrl-C does                              |
//! |----------------------------------|----------------|------------------------------------------|
//! | before the first poll of `main`  | –              | what it did before                       |
//! | while `main` runs                | open           | 1. asks for its end                      |
//! | after that, to the end of `run`  | open, pressed  | 2. ends the process, in the handler      |
//! | `main` ended without a press     | given up       | what it did before                       |
//! | after `run`                      | given up       | what it did before                       |
//!
//! In the last line this is for the callers of `try_run`; `run` itself ends the process then.
//!
//! The answer is *interrupted* only if the press was the first to ask, or everything that was asked before
//! has been taken back with `uncancel`. Who was cancelled by somebody else before answers *cancelled*, and a `main` that is ready in spite of it all has its output.

#![forbid(unsafe_code)]

use crate::RunError;
use crate::run::finished;
use crate::signal::{KeptSeat, RunSeat, die};
use heist_core::{Asked, Outcome, Role};
use pin_project_lite::pin_project;
use std::cell::Cell;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What one call of `run` knows of Ctrl-C; on its stack, around the run.
pub(crate) struct Interrupt {
    wanted: bool,
    /// Where the run was called.
    site: &'static Location<'static>,
    /// The press has asked for the end of `main`, and no request of anybody else's stood.
    asked: Cell<bool>,
    /// The seat, once it was pressed and `main` is gone.
    kept: Cell<Option<KeptSeat>>,
}

impl Interrupt {
    pub(crate) fn new(wanted: bool, site: &'static Location<'static>) -> Interrupt {
        Interrupt {
            wanted,
            site,
            asked: Cell::new(false),
            kept: Cell::new(None),
        }
    }

    /// `main`, with an ear for Ctrl-C if that is wanted.
    pub(crate) fn around<F: Future>(&self, main: F) -> Interruptible<'_, F> {
        let seat = if self.wanted {
            Seat::Wanted
        } else {
            Seat::None
        };
        Interruptible {
            main,
            ear: Ear { run: self, seat },
        }
    }

    /// What the run answers. Gives the seat up.
    pub(crate) fn finished<T>(self, outcome: Outcome<T>) -> Result<T, RunError> {
        match finished(outcome) {
            Err(RunError::Cancelled) if self.asked.get() => Err(RunError::Interrupted),
            answer => answer,
        }
    }
}

pin_project! {
    /// See [`Interrupt::around`].
    pub(crate) struct Interruptible<'a, F> {
        // Dropped before the ear: a second press during its destructors insists.
        #[pin]
        main: F,
        ear: Ear<'a>,
    }
}

impl<F: Future> Future for Interruptible<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if this.ear.hears(cx) {
            // The request has woken us; whether `main` is dropped then is not decided here.
            return Poll::Pending;
        }
        this.main.poll(cx)
    }
}

/// Listens until it has heard something.
struct Ear<'a> {
    run: &'a Interrupt,
    seat: Seat,
}

enum Seat {
    /// Not wanted, or not to be had.
    None,
    /// To be taken in the first poll, which is inside the runtime.
    Wanted,
    Taken(RunSeat),
    /// It was pressed, and the end of `main` was asked for.
    Told(RunSeat),
}

impl Ear<'_> {
    /// True once: when a press was the first to ask for the end of `main`. That has woken `main`, so
    /// this poll may be left out. After somebody else's request it may not: a region that has the
    /// request now delivers it in this poll, and what else `main` was woken for is not lost.
    fn hears(&mut self, cx: &mut Context<'_>) -> bool {
        if let Seat::Wanted = self.seat {
            // Where it cannot be had the run goes on without, as if it had not been asked for.
            self.seat = RunSeat::take().map_or(Seat::None, Seat::Taken);
        }
        match std::mem::replace(&mut self.seat, Seat::None) {
            Seat::Taken(seat) if seat.poll_pressed(cx) => {
                self.seat = Seat::Told(seat);
                let asked = heist_core::cancel_main(self.run.site);
                let is_ours = matches!(asked, Some(Asked::First | Asked::Anew));
                self.run.asked.set(is_ours);
                asked == Some(Asked::First)
            }
            seat => {
                self.seat = seat;
                false
            }
        }
    }
}

impl Drop for Ear<'_> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.seat, Seat::None) {
            Seat::Taken(seat) | Seat::Told(seat) if seat.is_pressed() => {
                self.run.kept.set(Some(seat.keep()));
            }
            _ => {}
        }
    }
}

/// Whether a call that cannot answer its error ends the process by `SIGINT`.
///
/// Not in a blocking closure: it belongs to a runtime around it, which is not to be torn down with
/// it. There the panic stays in the closure's handle.
pub(crate) fn is_deadly(error: &RunError) -> bool {
    let inside = heist_core::entered().is_some_and(|outer| outer.role == Role::Blocking);
    matches!(error, RunError::Interrupted) && !inside
}

/// The end of a call that cannot answer its error.
#[track_caller]
pub(crate) fn give_up(error: &RunError) -> ! {
    if is_deadly(error) {
        die();
    }
    panic!("{error}");
}
