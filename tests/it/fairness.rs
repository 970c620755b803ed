//! Promise 6: no task starves. The bounds are published constants, and these tests count polls
//! against them, on one worker without a spare, where the order of polls is the scheduler's alone.
//!
//! That is so as long as the worker is not taken for blocked, which happens when the system gives
//! its processor to others in the middle of a poll: then `main` leaves it, and two threads run side
//! by side. A round in which that happened shows nothing and is done again.
#![forbid(unsafe_code)]

use crate::support::{Gate, own_pair, within};
use futures::future::poll_immediate;
use heist::net::TcpListener;
use heist::time::{Instant, sleep};
use heist::{Handle, Runtime, yield_now};
use heist_core::{BUDGET, DRIVER_INTERVAL, INJECTOR_INTERVAL, LIFO_STREAK, LOCAL_QUEUE};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Poll;
use std::thread::{self, ThreadId};
use std::time::Duration;

fn one_worker() -> Runtime {
    Runtime::builder()
        .workers(1)
        .spare_workers(0)
        .build()
        .unwrap()
}

/// Two tasks that wake each other for ever; counts their polls.
fn pair(polls: &Arc<AtomicU32>) {
    let (left, right) = (
        async_channel::bounded::<()>(1),
        async_channel::bounded::<()>(1),
    );
    let player = |from: async_channel::Receiver<()>, to: async_channel::Sender<()>| {
        let polls = polls.clone();
        async move {
            while from.recv().await.is_ok() {
                polls.fetch_add(1, Ordering::SeqCst);
                if to.send(()).await.is_err() {
                    break;
                }
            }
        }
    };
    left.0.try_send(()).unwrap();
    drop(heist::spawn(player(left.1, right.0)));
    drop(heist::spawn(player(right.1, left.0)));
}

/// Runs a task on the one worker, which is a thread of the runtime: `main` has no part in it.
fn on_the_worker<T: Send + 'static>(
    runtime: &Runtime,
    task: impl Future<Output = T> + Send + 'static,
) -> T {
    let handle = runtime.handle();
    handle.block_on(handle.spawn(task)).unwrap()
}

/// Does `round` until `main` and the tasks have shared one thread all the time. `round` makes a
/// runtime of one worker, and tells whether they did and what it found.
pub(crate) fn on_one_thread<T>(mut round: impl FnMut() -> (bool, T)) -> T {
    for _ in 0..50 {
        if let (true, found) = round() {
            return found;
        }
    }
    panic!("`main` was driven off its worker fifty times in a row");
}

/// The thread that Send tasks run on now.
async fn thread_of_tasks() -> ThreadId {
    heist::spawn(async { thread::current().id() })
        .await
        .unwrap()
}

/// A task that yields for ever; counts its polls.
fn yielder(polls: &Arc<AtomicU32>) {
    let polls = polls.clone();
    drop(heist::spawn(async move {
        loop {
            polls.fetch_add(1, Ordering::SeqCst);
            yield_now().await;
        }
    }));
}

/// A pair keeps the LIFO slot busy for ever. A third task in the queue must come after at most
/// `LIFO_STREAK` of its polls, each time.
#[test]
fn a_pair_that_wakes_each_other_lets_a_third_task_run() {
    within(|| {
        let polls = Arc::new(AtomicU32::new(0));
        let mut runtime = one_worker();
        let count = polls.clone();
        runtime.run(async {
            let third = heist::spawn(async move {
                pair(&count);
                let mut worst = 0;
                for _ in 0..1000 {
                    let before = count.load(Ordering::SeqCst);
                    yield_now().await;
                    worst = worst.max(count.load(Ordering::SeqCst) - before);
                }
                worst
            });
            let worst = third.await.unwrap();
            // The player that a full streak sent to the end of the queue has its turn there too.
            assert!(
                worst <= LIFO_STREAK + 2,
                "the third task waited for {worst} polls of the pair"
            );
        });
        assert!(polls.load(Ordering::SeqCst) >= 500, "the pair starved");
    });
}

