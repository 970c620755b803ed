//! Which regions of a task can catch a request to cancel it, and what has been asked of them.
//!
//! # The tree
//!
//! A *region* is a `catch_cancel` future from its first poll inside a task until it is ready, has
//! received a request, or is dropped. A *limit* is a `timeout` that a region was polled inside of.
//! Both are nodes of a tree, whose root is the task; the parent of a node is what it was last polled
//! inside of. A task without regions has no record, and a limit without regions no node. The main
//! future of `run` has a record of the same kind (`keeper.rs`); its word only holds the flags of
//! regions.
//!
//! ```text
//!   task ──┬── region A ──── limit T ──┬── region B     A request to the task goes to B, C and D.
//!          │                           └── region C     The deadline of T goes to B and C.
//!          └── region D                                 A has others inside: it waits.
//! ```
//!
//! # Sources and receivers
//!
//! A request is made at a *source*: the task, or a limit. `requested` there says that it waits for
//! its delivery. A region that has none inside it, below a source that has requested, is *told*: its
//! waker is woken, and its next poll delivers.
//!
//! | edge        | who                                 | method               | what it does                              |
//! |-------------|-------------------------------------|----------------------|-------------------------------------------|
//! | r1 enter    | the runner, first poll of a region  | [`Record::enter`]    | live; told at once if a source above has requested |
//! | r2 poll     | the runner, every other poll        | [`Record::poll`]     | moves to where it is polled now, with what is inside it; r3 if told |
//! | r3 deliver  | the same                            | [`Record::poll`]     | not live; *all* sources above are satisfied |
//! | r4 leave    | whoever drops a region, any thread  | [`Record::leave`]    | not live; see invariant 3                 |
//! | r5 request  | an explicit canceller               | [`Record::request`], [`Record::request_along`] | tells, or edge c1 |
//! | r6 close    | the end of the loop, after edge c2  | [`Record::close`]    | tells, unless the task is in cleanup      |
//! | r7 expire   | the runner, a limit whose time is up| [`Record::expire`]   | tells, or answers that none is inside     |
//! | r8 resume   | the runner, who caught a request    | [`Record::resume`]   | makes the request again, at its source, when nothing is live beside |
//! | r9 uncancel | the runner                          | [`Record::uncancel`] | takes requests to the task back           |
//! | r10 again   | the runner, a group that fails after its body has caught a request | [`Record::again`] | makes the last delivered request to the task again |
//! | r11 pass on | the runner, a limit that cuts the code that caught a request from further out | [`Record::give_up`] | as r8, for that code |
//!
//! # Invariants
//!
//! 1. REGION in the task's word is set exactly while `live > 0`, until the task is doomed, abandoned
//!    or done. Both change under the lock.
//! 2. While `live == 0`, `requested` of the task implies CANCEL. (Edges r4 and r5; r1 takes CANCEL
//!    over.)
//! 3. A live region without live ones inside it, below a source that has requested, is told. So a
//!    region that is dropped undelivered leaves its request to the one around it, if it was the last
//!    inside of that; and with none around it, to the task.
//! 4. A region is told only below a source that has requested, except that several were told of the
//!    same request: the first delivery satisfies the source, the others are still delivered when
//!    they are polled, and leave nothing when they are dropped.
//! 5. A request is never lost: from r5 on, either `requested` is set somewhere, or a delivery has
//!    taken it, or r9 has. By 3 and 2 someone who is woken will see it. Where a delivery has taken several, as
//!    the innermost limit's own, that limit shares them until it gives up, or one around it does. Where a delivery
//!    has taken one from further out than a limit, that limit remembers it, until it is taken back or let go on:
//!    see r11.
//! 6. No user code runs under the lock: wakers are cloned before it is taken, and woken and dropped
//!    after it is released ([`Effects`]).
//! 7. While the tree has a node, the record holds its owner, so the word is there for r4, which may
//!    come from anywhere and after the end of the task.
//! 8. Each source has a list of those it has told, as long as they are: what r9 and the end of a limit
//!    look at. A region is *quiet* when it has none inside it and is not told; each node, and the tree,
//!    has a list of what is right inside of it and is quiet or has something quiet inside: what a source
//!    that asks looks at. By 3, nothing quiet is below a source that has requested.
//!
//! Edges r8, r10 and r11 are for what is *around* the code that caught the request. What is live beside it has
//! been asked already, and may be cleaning up: asked once more, it would be cut short. So these requests are
//! put off until nothing is live inside the innermost region around that code, or the limit that has asked, or
//! the task. Edges r2, r3 and r4 take regions out of there, and see to it. The region or limit that a request
//! waits inside of keeps it, and takes it along when it goes: the code that has let it go on has gone as well.
//! If it has moved to another task instead, with that region, it makes the request again if it is polled there.
//!
//! A request that is made again is made at its source, and so of all that is live there by then, and of whoever
//! comes next. That is more than what is around the code that let it go on: a cleanup beside the region around is
//! asked again, and so is one that begins in the poll in which the request was made, or beside a limit that
//! gives up. To tell the region around alone, or to let newcomers be, was tried, and starves the request where
//! the code around goes on and enters one region after the other.
//!
//! A region that the holder keeps without polling it is live all the same, so a request waits for
//! it: nobody can know whether it will be polled again. A region that is forgotten (`mem::forget`) is
//! live until the task is doomed.
//!
//! # What it costs
//!
//! An edge looks at what is above its node, where it finds what was put off as well; at those that it tells
//! or tells no more (invariant 8 finds them), and in r9 at those that keep a request for later; and, when a
//! node moves, at what is inside of it. So ten thousand limits beside one another, each around a region, cost
//! no more each than one alone, and a request to a task whose regions are all told costs what one to a task
//! without regions does.
//!
//! # Limits
//!
//! A limit asks in edge r7, and gives its future up once its request waits and no region is live
//! inside it: at once if there was none, or because all were dropped, or by r8. If it gives up, it
//! takes the one delivery as its own. Whoever asked further out at the same time (the task, or an
//! outer limit) is still to be served: their requests are made again when the limit gives up
//! (`give_up`), since whoever made it may keep it; or, if regions are live inside it by then, which are
//! to be dropped, by its r4. The delivery may have been to another limit inside of it, which ends with it and
//! does not give up: what that one shares with sources further out is made again as well. If it does not end with
//! it, but is kept and polled on (edge r2), it has what the others have not.
//!
//! A limit whose time is up may cut code that has caught a request from further out, and would have let it go on. If
//! the limit answered, nobody would know of that request any more: a timeout further out whose time was up
//! would wait for ever for whatever comes next. So the innermost limit that a delivery is inside of remembers what
//! that has taken (`caught`), as far as it comes from further out; when it ends with an answer, the next one does,
//! since its code may have handed on what it has caught. When one that remembers something gives up, it lets that
//! go on (edge r11), as the code would have, and is to answer at its next poll. So whoever is asked between the two
//! comes first, as a rule: the limit that has asked, at the end of the same poll, a region or the task at the next.
//! Not if something beside is live, which the request waits for, or if the same poll of the task comes to the limit
//! twice. A limit around it whose time is up in that poll answers at its next one as well, or the code around that
//! one would come first. The limit of a group's body is right inside of a region of the group's own, which ends with
//! it: what goes on there is for what is around that region. A limit around a future that it only borrows cuts
//! nothing: when it answers, the next one remembers. Never to answer was tried: who bounds a `&mut Timeout`, or takes
//! the request back, waits for ever. What makes a request again on the way up (r8, r10), or takes it back (r9), has it
//! forgotten. It may wait there, with nothing live beside, when the limit gives up, since the last delivery inside has
//! made what was put off for it: then as well the limit answers at its next poll, once.
//!
//! If regions are live inside that are given no more time, the future is dropped before the limit gives up (`end`), as
//! nobody would poll them and others would wait for them. What was put off inside of one of them (r8) is caught, as far
//! as the limit is concerned. What is kept of that future stays as it is: if a region is live in that, the limit
//! answers at once, and makes the request when it goes. To take the nodes out without dropping the future was tried,
//! and takes them from what is kept as well.
//!
//! A limit that is polled by another task than before takes what it is ([`Carried`]) along, and gives up
//! where it was: its node in the tree of the new task has the same name, so that r8 finds it there. What it
//! shares with a limit around it that moves as well, and what it remembers of that, it takes along; the others that
//! it shares with are asked again there, and what it remembers of them is the business of the code. What was
//! put off inside it waits there for what is live there, and is then fetched (`fetch_put_off`). Regions
//! that were polled inside it stay in their tree until the new task polls them, and the old node with
//! them; a deadline asks at all of these nodes. A region that was told by a limit, and is polled inside of it
//! in another task, enters told ([`Record::told_by_limit`]).

