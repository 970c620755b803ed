//! What a `Handle` tells of its runtime while that runs.
#![forbid(unsafe_code)]

use crate::fairness::on_one_thread;
use crate::support::{Gate, OpenOnDrop, Reports, eventually, rests, within};
use futures::task::AtomicWaker;
use heist::inspect::{RuntimeMetrics, TaskInfo, TaskKind, TaskState, WaitsOn, WorkerMetrics};
use heist::net::{TcpListener, TcpStream};
use heist::task::{self, Id};
use heist::time::{Duration, Instant};
use heist::{Handle, Runtime, yield_now};
use std::collections::HashSet;
use std::future::{Future, pending, poll_fn};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

fn sum(metrics: &RuntimeMetrics, of: impl Fn(&WorkerMetrics) -> u64) -> u64 {
    metrics.workers().iter().map(of).sum()
}

/// In debug mode, tasks that have ended without ever having been polled are reported, once each, with
/// their names and spawn sites: one that is aborted, and one that meets the end of the run. Tasks that
/// were polled are not, nor is what a closed runtime refuses.
#[test]
fn tasks_that_were_never_polled_are_reported_in_debug_mode() {
    fn reports(debug: bool) -> (Vec<String>, [String; 2]) {
        let reports = Reports::default();
        let builder = reports.of(Runtime::builder()).debug(debug);
        let mut runtime = builder.workers(1).spare_workers(0).build().unwrap();
        let lines = runtime.run(async {
            let polled = heist::spawn(pending::<()>());
            while find(&Handle::current(), polled.id()).polls() == 0 {
                yield_now().await;
            }
            polled.abort();
            let first = loop {
                let aborted = task::Builder::new().name("aborted");
                let (line, aborted) = (line!(), aborted.spawn(async {}));
                aborted.abort();
                // Unless the monitor gave the worker's place to another thread, which was faster.
                if aborted.await.is_err_and(|error| error.is_cancelled()) {
                    break line;
                }
            };
            let (second, left) = (line!(), heist::spawn_local(async {}));
            drop(left);
            [first, second]
        });
        runtime.close();
        assert!(runtime.handle().spawn(async {}).is_finished());
        let sites = lines.map(|line| format!("spawned at {}:{line}:", file!()));
        (reports.all(), sites)
    }
    within(|| {
        let (all, sites) = reports(true);
        assert_eq!(all.len(), 2, "{all:#?}");
        for (report, site) in all.iter().zip(&sites) {
            assert!(report.starts_with("NeverPolled"), "{report}");
            assert!(report.contains(site), "{report}, {site}");
        }
        assert!(all[0].contains("'aborted'"), "{all:?}");
        assert_eq!(reports(false).0, Vec::<String>::new());
    });
}

/// One worker and nobody else: each poll is known. A task that yields `n` times is polled `n + 1`
/// times, and the main future once before and once after it.
#[test]
fn polls_are_counted_exactly() {
    within(|| {
        let metrics = on_one_thread(|| {
            let builder = Runtime::builder().workers(1).spare_workers(0);
            let mut runtime = builder.build().unwrap();
            let before = sum(&runtime.handle().metrics(), WorkerMetrics::polls);
            assert_eq!(before, 0);
            let together = runtime.run(async {
                let task = heist::spawn(async {
                    for _ in 0..1000 {
                        yield_now().await;
                    }
                    std::thread::current().id()
                });
                task.await.unwrap() == std::thread::current().id()
            });
            (together, runtime.handle().metrics())
        });
        // The polls of the task, two of `main`, and the drop of `main`.
        assert_eq!(metrics.workers()[0].polls(), 1001 + 2 + 1);
        assert_eq!(metrics.workers()[0].steals(), 0);
        // It was spawned on the worker, and no foreign thread woke it.
        assert_eq!(metrics.workers()[0].remote_wakes(), 0);
        assert_eq!(metrics.workers()[0].lifo_hits(), 1);
        assert_eq!(metrics.live_tasks(), 0);
    });
}

