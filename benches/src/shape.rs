//! Shapes of work by name, and the one place that brings a shape and a runtime together.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use crate::affinity;
use crate::meter::Sample;
use crate::peer::{Net, Peer, Timers};
use crate::peers::executor::{Plain, Static};
use crate::peers::pool::Pool;
use crate::peers::tokio::Tokio;
use crate::shapes::spawn::From;
use crate::shapes::start_stop::Use;
use crate::shapes::yields::How;
use crate::shapes::{echo, messages, spawn, start_stop, timers, wake, yields};

/// A runtime under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeId {
    /// heist.
    #[cfg(feature = "heist")]
    Heist,
    /// tokio's multi-threaded runtime.
    Tokio,
    /// async-executor with async-io.
    Executor,
    /// async-executor's `StaticExecutor` with async-io.
    Static,
    /// futures' `ThreadPool`.
    Pool,
    /// Bare epoll loops; echo alone.
    Bare,
}

impl RuntimeId {
    /// All of them, heist first.
    pub const ALL: &[Self] = &[
        #[cfg(feature = "heist")]
        Self::Heist,
        Self::Tokio,
        Self::Executor,
        Self::Static,
        Self::Pool,
        Self::Bare,
    ];

    /// The name in tables and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "heist")]
            Self::Heist => "heist",
            Self::Tokio => "tokio",
            Self::Executor => "async-executor",
            Self::Static => "static-executor",
            Self::Pool => "futures-pool",
            Self::Bare => "bare-epoll",
        }
    }

    /// The runtime of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|id| id.name() == name)
    }

    /// Whether it is an executor that heist is to be measured against.
    #[must_use]
    pub fn is_peer(self) -> bool {
        !matches!(self.name(), "heist" | "bare-epoll")
    }
}

/// The figure a shape is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headline {
    /// Wall time per operation.
    Wall,
    /// CPU time of the process per operation.
    Cpu,
    /// Median latency.
    P50,
}

impl Headline {
    /// What it is called in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wall => "wall ns/op",
            Self::Cpu => "CPU ns/op",
            Self::P50 => "p50 ns",
        }
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

/// Where the echo server and its load generator are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cpus {
    /// The generator on the last; the server, if it has one worker, on the first, else free.
    Two,
    /// Both on the first.
    One,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Wide {
        from: From,
        tasks: u64,
    },
    Chain {
        length: u64,
    },
    Tree {
        depth: u32,
    },
    Yield {
        how: How,
        tasks: u64,
        times: u64,
    },
    PingPong {
        pairs: u64,
    },
    RoundTrip {
        trips: u64,
    },
    Ring {
        tasks: u64,
        rounds: u64,
    },
    TimersCancel {
        timers: u64,
    },
    TimersSleeping {
        tasks: u64,
    },
    Echo {
        cpus: Cpus,
        connections: usize,
        requests: u64,
    },
    Wake {
        ringer: Ringer,
        rings: u64,
    },
    StartStop(Use),
}

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

const fn echoing(name: &'static str, cpus: Cpus, connections: usize) -> Shape {
    // One connection gets so many requests per batch, several get more: a batch is some ten milliseconds.
    let requests = if connections == 1 { 1_000 } else { 5_000 };
    let work = Work::Echo {
        cpus,
        connections,
        requests,
    };
    shape(name, work)
}

const fn waking(name: &'static str, ringer: Ringer) -> Shape {
    shape(name, Work::Wake { ringer, rings: 100 })
}