#![forbid(unsafe_code)]

use super::id::Id;
use super::state::{Close, Entered, Snapshot, State};
use crate::sync::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;

/// What the record needs of whom it belongs to. The three transitions that can make a task queued
/// answer with what is then to be pushed.
pub(crate) trait Owner: Clone {
    /// The QUEUED reference.
    type Due;
    /// The word. Alive as long as `self`.
    fn state(&self) -> &State;
    /// Edge c1.
    fn request_cancel(&self) -> Option<Self::Due>;
    /// Edge c2.
    fn request_close(&self) -> (Close, Option<Self::Due>);
    /// Edge c5.
    fn leave_region(&self, requested: bool) -> Option<Self::Due>;
    /// Sends the task to where it will be run.
    fn push(due: Self::Due);
    /// Wakes somebody's waker; does not unwind.
    fn wake(waker: Waker);
    /// Drops somebody's waker; does not unwind.
    fn drop_waker(waker: Waker);
}

/// Names a node; never used twice in the process, since a [`Why`] may be carried to another record.
pub(crate) type Key = u64;

/// Where a request was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Task,
    Limit(Key),
}

/// What is known of a request.
#[derive(Clone, Debug)]
pub(crate) struct Why {
    pub(crate) reason: Option<Arc<str>>,
    pub(crate) by: &'static Location<'static>,
    source: Source,
}

impl Why {
    /// A request to the task.
    pub(crate) fn task(reason: Option<Arc<str>>, by: &'static Location<'static>) -> Why {
        Why {
            reason,
            by,
            source: Source::Task,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            // A limit that says why is a group's, and has no clock.
            Source::Limit(_) if self.reason.is_none() => {
                write!(f, "out of time, with the limit set at {}", self.by)?;
            }
            Source::Task | Source::Limit(_) => write!(f, "cancelled at {}", self.by)?,
        }
        match &self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

/// See the module.
pub(crate) struct Record<O>(Mutex<Tree<O>>);

impl<O> fmt::Debug for Record<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever writes is the user's: not under the lock.
        f.debug_struct("Record").finish_non_exhaustive()
    }
}

struct Tree<O> {
    nodes: BTreeMap<Key, Node>,
    /// Of the nodes without a parent: invariant 8.
    quiet: BTreeSet<Key>,
    /// Live regions in the whole tree.
    live: usize,
    /// The task as a source.
    requested: Option<Why>,
    /// The regions that it has told.
    told: BTreeSet<Key>,
    /// All nodes that keep a request to the task, put off or as one of a limit's `shared`, and some that
    /// did: for r9.
    keeping: BTreeSet<Key>,
    /// The last request to the task that was delivered, unless all were taken back: for r10.
    delivered: Option<Why>,
    /// Explicit requests that were not taken back.
    count: usize,
    /// A request that waits until nothing is live in the task.
    put_off: Option<Why>,
    /// Invariant 7.
    owner: Option<O>,
    /// Nodes that were looked at because somebody was to be told or told no more, because a node around them
    /// has moved or gone, or for what was put off; and requests that were kept for later.
    #[cfg(test)]
    looks: usize,
}

struct Node {
    parent: Option<Key>,
    /// Nodes whose parent this is.
    children: BTreeSet<Key>,
    /// Those of them that are quiet, or have something quiet inside.
    quiet: BTreeSet<Key>,
    /// Live regions inside.
    inside: usize,
    /// Requests that wait until there are none: one of each source at most.
    put_off: Vec<Why>,
    kind: Kind,
}

impl Node {
    /// Invariant 8: whether a source above has something to tell here.
    fn is_quiet(&self) -> bool {
        let itself = self.inside == 0 && matches!(self.kind, Kind::Region { told: None, .. });
        itself || !self.quiet.is_empty()
    }
}

enum Kind {
    Region {
        told: Option<Why>,
        /// That of the last poll; taken out when it is woken.
        waker: Option<Waker>,
    },
    Limit(Limit),
}

/// A limit as a source.
#[derive(Default)]
struct Limit {
    requested: Option<Why>,
    /// Its time is up.
    expired: bool,
    /// The regions that it has told.
    told: BTreeSet<Key>,
    /// The requests from further out that a delivery to this limit has satisfied as well.
    shared: Vec<Why>,
    /// Those that a delivery inside has taken while this limit did not ask: one of each source at most.
    caught: Vec<Why>,
    /// What goes on by edge r11, until the limit answers: then it gives up once more.
    passes_on: Vec<Why>,
    /// It was to answer later.
    is_late: bool,
    /// Its future is being dropped.
    ends: bool,
    gave_up: bool,
    /// Woken when the request waits and no region is left inside.
    waker: Option<Waker>,
}

