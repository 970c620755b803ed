//! The clients: some that behave, and some that do not.
#![forbid(unsafe_code)]

use crate::traffic::{Traffic, is_parting};
use crate::wire::{CHUNK, Head, Kind, read_exact};
use heist::net::TcpStream;
use heist::time::Instant;
use heist::{sleep, spawn, timeout};
use heist_tests::dice::Dice;
use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long anything may take before it counts as hanging.
const HANGS: Duration = Duration::from_secs(30);
/// How long a client does nothing between two connections, at most, in microseconds.
const PAUSE: u64 = 40_000;

/// One of the clients, which connects again and again.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) servers: Arc<[SocketAddr]>,
}

/// What a client does with a connection.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Some exchanges one after the other, and a proper end.
    Talks,
    /// One exchange, of which it ends its own direction before it reads.
    HalfCloses,
    /// A reset in the middle of an exchange.
    Resets,
    /// Half a request, and the rest later, perhaps too late.
    Stalls,
    /// An exchange that it gives up after a while.
    TimesOut,
    /// An exchange in a task of its own, which it cancels.
    Aborts,
    /// Nothing at all.
    Leaves,
}

const MANNERS: [(Manner, u64); 7] = [
    (Manner::Talks, 10),
    (Manner::HalfCloses, 3),
    (Manner::Resets, 2),
    (Manner::Stalls, 1),
    (Manner::TimesOut, 2),
    (Manner::Aborts, 2),
    (Manner::Leaves, 1),
];

impl Client {
    /// So many of them, until the traffic is over.
    pub(crate) async fn run_all(self, count: u64, seed: u64) -> io::Result<()> {
        let clients = (0..count).map(|number| spawn(self.clone().run(Dice::stream(seed, number))));
        for client in clients.collect::<Vec<_>>() {
            client.await?;
        }
        Ok(())
    }

    /// Goes on until the traffic is over.
    async fn run(self, mut dice: Dice) {
        let _guard = self.traffic.guard();
        while !self.traffic.is_over() {
            let manner = manner(&mut dice);
            match timeout(HANGS, self.connect(manner, &mut dice)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self
                    .traffic
                    .failed(|| format!("a client, {manner:?}: {error}")),
                Err(_) => self
                    .traffic
                    .failed(|| format!("a client hangs: {manner:?}")),
            }
            sleep(dice.micros(0..PAUSE)).await;
        }
    }

    async fn connect(&self, manner: Manner, dice: &mut Dice) -> io::Result<()> {
        let server = self.servers[dice.below(self.servers.len())];
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        match manner {
            Manner::Talks => self.talk(stream, dice).await,
            Manner::HalfCloses => self.half_close(stream, dice).await,
            Manner::Resets => self.reset(stream, dice).await,
            Manner::Stalls => self.stall(stream, dice).await,
            Manner::TimesOut => self.time_out(stream, dice).await,
            Manner::Aborts => self.abort(stream, dice).await,
            Manner::Leaves => Ok(()),
        }
    }

    async fn talk(&self, stream: TcpStream, dice: &mut Dice) -> io::Result<()> {
        for _ in 0..dice.within(1..8) {
            self.exchange(&stream, any(dice)).await?;
        }
        stream.shutdown(Shutdown::Write)?;
        ended(&stream).await
    }

    async fn half_close(&self, stream: TcpStream, dice: &mut Dice) -> io::Result<()> {
        let head = any(dice);
        let write = async {
            write(&stream, head).await?;
            stream.shutdown(Shutdown::Write)
        };
        both(write, read(&stream, head)).await?;
        ended(&stream).await
    }

    async fn reset(&self, stream: TcpStream, dice: &mut Dice) -> io::Result<()> {
        stream.set_linger(Some(Duration::ZERO))?;
        let head = any(dice);
        // A long echo does not end before somebody reads.
        let _ = timeout(dice.micros(0..2000), write(&stream, head)).await;
        if dice.one_in(2) {
            // Its beginning comes back in any case: no other request is too long to be sent at once.
            read_exact(&stream, &mut [0; 6]).await?;
        }
        self.traffic.gave_up();
        Ok(())
    }

