//! What goes over the connections: a request is a head and a body; its reply is the same again.
//!
//! So whoever asks can check every byte of what comes back.
#![forbid(unsafe_code)]

use heist::net::TcpStream;
use std::io;

/// What the server does before it replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: it sends back while it reads.
    Echo,
    /// Sleeps for a moment.
    Sleep,
    /// Adds the body up in a closure that may block.
    Blocking,
    /// Adds the body up in the children of a group, of which one may fail.
    Group,
    /// Starts a task that would never end, and cancels it, which it may catch.
    Cancel,
    /// Starts a task that panics.
    Panic,
    /// Makes timers, and drops all but one.
    Timers,
    /// Nothing, but it waits for the body for [`SHORT_PATIENCE`](crate::server::SHORT_PATIENCE) only.
    Hurry,
}

impl Kind {
    pub(crate) const ALL: [Kind; 8] = [
        Kind::Echo,
        Kind::Sleep,
        Kind::Blocking,
        Kind::Group,
        Kind::Cancel,
        Kind::Panic,
        Kind::Timers,
        Kind::Hurry,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Echo => "echo",
            Kind::Sleep => "sleep",
            Kind::Blocking => "blocking closure",
            Kind::Group => "task group",
            Kind::Cancel => "cancelled task",
            Kind::Panic => "panicking task",
            Kind::Timers => "timers",
            Kind::Hurry => "hurry",
        }
    }

    /// Its place in a table.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// The head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// The bytes of the body.
    pub(crate) length: u32,
    /// What the first byte of the body is.
    pub(crate) salt: u8,
}

const HEAD: usize = 6;
/// Bytes that are read or written at a time.
pub(crate) const CHUNK: usize = 16 * 1024;

impl Head {
    pub(crate) fn to_bytes(self) -> [u8; HEAD] {
        let mut bytes = [self.kind.index() as u8, self.salt, 0, 0, 0, 0];
        bytes[2..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    fn parse(bytes: [u8; HEAD]) -> io::Result<Head> {
        let [kind, salt, length @ ..] = bytes;
        let kind = Kind::ALL.get(usize::from(kind)).copied();
        Ok(Head {
            kind: kind.ok_or_else(|| invalid("a kind of request that does not exist"))?,
            length: u32::from_le_bytes(length),
            salt,
        })
    }

    /// The part of the body that begins at `from`, at most a chunk.
    pub(crate) fn chunk(self, from: usize) -> Vec<u8> {
        let length = CHUNK.min(self.length as usize - from);
        (from..from + length).map(|at| self.byte(at)).collect()
    }

    fn byte(self, at: usize) -> u8 {
        self.salt.wrapping_add((at % 251) as u8)
    }

    /// Whether `bytes` are the part of the body that begins at `from`.
    pub(crate) fn check(self, from: usize, bytes: &[u8]) -> io::Result<()> {
        let mut pairs = bytes.iter().zip(from..);
        match pairs.find(|(byte, at)| **byte != self.byte(*at)) {
            None => Ok(()),
            Some((_, at)) => Err(invalid(format!(
                "byte {at} of {self:?} is not what was sent"
            ))),
        }
    }

    /// The next head, or `None` if the peer ended the connection before one began.
    pub(crate) async fn read(stream: &TcpStream) -> io::Result<Option<Head>> {
        let mut bytes = [0; HEAD];
        let first = stream.read(&mut bytes).await?;
        if first == 0 {
            return Ok(None);
        }
        read_exact(stream, &mut bytes[first..]).await?;
        Head::parse(bytes).map(Some)
    }
}

pub(crate) fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Fills `bytes`, or fails with `UnexpectedEof`.
pub(crate) async fn read_exact(stream: &TcpStream, bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        match stream.read(&mut bytes[filled..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(())
}