/// A limit between the trees of two tasks.
#[derive(Debug)]
pub(crate) struct Carried {
    key: Key,
    requested: Option<Why>,
    expired: bool,
    /// As of the limit, both: of those around it that move as well.
    shared: Vec<Why>,
    caught: Vec<Why>,
}

impl Carried {
    /// Edge r7 outside of any task.
    pub(crate) fn expire(&mut self, reason: Option<Arc<str>>, by: &'static Location<'static>) {
        let source = Source::Limit(self.key);
        self.expired = true;
        self.requested = Some(Why { reason, by, source });
    }

    /// Whether the request waits.
    pub(crate) fn is_requested(&self) -> bool {
        self.requested.is_some()
    }
}

/// What becomes of the code inside of a limit that gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// It is borrowed, and may be polled on.
    Stays,
    /// It ends with the limit.
    Ends,
    /// It ends with the limit and the region right around that, between which there is no code of a user's.
    EndsWithRegion,
}

/// What a poll of a region must do.
#[derive(Debug)]
#[must_use]
pub(crate) enum Polled {
    /// Poll what is inside.
    Poll,
    /// Drop what is inside and answer "cancelled". The region is no node any more.
    Deliver(Why),
}

/// What is to be done after the lock was released.
#[must_use]
pub(crate) struct Effects<O: Owner> {
    wake: Vec<Waker>,
    drop: Vec<Waker>,
    push: Option<O::Due>,
    /// The record's reference, when the last node has gone.
    gone: Option<O>,
}

impl<O: Owner> Effects<O> {
    fn none() -> Effects<O> {
        Effects {
            wake: Vec::new(),
            drop: Vec::new(),
            push: None,
            gone: None,
        }
    }

    /// Does it. Runs user code.
    pub(crate) fn run(self) {
        self.push.into_iter().for_each(O::push);
        self.wake.into_iter().for_each(O::wake);
        self.drop.into_iter().for_each(O::drop_waker);
    }
}

impl<O: Owner> Record<O> {
    pub(crate) fn new() -> Record<O> {
        Record(Mutex::new(Tree {
            nodes: BTreeMap::new(),
            quiet: BTreeSet::new(),
            live: 0,
            requested: None,
            told: BTreeSet::new(),
            keeping: BTreeSet::new(),
            delivered: None,
            count: 0,
            put_off: None,
            owner: None,
            #[cfg(test)]
            looks: 0,
        }))
    }

    /// Edge r1, by the runner: a region is polled for the first time in this task, inside `parent`.
    /// `told` is what a limit has told it in another, and `by` is said of a request of the end of the loop
    /// that waits. `None`: the task is past catching anything.
    pub(crate) fn enter(
        &self,
        owner: &O,
        parent: Option<Key>,
        waker: Waker,
        told: Option<Why>,
        by: &'static Location<'static>,
    ) -> Option<Key> {
        let mut tree = self.0.lock();
        if tree.live == 0 {
            match owner.state().enter_region() {
                Entered::Refused => {
                    drop(tree);
                    O::drop_waker(waker);
                    return None;
                }
                Entered::Requested => {
                    tree.requested.get_or_insert_with(|| Why::task(None, by));
                }
                Entered::Clear => {}
            }
        }
        let mut effects = Effects::none();
        let region = Kind::Region {
            told: None,
            waker: Some(waker),
        };
        let key = tree.insert(owner, Id::next().as_u64(), parent, region);
        tree.live += 1;
        tree.count_inside(parent, |inside| inside + 1);
        if told.as_ref().is_some_and(|why| tree.is_above(parent, why)) {
            tree.set_told(key, told);
        }
        // Told already: the present poll goes on, and the waker asks for the one that delivers.
        tree.tell(key, &mut effects);
        drop(tree);
        effects.run();
        Some(key)
    }

    /// A limit that a region is polled inside of becomes a node.
    pub(crate) fn enter_limit(&self, owner: &O, parent: Option<Key>) -> Key {
        let mut tree = self.0.lock();
        let limit = Kind::Limit(Limit::default());
        tree.insert(owner, Id::next().as_u64(), parent, limit)
    }

    /// What a limit takes along, since another task polls it, or none. It gives up here.
    pub(crate) fn carry(&self, key: Key) -> Option<Carried> {
        let mut effects = Effects::none();
        let mut tree = self.0.lock();
        let Kind::Limit(limit) = &mut tree.node(key).kind else {
            return None;
        };
        let (requested, expired) = (limit.requested.clone(), limit.expired);
        let shared = std::mem::take(&mut limit.shared);
        let mut caught = std::mem::take(&mut limit.caught);
        tree.end_inside(key);
        // Limits move from the outside in: those around it that have not are not to.
        let (here, shared) = shared.into_iter().partition(|why| tree.is_here(why));
        caught.retain(|why| !tree.is_here(why));
        if tree.node(key).inside == 0 {
            tree.request_again(here, &mut effects);
        } else {
            tree.keep_shared(key, here);
        }
        drop(tree);
        effects.run();
        Some(Carried {
            key,
            requested,
            expired,
            shared,
            caught,
        })
    }

    /// A limit from elsewhere is polled inside `parent`. It may have left a node here before.
    pub(crate) fn bring_limit(&self, owner: &O, parent: Option<Key>, carried: Carried) -> Key {
        let key = carried.key;
        let mut effects = Effects::none();
        let mut tree = self.0.lock();
        if tree.nodes.contains_key(&key) {
            tree.move_to(key, parent, &mut effects);
        } else {
            tree.insert(owner, key, parent, Kind::Limit(Limit::default()));
        }
        if let Kind::Limit(limit) = &mut tree.node(key).kind {
            limit.gave_up = false;
            limit.expired = carried.expired;
            limit.requested = carried.requested;
            if limit.requested.is_some() {
                tree.tell_all(Some(key), &mut effects);
            }
        }
        tree.keep_shared(key, carried.shared);
        tree.keep_caught(key, carried.caught);
        // What it has left here may have nothing to wait for any more.
        tree.make_put_off(Some(key), &mut effects);
        drop(tree);
        effects.run();
        key
    }

    /// Whether a limit that has moved on has left something here: regions, or a request that waits for them.
    pub(crate) fn has_left(&self, key: Key) -> bool {
        let tree = self.0.lock();
        let node = &tree.nodes[&key];
        node.inside > 0 || !node.put_off.is_empty()
    }

    /// What was put off where a limit was before it has moved on, and has nothing to wait for any more.
    pub(crate) fn take_put_off(&self, key: Key) -> Option<Why> {
        let mut tree = self.0.lock();
        let node = tree.node(key);
        // A limit keeps none but its own, and that once.
        if node.inside == 0 {
            node.put_off.pop()
        } else {
            None
        }
    }

