//! The whole of a soak: both runtimes, the looks, the end.
#![forbid(unsafe_code)]

use crate::clients::Client;
use crate::judge::{FEWEST, FIGURES, Finding};
use crate::leak::Leak;
use crate::options::Options;
use crate::process::{Holdings, holdings};
use crate::report::shown;
use crate::sample::Sample;
use crate::server::ON_PURPOSE;
use crate::traffic::{Clock, Counts, Spread, Traffic};
use crate::{heap, server};
use heist::inspect::RuntimeMetrics;
use heist::{Handle, Report, Runtime, ShutdownReport};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A look each so long; a short run is looked at [`SHORT`] times.
const LOOK: Duration = Duration::from_secs(1);
const SHORT: u32 = 40;
/// What is not judged: a tenth of the time, within these bounds.
const WARM_UP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Threads of each blocking pool. They end and begin, since they are kept for a shorter time than the pauses last.
const BLOCKING: usize = 8;
const KEPT_ALIVE: Duration = Duration::from_millis(200);
/// How long the thread that is compared with sleeps each time.
const NAP: Duration = Duration::from_millis(1);
/// Bytes that may be in use after the end and were not before: what the standard library keeps for good, for instance.
const KEPT_FOR_GOOD: u64 = 64 * 1024;

/// What came out.
pub(crate) struct Outcome {
    /// In order of time.
    pub(crate) samples: Vec<Sample>,
    /// How many of them are of the warm-up.
    pub(crate) warm: usize,
    pub(crate) whole: Vec<(String, Spread)>,
    pub(crate) counts: Counts,
    unexpected: Vec<String>,
    pub(crate) ends: [End; 2],
    pub(crate) before: Remains,
    pub(crate) after: Remains,
    stray_panics: u64,
}

/// How one of the runtimes ended.
pub(crate) struct End {
    pub(crate) name: &'static str,
    pub(crate) metrics: RuntimeMetrics,
    pub(crate) live_tasks: usize,
    pub(crate) report: ShutdownReport,
}

/// What there is without a runtime.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remains {
    pub(crate) holdings: Holdings,
    pub(crate) heap: u64,
}

impl Remains {
    fn now() -> Remains {
        Remains {
            holdings: holdings(),
            heap: heap::in_use(),
        }
    }
}

/// Runs everything, and prints how it goes on.
pub(crate) fn run(options: &Options) -> Outcome {
    let stray_panics = count_stray_panics();
    let traffic = Traffic::new();
    let leak = Arc::new(Leak::new(options.leak));
    let mut samples = Vec::with_capacity(options.duration.as_secs() as usize + SHORT as usize);
    let before = Remains::now();

    let thread = thread::spawn({
        let traffic = traffic.clone();
        move || nap(&traffic)
    });
    let (stop, stops) = async_channel::bounded::<()>(1);
    let (tell, told) = mpsc::channel();
    let server = Side::start("server", options, &traffic, {
        let (traffic, leak, seed) = (traffic.clone(), leak.clone(), options.seed);
        async move || {
            let ready = move |addresses| tell.send(addresses).expect("they are waited for");
            let stops = async move {
                // Nothing is sent: it ends when the other side is closed.
                let _ = stops.recv().await;
            };
            server::serve(traffic, leak, seed, ready, stops).await
        }
    });
    let addresses: Vec<SocketAddr> = told.recv().expect("the server can listen");
    let clients = Side::start("clients", options, &traffic, {
        let client = Client {
            traffic: traffic.clone(),
            servers: addresses.into(),
        };
        let (count, seed) = (options.clients, options.seed);
        async move || client.run_all(count, seed).await
    });

    let handles = [&server.handle, &clients.handle];
    let warm = watch(options.duration, &traffic, &leak, handles, &mut samples);
    traffic.end();
    let clients = clients.end();
    stop.close();
    let server = server.end();
    thread.join().expect("it does not panic");
    // A thread that was joined is in the system's list for a moment longer.
    for _ in 0..1000 {
        if holdings().threads <= before.holdings.threads {
            break;
        }
        thread::sleep(NAP);
    }
    free_garbage();
    Outcome {
        samples,
        warm,
        whole: traffic.whole(),
        counts: traffic.counts(),
        unexpected: traffic.unexpected(),
        ends: [server, clients],
        before,
        after: Remains::now(),
        stray_panics: stray_panics.load(Ordering::Relaxed),
    }
}

/// Looks again and again until the time is over. Says how many looks were the warm-up.
fn watch(
    duration: Duration,
    traffic: &Traffic,
    leak: &Leak,
    [server, clients]: [&Handle; 2],
    samples: &mut Vec<Sample>,
) -> usize {
    let interval = LOOK.min(duration / SHORT);
    let warm_up = (duration / 10).clamp(WARM_UP.0, WARM_UP.1);
    let begin = Instant::now();
    let (mut last, mut warm) = (begin, None);
    while begin.elapsed() < duration {
        thread::sleep(interval.saturating_sub(last.elapsed()));
        let now = Instant::now();
        let (at, since) = (now - begin, now - last);
        last = now;
        let (at, since) = (at.as_secs_f64(), since.as_secs_f64());
        let sample = Sample::take(at, since, traffic, server, clients);
        if samples.len() % SHORT as usize == 0 {
            println!("{}", sample.to_line());
        }
        samples.push(sample);
        if warm.is_none() && begin.elapsed() >= warm_up {
            warm = Some(samples.len());
            leak.open();
        }
    }
    warm.unwrap_or(samples.len())
}

