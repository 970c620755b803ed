//! What everybody else notices of one who misbehaves: latency distributions beside blockers and floods.
//!
//! Everybody else are probes: a task that sleeps to a fixed timetable (lateness), the same task yielding once (time to be
//! polled again), a socket asked to a fixed timetable from a foreign thread (time to the answer). The timetables go on
//! whatever happens, so a stall of half a second counts as often as probes were due in it, and not once.
#![forbid(unsafe_code)]

use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::channel::oneshot;

use crate::meter::{Meter, Sample, histogram};
use crate::peer::{Full, Net, Peer, Spawn, Timers, WakeSelf};
use crate::shapes::in_task;

/// Between two probes of a timetable.
const PERIOD: Duration = Duration::from_millis(2);
/// How long before the blocker blocks, so that all probes are on their way.
const LEAD: Duration = Duration::from_millis(50);
/// A socket that does not answer for so long never will.
const LIMIT: Duration = Duration::from_secs(20);
/// A chunk of the flood of sockets.
const CHUNK: usize = 16 * 1024;
/// Connections of that flood.
const FLOODED: usize = 8;
/// Tasks of the flood of spawns that may be waiting at once. Without a bound, a fast producer would fill the memory.
const OUTSTANDING: u64 = 10_000;

/// Who misbehaves beside the probes of [`fairness`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Two tasks that wake each other all the time.
    Pair,
    /// Sockets that are always ready, on both sides.
    Sockets,
    /// A foreign thread that spawns all the time.
    Spawns,
}

/// A task wakes `woken` tasks, and then blocks its worker for `block`. An operation is one of the woken, its latency from
/// the wake-up to the poll.
pub fn woken<P: Peer>(peer: &mut P, woken: u64, block: Duration, batches: u64) -> Sample {
    let inside = peer.inside();
    in_task(peer, async move {
        let mut latency = histogram();
        let meter = Meter::start();
        for _ in 0..batches {
            let waiting = Arc::new(AtomicU64::new(0));
            let mut senders = Vec::new();
            let mut handles = Vec::new();
            for _ in 0..woken {
                let (sender, receiver) = oneshot::channel::<Instant>();
                senders.push(sender);
                let waiting = waiting.clone();
                handles.push(inside.spawn(async move {
                    // Ordering: Relaxed. A hint: one who is not waiting yet is not late either.
                    waiting.fetch_add(1, Ordering::Relaxed);
                    receiver.await.expect("the blocker sends").elapsed()
                }));
            }
            let blocker = inside.spawn(async move {
                // Ordering: Relaxed. See above.
                while waiting.load(Ordering::Relaxed) < woken {
                    WakeSelf::default().await;
                }
                for sender in senders {
                    sender.send(Instant::now()).expect("the woken waits");
                }
                thread::sleep(block);
            });
            for handle in handles {
                latency.saturating_record(handle.await.as_nanos() as u64);
            }
            blocker.await;
        }
        assert_eq!(latency.len(), woken * batches, "every one was woken");
        meter.stop(woken * batches).with_latency(&latency)
    })
}

/// `probes` tasks keep a timetable of sleeps while a task blocks its worker for `block`. An operation is one sleep, its
/// latency the lateness.
pub fn timers<P: Timers>(peer: &mut P, probes: u64, block: Duration, batches: u64) -> Sample {
    let inside = peer.inside();
    in_task(peer, async move {
        let count = probes_during(block);
        let mut latency = histogram();
        let meter = Meter::start();
        for _ in 0..batches {
            let begin = Instant::now();
            let tasks: Vec<_> = (0..probes)
                .map(|_| inside.spawn(timetable::<P>(begin, count, Yields::No)))
                .collect();
            let blocker = inside.spawn(block_after_lead::<P>(block));
            for task in tasks {
                for nanos in task.await {
                    latency.saturating_record(nanos);
                }
            }
            blocker.await;
        }
        let ops = probes * count * batches;
        assert_eq!(latency.len(), ops, "every sleep ended");
        meter.stop(ops).with_latency(&latency)
    })
}

