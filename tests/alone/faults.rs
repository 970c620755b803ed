//! Programs whose system calls fail. Whoever starts these scenarios sees to it (`it/faults_system.rs`);
//! here nobody knows which calls, and how often.
#![forbid(unsafe_code)]

use heist::net::unix::{UnixDatagram, UnixStream};
use heist::net::{TcpListener, TcpStream, UdpSocket};
use heist::time::{Instant, sleep, timeout};
use heist::{Runtime, yield_now};
use heist_tests::support::{Reports, descriptors, eventually, thread_names};
use std::io;
use std::time::Duration;

/// What one connection carries, more than a socket's buffers hold.
const BYTES: usize = 1 << 20;
const CONNECTIONS: usize = 8;

fn pattern(n: usize) -> u8 {
    (n % 251) as u8
}

async fn send(stream: &TcpStream) -> io::Result<()> {
    let bytes: Vec<u8> = (0..BYTES).map(pattern).collect();
    stream.write_all(&bytes).await
}

async fn receive(stream: &TcpStream) -> io::Result<()> {
    let (mut buffer, mut seen) = (vec![0; 1 << 15], 0);
    while seen < BYTES {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for byte in &buffer[..read] {
            assert_eq!(*byte, pattern(seen));
            seen += 1;
        }
    }
    Ok(())
}

async fn streams() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = heist::spawn(async move {
        let mut serves = Vec::new();
        for _ in 0..CONNECTIONS {
            let (stream, _) = listener.accept().await?;
            serves.push(heist::spawn(async move {
                let both = futures::join!(receive(&stream), send(&stream));
                both.0.and(both.1)
            }));
        }
        for serve in serves {
            serve.await.expect("it does not panic")?;
        }
        io::Result::Ok(())
    });
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            heist::spawn(async move {
                let stream = TcpStream::connect(address).await?;
                let both = futures::join!(send(&stream), receive(&stream));
                both.0.and(both.1)
            })
        })
        .collect();
    for client in clients {
        client.await.expect("it does not panic")?;
    }
    server.await.expect("it does not panic")
}

async fn datagrams() -> io::Result<()> {
    let (one, other) = (
        UdpSocket::bind("127.0.0.1:0").await?,
        UdpSocket::bind("127.0.0.1:0").await?,
    );
    let (here, there) = (one.local_addr()?, other.local_addr()?);
    let mut buffer = [0; 64];
    for n in 0..20_u8 {
        one.send_to(&[n; 9], there).await?;
        assert_eq!(other.recv_from(&mut buffer).await?, (9, here));
        assert_eq!(buffer[..9], [n; 9]);
    }
    let (one, other) = UnixDatagram::pair()?;
    for n in 0..20_u8 {
        one.send(&[n; 9]).await?;
        assert_eq!(other.recv(&mut buffer).await?, 9);
        assert_eq!(buffer[..9], [n; 9]);
    }
    let (one, other) = UnixStream::pair()?;
    for n in 0..20_u8 {
        one.write_all(&[n; 9]).await?;
        let mut seen = 0;
        while seen < 9 {
            seen += other.read(&mut buffer[seen..9]).await?;
        }
        assert_eq!(buffer[..9], [n; 9]);
    }
    Ok(())
}

async fn timers() -> io::Result<()> {
    let tasks: Vec<_> = (0..50_u64)
        .map(|n| {
            heist::spawn(async move {
                let deadline = Instant::now() + Duration::from_micros(300 * n);
                heist::time::sleep_until(deadline).await;
                assert!(Instant::now() >= deadline, "early");
                yield_now().await;
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it does not panic");
    }
    let limit = Duration::from_millis(3);
    assert!(timeout(limit, std::future::pending::<()>()).await.is_err());
    assert_eq!(heist::spawn_blocking(|| 8).await.expect("it runs"), 8);
    Ok(())
}

fn assert_nothing_is_left(before: &[String]) {
    assert_eq!(descriptors(), before);
    eventually("one thread is left", || thread_names().len() == 1);
}

/// Sockets of all kinds, timers and closures: all of it works, nothing is early, and nothing is left.
pub(crate) fn everything_works() {
    let before = descriptors();
    let reports = Reports::default();
    let mut runtime = reports
        .of(Runtime::builder())
        .workers(2)
        .build()
        .expect("lazy");
    for _ in 0..3 {
        let all = async { futures::try_join!(streams(), datagrams(), timers()).map(drop) };
        runtime.run(all).expect("no call is to fail for good");
    }
    assert!(runtime.close().is_clean());
    assert_eq!(reports.all(), Vec::<String>::new());
    assert_nothing_is_left(&before);
}

/// The first attempts to have a socket fail, with the system's error and nothing left behind. A later one
/// succeeds, and everything works. Timers never need any of it.
pub(crate) fn refused_at_first() {
    let before = descriptors();
    let wanted: Option<i32> = std::env::var("HEIST_TEST_ERRNO")
        .ok()
        .and_then(|code| code.parse().ok());
    let wanted = wanted.expect("which error");
    heist::run(async {
        sleep(Duration::from_millis(1)).await;
        let mut refused = 0;
        loop {
            match TcpListener::bind("127.0.0.1:0").await {
                Ok(_) => break,
                Err(error) => assert_eq!(error.raw_os_error(), Some(wanted), "{error}"),
            }
            assert_eq!(
                descriptors(),
                before,
                "what was opened on the way is closed"
            );
            refused += 1;
            assert!(refused < 10, "it is refused for ever");
        }
        assert!(refused > 0, "no call has failed");
        futures::try_join!(streams(), datagrams(), timers()).map(drop)
    })
    .expect("it works now");
    assert_nothing_is_left(&before);
}

/// Some calls fail, in the middle of everything: an operation may answer the system's error, but must
/// answer; timers are kept; the end comes, and nothing is left.
pub(crate) fn some_fail() {
    let before = descriptors();
    let reports = Reports::default();
    let mut runtime = reports
        .of(Runtime::builder())
        .workers(2)
        .build()
        .expect("lazy");
    let mut failed = 0;
    for _ in 0..2 {
        runtime.run(async {
            let limit = Duration::from_secs(1);
            let streams = heist::spawn(timeout(limit, streams()));
            let datagrams = heist::spawn(timeout(limit, datagrams()));
            timers().await.expect("timers need no call that may fail");
            for ended in [streams.await, datagrams.await] {
                // The other end of a connection that failed may wait for it, or see its end.
                let ended = ended.expect("nothing panics");
                failed += usize::from(!matches!(ended, Ok(Ok(()))));
            }
        });
    }
    println!("{failed} of 4 failed");
    let report = runtime.close();
    assert!(report.abandoned.is_empty(), "{report}");
    assert_nothing_is_left(&before);
}
