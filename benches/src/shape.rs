//! Shapes of work by name, and the one place that brings a shape and a runtime together.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::time::Duration;

use crate::affinity;
use crate::limits;
use crate::load::{Asked, Mode};
use crate::meter::Sample;
use crate::peer::{Full, Peer};
use crate::peers::executor::{Plain, Static};
use crate::peers::pool::Pool;
use crate::peers::tokio::{Eager, Tokio};
use crate::runtime_id::RuntimeId;
use crate::shapes::spawn::From;
use crate::shapes::stalls::Flood;
use crate::shapes::start_stop::Use;
use crate::shapes::yields::How;
use crate::shapes::{
    blocking, churn, echo, http, idle, messages, spawn, stalls, start_stop, timers, wake, yields,
};

/// The figure a shape is about. Less is better for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headline {
    /// Wall time per operation.
    Wall,
    /// CPU time of the process per operation.
    Cpu,
    /// Median latency.
    P50,
    /// 99th percentile of the latency.
    P99,
    /// Bytes that an operation holds, as asked of the allocator.
    Bytes,
    /// Context switches per operation.
    Switches,
}

impl Headline {
    /// What it is called in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wall => "wall ns/op",
            Self::Cpu => "CPU ns/op",
            Self::P50 => "p50 ns",
            Self::P99 => "p99 ns",
            Self::Bytes => "bytes",
            Self::Switches => "switches/op",
        }
    }

    /// Whether it is a time.
    #[must_use]
    pub fn is_time(self) -> bool {
        !matches!(self, Self::Bytes | Self::Switches)
    }
}

/// Where the thread that rings is kept, and the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ringer {
    /// Both on the first CPU.
    Same,
    /// The runtime on the first CPU, the thread on the last.
    Other,
    /// Neither is kept anywhere.
    Any,
}

/// Where the server and its load generator are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cpus {
    /// The generator on the last; the server, if it has one worker, on the first, else free.
    Two,
    /// Both on the first.
    One,
}

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Served {
    mode: Mode,
    cpus: Cpus,
    connections: usize,
    bytes: usize,
    requests: u64,
}

/// Who misbehaves, and what is looked at meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stall {
    /// A task that wakes others and then blocks; the woken.
    Woken,
    /// A blocker; timers.
    Timers,
    /// A blocker; sockets.
    Sockets,
    /// A flood; both, and plain tasks.
    Flood(Flood),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Wide { from: From, tasks: u64 },
    BesideBusy { tasks: u64 },
    Chain { length: u64 },
    Tree { arity: u64, depth: u32 },
    Yield { how: How, tasks: u64, times: u64 },
    PingPong { pairs: u64 },
    RoundTrip { trips: u64 },
    Stream { messages: u64 },
    Ring { tasks: u64, rounds: u64 },
    TimersCancel { timers: u64 },
    TimersSleeping { tasks: u64 },
    TimeoutReady { calls: u64 },
    Blocking { calls: u64 },
    Served(Served),
    Wake { ringer: Ringer, rings: u64 },
    StartStop(Use),
    StartSecond,
    IdleBytes { tasks: u64 },
    IdleWakeups { tasks: u64, sockets: usize },
    Stall { stall: Stall, period: Duration },
}

/// Places in the channel of [`Work::Stream`].
const PLACES: usize = 64;
/// Tasks that the blocker of [`Stall::Woken`] wakes, and timetables or sockets beside the other blockers.
const WOKEN: u64 = 8;
const BESIDE: u64 = 4;
/// How long a blocker blocks, and how long a flood is watched.
const BLOCK: Duration = Duration::from_millis(500);
/// The same when only the results are of interest.
const BLOCK_SMALL: Duration = Duration::from_millis(40);

/// A workload with its parameters and a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    name: &'static str,
    work: Work,
}

/// A shape on a runtime that is built: runs so many batches. Dropping it stops the runtime.
pub type Opened = Box<dyn FnMut(u64) -> io::Result<Sample>>;

const fn shape(name: &'static str, work: Work) -> Shape {
    Shape { name, work }
}

const fn wide(name: &'static str, from: From, tasks: u64) -> Shape {
    shape(name, Work::Wide { from, tasks })
}

const fn yielding(name: &'static str, how: How, tasks: u64, times: u64) -> Shape {
    shape(name, Work::Yield { how, tasks, times })
}