/// `probes` connections are asked to a timetable while a task blocks its worker for `block`. An operation is one request,
/// its latency the time to the answer.
///
/// # Errors
///
/// Those of the sockets.
pub fn sockets<P: Net + Timers>(
    peer: &mut P,
    probes: u64,
    block: Duration,
    batches: u64,
) -> io::Result<Sample> {
    let inside = peer.inside();
    in_task(peer, async move {
        let count = probes_during(block);
        let mut latency = histogram();
        let meter = Meter::start();
        for _ in 0..batches {
            let asked = ask::<P>(&inside, probes, count).await?;
            let blocker = inside.spawn(block_after_lead::<P>(block));
            for nanos in asked.await? {
                latency.saturating_record(nanos);
            }
            blocker.await;
        }
        let ops = probes * count * batches;
        assert_eq!(latency.len(), ops, "every request was answered");
        Ok(meter.stop(ops).with_latency(&latency))
    })
}

/// Two timetables and a socket beside a flood, `period` long. An operation is one probe.
///
/// # Errors
///
/// Those of the sockets.
pub fn fairness<P: Full>(
    peer: &mut P,
    flood: Flood,
    period: Duration,
    batches: u64,
) -> io::Result<Sample> {
    let (inside, outside) = (peer.inside(), peer.outside());
    in_task(peer, async move {
        let count = (period.as_nanos() / PERIOD.as_nanos()) as u64;
        let mut latency = histogram();
        let meter = Meter::start();
        for _ in 0..batches {
            let enough = Arc::new(AtomicBool::new(false));
            let flooding = match flood {
                Flood::Pair => pair(&inside, &enough),
                Flood::Sockets => ready_sockets::<P>(&inside, &enough).await?,
                Flood::Spawns => vec![foreign_spawns(&inside, outside.clone(), enough.clone())],
            };
            let asked = ask::<P>(&inside, 1, count).await?;
            let begin = Instant::now();
            let tasks = [Yields::Once, Yields::Once]
                .map(|yields| inside.spawn(timetable::<P>(begin, count, yields)));
            for task in tasks {
                for nanos in task.await {
                    latency.saturating_record(nanos);
                }
            }
            for nanos in asked.await? {
                latency.saturating_record(nanos);
            }
            // Ordering: Relaxed. It only ends the loops of the flood.
            enough.store(true, Ordering::Relaxed);
            for task in flooding {
                task.await;
            }
        }
        // Each of the two tasks has a sleep and a yield per period, the socket one request.
        let ops = 5 * count * batches;
        assert_eq!(latency.len(), ops, "every probe came back");
        Ok(meter.stop(ops).with_latency(&latency))
    })
}

/// So many probes of a timetable reach from before a block to after it.
fn probes_during(block: Duration) -> u64 {
    ((2 * LEAD + block).as_nanos() / PERIOD.as_nanos()) as u64
}

async fn block_after_lead<P: Timers>(block: Duration) {
    P::sleep(LEAD).await;
    thread::sleep(block);
}

/// Whether a timetable also yields at each of its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Yields {
    No,
    Once,
}

/// Sleeps to `count` times, [`PERIOD`] apart, and returns the lateness of each in nanoseconds, then with
/// [`Yields::Once`] how long the yield took.
async fn timetable<P: Timers>(begin: Instant, count: u64, yields: Yields) -> Vec<u64> {
    let mut late = Vec::with_capacity(2 * count as usize);
    for number in 1..=count {
        let due = begin + PERIOD * number as u32;
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            P::sleep(left).await;
        }
        let now = Instant::now();
        late.push((now - due).as_nanos() as u64);
        if yields == Yields::Once {
            P::yield_now().await;
            late.push(now.elapsed().as_nanos() as u64);
        }
    }
    late
}

/// Echoes on `connections` connections, which foreign threads ask `count` times each, to a timetable. The future that is
/// returned has the time to each answer, in nanoseconds.
async fn ask<P: Net>(
    spawner: &P::Inside,
    connections: u64,
    count: u64,
) -> io::Result<impl Future<Output = io::Result<Vec<u64>>> + Send + 'static> {
    let listener = P::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let addr = P::local_addr(&listener)?;
    let (tell, told) = oneshot::channel();
    let foreign = thread::Builder::new().spawn(move || {
        let asked: Vec<_> = (0..connections)
            .map(|_| thread::spawn(move || ask_one(addr, count)))
            .collect();
        let mut all = Ok(Vec::new());
        for one in asked {
            let one = one.join().expect("a foreign thread panicked");
            all = all.and_then(|mut all: Vec<u64>| {
                all.extend(one?);
                Ok(all)
            });
        }
        // The main task waits for it, unless it has failed.
        let _ = tell.send(all);
    })?;
    let mut echoes = Vec::new();
    for _ in 0..connections {
        let mut stream = P::accept(&listener).await?;
        echoes.push(spawner.spawn(async move {
            let mut buf = [0; 64];
            loop {
                match P::read(&mut stream, &mut buf).await? {
                    0 => return Ok::<_, io::Error>(()),
                    n => P::write_all(&mut stream, &buf[..n]).await?,
                }
            }
        }));
    }
    Ok(async move {
        let all = told.await.map_err(io::Error::other)?;
        for echo in echoes {
            echo.await?;
        }
        foreign.join().expect("a foreign thread panicked");
        all
    })
}

