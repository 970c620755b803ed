//! The clients of the echo shapes: one thread with a plain epoll loop, in a process of its own.
//!
//! Any program of this suite can become the load generator: it starts its own executable again with [`ASKED`] set, and
//! `main` calls [`become_load_if_asked`] first. The two talk over pipes, a line at a time:
//!
//! 1. the generator connects all its sockets and says `ready`;
//! 2. it is told `go <requests>`, keeps one request in flight on every connection until so many are answered, and says
//!    `done <requests> <nanoseconds> <p50> <p99>`;
//! 3. the end of its input ends it, and with it the connections.
//!
//! Being one thread with a closed loop, it cannot ask for more than it can handle; at many connections it is the
//! generator that limits throughput. CPU per request of the server is therefore the figure to look at.
#![forbid(unsafe_code)]

use std::env;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::affinity;
use crate::meter::histogram;

/// The environment variable that makes a program the load generator: `<address> <connections> <bytes> <CPU>`.
pub const ASKED: &str = "HEIST_BENCH_LOAD";
/// No run of the generator takes longer; it gives up with an error instead.
const LIMIT: Duration = Duration::from_secs(30);
/// Events taken from epoll at once.
const EVENTS: usize = 256;

/// A running load generator.
#[derive(Debug)]
pub struct Load {
    child: Child,
    /// Taken out, and with that closed, to end the generator.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// What the generator saw.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Requests answered.
    pub requests: u64,
    /// From the first request to the last answer.
    pub wall: Duration,
    /// Median time from request to answer.
    pub p50: Duration,
    /// 99th percentile of the time from request to answer.
    pub p99: Duration,
}

impl Load {
    /// Starts a generator on CPU `cpu` and waits until it has connected `connections` sockets to `addr`.
    ///
    /// The CPU is the caller's to choose because the new process inherits the caller's mask, and with it would not even
    /// see the CPUs that the caller keeps away from.
    ///
    /// # Errors
    ///
    /// The process could not be started, or it failed.
    pub fn start(
        addr: SocketAddr,
        connections: usize,
        bytes: usize,
        cpu: usize,
    ) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .env(ASKED, format!("{addr} {connections} {bytes} {cpu}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("the load generator has no pipe");
        let orders = child.stdin.take().ok_or_else(missing)?;
        let answers = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        let mut load = Self {
            child,
            orders: Some(orders),
            answers,
        };
        load.expect("ready")?;
        Ok(load)
    }

    /// Sends `requests` requests and waits for all answers.
    ///
    /// # Errors
    ///
    /// The generator failed or ran into its time limit.
    pub fn go(&mut self, requests: u64) -> io::Result<Answered> {
        let orders = self.orders.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(orders, "go {requests}")?;
        let line = self.expect("done")?;
        let mut numbers = line.split_whitespace().skip(1).map(str::parse::<u64>);
        let mut next = || match numbers.next() {
            Some(Ok(number)) => Ok(number),
            _ => Err(io::Error::other(format!(
                "the load generator said {line:?}"
            ))),
        };
        Ok(Answered {
            requests: next()?,
            wall: Duration::from_nanos(next()?),
            p50: Duration::from_nanos(next()?),
            p99: Duration::from_nanos(next()?),
        })
    }

    /// Reads a line that must start with `word`.
    fn expect(&mut self, word: &str) -> io::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.starts_with(word) {
            return Ok(line);
        }
        Err(io::Error::other(format!(
            "the load generator said {line:?} in place of {word:?}"
        )))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.orders.take();
        // It ends at the end of its input; there is nothing to do about one that cannot be waited for.
        let _ = self.child.wait();
    }
}

/// Turns this process into the load generator, and ends it, if it was started as one. To be called first in `main`.
pub fn become_load_if_asked() {
    let Ok(asked) = env::var(ASKED) else { return };
    match generate(&asked) {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("load generator ({asked}): {error}");
            std::process::exit(1);
        }
    }
}

fn generate(asked: &str) -> io::Result<()> {
    let wrong = || io::Error::other("wants `<address> <connections> <bytes> <CPU>`");
    let mut words = asked.split_whitespace();
    let mut next = || words.next().ok_or_else(wrong);
    let addr: SocketAddr = next()?.parse().map_err(|_| wrong())?;
    let connections: usize = next()?.parse().map_err(|_| wrong())?;
    let bytes: usize = next()?.parse().map_err(|_| wrong())?;
    let cpu: usize = next()?.parse().map_err(|_| wrong())?;

    let _pinned = affinity::pin(cpu)?;
    let mut clients = Clients::connect(addr, connections, bytes)?;
    println!("ready");
    for line in io::stdin().lines() {
        let line = line?;
        let requests = line
            .strip_prefix("go ")
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| io::Error::other(format!("was told {line:?}")))?;
        println!("{}", clients.exchange(requests)?);
    }
    Ok(())
}

struct Clients {
    epoll: std::os::fd::OwnedFd,
    clients: Vec<Client>,
    request: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    /// When the request in flight was sent.
    sent: Instant,
    /// Bytes of its answer that have come.
    got: usize,
}

impl Clients {
    fn connect(addr: SocketAddr, connections: usize, bytes: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut clients = Vec::with_capacity(connections);
        for index in 0..connections {
            let stream = TcpStream::connect_timeout(&addr, LIMIT)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
            clients.push(Client {
                stream,
                sent: Instant::now(),
                got: 0,
            });
        }
        Ok(Self {
            epoll,
            clients,
            request: vec![b'x'; bytes],
        })
    }

    /// Sends `requests` requests and reports on the answers.
    fn exchange(&mut self, requests: u64) -> io::Result<String> {
        let mut latency = histogram();
        let mut events = Vec::with_capacity(EVENTS);
        let mut buf = vec![0; self.request.len()];
        let begin = Instant::now();
        let mut to_send = requests;
        let mut answered = 0;
        for client in &mut self.clients {
            if to_send > 0 {
                client.send(&self.request)?;
                to_send -= 1;
            }
        }
        let tick = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        while answered < requests {
            if begin.elapsed() > LIMIT {
                return Err(io::Error::other(format!(
                    "{answered} of {requests} answers within {LIMIT:?}"
                )));
            }
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&tick))?;
            for event in &events {
                let client = &mut self.clients[event.data.u64() as usize];
                if !client.receive(&mut buf)? {
                    continue;
                }
                answered += 1;
                latency.saturating_record(client.sent.elapsed().as_nanos() as u64);
                if to_send > 0 {
                    client.send(&self.request)?;
                    to_send -= 1;
                }
            }
        }
        Ok(format!(
            "done {answered} {} {} {}",
            begin.elapsed().as_nanos(),
            latency.value_at_quantile(0.5),
            latency.value_at_quantile(0.99)
        ))
    }
}

impl Client {
    /// Sends a request. One is in flight at most, so the socket's buffer has room for it.
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.got = 0;
        self.sent = Instant::now();
        self.stream.write_all(request)
    }

    /// Takes what has come; whether the answer is complete.
    fn receive(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        let room = buf.len() - self.got;
        match self.stream.read(&mut buf[..room]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                self.got += n;
                Ok(self.got == buf.len())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}