/// Counts the panics that are not on purpose, and keeps those that are from the screen.
fn count_stray_panics() -> Arc<AtomicU64> {
    let stray = Arc::new(AtomicU64::new(0));
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new({
        let stray = stray.clone();
        move |info| {
            if info
                .payload()
                .downcast_ref::<String>()
                .is_some_and(|text| text == ON_PURPOSE)
            {
                return;
            }
            stray.fetch_add(1, Ordering::Relaxed);
            usual(info);
        }
    }));
    stray
}

/// Whoever leaves a deque has crossbeam-epoch free what others may still look at, and so has every thread that used one
/// and ends. It does so for each thread in batches of 64, which the end of the last thread leaves undone.
fn free_garbage() {
    for _ in 0..1000 {
        crossbeam_epoch::pin().flush();
    }
}

/// Sleeps, and notes how late it is woken, as any thread of this process may be.
fn nap(traffic: &Traffic) {
    while !traffic.is_over() {
        let begin = Instant::now();
        thread::sleep(NAP);
        traffic.late(Clock::Thread, begin.elapsed().saturating_sub(NAP));
    }
}

/// One of the two runtimes, on a thread of its own.
struct Side {
    handle: Handle,
    thread: JoinHandle<End>,
}

impl Side {
    fn start<F, Fut>(name: &'static str, options: &Options, traffic: &Arc<Traffic>, main: F) -> Side
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = io::Result<()>>,
    {
        let builder = Runtime::builder()
            .workers(options.workers)
            .blocking_threads(BLOCKING)
            .blocking_keep_alive(KEPT_ALIVE)
            .thread_name(name)
            .on_error({
                let traffic = traffic.clone();
                move |report: &Report<'_>| traffic.failed(|| format!("{name}: {report}"))
            });
        let mut runtime = builder.build().expect("its threads start later");
        let handle = runtime.handle();
        let thread = thread::Builder::new().name(name.to_owned()).spawn({
            let (traffic, handle) = (traffic.clone(), handle.clone());
            move || {
                if let Err(error) = runtime.run(main()) {
                    traffic.failed(|| format!("{name}: {error}"));
                }
                let metrics = handle.metrics();
                let report = runtime.close();
                End {
                    name,
                    metrics,
                    live_tasks: handle.metrics().live_tasks(),
                    report,
                }
            }
        });
        Side {
            handle,
            thread: thread.expect("a thread can be started"),
        }
    }

    /// Waits for it.
    fn end(self) -> End {
        self.thread.join().expect("what fails in it is counted")
    }
}

impl Outcome {
    /// What the judges say. Empty if there were too few samples.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let judged = &self.samples[self.warm..];
        if judged.len() < FEWEST {
            return Vec::new();
        }
        FIGURES.iter().map(|figure| figure.judge(judged)).collect()
    }

    /// Everything that is not as it should be.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let findings = self.findings();
        let mut complaints = Vec::new();
        if findings.is_empty() {
            complaints.push("too few looks to say anything".to_owned());
        }
        for finding in findings.iter().filter(|finding| !finding.is_flat()) {
            let [base, rise, rise_allowed, peak, peak_allowed] = shown(finding);
            complaints.push(format!(
                "{} did not stay flat: from {base} it rose by {rise} (allowed: {rise_allowed}), its peak was \
                 {peak} (allowed: {peak_allowed})",
                finding.name
            ));
        }
        if self.counts.failures > 0 {
            let (all, first) = (self.counts.failures, self.unexpected.join("; "));
            complaints.push(format!(
                "{all} unexpected failures, the first of them: {first}"
            ));
        }
        if self.stray_panics > 0 {
            complaints.push(format!(
                "{} panics that were not on purpose",
                self.stray_panics
            ));
        }
        complaints.extend(self.left_over());
        complaints
    }

    /// What is there after the end and should not be.
    fn left_over(&self) -> Vec<String> {
        let mut left = Vec::new();
        for End {
            name,
            live_tasks,
            report,
            ..
        } in &self.ends
        {
            let is_clean = report.panicked.is_empty()
                && report.failed.is_empty()
                && report.abandoned.is_empty()
                && report.dropped_after_grace.is_empty()
                && report.blocking_abandoned.is_empty()
                && report.threads_left == 0;
            if *live_tasks > 0 || !is_clean {
                left.push(format!(
                    "the {name} ended with {live_tasks} tasks: {report}"
                ));
            }
        }
        if self.counts.alive != 0 {
            left.push(format!(
                "{} futures and closures were not dropped",
                self.counts.alive
            ));
        }
        if self.after.holdings != self.before.holdings {
            let (before, after) = (self.before.holdings, self.after.holdings);
            left.push(format!(
                "after the end there are {after:?}, before there were {before:?}"
            ));
        }
        let grown = self.after.heap.saturating_sub(self.before.heap);
        if grown > KEPT_FOR_GOOD {
            left.push(format!(
                "after the end {grown} more bytes are in use than before"
            ));
        }
        left
    }
}