    /// Such a request, where the limit is now.
    pub(crate) fn bring_put_off(&self, key: Key, why: Why) {
        let mut effects = Effects::none();
        let mut tree = self.0.lock();
        let node = tree.node(key);
        if node.put_off.is_empty() {
            node.put_off.push(why);
        }
        tree.make_put_off(Some(key), &mut effects);
        drop(tree);
        effects.run();
    }

    /// What a region that another task polls was told, if a limit did.
    pub(crate) fn told_by_limit(&self, key: Key) -> Option<Why> {
        match &self.0.lock().nodes[&key].kind {
            Kind::Region { told, .. } => told.clone().filter(|why| why.source != Source::Task),
            Kind::Limit(_) => None,
        }
    }

    /// A limit is polled inside `parent`.
    pub(crate) fn move_limit(&self, key: Key, parent: Option<Key>) {
        let mut effects = Effects::none();
        let mut tree = self.0.lock();
        tree.move_to(key, parent, &mut effects);
        if let Kind::Limit(limit) = &mut tree.node(key).kind {
            if std::mem::take(&mut limit.gave_up) {
                // One around it has given up, and this one was kept.
                tree.make_put_off(Some(key), &mut effects);
            }
        }
        drop(tree);
        effects.run();
    }

    /// Edges r2 and r3, by the runner: a live region is polled inside `parent`.
    pub(crate) fn poll(&self, key: Key, parent: Option<Key>, waker: &Waker) -> Polled {
        let mut new = None;
        loop {
            let mut effects = Effects::none();
            let mut tree = self.0.lock();
            tree.move_to(key, parent, &mut effects);
            if let Some(why) = tree.told(key) {
                tree.deliver(key, &mut effects);
                drop(tree);
                effects.run();
                new.into_iter().for_each(O::drop_waker);
                return Polled::Deliver(why);
            }
            let kept = tree.waker(key);
            if kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
                drop(tree);
                effects.run();
                new.into_iter().for_each(O::drop_waker);
                return Polled::Poll;
            }
            if let Some(new) = new.take() {
                let old = kept.replace(new);
                drop(tree);
                effects.run();
                old.into_iter().for_each(O::drop_waker);
                return Polled::Poll;
            }
            // Cloning is user code, so not under the lock.
            drop(tree);
            effects.run();
            new = Some(waker.clone());
        }
    }

    /// Edge r4: a node goes that is not delivered. From any thread, at any time.
    pub(crate) fn leave(&self, key: Key) {
        let mut effects = Effects::none();
        let mut tree = self.0.lock();
        tree.leave(key, &mut effects);
        drop(tree);
        effects.run();
    }

    /// Edge r5: an explicit request. False if it came too late.
    pub(crate) fn request(&self, owner: &O, why: Why) -> bool {
        self.request_unless(owner, why, |task| task.is_done())
    }

    /// Edge r5 by somebody who is asked to end and takes this task along. The end of the loop asks both of
    /// them, once: if it has asked this task, a second request would cut its cleanup short. Under the lock
    /// that a delivery takes as well, so either this comes first, and both are delivered as one, or it sees
    /// what the end of the loop has done.
    pub(crate) fn request_along(&self, owner: &O, why: Why) -> bool {
        self.request_unless(owner, why, |task| task.is_done() || task.is_closing())
    }

    fn request_unless(&self, owner: &O, why: Why, is_late: impl FnOnce(Snapshot) -> bool) -> bool {
        let mut effects = Effects::none();
        let mut tree = self.0.lock();
        if is_late(owner.state().snapshot()) {
            return false;
        }
        tree.count += 1;
        tree.request_task(owner, why, &mut effects);
        drop(tree);
        effects.run();
        true
    }

    /// Edge r6: the end of the loop, whose edge c2 has found a region. Under no lock of the caller's
    /// but that of the list of tasks, so what is to be done is handed out.
    pub(crate) fn close(&self, owner: &O, by: &'static Location<'static>) -> Effects<O> {
        let mut effects = Effects::none();
        let mut tree = self.0.lock();
        // The region may have left since, or have delivered another request.
        let (close, due) = owner.request_close();
        match close {
            Close::Region => {
                tree.requested.get_or_insert_with(|| Why::task(None, by));
                tree.tell_all(None, &mut effects);
            }
            Close::Push | Close::Noted | Close::Cleanup => effects.push = due,
        }
        effects
    }

    /// Edge r7, by the runner: the time of a limit is up, or what it bounds is to end for `reason`.
    /// False if no region is live inside: there is nothing to wait for.
    #[must_use]
    pub(crate) fn expire(
        &self,
        key: Key,
        reason: Option<Arc<str>>,
        by: &'static Location<'static>,
        waker: Waker,
    ) -> bool {
        let mut effects = Effects::none();
        let mut tree = self.0.lock();
        let source = Source::Limit(key);
        let node = tree.node(key);
        let inside = node.inside;
        if let Kind::Limit(limit) = &mut node.kind {
            limit.expired = true;
            limit.requested = Some(Why { reason, by, source });
            effects.drop.extend(limit.waker.replace(waker));
        }
        tree.tell_all(Some(key), &mut effects);
        drop(tree);
        effects.run();
        inside > 0
    }

    /// Whether a limit that has expired has nothing to wait for any more. Leaves `waker`, which is
    /// woken when that changes.
    pub(crate) fn is_spent(&self, key: Key, waker: &Waker) -> bool {
        let mut new = None;
        loop {
            let mut tree = self.0.lock();
            let node = tree.node(key);
            let (inside, has_put_off) = (node.inside, !node.put_off.is_empty());
            let Kind::Limit(limit) = &mut node.kind else {
                return false;
            };
            let spent = inside == 0 && (limit.requested.is_some() || has_put_off);
            let kept = limit.waker.as_ref();
            if spent || kept.is_some_and(|kept| kept.will_wake(waker)) {
                drop(tree);
                new.into_iter().for_each(O::drop_waker);
                return spent;
            }
            if let Some(new) = new.take() {
                let old = limit.waker.replace(new);
                drop(tree);
                old.into_iter().for_each(O::drop_waker);
                return false;
            }
            drop(tree);
            new = Some(waker.clone());
        }
    }

    /// Whether the request of a limit waits for regions inside. Leaves `waker` as `is_spent` does.
    pub(crate) fn is_waiting(&self, key: Key, waker: &Waker) -> bool {
        let waits = {
            let tree = self.0.lock();
            let node = &tree.nodes[&key];
            node.inside > 0 && matches!(&node.kind, Kind::Limit(limit) if limit.requested.is_some())
        };
        waits && !self.is_spent(key, waker)
    }

    /// The future of a limit is to be dropped before the limit gives up, since it is given no more time.
    pub(crate) fn end(&self, key: Key) {
        let mut tree = self.0.lock();
        tree.end_inside(key);
        if let Kind::Limit(limit) = &mut tree.node(key).kind {
            limit.ends = true;
        }
    }

    /// A limit is to answer that its time is up: see the module. True if it is to give up once more, and to answer
    /// then, so that somebody further out comes first: what code inside has caught goes on now (edge r11), or
    /// what was asked there waits.
    #[must_use]
    pub(crate) fn give_up(&self, key: Key, inside: Inside) -> bool {
        let mut effects = Effects::none();
        let mut tree = self.0.lock();
        let later = tree.gives_up(key, inside, &mut effects);
        drop(tree);
        effects.run();
        later
    }

    /// Edge r8, by the runner: the code that caught a request wants it to go on.
    /// `at` is what that code is polled inside of.
    pub(crate) fn resume(&self, owner: &O, at: Option<Key>, why: &Why) {
        let mut effects = Effects::none();
        let mut tree = self.0.lock();
        let mut why = why.clone();
        match why.source {
            Source::Limit(key) if tree.is_inside(at, Some(key)) => {}
            // The error was carried out of the limit.
            _ => why.source = Source::Task,
        }
        tree.request_around(owner, at, why, &mut effects);
        drop(tree);
        effects.run();
    }

    /// Edge r10, by the runner: what has caught the request to the task was ended by somebody else,
    /// and cannot let it go on. `at` is what that somebody is polled inside of. Does nothing if one waits,
    /// or all were taken back.
    pub(crate) fn again(&self, owner: &O, at: Option<Key>) {
        let mut effects = Effects::none();
        let mut tree = self.0.lock();
        if tree.requested.is_none() {
            if let Some(why) = tree.delivered.clone() {
                tree.request_around(owner, at, why, &mut effects);
            }
        }
        drop(tree);
        effects.run();
    }

    /// Edge r9, by the runner: takes one explicit request back; with the last of them, also what has
    /// not been delivered, and the task is in cleanup no more. Answers how many are left.
    pub(crate) fn uncancel(&self, state: &State) -> usize {
        let mut effects = Effects::none();
        let mut tree = self.0.lock();
        tree.count = tree.count.saturating_sub(1);
        if tree.count == 0 && state.withdraw() {
            tree.requested = None;
            tree.delivered = None;
            tree.put_off = None;
            for key in std::mem::take(&mut tree.keeping) {
                tree.look();
                let node = tree.node(key);
                node.put_off.retain(|why| why.source != Source::Task);
                if let Kind::Limit(limit) = &mut node.kind {
                    limit.shared.retain(|why| why.source != Source::Task);
                    limit.caught.retain(|why| why.source != Source::Task);
                }
            }
            let told = std::mem::take(&mut tree.told);
            tree.untell(told, &mut effects);
        }
        let left = tree.count + usize::from(state.snapshot().is_closing());
        drop(tree);
        effects.run();
        left
    }

    /// Requests to the task that were not taken back.
    pub(crate) fn cancelling(&self, state: &State) -> usize {
        self.0.lock().count + usize::from(state.snapshot().is_closing())
    }

    /// The request that is on its way to the task itself.
    pub(crate) fn why(&self) -> Option<Why> {
        self.0.lock().requested.clone()
    }

    #[cfg(test)]
    pub(crate) fn looks(&self) -> usize {
        self.0.lock().looks
    }

    /// How many requests a limit remembers that code inside has caught.
    #[cfg(test)]
    pub(crate) fn remembered(&self, key: Key) -> usize {
        match &self.0.lock().nodes[&key].kind {
            Kind::Limit(limit) => limit.caught.len(),
            Kind::Region { .. } => 0,
        }
    }
}

