//! A socket moves to the worker where it is waited for, and to no other thread; whoever waits, and
//! whatever arrives meanwhile, is not lost.
#![forbid(unsafe_code)]

use crate::support::{Gate, LIMIT, OpenOnDrop, own_pair, pair, within, within_for};
use async_channel::Sender;
use heist::net::TcpStream;
use heist::{Runtime, yield_now};
use heist_io::{Driver, MOVE_AFTER};
use std::io::{Read, Write};
use std::net::TcpStream as StdStream;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The driver of the runtime that the caller is in.
fn driver() -> Arc<Driver> {
    heist_core::with_seam(|seam| seam.as_any().downcast_ref::<Arc<Driver>>().cloned())
        .flatten()
        .expect("inside a runtime")
}

/// Where the sources of a driver are.
fn used(driver: &Driver) -> Vec<usize> {
    (0..driver.shards())
        .filter(|shard| driver.is_used(*shard))
        .collect()
}

/// Sends back what comes, to the end.
async fn echo(stream: TcpStream) {
    let mut buf = [0; 512];
    loop {
        match stream.read(&mut buf).await.unwrap() {
            0 => break,
            n => stream.write_all(&buf[..n]).await.unwrap(),
        }
    }
}

/// There and back, blocking.
#[track_caller]
fn round_trip(peer: &mut StdStream, round: u32) {
    let sent = round.to_le_bytes();
    let mut back = [0; 4];
    peer.write_all(&sent).unwrap();
    peer.read_exact(&mut back)
        .expect("a message was lost: no answer within seconds");
    assert_eq!(back, sent);
}

/// `main` keeps worker 0 busy, whose shard has the socket, so that its task runs on worker 1 each time.
/// The socket goes there, once, and stays there.
#[test]
fn a_socket_moves_to_the_worker_that_waits_for_it() {
    within(|| {
        let mut runtime = Runtime::builder()
            .workers(2)
            .spare_workers(0)
            .build()
            .unwrap();
        runtime.run(async {
            let driver = driver();
            let (stream, mut peer) = pair().await;
            assert_eq!(used(&driver), [0]);
            let server = heist::spawn(echo(stream));
            let (mut rounds, begin) = (0, Instant::now());
            // It is waited for in some of them: on a busy machine what was sent is often there when it is asked for.
            while used(&driver) != [1] {
                round_trip(&mut peer, rounds);
                rounds += 1;
                assert!(begin.elapsed() < LIMIT / 2, "it has not moved: {driver:?}");
            }
            assert!(rounds >= u32::from(MOVE_AFTER) - 1, "after {rounds} rounds");
            for round in 0..200 {
                round_trip(&mut peer, round);
            }
            assert_eq!((used(&driver), driver.moves()), (vec![1], 1));
            drop(peer);
            server.await.unwrap();
            assert!(used(&driver).is_empty());
        });
    });
}

/// The only worker is blocked and a spare serves the socket. It will go, so the socket does not come.
#[test]
fn a_spare_worker_attracts_no_socket() {
    within(|| {
        let mut runtime = Runtime::builder()
            .workers(1)
            .spare_workers(1)
            .build()
            .unwrap();
        runtime.run(async {
            let driver = driver();
            driver.set_patience(1, 1);
            let (stream, mut peer) = pair().await;
            let server = heist::spawn(echo(stream));
            for round in 0..50 {
                round_trip(&mut peer, round);
            }
            assert_eq!((used(&driver), driver.moves()), (vec![0], 0));
            drop(peer);
            server.await.unwrap();
        });
    });
}

/// The socket is waited for by a thread outside, in `block_on`, and by worker 1 of another runtime.
/// Neither is a shard's owner here.
#[test]
fn a_thread_of_no_or_another_runtime_attracts_no_socket() {
    within(|| {
        let mut runtime = Runtime::builder().workers(2).build().unwrap();
        let handle = runtime.handle();
        runtime.run(async {
            let driver = driver();
            driver.set_patience(1, 1);
            let (one, two) = (pair().await, pair().await);
            let (stream, mut peer) = one;
            let foreign = thread::spawn(move || handle.block_on(echo(stream)));
            let asking = heist::spawn_blocking(move || {
                for round in 0..50 {
                    round_trip(&mut peer, round);
                }
            });
            asking.await.unwrap();
            heist::spawn_blocking(move || foreign.join().unwrap())
                .await
                .unwrap();

            let (stream, mut peer) = two;
            let other = heist::spawn_blocking(move || {
                let mut other = Runtime::builder()
                    .workers(2)
                    .spare_workers(0)
                    .build()
                    .unwrap();
                other.run(async {
                    let server = heist::spawn(echo(stream));
                    // Worker 0 of the other runtime is busy with this, so its worker 1 has the task.
                    for round in 0..50 {
                        round_trip(&mut peer, round);
                    }
                    drop(peer);
                    server.await.unwrap();
                });
            });
            other.await.unwrap();
            assert_eq!(driver.moves(), 0);
        });
    });
}

/// How many messages have come back.
#[derive(Default)]
struct Progress(Mutex<u32>, Condvar);

impl Progress {
    fn get(&self) -> u32 {
        *self.0.lock().unwrap()
    }

