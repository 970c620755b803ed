#![forbid(unsafe_code)]
#![cfg(unix)]

use std::future::poll_fn;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;

use futures_io::{AsyncRead, AsyncWrite};

use super::Async;
use super::testing::{assert_closed, both, now, run, within};

/// One side waits in `read_with` before the other writes. The wait must end with the data.
#[test]
fn a_read_waits_for_data() {
    run(|| async {
        let (a, b) = UnixStream::pair().unwrap();
        let (a, b) = (Async::new(a).unwrap(), Async::new(b).unwrap());
        let mut buf = [0; 16];
        let read = a.read_with(|mut io| io.read(&mut buf));
        let write = b.write_with(|mut io| io.write(b"hello"));
        let (n, m) = both(read, write).await;
        assert_eq!((n.unwrap(), m.unwrap()), (5, 5));
        assert_eq!(&buf[..5], b"hello");
    });
}

/// The traits of `futures-io`, by reference and by value, over the same descriptors.
#[test]
fn futures_io_by_reference_and_by_value() {
    run(|| async {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut a, b) = (Async::new(a).unwrap(), Async::new(b).unwrap());
        let mut buf = [0; 4];
        let write = poll_fn(|cx| Pin::new(&mut &b).poll_write(cx, b"ping"));
        assert_eq!(write.await.unwrap(), 4);
        poll_fn(|cx| Pin::new(&mut &b).poll_flush(cx))
            .await
            .unwrap();
        let read = poll_fn(|cx| Pin::new(&mut a).poll_read(cx, &mut buf));
        assert_eq!(read.await.unwrap(), 4);
        assert_eq!(&buf, b"ping");
        drop(b);
        let read = poll_fn(|cx| Pin::new(&mut &a).poll_read(cx, &mut buf));
        assert_eq!(read.await.unwrap(), 0);
    });
}

/// A short read through `read_with` says nothing about what is left: the rest must be readable
/// without a further event.
#[test]
fn a_short_read_keeps_the_readiness() {
    run(|| async {
        let (a, mut b) = UnixStream::pair().unwrap();
        let a = Async::new(a).unwrap();
        b.write_all(b"onetwo").unwrap();
        a.readable().await.unwrap();
        for expected in [b"one", b"two"] {
            let mut buf = [0; 3];
            let n = a.try_read_with(|mut io| io.read(&mut buf)).unwrap();
            assert_eq!((n, &buf), (3, expected));
        }
        let again = a.try_read_with(|mut io| io.read(&mut [0; 3])).unwrap_err();
        assert_eq!(again.kind(), std::io::ErrorKind::WouldBlock);
    });
}

/// `into_inner` ends the registration, so that the same descriptor can be registered anew.
#[test]
fn a_descriptor_can_come_back() {
    run(|| async {
        let (a, mut b) = UnixStream::pair().unwrap();
        let number = a.as_fd().as_raw_fd();
        let a = Async::new(a).unwrap().into_inner().unwrap();
        assert_eq!(a.as_fd().as_raw_fd(), number);
        let a = Async::new(a).unwrap();
        b.write_all(b"x").unwrap();
        let n = a.read_with(|mut io| io.read(&mut [0; 4])).await.unwrap();
        assert_eq!(n, 1);
    });
}

/// Descriptor numbers are reused at once. The event of a dead one must not make its successor
/// look readable.
#[test]
fn a_reused_number_starts_unready() {
    run(|| async {
        for _ in 0..100 {
            let (a, mut b) = UnixStream::pair().unwrap();
            let a = Async::new(a).unwrap();
            b.write_all(b"x").unwrap();
            drop(a);
            drop(b);
            let (c, _d) = UnixStream::pair().unwrap();
            let c = Async::new(c).unwrap();
            let early = c.try_read_with(|mut io| io.read(&mut [0; 4])).unwrap_err();
            assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
        }
    });
}

/// The last writer of a named pipe leaves, which is the end of the stream and sticky, and another
/// one comes. The reader must wait for its data, neither spinning on the old end nor missing it.
#[cfg(target_os = "linux")]
#[test]
fn a_named_pipe_can_have_one_writer_after_another() {
    use std::os::unix::fs::OpenOptionsExt;

    run(|| async {
        let path = std::env::temp_dir().join(format!("heist-{}.fifo", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let reader = std::fs::File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .unwrap();
        let open_writer = || std::fs::File::options().write(true).open(&path).unwrap();
        let reader = Async::new(reader).unwrap();
        let mut buf = [0; 4];
        for round in 0..3u8 {
            let mut writer = open_writer();
            {
                let mut read = std::pin::pin!(reader.read_with(|mut io| io.read(&mut buf)));
                let polled = poll_fn(|cx| {
                    use std::future::Future;
                    std::task::Poll::Ready(read.as_mut().poll(cx))
                })
                .await;
                assert!(polled.is_pending(), "round {round}");
                writer.write_all(&[round]).unwrap();
                assert_eq!(read.await.unwrap(), 1);
            }
            assert_eq!(buf[0], round);
            drop(writer);
            let end = reader.read_with(|mut io| io.read(&mut buf)).await;
            assert_eq!(end.unwrap(), 0, "round {round}");
        }
        std::fs::remove_file(&path).unwrap();
    });
}

/// A regular file cannot be polled: the answer is an error, not a wait for ever.
#[cfg(target_os = "linux")]
#[test]
fn a_regular_file_is_refused() {
    run(|| async {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let refused = Async::new(file).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    });
}

#[test]
fn outside_a_runtime_is_an_error() {
    let (a, _b) = UnixStream::pair().unwrap();
    assert!(Async::new(a).is_err());
}

/// The runtime ends while the descriptor lives on. Whoever would have to wait is told so.
#[test]
fn a_closed_runtime_ends_every_wait() {
    within(|| {
        let (a, _b) = UnixStream::pair().unwrap();
        let a = crate::run(async { Async::new(a).unwrap() });
        assert_closed(&now(a.readable()).unwrap_err());
        assert_closed(&now(a.read_with(|mut io| io.read(&mut [0; 4]))).unwrap_err());
        drop(a);
    });
}
