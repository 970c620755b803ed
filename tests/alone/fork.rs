//! `fork`: the child has no runtime, may run one of its own, and leaves its parent's alone.
//!
//! The tests fork this very process, so they take turns. Each child has a limit of its own, and tells
//! what went wrong through its status and on standard error.
#![cfg(unix)]

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use heist::inspect::{TaskInfo, TaskState};
use heist::net::{TcpListener, TcpStream};
use heist::time::{Duration, Instant, sleep};
use heist::{Handle, RunError, Runtime, yield_now};
use heist_tests::support::{Gate, OpenOnDrop, output_of, text_of, within};
use std::alloc::{GlobalAlloc, Layout, System};
use std::future::{Future, pending};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

/// Seconds after which a child counts as hanging.
const CHILD_LIMIT: u32 = 15;

/// The parent's view of a child.
struct Child(libc::pid_t);

/// Forks. In the child `code` is run and the process ends: with 0 if `code` comes back, else with 1.
#[must_use]
fn fork(code: impl FnOnce()) -> Child {
    match bare_fork() {
        0 => leave_child(code),
        child => Child(child),
    }
}

/// Forks; 0 in the child.
fn bare_fork() -> libc::pid_t {
    // SAFETY: no conditions. What the child does is more than POSIX promises, and what these tests
    // are about; the C libraries that heist runs on allow it.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: no conditions. The signal ends a child that hangs.
        unsafe { libc::alarm(CHILD_LIMIT) };
    }
    child
}

/// The end of a child.
fn leave_child(code: impl FnOnce()) -> ! {
    let ended = catch_unwind(AssertUnwindSafe(code));
    if let Err(payload) = &ended {
        let _ = writeln!(std::io::stderr(), "in the child: {}", text_of(&**payload));
    }
    // SAFETY: no conditions; the process ends here, without the destructors of the copy.
    unsafe { libc::_exit(i32::from(ended.is_err())) }
}

impl Child {
    /// Waits for the child, which must have found all well.
    #[track_caller]
    fn assert_well(self) {
        let status = self.wait();
        assert_ne!(status.signal(), Some(libc::SIGALRM), "the child hangs");
        assert!(status.success(), "the child failed: {status}");
    }

    fn wait(self) -> ExitStatus {
        let mut status = 0;
        loop {
            // SAFETY: `status` is ours to write; it is a child that nobody else waits for.
            let ended = unsafe { libc::waitpid(self.0, &mut status, 0) };
            if ended == self.0 {
                return ExitStatus::from_raw(status);
            }
            let error = std::io::Error::last_os_error();
            assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "{error}");
        }
    }
}

/// One test at a time: a child copies what the threads of another test hold.
fn alone(test: impl FnOnce() + Send + 'static) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    within(test);
}

/// A program of its own: tasks on several threads, a timer, a socket, a blocking closure.
fn a_whole_run() {
    let sum = heist::run(async {
        let tasks: Vec<_> = (0..100)
            .map(|n| {
                heist::spawn(async move {
                    yield_now().await;
                    n
                })
            })
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.unwrap();
        }
        sleep(Duration::from_millis(2)).await;
        echo_once().await;
        sum + heist::spawn_blocking(|| 50).await.unwrap()
    });
    assert_eq!(sum, 5000);
}

async fn echo_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = heist::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = [0; 4];
        stream.read_exact(&mut text).await.unwrap();
        AsyncWriteExt::write_all(&mut stream, &text).await.unwrap();
    });
    let mut client = TcpStream::connect(address).await.unwrap();
    AsyncWriteExt::write_all(&mut client, b"ping")
        .await
        .unwrap();
    let mut text = [0; 4];
    client.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"ping");
    server.await.unwrap();
}

/// A runtime with threads, one of them in the blocking pool and idle.
fn busy_runtime() -> Runtime {
    let mut runtime = Runtime::builder().workers(3).build().unwrap();
    runtime.run(async {
        heist::spawn(async {}).await.unwrap();
        heist::spawn_blocking(|| ()).await.unwrap();
    });
    runtime
}

// ---- a child that was forked outside of any run ----

/// The parent has runtimes, with threads and without. The child runs its own, again and again, and
/// on other threads.
#[test]
fn l22_a_child_runs_afresh() {
    alone(|| {
        let mut runtime = busy_runtime();
        let child = fork(|| {
            for _ in 0..3 {
                a_whole_run();
            }
            thread::spawn(a_whole_run).join().unwrap();
            let mut runtime = busy_runtime();
            assert_eq!(runtime.run(async { 2 }), 2);
            assert!(runtime.close().is_clean());
        });
        child.assert_well();
        assert_eq!(
            runtime.run(async { heist::spawn(async { 3 }).await.unwrap() }),
            3
        );
    });
}

