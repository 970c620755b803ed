//! Ctrl-C: what a process does on `SIGINT` before, while and after somebody listens.
//!
//! The disposition belongs to the process, hence this program of its own. Its tests take turns; those
//! that end a process start this program again, with one test selected and [`CHILD`] set.
#![cfg(unix)]

use heist::signal::{CtrlC, ctrl_c};
use heist::task::AbortHandle;
use heist::{Builder, RunError, Runtime, yield_now};
use heist_tests::support::{Drops, LIMIT, eventually, poll_once, text_of, within};
use std::future::pending;
use std::io::{Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::Poll;
use std::thread;

/// Set in the environment of a child.
const CHILD: &str = "HEIST_TEST_CTRL_C_CHILD";

/// One test at a time: raising a signal in one of them would be seen by all.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---- dispositions ----

/// What the process does on `SIGINT`, in parts that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Disposition {
    handler: libc::sighandler_t,
    flags: libc::c_int,
    /// The signals that are blocked while the handler runs.
    blocked: Vec<libc::c_int>,
}

fn exchange(new: *const libc::sigaction) -> libc::sigaction {
    // SAFETY: integers, a signal set and an optional function pointer; zero is a value of each.
    let mut found: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: `new` is null or, in `set` and `put_back`, from a reference that is alive; `found` is
    // ours. The handlers that this file sets are the default, "ignore", `count`, and ones that were
    // there before.
    assert_eq!(unsafe { libc::sigaction(libc::SIGINT, new, &mut found) }, 0);
    found
}

fn disposition() -> Disposition {
    let found = exchange(ptr::null());
    let is_blocked = |signal: &libc::c_int| {
        // SAFETY: the set was filled in by the system, the signals are valid ones.
        (unsafe { libc::sigismember(&found.sa_mask, *signal) }) == 1
    };
    Disposition {
        handler: found.sa_sigaction,
        flags: found.sa_flags,
        blocked: (1..32).filter(is_blocked).collect(),
    }
}

/// Sets a handler that lets system calls go on and blocks `SIGUSR2` while it runs.
fn set(handler: libc::sighandler_t) -> libc::sigaction {
    // SAFETY: as in `exchange`.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: an empty set is a valid one, and so is the signal.
    let added = unsafe { libc::sigaddset(&mut action.sa_mask, libc::SIGUSR2) };
    assert_eq!(added, 0);
    exchange(&action)
}

fn put_back(action: &libc::sigaction) {
    exchange(action);
}

static COUNTED: AtomicUsize = AtomicUsize::new(0);

/// A handler of somebody else.
extern "C" fn count(_: libc::c_int) {
    // Ordering: SeqCst. A test counts, nothing more.
    COUNTED.fetch_add(1, Ordering::SeqCst);
}

fn somebody_elses() -> libc::sighandler_t {
    count as extern "C" fn(libc::c_int) as libc::sighandler_t
}

/// Raises `SIGINT` on this thread; the handler has run when this returns.
fn press() {
    // SAFETY: it has no conditions.
    assert_eq!(unsafe { libc::raise(libc::SIGINT) }, 0);
}

/// Runs `test` with `handler` as what was there before, and puts back what there really was.
fn starting_from(handler: libc::sighandler_t, test: impl FnOnce(Disposition) + Send + 'static) {
    let _turn = turn();
    let real = set(handler);
    let before = disposition();
    assert_eq!(before.handler, handler);
    within(move || test(before));
    put_back(&real);
}

// ---- the disposition ----

#[test]
fn l23_the_previous_handler_comes_back_with_all_its_settings() {
    starting_from(somebody_elses(), |before| {
        let counted = COUNTED.load(Ordering::SeqCst);
        heist::run(async {
            let (mut first, second) = (ctrl_c(), ctrl_c());
            assert_ne!(disposition().handler, before.handler);
            drop(second);
            assert_ne!(disposition().handler, before.handler);
            press();
            first.recv().await.unwrap();
        });
        assert_eq!(disposition(), before);
        assert_eq!(
            COUNTED.load(Ordering::SeqCst),
            counted,
            "it was replaced, not chained"
        );
        press();
        assert_eq!(COUNTED.load(Ordering::SeqCst), counted + 1);
    });
}

/// A shell without job control starts its background jobs like this.
#[test]
fn an_ignored_signal_is_heard_and_ignored_again_afterwards() {
    starting_from(libc::SIG_IGN, |before| {
        heist::run(async {
            let mut listener = ctrl_c();
            press();
            listener.recv().await.unwrap();
        });
        assert_eq!(disposition(), before);
        press();
    });
}