impl<O: Owner> Tree<O> {
    fn node(&mut self, key: Key) -> &mut Node {
        self.nodes.get_mut(&key).expect("a node that has not left")
    }

    fn insert(&mut self, owner: &O, key: Key, parent: Option<Key>, kind: Kind) -> Key {
        let node = Node {
            parent,
            children: BTreeSet::new(),
            quiet: BTreeSet::new(),
            inside: 0,
            put_off: Vec::new(),
            kind,
        };
        self.nodes.insert(key, node);
        if let Some(parent) = parent {
            self.node(parent).children.insert(key);
        }
        self.settle(key);
        if self.owner.is_none() {
            self.owner = Some(owner.clone());
        }
        key
    }

    /// What receives a request of `source` that goes on from `at`: the innermost region around, the limit that has
    /// asked, or the task.
    fn around(&self, mut at: Option<Key>, source: Source) -> Option<Key> {
        while let Some(key) = at {
            let node = &self.nodes[&key];
            let is_around = matches!(node.kind, Kind::Region { .. });
            if is_around || source == Source::Limit(key) {
                break;
            }
            at = node.parent;
        }
        at
    }

    /// Edges r8, r10 and r11: a request to what is around the code that is polled inside of `at`.
    fn request_around(&mut self, owner: &O, at: Option<Key>, why: Why, effects: &mut Effects<O>) {
        self.forget_caught(at, why.source);
        match self.around(at, why.source) {
            Some(key) if self.nodes[&key].inside > 0 => {
                if why.source == Source::Task {
                    self.keeping.insert(key);
                }
                let put_off = &mut self.node(key).put_off;
                if put_off.iter().all(|other| other.source != why.source) {
                    put_off.push(why);
                }
            }
            // Only a request to the task has no limit around that code.
            None if self.live > 0 => {
                self.put_off.get_or_insert(why);
            }
            _ => match why.source {
                Source::Limit(_) => self.request_at(why, effects),
                Source::Task => self.request_task(owner, why, effects),
            },
        }
    }

    /// A region has gone from inside of `at`: makes what was put off there, and from there on upwards, and has
    /// nothing to wait for any more.
    fn make_put_off(&mut self, mut at: Option<Key>, effects: &mut Effects<O>) {
        let mut due = Vec::new();
        while let Some(key) = at {
            self.look();
            let node = self.node(key);
            if node.inside > 0 {
                // So has everything around it, and the task.
                break;
            }
            at = node.parent;
            if !matches!(&node.kind, Kind::Limit(limit) if limit.gave_up) {
                due.append(&mut node.put_off);
            }
        }
        if self.live == 0 {
            due.extend(self.put_off.take());
        }
        self.request_again(due, effects);
    }

    /// Changes the counts of live regions from `at` on upwards.
    fn count_inside(&mut self, mut at: Option<Key>, change: impl Fn(usize) -> usize) {
        while let Some(key) = at {
            let node = self.node(key);
            node.inside = change(node.inside);
            at = node.parent;
            self.settle_one(key);
        }
    }