/// A grandchild is a child like any other, and what the child made is stale for it.
#[test]
fn a_grandchild_runs_afresh_too() {
    alone(|| {
        let child = fork(|| {
            let runtime = busy_runtime();
            let handle = runtime.handle();
            fork(move || {
                assert!(matches!(
                    handle.try_block_on(async {}),
                    Err(RunError::Forked)
                ));
                drop(runtime);
                a_whole_run();
            })
            .assert_well();
            a_whole_run();
        });
        child.assert_well();
    });
}

/// Everything that was made before, used in the child: typed errors, nothing hangs, nothing panics.
#[test]
fn l22_stale_handles_answer_forked() {
    alone(|| {
        let mut busy = busy_runtime();
        let mut never_run = Runtime::new().unwrap();
        let (task, closure) = (
            busy.handle().spawn(pending::<()>()),
            busy.handle().spawn_blocking(|| 1),
        );
        let child = bare_fork();
        if child == 0 {
            leave_child(|| {
                for runtime in [&mut busy, &mut never_run] {
                    let handle = runtime.handle();
                    assert!(handle.is_closed());
                    assert!(matches!(runtime.try_run(async {}), Err(RunError::Forked)));
                    assert!(matches!(
                        handle.try_block_on(async {}),
                        Err(RunError::Forked)
                    ));
                    let refused = handle.try_spawn(async { 5 }).unwrap_err();
                    assert!(refused.error.is_closed());
                    assert!(
                        refused.error.to_string().contains("fork"),
                        "{}",
                        refused.error
                    );
                    assert_eq!(heist::run(refused.future), 5);
                    let error = heist::run(handle.spawn(async {})).unwrap_err();
                    assert!(error.is_closed(), "{error}");
                    let error = heist::run(handle.spawn_blocking(|| ())).unwrap_err();
                    assert!(error.is_closed(), "{error}");
                    assert!(runtime.close().is_clean());
                }
                // Handles of the parent's tasks: asked, aborted and dropped.
                task.abort();
                drop(task.abort_handle());
                drop((task, closure));
                drop((busy, never_run));
                a_whole_run();
            });
        }
        Child(child).assert_well();
        // The parent has them still.
        assert_eq!(busy.run(async { 7 }), 7);
        assert_eq!(
            never_run.run(async { heist::spawn(async { 8 }).await.unwrap() }),
            8
        );
        assert!(!task.is_finished());
        task.abort();
        assert!(busy.run(task).unwrap_err().is_cancelled());
        assert_eq!(busy.run(closure).unwrap(), 1);
    });
}

/// Wakers of the parent's tasks are woken in the child, where nobody runs the task.
#[test]
fn a_waker_that_was_copied_wakes_nobody() {
    alone(|| {
        let mut runtime = busy_runtime();
        let (send, receive) = async_channel::bounded::<u32>(1);
        let receiver = receive.clone();
        let task = runtime.handle().spawn(async move { receiver.recv().await });
        // Then its waker is in the channel, and no thread is inside of that, holding a lock that the child
        // would wait for.
        while !is_idle(&runtime, task.id()) {
            thread::yield_now();
        }
        let child = bare_fork();
        if child == 0 {
            leave_child(|| {
                // Into the copy of the channel; the copy of the task is queued nowhere.
                send.try_send(1).unwrap();
                drop((send, receive, task, runtime));
                a_whole_run();
            });
        }
        Child(child).assert_well();
        send.try_send(2).unwrap();
        assert_eq!(runtime.run(task).unwrap(), Ok(2));
    });
}

fn is_idle(runtime: &Runtime, id: heist::task::Id) -> bool {
    let tasks = runtime.handle().tasks();
    let is_idle = |task: &TaskInfo| task.id() == id && task.state() == TaskState::Idle;
    tasks.iter().any(is_idle)
}

