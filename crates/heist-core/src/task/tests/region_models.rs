//! Models of regions: the record and the word against everything that can happen at the same time.
//!
//! As in `models.rs`, whoever is told to push a task runs it at once, on its own thread. The task of
//! a model is pending for ever, but for a region inside it: only a request ends it. So a request that
//! is lost leaves a task that is not done.
//!
//! Each model says by which change of the code it *fails*; each was tried by hand.

use super::Memory;
use super::region::{Inside, Key, Owner, Polled, Record, Why};
use super::state::{Close, Complete, Park, Start, State, Wake};
use crate::models::model;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use std::panic::Location;
use std::sync::Arc as Plain;
use std::sync::atomic::AtomicUsize;
use std::task::{Wake as StdWake, Waker};

/// How the future of a model ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A region answered "cancelled", and the future was ready.
    Caught,
    /// The future was dropped.
    Dropped,
}

/// What only the runner touches.
#[derive(Default)]
struct Body {
    region: Option<Key>,
    waker: Option<Waker>,
    end: Option<End>,
    /// The last request that was delivered.
    caught: Option<Why>,
}

struct Cell {
    state: State,
    record: Record<Ref>,
    /// As the pointer of `SideCell`: the record is there.
    made: AtomicBool,
    body: UnsafeCell<Body>,
    memory: Memory,
    /// After it caught a request, the future goes on in cleanup, and is ready when this is set.
    goes_on: bool,
}

// SAFETY: loom checks every access to the cells, which is the point of the models.
unsafe impl Sync for Cell {}
// SAFETY: as for `Sync`.
unsafe impl Send for Cell {}

/// As `TaskRef`: a HANDLE.
struct Ref(Arc<Cell>);

impl Ref {
    fn new(cell: &Arc<Cell>) -> Ref {
        cell.state.clone_handle();
        Ref(cell.clone())
    }
}

impl Clone for Ref {
    fn clone(&self) -> Ref {
        Ref::new(&self.0)
    }
}

impl Drop for Ref {
    fn drop(&mut self) {
        self.0.memory.touch();
        if self.0.state.drop_handle() == Wake::Free {
            self.0.memory.free();
        }
    }
}

impl Ref {
    fn due(&self, todo: Wake) -> Option<Arc<Cell>> {
        (todo == Wake::Push).then(|| self.0.clone())
    }
}

impl Owner for Ref {
    type Due = Arc<Cell>;
    fn state(&self) -> &State {
        self.0.memory.touch();
        &self.0.state
    }
    fn request_cancel(&self) -> Option<Arc<Cell>> {
        self.due(self.state().request_cancel())
    }
    fn request_close(&self) -> (Close, Option<Arc<Cell>>) {
        let close = self.state().request_close();
        let push = close == Close::Push;
        (close, push.then(|| self.0.clone()))
    }
    fn leave_region(&self, requested: bool) -> Option<Arc<Cell>> {
        self.due(self.state().leave_region(requested))
    }
    fn push(due: Arc<Cell>) {
        due.run();
    }
    fn wake(waker: Waker) {
        waker.wake();
    }
    fn drop_waker(waker: Waker) {
        drop(waker);
    }
}

struct Wakes(Arc<Cell>);

impl StdWake for Wakes {
    fn wake(self: Plain<Self>) {
        match self.0.state.wake_by_ref() {
            Wake::Push => self.0.run(),
            Wake::Noted => {}
            Wake::Free => unreachable!("the waker of a model is not counted"),
        }
    }
}

