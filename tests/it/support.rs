//! What the tests share: a limit that turns a hang into a failure, things that count, and looks at
//! the threads and descriptors of this process.
//!
//! The tests of `it` run beside one another in one process. So threads are counted by the name of
//! their runtime, which [`Name`] makes unique, and descriptors are counted in processes of their
//! own ([`alone`]).
#![forbid(unsafe_code)]

pub use crate::dice::Dice;
use async_channel::{Receiver, Sender};
use heist::inspect::{TaskInfo, TaskState};
use heist::net::{TcpListener, TcpStream};
use heist::task::{AbortHandle, Id};
use heist::{Builder, Handle, JoinHandle, Report, Runtime, timeout, yield_now};
use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::{Future, IntoFuture, pending};
use std::io::Read;
use std::net::TcpStream as StdStream;
use std::pin::Pin;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// How long a test may take before it counts as hanging.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Runs `test` on a thread of its own; a hang fails with a message that names the threads there are.
#[track_caller]
pub fn within<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    within_for(LIMIT, test)
}

/// As [`within`], with another limit.
#[track_caller]
pub fn within_for<T: Send + 'static>(
    limit: Duration,
    test: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        // The receiver hears of the end also if `test` panics: then the sender is dropped.
        let _done: mpsc::Sender<()> = done;
        test()
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(limit) {
        panic!(
            "the test hangs: no end within {limit:?}; the threads are {:?}",
            thread_names()
        );
    }
    match thread.join() {
        Ok(output) => output,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

/// Waits until `condition` holds, for what the system brings about and tells nobody of.
#[track_caller]
pub fn eventually(what: impl fmt::Display, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(
            begin.elapsed() < LIMIT / 2,
            "it did not come about within {:?}: {what}",
            LIMIT / 2
        );
        thread::sleep(Duration::from_millis(1));
    }
}

/// The text of a panic's payload.
pub fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("a payload that is not text")
}

/// What `call` panics with, as text.
#[track_caller]
pub fn panic_text<T>(call: impl FnOnce() -> T) -> String {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => text_of(&*payload).to_owned(),
    }
}

// ---- runtimes ----

/// How many workers a runtime of these tests has, unless the test is about their number: two, or what
/// `HEIST_WORKERS` says. `.ci/run workers` runs them with one, two and eight.
pub fn workers() -> usize {
    static WORKERS: OnceLock<usize> = OnceLock::new();
    *WORKERS.get_or_init(|| match std::env::var("HEIST_WORKERS") {
        Ok(number) => number.parse().expect("HEIST_WORKERS is a number"),
        Err(_) => 2,
    })
}

/// As [`heist::run`], with [`workers`].
#[track_caller]
pub fn run<M: IntoFuture>(main: M) -> M::Output {
    let runtime = Runtime::builder().workers(workers()).build();
    runtime.expect("threads start later").run(main)
}

// ---- threads and descriptors ----

/// The names of all threads of this process, as the system knows them.
pub fn thread_names() -> Vec<String> {
    let mut names = Vec::new();
    for task in std::fs::read_dir("/proc/self/task")
        .expect("/proc")
        .flatten()
    {
        // A thread may end between the two looks.
        if let Ok(name) = std::fs::read_to_string(task.path().join("comm")) {
            names.push(name.trim_end().to_owned());
        }
    }
    names
}

/// The open descriptors of this process and what they refer to, the one of this look excluded.
pub fn descriptors() -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").expect("/proc").flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if !target.to_string_lossy().starts_with("/proc/") {
            found.push(format!(
                "{} {}",
                entry.file_name().to_string_lossy(),
                target.display()
            ));
        }
    }
    found.sort();
    found
}

/// The memory that this process holds now, in bytes.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    1024 * kilobytes.expect("a number of kilobytes")
}

/// A name for the threads of one runtime that no other runtime of this process has.
///
/// The system cuts names at 15 bytes, and heist adds up to 9 of its own.
#[derive(Clone, Debug)]
pub struct Name(String);