/// The child drops its copies of sockets, timers and the runtime, and uses them before that. The
/// parent's poller is the same kernel object; its registrations must all be there afterwards.
#[test]
fn l22_sockets_and_timers_of_the_parent_go_on() {
    alone(|| {
        let mut runtime = Runtime::builder().workers(2).build().unwrap();
        let (mut near, mut far, timer, listener) = runtime.run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (far, near) = futures::join!(TcpStream::connect(address), listener.accept());
            let begin = Instant::now();
            let timer = heist::spawn(async move {
                sleep(Duration::from_millis(300)).await;
                begin.elapsed()
            });
            let mut near = near.unwrap().0;
            // A reader waits, so the driver has been asked.
            let waits = std::future::poll_fn(|cx| {
                let polled = std::pin::Pin::new(&mut near).poll_read(cx, &mut [0; 8]);
                Poll::Ready(polled.is_pending())
            });
            assert!(waits.await);
            (near, far.unwrap(), timer, listener)
        });
        let child = bare_fork();
        if child == 0 {
            leave_child(|| {
                // Nobody waits for anything here.
                let mut cx = Context::from_waker(Waker::noop());
                let read = std::pin::Pin::new(&mut near).poll_read(&mut cx, &mut [0; 8]);
                assert!(matches!(&read, Poll::Ready(Err(_))), "{read:?}");
                let written = std::pin::Pin::new(&mut far).poll_write(&mut cx, b"from the child");
                assert!(matches!(&written, Poll::Ready(Err(_))), "{written:?}");
                let accepted = heist::run(listener.accept());
                assert!(accepted.is_err());
                drop((near, far, timer, listener, runtime));
                a_whole_run();
            });
        }
        Child(child).assert_well();
        let late = runtime.run(async {
            // Both directions, each of which needs an event of the driver.
            for round in 0..3_u8 {
                let writer = async {
                    sleep(Duration::from_millis(5)).await;
                    AsyncWriteExt::write_all(&mut far, &[round; 4])
                        .await
                        .unwrap();
                };
                let mut text = [0xff; 4];
                let reader = near.read_exact(&mut text);
                futures::join!(writer, async { reader.await.unwrap() });
                assert_eq!(text, [round; 4], "what the parent wrote and nothing else");
            }
            let address = listener.local_addr().unwrap();
            let (client, accepted) = futures::join!(TcpStream::connect(address), listener.accept());
            drop((client.unwrap(), accepted.unwrap()));
            timer.await.unwrap()
        });
        assert!(late >= Duration::from_millis(300));
    });
}

// ---- a child that was forked inside a run ----

/// In the copy of a run: the loop is refused, whatever it is asked.
fn assert_inside_of_a_copy() {
    assert!(Handle::try_current().is_none());
    assert!(matches!(heist::try_run(async {}), Err(RunError::Forked)));
    assert!(matches!(
        Runtime::new().unwrap().try_run(async {}),
        Err(RunError::Forked)
    ));
    let now = |mut task: heist::JoinHandle<()>| {
        let mut cx = Context::from_waker(Waker::noop());
        match std::pin::Pin::new(&mut task).poll(&mut cx) {
            Poll::Ready(Err(error)) => assert!(error.is_closed(), "{error}"),
            other => panic!("{other:?}"),
        }
    };
    now(heist::spawn(async {}));
    now(heist::spawn_blocking(|| ()));
    assert_eq!(heist::block_in_place(|| 3), 3);
    let mut sleep = sleep(Duration::from_secs(3600));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(sleep.poll_checked(&mut cx), Poll::Ready(Err(_))));
    // A thread of its own is outside of the copy.
    thread::spawn(a_whole_run).join().unwrap();
}

/// `main` forks, and the child ends in the middle of it.
#[test]
fn l22_a_fork_inside_of_main() {
    alone(|| {
        let text = heist::run(async {
            let task = heist::spawn(async {
                sleep(Duration::from_millis(20)).await;
                "of the parent"
            });
            yield_now().await;
            fork(assert_inside_of_a_copy).assert_well();
            task.await.unwrap()
        });
        assert_eq!(text, "of the parent");
    });
}

#[test]
fn l22_a_fork_inside_of_a_task_a_local_task_and_a_closure() {
    alone(|| {
        let mut runtime = Runtime::builder().workers(2).build().unwrap();
        runtime.run(async {
            let task = async {
                fork(assert_inside_of_a_copy).assert_well();
                sleep(Duration::from_millis(1)).await;
                1
            };
            assert_eq!(heist::spawn(task).await.unwrap(), 1);
            let local = async {
                fork(assert_inside_of_a_copy).assert_well();
                2
            };
            assert_eq!(heist::spawn_local(local).await.unwrap(), 2);
            // A closure may run a loop in any case, the child's too.
            let closure = || {
                fork(a_whole_run).assert_well();
                3
            };
            assert_eq!(heist::spawn_blocking(closure).await.unwrap(), 3);
        });
        assert!(runtime.close().is_clean());
    });
}