    async fn stall(&self, stream: TcpStream, dice: &mut Dice) -> io::Result<()> {
        let head = Head {
            kind: Kind::Hurry,
            length: dice.within(2..2000) as u32,
            salt: dice.number() as u8,
        };
        let body = head.chunk(0);
        let (first, second) = body.split_at(body.len() / 2);
        stream.write_all(&head.to_bytes()).await?;
        stream.write_all(first).await?;
        sleep(dice.micros(50_000..600_000)).await;
        let begin = Instant::now();
        let rest = async {
            stream.write_all(second).await?;
            read(&stream, head).await
        };
        match rest.await {
            // The server's patience may have ended.
            Err(error) if is_parting(&error) => self.traffic.gave_up(),
            other => {
                other?;
                self.traffic.exchanged(head.kind, begin.elapsed());
            }
        }
        Ok(())
    }

    async fn time_out(&self, stream: TcpStream, dice: &mut Dice) -> io::Result<()> {
        let patience = Duration::from_micros(dice.magnitude(13));
        match timeout(patience, self.exchange(&stream, any(dice))).await {
            Ok(done) => done,
            Err(_) => {
                self.traffic.gave_up();
                Ok(())
            }
        }
    }

    async fn abort(&self, stream: TcpStream, dice: &mut Dice) -> io::Result<()> {
        let (client, head) = (self.clone(), any(dice));
        let guard = self.traffic.guard();
        let task = spawn(async move {
            let _guard = guard;
            client.exchange(&stream, head).await
        });
        sleep(Duration::from_micros(dice.magnitude(12))).await;
        match task.cancel().await {
            Ok(done) => done,
            Err(error) if error.is_cancelled() => {
                self.traffic.gave_up();
                Ok(())
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Sends a request and reads its reply at the same time.
    async fn exchange(&self, stream: &TcpStream, head: Head) -> io::Result<()> {
        let begin = Instant::now();
        both(write(stream, head), read(stream, head)).await?;
        self.traffic.exchanged(head.kind, begin.elapsed());
        Ok(())
    }
}

fn manner(dice: &mut Dice) -> Manner {
    let total = MANNERS.iter().map(|(_, weight)| weight).sum();
    let mut left = dice.within(0..total);
    for (manner, weight) in MANNERS {
        if left < weight {
            return manner;
        }
        left -= weight;
    }
    Manner::Talks
}

/// A request of any kind but the one in a hurry. Half of them are echoes, a few of those long.
fn any(dice: &mut Dice) -> Head {
    let others = [
        Kind::Sleep,
        Kind::Blocking,
        Kind::Group,
        Kind::Cancel,
        Kind::Panic,
        Kind::Timers,
    ];
    let (kind, bits) = if dice.one_in(2) {
        (Kind::Echo, 17)
    } else {
        (others[dice.below(others.len())], 10)
    };
    Head {
        kind,
        length: dice.magnitude(bits) as u32,
        salt: dice.number() as u8,
    }
}

async fn write(stream: &TcpStream, head: Head) -> io::Result<()> {
    stream.write_all(&head.to_bytes()).await?;
    let mut written = 0;
    while written < head.length as usize {
        let chunk = head.chunk(written);
        stream.write_all(&chunk).await?;
        written += chunk.len();
    }
    Ok(())
}

async fn read(stream: &TcpStream, head: Head) -> io::Result<()> {
    match Head::read(stream).await? {
        Some(found) if found == head => {}
        Some(_) => return Err(crate::wire::invalid("the reply to another request")),
        None => return Err(io::ErrorKind::UnexpectedEof.into()),
    }
    let mut buffer = vec![0; CHUNK.min(head.length as usize)];
    let mut done = 0;
    while done < head.length as usize {
        let room = buffer.len().min(head.length as usize - done);
        match stream.read(&mut buffer[..room]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                head.check(done, &buffer[..read])?;
                done += read;
            }
        }
    }
    Ok(())
}

/// Waits for the peer's end of the stream, before which there must be nothing.
async fn ended(stream: &TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 1]).await? {
        0 => Ok(()),
        _ => Err(crate::wire::invalid("more than the reply")),
    }
}

async fn both(
    one: impl Future<Output = io::Result<()>>,
    other: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    futures::future::try_join(one, other).await.map(|_| ())
}