    /// Invariant 8, after a node has become quiet or has ceased to be.
    fn settle(&mut self, key: Key) {
        let mut at = Some(key);
        while let Some(key) = at.filter(|key| self.settle_one(*key)) {
            at = self.nodes[&key].parent;
        }
    }

    /// The same for the list that the node itself is on: whether that has changed.
    fn settle_one(&mut self, key: Key) -> bool {
        let node = &self.nodes[&key];
        let (is_quiet, parent) = (node.is_quiet(), node.parent);
        let list = match parent {
            Some(parent) => &mut self.node(parent).quiet,
            None => &mut self.quiet,
        };
        if is_quiet {
            list.insert(key)
        } else {
            list.remove(&key)
        }
    }

    /// What a region was told, from now on.
    fn set_told(&mut self, key: Key, why: Option<Why>) {
        let source = why.as_ref().map(|why| why.source);
        let Kind::Region { told, .. } = &mut self.node(key).kind else {
            return;
        };
        let old = std::mem::replace(told, why);
        if let Some(list) = old.and_then(|old| self.told_by(old.source)) {
            list.remove(&key);
        }
        if let Some(list) = source.and_then(|source| self.told_by(source)) {
            list.insert(key);
        }
        self.settle(key);
    }

    /// The list of those that a source has told, unless it has gone.
    fn told_by(&mut self, source: Source) -> Option<&mut BTreeSet<Key>> {
        match source {
            Source::Task => Some(&mut self.told),
            Source::Limit(key) => match &mut self.nodes.get_mut(&key)?.kind {
                Kind::Limit(limit) => Some(&mut limit.told),
                Kind::Region { .. } => None,
            },
        }
    }

    fn waker(&mut self, key: Key) -> &mut Option<Waker> {
        match &mut self.node(key).kind {
            Kind::Region { waker, .. } | Kind::Limit(Limit { waker, .. }) => waker,
        }
    }

    /// The request of the innermost source from `at` on upwards that has one.
    fn request_above(&self, mut at: Option<Key>) -> Option<Why> {
        while let Some(key) = at {
            let node = &self.nodes[&key];
            if let Kind::Limit(limit) = &node.kind {
                if limit.requested.is_some() {
                    return limit.requested.clone();
                }
            }
            at = node.parent;
        }
        self.requested.clone()
    }

    /// Invariant 3 for one node, if it is a region.
    fn tell(&mut self, key: Key, effects: &mut Effects<O>) {
        self.look();
        let node = &self.nodes[&key];
        if node.inside > 0 {
            return;
        }
        let Kind::Region { told, .. } = &node.kind else {
            return;
        };
        if told.is_none() {
            let above = self.request_above(node.parent);
            if above.is_none() {
                return;
            }
            self.set_told(key, above);
        }
        effects.wake.extend(self.waker(key).take());
    }

    /// Invariant 3 for everything inside `source`, which has requested.
    fn tell_all(&mut self, source: Option<Key>, effects: &mut Effects<O>) {
        let quiet = |at: Option<Key>| match at {
            Some(key) => &self.nodes[&key].quiet,
            None => &self.quiet,
        };
        let mut found = Vec::from_iter(quiet(source).iter().copied());
        let mut next = 0;
        while let Some(key) = found.get(next) {
            found.extend(quiet(Some(*key)));
            next += 1;
        }
        // By age, and so from the outside in.
        found.sort_unstable();
        for key in found {
            self.tell(key, effects);
        }
    }

    /// A node and what is inside it, by age.
    fn inside(&self, key: Key) -> Vec<Key> {
        let mut found = vec![key];
        let mut next = 0;
        while let Some(key) = found.get(next) {
            found.extend(&self.nodes[key].children);
            next += 1;
        }
        found.sort_unstable();
        found
    }

    fn look(&mut self) {
        #[cfg(test)]
        {
            self.looks += 1;
        }
    }

    fn is_inside(&self, mut at: Option<Key>, source: Option<Key>) -> bool {
        while at != source {
            match at {
                Some(key) => at = self.nodes[&key].parent,
                None => return false,
            }
        }
        true
    }

    /// Whether what is polled inside of `at` is below the source of `why`.
    fn is_above(&self, at: Option<Key>, why: &Why) -> bool {
        match why.source {
            Source::Task => true,
            Source::Limit(limit) => self.is_inside(at, Some(limit)),
        }
    }

    /// The nearest region from `at` on upwards has lost one inside it, and so have the limits on the
    /// way.
    fn check_above(&mut self, mut at: Option<Key>, effects: &mut Effects<O>) {
        while let Some(key) = at {
            if let Kind::Region { .. } = self.nodes[&key].kind {
                return self.tell(key, effects);
            }
            self.check_limit(key, effects);
            at = self.nodes[&key].parent;
        }
    }

    /// Wakes a limit that has nothing to wait for any more.
    fn check_limit(&mut self, key: Key, effects: &mut Effects<O>) {
        let node = self.node(key);
        if let (0, Kind::Limit(limit)) = (node.inside, &mut node.kind) {
            if limit.requested.is_some() || !node.put_off.is_empty() {
                effects.wake.extend(limit.waker.take());
            }
        }
    }

    /// A node is polled inside `parent` now.
    fn move_to(&mut self, key: Key, parent: Option<Key>, effects: &mut Effects<O>) {
        let node = self.node(key);
        let old = node.parent;
        if old == parent {
            return;
        }
        let weight = node.inside + usize::from(matches!(node.kind, Kind::Region { .. }));
        match old {
            Some(old) => {
                let old = self.node(old);
                old.children.remove(&key);
                old.quiet.remove(&key);
            }
            None => {
                self.quiet.remove(&key);
            }
        }
        self.count_inside(old, |inside| inside - weight);
        self.node(key).parent = parent;
        if let Some(parent) = parent {
            self.node(parent).children.insert(key);
        }
        self.settle(key);
        self.count_inside(parent, |inside| inside + weight);
        // Invariants 3 and 4, for what it was inside of and for what is inside of it.
        self.check_above(old, effects);
        self.check_inside(key, effects);
        self.make_put_off(old, effects);
    }

    /// A node has come below other sources, and with it what is inside: they are told by these.
    fn check_inside(&mut self, key: Key, effects: &mut Effects<O>) {
        for key in self.inside(key) {
            self.look();
            let node = &self.nodes[&key];
            if let Kind::Region {
                told: Some(why), ..
            } = &node.kind
            {
                if self.is_above(node.parent, why) {
                    continue;
                }
                self.set_told(key, None);
            }
            self.tell(key, effects);
        }
    }

    /// What a region that is polled has been told, unless others inside it are to receive that.
    fn told(&self, key: Key) -> Option<Why> {
        match &self.nodes[&key] {
            Node {
                inside: 0,
                kind: Kind::Region { told, .. },
                ..
            } => told.clone(),
            _ => None,
        }
    }