impl Name {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Name {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Name(format!("t{:04x}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// A builder of a runtime whose threads are called so.
    pub fn builder(&self) -> Builder {
        Runtime::builder().workers(workers()).thread_name(&*self.0)
    }

    /// The threads that are called so now.
    pub fn threads(&self) -> Vec<String> {
        let mut names = thread_names();
        names.retain(|name| name.starts_with(&*self.0));
        names
    }

    /// Whether the current thread is called so.
    pub fn is_here(&self) -> bool {
        thread::current()
            .name()
            .is_some_and(|name| name.starts_with(&*self.0))
    }

    /// Fails unless no thread of this name is left. Call it when they have been joined: a joined
    /// thread stays in the system's list for a moment more.
    #[track_caller]
    pub fn assert_gone(&self) {
        eventually(format!("no thread is called {}..", self.0), || {
            self.threads().is_empty()
        });
    }
}

/// Counts the threads of a runtime that have started and ended, exactly: a thread counts as ended
/// in the destructor of its thread-local value, which is before whoever joins it goes on.
#[derive(Clone, Debug, Default)]
pub struct ThreadCount {
    started: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

struct EndOfThread(Arc<AtomicUsize>);

impl Drop for EndOfThread {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

thread_local! {
    static END_OF_THREAD: RefCell<Vec<EndOfThread>> = const { RefCell::new(Vec::new()) };
}

impl ThreadCount {
    /// Counts the workers and blocking threads of what is built.
    pub fn count(&self, builder: Builder) -> Builder {
        let count = self.clone();
        builder.on_thread_start(move || {
            count.started.fetch_add(1, Ordering::SeqCst);
            let end = EndOfThread(count.ended.clone());
            END_OF_THREAD.with_borrow_mut(|ends| ends.push(end));
        })
    }

    /// How many have started.
    pub fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// How many have ended.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

// ---- sockets ----

/// One of ours, connected to one of the standard library's, in which a read that hangs fails.
pub async fn pair() -> (TcpStream, StdStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let peer = StdStream::connect(address).expect("a peer");
    peer.set_nodelay(true).expect("it is open");
    let set = peer.set_read_timeout(Some(LIMIT / 2));
    set.expect("it is open");
    (listener.accept().await.expect("a connection").0, peer)
}

/// Two of ours: who connected, and who was accepted.
pub async fn own_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let (client, server) = futures::join!(TcpStream::connect(address), listener.accept());
    (client.expect("a client"), server.expect("a server").0)
}

// ---- a process of its own ----

/// What became of a program.
#[derive(Debug)]
pub struct Ended {
    /// Whether it said that all is well.
    pub ok: bool,
    /// What it wrote.
    pub output: String,
}

/// Runs a scenario of the program `alone` in a process of its own, at the end of the command
/// `wrapper`, with these variables. A hang is killed and fails.
#[track_caller]
pub fn alone(program: &str, wrapper: &[&str], scenario: &str, variables: &[(&str, &str)]) -> Ended {
    let mut words = wrapper.to_vec();
    words.extend([program, scenario]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_remove("HEIST_DEBUG");
    let ended = output_of(command.envs(variables.iter().copied()));
    let output = format!(
        "{}{}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr)
    );
    // What has ended without saying so has not looked at anything.
    let ok = ended.status.success() && output.contains(ALL_IS_WELL);
    Ended { ok, output }
}

/// Runs a command to its end, with nothing to read. A hang is killed and fails.
#[track_caller]
pub fn output_of(command: &mut Command) -> Output {
    command.stdin(Stdio::null());
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => panic!("{command:?} could not be started: {error}"),
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = (read_all(stdout), read_all(stderr));
    let begin = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => break status,
            None if begin.elapsed() > 2 * LIMIT => {
                let _ = child.kill();
                let _ = child.wait();
                // Whoever the child left behind may still hold the pipes: they are not waited for.
                panic!("it hangs: no end within {:?}: {command:?}", 2 * LIMIT);
            }
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    Output {
        status,
        stdout: stdout.join().expect("a reader does not panic"),
        stderr: stderr.join().expect("a reader does not panic"),
    }
}

/// Reads a pipe to its end, on a thread of its own.
fn read_all(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.expect("a pipe").read_to_end(&mut bytes);
        bytes
    })
}

/// The last line of a scenario that has found what it wanted.
pub const ALL_IS_WELL: &str = "scenario: all is well";

// ---- counting ----

/// Counts destructors, and remembers on which threads they ran.
#[derive(Clone, Debug, Default)]
pub struct Drops(Arc<Mutex<Vec<(ThreadId, String)>>>);

impl Drops {
    /// Something whose destructor counts.
    pub fn guard(&self) -> DropGuard {
        DropGuard(self.clone())
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<(ThreadId, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many have been dropped.
    pub fn count(&self) -> usize {
        self.list().len()
    }

    /// The threads they were dropped on, in order.
    pub fn threads(&self) -> Vec<ThreadId> {
        self.list().iter().map(|(id, _)| *id).collect()
    }

    /// Fails if one was dropped elsewhere than on the threads of `name` or on `caller`.
    #[track_caller]
    pub fn assert_on(&self, name: &Name, caller: ThreadId) {
        for (id, thread) in self.list().iter() {
            assert!(
                *id == caller || thread.starts_with(&*name.0),
                "dropped on thread {thread:?}, which is not of the runtime {name:?}"
            );
        }
    }
}

/// See [`Drops::guard`].
#[derive(Debug)]
pub struct DropGuard(Drops);

impl Drop for DropGuard {
    fn drop(&mut self) {
        let thread = thread::current();
        let name = thread.name().unwrap_or_default().to_owned();
        self.0.list().push((thread.id(), name));
    }
}

/// What happened to the futures wrapped by [`Tally::wrap`].
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<TallyInner>);

#[derive(Debug, Default)]
struct TallyInner {
    polls: AtomicUsize,
    drops: AtomicUsize,
    after_end: AtomicUsize,
    at_once: AtomicUsize,
}

impl Tally {
    /// Counts what happens to `future`.
    pub fn wrap<F: Future>(&self, future: F) -> Counted<F> {
        let future = Box::pin(future);
        Counted {
            future,
            tally: self.clone(),
            ended: false,
            inside: AtomicBool::new(false),
        }
    }

    /// Polls.
    pub fn polls(&self) -> usize {
        self.0.polls.load(Ordering::SeqCst)
    }

    /// Drops of a future.
    pub fn drops(&self) -> usize {
        self.0.drops.load(Ordering::SeqCst)
    }

    /// Fails if a future was polled after its end, or by two threads at once.
    #[track_caller]
    pub fn assert_sound(&self) {
        assert_eq!(
            self.0.after_end.load(Ordering::SeqCst),
            0,
            "polls after the end"
        );
        assert_eq!(
            self.0.at_once.load(Ordering::SeqCst),
            0,
            "polls by two threads at once"
        );
    }
}

/// A future that is counted; see [`Tally::wrap`].
#[derive(Debug)]
pub struct Counted<F> {
    future: Pin<Box<F>>,
    tally: Tally,
    ended: bool,
    inside: AtomicBool,
}

struct Leave<'a>(&'a AtomicBool);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.tally.0.polls.fetch_add(1, Ordering::SeqCst);
        if self.inside.swap(true, Ordering::SeqCst) {
            self.tally.0.at_once.fetch_add(1, Ordering::SeqCst);
        }
        if self.ended {
            self.tally.0.after_end.fetch_add(1, Ordering::SeqCst);
            return Poll::Pending;
        }
        let this = &mut *self;
        // A poll that panics is an end as well.
        this.ended = true;
        let _leave = Leave(&this.inside);
        let polled = this.future.as_mut().poll(cx);
        this.ended = polled.is_ready();
        polled
    }
}

impl<F> Drop for Counted<F> {
    fn drop(&mut self) {
        if self.inside.load(Ordering::SeqCst) {
            self.tally.0.at_once.fetch_add(1, Ordering::SeqCst);
        }
        self.tally.0.drops.fetch_add(1, Ordering::SeqCst);
    }
}

/// A waker that counts.
#[derive(Debug, Default)]
pub struct CountingWaker(AtomicUsize);

impl CountingWaker {
    /// One, and the waker for it.
    pub fn new() -> (Arc<CountingWaker>, Waker) {
        let count = Arc::new(CountingWaker::default());
        (count.clone(), Waker::from(count))
    }

