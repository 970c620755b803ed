//! Work that can run on one thread only: `main` and local tasks.
//!
//! [`Pinned`] is what others see of that thread: what they tell `main` (`summons.rs`), an inbox of local
//! tasks woken elsewhere, and a way to wake the thread. [`Local`] is what the thread keeps to itself.
//!
//! A wake from another thread publishes (summons or inbox), then sets `attention`, and then unparks,
//! which leaves a token if the thread is awake. Before every poll the thread looks at `attention`
//! alone, and clears it before it looks at what it stands for; before every park it looks at all of
//! it. So there is no look-then-sleep race here beyond the parker's own. Local tasks follow the rule of guests
//! (`guests.rs`) with a count of their own, so that one `run` of a long-lived runtime can end
//! without waiting for the guests of all others.
//!
//! # The end of `main`
//!
//! Anybody may ask for it: [`Pinned::request_cancel`] is the one way, and
//! [`Pinned::must_drop_main`] the one place that decides whether `main` is dropped or polled when
//! its turn comes. As for tasks, it is never dropped inside the call that asks, and an output that
//! is ready first wins.

#![forbid(unsafe_code)]

use crate::address::Address;
use crate::context::Context;
use crate::deadlock::Resting;
use crate::guests::Guests;
use crate::seam::NEVER;
use crate::shared::Shared;
use crate::summons::Summons;
use crate::sync::thread::{self, Thread};
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::task::state::State;
use crate::task::{Id, Keeper, Runnable, Side, TaskList, Wait, Why};
use crate::values::Values;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::Location;
use std::sync::{Arc, OnceLock};
use std::task::Wake;
use std::time::Duration;

/// What `main` has come upon that asks for its own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nobody has asked before. `main` is woken, and has the request before its next poll.
    First,
    /// Others have, and all of that was taken back. Its regions have the request now.
    Anew,
    /// Others have before. Its regions have this request, too.
    Again,
}

/// The thread of `run` as others see it.
#[derive(Debug)]
pub(crate) struct Pinned {
    shared: Arc<Shared>,
    guests: Guests,
    pub(crate) tasks: TaskList,
    inbox: Mutex<Vec<Runnable>>,
    /// The inbox is not empty. Set after a push, cleared before it is emptied.
    mail: AtomicBool,
    /// What `main` was told from elsewhere.
    summons: Summons,
    /// What handles to `main` call it; made with the first of them.
    main_id: OnceLock<Id>,
    /// `main`, woken by its own thread, or local tasks wait while the thread runs a Send task; for
    /// the monitor.
    local_waiting: AtomicBool,
    /// The monitor found pinned work waiting behind a Send task that blocked this thread.
    evicted: AtomicBool,
    /// One of the above was set, or the thread's own queue is not empty. Set after them.
    attention: AtomicBool,
    /// The word of `main`, for the regions inside it: running, from the begin to the end.
    word: State,
    /// Those regions; made with the first of them, or of requests.
    side: OnceLock<Arc<Side>>,
    /// What is said of the request, until it is handed to the regions.
    why: Mutex<Option<Why>>,
    /// The first request was handed to the regions, or to the word if there are none.
    is_handed: AtomicBool,
    /// For the monitor, if it is to find deadlocks.
    pub(crate) resting: Resting,
    /// The slot this thread parks on; if there is none it parks on `token`.
    address: Address,
    thread: Thread,
    token: AtomicBool,
}

impl Pinned {
    pub(crate) fn new(shared: Arc<Shared>) -> Pinned {
        let word = State::queued();
        let _ = word.start_run();
        Pinned {
            word,
            side: OnceLock::new(),
            why: Mutex::new(None),
            is_handed: AtomicBool::new(false),
            shared,
            guests: Guests::new(),
            tasks: TaskList::new(),
            inbox: Mutex::new(Vec::new()),
            mail: AtomicBool::new(false),
            summons: Summons::new(),
            main_id: OnceLock::new(),
            local_waiting: AtomicBool::new(false),
            evicted: AtomicBool::new(false),
            attention: AtomicBool::new(true),
            resting: Resting::default(),
            address: Address::new(),
            thread: thread::current(),
            token: AtomicBool::new(false),
        }
    }

    /// This thread parks on `slot` from now on, or on its own token.
    pub(crate) fn set_slot(&self, slot: Option<usize>) {
        self.address.change(slot);
    }

    /// Whether this thread parks on a slot.
    pub(crate) fn has_slot(&self) -> bool {
        self.address.slot().is_some()
    }

    /// Whether anything pinned waits for this thread: a hint for others, exact for the thread
    /// itself after `set_slot` or a park.
    pub(crate) fn has_work(&self) -> bool {
        self.summons.is_woken() || self.mail.load(Ordering::Relaxed)
    }

    /// Whether pinned work waits behind the Send task that this thread runs: for the monitor.
    pub(crate) fn is_waiting(&self) -> bool {
        self.has_work() || self.local_waiting.load(Ordering::Relaxed)
    }