/// `main` is looked at before every poll of a Send task, so a pair holds it up for one poll.
#[test]
fn main_runs_between_any_two_polls_of_send_tasks() {
    within(|| {
        let (worst, polls) = on_one_thread(|| {
            let polls = Arc::new(AtomicU32::new(0));
            let (together, worst) = one_worker().run(async {
                pair(&polls);
                yielder(&polls);
                let mut worst = 0;
                for _ in 0..1000 {
                    let before = polls.load(Ordering::SeqCst);
                    yield_now().await;
                    worst = worst.max(polls.load(Ordering::SeqCst) - before);
                }
                (thread_of_tasks().await == thread::current().id(), worst)
            });
            (together, (worst, polls.load(Ordering::SeqCst)))
        });
        assert!(worst <= 2, "main waited for {worst} polls");
        assert!(polls >= 500, "the tasks starved");
    });
}

/// Local tasks that never rest, and Send tasks that never rest, share the thread of `run`: neither
/// kind may wait for more than a poll of each task of the other kind.
#[test]
fn local_and_send_tasks_take_turns() {
    within(|| {
        let (local, send) = on_one_thread(|| {
            let (local, send) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
            one_worker().run(async {
                for _ in 0..2 {
                    let local = local.clone();
                    drop(heist::spawn_local(async move {
                        loop {
                            local.fetch_add(1, Ordering::SeqCst);
                            yield_now().await;
                        }
                    }));
                    yielder(&send);
                }
                while local.load(Ordering::SeqCst) + send.load(Ordering::SeqCst) < 4000 {
                    yield_now().await;
                }
                // Here and not later: Send tasks go on when the run has ended.
                let polls = (local.load(Ordering::SeqCst), send.load(Ordering::SeqCst));
                (thread_of_tasks().await == thread::current().id(), polls)
            })
        });
        assert!(
            local.abs_diff(send) <= 100,
            "{local} polls of local tasks, {send} of Send tasks"
        );
    });
}

/// Tasks that yield keep the local queue busy for ever. A task spawned from outside must be reached
/// within `INJECTOR_INTERVAL` polls, and so must one that is woken from outside.
#[test]
fn work_from_outside_is_reached_within_the_injectors_interval() {
    within(|| {
        let polls = Arc::new(AtomicU32::new(0));
        let runtime = one_worker();
        let handle = runtime.handle();
        let worst = on_the_worker(&runtime, async move {
            for _ in 0..3 {
                yielder(&polls);
            }
            let mut worst = 0;
            for _ in 0..200 {
                let (count, outside) = (polls.clone(), handle.clone());
                let spawned = Gate::new();
                let is_spawned = spawned.clone();
                let before = Arc::new(AtomicU32::new(0));
                let noted = before.clone();
                // This task blocks the only worker while the other thread spawns, so the count of
                // polls is exact.
                let thread = thread::spawn(move || {
                    noted.store(count.load(Ordering::SeqCst), Ordering::SeqCst);
                    let task = outside.spawn({
                        let count = count.clone();
                        async move { count.load(Ordering::SeqCst) }
                    });
                    is_spawned.open();
                    task
                });
                spawned.wait();
                let task = thread.join().unwrap();
                let at = task.await.unwrap();
                worst = worst.max(at - before.load(Ordering::SeqCst));
            }
            worst
        });
        assert!(
            // The monitor may have taken the three to the injector, before what comes from outside.
            worst <= INJECTOR_INTERVAL + 1 + 3,
            "it was reached after {worst} polls"
        );
    });
}

/// The bound, and the polls of the queue that the woken task goes to the end of. The system may be
/// late to say what has happened, when its processors are busy: that is allowed for once in ten
/// times, for one look of the driver.
#[track_caller]
fn assert_within_the_drivers_interval(what: &str, late: &mut [u32]) {
    late.sort_unstable();
    let (most, all) = (late[late.len() * 9 / 10 - 1], late[late.len() - 1]);
    assert!(
        most <= DRIVER_INTERVAL + 8 && all <= 2 * (DRIVER_INTERVAL + 8),
        "{what} after so many polls: {late:?}"
    );
}

