//! The state of a group against a small model of it: any sequence of what children, the body and the
//! owner may do.
//!
//! Each child is a task that counts the requests to end it, and that has been polled before the group
//! knows it, so the counts are exact.

#![forbid(unsafe_code)]

use super::*;
use crate::task::cancelling;
use crate::{JoinHandle, Runtime, catch_cancel, yield_now};
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::Cell;
use std::future::{Future, pending};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone, Copy, Debug)]
enum Step {
    Enter,
    /// The numbers choose among the children to which it can happen.
    Spawned(usize),
    PollTurn(usize),
    Fail(usize),
    Panic(usize),
    Gone(usize),
    /// The task of one that has gone ends.
    End,
    FailBody,
    PanicBody,
    Cancel,
    CancelAgain,
    /// The owner polls the body.
    PollBody,
    /// The owner waits for the end.
    PollEnd,
    Orphan,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..8_usize;
    let step = prop_oneof![
        6 => Just(Step::Enter),
        6 => which.clone().prop_map(Step::Spawned),
        3 => which.clone().prop_map(Step::PollTurn),
        2 => which.clone().prop_map(Step::Fail),
        1 => which.clone().prop_map(Step::Panic),
        6 => which.prop_map(Step::Gone),
        6 => Just(Step::End),
        1 => Just(Step::FailBody),
        1 => Just(Step::PanicBody),
        1 => Just(Step::Cancel),
        1 => Just(Step::CancelAgain),
        3 => Just(Step::PollBody),
        3 => Just(Step::PollEnd),
        1 => Just(Step::Orphan),
    ];
    vec(step, 0..60)
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A waker, whether it is with the group, and how often it is to have been woken.
#[derive(Default)]
struct Waits {
    wakes: Arc<Wakes>,
    left: bool,
    woken: usize,
}

impl Waits {
    fn poll<R>(&mut self, poll: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let waker = Waker::from(self.wakes.clone());
        poll(&mut Context::from_waker(&waker))
    }

    /// The group is to wake it now.
    fn wake(&mut self) {
        self.woken += usize::from(std::mem::take(&mut self.left));
    }

    fn check(&self) {
        assert_eq!(self.wakes.0.load(Ordering::SeqCst), self.woken, "wakes");
    }
}

/// A child of the model.
struct Member {
    key: Key,
    /// Its task, which answers how often it was asked to end.
    task: Option<JoinHandle<usize>>,
    /// How often it is to have been asked.
    asked: usize,
    has_turn: bool,
    turn: Waits,
    /// It has failed or panicked.
    ended: bool,
}

/// The task of a child. It ends with a request that comes after `is_over` was set.
async fn child(is_over: Rc<Cell<bool>>) -> JoinHandle<usize> {
    let begun = Rc::new(Cell::new(false));
    let begins = begun.clone();
    let task = crate::spawn_local(async move {
        loop {
            begins.set(true);
            let _ = catch_cancel(pending::<()>()).await;
            if is_over.get() {
                return cancelling();
            }
        }
    });
    while !begun.get() {
        yield_now().await;
    }
    task
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Open,
    Aborting,
    Closed,
}

struct Model {
    state: Arc<State>,
    options: Options,
    stage: Stage,
    children: Vec<Member>,
    /// How many have gone and not ended.
    ending: usize,
    errors: Vec<String>,
    panic: Option<String>,
    owner: Waits,
    /// The children that have gone, with the requests that they are to have had.
    past: Vec<(JoinHandle<usize>, usize)>,
    is_over: Rc<Cell<bool>>,
    number: usize,
}

impl Model {
    fn new(options: Options) -> Model {
        let state = State::new(options, Handle::current(), Location::caller());
        Model {
            state,
            options,
            stage: Stage::Open,
            children: Vec::new(),
            ending: 0,
            errors: Vec::new(),
            panic: None,
            owner: Waits::default(),
            past: Vec::new(),
            is_over: Rc::default(),
            number: 0,
        }
    }

    fn why(&self) -> Why {
        self.state.because("a test")
    }

