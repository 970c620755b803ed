//! In-memory streams: plain pipes outside of a simulation, and inside of one as unpleasant as sockets are.
#![forbid(unsafe_code)]

use crate::support::{CountingWaker, panic_text, run};
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use heist::sim::{Duplex, DuplexStream, Explore, duplex};
use heist::time::{Instant, timeout};
use std::cell::Cell;
use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

fn read(stream: &mut DuplexStream, waker: &Waker, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    Pin::new(stream).poll_read(&mut Context::from_waker(waker), buffer)
}

fn write(stream: &mut DuplexStream, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
    Pin::new(stream).poll_write(&mut Context::from_waker(waker), bytes)
}

/// What a call that is ready has moved.
#[track_caller]
fn moved(polled: Poll<io::Result<usize>>) -> usize {
    match polled {
        Poll::Ready(Ok(count)) => count,
        other => panic!("{other:?}"),
    }
}

/// The error of a call that is ready.
#[track_caller]
fn error(polled: Poll<io::Result<usize>>) -> ErrorKind {
    match polled {
        Poll::Ready(Err(error)) => error.kind(),
        other => panic!("{other:?}"),
    }
}

/// Outside of a simulation, and even of a runtime, as much is moved as can be, and whoever has to wait is
/// woken once.
#[test]
fn outside_it_is_a_plain_pipe() {
    let (mut left, mut right) = duplex(4);
    let (reads, reader) = CountingWaker::new();
    let (writes, writer) = CountingWaker::new();
    let buffer = &mut [0; 8];
    assert!(read(&mut right, &reader, buffer).is_pending());
    assert_eq!(moved(write(&mut left, &writer, b"abcdef")), 4);
    assert_eq!(reads.wakes(), 1);
    assert!(write(&mut left, &writer, b"ef").is_pending());
    assert_eq!(moved(read(&mut right, &reader, &mut buffer[..3])), 3);
    assert_eq!(&buffer[..3], b"abc");
    assert_eq!(writes.wakes(), 1);
    assert_eq!(moved(write(&mut left, &writer, b"ef")), 2);
    assert_eq!(moved(read(&mut right, &reader, buffer)), 3);
    assert_eq!(&buffer[..3], b"def");
    // The other direction is independent.
    assert_eq!(moved(write(&mut right, &writer, b"back")), 4);
    assert_eq!(moved(read(&mut left, &reader, buffer)), 4);
    assert_eq!((reads.wakes(), writes.wakes()), (1, 1));
    // Nothing to move is no reason to wait.
    assert_eq!(moved(read(&mut left, &reader, &mut [])), 0);
    assert_eq!(moved(write(&mut left, &writer, &[])), 0);
}

/// A waiter that is polled with another waker is woken by the last one alone.
#[test]
fn the_last_waker_is_woken() {
    let (mut left, mut right) = duplex(4);
    let (firsts, first) = CountingWaker::new();
    let (seconds, second) = CountingWaker::new();
    let buffer = &mut [0; 8];
    assert!(read(&mut right, &first, buffer).is_pending());
    assert!(read(&mut right, &second, buffer).is_pending());
    assert_eq!(moved(write(&mut left, &first, b"a")), 1);
    assert_eq!((firsts.wakes(), seconds.wakes()), (0, 1));
}

/// The end of one direction is told after what was written before it; the other goes on.
#[test]
fn a_closed_side_ends_after_its_bytes() {
    let (mut left, mut right) = duplex(8);
    let noop = Waker::noop();
    assert_eq!(moved(write(&mut left, noop, b"last")), 4);
    let (reads, reader) = CountingWaker::new();
    let closed = Pin::new(&mut left).poll_close(&mut Context::from_waker(noop));
    assert!(matches!(closed, Poll::Ready(Ok(()))));
    assert_eq!(error(write(&mut left, noop, b"more")), BrokenPipe);
    let buffer = &mut [0; 8];
    assert_eq!(moved(read(&mut right, &reader, buffer)), 4);
    assert_eq!(moved(read(&mut right, &reader, buffer)), 0);
    assert_eq!(moved(read(&mut right, &reader, buffer)), 0);
    assert_eq!(moved(write(&mut right, noop, b"back")), 4);
    assert_eq!(moved(read(&mut left, &reader, buffer)), 4);
    assert_eq!(reads.wakes(), 0);
}

/// An end that is dropped wakes whoever waits for it.
#[test]
fn a_dropped_end_wakes_the_other() {
    let (mut left, right) = duplex(2);
    let (reads, reader) = CountingWaker::new();
    let (writes, writer) = CountingWaker::new();
    let buffer = &mut [0; 8];
    assert_eq!(moved(write(&mut left, &writer, b"ab")), 2);
    assert!(write(&mut left, &writer, b"c").is_pending());
    assert!(read(&mut left, &reader, buffer).is_pending());
    drop(right);
    assert_eq!((reads.wakes(), writes.wakes()), (1, 1));
    assert_eq!(error(write(&mut left, &writer, b"c")), BrokenPipe);
    assert_eq!(moved(read(&mut left, &reader, buffer)), 0);
}