    /// How often it was woken.
    pub fn wakes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once with a waker that does nothing.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Collects what a runtime reports.
#[derive(Clone, Debug, Default)]
pub struct Reports(Arc<Mutex<Vec<String>>>);

impl Reports {
    /// Makes what is built report here.
    pub fn of(&self, builder: Builder) -> Builder {
        let reports = self.clone();
        builder.on_error(move |report: &Report<'_>| {
            // The variant's name first, so that it can be asked for.
            let line = format!("{report:?} | {report}");
            reports
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        })
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many are of this variant of [`Report`].
    pub fn count(&self, variant: &str) -> usize {
        self.all()
            .iter()
            .filter(|line| line.starts_with(variant))
            .count()
    }
}

/// A door that code which blocks waits at. Waiting has the limit of all tests.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A closed one.
    pub fn new() -> Gate {
        Gate::default()
    }

    /// Opens it for good.
    pub fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks the thread until it is open; false if that takes longer than `limit`.
    #[must_use]
    pub fn wait_for(&self, limit: Duration) -> bool {
        let open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(open, limit, |open| !*open);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Blocks the thread until it is open.
    #[track_caller]
    pub fn wait(&self) {
        assert!(
            self.wait_for(LIMIT / 2),
            "a gate was not opened within {:?}",
            LIMIT / 2
        );
    }
}

/// Opens a gate when it is dropped, so that a test that fails leaves nobody waiting.
#[derive(Debug)]
pub struct OpenOnDrop(pub Gate);

impl Drop for OpenOnDrop {
    fn drop(&mut self) {
        self.0.open();
    }
}

// ---- cancellation ----

/// Tells that something has come about.
#[derive(Clone, Debug)]
pub struct Signal(Sender<()>, Receiver<()>);

impl Signal {
    /// One that nobody has set.
    #[expect(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Signal {
        let (tell, told) = async_channel::unbounded();
        Signal(tell, told)
    }