    fn text(&mut self, what: &str) -> String {
        self.number += 1;
        format!("{what} {}", self.number)
    }

    /// The `which`th child with `property`, if there are any.
    fn choose(&self, which: usize, property: impl Fn(&Member) -> bool) -> Option<usize> {
        let found = self.children.iter().enumerate();
        let found: Vec<usize> = found
            .filter(|(_, child)| property(child))
            .map(|(at, _)| at)
            .collect();
        found.get(which % found.len().max(1)).copied()
    }

    /// Everybody is asked once, but for the one that has failed.
    fn abort(&mut self, except: Option<Key>) {
        if self.stage != Stage::Open {
            return;
        }
        self.stage = Stage::Aborting;
        self.ask(except);
        self.owner.wake();
    }

    fn ask(&mut self, except: Option<Key>) {
        for child in &mut self.children {
            if child.task.is_some() && Some(child.key) != except {
                child.asked += 1;
            }
        }
    }

    fn failed(&mut self, who: Option<Key>, text: String) {
        if self.stage != Stage::Closed {
            self.errors.push(text);
        }
        if who.is_none() || !self.options.supervise {
            self.abort(who);
        }
    }

    fn fail(&mut self, who: Who, key: Option<Key>) {
        let text = self.text("error");
        self.state.failed(who, text.clone().into());
        self.failed(key, text);
    }

    fn panic(&mut self, who: Who, key: Option<Key>) {
        let text = self.text("panic");
        let given = self.state.panicked(who, Box::new(text.clone()));
        if self.options.collect_panics {
            assert!(given.is_ok());
            self.failed(key, text);
        } else if self.stage == Stage::Closed || self.panic.is_some() {
            let payload = given.expect_err("nobody in the group sees it");
            assert_eq!(payload.downcast_ref(), Some(&text));
        } else {
            assert!(given.is_ok());
            self.panic = Some(text);
            self.abort(key);
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Enter => self.enter(),
            Step::Spawned(which) => {
                if let Some(at) = self.choose(which, |child| child.task.is_none()) {
                    let task = child(self.is_over.clone()).await;
                    self.state
                        .spawned(self.children[at].key, task.abort_handle());
                    self.children[at].task = Some(task);
                    // The group was ended while it was being spawned.
                    self.children[at].asked += usize::from(self.stage != Stage::Open);
                }
            }
            Step::PollTurn(which) => {
                if let Some(at) = self.choose(which, |child| child.task.is_some()) {
                    let child = &mut self.children[at];
                    let (state, key) = (&self.state, child.key);
                    let polled = child.turn.poll(|cx| state.poll_turn(key, cx));
                    assert_eq!(polled.is_ready(), child.has_turn);
                    child.turn.left |= !child.has_turn;
                }
            }
            Step::Fail(which) | Step::Panic(which) => {
                let may = |child: &Member| child.task.is_some() && child.has_turn && !child.ended;
                if let Some(at) = self.choose(which, may) {
                    self.children[at].ended = true;
                    let key = self.children[at].key;
                    match step {
                        Step::Fail(_) => self.fail(Who::Child(key, None), Some(key)),
                        _ => self.panic(Who::Child(key, None), Some(key)),
                    }
                }
            }
            Step::Gone(which) => {
                if let Some(at) = self.choose(which, |_| true) {
                    self.gone(at);
                }
            }
            Step::End if self.ending == 0 => {}
            Step::End => self.ended(),
            Step::FailBody => self.fail(Who::Body, None),
            Step::PanicBody => self.panic(Who::Body, None),
            Step::Cancel => {
                self.state.abort(self.why());
                self.abort(None);
            }
            Step::CancelAgain => {
                self.state.abort_again(&self.why());
                self.ask(None);
            }
            Step::PollBody => {
                let state = &self.state;
                let why = self.owner.poll(|cx| state.aborting(cx));
                self.owner.left = true;
                assert_eq!(why.is_some(), self.stage == Stage::Aborting);
            }
            Step::PollEnd => self.end(),
            // Once, and not after its end.
            Step::Orphan if self.stage == Stage::Closed => {}
            Step::Orphan => {
                self.state.orphan();
                if self.stage == Stage::Open {
                    self.ask(None);
                }
                self.stage = Stage::Closed;
                (self.errors, self.panic) = (Vec::new(), None);
                self.owner.left = false;
            }
        }
        self.check();
    }

