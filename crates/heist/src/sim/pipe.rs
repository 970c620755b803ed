//! What two [`DuplexStream`](super::DuplexStream)s share: two pipes and a lock.
//!
//! Nothing here is left to chance. The streams decide how much is moved and when, and this file moves it.
//! Wakers are cloned before the lock is taken, and woken or dropped after it was given back, since all
//! three are user code.

#![forbid(unsafe_code)]

use heist_core::{drop_foreign, wake_foreign};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::task::{Poll, Waker};

/// Which end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Left,
    Right,
}

impl End {
    fn other(self) -> End {
        match self {
            End::Left => End::Right,
            End::Right => End::Left,
        }
    }
}

/// Both directions.
#[derive(Debug)]
pub(super) struct Connection {
    capacity: usize,
    /// Held for the length of a copy, and never with user code inside.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What `Left` writes, and what `Right` writes.
    pipes: [Pipe; 2],
    is_reset: bool,
}

#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// The writer has closed it, or is gone.
    is_ended: bool,
    /// The reader is gone.
    is_deaf: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn wakers(&mut self) -> impl Iterator<Item = Waker> + use<> {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten()
    }
}

impl Connection {
    pub(super) fn new(capacity: usize) -> Connection {
        Connection {
            capacity,
            state: Mutex::default(),
        }
    }

    /// Takes up to `most` of what is there into `buffer`. Ready with 0 at the end, or if there is no room
    /// in `buffer`.
    pub(super) fn poll_read(
        &self,
        reader: End,
        waker: &Waker,
        buffer: &mut [u8],
        most: impl FnOnce(usize) -> usize,
    ) -> Poll<io::Result<usize>> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        let is_reset = state.is_reset;
        let pipe = &mut state.pipes[reader.other() as usize];
        let there = pipe.bytes.len().min(buffer.len());
        let (answer, old, wake) = if is_reset {
            (Poll::Ready(Err(reset())), Some(waker), None)
        } else if there > 0 {
            let count = most(there);
            for (to, from) in buffer.iter_mut().zip(pipe.bytes.drain(..count)) {
                *to = from;
            }
            (Poll::Ready(Ok(count)), Some(waker), pipe.writer.take())
        } else if buffer.is_empty() || pipe.is_ended {
            (Poll::Ready(Ok(0)), Some(waker), None)
        } else {
            (Poll::Pending, pipe.reader.replace(waker), None)
        };
        drop(state);
        old.into_iter().for_each(drop_foreign);
        wake.into_iter().for_each(wake_foreign);
        answer
    }

    /// Puts up to `most` of `bytes` in, as far as there is room.
    pub(super) fn poll_write(
        &self,
        writer: End,
        waker: &Waker,
        bytes: &[u8],
        most: impl FnOnce(usize) -> usize,
    ) -> Poll<io::Result<usize>> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        let is_reset = state.is_reset;
        let pipe = &mut state.pipes[writer as usize];
        let room = (self.capacity - pipe.bytes.len()).min(bytes.len());
        let (answer, old, wake) = if is_reset {
            (Poll::Ready(Err(reset())), Some(waker), None)
        } else if pipe.is_ended || pipe.is_deaf {
            let error = io::Error::from(io::ErrorKind::BrokenPipe);
            (Poll::Ready(Err(error)), Some(waker), None)
        } else if room > 0 {
            let count = most(room);
            pipe.bytes.extend(&bytes[..count]);
            (Poll::Ready(Ok(count)), Some(waker), pipe.reader.take())
        } else if bytes.is_empty() {
            (Poll::Ready(Ok(0)), Some(waker), None)
        } else {
            (Poll::Pending, pipe.writer.replace(waker), None)
        };
        drop(state);
        old.into_iter().for_each(drop_foreign);
        wake.into_iter().for_each(wake_foreign);
        answer
    }

    /// Whether the connection was reset.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.state.lock().is_reset {
            true => Err(reset()),
            false => Ok(()),
        }
    }

    /// `writer` writes no more.
    pub(super) fn end(&self, writer: End) {
        let mut state = self.state.lock();
        let pipe = &mut state.pipes[writer as usize];
        pipe.is_ended = true;
        let wakers = pipe.wakers();
        drop(state);
        wakers.for_each(wake_foreign);
    }

    /// `end` is gone.
    pub(super) fn leave(&self, end: End) {
        let mut state = self.state.lock();
        state.pipes[end as usize].is_ended = true;
        state.pipes[end.other() as usize].is_deaf = true;
        // The two of this end are woken as well: it may have been moved out of the task that waits.
        let [left, right] = &mut state.pipes;
        let wakers = left.wakers().chain(right.wakers());
        drop(state);
        wakers.for_each(wake_foreign);
    }

    /// Both ends fail from now on, and what is under way is lost.
    pub(super) fn reset(&self) {
        let mut state = self.state.lock();
        state.is_reset = true;
        let [left, right] = &mut state.pipes;
        left.bytes.clear();
        right.bytes.clear();
        let wakers = left.wakers().chain(right.wakers());
        drop(state);
        wakers.for_each(wake_foreign);
    }
}

fn reset() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}