    /// Whether there is anything pinned to look at. Asked by the thread before every poll, and so
    /// one load as a rule.
    #[inline]
    pub(crate) fn take_attention(&self) -> bool {
        // Ordering: Acquire pairs with the Release of `call_attention`: what was set before it is
        // seen by the looks that follow. A swap and not a store, so that these looks come after it:
        // what they miss sets the flag again.
        self.attention.load(Ordering::Relaxed) && self.attention.swap(false, Ordering::Acquire)
    }

    /// Has the thread look at everything before its next poll.
    pub(crate) fn call_attention(&self) {
        // Ordering: Release, see `take_attention`. A swap and not a store, which would cut the release
        // sequence of a call by another thread: taking this one takes that one too.
        self.attention.swap(true, Ordering::Release);
    }

    /// Asks for the end of `main`, from any thread: it is dropped at its next suspension point. True
    /// for the request that came first, and before the end.
    pub(crate) fn request_cancel(&self) -> bool {
        let first = self.summons.request();
        if first {
            self.wake_main();
        }
        first
    }

    /// The same by `main` itself, in its own poll.
    ///
    /// The first request goes the way of all others. One that is not the first is made at the regions of
    /// `main` at once, as a further request to a task is: this is its thread, and no signal handler.
    pub(crate) fn request_own_cancel(self: &Arc<Self>, site: &'static Location<'static>) -> Asked {
        if self.request_cancel() {
            return Asked::First;
        }
        // The first one may have come since this poll began.
        self.hand_over(site);
        let side = self.make_side();
        let asked = match side.record.cancelling(&self.word) {
            0 => Asked::Anew,
            _ => Asked::Again,
        };
        let main = Keeper::Main(self.clone());
        side.record.request(&main, Why::task(None, site));
        asked
    }

    /// The same, with what is said to a region that catches it. Not from a signal handler.
    ///
    /// A request that is not the first is made at the regions of `main` at once, as one to a task is:
    /// this may take their lock. In the cleanup that the first has begun it goes to a region that was
    /// entered since, or `main` is dropped.
    pub(crate) fn request_cancel_with(self: &Arc<Self>, why: Why) {
        self.why.lock().get_or_insert_with(|| why.clone());
        if self.request_cancel() || self.is_main_gone() {
            return;
        }
        // The first one may not have been looked at yet, and comes first.
        self.hand_over(why.by);
        let main = Keeper::Main(self.clone());
        self.make_side().record.request(&main, why);
    }

    /// Whether `main`, whose turn it is, is to be dropped instead of polled. `site` is said to have
    /// asked if nobody else has said so.
    ///
    /// A request reaches the regions of `main` here, on its own thread: whoever asks may be in a
    /// signal handler, which takes no lock.
    pub(crate) fn must_drop_main(self: &Arc<Self>, site: &'static Location<'static>) -> bool {
        self.hand_over(site);
        self.word.snapshot().must_drop()
    }

    /// The first request, if it has come, is on its way to the record from now on: the thread that
    /// finds it puts it there. Not from a signal handler.
    pub(crate) fn hand_over(self: &Arc<Self>, site: &'static Location<'static>) {
        // Ordering: Relaxed. The swap only chooses one thread, and the record has a lock of its own. If
        // it is another thread than that of `main`, this may poll `main` once more before the request
        // is in the record, which then wakes it.
        if self.summons.is_requested() && !self.is_handed.swap(true, Ordering::Relaxed) {
            let why = self.why.lock().take();
            let why = why.unwrap_or_else(|| Why::task(None, site));
            let main = Keeper::Main(self.clone());
            self.make_side().record.request(&main, why);
        }
    }

    /// `main` is gone.
    pub(crate) fn main_has_ended(&self) {
        self.summons.end();
    }

    /// Whether `main` is gone.
    pub(crate) fn is_main_gone(&self) -> bool {
        self.summons.has_ended()
    }

    /// What handles to `main` call it.
    pub(crate) fn main_id(&self) -> Id {
        *self.main_id.get_or_init(Id::next)
    }

    /// The word of `main`.
    pub(crate) fn word(&self) -> &State {
        &self.word
    }

    /// The regions of `main`, if there ever were any.
    pub(crate) fn side(&self) -> Option<&Side> {
        self.side.get().map(|side| &**side)
    }

    /// The regions of `main`, to keep.
    pub(crate) fn make_side(&self) -> Arc<Side> {
        self.side.get_or_init(|| Side::new(None)).clone()
    }

    /// The monitor asks the thread to leave its slot.
    pub(crate) fn evict(&self) {
        self.evicted.store(true, Ordering::Relaxed);
        self.call_attention();
    }