/// Two tasks that wake each other run from the LIFO slot, as often as its bound allows.
#[test]
fn lifo_hits_are_counted() {
    const ROUNDS: u64 = 1000;
    within(|| {
        let builder = Runtime::builder().workers(1).spare_workers(0);
        let mut runtime = builder.build().unwrap();
        runtime.run(async {
            let (there, here) = async_channel::bounded(1);
            let (back, answers) = async_channel::bounded(1);
            let echo = heist::spawn(async move {
                while let Ok(n) = here.recv().await {
                    back.send(n).await.unwrap();
                }
            });
            heist::spawn(async move {
                for n in 0..ROUNDS {
                    there.send(n).await.unwrap();
                    assert_eq!(answers.recv().await.unwrap(), n);
                }
            })
            .await
            .unwrap();
            echo.await.unwrap();
        });
        let metrics = runtime.handle().metrics();
        let (polls, hits) = (
            metrics.workers()[0].polls(),
            metrics.workers()[0].lifo_hits(),
        );
        assert!(polls >= 2 * ROUNDS, "{polls} polls");
        assert!(
            hits >= ROUNDS && hits <= polls,
            "{hits} hits, {polls} polls"
        );
    });
}

/// What foreign threads spawn goes through the injector, each task once.
#[test]
fn remote_wakes_are_counted() {
    const TASKS: u64 = 100;
    within(|| {
        let builder = Runtime::builder().workers(1).spare_workers(0);
        let runtime = builder.build().unwrap();
        let handle = runtime.handle();
        let tasks: Vec<_> = (0..TASKS).map(|_| handle.spawn(async {})).collect();
        handle.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
        let metrics = handle.metrics();
        assert_eq!(metrics.workers()[0].remote_wakes(), TASKS);
        assert_eq!(metrics.workers()[0].polls(), TASKS);
        assert_eq!(metrics.injector_depth(), 0);
    });
}

/// With one worker held up, the other one takes what it has spawned: that is counted, and the one
/// that is held up says so.
#[test]
fn steals_and_blocked_workers_are_seen() {
    const TASKS: usize = 40;
    within(|| {
        let builder = Runtime::builder().workers(2).spare_workers(0);
        let runtime = builder.build().unwrap();
        let handle = runtime.handle();
        let (gate, observer) = (Gate::new(), handle.clone());
        let opener = OpenOnDrop(gate.clone());
        let (done, all_done) = async_channel::bounded(TASKS);
        let blocker = handle.spawn(async move {
            for _ in 0..TASKS {
                let done = done.clone();
                drop(heist::spawn(async move { done.try_send(()).unwrap() }));
            }
            heist::block_in_place(|| gate.wait());
        });
        handle.block_on(async {
            for _ in 0..TASKS {
                all_done.recv().await.unwrap();
            }
        });
        let metrics = observer.metrics();
        let taken =
            sum(&metrics, WorkerMetrics::steals) + sum(&metrics, WorkerMetrics::remote_wakes);
        // All but those that were taken from the thief's own queue as it got them.
        assert!(taken > 1, "{metrics:#?}");
        assert!(
            metrics.workers().iter().any(WorkerMetrics::is_blocked),
            "{metrics:#?}"
        );
        // The last of them has said that it is done, and then ends.
        eventually("only the one that is held up is left", || {
            observer.metrics().live_tasks() == 1
        });
        drop(opener);
        handle.block_on(blocker).unwrap();
        // The monitor may have marked the poll that has ended, and its thread takes the mark back.
        eventually("nobody is blocked", || {
            let metrics = observer.metrics();
            !metrics.workers().iter().any(WorkerMetrics::is_blocked)
        });
    });
}

/// A runtime without work sleeps, and every worker that sleeps has gone to sleep once at least.
#[test]
fn sleeping_workers_and_parks_are_counted() {
    within(|| {
        let builder = Runtime::builder().workers(2).start_threads(true);
        let runtime = builder.build().unwrap();
        let handle = runtime.handle();
        handle.block_on(async { handle.spawn(async {}).await.unwrap() });
        eventually("every worker sleeps", || {
            let metrics = handle.metrics();
            metrics.workers_started() > 0
                && metrics.sleeping_workers() == metrics.workers_started()
                && metrics.searching_workers() == 0
        });
        let metrics = handle.metrics();
        let occupied = metrics
            .workers()
            .iter()
            .filter(|worker| worker.is_occupied());
        assert_eq!(occupied.count(), metrics.workers_started());
        assert!(sum(&metrics, WorkerMetrics::parks) >= 1, "{metrics:#?}");
        assert_eq!(metrics.spares_active(), 0);
    });
}