/// Somebody installs a handler while we listen. It stays when the last listener goes.
#[test]
fn l23_a_handler_that_replaced_ours_is_left_alone() {
    starting_from(libc::SIG_DFL, |_| {
        let theirs = heist::run(async {
            let listener = ctrl_c();
            set(somebody_elses());
            let theirs = disposition();
            drop(listener);
            theirs
        });
        assert_eq!(disposition(), theirs);
        assert_eq!(theirs.handler, somebody_elses());
    });
}

/// As above, and then somebody listens again, although another listener is there all the time.
#[test]
fn a_new_listener_is_heard_even_where_the_handler_was_replaced() {
    starting_from(libc::SIG_DFL, |_| {
        heist::run(async {
            let mut early = ctrl_c();
            set(somebody_elses());
            let mut late = ctrl_c();
            press();
            early.recv().await.unwrap();
            late.recv().await.unwrap();
        });
        assert_eq!(
            disposition().handler,
            somebody_elses(),
            "what was replaced last"
        );
    });
}

/// A runtime ends around a task that waits: no handler is left, whoever dropped the listener.
#[test]
fn the_end_of_a_run_puts_the_disposition_back() {
    starting_from(libc::SIG_DFL, |before| {
        let mut runtime = Runtime::new().unwrap();
        runtime.run(async {
            let (tell, told) = async_channel::bounded(1);
            drop(heist::spawn(async move {
                let mut listener = ctrl_c();
                assert!(poll_once(&mut listener).is_pending());
                tell.send(()).await.unwrap();
                listener.await
            }));
            told.recv().await.unwrap();
            assert_ne!(disposition().handler, libc::SIG_DFL);
        });
        assert_eq!(runtime.close().cancelled, 1);
        assert_eq!(disposition(), before);
    });
}

// ---- listeners ----

/// One Ctrl-C, two runtimes on two threads.
#[test]
fn listeners_of_two_runtimes_both_hear_it() {
    starting_from(libc::SIG_DFL, |before| {
        let (ready, is_ready) = mpsc::channel();
        let runtimes: Vec<_> = (0..2)
            .map(|_| {
                let ready = ready.clone();
                thread::spawn(move || {
                    heist::run(async {
                        let mut listener = ctrl_c();
                        ready.send(()).unwrap();
                        listener.recv().await.unwrap();
                        poll_once(&mut listener).is_pending()
                    })
                })
            })
            .collect();
        for _ in &runtimes {
            is_ready.recv().unwrap();
        }
        press();
        for runtime in runtimes {
            assert!(runtime.join().unwrap(), "one press is one answer");
        }
        assert_eq!(disposition(), before);
    });
}

/// A hundred signals while nobody reads, raised one after the other, are a hundred answers.
#[test]
fn a_storm_of_signals_is_counted_and_blocks_nobody() {
    starting_from(libc::SIG_DFL, |_| {
        heist::run(async {
            let mut listener = ctrl_c();
            for _ in 0..100 {
                press();
            }
            for _ in 0..100 {
                listener.recv().await.unwrap();
            }
            assert!(poll_once(&mut listener).is_pending());
        });
    });
}

/// More signals than the socket of a listener has room for: they are dropped, the handler returns.
#[test]
fn a_full_listener_blocks_nobody() {
    starting_from(libc::SIG_DFL, |_| {
        heist::run(async {
            let mut full = ctrl_c();
            for _ in 0..20_000 {
                press();
            }
            let mut fresh = ctrl_c();
            press();
            fresh.recv().await.unwrap();
            full.recv().await.unwrap();
        });
    });
}

