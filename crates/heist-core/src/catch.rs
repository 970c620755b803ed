//! `catch_cancel`: the future around what may be cancelled, and what a time limit needs to find the
//! futures of that kind inside its own.
//!
//! The protocol is in `task/region.rs`. Here is how a region finds its task, and what it is polled
//! inside of: while a region or a limit polls what is inside it, its [`Place`] is on a stack of this
//! thread. A limit puts `None` there until a region inside needs it as a parent, so a time limit
//! without regions costs two moves of a pointer. A runtime that is entered while others' futures are
//! being polled on the same thread hides their frames ([`hide_frames`]).

#![forbid(unsafe_code)]

use crate::context::{self, Polling};
use crate::hooks::drop_before;
use crate::sync::thread_local;
use crate::task::{Carried, Inside, Key, Polled, Side, Why};
use pin_project_lite::pin_project;
use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::mem::needs_drop;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

thread_local! {
    /// What is being polled on this thread, outermost first.
    static FRAMES: RefCell<Vec<Option<Place>>> = const { RefCell::new(Vec::new()) };
}

/// A node in the tree of regions of some task. Dropping it leaves.
#[derive(Debug)]
struct Place {
    side: Arc<Side>,
    key: Key,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.side.record.leave(self.key);
    }
}

/// Runs `code` with `place` on the stack.
fn within<R>(place: &mut Option<Place>, code: impl FnOnce() -> R) -> R {
    /// Takes the frame off again, also if `code` unwinds.
    struct Pop<'a>(&'a mut Option<Place>);
    impl Drop for Pop<'_> {
        fn drop(&mut self) {
            let place = FRAMES.try_with(|frames| frames.borrow_mut().pop());
            *self.0 = place.ok().flatten().flatten();
        }
    }
    // A thread that is being torn down has no stack any more; nothing is polled inside a task there.
    if FRAMES.try_with(|_| ()).is_err() {
        return code();
    }
    let frame = place.take();
    let _pop = Pop(place);
    FRAMES.with(|frames| frames.borrow_mut().push(frame));
    code()
}

/// What `code` polls is polled inside nothing of what is on the stack now.
pub(crate) fn hide_frames<R>(code: impl FnOnce() -> R) -> R {
    struct Restore(Vec<Option<Place>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let hidden = std::mem::take(&mut self.0);
            // If the stack is gone, so is everything that was polled.
            let _ = FRAMES.try_with(|frames| frames.replace(hidden));
        }
    }
    let hidden = FRAMES.try_with(RefCell::take).unwrap_or_default();
    let _restore = Restore(hidden);
    code()
}

/// What is polled now is inside of this node of the task's tree. Limits on the stack that have no
/// node yet get one.
fn parent(polling: &Polling<'_>, side: &Arc<Side>) -> Option<Key> {
    let mut stale = Vec::new();
    let parent = FRAMES.try_with(|frames| {
        let mut frames = frames.borrow_mut();
        let is_here = |frame: &Option<Place>| {
            frame
                .as_ref()
                .is_some_and(|place| Arc::ptr_eq(&place.side, side))
        };
        let known = frames.iter().rposition(is_here);
        let mut parent = known.and_then(|known| Some(frames[known].as_ref()?.key));
        let first = known.map_or(0, |known| known + 1);
        for frame in &mut frames[first..] {
            let key = side.record.enter_limit(&polling.owner(), parent);
            let side = side.clone();
            stale.extend(frame.replace(Place { side, key }));
            parent = Some(key);
        }
        parent
    });
    // Leaving runs wakers, which may poll: not while the stack is borrowed.
    drop(stale);
    parent.unwrap_or(None)
}

/// A region is about to be polled: sees to it that it is a node of the tree of the task that polls
/// it. Answers with a request that is delivered to it.
fn attend(place: &mut Option<Place>, waker: &Waker) -> Option<Why> {
    context::polling(|polling| {
        let Some(polling) = polling else {
            *place = None;
            return None;
        };
        if let Some(place) = place.as_ref().filter(|place| polling.has(&place.side)) {
            let parent = parent(polling, &place.side);
            return match place.side.record.poll(place.key, parent, waker) {
                Polled::Poll => None,
                Polled::Deliver(why) => Some(why),
            };
        }
        // It was polled elsewhere before, or never.
        let told = place
            .take()
            .and_then(|place| place.side.record.told_by_limit(place.key));
        let side = polling.make_side();
        let parent = parent(polling, &side);
        let waker = waker.clone();
        let entered = side
            .record
            .enter(&polling.owner(), parent, waker, told, polling.closed_by());
        *place = entered.map(|key| Place { side, key });
        None
    })
}

/// Runs `future` where a request to cancel the task can be caught.
///
/// While it runs, a request does not end the task: it ends `future`, which is dropped at its next
/// suspension point, and the code after it goes on, with time to clean up.
pub fn catch_cancel<F: Future>(future: F) -> CatchCancel<F> {
    CatchCancel {
        future: Some(future),
        place: None,
    }
}