/// Counts wakes. Of the standard library: counting must order nothing in the model.
#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl StdWake for Count {
    fn wake(self: Plain<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

trait Task {
    fn run(&self);
    fn ask(&self);
    fn close(&self);
}

#[track_caller]
fn here() -> &'static Location<'static> {
    Location::caller()
}

/// Where [`Task::close`] says that it is.
fn close_site() -> &'static Location<'static> {
    here()
}

fn cell(goes_on: bool) -> Arc<Cell> {
    let cell = Arc::new(Cell {
        state: State::queued(),
        record: Record::new(),
        made: AtomicBool::new(false),
        body: UnsafeCell::new(Body::default()),
        memory: Memory::new(),
        goes_on,
    });
    let waker = Waker::from(Plain::new(Wakes(cell.clone())));
    // SAFETY: nobody else has the cell.
    cell.body
        .with_mut(|body| unsafe { (*body).waker = Some(waker) });
    cell
}

/// A task that has entered its region and sleeps.
fn asleep(goes_on: bool) -> Arc<Cell> {
    let cell = cell(goes_on);
    cell.run();
    assert!(cell.end().is_none());
    cell
}

/// A task that has caught a request, in a poll of its cleanup, and what was caught. Whoever has this is the runner.
fn cleaning() -> (Arc<Cell>, Ref, Why) {
    let cell = asleep(true);
    cell.ask();
    let why = cell.caught().expect("it was asked");
    assert_eq!(cell.state.wake_by_ref(), Wake::Push);
    assert_eq!(cell.state.start_run(), Start::Poll);
    let owner = Ref::new(&cell);
    (cell, owner, why)
}

/// The same, with a request to the task that was caught inside of a limit in that cleanup.
fn caught_in_a_limit() -> (Arc<Cell>, Ref, Key) {
    let (cell, owner, _) = cleaning();
    let limit = cell.record.enter_limit(&owner, None);
    let inside = enter(&cell, &owner, Some(limit), Waker::noop().clone());
    cell.ask();
    let polled = cell.record.poll(inside, Some(limit), Waker::noop());
    assert!(matches!(polled, Polled::Deliver(_)), "it was asked");
    (cell, owner, limit)
}

/// A region that the runner enters.
fn enter(cell: &Arc<Cell>, owner: &Ref, parent: Option<Key>, waker: Waker) -> Key {
    let key = cell.record.enter(owner, parent, waker, None, here());
    key.expect("it is not doomed")
}

/// The end of that poll, which was pending.
fn end_poll(cell: &Arc<Cell>) {
    if cell.state.park() == Park::Requeue {
        cell.run();
    }
}

/// One poll: true when the future is ready.
fn poll(cell: &Arc<Cell>) -> bool {
    let (region, waker) = cell.body.with_mut(|body| {
        // SAFETY: loom checks that we are alone, here and below.
        let body = unsafe { &mut *body };
        (body.region, body.waker.clone().expect("it is not done"))
    });
    match region {
        None if cell.end().is_some() => false,
        None => {
            cell.made.store(true, Ordering::Release);
            let region = cell
                .record
                .enter(&Ref::new(cell), None, waker, None, here());
            cell.set(region, None);
            false
        }
        Some(key) => match cell.record.poll(key, None, &waker) {
            Polled::Poll => false,
            Polled::Deliver(why) => {
                cell.set(None, Some(End::Caught));
                // SAFETY: as above.
                cell.body
                    .with_mut(|body| unsafe { (*body).caught = Some(why) });
                !cell.goes_on
            }
        },
    }
}

fn finish(cell: &Arc<Cell>, end: End) {
    let (region, waker) = cell.body.with_mut(|body| {
        // SAFETY: loom checks that we are alone.
        let body = unsafe { &mut *body };
        body.end = Some(end);
        (body.region.take(), body.waker.take())
    });
    // The future is dropped before the last edge, and its region with it.
    if let Some(key) = region {
        cell.record.leave(key);
    }
    drop(waker);
    match cell.state.complete(false) {
        Complete::Finished => {}
        Complete::Free => cell.memory.free(),
        Complete::Unwanted | Complete::WakeJoiner => unreachable!("nobody joins"),
    }
}

impl Task for Arc<Cell> {
    fn run(&self) {
        loop {
            self.memory.touch();
            let park = match self.state.start_run() {
                Start::Drop => return finish(self, End::Dropped),
                Start::Poll if poll(self) => return finish(self, End::Caught),
                Start::Poll => self.state.park(),
            };
            match park {
                Park::Idle => return,
                Park::Requeue => {}
                Park::Abandoned => unreachable!("nobody abandons"),
            }
        }
    }

    /// As `TaskRef::request`.
    fn ask(&self) {
        let task = Ref::new(self);
        if !self.state.snapshot().is_done() {
            self.made.store(true, Ordering::Release);
            self.record.request(&task, Why::task(None, here()));
        }
    }

    /// As `TaskList::close` does for a task that is listed.
    fn close(&self) {
        let task = Ref::new(self);
        match self.state.request_close() {
            Close::Push => self.run(),
            Close::Noted | Close::Cleanup => {}
            Close::Region => {
                // Relaxed: whatever orders this load must be in the word.
                assert!(self.made.load(Ordering::Relaxed), "a region and no record");
                self.record.close(&task, close_site()).run();
            }
        }
    }
}

impl Cell {
    /// Only the runner.
    fn set(&self, region: Option<Key>, end: Option<End>) {
        self.body.with_mut(|body| {
            // SAFETY: loom checks that we are alone.
            let body = unsafe { &mut *body };
            body.region = region;
            body.end = end;
        });
    }

    /// Only where no other thread is.
    fn caught(&self) -> Option<Why> {
        // SAFETY: loom checks that nobody writes.
        self.body.with(|body| unsafe { (*body).caught.clone() })
    }

    /// Only where no other thread is.
    fn end(&self) -> Option<End> {
        // SAFETY: loom checks that nobody writes.
        self.body.with(|body| unsafe { (*body).end })
    }
}

fn spawn(cell: &Arc<Cell>, f: impl FnOnce(&Arc<Cell>) + 'static) -> thread::JoinHandle<()> {
    let cell = cell.clone();
    thread::spawn(move || f(&cell))
}

/// The end of a model: the handle is the last reference.
fn assert_freed(cell: &Arc<Cell>) {
    assert!(cell.state.snapshot().is_done(), "lost: {:?}", cell.state);
    if cell.state.drop_join() == Wake::Free {
        cell.memory.free();
    }
}

/// A request races with the poll that enters the region, and with the polls after it: the task is
/// dropped before it entered, or the region catches, once, and what follows is cleanup.
///
/// Fails when `enter_region` does not clear CANCEL (the task is dropped in its cleanup).
#[test]
fn models_request_against_enter_and_deliver() {
    for goes_on in [false, true] {
        // Counted: 460.
        model(230, move || {
            let cell = cell(goes_on);
            let runner = spawn(&cell, Task::run);
            cell.ask();
            runner.join().unwrap();
            assert!(cell.end().is_some(), "lost: {:?}", cell.state);
            if goes_on && cell.caught().is_some() {
                if cell.state.wake_by_ref() == Wake::Push {
                    cell.run();
                }
                assert_eq!(cell.end(), Some(End::Caught), "dropped in its cleanup");
                assert!(cell.state.snapshot().is_cleaning());
                // A second request, which nothing catches.
                cell.ask();
                assert_eq!(cell.end(), Some(End::Dropped));
            }
            assert_freed(&cell);
        });
    }
}

/// The same with the end of the loop, which takes no lock unless the word says that there is a
/// region.
///
/// Fails when `enter_region` sets REGION with Relaxed, or `request_close` reads it with Relaxed (a
/// region is seen, and its record is not), and when `enter_region` does not look at CANCEL.
#[test]
fn models_close_against_enter_and_deliver() {
    // Counted: 145.
    model(72, || {
        let cell = cell(false);
        let runner = spawn(&cell, Task::run);
        cell.close();
        runner.join().unwrap();
        assert!(cell.end().is_some(), "lost: {:?}", cell.state);
        assert_freed(&cell);
    });
}

/// A region leaves on another thread (it was carried out of the task, and is polled in another one
/// or dropped) while somebody asks: the request must reach the task itself in the end.
///
/// Fails when `leave_region` does not set CANCEL, and when `leave` clears REGION after it has
/// released the lock.
#[test]
fn models_leave_on_another_thread_against_request() {
    for close in [false, true] {
        // Counted: 204.
        model(100, move || {
            let cell = asleep(false);
            // Out of the future, before anybody else looks.
            // SAFETY: loom checks that we are alone.
            let key = cell.body.with_mut(|body| unsafe { (*body).region.take() });
            // What is left of the future does nothing.
            // SAFETY: as above.
            cell.body
                .with_mut(|body| unsafe { (*body).end = Some(End::Caught) });
            let key = key.expect("it has entered");
            let other = spawn(&cell, move |cell| cell.record.leave(key));
            if close {
                cell.close();
            } else {
                cell.ask();
            }
            other.join().unwrap();
            assert_eq!(cell.end(), Some(End::Dropped), "lost: {:?}", cell.state);
            assert_freed(&cell);
        });
    }
}

/// A region moves from one task to another: a request to the first drops the first, one to the
/// second is caught, and neither reaches the other.
///
/// Fails as the model before.
#[test]
fn models_a_region_moves_between_tasks() {
    // Counted: 204.
    model(100, || {
        let (from, to) = (asleep(false), cell(false));
        // SAFETY: loom checks that we are alone.
        let key = from.body.with_mut(|body| unsafe {
            (*body).end = Some(End::Caught);
            (*body).region.take()
        });
        let key = key.expect("it has entered");
        let record = from.clone();
        let mover = spawn(&to, move |to| {
            // As `attend`: it leaves where it was, and is polled where it is.
            record.record.leave(key);
            to.run();
        });
        from.ask();
        mover.join().unwrap();
        assert_eq!(from.end(), Some(End::Dropped), "lost: {:?}", from.state);
        assert_eq!(to.end(), None, "told of what the other was asked");
        to.ask();
        assert_eq!(to.end(), Some(End::Caught));
        assert_freed(&from);
        assert_freed(&to);
    });
}

/// A region that was carried out leaves while its task ends and somebody asks: the header is freed
/// once, after the last use.
///
/// Fails when the record keeps no counted reference of its own to the task.
#[test]
fn models_leave_against_completion() {
    // Counted: 417.
    model(200, || {
        let cell = asleep(false);
        // SAFETY: loom checks that we are alone.
        let key = cell.body.with_mut(|body| unsafe { (*body).region.take() });
        let key = key.expect("it has entered");
        let leaver = spawn(&cell, move |cell| cell.record.leave(key));
        // Dropped at the end of the loop: DOOMED, whatever the region does.
        let (todo, _) = cell.state.doom();
        if todo == Wake::Push {
            cell.run();
        }
        let joiner = spawn(&cell, |cell| {
            if cell.state.drop_join() == Wake::Free {
                cell.memory.free();
            }
        });
        leaver.join().unwrap();
        joiner.join().unwrap();
        assert!(cell.state.snapshot().is_done());
    });
}

/// A task in cleanup takes its request back while the end of the loop asks: it stays in cleanup, or
/// it is dropped. What is not allowed is that it goes on as if nobody had asked.
///
/// Fails when `withdraw` does not look at CLOSING, and when it reads that before its exchange.
#[test]
fn models_uncancel_against_close() {
    // Counted: 141.
    model(70, || {
        let cell = asleep(true);
        cell.ask();
        assert_eq!(cell.end(), Some(End::Caught), "in cleanup");
        assert!(cell.state.snapshot().is_cleaning());
        let closer = spawn(&cell, Task::close);
        // The runner, in a poll of its own.
        if cell.state.wake_by_ref() == Wake::Push && cell.state.start_run() == Start::Poll {
            cell.record.uncancel(&cell.state);
            if cell.state.park() == Park::Requeue {
                cell.run();
            }
        }
        closer.join().unwrap();
        let seen = cell.state.snapshot();
        assert!(seen.is_closing());
        assert!(
            seen.is_done() || seen.is_cleaning(),
            "nobody waits for it and nobody drops it: {seen:?}"
        );
        if !seen.is_done() {
            let (todo, had_time) = cell.state.doom();
            assert!(todo == Wake::Push && had_time);
            cell.run();
        }
        assert_freed(&cell);
    });
}

/// The grace is over while the task enters a region, or polls one: it is dropped.
///
/// Fails when `enter_region` does not refuse a task that is DOOMED, when `doom` leaves REGION, and
/// when it sets no QUEUED.
#[test]
fn models_doom_against_enter() {
    for entered in [false, true] {
        // Counted: 56.
        model(28, move || {
            let cell = if entered { asleep(false) } else { cell(false) };
            let runner = spawn(&cell, move |cell| {
                if !entered || cell.state.wake_by_ref() == Wake::Push {
                    cell.run();
                }
            });
            if cell.state.doom().0 == Wake::Push {
                cell.run();
            }
            runner.join().unwrap();
            assert_eq!(cell.end(), Some(End::Dropped), "lost: {:?}", cell.state);
            assert_freed(&cell);
        });
    }
}

/// An explicit request and the end of the loop at once, for a region that sleeps. It catches one of
/// them. If that was the explicit one, the task is in cleanup, and the end of the loop leaves it
/// alone; if it was the other, the explicit one may drop the task.
///
/// Fails when the record is asked to close without asking the word again under its lock.
#[test]
fn models_request_against_close() {
    // Counted: 1660.
    model(830, || {
        let cell = asleep(true);
        let closer = spawn(&cell, Task::close);
        cell.ask();
        closer.join().unwrap();
        let seen = cell.state.snapshot();
        let caught = cell.caught().map(|why| why.by.line());
        assert!(caught.is_some(), "lost: {seen:?}");
        if caught != Some(close_site().line()) {
            assert_eq!(cell.end(), Some(End::Caught), "dropped in its cleanup");
        }
        assert!(seen.is_done() || seen.is_cleaning(), "lost: {seen:?}");
        if !seen.is_done() {
            assert_eq!(cell.state.doom().0, Wake::Push);
            cell.run();
        }
        assert_freed(&cell);
    });
}

/// The code that caught a request lets it go on, or somebody who has cut that code does, a limit or another, while
/// a region beside it leaves on another thread. Nobody asks that region again; and once it has gone the task is
/// dropped, whether it sleeps or runs.
///
/// Fails when `resume`, `again` or `give_up` makes no request, and when it makes it at once; when it lets go of the
/// lock between its look at what is live and putting the request off; when `leave` does not make what was put
/// off; and when it does so before edge c5, whose answer then took the place of what was to be pushed.
#[test]
fn models_a_request_waits_for_a_region_that_leaves() {
    for again in [false, true] {
        // Counted: 27.
        model(13, move || {
            let (cell, owner, why) = cleaning();
            let asked = Plain::new(Count::default());
            let beside = enter(&cell, &owner, None, asked.clone().into());
            let leaver = spawn(&cell, move |cell| {
                assert_eq!(asked.get(), 0, "asked again in its cleanup");
                cell.record.leave(beside);
            });
            if again {
                cell.record.again(&owner, None);
            } else {
                cell.record.resume(&owner, None, &why);
            }
            end_poll(&cell);
            leaver.join().unwrap();
            assert_eq!(cell.end(), Some(End::Dropped), "lost: {:?}", cell.state);
            assert_freed(&cell);
        });
    }
    // Counted: 19.
    model(9, || {
        let (cell, owner, limit) = caught_in_a_limit();
        let asked = Plain::new(Count::default());
        let beside = enter(&cell, &owner, None, asked.clone().into());
        let leaver = spawn(&cell, move |cell| {
            assert_eq!(asked.get(), 0, "asked again in its cleanup");
            cell.record.leave(beside);
        });
        assert!(
            cell.record.give_up(limit, Inside::Ends),
            "it was caught inside"
        );
        end_poll(&cell);
        leaver.join().unwrap();
        assert_eq!(cell.end(), Some(End::Dropped), "lost: {:?}", cell.state);
        cell.record.leave(limit);
        assert_freed(&cell);
    });
}

/// A limit gives up, after its future was dropped but for a region that was kept, and that leaves on another thread: what
/// was caught inside goes on, at once or when the limit goes.
///
/// Fails when `gives_up` keeps nothing while a region is live inside, and when a limit that goes passes nothing on.
#[test]
fn models_a_limit_gives_up_while_a_region_leaves() {
    // Counted: 32.
    model(16, || {
        let (cell, owner, limit) = caught_in_a_limit();
        let kept = enter(&cell, &owner, Some(limit), Waker::noop().clone());
        cell.record.end(limit);
        let leaver = spawn(&cell, move |cell| cell.record.leave(kept));
        let _ = cell.record.give_up(limit, Inside::Ends);
        cell.record.leave(limit);
        end_poll(&cell);
        leaver.join().unwrap();
        assert_eq!(cell.end(), Some(End::Dropped), "lost: {:?}", cell.state);
        assert_freed(&cell);
    });
}

/// The same with a region beside it that another thread asks in the meantime: it catches that, and so ends
/// the wait of the first request, which drops the task.
///
/// Fails when a delivery does not make what was put off.
#[test]
fn models_a_request_waits_for_a_region_that_catches() {
    // Counted: 67.
    model(33, || {
        let (cell, owner, why) = cleaning();
        let waker = Waker::from(Plain::new(Wakes(cell.clone())));
        let beside = enter(&cell, &owner, None, waker);
        cell.set(Some(beside), Some(End::Caught));
        let asker = spawn(&cell, Task::ask);
        cell.record.resume(&owner, None, &why);
        end_poll(&cell);
        asker.join().unwrap();
        assert_eq!(cell.end(), Some(End::Dropped), "lost: {:?}", cell.state);
        assert_freed(&cell);
    });
}

/// The time of a limit is up, or the code inside it that caught this lets it go on, while another region
/// inside it leaves on another thread. The limit finds nobody inside, or is woken once there is nobody.
///
/// Fails when `expire` asks for nothing, or leaves no waker; when `resume` does nothing; and when `leave`
/// looks at no limit, or does not make what was put off.
#[test]
fn models_a_limit_waits_for_a_region_that_leaves() {
    for resumes in [false, true] {
        // Counted: 4 and 7.
        model(2, move || {
            let (cell, owner, _) = cleaning();
            let limit = cell.record.enter_limit(&owner, None);
            let inside = Some(limit);
            let woken = Plain::new(Count::default());
            let waker = Waker::from(woken.clone());
            let expire = || cell.record.expire(limit, None, here(), waker.clone());
            let caught = resumes.then(|| {
                let first = enter(&cell, &owner, inside, Waker::noop().clone());
                assert!(expire(), "there is one inside");
                match cell.record.poll(first, inside, Waker::noop()) {
                    Polled::Deliver(why) => why,
                    Polled::Poll => panic!("it was told"),
                }
            });
            let beside = enter(&cell, &owner, inside, Waker::noop().clone());
            let leaver = spawn(&cell, move |cell| cell.record.leave(beside));
            let waits = match &caught {
                Some(why) => {
                    cell.record.resume(&owner, inside, why);
                    !cell.record.is_spent(limit, &waker)
                }
                None => expire(),
            };
            leaver.join().unwrap();
            assert!(
                cell.record.is_spent(limit, Waker::noop()),
                "it waits for ever"
            );
            assert!(!waits || woken.get() > 0, "nobody wakes it");
            cell.record.leave(limit);
            assert!(!cell.state.snapshot().is_cancelled(), "not asked");
            assert_eq!(cell.state.doom().0, Wake::Noted, "it runs");
            end_poll(&cell);
            assert_freed(&cell);
        });
    }
}