/// Tasks that yield keep the worker busy for ever. A timer that is due must fire within
/// `DRIVER_INTERVAL` polls.
#[test]
fn a_due_timer_fires_within_the_drivers_interval() {
    within(|| {
        let polls = Arc::new(AtomicU32::new(0));
        let runtime = one_worker();
        let handle = runtime.handle();
        for _ in 0..3 {
            // From outside: `main` does not share the thread.
            let polls = polls.clone();
            drop(handle.spawn(async move { yielder(&polls) }));
        }
        let late = handle.spawn(async move {
            let mut late = Vec::new();
            while late.len() < 40 {
                let deadline = Instant::now() + Duration::from_millis(3);
                let count = polls.clone();
                let task = heist::spawn(async move {
                    let mut timer = heist::sleep_until(deadline);
                    // Bound to the driver, which alone can wake this task from here on.
                    let is_late = poll_immediate(&mut timer).await.is_some();
                    timer.await;
                    (!is_late).then(|| count.load(Ordering::SeqCst))
                });
                // How many polls there were when it was first seen to be due.
                let mut due = None;
                while !task.is_finished() {
                    if due.is_none() && Instant::now() >= deadline {
                        due = Some(polls.load(Ordering::SeqCst));
                    }
                    yield_now().await;
                }
                if let Some(fired) = task.await.unwrap() {
                    late.push(fired.saturating_sub(due.unwrap_or(fired)));
                }
            }
            late
        });
        let mut late = handle.block_on(late).unwrap();
        assert_within_the_drivers_interval("timers fired", &mut late);
    });
}

/// The same for a socket that has become readable.
#[test]
fn a_ready_socket_is_served_within_the_drivers_interval() {
    within(|| {
        let polls = Arc::new(AtomicU32::new(0));
        let runtime = one_worker();
        let mut late = on_the_worker(&runtime, async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            peer.set_nodelay(true).unwrap();
            let stream = Arc::new(listener.accept().await.unwrap().0);
            for _ in 0..3 {
                yielder(&polls);
            }
            let mut late = Vec::new();
            for _ in 0..40 {
                let (count, stream) = (polls.clone(), stream.clone());
                let waits = Gate::new();
                let is_waiting = waits.clone();
                let task = heist::spawn(async move {
                    let mut byte = [0];
                    let mut read = Box::pin(stream.read(&mut byte));
                    assert!(poll_immediate(&mut read).await.is_none());
                    is_waiting.open();
                    assert_eq!(read.await.unwrap(), 1);
                    count.load(Ordering::SeqCst)
                });
                while !waits.is_open() {
                    yield_now().await;
                }
                let before = polls.load(Ordering::SeqCst);
                // On loopback the data is there when the call returns.
                std::io::Write::write_all(&mut peer, b"x").unwrap();
                late.push(task.await.unwrap() - before);
            }
            late
        });
        assert_within_the_drivers_interval("sockets were served", &mut late);
    });
}

/// What must get on beside a load: a task that yields, a timer, a pair of sockets. For each the longest
/// pause of a round.
#[derive(Clone, Copy, Debug, Default)]
struct Pauses {
    /// Between two polls of the task.
    task: Duration,
    /// How late a timer of 5 ms was.
    timer: Duration,
    /// From one message over the sockets to the next.
    socket: Duration,
}

/// None of them may pause for longer than this: the bound of promise 5 with scheduling, although no
/// worker is blocked here. By count of polls it is far less. It is the best round that counts, since a
/// pause of the machine is one of everybody in it, and whoever starves does so in each.
const PAUSE: Duration = Duration::from_millis(20);

const ROUND: Duration = Duration::from_millis(60);
const ROUNDS: usize = 12;

/// Measures the three for one round, in tasks of their own.
async fn pauses() -> Pauses {
    let end = std::time::Instant::now() + ROUND;
    let task = heist::spawn(longest(end, async || yield_now().await));
    let timer = heist::spawn(longest(end, async || sleep(Duration::from_millis(5)).await));
    let (client, server) = own_pair().await;
    drop(heist::spawn(async move {
        let mut byte = [0];
        while server.read(&mut byte).await.unwrap() == 1 {
            server.write_all(&byte).await.unwrap();
        }
    }));
    let socket = heist::spawn(longest(end, async move || {
        let mut byte = [0];
        client.write_all(&byte).await.unwrap();
        assert_eq!(client.read(&mut byte).await.unwrap(), 1);
    }));
    Pauses {
        task: task.await.unwrap(),
        timer: timer
            .await
            .unwrap()
            .saturating_sub(Duration::from_millis(5)),
        socket: socket.await.unwrap(),
    }
}

