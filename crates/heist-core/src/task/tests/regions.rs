//! The record of regions: each edge once, and the tree around it, with a word and no task.

#![forbid(unsafe_code)]

use crate::task::region::{Inside, Key, Owner, Polled, Record, Why};
use crate::task::state::{Close, Complete, Park, Start, State, Wake};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake as StdWake, Waker};

/// Where ten times as many are to cost ten times as much. Miri takes its time.
const FEW: usize = if cfg!(miri) { 8 } else { 1_000 };

/// Whom the record belongs to: a word, and how often it was pushed.
#[derive(Clone)]
struct Fake(Arc<(State, AtomicUsize)>);

impl Fake {
    fn due(&self, todo: Wake) -> Option<Fake> {
        (todo == Wake::Push).then(|| self.clone())
    }
}

impl Owner for Fake {
    type Due = Fake;
    fn state(&self) -> &State {
        &self.0.0
    }
    fn request_cancel(&self) -> Option<Fake> {
        self.due(self.state().request_cancel())
    }
    fn request_close(&self) -> (Close, Option<Fake>) {
        let close = self.state().request_close();
        (close, (close == Close::Push).then(|| self.clone()))
    }
    fn leave_region(&self, requested: bool) -> Option<Fake> {
        self.due(self.state().leave_region(requested))
    }
    fn push(due: Fake) {
        due.0.1.fetch_add(1, Ordering::Relaxed);
    }
    fn wake(waker: Waker) {
        waker.wake();
    }
    fn drop_waker(waker: Waker) {
        drop(waker);
    }
}

/// Counts wakes.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl StdWake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A region or limit of a test, with its waker.
struct Node {
    key: Key,
    waker: Waker,
    wakes: Arc<Wakes>,
}

impl Node {
    fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::Relaxed)
    }
}

/// A task that runs, and its record.
struct Task {
    owner: Fake,
    record: Record<Fake>,
}

fn here() -> &'static Location<'static> {
    Location::caller()
}

impl Task {
    fn new() -> Task {
        let state = State::queued();
        assert_eq!(state.start_run(), Start::Poll);
        Task {
            owner: Fake(Arc::new((state, AtomicUsize::new(0)))),
            record: Record::new(),
        }
    }

    fn state(&self) -> &State {
        self.owner.state()
    }

    fn enter(&self, parent: Option<Key>) -> Node {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let key = self
            .record
            .enter(&self.owner, parent, waker.clone(), None, here())
            .expect("the task is not doomed");
        Node { key, waker, wakes }
    }

    fn limit(&self, parent: Option<Key>) -> Node {
        let wakes = Arc::new(Wakes::default());
        let key = self.record.enter_limit(&self.owner, parent);
        let waker = Waker::from(wakes.clone());
        Node { key, waker, wakes }
    }

    /// A poll: the reason of what was delivered, if anything was.
    fn poll(&self, node: &Node, parent: Option<Key>) -> Option<String> {
        match self.record.poll(node.key, parent, &node.waker) {
            Polled::Poll => None,
            Polled::Deliver(why) => Some(why.reason.as_deref().unwrap_or("time").into()),
        }
    }

    /// A poll of a region that was told: what it catches.
    fn catch(&self, node: &Node, parent: Option<Key>) -> Why {
        match self.record.poll(node.key, parent, &node.waker) {
            Polled::Deliver(why) => why,
            Polled::Poll => panic!("it was not told"),
        }
    }

    fn request(&self, reason: &str) {
        let why = Why::task(Some(reason.into()), here());
        assert!(self.record.request(&self.owner, why));
    }

    fn expire(&self, node: &Node) -> bool {
        self.record
            .expire(node.key, None, here(), node.waker.clone())
    }

    /// Whether the task is to be dropped at its next suspension point.
    fn is_cancelled(&self) -> bool {
        self.state().snapshot().is_cancelled()
    }
}

#[test]
fn r1_a_region_that_enters_is_told_of_what_waits() {
    let task = Task::new();
    task.request("early");
    assert!(task.is_cancelled());
    let region = task.enter(None);
    assert!(!task.is_cancelled(), "the region has it");
    assert_eq!(region.wakes(), 1, "another poll delivers it");
    assert_eq!(task.poll(&region, None).as_deref(), Some("early"));

    let task = Task::new();
    let quiet = task.enter(None);
    assert_eq!((task.poll(&quiet, None), quiet.wakes()), (None, 0));
}

#[test]
fn r1_a_doomed_task_catches_nothing() {
    let task = Task::new();
    assert_eq!(task.state().doom(), (Wake::Noted, false));
    let waker = Waker::noop().clone();
    assert!(
        task.record
            .enter(&task.owner, None, waker, None, here())
            .is_none()
    );
}

#[test]
fn r2_a_region_moves_to_where_it_is_polled() {
    let task = Task::new();
    let (one, two) = (task.limit(None), task.limit(None));
    let region = task.enter(Some(one.key));
    assert_eq!(task.poll(&region, Some(two.key)), None);
    assert!(!task.expire(&one), "nobody is inside of it any more");
    assert!(task.expire(&two));
    assert_eq!(task.poll(&region, Some(two.key)).as_deref(), Some("time"));

    // Below a source that has asked already.
    let region = task.enter(None);
    let three = task.limit(None);
    let other = task.enter(Some(three.key));
    assert!(task.expire(&three));
    assert_eq!(task.poll(&region, Some(three.key)).as_deref(), Some("time"));
    task.record.leave(other.key);
}

#[test]
fn r2_the_waker_of_the_last_poll_is_woken() {
    let task = Task::new();
    let mut region = task.enter(None);
    let old = region.wakes.clone();
    region.wakes = Arc::default();
    region.waker = region.wakes.clone().into();
    assert_eq!(task.poll(&region, None), None);
    task.request("now");
    assert_eq!((old.0.load(Ordering::Relaxed), region.wakes()), (0, 1));
    // Once is enough.
    task.request("again");
    assert_eq!(region.wakes(), 1);
}

#[test]
fn r3_a_delivery_satisfies_all_sources_above() {
    let task = Task::new();
    let limit = task.limit(None);
    let outer = task.enter(Some(limit.key));
    let inner = task.enter(Some(outer.key));
    task.request("from outside");
    assert!(task.expire(&limit));
    assert_eq!(
        task.poll(&outer, Some(limit.key)),
        None,
        "it has one inside"
    );
    assert_eq!(
        task.poll(&inner, Some(outer.key)).as_deref(),
        Some("from outside")
    );
    assert!(task.state().snapshot().is_cleaning());
    assert_eq!(task.poll(&outer, Some(limit.key)), None);
    assert!(!task.record.is_spent(limit.key, Waker::noop()));
    task.record.leave(outer.key);
    assert!(!task.is_cancelled());
}

#[test]
fn r3_a_delivery_of_a_limit_is_none_to_the_task() {
    let task = Task::new();
    let limit = task.limit(None);
    let region = task.enter(Some(limit.key));
    assert!(task.expire(&limit));
    assert_eq!(task.poll(&region, Some(limit.key)).as_deref(), Some("time"));
    assert!(!task.state().snapshot().is_cleaning());
    assert_eq!(task.record.cancelling(task.state()), 0);
}

/// A region was told, and another one entered inside of it since: that one receives the request, and the
/// first has nothing left to receive.
#[test]
fn r3_a_delivery_is_for_those_around_it_as_well() {
    let task = Task::new();
    let outer = task.enter(None);
    task.request("stop");
    assert_eq!(outer.wakes(), 1);
    let inner = task.enter(Some(outer.key));
    assert_eq!(task.poll(&inner, Some(outer.key)).as_deref(), Some("stop"));
    assert_eq!(task.poll(&outer, None), None);
}

#[test]
fn r4_a_region_leaves_its_request_to_the_one_around() {
    let task = Task::new();
    let outer = task.enter(None);
    let (one, two) = (task.enter(Some(outer.key)), task.enter(Some(outer.key)));
    task.request("now");
    assert_eq!((outer.wakes(), one.wakes(), two.wakes()), (0, 1, 1));
    task.record.leave(one.key);
    assert_eq!(outer.wakes(), 0, "there is another inside");
    task.record.leave(two.key);
    assert_eq!(outer.wakes(), 1);
    task.record.leave(outer.key);
    assert!(task.is_cancelled());
    assert_eq!(
        task.record.why().and_then(|why| why.reason).as_deref(),
        Some("now")
    );
}