impl Shape {
    /// All shapes, in the order of the tables.
    pub const ALL: &[Self] = &[
        wide("spawn_join_1k", From::Task, 1_000),
        wide("spawn_join_10k", From::Task, 10_000),
        wide("spawn_join_100k", From::Task, 100_000),
        wide("spawn_main_10k", From::Main, 10_000),
        wide("spawn_outside_10k", From::Outside, 10_000),
        shape("spawn_chain", Work::Chain { length: 1_000 }),
        shape("fork_join_16", Work::Tree { depth: 16 }),
        yielding("yield_200", How::Own, 200, 1_000),
        yielding("yield_one", How::Own, 1, 1_000_000),
        yielding("yield_one_plain", How::Plain, 1, 1_000_000),
        shape("ping_pong", Work::PingPong { pairs: 1_000 }),
        shape("round_trip", Work::RoundTrip { trips: 10_000 }),
        shape(
            "ring_64",
            Work::Ring {
                tasks: 64,
                rounds: 200,
            },
        ),
        echoing("echo_1", Cpus::Two, 1),
        echoing("echo_50", Cpus::Two, 50),
        echoing("echo_500", Cpus::Two, 500),
        echoing("echo_same_cpu_1", Cpus::One, 1),
        echoing("echo_same_cpu_50", Cpus::One, 50),
        shape("timers_cancel", Work::TimersCancel { timers: 100_000 }),
        shape("timers_sleeping", Work::TimersSleeping { tasks: 100_000 }),
        shape("start_stop", Work::StartStop(Use::Main)),
        shape("start_stop_task", Work::StartStop(Use::Task)),
        waking("foreign_wake_same_cpu", Ringer::Same),
        waking("foreign_wake_other_cpu", Ringer::Other),
        waking("foreign_wake_any_cpu", Ringer::Any),
    ];

    /// The name in tables and on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The shapes whose names begin with one of `prefixes`.
    pub fn beginning_with(prefixes: &[&str]) -> impl Iterator<Item = Self> {
        Self::ALL
            .iter()
            .copied()
            .filter(|shape| prefixes.iter().any(|prefix| shape.name.starts_with(prefix)))
    }

    /// The figure this shape is about.
    #[must_use]
    pub fn headline(&self) -> Headline {
        match self.work {
            Work::Echo { .. } | Work::TimersSleeping { .. } => Headline::Cpu,
            Work::Wake { .. } => Headline::P50,
            _ => Headline::Wall,
        }
    }

    /// Whether `runtime` has what this shape needs.
    #[must_use]
    pub fn suits(&self, runtime: RuntimeId) -> bool {
        let echo = matches!(self.work, Work::Echo { .. });
        let timers = matches!(
            self.work,
            Work::TimersCancel { .. } | Work::TimersSleeping { .. }
        );
        match runtime {
            RuntimeId::Bare => echo,
            RuntimeId::Pool => !echo && !timers,
            _ => true,
        }
    }

    /// Builds `runtime` with `workers` workers, ready for this shape; `None` if the runtime cannot play.
    ///
    /// # Errors
    ///
    /// The runtime could not be built, or the thread not be pinned.
    pub fn open(&self, runtime: RuntimeId, workers: usize) -> io::Result<Option<Opened>> {
        let opened = match runtime {
            #[cfg(feature = "heist")]
            RuntimeId::Heist => self.open_full::<crate::heist_impl::Heist>(workers)?,
            RuntimeId::Tokio => self.open_full::<Tokio>(workers)?,
            RuntimeId::Executor => self.open_full::<Plain>(workers)?,
            RuntimeId::Static => self.open_full::<Static>(workers)?,
            RuntimeId::Pool => return self.open_tasks::<Pool>(workers),
            RuntimeId::Bare => return self.open_bare(workers),
        };
        Ok(Some(opened))
    }

    /// The shapes of a runtime that has everything.
    fn open_full<P: Net + Timers>(self, workers: usize) -> io::Result<Opened> {
        Ok(match self.work {
            Work::TimersCancel { timers } => {
                let mut peer = P::build(workers)?;
                Box::new(move |batches| Ok(timers::cancel(&mut peer, timers, batches)))
            }
            Work::TimersSleeping { tasks } => {
                let mut peer = P::build(workers)?;
                Box::new(move |batches| Ok(timers::sleepers(&mut peer, tasks, batches)))
            }
            Work::Echo {
                cpus,
                connections,
                requests,
            } => {
                let (pinned, placed) = place(cpus, connections, workers)?;
                let mut peer = P::build(workers)?;
                Box::new(move |batches| {
                    let _while_open = &pinned;
                    echo::echo(&mut peer, placed, requests * batches)
                })
            }
            _ => self
                .open_tasks::<P>(workers)?
                .expect("every runtime plays the other shapes"),
        })
    }