pin_project! {
    /// The future of [`catch_cancel`].
    #[must_use = "futures do nothing unless awaited"]
    #[derive(Debug)]
    pub struct CatchCancel<F> {
        // Dropped before `place`, so that what is inside leaves before this does, and this leaves
        // also if a destructor inside panics.
        #[pin]
        future: Option<F>,
        place: Option<Place>,
    }
}

impl<F: Future> Future for CatchCancel<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        assert!(this.future.is_some(), "{POLLED_AGAIN}");
        if let Some(why) = attend(this.place, cx.waker()) {
            *this.place = None;
            this.future.set(None);
            return Poll::Ready(Err(Cancelled { why }));
        }
        let future = this.future.as_mut().as_pin_mut().expect(POLLED_AGAIN);
        let polled = if this.place.is_some() {
            within(this.place, || future.poll(cx))
        } else {
            future.poll(cx)
        };
        let output = std::task::ready!(polled);
        let output = drop_before(this.future, output);
        *this.place = None;
        Poll::Ready(Ok(output.unwrap_or_else(|payload| resume_unwind(payload))))
    }
}

const POLLED_AGAIN: &str = "a `catch_cancel` was polled after it was ready";

/// A request to cancel that [`catch_cancel`] has caught.
#[derive(Clone, Debug)]
pub struct Cancelled {
    why: Why,
}

impl Cancelled {
    /// Why, if whoever asked has said so.
    pub fn reason(&self) -> Option<&str> {
        self.why.reason.as_deref()
    }

    /// Where the request was made: the call of `abort` or `cancel`, the `timeout`, or where the loop
    /// was entered or closed that is ending.
    pub fn by(&self) -> &'static Location<'static> {
        self.why.by
    }