/// One thread in the pool, held up: the next closure waits in the queue. Local tasks count as live,
/// and queues have lengths.
#[test]
fn queues_and_the_blocking_pool_have_lengths() {
    const TASKS: usize = 1000;
    within(|| {
        let builder = Runtime::builder().workers(1).spare_workers(0);
        let mut runtime = builder.blocking_threads(1).build().unwrap();
        runtime.run(async {
            let gate = Gate::new();
            let _opener = OpenOnDrop(gate.clone());
            let first = heist::spawn_blocking(move || gate.wait());
            let second = heist::spawn_blocking(|| ());
            eventually("one runs and one waits", || {
                let metrics = Handle::current().metrics();
                metrics.blocking_threads() == 1 && metrics.blocking_queue_depth() == 1
            });
            drop((first, second));
            // What is in the queue of a worker that is blocked, as by the poll up to here, is given to others.
            yield_now().await;
            let local = heist::spawn_local(std::future::pending::<()>());
            for _ in 0..TASKS {
                drop(heist::spawn(async {}));
            }
            let metrics = Handle::current().metrics();
            let worker = &metrics.workers()[0];
            assert_eq!(metrics.live_tasks(), TASKS + 3, "{metrics:#?}");
            assert_eq!(worker.queue_depth() + worker.overflow_depth(), TASKS);
            assert!(worker.overflow_depth() > 0, "{metrics:#?}");
            local.abort();
        });
        runtime.close();
        let metrics = runtime.handle().metrics();
        assert_eq!((metrics.live_tasks(), metrics.workers_started()), (0, 0));
    });
}

// ---- tasks ----

fn find(handle: &Handle, id: Id) -> TaskInfo {
    let found = handle.tasks().into_iter().find(|task| task.id() == id);
    found.unwrap_or_else(|| panic!("no task {id}"))
}

/// Waits until the task says that it waits on exactly this.
#[track_caller]
fn assert_waits(handle: &Handle, id: Id, on: &[WaitsOn]) {
    eventually(format!("task {id} waits on {on:?}"), || {
        find(handle, id).waits_on() == on
    });
}

/// One worker, so that the order is known: each state of a task once, with all that is said of it.
#[test]
fn l24_k19_k21_tasks_are_listed_with_all_that_is_said_of_them() {
    within(|| {
        let builder = Runtime::builder().workers(1).spare_workers(0);
        let mut runtime = builder.blocking_threads(1).build().unwrap();
        runtime.run(async {
            let handle = Handle::current();
            assert!(handle.tasks().is_empty());
            let line = line!() + 1;
            let idle = task::Builder::new().name("idle").spawn(pending::<()>());
            let observer = handle.clone();
            let parent = heist::spawn(async move {
                let child = heist::spawn(pending::<()>());
                (find(&observer, task::id()).state(), child)
            });
            let local = heist::spawn_local(pending::<()>());
            assert_eq!(find(&handle, idle.id()).state(), TaskState::Queued);
            let parent_id = parent.id();
            let (state, child) = parent.await.unwrap();
            assert_eq!(state, TaskState::Running);

            let gate = Gate::new();
            let _opener = OpenOnDrop(gate.clone());
            let running = heist::spawn_blocking(move || gate.wait());
            let queued = heist::spawn_blocking(|| ());
            eventually("the closure runs", || {
                find(&handle, running.id()).state() == TaskState::BlockingRunning
            });
            for id in [idle.id(), child.id(), local.id()] {
                rests(id).await;
            }

            let tasks = handle.tasks();
            assert_eq!(tasks.len(), 5, "{tasks:#?}");
            let of = |id| find(&handle, id);
            let info = of(idle.id());
            assert_eq!((info.name(), info.polls()), (Some("idle"), 1));
            assert_eq!(
                (info.kind(), info.state()),
                (TaskKind::Send, TaskState::Idle)
            );
            let site = info.spawned_at();
            assert_eq!((site.file(), site.line()), (file!(), line));
            assert_eq!(info.parent(), None);
            assert!(info.is_stranded() && info.waits_on().is_empty());
            assert_eq!(of(child.id()).parent(), Some(parent_id));
            assert_eq!(
                (of(child.id()).name(), of(child.id()).state()),
                (None, TaskState::Idle)
            );
            assert_eq!(of(local.id()).kind(), TaskKind::Local);
            assert_eq!(of(running.id()).kind(), TaskKind::Blocking);
            assert_eq!(of(queued.id()).state(), TaskState::BlockingQueued);
            assert!(!of(queued.id()).is_stranded());
            drop((running, queued));
        });
        let handle = runtime.handle();
        eventually("what is left is idle", || {
            handle
                .tasks()
                .iter()
                .all(|task| task.state() == TaskState::Idle)
        });
        // Local tasks have ended with their run.
        assert!(
            handle
                .tasks()
                .iter()
                .all(|task| task.kind() == TaskKind::Send)
        );
        runtime.close();
        assert!(handle.tasks().is_empty());
    });
}