    /// The shapes that need tasks alone.
    fn open_tasks<P: Peer>(self, workers: usize) -> io::Result<Option<Opened>> {
        let opened: Opened = match self.work {
            Work::TimersCancel { .. } | Work::TimersSleeping { .. } | Work::Echo { .. } => {
                return Ok(None);
            }
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
                Box::new(move |batches| Ok(run_plain(work, &mut peer, batches)))
            }
        };
        Ok(Some(opened))
    }

    fn open_bare(self, workers: usize) -> io::Result<Option<Opened>> {
        let Work::Echo {
            cpus,
            connections,
            requests,
        } = self.work
        else {
            return Ok(None);
        };
        let (pinned, placed) = place(cpus, connections, workers)?;
        Ok(Some(Box::new(move |batches| {
            let _while_open = &pinned;
            echo::echo_bare(workers, placed, requests * batches)
        })))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Places this thread, from which the server's threads inherit, and chooses the CPU of the load generator.
fn place(
    cpus: Cpus,
    connections: usize,
    workers: usize,
) -> io::Result<(Option<affinity::Pinned>, echo::Placed)> {
    // Both are asked for before the mask shrinks.
    let (first, last) = (affinity::first_cpu()?, affinity::last_cpu()?);
    let (server, generator) = match cpus {
        Cpus::One => (Some(first), first),
        Cpus::Two => ((workers == 1).then_some(first), last),
    };
    let placed = echo::Placed {
        connections,
        generator,
    };
    Ok((server.map(affinity::pin).transpose()?, placed))
}

/// The shapes that need nothing but a built runtime.
fn run_plain<P: Peer>(work: Work, peer: &mut P, batches: u64) -> Sample {
    match work {
        Work::Wide { from, tasks } => spawn::wide(peer, from, tasks, batches),
        Work::Chain { length } => spawn::chain(peer, length, batches),
        Work::Tree { depth } => spawn::tree(peer, depth, batches),
        Work::Yield { how, tasks, times } => yields::yields(peer, how, tasks, times, batches),
        Work::PingPong { pairs } => messages::ping_pong(peer, pairs, batches),
        Work::RoundTrip { trips } => messages::round_trip(peer, trips, batches),
        Work::Ring { tasks, rounds } => messages::ring(peer, tasks, rounds, batches),
        Work::TimersCancel { .. }
        | Work::TimersSleeping { .. }
        | Work::Echo { .. }
        | Work::Wake { .. }
        | Work::StartStop(_) => unreachable!("{work:?} is opened by its own arm"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// One batch takes a second at most in an optimised build, some tens without.
    const LIMIT: Duration = Duration::from_secs(100);

    /// One batch of a shape on a runtime with two workers, in a thread of its own so that a hang has a name.
    fn one_batch(shape: Shape, runtime: RuntimeId) -> Option<Sample> {
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let opened = shape.open(runtime, 2).expect("the runtime is built");
            let sample = opened.map(|mut run| run(1).expect("the batch runs"));
            tell.send(sample).expect("the test waits for the sample");
        });
        match told.recv_timeout(LIMIT) {
            Ok(sample) => {
                thread.join().expect("the sample was sent");
                sample
            }
            Err(error) => panic!("{shape} on {}: {error} within {LIMIT:?}", runtime.name()),
        }
    }

    /// Every runtime that suits a shape opens it and does one batch; the workloads check their own results.
    #[test]
    fn every_runtime_plays_every_shape_it_suits() {
        // The echo shapes start this executable again as the load generator, which a test harness cannot become.
        let playable = |shape: &&Shape| !matches!(shape.work, Work::Echo { .. });
        for &shape in Shape::ALL.iter().filter(playable) {
            for &runtime in RuntimeId::ALL {
                let sample = one_batch(shape, runtime);
                assert_eq!(
                    sample.is_some(),
                    shape.suits(runtime),
                    "{shape} {runtime:?}"
                );
                if let Some(sample) = sample {
                    assert!(
                        sample.ops > 0 && !sample.wall.is_zero(),
                        "{shape} {runtime:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn names_are_unique_and_found() {
        for shape in Shape::ALL {
            let same = Shape::ALL.iter().filter(|other| other.name == shape.name);
            assert_eq!(same.count(), 1, "{shape} is listed once");
        }
        for &runtime in RuntimeId::ALL {
            assert_eq!(RuntimeId::named(runtime.name()), Some(runtime));
        }
        assert_eq!(Shape::beginning_with(&["echo_", "ring"]).count(), 6);
    }
}