/// The child comes back from the poll of `main`: the copied call answers, at once, without joining
/// the threads that are not there. No task of the parent is run a second time.
#[test]
fn a_run_that_was_copied_comes_back_in_the_child() {
    alone(|| {
        let ran = std::rc::Rc::new(std::cell::Cell::new(0));
        for ready in [true, false] {
            let mut is_child = false;
            let mut child = None;
            ran.set(0);
            let answer = heist::try_run(async {
                // In the queues of this thread, when it forks.
                let here: Vec<_> = (0..20)
                    .map(|_| {
                        let ran = ran.clone();
                        heist::spawn_local(async move { ran.set(ran.get() + 1) })
                    })
                    .collect();
                let busy: Vec<_> = (0..20).map(|_| heist::spawn(async {})).collect();
                match bare_fork() {
                    0 => is_child = true,
                    pid => child = Some(Child(pid)),
                }
                if is_child && ready {
                    return "ready";
                }
                for task in busy.into_iter().chain(here) {
                    task.await.unwrap();
                }
                "later"
            });
            if is_child {
                leave_child(|| {
                    match answer {
                        Ok(text) => assert!(ready && text == "ready", "{text}"),
                        Err(error) => {
                            assert!(!ready && matches!(error, RunError::Forked), "{error}");
                        }
                    }
                    assert_eq!(ran.get(), 0, "a local task of the parent ran in the child");
                    // Outside of the copied call, on the very thread that was in it.
                    a_whole_run();
                });
            }
            child.expect("the parent has one").assert_well();
            assert_eq!(answer.unwrap(), "later");
            assert_eq!(ran.get(), 20);
        }
    });
}

/// As above, for a `Runtime` and for `block_on`.
#[test]
fn a_runtime_that_was_copied_comes_back_in_the_child() {
    alone(|| {
        let mut runtime = busy_runtime();
        let handle = runtime.handle();
        let mut child = None;
        let answer = runtime.try_run(async {
            child = Some(bare_fork());
            heist::spawn(async {}).await.is_ok()
        });
        if child == Some(0) {
            leave_child(|| {
                assert!(
                    matches!(answer, Err(RunError::Forked) | Ok(false)),
                    "{answer:?}"
                );
                assert!(matches!(runtime.try_run(async {}), Err(RunError::Forked)));
                drop(runtime);
                a_whole_run();
            });
        }
        Child(child.unwrap()).assert_well();
        assert!(answer.unwrap());

        let mut child = None;
        let answer = handle.try_block_on(async {
            child = Some(bare_fork());
            yield_now().await;
        });
        if child == Some(0) {
            leave_child(|| {
                assert!(matches!(answer, Err(RunError::Forked)), "{answer:?}");
                a_whole_run();
            });
        }
        Child(child.unwrap()).assert_well();
        answer.unwrap();
    });
}

/// In a simulation all is on one thread: whoever forks, it is the run that comes back in the child.
#[test]
fn a_simulation_that_was_copied_comes_back_in_the_child() {
    alone(|| {
        let parent = std::process::id();
        for seed in 0..12 {
            let mut runtime = Runtime::builder().deterministic(seed).build().unwrap();
            let answer = runtime.try_run(async {
                drop(heist::spawn(sleep(Duration::from_secs(3600))));
                let forked = match seed % 4 {
                    0 => bare_fork(),
                    1 => heist::spawn(async { bare_fork() }).await.unwrap(),
                    2 => heist::spawn_local(async { bare_fork() }).await.unwrap(),
                    _ => heist::spawn_blocking(bare_fork).await.unwrap(),
                };
                yield_now().await;
                forked
            });
            if std::process::id() != parent {
                leave_child(|| {
                    assert!(matches!(answer, Err(RunError::Forked)), "{answer:?}");
                    assert!(matches!(runtime.try_run(async {}), Err(RunError::Forked)));
                    drop(runtime);
                    a_whole_run();
                    let mut own = Runtime::builder().deterministic(seed).build().unwrap();
                    own.run(sleep(Duration::from_secs(3600)));
                });
            }
            Child(answer.unwrap()).assert_well();
            assert_eq!(runtime.close().cancelled, 1);
        }
    });
}