/// Each of heist's own leaves says what it waits on, once somebody looks.
#[test]
fn tasks_say_what_they_wait_on() {
    within(|| {
        let mut runtime = Runtime::builder().workers(2).build().unwrap();
        runtime.run(async {
            let handle = Handle::current();
            assert!(handle.tasks().is_empty());

            let until = Instant::now() + Duration::from_secs(600);
            let sleeper = heist::spawn(heist::sleep_until(until));
            let sleep = WaitsOn::Sleep { until };
            assert_waits(&handle, sleeper.id(), &[sleep]);
            let id = sleeper.id();
            let joiner = heist::spawn(sleeper);
            assert_waits(&handle, joiner.id(), &[WaitsOn::Task { id }]);

            let gate = Gate::new();
            let _opener = OpenOnDrop(gate.clone());
            let closure = heist::spawn_blocking(move || gate.wait());
            let id = closure.id();
            let waiter = heist::spawn_local(closure);
            while find(&handle, waiter.id()).waits_on() != [WaitsOn::Blocking { id }] {
                yield_now().await;
            }

            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let fd = listener.as_fd().as_raw_fd() as u64;
            let acceptor = heist::spawn(async move {
                let first = listener.accept().await.unwrap();
                let second = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
                // Nobody reads or writes at this end.
                pending::<()>().await;
                drop((first, second));
            });
            assert_waits(&handle, acceptor.id(), &[WaitsOn::Accept { fd }]);
            let reader = TcpStream::connect(address).await.unwrap();
            eventually("the first connection was taken", || {
                find(&handle, acceptor.id()).polls() >= 2
            });
            // By polling now, and no longer by the future.
            assert_waits(&handle, acceptor.id(), &[WaitsOn::Accept { fd }]);
            let writer = TcpStream::connect(address).await.unwrap();

            let fd = reader.as_fd().as_raw_fd() as u64;
            let reader = heist::spawn(async move {
                drop(heist::timeout_at(until, reader.read(&mut [0; 1])).await);
            });
            let read = WaitsOn::Readable { fd };
            assert_waits(&handle, reader.id(), &[read, sleep]);
            let fd = writer.as_fd().as_raw_fd() as u64;
            let writer = heist::spawn(async move {
                let more = vec![0; 1 << 20];
                while writer.write(&more).await.is_ok() {}
            });
            assert_waits(&handle, writer.id(), &[WaitsOn::Writable { fd }]);
            for task in [
                joiner.abort_handle(),
                acceptor.abort_handle(),
                reader.abort_handle(),
                writer.abort_handle(),
            ] {
                task.abort();
            }
        });
    });
}

/// While nobody has looked nothing is noted; a note of an older poll than the last is void.
#[test]
fn notes_are_of_the_last_poll_and_after_the_first_look() {
    within(|| {
        let builder = Runtime::builder().workers(1).spare_workers(0);
        let mut runtime = builder.debug(false).build().unwrap();
        runtime.run(async {
            let handle = Handle::current();
            let until = Instant::now() + Duration::from_secs(600);
            let (polls, waker) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicWaker::new()));
            let task = heist::spawn({
                let (polls, waker) = (polls.clone(), waker.clone());
                async move {
                    let mut sleep = pin!(heist::sleep_until(until));
                    poll_fn(|cx| {
                        waker.register(cx.waker());
                        // Two polls wait on the timer, the third one does not.
                        if polls.fetch_add(1, Ordering::Relaxed) < 2 {
                            assert!(sleep.as_mut().poll(cx).is_pending());
                        }
                        Poll::<()>::Pending
                    })
                    .await;
                }
            });
            while polls.load(Ordering::Relaxed) == 0 {
                yield_now().await;
            }
            let seen = || {
                let info = find(&handle, task.id());
                (info.polls(), info.waits_on().to_vec())
            };
            assert_eq!(seen(), (1, vec![]), "nobody looked");
            waker.wake();
            rests(task.id()).await;
            assert_eq!(seen(), (2, vec![WaitsOn::Sleep { until }]));
            waker.wake();
            rests(task.id()).await;
            assert_eq!(seen(), (3, vec![]));
        });
    });
}