    /// Lets one waiter go on.
    pub fn set(&self) {
        self.0.try_send(()).expect("both ends are here");
    }

    /// Waits until it was set once more than it was waited for.
    pub async fn wait(&self) {
        let waited = self.1.recv();
        timeout(LIMIT / 2, waited)
            .await
            .expect("it did not come about")
            .expect("both ends are here");
    }

    /// Tells that it is polled, and is pending for ever.
    pub async fn hold<T>(self) -> T {
        self.set();
        pending().await
    }
}

/// Lets tasks run until this one was polled and waits, or has ended: that each of them has had a turn, as after
/// a yield, is true of one worker alone.
pub async fn rests(id: Id) {
    let handle = Handle::current();
    let goes_on = |task: TaskInfo| task.id() == id && task.state() != TaskState::Idle;
    while handle.tasks().into_iter().any(goes_on) {
        yield_now().await;
    }
}

/// A task that was handed its own abort handle.
pub fn with_own_handle<F, T>(body: impl FnOnce(AbortHandle) -> F + Send + 'static) -> JoinHandle<T>
where
    F: Future<Output = T> + Send,
    T: Send + 'static,
{
    let (hand, handed) = async_channel::bounded::<AbortHandle>(1);
    let task = heist::spawn(async move {
        let own = handed.recv().await.expect("it is handed over");
        body(own).await
    });
    hand.try_send(task.abort_handle()).expect("there is room");
    task
}

/// Runs as a task, since the main future catches nothing.
pub fn in_a_task<F: Future + Send + 'static>(body: F) -> F::Output
where
    F::Output: Send + 'static,
{
    within(|| run(async { heist::spawn(body).await.unwrap_or_else(|e| panic!("{e}")) }))
}
