//! Promise 8: an idle runtime uses no CPU: from 200 ms after the last activity on no thread of it
//! wakes up, while nothing is due.
//!
//! The system counts how often each thread gave its processor up by itself (each sleep is one) and
//! how long it ran. Both must stand still for a second. A machine under load stretches what should
//! be 200 ms, so a runtime that is not quiet yet is looked at again, twice; one that wakes up every
//! so often is found out all three times.
#![forbid(unsafe_code)]

use crate::support::{Gate, Name, OpenOnDrop, alone, within};
use heist::net::{TcpListener, TcpStream, UdpSocket};
use heist::{Runtime, sleep};
use std::collections::BTreeMap;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The promise: after this long an idle runtime is quiet.
const QUIET_AFTER: Duration = Duration::from_millis(200);

/// The program with the scenarios that need a process of their own.
const ALONE: &str = env!("CARGO_BIN_EXE_alone");

const LOOK: Duration = Duration::from_secs(1);

/// What a thread has used: voluntary switches, and nanoseconds on a processor.
type Used = (u64, u64);

/// What each thread has used whose name begins with `prefix`.
fn usage(prefix: &str) -> BTreeMap<String, Used> {
    let mut all = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task")
        .expect("/proc")
        .flatten()
    {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let name = read("comm").trim_end().to_owned();
        if !name.starts_with(prefix) {
            continue;
        }
        let status = read("status");
        let switches = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
            .and_then(|count| count.trim().parse().ok())
            .expect("the system counts switches");
        let schedstat = read("schedstat");
        let ran = schedstat
            .split_whitespace()
            .next()
            .and_then(|ran| ran.parse().ok());
        let id = task.file_name().to_string_lossy().into_owned();
        all.insert(format!("{name} {id}"), (switches, ran.unwrap_or(0)));
    }
    all
}

/// Fails unless the threads called so stand still for a second, and unless there are at least
/// `threads` of them.
#[track_caller]
fn assert_quiet(prefix: &str, threads: usize) {
    let mut looks = Vec::new();
    for _ in 0..3 {
        thread::sleep(QUIET_AFTER + Duration::from_millis(100));
        let before = usage(prefix);
        assert!(
            before.len() >= threads,
            "only these threads are there: {before:?}"
        );
        thread::sleep(LOOK);
        let after = usage(prefix);
        if before == after {
            return;
        }
        looks.push((before, after));
    }
    panic!("threads woke up (name: switches, nanoseconds), before and after: {looks:#?}");
}

/// Counts polls until all tasks have been polled once.
fn asleep(count: &Arc<AtomicUsize>) -> impl Future<Output = ()> + Send + 'static {
    let count = count.clone();
    async move {
        let mut sleep = sleep(Duration::from_secs(3600));
        poll_fn(|cx| {
            let polled = Pin::new(&mut sleep).poll(cx);
            count.fetch_add(1, Ordering::SeqCst);
            polled
        })
        .await;
    }
}

/// Ten thousand tasks sleep, sockets are open and waited for, `main` waits: nothing is due for an
/// hour. No thread may wake up, not the one of `run`, not the monitor.
#[test]
fn ten_thousand_sleeping_tasks_and_open_sockets_cost_nothing() {
    within(|| {
        let name = Name::new();
        let stop = async_channel::bounded::<()>(1);
        let all_asleep = Gate::new();
        let (builder, stopped, ready) = (name.builder(), stop.1, all_asleep.clone());
        // `run` takes the name of its caller's thread: it is one of the runtime's for that time.
        let caller = "it-idle-run";
        let runs = thread::Builder::new()
            .name(caller.to_owned())
            .spawn(move || {
                let mut runtime = builder.workers(2).build().unwrap();
                runtime.run(async {
                    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                    let address = listener.local_addr().unwrap();
                    let (client, server) =
                        futures::join!(TcpStream::connect(address), listener.accept());
                    let (client, server) = (client.unwrap(), server.unwrap().0);
                    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                    drop(heist::spawn(async move { server.read(&mut [0]).await }));
                    drop(heist::spawn(
                        async move { listener.accept().await.map(drop) },
                    ));
                    drop(heist::spawn(async move { udp.recv(&mut [0]).await }));
                    let count = Arc::new(AtomicUsize::new(0));
                    for _ in 0..10_000 {
                        drop(heist::spawn(asleep(&count)));
                    }
                    drop(heist::spawn_local(pending::<()>()));
                    while count.load(Ordering::SeqCst) < 10_000 {
                        heist::yield_now().await;
                    }
                    ready.open();
                    stopped.recv().await.unwrap();
                    drop(client);
                });
            });
        let runs = runs.unwrap();
        all_asleep.wait();
        // The monitor at least.
        assert_quiet(&name.threads()[0][..5], 1);
        assert_quiet(caller, 1);
        stop.0.send_blocking(()).unwrap();
        runs.join().unwrap();
        name.assert_gone();
    });
}