/// In debug mode notes are there from the beginning: the first look finds them.
#[test]
fn debug_mode_notes_from_the_beginning() {
    within(|| {
        let builder = Runtime::builder().workers(1).spare_workers(0);
        let mut runtime = builder.debug(true).build().unwrap();
        runtime.run(async {
            let until = Instant::now() + Duration::from_secs(600);
            let task = heist::spawn(heist::sleep_until(until));
            rests(task.id()).await;
            let info = find(&Handle::current(), task.id());
            assert_eq!(info.waits_on(), [WaitsOn::Sleep { until }]);
        });
    });
}

// ---- dumps ----

/// A tree of three levels: the text is indented by parent, siblings by age, and says it all.
#[test]
fn k19_k26_a_dump_is_a_tree() {
    within(|| {
        let builder = Runtime::builder().workers(1).spare_workers(0);
        let mut runtime = builder.debug(true).build().unwrap();
        runtime.run(async {
            let named = |name| task::Builder::new().name(name);
            let top = named("top").spawn(async move {
                let left = named("left").spawn(async move {
                    named("leaf").spawn(pending::<()>()).await.unwrap();
                });
                let right = named("right").spawn(pending::<()>());
                left.await.unwrap();
                right.await.unwrap();
            });
            let other = named("other").spawn(async {});
            while Handle::current().tasks().len() != 4 || !other.is_finished() {
                yield_now().await;
            }
            for task in Handle::current().tasks() {
                rests(task.id()).await;
            }
            let dump = Handle::current().dump();
            let names: Vec<_> = dump
                .tasks()
                .iter()
                .map(|task| task.name().unwrap())
                .collect();
            assert_eq!(names, ["top", "left", "leaf", "right"]);
            let text = dump.to_string();
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[0], "4 tasks", "{text}");
            let tasks = dump.tasks();
            let site = tasks[0].spawned_at();
            let expected = format!(
                "  task {} 'top' spawned at {site}: idle, 1 poll, waits on task {}",
                top.id(),
                tasks[1].id()
            );
            assert_eq!(lines[1], expected, "{text}");
            for (line, indent) in [(2, 4), (3, 6), (4, 4)] {
                let found = lines[line].len() - lines[line].trim_start().len();
                assert_eq!(found, indent, "{text}");
            }
            // `leaf` and `right` wait for nothing there is.
            let stranded: Vec<_> = dump.stranded().map(|task| task.name().unwrap()).collect();
            assert_eq!(stranded, ["leaf", "right"], "{text}");
            assert_eq!(lines.len(), 5 + 2, "{text}");
            assert!(
                lines[5].ends_with(&format!("task {}", tasks[2].id())),
                "{text}"
            );
            assert!(dump.cycles().is_empty());
        });
    });
}

/// Three tasks, each of which awaits the next one's handle, and one that awaits its own.
#[test]
fn k18_k26_tasks_that_wait_for_each_other_are_found() {
    within(|| {
        let mut runtime = Runtime::builder().workers(2).debug(true).build().unwrap();
        runtime.run(async {
            let handle = Handle::current();
            let waits_for_what_it_is_sent = || {
                let (send, receive) = async_channel::bounded::<heist::JoinHandle<()>>(1);
                let task = heist::spawn(async move {
                    drop(receive.recv().await.unwrap().await);
                });
                (send, task)
            };
            let (to_a, a) = waits_for_what_it_is_sent();
            let (to_b, b) = waits_for_what_it_is_sent();
            let (to_c, c) = waits_for_what_it_is_sent();
            let (to_itself, own) = waits_for_what_it_is_sent();
            let ids = [a.id(), b.id(), c.id(), own.id()];
            let aborts = [a.abort_handle(), own.abort_handle()];
            // A chain that leads to a task that ends is none.
            to_a.send(b).await.unwrap();
            to_b.send(c).await.unwrap();
            assert_waits(&handle, ids[0], &[WaitsOn::Task { id: ids[1] }]);
            assert_waits(&handle, ids[1], &[WaitsOn::Task { id: ids[2] }]);
            assert!(handle.dump().cycles().is_empty());
            to_c.send(a).await.unwrap();
            to_itself.send(own).await.unwrap();
            assert_waits(&handle, ids[2], &[WaitsOn::Task { id: ids[0] }]);
            assert_waits(&handle, ids[3], &[WaitsOn::Task { id: ids[3] }]);
            let dump = handle.dump();
            let mut cycles = dump.cycles().to_vec();
            cycles.sort();
            let mut expected = vec![ids[..3].to_vec(), vec![ids[3]]];
            let lowest = (0..3).min_by_key(|at| ids[*at]).unwrap();
            expected[0].rotate_left(lowest);
            expected.sort();
            assert_eq!(cycles, expected);
            let [text, json] = [dump.to_string(), dump.to_json()];
            let own = format!("wait for each other: task {0} -> task {0}", ids[3]);
            assert!(text.contains(&own), "{text}");
            assert!(json.contains(&format!("[{}]", ids[3])), "{json}");
            // Somebody has a waker of each: the one it waits for.
            assert_eq!(dump.stranded().count(), 0, "{text}");
            aborts.iter().for_each(heist::task::AbortHandle::abort);
        });
    });
}

