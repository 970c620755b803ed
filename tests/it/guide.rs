//! What the guide shows of the examples' output, held against what they print.
#![forbid(unsafe_code)]

use crate::support::{LIMIT, within};
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The part of the page on looking inside that has this heading.
fn section(heading: &str) -> &'static str {
    let page = include_str!("../../docs/guide/inspect.md");
    let (_, section) = page.split_once(heading).expect("the section");
    section.split_once("\n## ").expect("the next one").0
}

// ---- the example `explain` ----

/// A line of the example's without what differs from run to run: the numbers of tasks, and how long it took.
fn without_numbers(line: &str) -> String {
    let line = line.replace("tests/../", "");
    let mut words = Vec::new();
    let mut names_a_task = false;
    for word in line.split_whitespace() {
        let number = word.trim_end_matches([':', ',']);
        let is_time = number.ends_with('s') && number.starts_with(|c: char| c.is_ascii_digit());
        let is_task = names_a_task && number.bytes().all(|byte| byte.is_ascii_digit());
        words.push(if is_time || is_task { "#" } else { word });
        names_a_task = word == "task";
    }
    words.join(" ")
}

/// The guide shows what the example `explain` prints, each line of it.
#[test]
fn the_guide_shows_what_the_example_prints() {
    let blocks = section("## A program that misbehaves")
        .split("```text\n")
        .skip(1);
    let shown = blocks.filter_map(|block| Some(block.split_once("```")?.0));
    let shown: BTreeSet<String> = shown.flat_map(str::lines).map(without_numbers).collect();
    assert!(shown.len() > 12, "{shown:?}");

    let ended = Command::new(env!("CARGO_BIN_EXE_explain"))
        .env_remove("HEIST_DEBUG")
        .output()
        .expect("it is built beside this");
    assert!(ended.status.success(), "{ended:?}");
    let printed = String::from_utf8(ended.stdout).expect("it writes text");
    // On a busy machine any poll may last too long.
    let is_stall = |line: &str| line.contains("has blocked its worker") && !line.contains("'slow'");
    let printed: BTreeSet<String> = printed
        .lines()
        .filter(|line| !line.is_empty() && !is_stall(line))
        .map(without_numbers)
        .collect();
    let missing: Vec<_> = shown.difference(&printed).collect();
    let new: Vec<_> = printed.difference(&shown).collect();
    assert!(
        missing.is_empty() && new.is_empty(),
        "shown and not printed: {missing:#?}\nprinted and not shown: {new:#?}"
    );
}

// ---- the example `http` ----

/// The example, as long as this lives.
struct Server {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn start() -> Server {
        let mut process = Command::new(env!("CARGO_BIN_EXE_http"))
            .args(["127.0.0.1:0", "127.0.0.1:0"])
            // In debug mode all that a task waits on is noted from the beginning.
            .env_remove("HEIST_DEBUG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it is built beside this");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        Server { process, output }
    }

    /// The address that its next line names.
    fn address(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it writes text");
        let (_, address) = line.split_once("http://").expect("an address");
        address.trim_end_matches(['/', '\n']).to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A connection to it.
struct Client(BufReader<TcpStream>);

impl Client {
    /// One that has had an answer: the server has accepted it, and looks for the next.
    fn new(address: &str) -> Client {
        let stream = TcpStream::connect(address).expect("it listens");
        let mut client = Client(BufReader::new(stream));
        client.ask("/").expect("it answers");
        client
    }

    /// What it answers.
    fn ask(&mut self, path: &str) -> io::Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: heist\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().expect("a number");
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(String::from_utf8(body).expect("it writes text"))
    }

    /// Asks again and again, until it is told to stop or the server has gone.
    fn load(mut self, path: &'static str, stop: &Arc<AtomicBool>) {
        let stop = stop.clone();
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) && self.ask(path).is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
        });
    }
}

/// The lines of a dump without the numbers that differ from look to look, and in an order that does not
/// depend on them. Where a task was spawned stays, and so does how deep it is in the tree.
fn shape<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let without_digits = |line: &str| {
        let line = line.replace("tests/../", "");
        let mut shape = String::new();
        for word in line.split_inclusive(' ') {
            let is_site = word.contains(".rs:");
            for one in word.chars() {
                if is_site || !one.is_ascii_digit() {
                    shape.push(one);
                } else if !shape.ends_with('#') {
                    shape.push('#');
                }
            }
        }
        shape
    };
    let mut lines: Vec<String> = lines.map(without_digits).collect();
    lines.sort();
    lines
}

/// The guide shows what the example `http` answers of its tasks while nine connections are busy: three of
/// the second server's with a handler that sleeps.
#[test]
fn the_guide_shows_the_tasks_of_a_server_at_work() {
    let (_, shown) = section("## A server at work")
        .split_once("```console\n")
        .expect("what the server answers");
    let (shown, _) = shown.split_once("```").expect("its end");
    let shown = shape(shown.lines().filter(|line| !line.starts_with("$ ")));
    assert_eq!(shown.len(), 1 + 11, "{shown:#?}");

    within(move || {
        let mut server = Server::start();
        let (plain, routed) = (server.address(), server.address());
        let connect = |count: usize, address: &str| -> Vec<Client> {
            (0..count).map(|_| Client::new(address)).collect()
        };
        // All of them before the first look: the first server rests since then.
        let fast = [connect(4, &plain), connect(2, &routed)];
        let slow = connect(3, &routed);
        let mut looks = Client::new(&routed);
        let stop = Arc::new(AtomicBool::new(false));
        for client in fast.into_iter().flatten() {
            client.load("/", &stop);
        }
        for client in slow {
            client.load("/slow", &stop);
        }
        // A look finds those at work that happen to be: until it finds all others at rest.
        let begin = Instant::now();
        loop {
            let answer = looks.ask("/tasks").expect("it answers");
            if shape(answer.lines()) == shown {
                break;
            }
            assert!(
                begin.elapsed() < LIMIT / 2,
                "it shows {shown:#?}\nand this was the last answer: {answer}"
            );
            thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
    });
}