/// A reset loses what is under way, wakes everybody, and is told to both.
#[test]
fn a_reset_is_told_to_both_ends() {
    let (mut left, mut right) = duplex(2);
    let (wakes, waker) = CountingWaker::new();
    let buffer = &mut [0; 8];
    assert_eq!(moved(write(&mut left, &waker, b"ab")), 2);
    assert!(write(&mut left, &waker, b"c").is_pending());
    assert!(read(&mut left, &waker, buffer).is_pending());
    right.reset();
    assert_eq!(wakes.wakes(), 2);
    for stream in [&mut left, &mut right] {
        assert_eq!(error(read(stream, &waker, buffer)), ConnectionReset);
        assert_eq!(error(write(stream, &waker, b"c")), ConnectionReset);
        let flushed = Pin::new(&mut *stream).poll_flush(&mut Context::from_waker(&waker));
        assert!(matches!(flushed, Poll::Ready(Err(error)) if error.kind() == ConnectionReset));
        let closed = Pin::new(&mut *stream).poll_close(&mut Context::from_waker(&waker));
        assert!(matches!(closed, Poll::Ready(Err(error)) if error.kind() == ConnectionReset));
    }
}

#[test]
fn a_pipe_without_room_is_refused() {
    assert!(panic_text(|| duplex(0)).contains("room for a byte"));
}

/// On a real runtime, with tasks at both ends.
#[test]
fn two_tasks_talk_through_it() {
    run(async {
        let (mut client, mut server) = duplex(3);
        let echo = heist::spawn(async move {
            let mut all = Vec::new();
            server.read_to_end(&mut all).await?;
            server.write_all(&all).await
        });
        let sent: Vec<u8> = (0..=255).collect();
        client.write_all(&sent).await.unwrap();
        client.close().await.unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, sent);
        echo.await.unwrap().unwrap();
    });
}

const BYTES: usize = 64;

/// One end sends, the other receives: how many reads and how much virtual time that took.
async fn transfer(duplex: Duplex) -> (usize, Duration, io::Result<Vec<u8>>) {
    let begin = Instant::now();
    let (mut left, mut right) = duplex.pair();
    let sender = heist::spawn(async move {
        let sent: Vec<u8> = (0..BYTES as u8).collect();
        left.write_all(&sent).await
    });
    let mut received = Vec::new();
    let mut reads = 0;
    let ended = loop {
        let mut buffer = [0; BYTES];
        reads += 1;
        match right.read(&mut buffer).await {
            Ok(0) => break Ok(received),
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) => break Err(error),
        }
    };
    let sent = sender.await.unwrap();
    assert_eq!(sent.is_ok(), ended.is_ok() || reads > 1 && sent.is_ok());
    (reads, begin.elapsed(), ended)
}

/// In a simulation all bytes come, in order, but how many at once differs from seed to seed.
#[test]
fn the_seed_cuts_reads_and_writes() {
    let (fewest, most) = (Cell::new(usize::MAX), Cell::new(0));
    Explore::new()
        .seeds(100)
        .run_twice_one_in(10)
        .run(async || {
            let (reads, _, ended) = transfer(Duplex::new(1000)).await;
            assert_eq!(ended.unwrap(), (0..BYTES as u8).collect::<Vec<u8>>());
            fewest.set(fewest.get().min(reads));
            most.set(most.get().max(reads));
        });
    assert_eq!(fewest.get(), 2, "all at once, and the end");
    assert!(most.get() > 4, "{} reads", most.get());
}

/// Delays are of virtual time and as long as asked for; with none, no time passes.
#[test]
fn the_seed_delays_operations() {
    let longest = Cell::new(Duration::ZERO);
    let minute = Duration::from_secs(60);
    Explore::new().seeds(50).run(async || {
        let (reads, took, ended) = transfer(Duplex::new(16).delays_up_to(minute)).await;
        assert!(ended.is_ok());
        assert!(
            took < minute * 4 * reads as u32,
            "{took:?} in {reads} reads"
        );
        longest.set(longest.get().max(took));
    });
    assert!(longest.get() > minute, "{longest:?}");
    Explore::new().seeds(50).run(async || {
        let (_, took, ended) = transfer(Duplex::new(16).delays_up_to(Duration::ZERO)).await;
        assert!(ended.is_ok());
        // A worker may be held up, for 8 ms at most.
        assert!(took < Duration::from_millis(50), "{took:?}");
    });
}

/// Resets come about as often as asked for, and never unasked.
#[test]
fn the_seed_resets_the_connection() {
    let resets = Cell::new(0);
    Explore::new().seeds(200).run(async || {
        let (_, _, ended) = transfer(Duplex::new(16).reset_one_in(20)).await;
        if let Err(error) = ended {
            assert_eq!(error.kind(), ConnectionReset);
            resets.set(resets.get() + 1);
        }
    });
    assert!((20..180).contains(&resets.get()), "{} of 200", resets.get());
}

/// A read or write that is dropped before it is ready has moved nothing: with a limit on every single
/// operation, shorter than its delays, all bytes come all the same.
#[test]
fn an_operation_that_is_dropped_moves_nothing() {
    let dropped = Cell::new(0);
    Explore::new().seeds(50).run(async || {
        let limit = Duration::from_micros(200);
        let (mut left, mut right) = Duplex::new(5).delays_up_to(Duration::from_millis(1)).pair();
        let sender = heist::spawn(async move {
            let mut sent = 0;
            while sent < BYTES {
                let bytes = [sent as u8, sent as u8 + 1];
                if let Ok(count) = timeout(limit, left.write(&bytes)).await {
                    sent += count.unwrap();
                }
            }
            sent
        });
        let mut received = Vec::new();
        loop {
            let mut buffer = [0; 3];
            match timeout(limit, right.read(&mut buffer)).await {
                Ok(Ok(0)) => break,
                Ok(count) => received.extend_from_slice(&buffer[..count.unwrap()]),
                Err(_) => dropped.set(dropped.get() + 1),
            }
        }
        let sent = sender.await.unwrap();
        assert_eq!(received, (0..sent as u8).collect::<Vec<u8>>());
    });
    assert!(dropped.get() > 50, "{} reads were dropped", dropped.get());
}