/// Names are the user's, and everything may be in them.
#[test]
fn json_is_escaped_and_complete() {
    within(|| {
        let builder = Runtime::builder().workers(1).spare_workers(0);
        let mut runtime = builder.debug(true).build().unwrap();
        runtime.run(async {
            let line = line!() + 1;
            let task = task::Builder::new().name("a \"b\"\\\n\u{1}é").spawn(pending::<()>());
            let column = Handle::current().tasks()[0].spawned_at().column();
            rests(task.id()).await;
            let json = Handle::current().dump().to_json();
            let (id, file) = (task.id(), file!());
            assert_eq!(
                json,
                format!(
                    r#"{{"tasks":[{{"id":{id},"name":"a \"b\"\\\n\u0001é","kind":"send","state":"idle","file":"{file}","line":{line},"column":{column},"parent":null,"polls":1,"stranded":true,"waits_on":[]}}],"cycles":[],"stranded":[{id}]}}"#
                )
            );
        });
        runtime.run(async {
            let sleeper = heist::spawn(heist::sleep_until(Instant::far_future()));
            rests(sleeper.id()).await;
            let json = Handle::current().dump().to_json();
            assert!(
                json.contains(r#""waits_on":[{"on":"sleep","remaining_ns":null}]"#),
                "{json}"
            );
            drop(sleeper);
        });
    });
}

/// A chain in which each task spawns the next, a hundred thousand long: no recursion, and no text as
/// wide as it is long.
#[test]
fn a_dump_of_a_long_chain() {
    const LENGTH: usize = 100_000;
    fn next(left: usize) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            if left > 0 {
                drop(heist::spawn(next(left - 1)));
            }
            pending().await
        })
    }
    within(|| {
        let mut runtime = Runtime::builder().workers(2).build().unwrap();
        runtime.run(async {
            drop(heist::spawn(next(LENGTH - 1)));
            while Handle::current().metrics().live_tasks() < LENGTH {
                yield_now().await;
            }
            let dump = Handle::current().dump();
            assert_eq!(dump.tasks().len(), LENGTH);
            let text = dump.to_string();
            assert!(text.len() < LENGTH * 400, "{} bytes", text.len());
            for pair in dump.tasks().windows(2) {
                assert_eq!(pair[1].parent(), Some(pair[0].id()));
            }
        });
    });
}

/// Tasks are spawned, run, move and end on all workers while somebody looks without a pause. What is
/// seen is sound, and nobody is seen twice.
#[test]
fn l24_looking_while_everything_moves() {
    const ROUNDS: usize = 2_000;
    within(|| {
        let mut runtime = Runtime::builder().workers(4).build().unwrap();
        let handle = runtime.handle();
        let stop = Arc::new(AtomicBool::new(false));
        let looker = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let mut looks = 0_usize;
                while !stop.load(Ordering::Relaxed) || looks < 10 {
                    let dump = handle.dump();
                    let ids: HashSet<Id> = dump.tasks().iter().map(TaskInfo::id).collect();
                    assert_eq!(ids.len(), dump.tasks().len());
                    assert!(dump.cycles().is_empty(), "{dump}");
                    assert_eq!(dump.stranded().count(), 0, "{dump}");
                    let sites = dump.tasks().iter().map(|task| task.spawned_at().file());
                    assert!(sites.into_iter().all(|file| file == file!()));
                    drop(handle.metrics());
                    looks += 1;
                }
                looks
            }
        });
        runtime.run(async {
            let spinners: Vec<_> = (0..8)
                .map(|_| {
                    heist::spawn(async {
                        for round in 0..ROUNDS {
                            let child = heist::spawn(async { yield_now().await });
                            child.await.unwrap();
                            if round % 64 == 0 {
                                heist::sleep(Duration::from_micros(50)).await;
                            }
                        }
                    })
                })
                .collect();
            for spinner in spinners {
                spinner.await.unwrap();
            }
        });
        stop.store(true, Ordering::Relaxed);
        assert!(looker.join().unwrap() >= 10);
    });
}