#[test]
fn r4_after_a_delivery_nothing_is_left_to_anybody() {
    let task = Task::new();
    let (one, two) = (task.enter(None), task.enter(None));
    task.request("now");
    assert_eq!(task.poll(&one, None).as_deref(), Some("now"));
    task.record.leave(two.key);
    assert!(!task.is_cancelled());
}

#[test]
fn r4_what_was_inside_goes_to_the_parent() {
    let task = Task::new();
    let limit = task.limit(None);
    let outer = task.enter(Some(limit.key));
    let carried_out = task.enter(Some(outer.key));
    task.record.leave(outer.key);
    assert!(task.expire(&limit), "it is inside of the limit still");
    task.record.leave(carried_out.key);
    assert_eq!(limit.wakes(), 1);
    assert!(task.record.is_spent(limit.key, &limit.waker));
}

#[test]
fn r4_the_last_node_gives_the_owner_back() {
    let task = Task::new();
    let count = || Arc::strong_count(&task.owner.0);
    let limit = task.limit(None);
    let region = task.enter(Some(limit.key));
    assert_eq!(count(), 2);
    task.record.leave(region.key);
    assert_eq!(count(), 2);
    task.record.leave(limit.key);
    assert_eq!(count(), 1);
    // A second time, as after a delivery.
    task.record.leave(limit.key);
}

#[test]
fn r5_a_request_tells_or_cancels_and_counts() {
    let task = Task::new();
    assert_eq!(task.state().park(), Park::Idle);
    task.request("first");
    task.request("second");
    assert_eq!(task.owner.0.1.load(Ordering::Relaxed), 1, "pushed once");
    assert_eq!(task.record.cancelling(task.state()), 2);
    assert_eq!(
        task.record.why().and_then(|why| why.reason).as_deref(),
        Some("first")
    );
}

#[test]
fn r5_a_request_to_a_task_that_is_done_is_too_late() {
    let task = Task::new();
    assert_eq!(task.state().complete(false), Complete::Finished);
    let why = || Why::task(None, Location::caller());
    assert!(!task.record.request(&task.owner, why()));
    assert!(!task.record.request_along(&task.owner, why()));
    assert_eq!(task.record.cancelling(task.state()), 0);
}

#[test]
fn r6_the_end_of_the_loop_leaves_a_task_in_cleanup_alone() {
    let task = Task::new();
    let region = task.enter(None);
    task.record.close(&task.owner, here()).run();
    assert_eq!(region.wakes(), 1);
    assert_eq!(task.poll(&region, None).as_deref(), Some("time"));
    let next = task.enter(None);
    task.record.close(&task.owner, here()).run();
    assert_eq!((next.wakes(), task.is_cancelled()), (0, false));
    assert_eq!(task.record.cancelling(task.state()), 1);
    // An explicit request it does receive.
    task.request("now");
    assert_eq!(next.wakes(), 1);
}

#[test]
fn r7_a_limit_asks_only_inside() {
    let task = Task::new();
    let outside = task.enter(None);
    let limit = task.limit(Some(outside.key));
    assert!(!task.expire(&limit));
    let other = task.limit(Some(outside.key));
    let inside = task.enter(Some(other.key));
    assert!(task.expire(&other));
    assert_eq!((outside.wakes(), inside.wakes()), (0, 1));
    task.record.leave(inside.key);
    assert_eq!(outside.wakes(), 0, "it is no request to this one");
    assert!(task.record.is_spent(other.key, Waker::noop()));
}

#[test]
fn r7_a_limit_that_leaves_asks_nobody_any_more() {
    let task = Task::new();
    let limit = task.limit(None);
    let region = task.enter(Some(limit.key));
    assert!(task.expire(&limit));
    task.record.leave(limit.key);
    assert_eq!(task.poll(&region, None), None);
}

#[test]
fn r7_limits_that_gave_up_leave_what_others_asked() {
    for task_too in [false, true] {
        let task = Task::new();
        let outer = task.limit(None);
        let inner = task.limit(Some(outer.key));
        let region = task.enter(Some(inner.key));
        assert!(task.expire(&inner));
        assert!(task.expire(&outer));
        if task_too {
            task.request("from outside");
        }
        assert_eq!(task.poll(&region, Some(inner.key)).as_deref(), Some("time"));
        assert!(!task.record.is_spent(outer.key, &outer.waker));
        let _ = task.record.give_up(inner.key, Inside::Ends);
        task.record.leave(inner.key);
        assert_eq!(outer.wakes(), 1);
        assert!(task.record.is_spent(outer.key, &outer.waker));
        assert_eq!(task.is_cancelled(), task_too);
    }
}

#[test]
fn r7_a_limit_inside_a_cleanup_leaves_that_alone() {
    let task = Task::new();
    let outer = task.limit(None);
    let region = task.enter(Some(outer.key));
    assert!(task.expire(&outer));
    assert!(task.poll(&region, Some(outer.key)).is_some());
    // In cleanup: another limit, with a region, expires and gives up.
    let inner = task.limit(Some(outer.key));
    let region = task.enter(Some(inner.key));
    assert!(task.expire(&inner));
    assert!(task.poll(&region, Some(inner.key)).is_some());
    let _ = task.record.give_up(inner.key, Inside::Ends);
    task.record.leave(inner.key);
    assert!(!task.record.is_spent(outer.key, Waker::noop()));
}

/// A limit gives up although a region is live inside it, which is to be dropped: only then is asked again what
/// others asked.
#[test]
fn r7_a_limit_that_gave_up_waits_for_what_is_dropped_with_it() {
    let task = Task::new();
    let limit = task.limit(None);
    let at = Some(limit.key);
    let region = task.enter(at);
    assert!(task.expire(&limit));
    task.request("from outside");
    assert_eq!(task.poll(&region, at).as_deref(), Some("time"));
    let cleanup = task.enter(at);
    let _ = task.record.give_up(limit.key, Inside::Ends);
    assert_eq!(cleanup.wakes(), 0);
    task.record.leave(cleanup.key);
    assert!(!task.is_cancelled());
    task.record.leave(limit.key);
    assert!(task.is_cancelled());
}

#[test]
fn r8_a_resumed_request_goes_to_what_is_around() {
    let task = Task::new();
    let outer = task.enter(None);
    let limit = task.limit(Some(outer.key));
    let region = task.enter(Some(limit.key));
    assert!(task.expire(&limit));
    let why = task.catch(&region, Some(limit.key));
    task.record.resume(&task.owner, Some(limit.key), &why);
    assert!(task.record.is_spent(limit.key, Waker::noop()));
    assert_eq!((outer.wakes(), task.is_cancelled()), (0, false));
    // Carried out of the limit: it is the task's.
    task.record.resume(&task.owner, Some(outer.key), &why);
    assert_eq!(outer.wakes(), 1);
    task.record.leave(limit.key);
    assert_eq!(task.poll(&outer, None).as_deref(), Some("time"));
    task.record.resume(&task.owner, None, &why);
    assert!(task.is_cancelled());
}

#[test]
fn r5_whoever_takes_a_task_along_leaves_its_cleanup_at_the_end_alone() {
    let why = || Why::task(None, Location::caller());
    // It is in cleanup because the loop ends: once is enough. Whoever asks it alone cuts that short.
    let task = Task::new();
    let region = task.enter(None);
    task.record.close(&task.owner, here()).run();
    assert!(task.poll(&region, None).is_some());
    assert!(!task.record.request_along(&task.owner, why()));
    assert!(!task.is_cancelled());
    assert!(task.record.request(&task.owner, why()));
    assert!(task.is_cancelled());

    // Before the end of the loop it is a request like any other.
    let task = Task::new();
    let region = task.enter(None);
    assert!(task.record.request_along(&task.owner, why()));
    task.record.close(&task.owner, here()).run();
    assert!(task.poll(&region, None).is_some());
    assert!(!task.is_cancelled(), "both were delivered as one");
}

#[test]
fn r8_a_resumed_request_waits_for_what_is_beside() {
    for in_limit in [false, true] {
        let task = Task::new();
        let limit = in_limit.then(|| task.limit(None));
        let at = limit.as_ref().map(|limit| limit.key);
        let [first, second] = [task.enter(at), task.enter(at)];
        match &limit {
            Some(limit) => assert!(task.expire(limit)),
            None => task.request("stop"),
        }
        let why = task.catch(&first, at);
        assert!(task.poll(&second, at).is_some());
        // The second one has not ended its cleanup, in which it catches further requests.
        let cleanup = task.enter(at);
        for _ in 0..2 {
            task.record.resume(&task.owner, at, &why);
        }
        assert_eq!((cleanup.wakes(), task.is_cancelled()), (0, false));
        assert_eq!(task.poll(&cleanup, at), None);
        task.record.leave(cleanup.key);
        match &limit {
            Some(limit) => assert!(task.record.is_spent(limit.key, Waker::noop())),
            None => assert!(task.is_cancelled()),
        }
    }
}

