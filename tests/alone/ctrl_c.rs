//! Ctrl-C: what a process does on `SIGINT` before, while and after somebody listens.
//!
//! The disposition belongs to the process, hence this program of its own. Its tests take turns; those
//! that end a process start this program again, with one test selected and [`CHILD`] set.
#![cfg(unix)]

use heist::Runtime;
use heist::signal::{CtrlC, ctrl_c};
use heist_tests::support::{poll_once, within};
use std::mem;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
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
fn the_previous_handler_comes_back_with_all_its_settings() {
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
fn a_handler_that_replaced_ours_is_left_alone() {
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

// ---- other processes ----

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs `test` of this program in a process of its own. Its own limit ends it if it hangs.
fn run_child(test: &str) -> ExitStatus {
    // Its pipes are descriptors that another test would find.
    let _turn = turn();
    let program = std::env::current_exe().expect("a path");
    let output = Command::new(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .expect("a child");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("about to press"),
        "the child came so far: {output:?}"
    );
    output.status
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