const fn serving(
    name: &'static str,
    mode: Mode,
    cpus: Cpus,
    connections: usize,
    bytes: usize,
) -> Shape {
    // One connection gets so many requests per batch, several get more: a batch is some ten milliseconds. Very many get
    // enough for each to be asked several times.
    let requests = match connections {
        1 => 1_000,
        2..=999 => 5_000,
        _ => 20_000,
    };
    let served = Served {
        mode,
        cpus,
        connections,
        bytes,
        requests,
    };
    shape(name, Work::Served(served))
}

const fn echoing(name: &'static str, connections: usize) -> Shape {
    serving(name, Mode::Echo, Cpus::Two, connections, 64)
}

const fn echoing_16k(name: &'static str, connections: usize) -> Shape {
    serving(name, Mode::Echo, Cpus::Two, connections, 16 * 1024)
}

const fn waking(name: &'static str, ringer: Ringer) -> Shape {
    shape(name, Work::Wake { ringer, rings: 100 })
}

const fn stalling(name: &'static str, stall: Stall) -> Shape {
    let period = BLOCK;
    shape(name, Work::Stall { stall, period })
}

impl Shape {
    /// All shapes, in the order of the tables.
    pub const ALL: &[Self] = &[
        wide("spawn_join_1k", From::Task, 1_000),
        wide("spawn_join_10k", From::Task, 10_000),
        wide("spawn_join_100k", From::Task, 100_000),
        wide("spawn_join_1m", From::Task, 1_000_000),
        wide("spawn_main_10k", From::Main, 10_000),
        wide("spawn_outside_10k", From::Outside(1), 10_000),
        wide("spawn_outside_4x", From::Outside(4), 10_000),
        shape("spawn_batch_busy", Work::BesideBusy { tasks: 1_000 }),
        shape("spawn_chain", Work::Chain { length: 1_000 }),
        shape(
            "fork_join_16",
            Work::Tree {
                arity: 2,
                depth: 16,
            },
        ),
        shape(
            "fork_join_10ary",
            Work::Tree {
                arity: 10,
                depth: 6,
            },
        ),
        yielding("yield_200", How::Own, 200, 1_000),
        yielding("yield_one", How::Own, 1, 1_000_000),
        yielding("yield_one_plain", How::Plain, 1, 1_000_000),
        shape("ping_pong", Work::PingPong { pairs: 1_000 }),
        shape("round_trip", Work::RoundTrip { trips: 10_000 }),
        shape("channel", Work::Stream { messages: 100_000 }),
        shape(
            "ring_64",
            Work::Ring {
                tasks: 64,
                rounds: 200,
            },
        ),
        echoing("echo_1", 1),
        echoing("echo_8", 8),
        echoing("echo_50", 50),
        echoing("echo_64", 64),
        echoing("echo_500", 500),
        echoing("echo_512", 512),
        echoing("echo_4096", 4096),
        echoing_16k("echo_16k_1", 1),
        echoing_16k("echo_16k_8", 8),
        echoing_16k("echo_16k_64", 64),
        echoing_16k("echo_16k_512", 512),
        echoing_16k("echo_16k_4096", 4096),
        serving("echo_same_cpu_1", Mode::Echo, Cpus::One, 1, 64),
        serving("echo_same_cpu_50", Mode::Echo, Cpus::One, 50, 64),
        serving("churn", Mode::Churn, Cpus::Two, 16, 64),
        serving("http_1", Mode::Http, Cpus::Two, 1, 0),
        serving("http_50", Mode::Http, Cpus::Two, 50, 0),
        shape("timers_cancel", Work::TimersCancel { timers: 1_000_000 }),
        shape("timers_sleeping", Work::TimersSleeping { tasks: 100_000 }),
        shape("timers_ready", Work::TimeoutReady { calls: 100_000 }),
        shape("blocking_10k", Work::Blocking { calls: 10_000 }),
        shape("start_stop", Work::StartStop(Use::Main)),
        shape("start_stop_task", Work::StartStop(Use::Task)),
        shape("start_stop_second", Work::StartSecond),
        waking("foreign_wake_same_cpu", Ringer::Same),
        waking("foreign_wake_other_cpu", Ringer::Other),
        waking("foreign_wake_any_cpu", Ringer::Any),
        shape("idle_task_bytes", Work::IdleBytes { tasks: 100_000 }),
        shape(
            "idle_wakeups",
            Work::IdleWakeups {
                tasks: 10_000,
                sockets: 100,
            },
        ),
        stalling("stall_woken", Stall::Woken),
        stalling("stall_timers", Stall::Timers),
        stalling("stall_sockets", Stall::Sockets),
        stalling("fair_pair", Stall::Flood(Flood::Pair)),
        stalling("fair_sockets", Stall::Flood(Flood::Sockets)),
        stalling("fair_spawns", Stall::Flood(Flood::Spawns)),
    ];