/// Between two runs, with threads that were started at once and have nothing to do.
#[test]
fn a_runtime_that_nobody_runs_costs_nothing() {
    within(|| {
        let name = Name::new();
        let mut runtime = name
            .builder()
            .workers(4)
            .start_threads(true)
            .build()
            .unwrap();
        runtime.run(async {
            heist::spawn(async {}).await.unwrap();
            heist::spawn_blocking(|| ()).await.unwrap();
            drop(heist::spawn(pending::<()>()));
            let count = Arc::new(AtomicUsize::new(0));
            drop(heist::spawn(asleep(&count)));
        });
        assert_quiet(&name.threads()[0][..5], 4);
        drop(runtime);
        name.assert_gone();
    });
}

/// A worker is blocked for longer than the monitor looks: that is activity. When it is over the
/// spares must retire and all must be quiet again.
#[test]
fn a_runtime_is_quiet_again_after_a_block() {
    within(|| {
        let name = Name::new();
        let runtime: Runtime = name.builder().workers(2).build().unwrap();
        let handle = runtime.handle();
        let gate = Gate::new();
        let _open = OpenOnDrop(gate.clone());
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let gate = gate.clone();
                handle.spawn(async move { gate.wait() })
            })
            .collect();
        let last = handle.spawn(async move { gate.open() });
        handle.block_on(async {
            last.await.unwrap();
            for task in tasks {
                task.await.unwrap();
            }
        });
        assert_quiet(&name.threads()[0][..5], 1);
        drop(runtime);
        name.assert_gone();
    });
}

/// A timer is due every 300 ms. After each tick the monitor looks around for 100 ms, and then sleeps
/// until the next: the wake-ups are counted against that.
#[test]
fn a_ticking_timer_wakes_only_whom_it_must() {
    within(|| {
        let name = Name::new();
        let runtime = name.builder().workers(2).build().unwrap();
        let handle = runtime.handle();
        let ticks = Arc::new(AtomicUsize::new(0));
        let count = ticks.clone();
        drop(handle.spawn(async move {
            let mut interval = heist::interval(Duration::from_millis(300));
            loop {
                interval.tick().await;
                count.fetch_add(1, Ordering::SeqCst);
            }
        }));
        thread::sleep(QUIET_AFTER);
        let prefix = name.threads()[0][..5].to_owned();
        let switches = |prefix: &str| -> u64 { usage(prefix).values().map(|used| used.0).sum() };
        let (before, ticked) = (switches(&prefix), ticks.load(Ordering::SeqCst));
        thread::sleep(2 * LOOK);
        let (after, ticks) = (switches(&prefix), ticks.load(Ordering::SeqCst) - ticked);
        // Every 2 ms, and some for the workers.
        let looks = 60;
        let wakes = (after - before) as usize;
        assert!(ticks >= 5, "{ticks} ticks");
        assert!(
            wakes <= (ticks + 2) * (looks + 5),
            "{wakes} wake-ups for {ticks} ticks"
        );
        drop(runtime);
    });
}

/// Ten thousand sleeping tasks and a thousand open sockets in a process of their own: no thread of it
/// runs for two seconds.
#[test]
fn a_process_with_a_thousand_open_sockets_does_nothing() {
    let ended = alone(ALONE, &[], "costs_nothing", &[]);
    assert!(ended.ok, "{}", ended.output);
}