/// Around the code is a region, inside of a limit that has asked. What ends the wait: the other region moves
/// out, receives another request, or leaves.
#[test]
fn r8_a_resumed_request_waits_inside_of_the_region_around() {
    for edge in ["r2", "r3", "r4"] {
        let task = Task::new();
        let limit = task.limit(None);
        let around = task.enter(Some(limit.key));
        let at = Some(around.key);
        let first = task.enter(at);
        assert!(task.expire(&limit));
        let why = task.catch(&first, at);
        let cleanup = task.enter(at);
        for _ in 0..2 {
            task.record.resume(&task.owner, at, &why);
        }
        assert_eq!((around.wakes(), cleanup.wakes()), (0, 0), "{edge}");
        match edge {
            "r2" => assert_eq!(task.poll(&cleanup, None), None),
            "r3" => {
                task.request("again");
                assert_eq!(task.poll(&cleanup, at).as_deref(), Some("again"));
            }
            _ => task.record.leave(cleanup.key),
        }
        assert_eq!((around.wakes(), cleanup.wakes() > 0), (1, edge == "r3"));
        let caught = task.poll(&around, Some(limit.key));
        assert_eq!(caught.as_deref(), Some("time"), "{edge}");
    }
}

/// The region beside is dropped by another thread while the task sleeps: nothing else has it run.
#[test]
fn r8_what_was_put_off_pushes_a_task_that_sleeps() {
    for again in [false, true] {
        let task = Task::new();
        let [first, beside] = [task.enter(None), task.enter(None)];
        task.request("stop");
        let why = task.catch(&first, None);
        if again {
            task.record.again(&task.owner, None);
        } else {
            task.record.resume(&task.owner, None, &why);
        }
        assert_eq!(task.state().park(), Park::Idle);
        task.record.leave(beside.key);
        assert!(task.is_cancelled());
        assert_eq!(task.owner.0.1.load(Ordering::Relaxed), 1, "pushed once");
    }
}

/// The code that has let a request go on is dropped with the region around it: nobody makes that request
/// any more, though what it waited for was carried out.
#[test]
fn r8_what_is_put_off_goes_with_the_region_around() {
    let task = Task::new();
    let around = task.enter(None);
    let at = Some(around.key);
    let [first, beside] = [task.enter(at), task.enter(at)];
    task.request("stop");
    let why = task.catch(&first, at);
    task.record.resume(&task.owner, at, &why);
    task.record.leave(around.key);
    task.record.leave(beside.key);
    assert!(!task.is_cancelled());
    assert_eq!(task.record.uncancel(task.state()), 0);
}

/// What is live outside of the limit that has asked is not waited for.
#[test]
fn r8_a_resumed_request_waits_inside_of_its_limit_alone() {
    let task = Task::new();
    let outside = task.enter(None);
    let limit = task.limit(None);
    let region = task.enter(Some(limit.key));
    assert!(task.expire(&limit));
    let why = task.catch(&region, Some(limit.key));
    task.record.resume(&task.owner, Some(limit.key), &why);
    assert!(task.record.is_spent(limit.key, Waker::noop()));
    assert_eq!(outside.wakes(), 0);
}

/// What has let a request go on is polled again and again until that is made: it is kept once.
#[test]
fn r8_a_request_is_put_off_once() {
    let looks = |polls: usize| {
        let task = Task::new();
        let around = task.enter(None);
        let at = Some(around.key);
        let [first, beside] = [task.enter(at), task.enter(at)];
        task.request("stop");
        let why = task.catch(&first, at);
        for _ in 0..polls {
            task.record.resume(&task.owner, at, &why);
        }
        task.record.leave(beside.key);
        assert_eq!(around.wakes(), 1);
        task.record.looks()
    };
    assert_eq!(looks(1), looks(100));
}

#[test]
fn r9_uncancel_takes_back_what_was_not_delivered() {
    let task = Task::new();
    task.request("one");
    task.request("two");
    assert_eq!(task.record.uncancel(task.state()), 1);
    assert!(task.is_cancelled());
    assert_eq!(task.record.uncancel(task.state()), 0);
    assert!(!task.is_cancelled());
    assert_eq!(task.record.uncancel(task.state()), 0);

    // What a limit asks stays.
    let limit = task.limit(None);
    let (inside, outside) = (task.enter(Some(limit.key)), task.enter(None));
    task.request("three");
    assert!(task.expire(&limit));
    assert_eq!(task.record.uncancel(task.state()), 0);
    assert_eq!(task.poll(&outside, None), None);
    assert_eq!(task.poll(&inside, Some(limit.key)).as_deref(), Some("time"));
}

#[test]
fn r9_uncancel_takes_back_what_was_put_off() {
    for around in [false, true] {
        let task = Task::new();
        let around = around.then(|| task.enter(None));
        let at = around.as_ref().map(|around| around.key);
        let [first, beside] = [task.enter(at), task.enter(at)];
        task.request("stop");
        let why = task.catch(&first, at);
        task.record.resume(&task.owner, at, &why);
        assert_eq!(task.record.uncancel(task.state()), 0);
        task.record.leave(beside.key);
        assert!(!task.is_cancelled());
        assert_eq!(around.map_or(0, |around| around.wakes()), 0);
    }
}

#[test]
fn r10_a_request_that_is_made_again_waits_for_what_is_beside() {
    let task = Task::new();
    let [first, second] = [task.enter(None), task.enter(None)];
    task.request("stop");
    assert!(task.poll(&first, None).is_some());
    assert!(task.poll(&second, None).is_some());
    let cleanup = task.enter(None);
    task.record.again(&task.owner, None);
    assert_eq!((cleanup.wakes(), task.is_cancelled()), (0, false));
    task.record.leave(cleanup.key);
    assert!(task.is_cancelled());
}

/// One waits, so that there is nothing to make again: neither now nor when that has been delivered.
#[test]
fn r10_a_request_that_waits_is_not_made_again() {
    let task = Task::new();
    let [first, second] = [task.enter(None), task.enter(None)];
    task.request("one");
    assert_eq!(task.poll(&first, None).as_deref(), Some("one"));
    task.request("two");
    task.record.again(&task.owner, None);
    assert!(task.poll(&second, None).is_some());
    assert!(!task.is_cancelled());
}

#[test]
fn r10_a_delivered_request_is_made_again_until_it_is_taken_back() {
    let task = Task::new();
    task.record.again(&task.owner, None);
    assert!(!task.is_cancelled(), "there was none");

    let around = task.enter(None);
    let region = task.enter(Some(around.key));
    task.request("first");
    assert_eq!(
        task.poll(&region, Some(around.key)).as_deref(),
        Some("first")
    );
    assert_eq!(around.wakes(), 0);
    task.record.again(&task.owner, Some(around.key));
    assert_eq!(around.wakes(), 1);
    // One waits: it is not replaced.
    task.record.again(&task.owner, Some(around.key));
    assert_eq!(
        task.record.cancelling(task.state()),
        1,
        "it is no other request"
    );
    assert_eq!(task.poll(&around, None).as_deref(), Some("first"));

    // Nobody is left to catch it.
    task.record.again(&task.owner, None);
    assert!(task.is_cancelled());

    // A limit's was none to the task; and what was taken back is not made again.
    let task = Task::new();
    let limit = task.limit(None);
    let inside = task.enter(Some(limit.key));
    assert!(task.expire(&limit));
    assert_eq!(task.poll(&inside, Some(limit.key)).as_deref(), Some("time"));
    task.record.again(&task.owner, None);
    assert!(!task.is_cancelled());
    let region = task.enter(None);
    task.request("taken back");
    assert!(task.poll(&region, None).is_some());
    assert_eq!(task.record.uncancel(task.state()), 0);
    task.record.again(&task.owner, None);
    assert!(!task.is_cancelled());
}

/// A limit that keeps its place after it gave up, as a `timeout` that was polled by reference does:
/// what others asked does not wait for its end.
#[test]
fn r7_a_limit_that_gave_up_and_stays_leaves_what_others_asked() {
    let task = Task::new();
    let limit = task.limit(None);
    let region = task.enter(Some(limit.key));
    assert!(task.expire(&limit));
    task.request("from outside");
    assert_eq!(task.poll(&region, Some(limit.key)).as_deref(), Some("time"));
    let _ = task.record.give_up(limit.key, Inside::Ends);
    assert!(task.is_cancelled());
    task.record.leave(limit.key);
    assert!(task.is_cancelled());
}

