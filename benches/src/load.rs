//! The clients of the shapes with sockets: one thread with a plain epoll loop, in a process of its own.
//!
//! Any program of this suite can become the load generator: it starts its own executable again with [`ASKED`] set, and
//! `main` calls [`become_load_if_asked`] first. The two talk over pipes, a line at a time:
//!
//! 1. the generator connects all its sockets (none for [`Mode::Churn`]) and says `ready`;
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
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::affinity;
use crate::limits;
use crate::meter::histogram;
use crate::peers::bare::send_all;

/// The environment variable that makes a program the load generator: `<mode> <address> <connections> <bytes> <CPU>`.
pub const ASKED: &str = "HEIST_BENCH_LOAD";
/// No run of the generator takes longer; it gives up with an error instead.
const LIMIT: Duration = Duration::from_secs(30);
/// Events taken from epoll at once.
const EVENTS: usize = 256;
/// How often a loop that has nothing to do looks at the time.
const TICK: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// So many connections are made at once, far less than the queue of a listener holds, and then one pauses.
const AT_ONCE: usize = 32;
const PAUSE: Duration = Duration::from_millis(1);
/// What is asked in [`Mode::Http`].
const HTTP_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What the generator does on its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sends bytes and wants so many back.
    Echo,
    /// Sends a GET; the first answer says how long they all are.
    Http,
    /// Connects, sends bytes, wants them back and then the end of the stream, again and again.
    Churn,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Echo, Self::Http, Self::Churn];

    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Http => "http",
            Self::Churn => "churn",
        }
    }
}

/// What a server is asked, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// What is asked.
    pub mode: Mode,
    /// Connections, each with one request in flight; in [`Mode::Churn`] so many at a time.
    pub connections: usize,
    /// Size of a request and of its answer, if the mode does not know.
    pub bytes: usize,
    /// The CPU of the load generator. It is the caller's to choose because the new process inherits the caller's mask,
    /// and with it would not even see the CPUs that the caller keeps away from.
    pub cpu: usize,
}

impl Asked {
    fn to_words(self, addr: SocketAddr) -> String {
        let Self {
            mode,
            connections,
            bytes,
            cpu,
        } = self;
        format!("{} {addr} {connections} {bytes} {cpu}", mode.name())
    }

    fn from_words(words: &str) -> io::Result<(Self, SocketAddr)> {
        let wrong = || io::Error::other("wants `<mode> <address> <connections> <bytes> <CPU>`");
        let mut words = words.split_whitespace();
        let mut next = || words.next().ok_or_else(wrong);
        let mode = next()?;
        let mode = Mode::ALL.into_iter().find(|known| known.name() == mode);
        let mode = mode.ok_or_else(wrong)?;
        let addr = next()?.parse().map_err(|_| wrong())?;
        let mut number = || next()?.parse().map_err(|_| wrong());
        let asked = Self {
            mode,
            connections: number()?,
            bytes: number()?,
            cpu: number()?,
        };
        Ok((asked, addr))
    }
}

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
    /// Starts a generator and waits until it is ready to ask `addr`.
    ///
    /// # Errors
    ///
    /// The process could not be started, or it failed.
    pub fn start(addr: SocketAddr, asked: Asked) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .env(ASKED, asked.to_words(addr))
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
    let (asked, addr) = Asked::from_words(asked)?;
    let _pinned = affinity::pin(asked.cpu)?;
    limits::raise_descriptors();
    let mut clients = match asked.mode {
        Mode::Churn => None,
        _ => Some(Clients::connect(addr, asked)?),
    };
    println!("ready");
    for line in io::stdin().lines() {
        let line = line?;
        let requests = line
            .strip_prefix("go ")
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| io::Error::other(format!("was told {line:?}")))?;
        let report = match &mut clients {
            Some(clients) => clients.exchange(requests)?,
            None => Churn::new(addr, asked)?.connect_and_close(requests)?,
        };
        println!("{report}");
    }
    Ok(())
}

/// Fails when a run has taken too long.
fn in_time(begin: Instant, answered: u64, requests: u64) -> io::Result<()> {
    if begin.elapsed() <= LIMIT {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{answered} of {requests} answers within {LIMIT:?}"
    )))
}

fn report(begin: Instant, answered: u64, latency: &Histogram<u64>) -> String {
    format!(
        "done {answered} {} {} {}",
        begin.elapsed().as_nanos(),
        latency.value_at_quantile(0.5),
        latency.value_at_quantile(0.99)
    )
}

/// Connections that stay.
struct Clients {
    epoll: std::os::fd::OwnedFd,
    clients: Vec<Client>,
    request: Vec<u8>,
    answer: usize,
}

struct Client {
    stream: TcpStream,
    /// When the request in flight was sent.
    sent: Instant,
    /// Bytes of its answer that have come.
    got: usize,
}