    /// Edge r3.
    fn deliver(&mut self, key: Key, effects: &mut Effects<O>) {
        // The innermost limit that has asked, and what was asked further out.
        let mut server = None;
        let mut shared = Vec::new();
        // What the innermost limit of all remembers: another may have been delivered what this one was told of.
        let mut caught = Vec::from_iter(self.told(key));
        let mut innermost = None;
        let mut at = self.nodes[&key].parent;
        while let Some(key) = at {
            at = self.nodes[&key].parent;
            self.set_told(key, None);
            if let Kind::Limit(limit) = &mut self.node(key).kind {
                innermost = innermost.or(Some(key));
                match (limit.requested.take(), server) {
                    (Some(why), None) => {
                        server = Some(key);
                        caught.push(why);
                    }
                    (Some(why), Some(_)) => shared.push(why),
                    (None, _) => {}
                }
            }
        }
        let consumed = self.requested.take();
        if consumed.is_some() {
            self.delivered.clone_from(&consumed);
        }
        if server.is_none() {
            caught.extend(consumed.clone());
        }
        if let Some(limit) = innermost {
            self.keep_caught(limit, caught);
        }
        let last = self.live == 1;
        if let Some(owner) = &self.owner {
            owner.state().deliver(consumed.is_some(), last);
        }
        if let Some(server) = server {
            shared.extend(consumed);
            self.keep_shared(server, shared);
        }
        self.live -= 1;
        let parent = self.remove(key, effects);
        self.make_put_off(parent, effects);
    }

    /// Edge r4.
    fn leave(&mut self, key: Key, effects: &mut Effects<O>) {
        match self.nodes.get(&key).map(|node| &node.kind) {
            // It was delivered.
            None => {}
            Some(Kind::Limit(_)) => self.leave_limit(key, effects),
            Some(Kind::Region { .. }) => {
                self.live -= 1;
                let put_off = std::mem::take(&mut self.node(key).put_off);
                let parent = self.remove(key, effects);
                self.keep_put_off(parent, put_off);
                self.check_above(parent, effects);
                if self.live == 0 {
                    let owner = self.owner.as_ref().or(effects.gone.as_ref());
                    effects.push =
                        owner.and_then(|owner| owner.leave_region(self.requested.is_some()));
                }
                // After edge c5: what is made now may take edge c1, which may be the one that pushes.
                self.make_put_off(parent, effects);
            }
        }
    }

    fn leave_limit(&mut self, key: Key, effects: &mut Effects<O>) {
        let Kind::Limit(limit) = &mut self.node(key).kind else {
            return;
        };
        let limit = std::mem::take(limit);
        effects.drop.extend(limit.waker);
        let parent = self.remove(key, effects);
        if limit.expired {
            // What it asked for is nobody's any more.
            self.untell(limit.told, effects);
        }
        if limit.gave_up {
            self.request_again(limit.shared, effects);
            self.pass_on(parent, limit.caught, effects);
        } else {
            self.hand_up_caught(parent, limit.caught);
        }
    }

    /// What code inside of a limit has caught, as far as it comes from further out.
    fn keep_caught(&mut self, limit: Key, mut caught: Vec<Why>) {
        caught.retain(|why| why.source != Source::Limit(limit) && self.is_above(Some(limit), why));
        let Kind::Limit(node) = &mut self.node(limit).kind else {
            return;
        };
        if caught.is_empty() {
            return;
        }
        let mut all = std::mem::take(&mut node.caught);
        // Of many limits around it that came and went, one after the other, it would remember each for ever.
        all.retain(|why| match why.source {
            Source::Limit(source) => self.nodes.contains_key(&source),
            Source::Task => true,
        });
        for why in caught {
            if why.source == Source::Task {
                self.keeping.insert(limit);
            }
            if all.iter().all(|other| other.source != why.source) {
                all.push(why);
            }
        }
        if let Kind::Limit(limit) = &mut self.node(limit).kind {
            limit.caught = all;
        }
    }

    /// A region has gone from inside of `at`, with what was put off there. If it is dropped with the future of a limit,
    /// that remembers it, as far as it comes from further out.
    fn keep_put_off(&mut self, mut at: Option<Key>, put_off: Vec<Why>) {
        while let Some(key) = at.filter(|_| !put_off.is_empty()) {
            let node = &self.nodes[&key];
            if matches!(&node.kind, Kind::Limit(limit) if limit.ends) {
                return self.keep_caught(key, put_off);
            }
            at = node.parent;
        }
    }

    /// A limit has ended that was polled inside of `at`, and its code may have handed on what it has caught: to
    /// code inside of the next one.
    fn hand_up_caught(&mut self, mut at: Option<Key>, caught: Vec<Why>) {
        while let Some(key) = at.filter(|_| !caught.is_empty()) {
            let node = &self.nodes[&key];
            if let Kind::Limit(_) = node.kind {
                return self.keep_caught(key, caught);
            }
            at = node.parent;
        }
    }

    /// A request waits at its source again: nobody from `at` on upwards need remember it.
    fn forget_caught(&mut self, mut at: Option<Key>, source: Source) {
        while let Some(key) = at {
            let node = self.node(key);
            at = node.parent;
            if let Kind::Limit(limit) = &mut node.kind {
                limit.caught.retain(|why| why.source != source);
            }
        }
    }

    /// What deliveries have taken that were meant for a limit and for these as well, until it gives up.
    fn keep_shared(&mut self, limit: Key, shared: Vec<Why>) {
        if shared.iter().any(|why| why.source == Source::Task) {
            self.keeping.insert(limit);
        }
        if let Kind::Limit(limit) = &mut self.node(limit).kind {
            // Not in the place of what an earlier delivery has left: see `request_again`.
            limit.shared.extend(shared);
        }
    }

    /// A limit gives up: those inside end with it, unless they are polled on.
    fn end_inside(&mut self, limit: Key) {
        for key in self.inside(limit) {
            self.look();
            if let Kind::Limit(inner) = &mut self.node(key).kind {
                inner.gave_up = true;
            }
        }
    }