/// A limit gives up around another one, to which a delivery was made. That one is dropped without giving up, and
/// what was asked further out is asked again all the same.
#[test]
fn r7_a_limit_that_gave_up_leaves_what_those_inside_of_it_share() {
    for stays in [false, true] {
        let task = Task::new();
        let outer = task.limit(None);
        let middle = task.limit(Some(outer.key));
        let inner = task.limit(Some(middle.key));
        let at = Some(inner.key);
        let region = task.enter(at);
        for limit in [&inner, &middle, &outer] {
            assert!(task.expire(limit));
        }
        task.request("from outside");
        assert_eq!(task.poll(&region, at).as_deref(), Some("time"));
        // Its `cleanup_within` is over, with a region inside or with none.
        let cleanup = stays.then(|| task.enter(at));
        let _ = task.record.give_up(middle.key, Inside::Ends);
        assert_eq!(task.is_cancelled(), !stays);
        cleanup.iter().for_each(|node| task.record.leave(node.key));
        task.record.leave(inner.key);
        task.record.leave(middle.key);
        assert!(task.is_cancelled());
        assert!(task.record.is_spent(outer.key, Waker::noop()));
    }
}

/// The same where the code that has caught the request of the limit in the middle lets it go on: the innermost
/// one has expired between that request and its delivery.
#[test]
fn r8_a_limit_that_is_resumed_leaves_what_those_inside_of_it_share() {
    let task = Task::new();
    let outer = task.limit(None);
    let middle = task.limit(Some(outer.key));
    let inner = task.limit(Some(middle.key));
    let at = Some(inner.key);
    let region = task.enter(at);
    for limit in [&middle, &inner, &outer] {
        assert!(task.expire(limit));
    }
    let why = task.catch(&region, at);
    task.record.resume(&task.owner, at, &why);
    assert!(task.record.is_spent(middle.key, Waker::noop()));
    assert!(!task.record.is_spent(outer.key, &outer.waker));
    let _ = task.record.give_up(middle.key, Inside::Ends);
    assert_eq!(outer.wakes(), 1);
    assert!(task.record.is_spent(outer.key, Waker::noop()));
}

/// What a limit inside shares, and was taken back, is not made again by the one that gives up.
#[test]
fn r9_uncancel_takes_back_what_a_limit_keeps_for_those_inside() {
    let task = Task::new();
    let outer = task.limit(None);
    let inner = task.limit(Some(outer.key));
    let at = Some(inner.key);
    let region = task.enter(at);
    assert!(task.expire(&inner));
    assert!(task.expire(&outer));
    task.request("from outside");
    assert!(task.poll(&region, at).is_some());
    let cleanup = task.enter(at);
    let _ = task.record.give_up(outer.key, Inside::Ends);
    assert_eq!(task.record.uncancel(task.state()), 0);
    for node in [cleanup, inner, outer] {
        task.record.leave(node.key);
    }
    assert!(!task.is_cancelled());
}

/// Two limits move to another task, of which the inner one has taken a delivery that was meant for both. It gives
/// up there, and the outer one is asked again where it is: there, or where it has stayed.
#[test]
fn r7_a_limit_that_moves_takes_along_what_it_shares_with_those_that_move() {
    for outer_moves in [false, true] {
        let (one, two) = (Task::new(), Task::new());
        let outer = one.limit(None);
        let inner = one.limit(Some(outer.key));
        let at = Some(inner.key);
        let region = one.enter(at);
        assert!(one.expire(&inner));
        assert!(one.expire(&outer));
        let why = one.catch(&region, at);
        let bring = |limit: &Node, parent| {
            let carried = one.record.carry(limit.key).expect("it is a limit");
            let key = two.record.bring_limit(&two.owner, parent, carried);
            one.record.leave(limit.key);
            key
        };
        let parent = outer_moves.then(|| bring(&outer, None));
        let moved = bring(&inner, parent);
        two.record.resume(&two.owner, Some(moved), &why);
        assert!(two.record.is_spent(moved, Waker::noop()));
        let _ = two.record.give_up(moved, Inside::Ends);
        two.record.leave(moved);
        let record = if outer_moves {
            &two.record
        } else {
            &one.record
        };
        assert!(record.is_spent(outer.key, Waker::noop()));
    }
}

/// Two regions inside of a limit, and the code of the inner one lets the request go on: the second
/// delivery does not make the limit forget what the first has satisfied.
#[test]
fn r7_a_second_delivery_keeps_what_the_first_has_satisfied() {
    for again in [false, true] {
        let task = Task::new();
        let limit = task.limit(None);
        let outer = task.enter(Some(limit.key));
        let inner = task.enter(Some(outer.key));
        assert!(task.expire(&limit));
        task.request("from outside");
        let why = task.catch(&inner, Some(outer.key));
        if again {
            task.request("again");
        }
        let at = Some(outer.key);
        task.record.resume(&task.owner, at, &why);
        assert!(task.poll(&outer, Some(limit.key)).is_some());
        // Not in a poll, so that the request has something to push: once.
        assert_eq!(task.state().park(), Park::Idle);
        let _ = task.record.give_up(limit.key, Inside::Ends);
        assert!(task.is_cancelled());
        assert_eq!(task.owner.0.1.load(Ordering::Relaxed), 1, "{again}");
        task.record.leave(limit.key);
    }
}

/// What was taken back is not made again by a limit that gives up.
#[test]
fn r9_uncancel_takes_back_what_a_limit_keeps() {
    let task = Task::new();
    let limit = task.limit(None);
    let region = task.enter(Some(limit.key));
    assert!(task.expire(&limit));
    task.request("from outside");
    assert!(task.poll(&region, Some(limit.key)).is_some());
    assert_eq!(task.record.uncancel(task.state()), 0);
    let _ = task.record.give_up(limit.key, Inside::Ends);
    task.record.leave(limit.key);
    assert!(!task.is_cancelled());
}

/// The request of a limit is carried to another task, whose nodes are its own.
#[test]
fn r8_a_request_from_another_record_is_the_tasks() {
    let (one, two) = (Task::new(), Task::new());
    let limit = one.limit(None);
    let region = one.enter(Some(limit.key));
    assert!(one.expire(&limit));
    let why = one.catch(&region, Some(limit.key));
    let catching = two.enter(None);
    two.record.resume(&two.owner, Some(catching.key), &why);
    assert_eq!(catching.wakes(), 1);
    assert_eq!(two.poll(&catching, None).as_deref(), Some("time"));
}

/// The only region inside of another is carried out of it, below a limit that has asked: the outer
/// one is told in its place, and so is a limit that has nobody inside any more.
#[test]
fn r2_what_a_region_moves_out_of_is_told() {
    let task = Task::new();
    let limit = task.limit(None);
    let outer = task.enter(Some(limit.key));
    let inner = task.enter(Some(outer.key));
    assert!(task.expire(&limit));
    assert_eq!((outer.wakes(), inner.wakes()), (0, 1));
    let _ = task.record.poll(inner.key, None, &inner.waker);
    assert_eq!(outer.wakes(), 1);

    let task = Task::new();
    let (one, two) = (task.limit(None), task.limit(None));
    let region = task.enter(Some(one.key));
    assert!(task.expire(&one));
    let _ = task.record.poll(region.key, Some(two.key), &region.waker);
    assert_eq!(one.wakes(), 1);
    assert!(task.record.is_spent(one.key, Waker::noop()));
}

/// A task with many limits beside one another, each around a region: what each of them costs does not
/// grow with their number. They expire and are delivered, or leave before that, in any order.
#[test]
fn edges_look_at_their_own_surroundings() {
    let looks = |limits: usize| {
        let task = Task::new();
        let pairs: Vec<(Node, Node)> = (0..limits)
            .map(|_| {
                let limit = task.limit(None);
                let region = task.enter(Some(limit.key));
                (limit, region)
            })
            .collect();
        for (limit, region) in &pairs[..limits / 2] {
            assert!(task.expire(limit));
            assert_eq!(task.poll(region, Some(limit.key)).as_deref(), Some("time"));
            task.record.leave(limit.key);
        }
        for (limit, region) in pairs[limits / 2..].iter().rev() {
            assert!(task.expire(limit));
            task.record.leave(region.key);
            task.record.leave(limit.key);
        }
        task.record.looks()
    };
    let (few, many) = (looks(FEW), looks(10 * FEW));
    assert!(few > 0 && many <= 10 * few, "{few} looks, then {many}");
}