/// The same where `block_on` steps the task that forks.
#[test]
fn a_simulation_in_block_on_that_was_copied_answers_forked() {
    alone(|| {
        let parent = std::process::id();
        for seed in 0..6 {
            let runtime = Runtime::builder().deterministic(seed).build().unwrap();
            let handle = runtime.handle();
            let answer = handle.try_block_on(handle.spawn(async {
                let forked = bare_fork();
                yield_now().await;
                forked
            }));
            if std::process::id() != parent {
                leave_child(|| assert!(matches!(answer, Err(RunError::Forked)), "{answer:?}"));
            }
            Child(answer.unwrap().unwrap()).assert_well();
        }
    });
}

/// A `Send` task forks and comes back in the child, on a thread of the runtime. That thread ends, and
/// with it the child, since it has no other.
#[test]
fn a_worker_that_was_copied_ends_in_the_child() {
    alone(|| {
        let runtime = Runtime::builder()
            .workers(1)
            .spare_workers(0)
            .build()
            .unwrap();
        let (ran, gate) = (Gate::new(), Gate::new());
        let _open = OpenOnDrop(gate.clone());
        let (pid, is_pid) = std::sync::mpsc::channel();
        let parent = std::process::id();
        let forks = runtime.handle().spawn({
            let gate = gate.clone();
            async move {
                // Until the other task is in the queue behind this one.
                gate.wait();
                let child = bare_fork();
                if child != 0 {
                    pid.send(child).unwrap();
                }
                yield_now().await;
            }
        });
        let next = runtime.handle().spawn({
            let ran = ran.clone();
            async move {
                if std::process::id() != parent {
                    leave_child(|| panic!("a task of the parent ran in the child"));
                }
                ran.open();
            }
        });
        gate.open();
        let child = Child(is_pid.recv().unwrap());
        runtime.handle().block_on(async {
            forks.await.unwrap();
            next.await.unwrap();
        });
        assert!(ran.is_open());
        child.assert_well();
    });
}

/// The error handler forks on the monitor's thread, and comes back in the child. That thread ends as
/// well, and does not look for work of the parent's until somebody kills it.
#[test]
fn a_monitor_that_was_copied_ends_in_the_child() {
    alone(|| {
        let (pid, is_pid) = std::sync::mpsc::channel();
        let gate = Gate::new();
        let _open = OpenOnDrop(gate.clone());
        let runtime = Runtime::builder()
            .workers(1)
            .spare_workers(0)
            .debug(true)
            .stall_threshold(Duration::ZERO)
            .on_error(move |_| {
                let child = bare_fork();
                if child != 0 {
                    let _ = pid.send(child);
                }
            })
            .build()
            .unwrap();
        let stalls = runtime.handle().spawn({
            let gate = gate.clone();
            async move { gate.wait() }
        });
        let child = Child(is_pid.recv().unwrap());
        gate.open();
        runtime.handle().block_on(stalls).unwrap();
        child.assert_well();
    });
}

/// The hook of a new thread forks, and comes back in the child, before the thread has looked at the
/// queues. It does not do so in the child.
#[test]
fn a_thread_that_was_copied_in_its_hook_ends_in_the_child() {
    alone(|| {
        let parent = std::process::id();
        let (pid, is_pid) = std::sync::mpsc::channel();
        let runtime = Runtime::builder()
            .workers(1)
            .spare_workers(0)
            .on_thread_start(move || {
                let child = bare_fork();
                if child != 0 {
                    pid.send(child).unwrap();
                }
            })
            .build()
            .unwrap();
        let is_in_parent = move || {
            if std::process::id() != parent {
                leave_child(|| panic!("work of the parent was done in the child"));
            }
        };
        let closure = runtime.handle().spawn_blocking(is_in_parent);
        runtime.handle().block_on(closure).unwrap();
        let task = runtime.handle().spawn(async move { is_in_parent() });
        runtime.handle().block_on(task).unwrap();
        for _ in 0..2 {
            Child(is_pid.recv().unwrap()).assert_well();
        }
    });
}

// ---- what is global ----