    /// Lets the cancellation go on: makes the request again, and never returns.
    ///
    /// What receives it is around the `catch_cancel` that caught it: another one, the `timeout` that
    /// asked, which then answers that its time is up, or the task. As long as others are live inside of
    /// that, in another branch of a `join` for instance, it waits for them: they have been asked as well,
    /// and may be cleaning up.
    ///
    /// # Panics
    ///
    /// When it is polled outside of a task and of the main future.
    pub fn resume(self) -> Resume {
        Resume { why: self.why }
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl std::error::Error for Cancelled {}

impl From<Cancelled> for std::io::Error {
    fn from(error: Cancelled) -> std::io::Error {
        std::io::Error::other(error)
    }
}

const NOTHING_TO_CANCEL: &str = "heist: `Cancelled::resume` was polled where there is nothing to \
                                 cancel: outside of a task";

/// The future of [`Cancelled::resume`]. It is never ready.
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct Resume {
    why: Why,
}

impl Future for Resume {
    type Output = Infallible;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Infallible> {
        context::polling(|polling| {
            let polling = polling.expect(NOTHING_TO_CANCEL);
            let side = polling.make_side();
            let parent = parent(polling, &side);
            let owner = polling.owner();
            side.record.resume(&owner, parent, &self.why);
        });
        Poll::Pending
    }
}

/// How many requests to cancel the task that is polled on this thread were made and not taken back
/// with [`uncancel`]: those that wait and those that were caught. 0 outside of a task.
pub fn cancelling() -> usize {
    context::polling(|polling| polling.map_or(0, Polling::cancelling))
}

/// Takes one request to cancel this task back, and answers how many are left. 0 outside of a task.
pub fn uncancel() -> usize {
    context::polling(|polling| polling.map_or(0, Polling::uncancel))
}

/// Makes the request to this task that was delivered last again, unless all were taken back: for
/// when the code that has caught it was ended before it could let it go on.
pub fn cancel_again() {
    context::polling(|polling| {
        if let Some(polling) = polling {
            let side = polling.make_side();
            let parent = parent(polling, &side);
            side.record.again(&polling.owner(), parent);
        }
    });
}

/// What a time limit keeps, to cancel the regions inside its future.
#[derive(Debug, Default)]
pub struct Limit {
    place: Option<Place>,
    /// Made when another task polls the limit than before, or none.
    abroad: Option<Box<Abroad>>,
}

/// What a limit has elsewhere than in the tree of the task that polls it.
#[derive(Debug, Default)]
struct Abroad {
    /// Its nodes in the trees of other tasks, where there are regions that were polled inside it.
    left: Vec<Place>,
    /// The limit itself, while no task polls it.
    carried: Option<Carried>,
}

impl Limit {
    /// Of a future that was not polled yet.
    pub const fn new() -> Limit {
        Limit {
            place: None,
            abroad: None,
        }
    }

    /// Polls what the limit is for.
    pub fn poll<R>(&mut self, code: impl FnOnce() -> R) -> R {
        if self.place.is_some() || self.abroad.is_some() {
            self.follow();
        }
        within(&mut self.place, code)
    }

    /// The limit may be polled elsewhere than before.
    fn follow(&mut self) {
        context::polling(|polling| match (polling, &self.place) {
            (Some(polling), Some(place)) if polling.has(&place.side) => {
                let parent = parent(polling, &place.side);
                place.side.record.move_limit(place.key, parent);
            }
            _ => self.go(polling),
        });
    }

    /// Another task polls the limit than before, or none.
    #[cold]
    fn go(&mut self, polling: Option<&Polling<'_>>) {
        let mut abroad = self.abroad.take().unwrap_or_default();
        let mut carried = abroad.carried.take();
        if let Some(place) = self.place.take() {
            carried = place.side.record.carry(place.key);
            abroad.left.push(place);
        }
        if let Some(polling) = polling {
            let is_here = |place: &Place| polling.has(&place.side);
            let at = abroad.left.iter().position(is_here);
            let before = at.map(|at| abroad.left.swap_remove(at));
            self.place = carried.take().map(|carried| {
                let side = polling.make_side();
                let parent = parent(polling, &side);
                let key = side.record.bring_limit(&polling.owner(), parent, carried);
                // The node that it has left here, if it has, is its own again.
                before.unwrap_or_else(|| Place { side, key })
            });
        }
        abroad
            .left
            .retain(|place| place.side.record.has_left(place.key));
        abroad.carried = carried;
        if !abroad.left.is_empty() || abroad.carried.is_some() {
            self.abroad = Some(abroad);
        }
    }

    fn left(&self) -> &[Place] {
        self.abroad.as_ref().map_or(&[], |abroad| &abroad.left)
    }

    /// The time is up: requests the end of the live regions inside. False if there are none. `by` is
    /// where the limit was made. If it is not time that ends it, `reason` says what.
    #[must_use]
    pub fn expire(
        &mut self,
        reason: Option<Arc<str>>,
        by: &'static Location<'static>,
        waker: &Waker,
    ) -> bool {
        let mut waits = false;
        for place in self.place.iter().chain(self.left()) {
            let record = &place.side.record;
            waits |= record.expire(place.key, reason.clone(), by, waker.clone());
        }
        if let Some(abroad) = &mut self.abroad {
            if let Some(carried) = &mut abroad.carried {
                carried.expire(reason, by);
            }
        }
        waits
    }

    /// Whether there is nothing to wait for any more, after `expire` has answered true: all regions
    /// inside were dropped without receiving the request, or whoever caught it lets it go on.
    /// Leaves `waker` for when that changes.
    #[must_use]
    pub fn is_spent(&self, waker: &Waker) -> bool {
        self.fetch_put_off(waker);
        let carried = self
            .abroad
            .as_ref()
            .and_then(|abroad| abroad.carried.as_ref());
        let here = match (&self.place, carried) {
            (Some(place), _) => place.side.record.is_spent(place.key, waker),
            (None, Some(carried)) => carried.is_requested(),
            (None, None) => true,
        };
        // Whoever still waits elsewhere is to leave a waker in any case.
        let mut left = self.left().iter();
        here && !left.any(|place| place.side.record.is_waiting(place.key, waker))
    }

    /// A request that was put off where the limit was before is made where it is now, once what it waits for has
    /// come along or gone. Leaves `waker` for that.
    fn fetch_put_off(&self, waker: &Waker) {
        let Some(here) = &self.place else {
            return;
        };
        for place in self.left() {
            let record = &place.side.record;
            if !record.is_spent(place.key, waker) {
                continue;
            }
            if let Some(why) = record.take_put_off(place.key) {
                here.side.record.bring_put_off(here.key, why);
            }
        }
    }

    /// What it is for is about to be dropped, since it is given no more time; the limit is then to give up. The holder
    /// may be polled elsewhere than before.
    pub fn end(&mut self) {
        self.poll(|| ());
        if let Some(place) = &self.place {
            place.side.record.end(place.key);
        }
    }

    /// The limit is to answer that its time is up, and a future inside of type `F` ends with it. True if code in
    /// there has caught a request from further out, and could not let it go on: it goes on now, and the limit is to
    /// answer at its next poll, so that whoever made it comes first. Also if such a request waits.
    #[must_use]
    pub fn give_up<F>(&self) -> bool {
        // A future that is borrowed is not cut: whoever has it may poll it on.
        let inside = match needs_drop::<F>() {
            true => Inside::Ends,
            false => Inside::Stays,
        };
        let place = self.place.as_ref();
        place.is_some_and(|place| place.side.record.give_up(place.key, inside))
    }

    /// What it was for has ended early, and with it the `catch_cancel` right around it, which is its holder's: what
    /// code inside has caught goes on to what is around both. After [`end`](Limit::end).
    pub fn give_up_with_region(&self) {
        if let Some(place) = &self.place {
            let record = &place.side.record;
            let _: bool = record.give_up(place.key, Inside::EndsWithRegion);
        }
    }
}
