//! The server: connections, what their requests ask for, and what goes on beside them.
#![forbid(unsafe_code)]

use crate::leak::Leak;
use crate::traffic::{Clock, Traffic, is_parting};
use crate::wire::{CHUNK, Head, Kind, invalid, read_exact};
use heist::net::{TcpListener, TcpStream};
use heist::time::{Instant, MissedTickBehavior, interval};
use heist::{TaskGroup, catch_cancel, sleep, spawn, spawn_blocking, timeout};
use heist_tests::dice::Dice;
use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

/// Several, so that connections that linger in the system do not use up the ports of one.
const LISTENERS: usize = 4;
/// How long a client that is not in a hurry may take for a request.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same, for one that is.
pub(crate) const SHORT_PATIENCE: Duration = Duration::from_millis(300);
/// How often the server's clock ticks.
const TICK: Duration = Duration::from_millis(5);
/// Timers that one request makes.
const TIMERS: usize = 32;
/// What the hook for panics tells from others.
pub(crate) const ON_PURPOSE: &str = "a task that panics on purpose";

/// What every part of the server knows.
#[derive(Clone)]
struct Server {
    traffic: Arc<Traffic>,
    leak: Arc<Leak>,
    seed: u64,
}

/// Listens, tells `ready` where, and serves until `stop` is heard.
pub(crate) async fn serve(
    traffic: Arc<Traffic>,
    leak: Arc<Leak>,
    seed: u64,
    ready: impl FnOnce(Vec<SocketAddr>),
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let server = Server {
        traffic,
        leak,
        seed,
    };
    let mut addresses = Vec::new();
    let mut beside = vec![
        spawn(server.clone().keep_time()),
        spawn(server.clone().stall()),
    ];
    for _ in 0..LISTENERS {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?);
        beside.push(spawn(server.clone().accept(listener)));
    }
    ready(addresses);
    stop.await;
    for task in beside {
        if task
            .cancel()
            .await
            .is_err_and(|error| !error.is_cancelled())
        {
            server
                .traffic
                .failed(|| "a task of the server has failed".into());
        }
    }
    Ok(())
}

impl Server {
    async fn accept(self, listener: TcpListener) {
        let _guard = self.traffic.guard();
        for number in 0.. {
            match listener.accept().await {
                Ok((stream, _)) => drop(spawn(self.clone().connection(stream, number))),
                Err(error) => self.traffic.failed(|| format!("accept: {error}")),
            }
        }
    }

    async fn connection(self, stream: TcpStream, number: u64) {
        let _guard = self.traffic.guard();
        self.traffic.connected();
        let mut dice = Dice::stream(self.seed, number);
        match self.requests(&stream, &mut dice).await {
            Err(error) if !is_parting(&error) && error.kind() != io::ErrorKind::TimedOut => {
                self.traffic.failed(|| format!("the server: {error}"));
            }
            _ => {}
        }
    }

    async fn requests(&self, stream: &TcpStream, dice: &mut Dice) -> io::Result<()> {
        // A reply is written in parts, of which the second would wait for the first to be acknowledged.
        stream.set_nodelay(true)?;
        loop {
            let head = timeout(PATIENCE, Head::read(stream)).await?;
            let Some(head) = head? else {
                return Ok(());
            };
            self.leak.request();
            if head.kind == Kind::Echo {
                self.echo(stream, head).await?;
                continue;
            }
            let patience = if head.kind == Kind::Hurry {
                SHORT_PATIENCE
            } else {
                PATIENCE
            };
            let mut body = vec![0; head.length as usize];
            timeout(patience, read_exact(stream, &mut body)).await??;
            head.check(0, &body)?;
            let body = self.work(head.kind, body, dice).await?;
            stream.write_all(&head.to_bytes()).await?;
            stream.write_all(&body).await?;
        }
    }

