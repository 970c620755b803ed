//! Processes that run out of descriptors.
#![forbid(unsafe_code)]

use heist::net::{TcpListener, TcpStream, UdpSocket};
use heist::time::timeout;
use heist_tests::support::descriptors;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;

/// From here on the process may open `more` descriptors.
fn leave(more: u64) {
    // The lowest that is free is the first that a call gets, and the limit is on its number.
    let free = std::fs::File::open("/dev/null").expect("one is left");
    let lowest = std::os::fd::AsRawFd::as_raw_fd(&free) as u64;
    drop(free);
    let limit = Rlimit {
        current: Some(lowest + more),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("a limit may be lowered");
}

fn unlimited() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum.or(Some(4096)),
        maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("a limit may be raised again");
}

/// Nanoseconds that this process has used.
fn used() -> u64 {
    let mut used = 0;
    for task in std::fs::read_dir("/proc/self/task")
        .expect("/proc")
        .flatten()
    {
        let ran = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        used += ran
            .split_whitespace()
            .next()
            .and_then(|ran| ran.parse::<u64>().ok())
            .unwrap_or(0);
    }
    used
}

/// Connections wait at a listener while the process has no descriptor left. `accept` must neither
/// fail nor spin, and must go on when descriptors are there again, with every connection.
pub(crate) fn accept_without_descriptors() {
    heist::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        // The driver and everything else is there.
        let warm = (TcpStream::connect(address).await, listener.accept().await);
        heist::sleep(Duration::from_millis(1)).await;
        // Clients on the standard library's sockets, made beforehand.
        let clients: Vec<_> = (0..5)
            .map(|_| std::net::TcpStream::connect(address).expect("a client"))
            .collect();
        // So that the looks at /proc, which need a descriptor, work: they are done before and after.
        let before = used();
        leave(0);
        let waited = timeout(Duration::from_millis(500), listener.accept()).await;
        assert!(
            waited.is_err(),
            "there was no descriptor to accept with: {waited:?}"
        );
        unlimited();
        let spent = Duration::from_nanos(used() - before);
        // Ten pauses and their timers: a spin would take all of the half second.
        assert!(
            spent < Duration::from_millis(100),
            "accepting without success took {spent:?}"
        );

        // The other way: it is pending when the descriptors come back.
        leave(0);
        let accepting = heist::spawn(async move {
            let mut accepted = Vec::new();
            while accepted.len() < 5 {
                accepted.push(
                    listener
                        .accept()
                        .await
                        .expect("a shortage is not the caller's error")
                        .1,
                );
            }
            accepted
        });
        heist::sleep(Duration::from_millis(30)).await;
        assert!(!accepting.is_finished());
        unlimited();
        let mut peers = accepting.await.expect("the task ends");
        let mut wanted: Vec<_> = clients
            .iter()
            .map(|c| c.local_addr().expect("it is open"))
            .collect();
        peers.sort();
        wanted.sort();
        assert_eq!(peers, wanted);
        drop(warm);
    });
}

/// Everything that needs a descriptor and gets none answers with the system's error.
pub(crate) fn no_descriptors_left() {
    let before = descriptors();
    leave(0);
    // The first socket also needs a driver, which cannot be had either.
    heist::run(async {
        // Timers and tasks need none.
        heist::spawn(async { heist::sleep(Duration::from_millis(1)).await })
            .await
            .expect("it ends");
        let errors = [
            TcpListener::bind("127.0.0.1:0").await.err(),
            TcpStream::connect("127.0.0.1:9").await.err(),
            UdpSocket::bind("127.0.0.1:0").await.err(),
        ];
        for error in errors {
            let error = error.expect("there is no descriptor");
            // EMFILE is 24 everywhere that this runs.
            assert_eq!(error.raw_os_error(), Some(24), "{error}");
        }
    });
    // Each number of descriptors that is not enough: what was opened on the way is closed again.
    unlimited();
    for more in 1..8 {
        leave(more);
        heist::run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await;
            if let Err(error) = &listener {
                assert_eq!(error.raw_os_error(), Some(24), "{more} left: {error}");
            }
        });
        unlimited();
        assert_eq!(descriptors(), before, "{more} left");
    }
    heist::run(async { TcpListener::bind("127.0.0.1:0").await.map(drop) }).expect("enough again");
    assert_eq!(descriptors(), before);
}

/// A thousand connections come and go through one runtime: no descriptor more at the end.
pub(crate) fn connections_come_and_go() {
    let outside = descriptors();
    heist::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let server = heist::spawn(async move {
            for n in 0..1001_u32 {
                let (stream, _) = listener.accept().await.expect("a connection");
                let serves = async move {
                    let mut buffer = [0; 8];
                    loop {
                        match stream.read(&mut buffer).await {
                            Ok(0) => break,
                            Ok(length) => stream
                                .write_all(&buffer[..length])
                                .await
                                .expect("it is read"),
                            // The client may reset it.
                            Err(_) => break,
                        }
                    }
                };
                // In its own task, in none, or left to be dropped without having been served.
                match n % 3 {
                    0 => serves.await,
                    1 => heist::spawn(serves).await.expect("it ends"),
                    _ => drop(serves),
                }
            }
            listener
        });
        let mut before = Vec::new();
        for n in 0..1001_u32 {
            let stream = TcpStream::connect(address)
                .await
                .expect("the listener is there");
            if n % 3 != 2 {
                stream.write_all(b"hello").await.expect("it is open");
                let mut buffer = [0; 8];
                let length = stream.read(&mut buffer).await.expect("it is open");
                assert_eq!(&buffer[..length], b"hello");
            } else {
                // A server that went away without a word: the end, or a reset.
                let _ = stream.read(&mut [0]).await;
            }
            if n % 7 == 0 {
                stream.set_linger(Some(Duration::ZERO)).expect("it is open");
            }
            drop(stream);
            if n == 0 {
                before = descriptors();
            }
        }
        let listener = server.await.expect("it ends");
        let after = descriptors();
        // The first connection's own end may still have been open at the first look.
        assert!(after.len() <= before.len(), "{before:?} became {after:?}");
        drop(listener);
    });
    assert_eq!(descriptors(), outside);
}