    fn enter(&mut self) {
        let turns = self.children.iter().filter(|child| child.has_turn).count();
        let entered = self.state.enter();
        assert_eq!(entered.is_some(), self.stage == Stage::Open);
        if let Some((key, has_turn)) = entered {
            assert_eq!(has_turn, turns < self.options.concurrency);
            assert!(self.children.iter().all(|child| child.key < key));
            self.children.push(Member {
                key,
                task: None,
                asked: 0,
                has_turn,
                turn: Waits::default(),
                ended: false,
            });
        }
    }

    fn gone(&mut self, at: usize) {
        let mut gone = self.children.remove(at);
        self.state.gone(gone.key);
        gone.turn.left = false;
        gone.turn.check();
        if gone.has_turn {
            // The oldest of those that wait is next.
            if let Some(next) = self.children.iter_mut().find(|child| !child.has_turn) {
                next.has_turn = true;
                next.turn.wake();
            }
        }
        self.ending += 1;
        self.past.extend(gone.task.map(|task| (task, gone.asked)));
    }

    fn ended(&mut self) {
        self.state.ended();
        self.ending -= 1;
        if self.nobody_is_left() {
            self.owner.wake();
        }
    }

    fn nobody_is_left(&self) -> bool {
        self.children.is_empty() && self.ending == 0
    }

    fn end(&mut self) {
        let state = self.state.clone();
        let ended = self.owner.poll(|cx| pin!(state.end()).poll(cx));
        self.owner.left = true;
        let Poll::Ready(end) = ended else {
            return assert!(!self.nobody_is_left(), "nobody is left");
        };
        assert!(self.nobody_is_left(), "somebody is left");
        self.stage = Stage::Closed;
        let errors = std::mem::take(&mut self.errors);
        let panic = self.panic.take();
        let payload = end.panic.map(|payload| payload.downcast::<String>());
        let payload = payload.map(|payload| *payload.expect("its own"));
        assert_eq!(payload, panic);
        if panic.is_some() {
            assert!(end.errors.is_empty(), "the panic goes on");
            return;
        }
        assert_eq!(end.errors.len(), errors.len());
        for (error, expected) in end.errors.iter().zip(errors) {
            assert!(error.to_string().ends_with(&expected), "{error}");
        }
    }

    fn check(&self) {
        assert_eq!(self.state.len(), self.children.len());
        assert_eq!(self.state.is_open(), self.stage == Stage::Open);
        self.owner.check();
        self.children.iter().for_each(|child| child.turn.check());
    }

    /// Everybody goes, and has been asked as often as was said.
    async fn finish(mut self) {
        while !self.children.is_empty() {
            self.gone(0);
        }
        while self.ending > 0 {
            self.ended();
        }
        self.end();
        assert!(!self.state.is_open() && self.state.enter().is_none());
        // All before the first of them runs: it may still have to deliver what it was asked before.
        self.is_over.set(true);
        self.past.iter().for_each(|(task, _)| task.abort());
        for (task, asked) in self.past {
            assert_eq!(task.await.expect("it caught it"), asked + 1, "requests");
        }
    }
}

proptest! {
    #[test]
    fn a_group_does_as_its_model(
        steps in steps(),
        concurrency in prop_oneof![1..4_usize, Just(usize::MAX)],
        supervise: bool,
        collect_panics: bool,
    ) {
        let options = Options { concurrency, supervise, collect_panics };
        Runtime::new().expect("it starts no thread").run(async {
            let mut model = Model::new(options);
            for step in steps {
                model.step(step).await;
            }
            model.finish().await;
        });
    }
}