/// A region that was told by a limit, and is polled outside of it since, has not been told once that limit
/// has gone.
#[test]
fn r4_a_limit_that_leaves_takes_back_what_it_has_told_elsewhere() {
    let task = Task::new();
    let (limit, other) = (task.limit(None), task.limit(None));
    let region = task.enter(Some(limit.key));
    // Keeps the region from delivering when it is moved.
    let inner = task.enter(Some(region.key));
    task.record.leave(inner.key);
    assert!(task.expire(&limit));
    assert_eq!(region.wakes(), 1);
    let inner = task.enter(Some(region.key));
    assert_eq!(task.poll(&region, Some(other.key)), None);
    task.record.leave(limit.key);
    task.record.leave(inner.key);
    assert_eq!(task.poll(&region, Some(other.key)), None);
    assert!(task.expire(&other));
    assert_eq!(task.poll(&region, Some(other.key)).as_deref(), Some("time"));
}

/// Who is inside a limit is found through those around it: one that has moved there, and one whose
/// surroundings have gone.
#[test]
fn r7_a_limit_asks_what_has_come_into_it() {
    let task = Task::new();
    let (first, second) = (task.limit(None), task.limit(None));
    let moves = task.enter(Some(first.key));
    assert_eq!(task.poll(&moves, Some(second.key)), None);
    assert!(!task.expire(&first));
    assert_eq!(moves.wakes(), 0);
    assert!(task.expire(&second));
    assert_eq!(moves.wakes(), 1);

    let limit = task.limit(None);
    let between = task.enter(Some(limit.key));
    let inner = task.enter(Some(between.key));
    task.record.leave(between.key);
    assert!(task.expire(&limit));
    assert_eq!(inner.wakes(), 1);
    task.record.leave(inner.key);
    task.record.leave(limit.key);
}

/// What is inside of a region that moves below a limit that has asked is told, though nobody polls it
/// there; and is told no more when it moves out of it again.
#[test]
fn r2_what_moves_below_a_source_that_has_asked_is_told() {
    let task = Task::new();
    let limit = task.limit(None);
    let outer = task.enter(None);
    let inner = task.enter(Some(outer.key));
    // The limit has something to wait for.
    let other = task.enter(Some(limit.key));
    assert!(task.expire(&limit));
    assert_eq!((outer.wakes(), inner.wakes()), (0, 0));
    assert_eq!(task.poll(&outer, Some(limit.key)), None);
    assert_eq!((outer.wakes(), inner.wakes()), (0, 1));
    assert_eq!(task.poll(&outer, None), None);
    assert_eq!(task.poll(&inner, Some(outer.key)), None, "it was moved out");
    assert_eq!(task.poll(&outer, Some(limit.key)), None);
    assert_eq!(inner.wakes(), 2);
    assert_eq!(task.poll(&inner, Some(outer.key)).as_deref(), Some("time"));
    // The one delivery has satisfied the limit; the other was told of the same.
    assert_eq!(task.poll(&outer, Some(limit.key)), None);
    assert_eq!(task.poll(&other, Some(limit.key)).as_deref(), Some("time"));
}

/// The same for a limit that moves with what is inside of it.
#[test]
fn r2_what_moves_with_a_limit_is_told() {
    let task = Task::new();
    let (asks, moves) = (task.limit(None), task.limit(None));
    let inner = task.enter(Some(moves.key));
    let other = task.enter(Some(asks.key));
    assert!(task.expire(&asks));
    task.record.move_limit(moves.key, Some(asks.key));
    assert_eq!(inner.wakes(), 1);
    task.record.move_limit(moves.key, None);
    assert_eq!(task.poll(&inner, Some(moves.key)), None);
    task.record.leave(other.key);
    assert!(task.record.is_spent(asks.key, Waker::noop()));
}

/// Requests to a task with many regions, each taken back or caught and made anew: what one costs does
/// not grow with the number of regions that it has nothing new to tell.
#[test]
fn requests_look_at_those_they_tell() {
    let looks = |regions: usize| {
        let task = Task::new();
        let nodes: Vec<(Node, Node)> = (0..regions)
            .map(|_| {
                let limit = task.limit(None);
                let region = task.enter(Some(limit.key));
                (limit, region)
            })
            .collect();
        // Further requests while one waits, and the end of the loop.
        for _ in 0..regions {
            task.request("again");
        }
        // Each is delivered, and the request is made anew while the others are told already.
        for (limit, region) in &nodes[..regions / 2] {
            assert_eq!(task.poll(region, Some(limit.key)).as_deref(), Some("again"));
            task.request("again");
        }
        // The others leave before.
        for (limit, region) in &nodes[regions / 2..] {
            task.record.leave(region.key);
            task.record.leave(limit.key);
        }
        assert!(task.is_cancelled());
        // Nothing waits that was not taken back, with limits that have nobody inside.
        for _ in 0..2 * regions {
            task.record.uncancel(task.state());
        }
        for _ in 0..regions {
            task.request("once");
            assert_eq!(task.record.uncancel(task.state()), 0);
        }
        task.record.looks()
    };
    let (few, many) = (looks(FEW), looks(10 * FEW));
    assert!(few > 0 && many <= 11 * few, "{few} looks, then {many}");
}

/// A limit around many regions whose code lets the request go on, one after the other.
#[test]
fn a_resumed_request_looks_at_those_it_tells() {
    let looks = |regions: usize| {
        let task = Task::new();
        let limit = task.limit(None);
        let nodes: Vec<Node> = (0..regions).map(|_| task.enter(Some(limit.key))).collect();
        assert!(task.expire(&limit));
        for region in nodes {
            let why = task.catch(&region, Some(limit.key));
            task.record.resume(&task.owner, Some(limit.key), &why);
        }
        assert!(task.record.is_spent(limit.key, Waker::noop()));
        task.record.leave(limit.key);
        task.record.looks()
    };
    let (few, many) = (looks(FEW), looks(10 * FEW));
    assert!(few > 0 && many <= 11 * few, "{few} looks, then {many}");
}

/// Many limits in one task, inside each of which a request is put off: what each costs does not grow with
/// their number.
#[test]
fn requests_that_are_put_off_cost_what_is_around_them() {
    let looks = |limits: usize| {
        let task = Task::new();
        let new = |_| {
            let limit = task.limit(None);
            let at = Some(limit.key);
            let [first, beside] = [task.enter(at), task.enter(at)];
            assert!(task.expire(&limit));
            let why = task.catch(&first, at);
            task.record.resume(&task.owner, at, &why);
            (limit, beside)
        };
        for (limit, beside) in Vec::from_iter((0..limits).map(new)) {
            assert!(!task.record.is_spent(limit.key, Waker::noop()));
            task.record.leave(beside.key);
            assert!(task.record.is_spent(limit.key, Waker::noop()));
            task.record.leave(limit.key);
        }
        task.record.looks()
    };
    let (few, many) = (looks(FEW), looks(10 * FEW));
    assert!(few > 0 && many <= 11 * few, "{few} looks, then {many}");
}

/// A limit that is polled by another task takes along what it has asked, whether it was delivered or not;
/// what it has left behind is asked where it is, and comes told.
#[test]
fn r7_a_limit_moves_between_tasks_with_what_it_has_asked() {
    for delivered in [false, true] {
        let (one, two) = (Task::new(), Task::new());
        let limit = one.limit(None);
        let (first, second) = (one.enter(Some(limit.key)), one.enter(Some(limit.key)));
        assert!(one.expire(&limit));
        let at = Some(limit.key);
        let why = delivered.then(|| one.catch(&first, at));
        let carried = one.record.carry(limit.key).expect("it is a limit");
        let moved = two.record.bring_limit(&two.owner, None, carried);
        assert_eq!(moved, limit.key);
        assert_eq!(two.record.is_spent(moved, Waker::noop()), !delivered);
        assert_eq!(
            one.record.is_waiting(limit.key, &limit.waker),
            !delivered,
            "for the regions that have not come yet"
        );
        // The second comes after.
        let told = one.record.told_by_limit(second.key);
        one.record.leave(second.key);
        assert_eq!(one.record.has_left(limit.key), !delivered);
        let (waker, parent) = (second.waker.clone(), Some(moved));
        let second = Node {
            key: two
                .record
                .enter(&two.owner, parent, waker, told, here())
                .expect("the task is not doomed"),
            ..second
        };
        assert_eq!(two.poll(&second, parent).as_deref(), Some("time"));
        assert!(!two.record.is_spent(moved, Waker::noop()));
        // What was caught in the one task is let go on in the other.
        if let Some(why) = why {
            two.record.resume(&two.owner, parent, &why);
            assert!(two.record.is_spent(moved, Waker::noop()));
            assert!(!two.is_cancelled());
        }
        one.record.leave(first.key);
        one.record.leave(limit.key);
        two.record.leave(moved);
    }
}