/// How long `step` took at most, again and again until `end`.
async fn longest<S: AsyncFnMut()>(end: std::time::Instant, mut step: S) -> Duration {
    let (mut last, mut longest) = (std::time::Instant::now(), Duration::ZERO);
    while last < end {
        step().await;
        let now = std::time::Instant::now();
        longest = longest.max(now - last);
        last = now;
    }
    longest
}

/// Starts a load on the runtime of this thread, which lasts until `stop`, and gives the threads that
/// are a part of it.
type Load = fn(Handle, Arc<AtomicBool>) -> Pin<Box<dyn Future<Output = Threads> + Send>>;
type Threads = Vec<thread::JoinHandle<()>>;

/// How often the rounds are done until nobody pauses for too long.
const ATTEMPTS: usize = 3;

/// Rounds with one worker and with two: nobody pauses for longer than the bound in the best, nor for as
/// long as a round in the better half.
#[track_caller]
fn assert_no_pause(what: &str, load: Load) {
    let _turn = crate::blocked::turn();
    for workers in [1, 2] {
        let mut paused = None;
        for _ in 0..ATTEMPTS {
            paused = too_long(within(move || {
                (0..ROUNDS).map(|_| round(workers, load)).collect()
            }));
            if paused.is_none() {
                break;
            }
        }
        if let Some(paused) = paused {
            panic!("{what}, {workers} workers: {paused}");
        }
    }
}

/// One round beside the load, on a runtime of its own.
fn round(workers: usize, load: Load) -> Pauses {
    // Spares are for blocked workers; here they would hide who starves.
    let builder = Runtime::builder().workers(workers).spare_workers(0);
    let runtime = builder.build().unwrap();
    let handle = runtime.handle();
    let stop = Arc::new(AtomicBool::new(false));
    let (inside, stopped) = (handle.clone(), stop.clone());
    let task = handle.spawn(async move {
        let threads = load(inside, stopped).await;
        (pauses().await, threads)
    });
    let (pauses, threads) = handle.block_on(task).unwrap();
    stop.store(true, Ordering::SeqCst);
    drop(runtime);
    for thread in threads {
        thread.join().unwrap();
    }
    pauses
}

/// Who paused for too long in these rounds, if anybody did.
fn too_long(mut rounds: Vec<Pauses>) -> Option<String> {
    type Pause = fn(&Pauses) -> Duration;
    let pauses: [(&str, Pause); 3] = [
        ("task", |round| round.task),
        ("timer", |round| round.timer),
        ("socket", |round| round.socket),
    ];
    pauses.into_iter().find_map(|(who, pause)| {
        rounds.sort_by_key(pause);
        let all: Vec<Duration> = rounds.iter().map(pause).collect();
        println!("the {who}: {all:?}");
        let is_kept = all[0] <= PAUSE && all[ROUNDS / 2] < ROUND;
        (!is_kept).then(|| format!("the {who} paused for {all:?}"))
    })
}

/// Two tasks that wake each other for ever.
#[test]
fn a_pair_that_wakes_each_other_starves_nobody() {
    assert_no_pause("a pair", |_, _| {
        Box::pin(async {
            pair(&Arc::default());
            Vec::new()
        })
    });
}

/// Tasks that yield for ever, so many that the queue of a worker is always full.
#[test]
fn tasks_that_yield_for_ever_starve_nobody() {
    assert_no_pause("yields", |_, _| {
        Box::pin(async {
            for _ in 0..LOCAL_QUEUE * 3 {
                yielder(&Arc::default());
            }
            Vec::new()
        })
    });
}