    /// The name in tables and on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The shape of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|shape| shape.name == name)
    }

    /// The shapes whose names begin with one of `prefixes`.
    pub fn beginning_with(prefixes: &[&str]) -> impl Iterator<Item = Self> {
        Self::ALL
            .iter()
            .copied()
            .filter(|shape| prefixes.iter().any(|prefix| shape.name.starts_with(prefix)))
    }

    /// The same work in small, for tests of the results. Its times say nothing.
    #[must_use]
    pub fn small(mut self) -> Self {
        match &mut self.work {
            Work::Wide { tasks, .. }
            | Work::BesideBusy { tasks }
            | Work::TimersSleeping { tasks }
            | Work::IdleWakeups { tasks, .. } => *tasks = 200,
            // Enough for what the runtime has once to be little of it.
            Work::IdleBytes { tasks } => *tasks = 1000,
            Work::Chain { length } => *length = 200,
            Work::Tree { depth, .. } => *depth = 3,
            Work::Yield { tasks, times, .. } => {
                *tasks = (*tasks).min(5);
                *times = 200;
            }
            Work::PingPong { pairs: number }
            | Work::RoundTrip { trips: number }
            | Work::Stream { messages: number }
            | Work::TimersCancel { timers: number }
            | Work::TimeoutReady { calls: number }
            | Work::Blocking { calls: number } => *number = 200,
            Work::Ring { rounds, .. } => *rounds = 5,
            Work::Served(served) => {
                served.connections = served.connections.min(100);
                served.requests = 300;
            }
            Work::Wake { rings, .. } => *rings = 10,
            Work::StartStop(_) | Work::StartSecond => {}
            Work::Stall { period, .. } => *period = BLOCK_SMALL,
        }
        self
    }

    /// How many operations a batch has, if that is known before it runs.
    #[must_use]
    pub fn operations(&self) -> Option<u64> {
        Some(match self.work {
            Work::Wide { tasks, .. }
            | Work::BesideBusy { tasks }
            | Work::TimersSleeping { tasks }
            | Work::IdleBytes { tasks } => tasks,
            Work::Chain { length } => length,
            Work::Tree { arity, depth } => (1..=depth).map(|level| arity.pow(level)).sum(),
            Work::Yield { tasks, times, .. } => tasks * times,
            Work::PingPong { pairs: number }
            | Work::RoundTrip { trips: number }
            | Work::Stream { messages: number }
            | Work::TimersCancel { timers: number }
            | Work::TimeoutReady { calls: number }
            | Work::Blocking { calls: number } => number,
            Work::Ring { tasks, rounds } => tasks * rounds,
            Work::Served(served) => served.requests,
            Work::Wake { rings, .. } => rings,
            Work::StartStop(_) | Work::StartSecond | Work::IdleWakeups { .. } => 1,
            Work::Stall {
                stall: Stall::Woken,
                ..
            } => WOKEN,
            // A number of probes that follows from times.
            Work::Stall { .. } => return None,
        })
    }

    /// The figure this shape is about.
    #[must_use]
    pub fn headline(&self) -> Headline {
        match self.work {
            // Throughput is the generator's there, but for connections that come and go.
            Work::Served(served) if served.mode != Mode::Churn => Headline::Cpu,
            Work::TimersSleeping { .. } => Headline::Cpu,
            Work::Wake { .. } => Headline::P50,
            Work::Stall { .. } => Headline::P99,
            Work::IdleBytes { .. } => Headline::Bytes,
            Work::IdleWakeups { .. } => Headline::Switches,
            _ => Headline::Wall,
        }
    }

    /// Whether its program must have the allocator that counts.
    #[must_use]
    pub fn counts_memory(&self) -> bool {
        matches!(self.work, Work::IdleBytes { .. })
    }

    /// Connections that the server of this shape has at once, and the bytes of a request.
    #[must_use]
    pub fn echoed(&self) -> Option<(usize, usize)> {
        match self.work {
            Work::Served(served) if served.mode == Mode::Echo && served.cpus == Cpus::Two => {
                Some((served.connections, served.bytes))
            }
            _ => None,
        }
    }

    /// Tasks that one task spawns at once in this shape.
    #[must_use]
    pub fn spawned(&self) -> Option<u64> {
        match self.work {
            Work::Wide {
                from: From::Task,
                tasks,
            } => Some(tasks),
            _ => None,
        }
    }

    /// Whether the shape can be played with so many workers.
    #[must_use]
    pub fn suits_workers(&self, workers: usize) -> bool {
        workers >= 2 || self.work != Work::StartSecond
    }

    /// Whether `runtime` has what this shape needs.
    #[must_use]
    pub fn suits(&self, runtime: RuntimeId) -> bool {
        let is_stall = matches!(self.work, Work::Stall { .. });
        match runtime {
            RuntimeId::Bare => {
                matches!(self.work, Work::Served(served) if served.mode != Mode::Http)
            }
            RuntimeId::Pool => match self.work {
                Work::Served(_)
                | Work::TimersCancel { .. }
                | Work::TimersSleeping { .. }
                | Work::TimeoutReady { .. }
                | Work::Blocking { .. }
                | Work::StartSecond
                | Work::IdleWakeups { .. } => false,
                // Its threads never leave a task that keeps waking itself.
                Work::BesideBusy { .. } => false,
                Work::Stall { stall, .. } => stall == Stall::Woken,
                _ => true,
            },
            RuntimeId::Eager => is_stall,
            _ => true,
        }
    }

    /// Builds `runtime` with `workers` workers, ready for this shape; `None` if the runtime cannot play.
    ///
    /// # Errors
    ///
    /// The runtime could not be built, or the thread not be pinned, or the system gives too few file descriptors
    /// ([`io::ErrorKind::QuotaExceeded`]).
    pub fn open(&self, runtime: RuntimeId, workers: usize) -> io::Result<Option<Opened>> {
        if !self.suits(runtime) || !self.suits_workers(workers) {
            return Ok(None);
        }
        if let Work::Served(served) = self.work {
            limits::raise_descriptors();
            limits::allow(served.connections)
                .map_err(|reason| io::Error::new(io::ErrorKind::QuotaExceeded, reason))?;
        }
        let opened = match runtime {
            #[cfg(feature = "heist")]
            RuntimeId::Heist => self.open_full::<crate::heist_impl::Heist>(workers)?,
            RuntimeId::Tokio => self.open_full::<Tokio>(workers)?,
            RuntimeId::Eager => self.open_full::<Eager>(workers)?,
            RuntimeId::Executor => self.open_full::<Plain>(workers)?,
            RuntimeId::Static => self.open_full::<Static>(workers)?,
            RuntimeId::Pool => self.open_tasks::<Pool>(workers)?,
            RuntimeId::Bare => self.open_bare(workers)?,
        };
        Ok(Some(opened))
    }

    /// The shapes of a runtime that has everything.
    fn open_full<P: Full>(self, workers: usize) -> io::Result<Opened> {
        if let Work::Served(served) = self.work {
            let (pinned, asked) = place(served, workers)?;
            let mut peer = P::build(workers)?;
            return Ok(Box::new(move |batches| {
                let _while_open = &pinned;
                let requests = served.requests * batches;
                match served.mode {
                    Mode::Echo => echo::echo(&mut peer, asked, requests),
                    Mode::Http => http::http(&mut peer, asked, requests),
                    Mode::Churn => churn::churn(&mut peer, asked, requests),
                }
            }));
        }
        if self.work == Work::StartSecond {
            return Ok(Box::new(move |batches| {
                start_stop::on_second_thread::<P>(workers, batches)
            }));
        }
        if !needs_everything(self.work) {
            return self.open_tasks::<P>(workers);
        }
        let mut peer = P::build(workers)?;
        Ok(Box::new(move |batches| {
            run_full(self.work, &mut peer, batches)
        }))
    }

    /// The shapes that need tasks alone.
    fn open_tasks<P: Peer>(self, workers: usize) -> io::Result<Opened> {
        Ok(match self.work {
            Work::StartStop(used) => {
                Box::new(move |batches| start_stop::start_stop::<P>(workers, used, batches))
            }
            Work::Wake { ringer, rings } => {
                let (runtime_on, ringer_on) = match ringer {
                    Ringer::Same => (Some(affinity::first_cpu()?), Some(affinity::first_cpu()?)),
                    Ringer::Other => (Some(affinity::first_cpu()?), Some(affinity::last_cpu()?)),
                    Ringer::Any => (None, None),
                };
                let pinned = runtime_on.map(affinity::pin).transpose()?;
                let mut peer = P::build(workers)?;
                Box::new(move |batches| {
                    let _while_open = &pinned;
                    wake::foreign_wake(&mut peer, ringer_on, rings, batches)
                })
            }
            work => {
                let mut peer = P::build(workers)?;
                Box::new(move |batches| run_tasks(work, &mut peer, batches))
            }
        })
    }

    fn open_bare(self, workers: usize) -> io::Result<Opened> {
        let Work::Served(served) = self.work else {
            unreachable!("{self} does not suit bare loops");
        };
        let (pinned, asked) = place(served, workers)?;
        Ok(Box::new(move |batches| {
            let _while_open = &pinned;
            let requests = served.requests * batches;
            match served.mode {
                Mode::Churn => churn::churn_bare(workers, asked, requests),
                Mode::Echo | Mode::Http => echo::echo_bare(workers, asked, requests),
            }
        }))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Places this thread, from which the server's threads inherit, and chooses the CPU of the load generator.
fn place(served: Served, workers: usize) -> io::Result<(Option<affinity::Pinned>, Asked)> {
    // Both are asked for before the mask shrinks.
    let (first, last) = (affinity::first_cpu()?, affinity::last_cpu()?);
    let (server, generator) = match served.cpus {
        Cpus::One => (Some(first), first),
        Cpus::Two => ((workers == 1).then_some(first), last),
    };
    let asked = Asked {
        mode: served.mode,
        connections: served.connections,
        bytes: served.bytes,
        cpu: generator,
    };
    Ok((server.map(affinity::pin).transpose()?, asked))
}

/// Whether futures' pool could not play it.
fn needs_everything(work: Work) -> bool {
    !matches!(work, Work::BesideBusy { .. }) && !shape("", work).suits(RuntimeId::Pool)
}

/// The shapes that need sockets, timers or a blocking pool.
fn run_full<P: Full>(work: Work, peer: &mut P, batches: u64) -> io::Result<Sample> {
    Ok(match work {
        Work::TimersCancel { timers } => timers::cancel(peer, timers, batches),
        Work::TimersSleeping { tasks } => timers::sleepers(peer, tasks, batches),
        Work::TimeoutReady { calls } => timers::ready(peer, calls, batches),
        Work::Blocking { calls } => blocking::short(peer, calls, batches),
        Work::IdleWakeups { tasks, sockets } => idle::wakeups(peer, tasks, sockets, batches)?,
        Work::Stall { stall, period } => match stall {
            Stall::Woken => stalls::woken(peer, WOKEN, period, batches),
            Stall::Timers => stalls::timers(peer, BESIDE, period, batches),
            Stall::Sockets => stalls::sockets(peer, BESIDE, period, batches)?,
            Stall::Flood(flood) => stalls::fairness(peer, flood, period, batches)?,
        },
        _ => unreachable!("{work:?} needs tasks alone"),
    })
}

/// The shapes that need nothing but tasks.
fn run_tasks<P: Peer>(work: Work, peer: &mut P, batches: u64) -> io::Result<Sample> {
    Ok(match work {
        Work::Wide { from, tasks } => spawn::wide(peer, from, tasks, batches),
        Work::BesideBusy { tasks } => spawn::beside_busy(peer, tasks, batches),
        Work::Chain { length } => spawn::chain(peer, length, batches),
        Work::Tree { arity, depth } => spawn::tree(peer, arity, depth, batches),
        Work::Yield { how, tasks, times } => yields::yields(peer, how, tasks, times, batches),
        Work::PingPong { pairs } => messages::ping_pong(peer, pairs, batches),
        Work::RoundTrip { trips } => messages::round_trip(peer, trips, batches),
        Work::Stream { messages } => messages::stream(peer, PLACES, messages, batches),
        Work::Ring { tasks, rounds } => messages::ring(peer, tasks, rounds, batches),
        Work::IdleBytes { tasks } => idle::bytes(peer, tasks, batches)?,
        Work::Stall {
            stall: Stall::Woken,
            period,
        } => stalls::woken(peer, WOKEN, period, batches),
        _ => unreachable!("{work:?} is opened by its own arm"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for shape in Shape::ALL {
            let same = Shape::ALL.iter().filter(|other| other.name == shape.name);
            assert_eq!(same.count(), 1, "{shape} is listed once");
            assert_eq!(Shape::named(shape.name), Some(*shape));
        }
        for &runtime in RuntimeId::ALL {
            assert_eq!(RuntimeId::named(runtime.name()), Some(runtime));
        }
        assert_eq!(Shape::beginning_with(&["echo_", "ring"]).count(), 15);
    }

    #[test]
    fn the_small_shapes_have_few_operations() {
        for shape in Shape::ALL {
            let (whole, small) = (shape.operations(), shape.small().operations());
            assert_eq!(whole.is_some(), small.is_some(), "{shape}");
            assert!(
                small <= whole && small.unwrap_or(0) < 2000,
                "{shape}: {small:?}"
            );
        }
    }
}