/// A region was told by a limit in another task. It comes told, and polls to receive it, if it is polled
/// inside of that limit; elsewhere nobody has told it.
#[test]
fn r1_what_a_limit_has_told_is_told_inside_of_it_alone() {
    for inside in [false, true] {
        let (one, two) = (Task::new(), Task::new());
        let limit = one.limit(None);
        let at = Some(limit.key);
        let [first, second] = [one.enter(at), one.enter(at)];
        assert!(one.expire(&limit));
        one.catch(&first, at);
        let told = one.record.told_by_limit(second.key);
        assert!(told.is_some());
        let carried = one.record.carry(limit.key).expect("it is a limit");
        let parent = Some(two.record.bring_limit(&two.owner, None, carried)).filter(|_| inside);
        let (wakes, waker) = (second.wakes(), second.waker.clone());
        let key = two.record.enter(&two.owner, parent, waker, told, here());
        let key = key.expect("the task is not doomed");
        assert_eq!(second.wakes() - wakes, usize::from(inside));
        let polled = two.record.poll(key, parent, &second.waker);
        assert_eq!(matches!(polled, Polled::Deliver(_)), inside);
    }
}

/// A limit whose time was up before it came leaves: those that it has told here are told no more.
#[test]
fn r7_a_limit_that_came_and_leaves_asks_nobody_any_more() {
    let (one, two) = (Task::new(), Task::new());
    let limit = one.limit(None);
    let carried = one.record.carry(limit.key).expect("it is a limit");
    let moved = two.record.bring_limit(&two.owner, None, carried);
    let region = two.enter(Some(moved));
    let mut carried = two.record.carry(moved).expect("it is a limit");
    carried.expire(None, here());
    assert_eq!(two.record.bring_limit(&two.owner, None, carried), moved);
    assert_eq!(region.wakes(), 1);
    two.record.leave(moved);
    assert_eq!(two.poll(&region, None), None);
}

/// A limit gives up in the task that it leaves: what that was asked, and a delivery to the limit has
/// satisfied, is asked again.
#[test]
fn r7_a_limit_that_moves_away_leaves_what_others_asked() {
    let (one, two) = (Task::new(), Task::new());
    let limit = one.limit(None);
    let region = one.enter(Some(limit.key));
    assert!(one.expire(&limit));
    one.request("from outside");
    assert_eq!(one.poll(&region, Some(limit.key)).as_deref(), Some("time"));
    let carried = one.record.carry(limit.key).expect("it is a limit");
    one.record.leave(limit.key);
    assert!(one.is_cancelled());
    let moved = two.record.bring_limit(&two.owner, None, carried);
    let _ = two.record.give_up(moved, Inside::Ends);
    two.record.leave(moved);
    assert!(!two.is_cancelled());
}

/// A request is put off inside of a limit that moves to another task: it waits for what is beside, first where
/// the limit was, and then where that has come along to.
#[test]
fn r8_what_is_put_off_follows_a_limit_that_moves() {
    for comes in [false, true] {
        let (one, two) = (Task::new(), Task::new());
        let limit = one.limit(None);
        let at = Some(limit.key);
        let region = one.enter(at);
        assert!(one.expire(&limit));
        let why = one.catch(&region, at);
        let beside = one.enter(at);
        one.record.resume(&one.owner, at, &why);
        let carried = one.record.carry(limit.key).expect("it is a limit");
        let moved = two.record.bring_limit(&two.owner, None, carried);
        assert!(!one.record.is_spent(limit.key, &limit.waker));
        assert!(one.record.take_put_off(limit.key).is_none());
        let beside_here = comes.then(|| two.enter(Some(moved)));
        one.record.leave(beside.key);
        assert_eq!((limit.wakes(), one.is_cancelled()), (1, false));
        assert!(one.record.has_left(limit.key));
        let put_off = one.record.take_put_off(limit.key).expect("it is due");
        two.record.bring_put_off(moved, put_off);
        if let Some(beside) = beside_here {
            assert_eq!(beside.wakes(), 0, "asked again in its cleanup");
            assert!(!two.record.is_spent(moved, Waker::noop()));
            two.record.leave(beside.key);
        }
        assert!(two.record.is_spent(moved, Waker::noop()));
        one.record.leave(limit.key);
        two.record.leave(moved);
        assert!(!one.is_cancelled() && !two.is_cancelled());
    }
}

/// The same for a limit that comes back to the task where the request was put off.
#[test]
fn r8_what_is_put_off_waits_for_a_limit_that_comes_back() {
    for gone in [false, true] {
        let (one, two) = (Task::new(), Task::new());
        let limit = one.limit(None);
        let at = Some(limit.key);
        let region = one.enter(at);
        assert!(one.expire(&limit));
        let why = one.catch(&region, at);
        let beside = one.enter(at);
        one.record.resume(&one.owner, at, &why);
        let carried = one.record.carry(limit.key).expect("it is a limit");
        let moved = two.record.bring_limit(&two.owner, None, carried);
        if gone {
            one.record.leave(beside.key);
        }
        let carried = two.record.carry(moved).expect("it is a limit");
        one.record.bring_limit(&one.owner, None, carried);
        assert_eq!(one.record.is_spent(limit.key, Waker::noop()), gone);
        one.record.leave(beside.key);
        assert!(one.record.is_spent(limit.key, Waker::noop()));
    }
}

/// A limit that comes back finds the node that it has left, with the region that stayed inside.
#[test]
fn r7_a_limit_comes_back() {
    let (one, two) = (Task::new(), Task::new());
    let limit = one.limit(None);
    let region = one.enter(Some(limit.key));
    let carried = one.record.carry(limit.key).expect("it is a limit");
    let mut carried = {
        let moved = two.record.bring_limit(&two.owner, None, carried);
        let carried = two.record.carry(moved).expect("it is a limit");
        two.record.leave(moved);
        carried
    };
    // The deadline comes while no task polls it.
    carried.expire(None, here());
    assert!(carried.is_requested());
    assert_eq!(region.wakes(), 0);
    let back = one.record.bring_limit(&one.owner, None, carried);
    assert_eq!((back, region.wakes()), (limit.key, 1));
    one.request("from outside");
    assert_eq!(one.poll(&region, Some(back)).as_deref(), Some("time"));
    one.record.leave(back);
    assert!(!one.is_cancelled(), "it has not given up here");
}

/// What code inside of a limit has caught, of a limit around or of the task, goes on when that limit cuts it.
#[test]
fn r11_a_limit_that_cuts_a_cleanup_passes_on_what_it_was_for() {
    let task = Task::new();
    let outer = task.limit(None);
    let inner = task.limit(Some(outer.key));
    let at = Some(inner.key);
    let region = task.enter(at);
    assert!(
        !task.record.give_up(inner.key, Inside::Ends),
        "nothing was caught"
    );
    assert!(task.expire(&outer));
    assert_eq!(task.poll(&region, at).as_deref(), Some("time"));
    assert!(
        !task.record.is_spent(outer.key, &outer.waker),
        "it waits for the cleanup"
    );
    assert!(!task.expire(&inner), "nothing is live inside");
    assert!(task.record.give_up(inner.key, Inside::Ends));
    assert_eq!(outer.wakes(), 1);
    assert!(task.record.is_spent(outer.key, Waker::noop()));
    assert!(
        !task.record.give_up(outer.key, Inside::Ends),
        "that is its own"
    );
    assert!(!task.is_cancelled());

    let task = Task::new();
    let limit = task.limit(None);
    let region = task.enter(Some(limit.key));
    task.request("from outside");
    assert_eq!(
        task.poll(&region, Some(limit.key)).as_deref(),
        Some("from outside")
    );
    assert!(!task.is_cancelled() && task.record.give_up(limit.key, Inside::Ends));
    assert!(task.is_cancelled());
    assert_eq!(
        task.record.why().unwrap().reason.as_deref(),
        Some("from outside")
    );
}