/// A foreign thread spawns without a pause.
#[test]
fn a_flood_of_foreign_spawns_starves_nobody() {
    assert_no_pause("foreign spawns", |handle, stop| {
        Box::pin(async move {
            let flood = thread::spawn(move || {
                let ran = Arc::new(AtomicU32::new(0));
                let mut spawned: u32 = 0;
                while !stop.load(Ordering::SeqCst) {
                    let count = ran.clone();
                    drop(handle.spawn(async move {
                        count.fetch_add(1, Ordering::SeqCst);
                    }));
                    spawned += 1;
                    // The flood has no end, but the injector is a queue: what comes from outside,
                    // and what the monitor wakes for a worker whose processor the system has taken
                    // away, is served behind all that is in it.
                    while spawned - ran.load(Ordering::SeqCst) > 256 && !stop.load(Ordering::SeqCst)
                    {
                        thread::yield_now();
                    }
                }
            });
            vec![flood]
        })
    });
}

/// Peers send without a pause to tasks that read without a pause: none of them ever waits.
#[test]
fn a_flood_of_ready_sockets_starves_nobody() {
    assert_no_pause("ready sockets", |_, stop| {
        Box::pin(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut peers = Vec::new();
            for _ in 0..4 {
                let mut peer =
                    std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let stream = listener.accept().await.unwrap().0;
                drop(heist::spawn(async move {
                    let mut byte = [0];
                    while stream.read(&mut byte).await.is_ok_and(|n| n == 1) {}
                }));
                let stop = stop.clone();
                peers.push(thread::spawn(move || {
                    let data = vec![0; 1 << 16];
                    // Ends when the reader is dropped, too.
                    while !stop.load(Ordering::SeqCst)
                        && std::io::Write::write(&mut peer, &data).is_ok()
                    {}
                }));
            }
            peers
        })
    });
}

/// Three hundred tasks yield, more than the queue of a worker holds: each gets the same number of
/// polls, within a fifth.
#[test]
fn tasks_that_yield_get_the_same_number_of_polls() {
    const TASKS: usize = 300;
    const TURNS: u32 = 200;
    within(|| {
        let runtime = one_worker();
        let counts = on_the_worker(&runtime, async {
            let counts: Vec<Arc<AtomicU32>> = (0..TASKS).map(|_| Arc::default()).collect();
            counts.iter().for_each(yielder);
            let polls = || counts.iter().map(|count| count.load(Ordering::SeqCst));
            while polls().sum::<u32>() < TURNS * TASKS as u32 {
                yield_now().await;
            }
            polls().collect::<Vec<u32>>()
        });
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        println!("{least} to {most} polls");
        assert!(
            *least >= TURNS * 8 / 10 && *most <= TURNS * 12 / 10,
            "from {least} to {most} polls: {counts:?}"
        );
    });
}

/// As many tasks yield as the queue of a worker holds, and some more or fewer. What one of them spawns
/// must run: an interval for each of the new ones, and the queue before it.
#[test]
fn new_tasks_run_beside_tasks_that_fill_the_queue() {
    const NEW: u32 = 10;
    within(|| {
        let queue = LOCAL_QUEUE as u32;
        for yielding in queue - 4..queue + 4 {
            let runtime = one_worker();
            let most = on_the_worker(&runtime, async move {
                let polls = Arc::new(AtomicU32::new(0));
                (0..yielding).for_each(|_| yielder(&polls));
                // They are new themselves, and not all of them fit at first.
                while polls.load(Ordering::SeqCst) < 50 * queue {
                    yield_now().await;
                }
                let before = polls.load(Ordering::SeqCst);
                let tasks: Vec<_> = (0..NEW)
                    .map(|_| {
                        let polls = polls.clone();
                        heist::spawn(async move { polls.load(Ordering::SeqCst) })
                    })
                    .collect();
                let mut most = 0;
                for task in tasks {
                    most = most.max(task.await.unwrap() - before);
                }
                most
            });
            let bound = (NEW + 1) * INJECTOR_INTERVAL + queue + 2;
            assert!(
                most <= bound,
                "{yielding} tasks yield: the last new one ran after {most} polls, bound {bound}"
            );
        }
    });
}