    /// There is nobody to leave the slot to.
    pub(crate) fn stay(&self) {
        self.evicted.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    fn wake_main(&self) {
        let own = crate::context::with(|cx| match cx {
            Some(cx) if cx.is_pinned(self) => cx.local.inspect(|local| local.wake_main()).is_some(),
            _ => false,
        });
        if own || self.shared.is_forked() {
            return;
        }
        // A waker holds an `Arc`, so the memory is there; the guest count keeps what the unpark
        // reaches.
        let Some(_guest) = self.guests.enter() else {
            return;
        };
        if self.summons.wake() {
            self.call_attention();
            self.unpark();
        }
    }

    /// A local task became queued.
    pub(crate) fn wake_task(&self, cx: Option<&Context<'_>>, task: Runnable) {
        if let Some(cx) = cx.filter(|cx| cx.is_pinned(self)) {
            if let Some(local) = cx.local {
                local.queue.borrow_mut().push_back(task);
                self.call_attention();
                return;
            }
        }
        if self.shared.is_forked() {
            // Nobody would run it, and the inbox may be locked for ever.
            return;
        }
        let _guest = self.guests.enter_held();
        self.inbox.lock().push(task);
        // Ordering: Release; the lock publishes the task, the flag is only a summary.
        self.mail.store(true, Ordering::Release);
        self.call_attention();
        self.unpark();
    }

    /// Makes the thread look again.
    pub(crate) fn unpark(&self) {
        match self.address.find() {
            None => {
                // Ordering: Release pairs with the Acquire in `park`; a swap, as in `call_attention`.
                if !self.token.swap(true, Ordering::Release) {
                    self.thread.unpark();
                }
            }
            Some(slot) => self.shared.seam.unpark(slot),
        }
    }

    /// Blocks a thread without a slot.
    pub(crate) fn park(&self, deadline: u64) {
        // Ordering: Acquire pairs with the Release in `unpark`. The thread's own parking token
        // may have been used up by user code in a task; `token` is the truth.
        while !self.token.swap(false, Ordering::Acquire) {
            if let Some(sim) = &self.shared.sim {
                let is_woken = || self.token.load(Ordering::Relaxed);
                sim.wait(&self.shared, || deadline, is_woken);
                return;
            }
            if deadline == NEVER {
                thread::park();
                continue;
            }
            let now = self.shared.seam.now();
            if now >= deadline {
                return;
            }
            thread::park_timeout(Duration::from_nanos(deadline - now));
        }
    }

    /// The last step of a run: every local task is done, `main` is gone.
    pub(crate) fn close(&self) {
        self.guests.close();
        self.guests.wait_empty();
    }
}

impl Wake for Pinned {
    fn wake(self: Arc<Self>) {
        self.wake_main();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_main();
    }
}

/// What the thread of `run` keeps to itself.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) pinned: Arc<Pinned>,
    pub(crate) queue: RefCell<VecDeque<Runnable>>,
    /// Those of `main`, which outlive a run.
    pub(crate) values: Arc<Values>,
    /// What `main` said that it waits on, in its last poll; if deadlocks are to be found.
    pub(crate) waits: RefCell<Vec<Wait>>,
    /// `main` was woken on this thread.
    woken: Cell<bool>,
}

impl Local {
    pub(crate) fn new(shared: &Arc<Shared>, values: Arc<Values>) -> Local {
        Local {
            pinned: Arc::new(Pinned::new(shared.clone())),
            queue: RefCell::new(VecDeque::new()),
            values,
            waits: RefCell::new(Vec::new()),
            woken: Cell::new(false),
        }
    }

    /// `main` is woken by something that runs on this thread.
    fn wake_main(&self) {
        self.woken.set(true);
        // What runs here may be a Send task, which blocks after this.
        self.pinned.local_waiting.store(true, Ordering::Relaxed);
        self.pinned.call_attention();
    }

    /// Takes the wakes of `main`, from here and from elsewhere.
    pub(crate) fn take_main_woken(&self) -> bool {
        let own = self.woken.replace(false);
        self.pinned.summons.take_woken() || own
    }

    /// The next local task. Mail goes to the end of the queue first.
    pub(crate) fn next(&self) -> Option<Runnable> {
        let pinned = &self.pinned;
        // Ordering: Acquire pairs with the Release in `wake_task`; cleared before the inbox is
        // emptied, so that mail that comes in between is announced again.
        if pinned.mail.load(Ordering::Relaxed) && pinned.mail.swap(false, Ordering::Acquire) {
            let mail = std::mem::take(&mut *pinned.inbox.lock());
            self.queue.borrow_mut().extend(mail);
        }
        self.queue.borrow_mut().pop_front()
    }

    /// After a look at all pinned work: what is left calls for another one before the next poll, and
    /// the monitor is told whether it waits.
    pub(crate) fn looked(&self) {
        let waiting = self.woken.get() || !self.queue.borrow().is_empty();
        self.pinned.local_waiting.store(waiting, Ordering::Relaxed);
        if waiting || self.pinned.has_work() {
            self.pinned.call_attention();
        }
    }

    /// Whether the thread has pinned work: it must not park.
    pub(crate) fn has_work(&self) -> bool {
        self.woken.get() || !self.queue.borrow().is_empty() || self.pinned.has_work()
    }
}

impl Context<'_> {
    /// Whether this is the thread of `pinned`.
    pub(crate) fn is_pinned(&self, pinned: &Pinned) -> bool {
        self.local
            .is_some_and(|local| std::ptr::eq(&*local.pinned, pinned))
    }
}

#[cfg(all(test, heist_loom))]
#[path = "pinned_models.rs"]
mod models;