/// It waits for what is live beside, as by r8, and is asked again if somebody else takes it.
#[test]
fn r11_what_is_passed_on_waits_for_what_is_beside() {
    let task = Task::new();
    let outer = task.limit(None);
    let inner = task.limit(Some(outer.key));
    let region = task.enter(Some(inner.key));
    assert!(task.expire(&outer));
    assert!(task.poll(&region, Some(inner.key)).is_some());
    let beside = task.enter(Some(outer.key));
    assert!(task.record.give_up(inner.key, Inside::Ends));
    assert_eq!((beside.wakes(), outer.wakes()), (0, 0));
    assert!(!task.record.is_spent(outer.key, &outer.waker));
    task.record.leave(beside.key);
    assert!(task.record.is_spent(outer.key, Waker::noop()));
    assert!(
        !task.record.give_up(inner.key, Inside::Ends),
        "it answers at the next poll"
    );
}

/// Nothing is passed on that was let go on, or taken back, or is asked for by a limit inside of the one that ends.
#[test]
fn r11_a_limit_passes_on_nothing_that_is_over() {
    let task = Task::new();
    let limit = task.limit(None);
    let at = Some(limit.key);
    let region = task.enter(at);
    task.request("from outside");
    let why = task.catch(&region, at);
    task.record.resume(&task.owner, at, &why);
    assert!(task.is_cancelled(), "it waits at its source");
    assert!(
        task.record.give_up(limit.key, Inside::Ends),
        "that is first"
    );
    assert_eq!(task.record.uncancel(task.state()), 0);
    assert!(!task.record.give_up(limit.key, Inside::Ends) && !task.is_cancelled());

    let task = Task::new();
    let limit = task.limit(None);
    let region = task.enter(Some(limit.key));
    task.request("from outside");
    assert!(task.poll(&region, Some(limit.key)).is_some());
    assert_eq!(task.record.uncancel(task.state()), 0);
    assert!(!task.record.give_up(limit.key, Inside::Ends) && !task.is_cancelled());

    let task = Task::new();
    let outer = task.limit(None);
    let middle = task.limit(Some(outer.key));
    let inner = task.limit(Some(middle.key));
    let region = task.enter(Some(inner.key));
    assert!(task.expire(&middle));
    assert!(task.poll(&region, Some(inner.key)).is_some());
    assert!(!task.record.give_up(outer.key, Inside::Ends));
}

/// The code inside of a limit may hand on what it has caught, to code inside of the next one.
#[test]
fn r11_what_a_limit_has_caught_goes_to_the_next_one() {
    for live in [false, true] {
        let task = Task::new();
        let outer = task.limit(None);
        let middle = task.limit(Some(outer.key));
        let around = task.enter(Some(middle.key));
        let inner = task.limit(Some(around.key));
        let region = task.enter(Some(inner.key));
        assert!(task.expire(&outer));
        assert!(task.poll(&region, Some(inner.key)).is_some());
        task.record.leave(inner.key);
        if !live {
            task.record.leave(around.key);
        }
        // A region that is live has to be given up first.
        assert_eq!(task.record.give_up(middle.key, Inside::Ends), !live);
        assert_eq!(task.record.is_spent(outer.key, Waker::noop()), !live);
        task.record.leave(around.key);
        task.record.leave(middle.key);
        assert!(task.record.is_spent(outer.key, Waker::noop()));
    }
}

/// A limit that only borrows what it bounds cuts nothing. The next one that ends what is inside has it go on.
#[test]
fn r11_what_is_kept_is_remembered_further_out() {
    let task = Task::new();
    let outer = task.limit(None);
    let middle = task.limit(Some(outer.key));
    let inner = task.limit(Some(middle.key));
    let region = task.enter(Some(inner.key));
    assert!(task.expire(&outer));
    assert!(task.poll(&region, Some(inner.key)).is_some());
    assert!(!task.record.give_up(inner.key, Inside::Stays));
    task.record.leave(inner.key);
    assert!(!task.record.is_spent(outer.key, &outer.waker));
    assert!(task.record.give_up(middle.key, Inside::Ends));
    assert!(task.record.is_spent(outer.key, Waker::noop()));
}

/// Two regions were told of one request. Both limits that cut a cleanup have it go on, also after the other one.
#[test]
fn r11_each_of_two_limits_has_caught_the_same_request() {
    let task = Task::new();
    let outer = task.limit(None);
    let limits = [(); 2].map(|()| task.limit(Some(outer.key)));
    let regions = limits.each_ref().map(|limit| task.enter(Some(limit.key)));
    assert!(task.expire(&outer));
    for (limit, region) in limits.iter().zip(&regions) {
        assert!(task.poll(region, Some(limit.key)).is_some());
    }
    for limit in &limits {
        assert!(!task.record.is_spent(outer.key, &outer.waker));
        assert!(task.record.give_up(limit.key, Inside::Ends));
        assert!(task.record.is_spent(outer.key, Waker::noop()));
        // Somebody in the code around catches it.
        let next = task.enter(Some(outer.key));
        assert!(task.poll(&next, Some(outer.key)).is_some());
    }
}

/// Both timeouts move to another task, and the inner one takes along what was caught inside of it.
#[test]
fn r11_a_limit_that_moves_takes_along_what_it_has_caught() {
    let (one, two) = (Task::new(), Task::new());
    let outer = one.limit(None);
    let inner = one.limit(Some(outer.key));
    let region = one.enter(Some(inner.key));
    assert!(one.expire(&outer));
    assert!(one.poll(&region, Some(inner.key)).is_some());
    let mut at = None;
    for limit in [&outer, &inner] {
        let carried = one.record.carry(limit.key).expect("a limit");
        let key = two.record.bring_limit(&two.owner, at, carried);
        assert_eq!(key, limit.key, "under the same name");
        at = Some(key);
    }
    assert!(two.record.give_up(inner.key, Inside::Ends));
    assert!(two.record.is_spent(outer.key, Waker::noop()));
    one.record.leave(inner.key);
    one.record.leave(outer.key);
    assert!(!one.is_cancelled() && !two.is_cancelled());
}

/// A request to the task that was caught stays with the code: it is not made again where that has come to.
#[test]
fn r11_a_limit_that_moves_alone_takes_along_nothing_of_the_task() {
    let (one, two) = (Task::new(), Task::new());
    let limit = one.limit(None);
    let region = one.enter(Some(limit.key));
    one.request("from outside");
    assert!(one.poll(&region, Some(limit.key)).is_some());
    let carried = one.record.carry(limit.key).expect("a limit");
    let key = two.record.bring_limit(&two.owner, None, carried);
    assert!(!two.record.give_up(key, Inside::Ends));
    one.record.leave(limit.key);
    assert!(!one.is_cancelled() && !two.is_cancelled());
}

/// A limit gives up, and the future inside is kept and polled on, with two limits in it. The inner one of them gives up
/// as well: the one around it has not lost its request with the first.
#[test]
fn r7_a_limit_that_gave_up_takes_nothing_from_those_that_are_kept() {
    for stays in [false, true] {
        let task = Task::new();
        let outer = task.limit(None);
        let middle = task.limit(Some(outer.key));
        let inner = task.limit(Some(middle.key));
        let at = Some(inner.key);
        let region = task.enter(at);
        for limit in [&inner, &middle, &outer] {
            assert!(task.expire(limit));
        }
        assert_eq!(task.poll(&region, at).as_deref(), Some("time"));
        let cleanup = stays.then(|| task.enter(at));
        let _ = task.record.give_up(outer.key, Inside::Ends);
        task.record.leave(outer.key);
        // The future is polled on, outside of what has given up.
        task.record.move_limit(middle.key, None);
        cleanup.iter().for_each(|node| task.record.leave(node.key));
        assert!(!task.record.is_spent(middle.key, &middle.waker));
        let _ = task.record.give_up(inner.key, Inside::Ends);
        task.record.leave(inner.key);
        assert_eq!(middle.wakes(), 1, "{stays}: it waits for ever");
        assert!(task.record.is_spent(middle.key, Waker::noop()));
    }
}

/// Nor is the cleanup cut of a future that is kept: what its limit shares waits for that.
#[test]
fn r7_a_limit_that_gave_up_does_not_cut_what_is_kept() {
    let task = Task::new();
    let outer = task.limit(None);
    let inner = task.limit(Some(outer.key));
    let at = Some(inner.key);
    let region = task.enter(at);
    assert!(task.expire(&inner));
    task.request("from outside");
    assert!(task.poll(&region, at).is_some());
    let cleanup = task.enter(at);
    // Its time is up while that cleans up, and its `cleanup_within` after.
    assert!(task.expire(&outer));
    assert!(task.poll(&cleanup, at).is_some());
    let cleanup = task.enter(at);
    let _ = task.record.give_up(outer.key, Inside::Ends);
    task.record.leave(outer.key);
    assert_eq!(cleanup.wakes(), 0, "it was asked by the task before");
}