    /// A limit gives up: makes again what it and those inside of it share with sources further out, and, for what is
    /// around, what code has caught of them that ends. True if it is to answer later: see edge r11. While regions
    /// are live inside, all of that waits, the former each for its own end, and the latter for that of this limit.
    fn gives_up(&mut self, limit: Key, inside: Inside, effects: &mut Effects<O>) -> bool {
        self.end_inside(limit);
        let mut around = self.nodes[&limit].parent;
        let mut caught = self.take_caught(limit, inside);
        if inside == Inside::Stays {
            self.hand_up_caught(around, std::mem::take(&mut caught));
        }
        if let (Inside::EndsWithRegion, Some(region)) = (inside, around) {
            let node = &self.nodes[&region];
            if matches!(node.kind, Kind::Region { .. }) {
                around = node.parent;
            }
        }
        // What a limit that has gone asked for is nobody's any more.
        caught.retain(|why| self.is_above(around, why));
        if let Kind::Limit(limit) = &mut self.node(limit).kind {
            limit.ends = false;
        }
        if self.node(limit).inside > 0 {
            self.keep_caught(limit, caught);
            return false;
        }
        let is_asked = self.is_next_asked(around);
        let shared = self.take_from_inside(limit, |limit| &mut limit.shared);
        self.request_again(shared, effects);
        if let Kind::Limit(limit) = &mut self.node(limit).kind {
            limit.passes_on.clear();
        }
        // One inside may have passed something on in the same poll. The code around this one comes no sooner.
        let mut passes_on = self.take_from_inside(limit, |limit| &mut limit.passes_on);
        passes_on.extend(caught.iter().cloned());
        self.pass_on(around, caught, effects);
        let goes_on = !passes_on.is_empty();
        let Kind::Limit(limit) = &mut self.node(limit).kind else {
            return false;
        };
        limit.passes_on = passes_on;
        let later = goes_on || is_asked && !limit.is_late;
        limit.is_late |= later;
        later
    }

    /// Whether a request waits that code inside of `at` would be asked next, if it entered a region now: nothing is
    /// live in the region around it, or the limit that has asked, or the task.
    fn is_next_asked(&self, at: Option<Key>) -> bool {
        let Some(why) = self.request_above(at) else {
            return false;
        };
        match self.around(at, why.source) {
            Some(around) => self.nodes[&around].inside == 0,
            None => self.live == 0,
        }
    }

    /// What the code inside of a limit has caught from further out, as far as it ends; otherwise what only the limit
    /// itself remembers of that.
    fn take_caught(&mut self, limit: Key, inside: Inside) -> Vec<Why> {
        match (inside, &mut self.node(limit).kind) {
            (Inside::Stays, Kind::Limit(limit)) => std::mem::take(&mut limit.caught),
            _ => self.take_from_inside(limit, |limit| &mut limit.caught),
        }
    }

    /// Edge r11: what code has caught that was cut inside of `around` goes on, as by r8.
    fn pass_on(&mut self, around: Option<Key>, caught: Vec<Why>, effects: &mut Effects<O>) {
        let Some(owner) = self.owner.clone().or_else(|| effects.gone.clone()) else {
            return;
        };
        for why in caught {
            if self.is_above(around, &why) {
                self.request_around(&owner, around, why, effects);
            }
        }
    }

    /// What a limit and those inside of it have on this list of theirs from sources further out than itself.
    fn take_from_inside(
        &mut self,
        limit: Key,
        list: impl Fn(&mut Limit) -> &mut Vec<Why>,
    ) -> Vec<Why> {
        let inside = self.inside(limit);
        let is_further_out = |why: &Why| match why.source {
            Source::Limit(source) => inside.binary_search(&source).is_err(),
            Source::Task => true,
        };
        let mut taken = Vec::new();
        for key in &inside {
            self.look();
            if let Kind::Limit(inner) = &mut self.node(*key).kind {
                let list = list(inner);
                // What those inside have asked for stays with them: they may be polled on.
                let (further, kept) = std::mem::take(list).into_iter().partition(is_further_out);
                *list = kept;
                taken.extend::<Vec<Why>>(further);
            }
        }
        taken
    }

    /// Whether the source of a request is in this tree, and stays.
    fn is_here(&self, why: &Why) -> bool {
        match why.source {
            Source::Task => true,
            Source::Limit(key) => {
                let node = self.nodes.get(&key);
                node.is_some_and(|node| matches!(&node.kind, Kind::Limit(limit) if !limit.gave_up))
            }
        }
    }

    /// Requests that were kept for later: they were put off, or a limit that gives up took a delivery as its
    /// own that was meant for them as well.
    fn request_again(&mut self, kept: Vec<Why>, effects: &mut Effects<O>) {
        for why in kept {
            self.look();
            self.request_at(why, effects);
        }
    }

    /// A request waits again at its source. What a limit that has gone asked for is nobody's any more.
    fn request_at(&mut self, why: Why, effects: &mut Effects<O>) {
        if let Source::Limit(key) = why.source {
            if let Some(Kind::Limit(limit)) = self.nodes.get_mut(&key).map(|node| &mut node.kind) {
                // Otherwise invariant 3 holds already, here and in `request_task`: nothing is quiet.
                limit.requested.get_or_insert(why);
                self.tell_all(Some(key), effects);
                self.check_limit(key, effects);
            }
            return;
        }
        let owner = self.owner.clone().or_else(|| effects.gone.clone());
        if let Some(owner) = owner {
            self.request_task(&owner, why, effects);
        }
    }

    /// Takes a node out; its children go to its parent, which is returned.
    fn remove(&mut self, key: Key, effects: &mut Effects<O>) -> Option<Key> {
        let node = self.nodes.remove(&key)?;
        self.keeping.remove(&key);
        let parent = node.parent;
        // Rare: what is polled inside a region usually goes with it.
        for child in &node.children {
            self.look();
            self.node(*child).parent = parent;
        }
        let quiet = match parent {
            Some(parent) => {
                let above = self.node(parent);
                above.children.remove(&key);
                above.children.extend(node.children);
                &mut above.quiet
            }
            None => &mut self.quiet,
        };
        quiet.remove(&key);
        quiet.extend(node.quiet);
        match node.kind {
            Kind::Region { waker, told } => {
                if let Some(list) = told.and_then(|why| self.told_by(why.source)) {
                    list.remove(&key);
                }
                self.count_inside(parent, |inside| inside - 1);
                effects.drop.extend(waker);
            }
            // `leave_limit` has taken what was in it.
            Kind::Limit(_) => parent.into_iter().for_each(|parent| self.settle(parent)),
        }
        if self.nodes.is_empty() {
            effects.gone = self.owner.take();
        }
        parent
    }

    /// The task as a source.
    fn request_task(&mut self, owner: &O, why: Why, effects: &mut Effects<O>) {
        self.requested.get_or_insert(Why {
            source: Source::Task,
            ..why
        });
        if self.live > 0 {
            self.tell_all(None, effects);
        } else {
            // The second of two requests has nothing to push, and must not lose what the first has.
            effects.push = owner.request_cancel().or(effects.push.take());
        }
    }

    /// The source that has told these asks no more, and whoever of them others ask is told by them.
    fn untell(&mut self, told: BTreeSet<Key>, effects: &mut Effects<O>) {
        for key in &told {
            self.look();
            self.set_told(*key, None);
        }
        for key in told {
            self.tell(key, effects);
        }
    }
}