    /// Sends back what comes, as it comes.
    async fn echo(&self, stream: &TcpStream, head: Head) -> io::Result<()> {
        stream.write_all(&head.to_bytes()).await?;
        let mut buffer = vec![0; CHUNK];
        let mut left = head.length as usize;
        while left > 0 {
            let room = left.min(CHUNK);
            match timeout(PATIENCE, stream.read(&mut buffer[..room])).await?? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    stream.write_all(&buffer[..read]).await?;
                    left -= read;
                }
            }
        }
        Ok(())
    }

    async fn work(&self, kind: Kind, body: Vec<u8>, dice: &mut Dice) -> io::Result<Vec<u8>> {
        match kind {
            Kind::Echo | Kind::Hurry => {}
            Kind::Sleep => sleep(dice.micros(0..3000)).await,
            Kind::Blocking => return self.blocking(body, dice.micros(0..2000)).await,
            Kind::Group => return self.group(body, dice.one_in(8)).await,
            Kind::Cancel => self.cancel(dice).await?,
            Kind::Panic => self.panic().await?,
            Kind::Timers => self.timers(dice).await,
        }
        Ok(body)
    }

    async fn blocking(&self, body: Vec<u8>, takes: Duration) -> io::Result<Vec<u8>> {
        let guard = self.traffic.guard();
        let wanted = sum(&body);
        let closure = spawn_blocking(move || {
            let _guard = guard;
            thread::sleep(takes);
            (sum(&body), body)
        });
        match closure.await {
            Ok((found, body)) if found == wanted => Ok(body),
            Ok(_) => Err(invalid("a closure has added up wrong")),
            Err(error) => Err(invalid(format!("a closure: {error}"))),
        }
    }

    /// Four children; one of them fails if asked to, and takes the others with it.
    async fn group(&self, body: Vec<u8>, fails: bool) -> io::Result<Vec<u8>> {
        let wanted = sum(&body);
        let parts: Vec<Vec<u8>> = body
            .chunks(body.len() / 4 + 1)
            .map(<[u8]>::to_vec)
            .collect();
        let ended = TaskGroup::run(async |group| {
            let children = parts.into_iter().map(|part| {
                let guard = self.traffic.guard();
                group.spawn(async move {
                    let _guard = guard;
                    heist::yield_now().await;
                    Ok::<_, Infallible>(sum(&part))
                })
            });
            let children: Vec<_> = children.collect();
            if fails {
                let guard = self.traffic.guard();
                group.spawn(async move {
                    let _guard = guard;
                    Err::<(), _>(ON_PURPOSE)
                });
                pending::<()>().await;
            }
            let mut total = 0;
            for child in children {
                total += child.await?;
            }
            Ok(total)
        });
        match ended.await {
            Ok(total) if total == wanted && !fails => Ok(body),
            Err(error) if fails && error.len() == 1 => Ok(body),
            other => Err(invalid(format!("a group: {other:?}, to fail: {fails}"))),
        }
    }

    /// A task that cleans up, or one that does not, cancelled before its first poll or later.
    async fn cancel(&self, dice: &mut Dice) -> io::Result<()> {
        let guard = self.traffic.guard();
        let cleans_up = dice.one_in(2);
        let task = spawn(async move {
            let _guard = guard;
            if cleans_up {
                let caught = catch_cancel(pending::<()>()).await.is_err();
                sleep(Duration::from_micros(100)).await;
                return caught;
            }
            pending().await
        });
        if dice.one_in(2) {
            sleep(dice.micros(0..500)).await;
        }
        match task.cancel().await {
            Ok(true) if cleans_up => Ok(()),
            Err(error) if error.is_cancelled() => Ok(()),
            other => Err(invalid(format!("a cancelled task: {other:?}"))),
        }
    }

    async fn panic(&self) -> io::Result<()> {
        let guard = self.traffic.guard();
        let task = spawn(async move {
            let _guard = guard;
            heist::yield_now().await;
            panic!("{ON_PURPOSE}")
        });
        match task.await {
            Err(error) if error.is_panic() => Ok(()),
            other => Err(invalid(format!("a task that panics: {other:?}"))),
        }
    }

    /// Many timers that are polled once and dropped, one of which ends it.
    async fn timers(&self, dice: &mut Dice) {
        let mut dropped: Vec<_> = (0..TIMERS)
            .map(|_| Box::pin(sleep(Duration::from_nanos(dice.magnitude(40)))))
            .collect();
        let mut awaited = pin!(sleep(dice.micros(0..1000)));
        poll_fn(|cx| {
            for timer in &mut dropped {
                let _ = timer.as_mut().poll(cx);
            }
            awaited.as_mut().poll(cx)
        })
        .await;
    }

    /// Ticks, and notes how late each tick is. Makes a timer for each that is moved and never fires.
    async fn keep_time(self) {
        let _guard = self.traffic.guard();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut moved = pin!(sleep(PATIENCE));
        loop {
            let due = ticks.tick().await;
            let now = Instant::now();
            self.traffic
                .late(Clock::Timer, now.saturating_duration_since(due));
            moved.as_mut().reset(now + PATIENCE);
            // Polled, so that it is among the timers.
            let _pending = poll_fn(|cx| Poll::Ready(moved.as_mut().poll(cx))).await;
        }
    }

    /// Now and then a task blocks its worker.
    async fn stall(self) {
        let _guard = self.traffic.guard();
        let mut dice = Dice::stream(self.seed, u64::MAX);
        loop {
            sleep(dice.micros(1_000_000..3_000_000)).await;
            let blocks = dice.micros(50_000..200_000);
            let guard = self.traffic.guard();
            let task = spawn(async move {
                let _guard = guard;
                thread::sleep(blocks);
            });
            if let Err(error) = task.await {
                self.traffic
                    .failed(|| format!("a task that blocks: {error}"));
            }
        }
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}