/// Sends the time to `addr` `count` times, [`PERIOD`] apart, while another thread takes the answers.
fn ask_one(addr: SocketAddr, count: u64) -> io::Result<Vec<u64>> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut answers = stream.try_clone()?;
    let begin = Instant::now();
    let taker = thread::Builder::new().spawn(move || -> io::Result<Vec<u64>> {
        let mut late = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let mut sent = [0; 8];
            answers.read_exact(&mut sent)?;
            let now = begin.elapsed().as_nanos() as u64;
            late.push(now - u64::from_le_bytes(sent));
        }
        Ok(late)
    })?;
    for number in 1..=count {
        let due = begin + PERIOD * number as u32;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let now = begin.elapsed().as_nanos() as u64;
        stream.write_all(&now.to_le_bytes())?;
    }
    taker.join().expect("the taker of answers panicked")
}

/// A task of a flood, as it is awaited.
type Join<S> = <S as Spawn>::Join<()>;

/// Two tasks, each waiting for the other's message.
fn pair<S: Spawn>(spawner: &S, enough: &Arc<AtomicBool>) -> Vec<Join<S>> {
    let (there, from_here) = async_channel::bounded(1);
    let (back, from_there) = async_channel::bounded(1);
    there.try_send(()).expect("the channel is empty");
    [(back, from_here), (there, from_there)]
        .into_iter()
        .map(|(sender, receiver)| {
            let enough = enough.clone();
            spawner.spawn(async move {
                // Ordering: Relaxed. It only ends the loop. The other one ends when it can neither send nor receive.
                while !enough.load(Ordering::Relaxed) && receiver.recv().await.is_ok() {
                    if sender.send(()).await.is_err() {
                        break;
                    }
                }
            })
        })
        .collect()
}

/// Connections of the runtime with itself, one side writing, the other reading, as fast as they can.
async fn ready_sockets<P: Net>(
    spawner: &P::Inside,
    enough: &Arc<AtomicBool>,
) -> io::Result<Vec<Join<P::Inside>>> {
    let listener = P::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let addr = P::local_addr(&listener)?;
    let mut tasks = Vec::new();
    for _ in 0..FLOODED {
        let mut writer = P::connect(addr).await?;
        let mut reader = P::accept(&listener).await?;
        let enough = enough.clone();
        tasks.push(spawner.spawn(async move {
            let chunk = vec![b'x'; CHUNK];
            // Ordering: Relaxed. It only ends the loop.
            while !enough.load(Ordering::Relaxed) {
                P::write_all(&mut writer, &chunk)
                    .await
                    .expect("the flood is read");
            }
        }));
        tasks.push(spawner.spawn(async move {
            let mut buf = vec![0; CHUNK];
            while P::read(&mut reader, &mut buf)
                .await
                .expect("the flood goes on")
                > 0
            {}
        }));
    }
    Ok(tasks)
}

/// A foreign thread that spawns tasks which do nothing. What is awaited is a task that ends when all of them have.
fn foreign_spawns<I: Spawn, O: Spawn>(spawner: &I, outside: O, enough: Arc<AtomicBool>) -> Join<I> {
    let (tell, told) = oneshot::channel();
    let thread = thread::spawn(move || {
        let outstanding = Arc::new(AtomicU64::new(0));
        // Ordering: Relaxed, all of them. A number to be compared, and the end of a loop.
        while !enough.load(Ordering::Relaxed) {
            if outstanding.load(Ordering::Relaxed) >= OUTSTANDING {
                thread::yield_now();
                continue;
            }
            outstanding.fetch_add(1, Ordering::Relaxed);
            let outstanding = outstanding.clone();
            outside.spawn_detached(async move {
                outstanding.fetch_sub(1, Ordering::Relaxed);
            });
        }
        while outstanding.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
        // Somebody awaits the task below.
        let _ = tell.send(());
    });
    spawner.spawn(async move {
        told.await.expect("the foreign thread panicked");
        thread.join().expect("the foreign thread panicked");
    })
}
