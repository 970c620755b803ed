//! An idle process: nothing but a runtime whose tasks all sleep.
#![forbid(unsafe_code)]

use heist::net::{TcpListener, TcpStream};
use heist::{Runtime, sleep};
use heist_tests::support::{LIMIT, descriptors};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const TASKS: usize = 10_000;
const PAIRS: usize = 500;

/// How often each thread but this one has gone to sleep, was interrupted, and for how many
/// nanoseconds it ran. A system call that does not sleep shows in the last.
fn usage() -> BTreeMap<String, (u64, u64, u64)> {
    let me = std::process::id().to_string();
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc");
    tasks
        .flatten()
        .filter(|task| *task.file_name() != *me)
        .map(|task| {
            let read = |file: &str| std::fs::read_to_string(task.path().join(file));
            let status = read("status").expect("no thread ends here");
            let number = |line: &str| {
                let found = status.lines().find_map(|l| l.strip_prefix(line));
                found.and_then(|n| n.trim().parse().ok()).expect("a count")
            };
            let ran = read("schedstat").expect("no thread ends here");
            let ran = ran.split_whitespace().next().and_then(|n| n.parse().ok());
            let used = (
                number("voluntary_ctxt_switches:"),
                number("nonvoluntary_ctxt_switches:"),
                ran.expect("a count"),
            );
            (task.file_name().to_string_lossy().into_owned(), used)
        })
        .collect()
}

/// Ten thousand tasks sleep for an hour, a thousand sockets are open and half of them waited for. From
/// 200 ms on no thread runs at all. `HEIST_IDLE_SECONDS` is how long it is watched, for who wants to
/// look at it with other means as well.
pub(crate) fn costs_nothing() {
    let seconds = std::env::var("HEIST_IDLE_SECONDS").ok();
    let seconds = seconds.map_or(2, |n| n.parse().expect("a number of seconds"));
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum.or(Some(4096)),
        maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("the limit may be raised to its maximum");
    let (ready, is_ready) = mpsc::channel();
    let (stop, stopped) = async_channel::bounded::<()>(1);
    let runs = thread::spawn(move || {
        let mut runtime = Runtime::builder().workers(2).build().expect("a runtime");
        runtime.run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            let address = listener.local_addr().expect("an address");
            let mut clients = Vec::new();
            for _ in 0..PAIRS {
                let (client, server) =
                    futures::join!(TcpStream::connect(address), listener.accept());
                clients.push(client.expect("a connection"));
                let server = server.expect("a connection").0;
                drop(heist::spawn(async move { server.read(&mut [0]).await }));
            }
            let asleep = Arc::new(AtomicUsize::new(0));
            for _ in 0..TASKS {
                let asleep = asleep.clone();
                drop(heist::spawn(async move {
                    asleep.fetch_add(1, Ordering::SeqCst);
                    sleep(Duration::from_secs(3600)).await;
                }));
            }
            while asleep.load(Ordering::SeqCst) < TASKS {
                heist::yield_now().await;
            }
            ready.send(()).expect("somebody waits for it");
            stopped.recv().await.expect("it is told to stop");
            drop(clients);
        });
    });
    is_ready.recv_timeout(LIMIT).expect("all are asleep");
    assert!(descriptors().len() >= 2 * PAIRS, "the sockets are open");
    // A machine under load may stretch the 200 ms, so there are three looks.
    let mut looks = Vec::new();
    let is_quiet = (0..3).any(|_| {
        thread::sleep(Duration::from_millis(300));
        let before = usage();
        thread::sleep(Duration::from_secs(seconds));
        let after = usage();
        let same = before == after;
        looks.push((before, after));
        same
    });
    assert!(
        is_quiet,
        "threads ran (number: switches, interruptions, nanoseconds): {looks:#?}"
    );
    // The thread of `run` and the monitor, at least.
    assert!(looks[0].0.len() >= 2, "{looks:?}");
    stop.send_blocking(()).expect("it waits");
    runs.join().expect("it ends");
}
