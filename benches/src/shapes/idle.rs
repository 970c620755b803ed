//! What a runtime costs while nothing happens: bytes of a task that waits, wake-ups of its threads.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use futures::channel::oneshot;
use futures::task::AtomicWaker;

use crate::alloc;
use crate::meter::{Held, Meter, Sample};
use crate::peer::{Net, Peer, Spawn, Timers, WakeSelf};
use crate::shapes::in_task;

/// How long a runtime may take to come to rest after the last activity.
const SETTLE: Duration = Duration::from_millis(700);
/// How long it is then watched.
const WATCH: Duration = Duration::from_secs(1);
/// The sleep of the tasks: longer than any run.
const HOUR: Duration = Duration::from_secs(3600);

/// Spawns `tasks` tasks that have been polled once and wait for somebody who holds their waker. An operation is one task,
/// and what is measured is the memory it holds, in whole bytes (what the runtime has once for all of them is less), which
/// is the runtime's: the future has a byte of state, and the wakers lie in memory that was there before.
///
/// # Errors
///
/// The program does not count its allocations.
pub fn bytes<P: Peer>(peer: &mut P, tasks: u64, batches: u64) -> io::Result<Sample> {
    let not_counting =
        || io::Error::other("memory is measured by the program `memory`, whose allocator counts");
    alloc::in_use().ok_or_else(not_counting)?;
    let inside = peer.inside();
    let mut sample = Sample::default();
    for _ in 0..batches {
        let inside = inside.clone();
        let one = in_task(peer, async move {
            // What is made once, and grows with bursts, is there before: a first burst has come and gone.
            burst(&inside, tasks, false).await;
            hold(tasks);
            let before = alloc::in_use();
            let meter = Meter::start();
            burst(&inside, tasks, true).await;
            let sample = meter.stop(tasks);
            let per_task = |before: f64, after: f64| ((after - before) / tasks as f64).round();
            let held = before.zip(alloc::in_use()).map(|(before, after)| Held {
                asked: per_task(before.asked, after.asked),
                given: per_task(before.given, after.given),
            });
            HELD.lock().expect("no task panicked").clear();
            (sample, held)
        });
        sample = one.0;
        sample.bytes = one.1;
    }
    Ok(sample)
}

/// Polls of the tasks of a burst, and who waits for them.
static POLLED: AtomicU64 = AtomicU64::new(0);
static WAITING: AtomicWaker = AtomicWaker::new();
/// The wakers of the tasks that stay. Some runtimes drop a task that nobody can wake.
static HELD: Mutex<Vec<Waker>> = Mutex::new(Vec::new());

/// Spawns `tasks` tasks and waits until each was polled. They wait for ever if they are to `stay`, else they end.
async fn burst<S: Spawn>(spawner: &S, tasks: u64, stay: bool) {
    // Ordering: Relaxed. Bursts come one after the other; the tasks of this one are spawned below.
    POLLED.store(0, Ordering::Relaxed);
    for _ in 0..tasks {
        spawner.spawn_detached(poll_fn(move |cx| {
            if stay {
                let mut held = HELD.lock().expect("no task panicked");
                held.push(cx.waker().clone());
            }
            // Ordering: Release. Pairs with the Acquire in `burst`: allocations before the poll are counted by then.
            POLLED.fetch_add(1, Ordering::Release);
            WAITING.wake();
            if stay { Poll::Pending } else { Poll::Ready(()) }
        }));
    }
    poll_fn(|cx| {
        // First register, then look: a poll in between finds the waker.
        WAITING.register(cx.waker());
        // Ordering: Acquire. Pairs with the Release in the tasks.
        if POLLED.load(Ordering::Acquire) < tasks {
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
    // The polls that counted last may still be on their way out, on another thread.
    for _ in 0..1000 {
        WakeSelf::default().await;
    }
}

/// Makes room for so many wakers, which is then not counted.
fn hold(tasks: u64) {
    HELD.lock()
        .expect("no task panicked")
        .reserve(tasks as usize);
}

/// `tasks` tasks sleep for an hour and `sockets` connections wait for a byte that does not come, while the context
/// switches of the process's threads are counted, the watching one's left out. An operation is a second.
///
/// # Errors
///
/// Those of the sockets, and of `/proc`.
pub fn wakeups<P: Net + Timers>(
    peer: &mut P,
    tasks: u64,
    sockets: usize,
    batches: u64,
) -> io::Result<Sample> {
    let inside = peer.inside();
    let (tell, told) = oneshot::channel();
    let (tell_end, end) = oneshot::channel::<()>();
    let watcher = thread::Builder::new().spawn(move || -> io::Result<Sample> {
        let addr: SocketAddr = futures::executor::block_on(told).map_err(io::Error::other)?;
        let clients = (0..sockets)
            .map(|_| TcpStream::connect(addr))
            .collect::<io::Result<Vec<_>>>()?;
        thread::sleep(SETTLE);
        let meter = Meter::start();
        let mut switches = 0;
        for _ in 0..batches {
            let before = switches_of_others()?;
            thread::sleep(WATCH);
            for (thread, now) in switches_of_others()? {
                switches += now - before.get(&thread).unwrap_or(&0);
            }
        }
        let mut sample = meter.stop(batches);
        sample.switches = switches;
        drop(clients);
        // The main future waits for it, unless it has failed.
        let _ = tell_end.send(());
        Ok(sample)
    })?;
    let spawner = inside.clone();
    in_task(peer, async move {
        for _ in 0..tasks {
            spawner.spawn_detached(async { P::sleep(HOUR).await });
        }
        let listener = P::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        tell.send(P::local_addr(&listener)?)
            .map_err(|_| io::Error::other("the watcher has gone"))?;
        let mut readers = Vec::new();
        for _ in 0..sockets {
            let mut stream = P::accept(&listener).await?;
            readers.push(spawner.spawn(async move { P::read(&mut stream, &mut [0]).await }));
        }
        end.await.map_err(io::Error::other)?;
        for reader in readers {
            assert_eq!(reader.await?, 0, "the watcher sends nothing");
        }
        Ok::<_, io::Error>(())
    })?;
    watcher.join().expect("the watcher panicked")
}

/// Context switches so far of every thread of the process but the calling one.
fn switches_of_others() -> io::Result<HashMap<String, u64>> {
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut found = HashMap::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name == own {
            continue;
        }
        // A thread may end between the two.
        let Ok(status) = fs::read_to_string(format!("/proc/self/task/{name}/status")) else {
            continue;
        };
        let switches = status
            .lines()
            .filter(|line| line.contains("ctxt_switches:"))
            .filter_map(|line| line.rsplit(char::is_whitespace).next()?.parse::<u64>().ok())
            .sum();
        found.insert(name, switches);
    }
    Ok(found)
}
