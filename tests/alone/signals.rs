//! Real signals, some thousands in a second, during every system call of a busy runtime: the handler does
//! not ask for calls to go on, so each that waits is interrupted (`EINTR`). Nobody may notice.
//!
//! The disposition of a signal belongs to the process, and setting one needs unsafe code, hence this
//! program of its own.
#![cfg(unix)]

use heist::net::{TcpListener, TcpStream, UdpSocket};
use heist::time::{Instant, sleep};
use heist::{Builder, yield_now};
use heist_tests::support::within;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many signals have arrived.
static ARRIVED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: libc::c_int) {
    ARRIVED.fetch_add(1, Ordering::Relaxed);
}

/// Sends this process a signal every 300 µs, until it is dropped.
struct Storm;

impl Storm {
    fn begin() -> Storm {
        // SAFETY: integers, a signal set and an optional function pointer; zero is a value of each.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        let handler: extern "C" fn(libc::c_int) = count;
        // No `SA_RESTART`: calls that wait end with `EINTR`.
        action.sa_sigaction = handler as libc::sighandler_t;
        // SAFETY: `action` is a valid one, and its handler only adds to an atomic number.
        let set = unsafe { libc::sigaction(libc::SIGALRM, &action, ptr::null_mut()) };
        assert_eq!(set, 0);
        Storm::every(300);
        Storm
    }

    fn every(micros: libc::suseconds_t) {
        let period = libc::timeval {
            tv_sec: 0,
            tv_usec: micros,
        };
        let timer = libc::itimerval {
            it_interval: period,
            it_value: period,
        };
        // SAFETY: `timer` is a valid one. Its signal has the handler of `begin`.
        let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) };
        assert_eq!(set, 0);
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        Storm::every(0);
    }
}

async fn echo(rounds: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = heist::spawn(async move {
        for _ in 0..rounds {
            let (stream, _) = listener.accept().await.unwrap();
            drop(heist::spawn(async move {
                let mut buffer = [0; 4096];
                loop {
                    match stream.read(&mut buffer).await.unwrap() {
                        0 => break,
                        read => stream.write_all(&buffer[..read]).await.unwrap(),
                    }
                }
            }));
        }
    });
    for _ in 0..rounds {
        let stream = TcpStream::connect(address).await.unwrap();
        let sent = [7; 3000];
        stream.write_all(&sent).await.unwrap();
        let (mut got, mut buffer) = (0, [0; 4096]);
        while got < sent.len() {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0 && buffer[..read].iter().all(|byte| *byte == 7));
            got += read;
        }
    }
    server.await.unwrap();
}

async fn datagrams(rounds: usize) {
    let (one, other) = futures::join!(
        UdpSocket::bind("127.0.0.1:0"),
        UdpSocket::bind("127.0.0.1:0")
    );
    let (one, other) = (one.unwrap(), other.unwrap());
    let there = other.local_addr().unwrap();
    for n in 0..rounds {
        one.send_to(&n.to_ne_bytes(), there).await.unwrap();
        let mut buffer = [0; 16];
        assert_eq!(other.recv(&mut buffer).await.unwrap(), size_of::<usize>());
    }
}

async fn timers(rounds: usize) {
    for n in 0..rounds {
        let deadline = Instant::now() + Duration::from_micros(37 * n as u64);
        sleep(Duration::from_micros(37 * n as u64)).await;
        assert!(Instant::now() >= deadline, "early");
        yield_now().await;
    }
}

/// Sockets, timers, tasks, blocking closures, foreign threads in `block_on`, and runtimes that begin and
/// end, all the while.
#[test]
fn signals_interrupt_nothing() {
    within(|| {
        let storm = Storm::begin();
        for workers in [1, 2, 4] {
            let mut runtime = Builder::new().workers(workers).build().unwrap();
            let handle = runtime.handle();
            runtime.run(async {
                let other = std::thread::spawn(move || {
                    for n in 0..100 {
                        assert_eq!(handle.block_on(handle.spawn(async move { n })).unwrap(), n);
                    }
                });
                let calls: Vec<_> = (0..20_u64)
                    .map(|n| {
                        heist::spawn_blocking(move || {
                            std::thread::sleep(Duration::from_micros(n * 50));
                            n
                        })
                    })
                    .collect();
                let tasks = [
                    heist::spawn(echo(20)),
                    heist::spawn(datagrams(200)),
                    heist::spawn(timers(60)),
                ];
                for task in tasks {
                    task.await.unwrap();
                }
                for (n, call) in calls.into_iter().enumerate() {
                    assert_eq!(call.await.unwrap(), n as u64);
                }
                heist::spawn_blocking(move || other.join().unwrap())
                    .await
                    .unwrap();
            });
            assert!(runtime.close().is_clean());
        }
        for n in 0..50 {
            assert_eq!(
                heist::run(async move { heist::spawn(async move { n }).await.unwrap() }),
                n
            );
        }
        drop(storm);
        let arrived = ARRIVED.load(Ordering::Relaxed);
        println!("{arrived} signals arrived");
        assert!(arrived > 100, "only {arrived} signals arrived");
    });
}