/// Signals arrive at several threads while listeners are made and dropped on others.
#[test]
fn listeners_come_and_go_under_signals_from_many_threads() {
    starting_from(libc::SIG_DFL, |before| {
        heist::run(async {
            let mut keeper = ctrl_c();
            let storms: Vec<_> = (0..4)
                .map(|_| heist::spawn_blocking(|| (0..1_000).for_each(|_| press())))
                .collect();
            let passing: Vec<_> = (0..4)
                .map(|_| {
                    heist::spawn(async {
                        for _ in 0..200 {
                            let mut listener = ctrl_c();
                            if let std::task::Poll::Ready(heard) = poll_once(&mut listener) {
                                heard.unwrap();
                            }
                            drop(listener);
                            heist::yield_now().await;
                        }
                    })
                })
                .collect();
            for task in storms.into_iter().chain(passing) {
                task.await.unwrap();
            }
            keeper.recv().await.unwrap();
        });
        assert_eq!(disposition(), before);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn no_descriptor_is_left() {
    use heist_tests::support::descriptors;

    starting_from(libc::SIG_DFL, |_| {
        let before = descriptors();
        let mut runtime = Runtime::new().unwrap();
        runtime.run(async {
            // The driver's own descriptors come with the first listener and stay with the runtime.
            drop(ctrl_c());
            let with_driver = descriptors();
            let mut listeners: Vec<CtrlC> = (0..10).map(|_| ctrl_c()).collect();
            press();
            for listener in &mut listeners {
                listener.recv().await.unwrap();
            }
            // Two ends of a socket pair each; the portable driver keeps a copy of what it watches.
            let each = if cfg!(heist_portable_io) { 3 } else { 2 };
            assert_eq!(descriptors().len(), with_driver.len() + 10 * each);
            drop(listeners);
            assert_eq!(descriptors(), with_driver);
            drop(heist::spawn(async { ctrl_c().await }));
            heist::yield_now().await;
        });
        runtime.close();
        assert_eq!(descriptors(), before);
    });
}

// ---- runs that are cancelled ----

/// A runtime whose runs end on Ctrl-C.
fn cancels() -> Runtime {
    Runtime::builder().cancel_on_ctrl_c(true).build().unwrap()
}

/// A thread that presses Ctrl-C when it is told.
fn presser() -> (mpsc::Sender<()>, thread::JoinHandle<()>) {
    let (now, is_now) = mpsc::channel();
    let thread = thread::spawn(move || {
        is_now.recv().unwrap();
        press();
    });
    (now, thread)
}

#[track_caller]
fn assert_interrupted<T: std::fmt::Debug>(answer: &Result<T, RunError>) {
    assert!(matches!(answer, Err(RunError::Interrupted)), "{answer:?}");
}

/// Nobody has to be woken here, and `main` never waits. It is polled no more once the press is over: only
/// a poll that was going on sees that.
#[test]
fn r25_a_main_that_only_yields_is_cancelled_within_one_round() {
    starting_from(libc::SIG_DFL, |before| {
        let drops = Drops::default();
        let (now, is_now) = mpsc::channel();
        let pressed = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let pressed = pressed.clone();
            move || {
                is_now.recv().unwrap();
                press();
                pressed.store(true, Ordering::SeqCst);
            }
        });
        let mut late = 0;
        let answer: Result<(), RunError> = cancels().try_run(async {
            let _guard = drops.guard();
            yield_now().await;
            now.send(()).unwrap();
            loop {
                late += usize::from(pressed.load(Ordering::SeqCst));
                yield_now().await;
            }
        });
        assert_interrupted(&answer);
        assert!(late <= 1, "{late} polls after the press");
        assert_eq!(drops.count(), 1);
        thread.join().unwrap();
        assert_eq!(disposition(), before);
    });
}

/// The press comes while a poll of `main` is going on; it is the last poll.
#[test]
fn r25_a_press_inside_a_poll_takes_effect_at_its_end() {
    starting_from(libc::SIG_DFL, |_| {
        let mut turns = 0;
        let answer: Result<(), RunError> = cancels().try_run(async {
            loop {
                press();
                turns += 1;
                yield_now().await;
            }
        });
        assert_interrupted(&answer);
        assert_eq!(turns, 1);
    });
}

/// `main` waits for ever, for a task that waits for ever. The signal reaches some thread of the
/// process, and all of it is gone when the call returns; a runtime that outlives its runs goes on.
#[test]
fn r26_a_main_that_waits_is_cancelled() {
    starting_from(libc::SIG_DFL, |before| {
        let drops = Drops::default();
        let mut runtime = cancels();
        for round in 1..=3 {
            let (now, thread) = presser();
            let answer = runtime.try_run(async {
                let _guard = drops.guard();
                let guard = drops.guard();
                let local = heist::spawn_local(async move {
                    let _guard = guard;
                    pending::<()>().await;
                });
                yield_now().await;
                now.send(()).unwrap();
                local.await
            });
            assert_interrupted(&answer);
            assert_eq!(drops.count(), 2 * round);
            thread.join().unwrap();
            assert_eq!(disposition(), before, "between the runs");
        }
        assert_eq!(runtime.run(async { 3 }), 3);
    });
}

/// Somebody cancels `main`, and then Ctrl-C comes, before the request was delivered.
#[test]
fn r27_who_was_cancelled_before_was_not_interrupted() {
    starting_from(libc::SIG_DFL, |before| {
        let answer: Result<(), RunError> = cancels().try_run(async {
            yield_now().await;
            AbortHandle::current().abort();
            press();
            pending().await
        });
        assert!(matches!(answer, Err(RunError::Cancelled)), "{answer:?}");
        assert_eq!(disposition(), before);
    });
}

/// `main` was cancelled by somebody else, has caught that, and goes on; it has taken the request back or
/// not. Ctrl-C is a further request: it goes to a region that has been entered since, or else `main` is
/// dropped. It was *interrupted* only if nothing else stood.
#[test]
fn r27_a_press_reaches_a_main_that_has_caught_a_request() {
    starting_from(libc::SIG_DFL, |before| {
        for (takes_back, has_region) in [(true, true), (true, false), (false, true), (false, false)]
        {
            let case = format!("takes back: {takes_back}, region: {has_region}");
            let (line, answer) = (
                line!() + 1,
                cancels().try_run(async {
                    let caught = heist::catch_cancel(async {
                        AbortHandle::current().abort();
                        pending::<()>().await
                    });
                    caught.await.expect_err("it was cancelled");
                    if takes_back {
                        assert_eq!(heist::task::uncancel(), 0);
                    }
                    // A press that is not heard at all would hang.
                    let waits = heist::time::timeout(LIMIT / 2, async {
                        press();
                        pending::<()>().await
                    });
                    if !has_region {
                        waits.await.expect("it is dropped");
                        unreachable!("it waits for ever");
                    }
                    let cancelled = heist::catch_cancel(waits).await.expect_err("a press");
                    (cancelled.by().line(), heist::task::cancelling())
                }),
            );
            match answer {
                Ok((by, count)) => {
                    assert!(has_region, "{case}");
                    assert_eq!(
                        (by, count),
                        (line, if takes_back { 1 } else { 2 }),
                        "{case}"
                    );
                }
                Err(RunError::Interrupted) => assert!(takes_back && !has_region, "{case}"),
                Err(RunError::Cancelled) => assert!(!takes_back && !has_region, "{case}"),
                Err(e) => panic!("{case}: {e}"),
            }
        }
        assert_eq!(disposition(), before);
    });
}

/// `main` was cancelled, has caught that, and cleans up. It is ready in the poll that hears the press, and
/// what `main` is woken for at the same moment must not be lost over it.
#[test]
fn a_press_takes_no_wake_up_from_a_main_that_cleans_up() {
    starting_from(libc::SIG_DFL, |before| {
        let mut runtime = Runtime::builder()
            .workers(1)
            .spare_workers(0)
            .cancel_on_ctrl_c(true)
            .build()
            .unwrap();
        let answer = runtime.try_run(async {
            let caught = heist::catch_cancel(async {
                AbortHandle::current().abort();
                pending::<()>().await
            });
            caught.await.expect_err("it was cancelled");
            let mut polls = 0;
            std::future::poll_fn(|cx| {
                polls += 1;
                if polls > 1 {
                    return Poll::Ready(());
                }
                press();
                // The press has arrived before the next poll begins, so nothing wakes `main` later.
                let slot = heist_core::current_slot().unwrap();
                let woken = heist_core::with_seam(|seam| seam.poll(slot));
                assert_eq!(woken, Some(1), "the press wakes `main`");
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            7
        });
        assert_eq!(answer.unwrap(), 7);
        assert_eq!(disposition(), before);
    });
}

/// Another handler, or none because the signal is ignored: left alone, and the run goes on.
#[test]
fn r28_a_run_goes_on_without_where_ctrl_c_is_somebody_elses() {
    for handler in [somebody_elses(), libc::SIG_IGN] {
        starting_from(handler, |before| {
            let counted = COUNTED.load(Ordering::SeqCst);
            let answer = cancels().try_run(async {
                yield_now().await;
                assert_eq!(disposition(), before);
                press();
                yield_now().await;
                assert_eq!(disposition(), before);
                7
            });
            assert_eq!(answer.unwrap(), 7);
            assert_eq!(disposition(), before);
            let theirs = usize::from(before.handler == somebody_elses());
            assert_eq!(COUNTED.load(Ordering::SeqCst), counted + theirs);
        });
    }
}

/// As above, with a listener on top of the other handler.
#[test]
fn r28_a_listener_does_not_make_it_ours() {
    starting_from(somebody_elses(), |before| {
        let answer = cancels().try_run(async {
            yield_now().await;
            let mut listener = ctrl_c();
            let inner = heist::spawn_blocking(|| {
                cancels().try_run(async {
                    yield_now().await;
                    press();
                    yield_now().await;
                    5
                })
            });
            assert_eq!(inner.await.unwrap().unwrap(), 5);
            listener.recv().await.unwrap();
            7
        });
        assert_eq!(answer.unwrap(), 7);
        assert_eq!(disposition(), before);
    });
}

#[test]
fn r31_the_handler_is_there_during_a_run_that_asks_for_it_and_at_no_other_time() {
    starting_from(libc::SIG_DFL, |before| {
        let mut runtime = cancels();
        assert_eq!(disposition(), before);
        runtime.run(async { assert_ne!(disposition(), before) });
        assert_eq!(disposition(), before);
        let asks_not = Runtime::builder().cancel_on_ctrl_c(false).build();
        asks_not
            .unwrap()
            .run(async { assert_eq!(disposition(), before) });
        heist::run(async { assert_eq!(disposition(), before) });
    });
}

#[test]
fn r31_a_handler_that_replaced_that_of_a_run_is_left_alone() {
    starting_from(libc::SIG_DFL, |_| {
        let theirs = cancels().run(async {
            yield_now().await;
            set(somebody_elses());
            disposition()
        });
        assert_eq!(disposition(), theirs);
        assert_eq!(theirs.handler, somebody_elses());
    });
}

/// One press, two runs on two threads, none of them the first of the process.
#[test]
fn r31_two_runs_at_once_are_both_cancelled() {
    starting_from(libc::SIG_DFL, |before| {
        let (ready, is_ready) = mpsc::channel();
        let runs: Vec<_> = (0..2)
            .map(|_| {
                let ready = ready.clone();
                thread::spawn(move || {
                    let answer: Result<(), RunError> = cancels().try_run(async {
                        yield_now().await;
                        ready.send(()).unwrap();
                        pending().await
                    });
                    answer
                })
            })
            .collect();
        for _ in &runs {
            is_ready.recv().unwrap();
        }
        press();
        for run in runs {
            assert_interrupted(&run.join().unwrap());
        }
        assert_eq!(disposition(), before);
    });
}

/// A press, and an output that was ready before `main` suspended.
#[test]
fn a_main_that_is_ready_in_spite_of_it_has_its_output() {
    starting_from(libc::SIG_DFL, |before| {
        let answer = cancels().try_run(async {
            yield_now().await;
            press();
            12
        });
        assert_eq!(answer.unwrap(), 12);
        let answer = cancels().run(async {
            press();
            13
        });
        assert_eq!(answer, 13);
        assert_eq!(disposition(), before);
    });
}

/// A listener and a run: both are told, whichever came first.
#[test]
fn a_listener_is_told_beside_a_run_that_is_cancelled() {
    starting_from(libc::SIG_DFL, |before| {
        let mut listening = Runtime::new().unwrap();
        for listener_first in [true, false] {
            let mut early = listener_first.then(|| listening.run(async { Some(ctrl_c()) }));
            let mut late = None;
            let answer: Result<(), RunError> = cancels().try_run(async {
                yield_now().await;
                let handle = listening.handle();
                late = handle.spawn(async { Some(ctrl_c()) }).await.unwrap();
                press();
                pending().await
            });
            assert_interrupted(&answer);
            assert_ne!(disposition(), before, "the listeners are still there");
            for listener in early.iter_mut().flatten().chain(&mut late) {
                listening.run(listener.recv()).unwrap();
            }
            drop((early, late));
            assert_eq!(disposition(), before);
        }
    });
}

/// A run in a blocking closure does not end the process: the runtime around it may want to end in
/// order itself.
#[test]
fn a_run_in_a_blocking_closure_panics_when_it_is_interrupted() {
    starting_from(libc::SIG_DFL, |before| {
        heist::run(async {
            let inner = heist::spawn_blocking(|| {
                cancels().run(async {
                    yield_now().await;
                    press();
                    pending::<()>().await;
                });
            });
            let error = inner.await.unwrap_err();
            assert!(error.reason().contains("Ctrl-C"), "{error}");
        });
        assert_eq!(disposition(), before);
    });
}

/// The same, around a scope.
#[test]
fn a_scope_in_a_blocking_closure_panics_when_it_is_interrupted() {
    starting_from(libc::SIG_DFL, |before| {
        heist::run(async {
            let drops = Drops::default();
            let inner = heist::spawn_blocking({
                let drops = drops.clone();
                move || {
                    Builder::new().cancel_on_ctrl_c(true).scope(async |s| {
                        for _ in 0..3 {
                            let guard = drops.guard();
                            drop(s.spawn(async move {
                                let _guard = guard;
                                pending::<()>().await;
                            }));
                        }
                        press();
                        pending::<()>().await;
                    });
                }
            });
            let payload = inner.await.unwrap_err().into_panic();
            assert!(text_of(&*payload).contains("Ctrl-C"));
            assert_eq!(drops.count(), 3);
        });
        assert_eq!(disposition(), before);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn no_descriptor_of_a_cancelled_run_is_left() {
    use heist_tests::support::descriptors;

    starting_from(libc::SIG_DFL, |_| {
        let before = descriptors();
        for _ in 0..100 {
            let answer: Result<(), RunError> = cancels().try_run(async {
                press();
                pending().await
            });
            assert_interrupted(&answer);
        }
        assert_eq!(descriptors(), before);
    });
}

// ---- other processes ----

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// `test` of this program, to be run in a process of its own. Its own limit ends it if it hangs.
fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1");
    command
}

/// Runs `test` of this program in a process of its own.
fn run_child(test: &str) -> ExitStatus {
    child_output(test).status
}

/// The same, with what it wrote.
fn child_output(test: &str) -> Output {
    // Its pipes are descriptors that another test would find.
    let _turn = turn();
    let output = child(test).output().expect("a child");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("about to press"),
        "the child came so far: {output:?}"
    );
    output
}

/// Says when it is dropped, on a line that has no end yet.
struct Says(&'static str);

impl Drop for Says {
    fn drop(&mut self) {
        print!("[{}]", self.0);
    }
}

/// `run` ends the loop first, destructors and all, and then the process, by the signal.
#[test]
fn run_ends_the_process_by_the_signal_after_the_shutdown() {
    if is_child() {
        starting_from(libc::SIG_DFL, |_| {
            let mut runtime = cancels();
            drop(runtime.handle().spawn(async {
                let _says = Says("a task");
                pending::<()>().await;
            }));
            runtime.run(async {
                let _says = Says("main");
                drop(heist::spawn_local(async {
                    let _says = Says("a local task");
                    pending::<()>().await;
                }));
                // Both have begun when a task spawned later has run behind them.
                for _ in 0..3 {
                    heist::spawn(async {}).await.unwrap();
                }
                println!("about to press");
                press();
                pending::<()>().await
            });
        });
        std::process::exit(3);
    }
    let output = child_output("run_ends_the_process_by_the_signal_after_the_shutdown");
    assert_eq!(output.status.signal(), Some(libc::SIGINT), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    for said in ["[main]", "[a local task]", "[a task]"] {
        assert_eq!(text.matches(said).count(), 1, "{said}: {text}");
    }
}

/// A thread that was started with the signal blocked still dies by it.
#[test]
fn run_ends_the_process_from_a_thread_that_blocks_the_signal() {
    if is_child() {
        starting_from(libc::SIG_DFL, |_| {
            // SAFETY: the set is made by `sigemptyset` before it is used.
            unsafe {
                let mut set = mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::sigaddset(&mut set, libc::SIGINT);
                libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
            }
            cancels().run(async {
                yield_now().await;
                println!("about to press");
                // SAFETY: no conditions. The signal goes to the process, whose other threads (that
                // of the test harness is one) have it open.
                unsafe { libc::kill(libc::getpid(), libc::SIGINT) };
                pending::<()>().await
            });
        });
        std::process::exit(3);
    }
    let status = run_child("run_ends_the_process_from_a_thread_that_blocks_the_signal");
    assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
}

/// `main` is stuck in its poll and never hears of the first Ctrl-C.
#[test]
fn r31_the_second_press_ends_the_process_at_once() {
    if is_child() {
        starting_from(libc::SIG_DFL, |_| {
            let _: Result<(), RunError> = cancels().try_run(async {
                yield_now().await;
                let _says = Says("main");
                press();
                println!("about to press");
                press();
                loop {
                    thread::park();
                }
            });
        });
        std::process::exit(3);
    }
    let output = child_output("r31_the_second_press_ends_the_process_at_once");
    assert_eq!(output.status.signal(), Some(libc::SIGINT), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("[main]"));
}

/// The first press is being handled: a destructor of `main` is stuck in the shutdown. A listener of
/// another runtime is there, and does not make the second press harmless.
#[test]
fn r31_the_second_press_ends_a_shutdown_that_hangs() {
    if is_child() {
        struct Stuck;
        impl Drop for Stuck {
            fn drop(&mut self) {
                println!("about to press");
                press();
                loop {
                    thread::park();
                }
            }
        }
        starting_from(libc::SIG_DFL, |_| {
            let mut other = Runtime::new().unwrap();
            let _listener = other.run(async { Some(ctrl_c()) });
            let mut runtime = cancels();
            let _: Result<(), RunError> = runtime.try_run(async {
                yield_now().await;
                drop(heist::spawn_local(async {
                    let _stuck = Stuck;
                    pending::<()>().await;
                }));
                yield_now().await;
                press();
                pending().await
            });
        });
        std::process::exit(3);
    }
    let status = run_child("r31_the_second_press_ends_a_shutdown_that_hangs");
    assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
}

/// Two runs, one of which is quick to end and must not take the other with it.
#[test]
fn run_waits_for_other_runs_before_it_ends_the_process() {
    if is_child() {
        starting_from(libc::SIG_DFL, |_| {
            struct Slow(mpsc::Receiver<()>);
            impl Drop for Slow {
                fn drop(&mut self) {
                    // Until the other run is over: its `main` held the sender.
                    assert!(self.0.recv().is_err());
                    print!("[slow]");
                }
            }
            let (sender, receiver) = mpsc::channel();
            let (ready, is_ready) = mpsc::channel();
            let slow = thread::spawn(move || {
                cancels().run(async {
                    let _slow = Slow(receiver);
                    ready.send(()).unwrap();
                    pending::<()>().await;
                });
            });
            is_ready.recv().unwrap();
            cancels().run(async {
                let _sender = sender;
                println!("about to press");
                press();
                pending::<()>().await;
            });
            drop(slow);
        });
        std::process::exit(3);
    }
    let output = child_output("run_waits_for_other_runs_before_it_ends_the_process");
    assert_eq!(output.status.signal(), Some(libc::SIGINT), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("[slow]"),
        "{output:?}"
    );
}

#[test]
fn a_scope_ends_the_process_by_the_signal_when_its_tasks_are_gone() {
    if is_child() {
        starting_from(libc::SIG_DFL, |_| {
            let borrowed = String::from("a task");
            Builder::new().cancel_on_ctrl_c(true).scope(async |s| {
                let _says = Says("the body");
                let says = Says("a task");
                drop(s.spawn(async {
                    let (_says, _borrowed) = (says, &borrowed);
                    pending::<()>().await;
                }));
                println!("about to press");
                press();
                pending::<()>().await
            });
        });
        std::process::exit(3);
    }
    let output = child_output("a_scope_ends_the_process_by_the_signal_when_its_tasks_are_gone");
    assert_eq!(output.status.signal(), Some(libc::SIGINT), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("[the body]") && text.contains("[a task]"),
        "{text}"
    );
}

/// The real thing: a program with a controlling terminal, and somebody who types `^C`. The attribute
/// is the one that programs use.
#[test]
fn typing_it_at_a_terminal_cancels_main_and_ends_the_process() {
    #[heist::main(cancel_on_ctrl_c)]
    async fn program() {
        let _says = Says("main");
        println!("about to press");
        pending::<()>().await;
    }
    if is_child() {
        program();
        std::process::exit(3);
    }
    let _turn = turn();
    within(type_it_at_a_terminal);
}

fn type_it_at_a_terminal() {
    let (terminal, line) = terminal();
    let mut command = child("typing_it_at_a_terminal_cancels_main_and_ends_the_process");
    command
        .stdin(Stdio::from(line.try_clone().unwrap()))
        .stdout(Stdio::from(line.try_clone().unwrap()))
        .stderr(Stdio::from(line));
    // SAFETY: between fork and exec it makes four calls that are async-signal-safe, and
    // `last_os_error` only reads a number.
    unsafe {
        command.pre_exec(|| {
            // Its end if it hears nothing, whatever becomes of this test.
            libc::alarm(LIMIT.as_secs() as libc::c_uint / 2);
            // A shell starts what runs in its background with the signal ignored, which is inherited, and
            // which is somebody else's disposition to heist.
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            if libc::setsid() == -1 || libc::ioctl(0, libc::TIOCSCTTY, 0) == -1 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut running = command.spawn().expect("a child");
    // It keeps the terminal's other end as long as it lives.
    drop(command);
    let mut terminal = std::fs::File::from(terminal);
    let mut text = String::new();
    let mut typed = false;
    let mut buffer = [0; 256];
    // An error is the end: nobody has the other side any more.
    while let Ok(n @ 1..) = terminal.read(&mut buffer) {
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        if !typed && text.contains("about to press") {
            typed = true;
            terminal.write_all(b"\x03").unwrap();
        }
    }
    let mut status = None;
    eventually("the child ends", || {
        status = running.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().signal(), Some(libc::SIGINT), "{text}");
    assert!(text.contains("[main]"), "{text}");
}

/// The two ends of a new terminal.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: the two numbers are ours to write; the name, the settings and the size are not given.
    let opened = unsafe {
        libc::openpty(
            &mut master,
            &mut slave,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the call has just opened them, and nobody else has them.
    let ends = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    // A terminal throws away what was written when `^C` is typed, and does so after it has sent the
    // signal: what the program writes because of the signal could be lost.
    // SAFETY: numbers and an array of them; zero is a value of each, and `tcgetattr` fills them in.
    let mut settings: libc::termios = unsafe { mem::zeroed() };
    // SAFETY: a descriptor that is open, and `settings` is ours to write.
    let got = unsafe { libc::tcgetattr(ends.1.as_raw_fd(), &mut settings) };
    settings.c_lflag |= libc::NOFLSH;
    // SAFETY: a descriptor that is open, and settings that the system gave us but for one flag.
    let set = unsafe { libc::tcsetattr(ends.1.as_raw_fd(), libc::TCSANOW, &settings) };
    assert_eq!((got, set), (0, 0));
    // The child shall not have the master, or its end would never be seen.
    // SAFETY: a descriptor that is open.
    let set = unsafe { libc::fcntl(ends.0.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    assert_eq!(set, 0);
    ends
}

#[test]
fn ctrl_c_ends_the_process_again_when_nobody_listens() {
    if is_child() {
        starting_from(libc::SIG_DFL, |_| {
            heist::run(async {
                let mut listener = ctrl_c();
                press();
                listener.recv().await.unwrap();
            });
            println!("about to press");
            press();
        });
        std::process::exit(3);
    }
    let status = run_child("ctrl_c_ends_the_process_again_when_nobody_listens");
    assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
}

/// Somebody saved our handler, and restores it when the listener it belonged to is long gone. Ctrl-C
/// then does what it did before the listener.
#[test]
fn our_handler_brought_back_by_somebody_else_acts_as_the_default() {
    if is_child() {
        starting_from(libc::SIG_DFL, |_| {
            heist::run(async {
                let listener = ctrl_c();
                let ours = set(somebody_elses());
                drop(listener);
                put_back(&ours);
            });
            println!("about to press");
            press();
        });
        std::process::exit(3);
    }
    let status = run_child("our_handler_brought_back_by_somebody_else_acts_as_the_default");
    assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
}

/// A child made by `fork` alone has the handler and the sockets of its parent, but not the Ctrl-C.
#[test]
fn a_forked_child_does_not_speak_to_the_listeners_of_its_parent() {
    starting_from(libc::SIG_DFL, |_| {
        heist::run(async {
            let mut listener = ctrl_c();
            // SAFETY: the child calls only `raise` and `_exit`, which are async-signal-safe, as is
            // what the handler calls.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: no conditions; the process ends here.
                unsafe {
                    libc::raise(libc::SIGINT);
                    libc::_exit(3);
                }
            }
            assert!(child > 0, "{}", std::io::Error::last_os_error());
            let mut status = 0;
            // SAFETY: `status` is ours to write; `child` is a child nobody else waits for.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            let status = ExitStatus::from_raw(status);
            assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
            press();
            listener.recv().await.unwrap();
            // A byte of the child would be in the socket by now.
            assert!(
                poll_once(&mut listener).is_pending(),
                "one press, one answer"
            );
        });
    });
}

/// `main` has caught a request for its end and goes on. A press is not the first request any more; what
/// wakes `main` at that moment is not lost over it, and an output that is ready wins.
#[test]
fn a_press_after_a_caught_request_takes_no_wake_from_main() {
    starting_from(libc::SIG_DFL, |_| {
        let answer = cancels().try_run(async {
            let own = AbortHandle::current();
            let caught = heist::catch_cancel(async {
                own.abort();
                pending::<()>().await
            });
            assert!(caught.await.is_err());
            assert_eq!(heist::task::uncancel(), 0);
            press();
            yield_now().await;
            7
        });
        assert_eq!(answer.unwrap(), 7);
    });
}