impl Clients {
    fn connect(addr: SocketAddr, asked: Asked) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut streams = Vec::with_capacity(asked.connections);
        for index in 1..=asked.connections {
            // A queue of `accept` that overflows costs a second each time.
            if index % AT_ONCE == 0 {
                thread::sleep(PAUSE);
            }
            let stream = TcpStream::connect_timeout(&addr, LIMIT)?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let (request, answer) = match asked.mode {
            Mode::Http => (HTTP_REQUEST.to_vec(), length_of_answer(&streams[0])?),
            Mode::Echo | Mode::Churn => (vec![b'x'; asked.bytes], asked.bytes),
        };
        let mut clients = Vec::with_capacity(asked.connections);
        for (index, stream) in streams.into_iter().enumerate() {
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
            request,
            answer,
        })
    }

    /// Sends `requests` requests and reports on the answers.
    fn exchange(&mut self, requests: u64) -> io::Result<String> {
        let mut latency = histogram();
        let mut events = Vec::with_capacity(EVENTS);
        let mut buf = vec![0; self.answer];
        let begin = Instant::now();
        let mut to_send = requests;
        let mut answered = 0;
        for client in &mut self.clients {
            if to_send > 0 {
                client.send(&self.request)?;
                to_send -= 1;
            }
        }
        while answered < requests {
            in_time(begin, answered, requests)?;
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&TICK))?;
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
        Ok(report(begin, answered, &latency))
    }
}

impl Client {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.got = 0;
        self.sent = Instant::now();
        send_all(&mut self.stream, request)
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

/// Asks once over HTTP, on a stream that still blocks, and returns how many bytes the answer had.
fn length_of_answer(mut stream: &TcpStream) -> io::Result<usize> {
    const END: &[u8] = b"\r\n\r\n";
    let wrong = |answer: &[u8]| {
        let shown = String::from_utf8_lossy(answer);
        io::Error::other(format!("the server answered {shown:?}"))
    };
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(HTTP_REQUEST)?;
    let mut answer = Vec::new();
    let mut buf = [0; 4096];
    loop {
        match stream.read(&mut buf)? {
            0 => return Err(wrong(&answer)),
            n => answer.extend_from_slice(&buf[..n]),
        }
        let Some(head) = answer.windows(END.len()).position(|bytes| bytes == END) else {
            continue;
        };
        let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
        let body: usize = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|length| length.trim().parse().ok())
            .ok_or_else(|| wrong(&answer))?;
        let whole = head + END.len() + body;
        if !text.starts_with("http/1.1 200") || answer.len() > whole {
            return Err(wrong(&answer));
        }
        if answer.len() == whole {
            return Ok(whole);
        }
    }
}

/// Connections that come and go, so many at a time.
struct Churn {
    addr: SocketAddr,
    epoll: std::os::fd::OwnedFd,
    slots: Vec<Option<Client>>,
    request: Vec<u8>,
}

impl Churn {
    fn new(addr: SocketAddr, asked: Asked) -> io::Result<Self> {
        Ok(Self {
            addr,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            slots: (0..asked.connections).map(|_| None).collect(),
            request: vec![b'x'; asked.bytes],
        })
    }

    /// Makes `connections` connections and reports on them. A latency is from before `connect` to the end of the stream.
    fn connect_and_close(&mut self, connections: u64) -> io::Result<String> {
        let mut latency = histogram();
        let mut events = Vec::with_capacity(EVENTS);
        let mut buf = vec![0; self.request.len() + 1];
        let begin = Instant::now();
        let mut to_open = connections;
        let mut closed = 0;
        for slot in 0..self.slots.len() {
            if to_open > 0 {
                self.open(slot)?;
                to_open -= 1;
            }
        }
        while closed < connections {
            in_time(begin, closed, connections)?;
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&TICK))?;
            for event in &events {
                let slot = event.data.u64() as usize;
                let Some(client) = &mut self.slots[slot] else {
                    continue;
                };
                match client.stream.read(&mut buf) {
                    Ok(0) if client.got == self.request.len() => {}
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(n) => {
                        client.got += n;
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error),
                }
                latency.saturating_record(client.sent.elapsed().as_nanos() as u64);
                closed += 1;
                self.slots[slot] = None;
                if to_open > 0 {
                    self.open(slot)?;
                    to_open -= 1;
                }
            }
        }
        Ok(report(begin, closed, &latency))
    }

    /// Opens a connection and sends its request. On the loopback `connect` does not wait for `accept`.
    fn open(&mut self, slot: usize) -> io::Result<()> {
        let sent = Instant::now();
        let mut stream = TcpStream::connect_timeout(&self.addr, LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        send_all(&mut stream, &self.request)?;
        let data = epoll::EventData::new_u64(slot as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
        self.slots[slot] = Some(Client {
            stream,
            sent,
            got: 0,
        });
        Ok(())
    }
}