    fn add(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }

    /// Blocks the thread until there are so many.
    fn wait(&self, target: u32) {
        let waited =
            self.1
                .wait_timeout_while(self.0.lock().unwrap(), Duration::from_secs(8), |count| {
                    *count < target
                });
        let count = *waited.unwrap().0;
        assert!(
            count >= target,
            "{count} messages of {target}: it hangs; {:?}",
            driver()
        );
    }
}

/// Spawns a task that blocks its worker while the other one serves so many messages, and then has a
/// task like itself started there, since here the worker is still blocked. `alive` is dropped by the
/// last one.
fn relay(progress: Arc<Progress>, all: u32, started: &Gate, alive: Sender<()>) {
    const TURN: u32 = 500;
    let started = started.clone();
    drop(heist::spawn(async move {
        started.open();
        let target = (progress.get() + TURN).min(all);
        progress.wait(target);
        if target < all {
            let next = Gate::new();
            relay(progress, all, &next, alive);
            next.wait();
        } else {
            drop(alive);
        }
    }));
}

/// 100,000 messages through eight connections, where each client's two directions are used by tasks of
/// their own. The two workers are blocked in turns, so that all work goes to and fro between them, and
/// with it, since one wait is enough here, all sockets.
#[test]
fn messages_survive_sockets_that_move_all_the_time() {
    const PAIRS: u32 = 8;
    const MESSAGES: u32 = 100_000 / PAIRS;
    /// Messages under way in each connection.
    const WINDOW: usize = 16;
    within_for(Duration::from_secs(60), || {
        let mut runtime = Runtime::builder()
            .workers(2)
            .spare_workers(0)
            .build()
            .unwrap();
        let (moves, left) = runtime.run(async {
            let driver = driver();
            driver.set_patience(1, 1);
            let progress = Arc::new(Progress::default());
            let mut tasks = Vec::new();
            for _ in 0..PAIRS {
                let (client, server) = own_pair().await;
                let client = Arc::new(client);
                tasks.push(heist::spawn(echo(server)));
                let (permit, permits) = async_channel::bounded::<()>(WINDOW);
                let writer = client.clone();
                tasks.push(heist::spawn(async move {
                    for message in 0..MESSAGES {
                        permit.send(()).await.unwrap();
                        writer.write_all(&message.to_le_bytes()).await.unwrap();
                    }
                }));
                let progress = progress.clone();
                tasks.push(heist::spawn(async move {
                    for message in 0..MESSAGES {
                        let mut back = [0; 4];
                        let mut have = 0;
                        while have < back.len() {
                            let n = client.read(&mut back[have..]).await.unwrap();
                            assert_ne!(n, 0, "the stream ended at message {message}");
                            have += n;
                        }
                        assert_eq!(u32::from_le_bytes(back), message);
                        progress.add();
                        permits.recv().await.unwrap();
                    }
                }));
            }
            let (alive, ended) = async_channel::bounded(1);
            relay(progress, PAIRS * MESSAGES, &Gate::new(), alive);
            for task in tasks {
                task.await.unwrap();
            }
            // A runtime that closes would start no next one.
            ended.recv().await.unwrap_err();
            (driver.moves(), used(&driver))
        });
        println!("{moves} moves");
        assert!(moves > 500, "only {moves} moves: the stress is none");
        assert!(left.is_empty(), "sources are left in the driver");
    });
}

/// Tasks are cancelled, sockets dropped and the runtime closed while sockets move all the time.
#[test]
fn a_runtime_closes_while_its_sockets_move() {
    within(|| {
        let mut answers = 0;
        for round in 0..30 {
            let mut runtime = Runtime::builder().workers(2).build().unwrap();
            let busy = Gate::new();
            let (driver, clients) = runtime.run(async {
                let driver = driver();
                driver.set_patience(1, 1);
                let mut clients = Vec::new();
                for _ in 0..4 {
                    let (stream, mut peer) = pair().await;
                    let task = heist::spawn(echo(stream));
                    if round % 2 == 0 {
                        drop(task);
                    } else {
                        let abort = task.abort_handle();
                        let busy = busy.clone();
                        drop(heist::spawn(async move {
                            let _open = OpenOnDrop(busy);
                            yield_now().await;
                            abort.abort();
                        }));
                    }
                    clients.push(thread::spawn(move || {
                        // Until the other side ends, in whatever way.
                        let mut back = [0; 4];
                        let mut answers = 0;
                        while peer.write_all(b"ping").is_ok() && peer.read_exact(&mut back).is_ok()
                        {
                            assert_eq!(&back, b"ping");
                            answers += 1;
                        }
                        answers
                    }));
                }
                // Worker 0 is busy for a moment, so that worker 1 has the tasks.
                thread::sleep(Duration::from_millis(5));
                if round % 2 == 1 {
                    busy.wait();
                }
                (driver, clients)
            });
            let report = runtime.close();
            assert_eq!(report.threads_left, 0, "{report}");
            assert!(used(&driver).is_empty(), "sources are left in the driver");
            for client in clients {
                let answered: u32 = client.join().unwrap();
                answers += answered;
            }
        }
        assert!(
            answers > 0,
            "no runtime was closed in the middle of anything"
        );
    });
}