/// The parent listens to Ctrl-C, and its run is to be cancelled by it. The child has neither, until
/// it asks for them itself.
#[test]
fn l22_ctrl_c_in_the_child_is_its_own() {
    alone(|| {
        // A shell starts what runs in its background with the signal ignored.
        // SAFETY: the default action is no function that could be the wrong one.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
        let press = || {
            // SAFETY: no conditions.
            assert_eq!(unsafe { libc::raise(libc::SIGINT) }, 0);
        };
        let mut runtime = Runtime::builder().cancel_on_ctrl_c(true).build().unwrap();
        runtime.run(async {
            let mut listener = heist::signal::ctrl_c();
            yield_now().await;
            fork(|| {
                thread::spawn(move || {
                    let mut own = Runtime::builder().cancel_on_ctrl_c(true).build().unwrap();
                    let answer: Result<(), RunError> = own.try_run(async {
                        let mut listener = heist::signal::ctrl_c();
                        press();
                        listener.recv().await.unwrap();
                        pending().await
                    });
                    assert!(matches!(answer, Err(RunError::Interrupted)), "{answer:?}");
                })
                .join()
                .unwrap();
            })
            .assert_well();
            // What the child was pressed has not reached us: the next poll would have ended this.
            yield_now().await;
            yield_now().await;
            let mut cx = Context::from_waker(Waker::noop());
            assert!(listener.poll_recv(&mut cx).is_pending());
        });
    });
}

/// Has allocations of what wants a cache line of its own take their time while [`SLOW`] is set. So do those of
/// `crossbeam-epoch` under its lock, and those of the standard library under the lock that it holds while a thread
/// begins do not: a child that is forked then hangs whatever we do.
struct Slow;

static SLOW: AtomicBool = AtomicBool::new(false);

#[global_allocator]
static ALLOCATOR: Slow = Slow;

// SAFETY: everything is the system's.
unsafe impl GlobalAlloc for Slow {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() >= 64 && SLOW.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(2));
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, and it came from the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Forks while the first runtime of a process begins its work: what is made once for the whole process, while
/// others wait for it, must not be in the making then. In processes that have made nothing yet.
#[test]
fn children_of_a_parent_that_begins_run_afresh() {
    const FRESH: &str = "HEIST_TEST_FRESH";
    if std::env::var_os(FRESH).is_none() {
        let name = "children_of_a_parent_that_begins_run_afresh";
        let mut again = Command::new(std::env::current_exe().unwrap());
        let ended = output_of(again.args(["--exact", name]).env(FRESH, "1"));
        let told = String::from_utf8_lossy(&ended.stdout);
        assert!(
            ended.status.success() && told.contains("1 passed"),
            "{told}"
        );
        return;
    }
    alone(|| {
        for n in 0..30 {
            fork(|| {
                let runtime = Runtime::builder().workers(3).build().unwrap();
                let handle = runtime.handle();
                SLOW.store(true, Ordering::Relaxed);
                // They lie in the queue of one worker, and others come for them.
                let begins = handle.spawn(async {
                    for _ in 0..20 {
                        drop(heist::spawn(async { yield_now().await }));
                        thread::sleep(Duration::from_micros(200));
                    }
                });
                thread::sleep(Duration::from_micros(200) * n);
                let child = fork(|| {
                    SLOW.store(false, Ordering::Relaxed);
                    a_whole_run();
                });
                SLOW.store(false, Ordering::Relaxed);
                child.assert_well();
                handle.block_on(begins).unwrap();
            })
            .assert_well();
        }
    });
}

/// Has a runtime spawn, complete and wait until it is to stop.
fn keep_busy(handle: &Handle, stop: &Gate) {
    while !stop.is_open() {
        let tasks: Vec<_> = (0..50)
            .map(|_| handle.spawn(async { yield_now().await }))
            .collect();
        handle.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
            heist::spawn_blocking(|| ()).await.unwrap();
        });
    }
}

/// Forks all the time while other threads of the parent spawn, complete and wait. The child must not
/// hang on what they held.
#[test]
fn children_of_a_busy_parent_run_afresh() {
    alone(|| {
        let runtime = Runtime::builder().workers(3).build().unwrap();
        let stop = Gate::new();
        let busy: Vec<_> = (0..3)
            .map(|_| {
                let (handle, stop) = (runtime.handle(), stop.clone());
                thread::spawn(move || keep_busy(&handle, &stop))
            })
            .collect();
        let _open = OpenOnDrop(stop.clone());
        // All threads have begun: the standard library keeps a lock of the process's while one does.
        thread::sleep(Duration::from_millis(20));
        for _ in 0..30 {
            let handle = runtime.handle();
            fork(move || {
                assert!(handle.try_spawn(async {}).is_err());
                drop(handle);
                a_whole_run();
            })
            .assert_well();
        }
        stop.open();
        for thread in busy {
            thread.join().unwrap();
        }
    });
}