/// Each task of a tree spawns two more, without an end. A task that was there before must have its
/// turns, and the tree's first leaves must not wait for its last.
#[test]
fn a_tree_of_spawns_lets_older_tasks_run() {
    fn grow(polls: Arc<AtomicU32>, stop: Arc<AtomicBool>) {
        let tree = async move {
            polls.fetch_add(1, Ordering::SeqCst);
            if !stop.load(Ordering::SeqCst) {
                grow(polls.clone(), stop.clone());
                grow(polls, stop);
            }
        };
        drop(heist::spawn(
            Box::pin(tree) as Pin<Box<dyn Future<Output = ()> + Send>>
        ));
    }
    within(|| {
        let runtime = one_worker();
        let worst = on_the_worker(&runtime, async {
            let (polls, stop) = (
                Arc::new(AtomicU32::new(0)),
                Arc::new(AtomicBool::new(false)),
            );
            grow(polls.clone(), stop.clone());
            let mut worst = 0;
            for _ in 0..200 {
                let before = polls.load(Ordering::SeqCst);
                yield_now().await;
                worst = worst.max(polls.load(Ordering::SeqCst) - before);
            }
            stop.store(true, Ordering::SeqCst);
            worst
        });
        // The queue before it, each of whose tasks comes after a full streak; and two intervals
        // until there is room in a queue that was full.
        let bound = (LIFO_STREAK + 1) * LOCAL_QUEUE as u32 + 2 * INJECTOR_INTERVAL;
        println!("it waited for {worst} polls at most");
        assert!(
            0 < worst && worst <= bound,
            "an older task waited for {worst} polls, bound {bound}"
        );
    });
}

/// One poll of a task may complete so many operations on our sockets, timers and join handles, and
/// then must let others run although more are ready.
#[test]
fn one_poll_completes_at_most_a_budget_of_operations() {
    within(|| {
        one_worker().run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let stream = listener.accept().await.unwrap().0;
            std::io::Write::write_all(&mut peer, &[0; 1000]).unwrap();
            stream.readable().await.unwrap();
            let read = in_one_poll(async |done: &AtomicU32| {
                let mut byte = [0];
                while stream.read(&mut byte).await.unwrap() == 1 {
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
            assert_eq!(read.await, BUDGET, "reads");

            let slept = in_one_poll(async |done: &AtomicU32| {
                loop {
                    sleep(Duration::ZERO).await;
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
            assert_eq!(slept.await, BUDGET, "timers");

            let mut tasks: Vec<_> = (0..500).map(|_| heist::spawn(async {})).collect();
            while !tasks.iter().all(heist::JoinHandle::is_finished) {
                yield_now().await;
            }
            let joined = in_one_poll(async |done: &AtomicU32| {
                for task in &mut tasks {
                    task.await.unwrap();
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
            assert_eq!(joined.await, BUDGET, "join handles");
        });
    });
}

/// How many operations `body` completes in one poll of this task, with a full budget.
async fn in_one_poll<B: AsyncFnOnce(&AtomicU32)>(body: B) -> u32 {
    let done = AtomicU32::new(0);
    // A new poll has a new budget.
    yield_now().await;
    let mut body: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(body(&done));
    let pending = poll_fn(|cx| Poll::Ready(body.as_mut().poll(cx).is_pending())).await;
    assert!(pending, "it had no reason to stop");
    drop(body);
    done.load(Ordering::SeqCst)
}

/// A task that only awaits what is always ready must not keep `main` from its turn: the budget makes
/// it wait.
#[test]
fn a_task_that_is_never_pending_by_itself_lets_others_run() {
    within(|| {
        let worst = on_one_thread(|| {
            one_worker().run(async {
                let spinning = Arc::new(AtomicU32::new(0));
                let count = spinning.clone();
                drop(heist::spawn(async move {
                    loop {
                        sleep(Duration::ZERO).await;
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                }));
                let mut worst = 0;
                for _ in 0..100 {
                    let before = spinning.load(Ordering::SeqCst);
                    yield_now().await;
                    worst = worst.max(spinning.load(Ordering::SeqCst) - before);
                }
                (thread_of_tasks().await == thread::current().id(), worst)
            })
        });
        assert!(
            0 < worst && worst <= BUDGET,
            "main waited for {worst} operations"
        );
    });
}