/// A limit moves to another task and gives up there; one that was inside is dropped where it was. What that shared
/// with a request to the first task is asked again there.
#[test]
fn r7_a_limit_that_moves_leaves_what_those_inside_share_with_the_task() {
    let (one, two) = (Task::new(), Task::new());
    let outer = one.limit(None);
    let inner = one.limit(Some(outer.key));
    let at = Some(inner.key);
    let region = one.enter(at);
    for limit in [&inner, &outer] {
        assert!(one.expire(limit));
    }
    one.request("from outside");
    assert!(one.poll(&region, at).is_some());
    let carried = one.record.carry(outer.key).expect("it is a limit");
    let outer2 = two.record.bring_limit(&two.owner, None, carried);
    one.record.leave(outer.key);
    let _ = two.record.give_up(outer2, Inside::Ends);
    one.record.leave(inner.key);
    two.record.leave(outer2);
    assert!(one.is_cancelled(), "the abort of the first task is lost");
}

/// What a limit that cuts nothing was inside of stays with the limits inside: they may be polled on.
#[test]
fn r11_a_limit_takes_nothing_from_those_that_are_kept() {
    let task = Task::new();
    let outer = task.limit(None);
    let middle = task.limit(Some(outer.key));
    let inner = task.limit(Some(middle.key));
    let region = task.enter(Some(inner.key));
    assert!(task.expire(&middle));
    assert!(task.poll(&region, Some(inner.key)).is_some());
    assert!(!task.expire(&outer));
    assert!(!task.record.give_up(outer.key, Inside::Ends));
    task.record.leave(outer.key);
    // The future is polled on, outside of what has given up.
    task.record.move_limit(middle.key, None);
    task.record.move_limit(inner.key, Some(middle.key));
    assert!(task.record.give_up(inner.key, Inside::Ends));
    assert!(task.record.is_spent(middle.key, Waker::noop()));
}

/// A limit inside of many others, one after the other, each of which has asked, and ends with an answer of something
/// beside it: the limit remembers none that has gone, and so the last costs what the first did.
#[test]
fn r11_a_limit_does_not_remember_those_that_have_gone() {
    let task = Task::new();
    let inner = task.limit(None);
    for _ in 0..FEW {
        let outer = task.limit(None);
        task.record.move_limit(inner.key, Some(outer.key));
        let region = task.enter(Some(inner.key));
        assert!(task.expire(&outer));
        assert!(task.poll(&region, Some(inner.key)).is_some());
        task.record.leave(outer.key);
        assert!(task.record.remembered(inner.key) <= 1);
    }
}

/// The same if the limit that cuts it has a region inside, which ends with it: what is beside was asked before, and is
/// not asked again in its cleanup.
#[test]
fn r11_what_a_limit_with_a_region_inside_passes_on_waits_for_what_is_beside() {
    for of_task in [false, true] {
        let task = Task::new();
        let outer = task.limit(None);
        let inner = task.limit(Some(outer.key));
        let region = task.enter(Some(inner.key));
        if of_task {
            task.request("from outside");
        } else {
            assert!(task.expire(&outer));
        }
        assert!(task.poll(&region, Some(inner.key)).is_some());
        let stays = task.enter(Some(inner.key));
        let beside = task.enter(Some(outer.key));
        assert!(
            !task.record.give_up(inner.key, Inside::Ends),
            "it answers at once"
        );
        task.record.leave(stays.key);
        task.record.leave(inner.key);
        assert_eq!(beside.wakes(), 0, "asked again in its cleanup");
        task.record.leave(beside.key);
        assert_eq!(task.is_cancelled(), of_task);
        assert_eq!(task.record.is_spent(outer.key, Waker::noop()), !of_task);
    }
}

/// A limit whose future is given no more time, and is dropped before it gives up: what those inside know is not lost
/// with it, neither what was caught, nor what a region has kept for later, since something beside was cleaning up.
#[test]
fn r11_what_is_dropped_before_a_limit_gives_up_goes_on() {
    for (put_off, last) in [(false, true), (true, true), (true, false)] {
        let task = Task::new();
        let outer = task.limit(None);
        let limit = task.limit(Some(outer.key));
        let inner = task.limit(Some(limit.key));
        let around = task.enter(Some(inner.key));
        let at = Some(around.key);
        let region = task.enter(at);
        assert!(task.expire(&outer));
        let why = task.catch(&region, at);
        let stuck = task.enter(at);
        if put_off {
            task.record.resume(&task.owner, at, &why);
            assert_eq!(task.record.remembered(inner.key), 0);
        }
        task.record.end(limit.key);
        // In both orders, since a region that goes makes what waits for it alone.
        let regions = [&stuck, &around];
        let [first, second] = if last { regions } else { [&around, &stuck] };
        for node in [first, second, &inner] {
            task.record.leave(node.key);
        }
        assert_eq!(stuck.wakes(), 0);
        assert!(task.record.give_up(limit.key, Inside::Ends));
        assert!(task.record.is_spent(outer.key, Waker::noop()));
        assert!(!task.record.give_up(limit.key, Inside::Ends), "it answers");
    }
}

/// What is inside of such a future and is kept all the same has its own requests, and what was put off for it.
#[test]
fn r11_what_is_kept_of_a_future_that_is_dropped_keeps_its_own() {
    let task = Task::new();
    let limit = task.limit(None);
    let kept = task.limit(Some(limit.key));
    let around = task.enter(Some(kept.key));
    let at = Some(around.key);
    let region = task.enter(at);
    assert!(task.expire(&kept));
    let why = task.catch(&region, at);
    let cleanup = task.enter(at);
    task.record.resume(&task.owner, at, &why);
    task.record.end(limit.key);
    assert!(!task.record.give_up(limit.key, Inside::Ends));
    task.record.leave(limit.key);
    task.record.move_limit(kept.key, None);
    assert_eq!((around.wakes(), cleanup.wakes()), (0, 0), "not asked again");
    task.record.leave(cleanup.key);
    assert_eq!(task.poll(&around, Some(kept.key)).as_deref(), Some("time"));
}

/// A request waits further out when a limit is to answer: that one comes first, once.
#[test]
fn r11_a_limit_answers_after_what_waits_further_out() {
    for stays in [Inside::Ends, Inside::Stays] {
        let task = Task::new();
        let outer = task.limit(None);
        let limit = task.limit(Some(outer.key));
        let [first, beside] = [task.enter(Some(limit.key)), task.enter(Some(limit.key))];
        assert!(task.expire(&outer));
        let why = task.catch(&first, Some(limit.key));
        assert!(task.poll(&beside, Some(limit.key)).is_some());
        let cleanup = task.enter(Some(limit.key));
        task.record.resume(&task.owner, Some(limit.key), &why);
        assert!(task.expire(&limit));
        // Its delivery makes the request that was put off, and remembers nothing of it.
        assert!(task.poll(&cleanup, Some(limit.key)).is_some());
        assert!(task.record.is_spent(outer.key, Waker::noop()));
        assert!(task.record.give_up(limit.key, stays));
        assert!(!task.record.give_up(limit.key, stays), "it answers");
    }
}

/// Such a request is taken back as well, also if it was caught inside of another limit.
#[test]
fn r9_uncancel_takes_back_what_a_limit_is_to_pass_on() {
    let task = Task::new();
    let outer = task.limit(None);
    let inner = task.limit(Some(outer.key));
    let at = Some(inner.key);
    let region = task.enter(at);
    task.request("from outside");
    assert!(task.poll(&region, at).is_some());
    let stays = task.enter(at);
    assert!(!task.record.give_up(outer.key, Inside::Ends));
    assert_eq!(task.record.uncancel(task.state()), 0);
    for node in [stays, inner, outer] {
        task.record.leave(node.key);
    }
    assert!(!task.is_cancelled());
}

/// The time of several limits around one another is up in one poll: none of them answers in it.
#[test]
fn r11_limits_that_end_together_answer_later() {
    let task = Task::new();
    let total = task.limit(None);
    let outer = task.limit(Some(total.key));
    let middle = task.limit(Some(outer.key));
    let inner = task.limit(Some(middle.key));
    let region = task.enter(Some(inner.key));
    assert!(task.expire(&total));
    assert!(task.poll(&region, Some(inner.key)).is_some());
    for limit in [&inner, &middle, &outer] {
        assert!(task.record.give_up(limit.key, Inside::Ends));
    }
    assert!(task.record.is_spent(total.key, Waker::noop()));
    assert!(!task.record.give_up(outer.key, Inside::Ends), "it answers");
}
