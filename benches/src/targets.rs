//! What heist is to reach, row by row, and whether it did: the table of the design as data.
//!
//! A target compares heist's median of some figure with a limit, or with the median of another runtime or of itself in
//! another row. Less is better for every figure.
#![forbid(unsafe_code)]

use crate::figures::Figures;
use crate::table::{Quartiles, Row, Table, ratio_of, time};

/// A row of the design's table.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What is to be reached, in words.
    pub text: &'static str,
    shapes: &'static [&'static str],
    workers: &'static [usize],
    figure: Of,
    rule: Rule,
}

/// Which figure is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Headline,
    Wall,
    Cpu,
    P50,
    P99,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    /// So many times better than the best peer.
    Best(f64),
    /// So many times better than one runtime.
    Than(&'static str, f64),
    /// At most so many times the better of one and two bare loops.
    Bare(f64),
    /// At most this.
    AtMost(f64),
    /// At most so many times what heist itself has in another shape.
    Growth(&'static str, f64),
    /// At most so many times what heist itself has with so many workers.
    Workers(usize, f64),
}

/// Two workers, on two processors: what the design's table is about.
const TWO: &[usize] = &[2];
const BOTH: &[usize] = &[1, 2];
/// More workers than the smallest machine has processors.
const MORE: &[usize] = &[4, 8];
/// The shapes that are also run with [`MORE`] workers.
pub const OVERSUBSCRIBED: &[&str] = &[
    "spawn_join_10k",
    "fork_join_16",
    "yield_200",
    "ping_pong",
    "echo_50",
];

const fn target(
    text: &'static str,
    shapes: &'static [&'static str],
    workers: &'static [usize],
    figure: Of,
    rule: Rule,
) -> Target {
    Target {
        text,
        shapes,
        workers,
        figure,
        rule,
    }
}

const SPAWN_JOIN: &[&str] = &[
    "spawn_join_1k",
    "spawn_join_10k",
    "spawn_join_100k",
    "spawn_join_1m",
];
const SPAWN_ELSEWHERE: &[&str] = &["spawn_main_10k", "spawn_outside_10k", "spawn_outside_4x"];
const TREES: &[&str] = &["spawn_chain", "fork_join_16", "fork_join_10ary"];
const YIELDS: &[&str] = &["yield_200", "yield_one", "yield_one_plain"];
const MESSAGES: &[&str] = &["ping_pong", "round_trip"];
const ECHO: &[&str] = &[
    "echo_1",
    "echo_8",
    "echo_50",
    "echo_64",
    "echo_500",
    "echo_512",
    "echo_4096",
    "echo_16k_1",
    "echo_16k_8",
    "echo_16k_64",
    "echo_16k_512",
    "echo_16k_4096",
];
const HTTP: &[&str] = &["http_1", "http_50"];
const WAKES: &[&str] = &[
    "foreign_wake_same_cpu",
    "foreign_wake_other_cpu",
    "foreign_wake_any_cpu",
];
const STALLS: &[&str] = &[
    "stall_woken",
    "stall_timers",
    "stall_sockets",
    "fair_pair",
    "fair_sockets",
    "fair_spawns",
];
/// What one worker does without a processor to itself, or with a stall to survive, is not a single thread's work.
const ONE_WORKER: &[&str] = &[
    "spawn_join_1k",
    "spawn_join_10k",
    "spawn_join_100k",
    "spawn_join_1m",
    "spawn_main_10k",
    "spawn_chain",
    "fork_join_16",
    "fork_join_10ary",
    "yield_200",
    "yield_one_plain",
    "ping_pong",
    "round_trip",
    "channel",
    "ring_64",
    "echo_1",
    "echo_50",
    "echo_500",
    "timers_cancel",
    "timers_ready",
];

/// All targets.
pub const TARGETS: &[Target] = &[
    target(
        "spawn + join: ≥ 1.5× the best",
        SPAWN_JOIN,
        TWO,
        Of::Wall,
        Rule::Best(1.5),
    ),
    target(
        "spawn + join: ≥ 4× tokio",
        SPAWN_JOIN,
        TWO,
        Of::Wall,
        Rule::Than("tokio", 4.0),
    ),
    target(
        "spawn + join: a task at 1M ≤ 1.5× one at 1k",
        &["spawn_join_1m"],
        TWO,
        Of::Wall,
        Rule::Growth("spawn_join_1k", 1.5),
    ),
    target(
        "spawn from main and from outside: ≥ 1.5× the best",
        SPAWN_ELSEWHERE,
        TWO,
        Of::Wall,
        Rule::Best(1.5),
    ),
    target(
        "chained spawn, fork-join: ≥ 1.5× the best",
        TREES,
        TWO,
        Of::Wall,
        Rule::Best(1.5),
    ),
    target(
        "yield: ≥ 1.5× tokio",
        YIELDS,
        TWO,
        Of::Wall,
        Rule::Than("tokio", 1.5),
    ),
    target(
        "yield: ≥ 0.9× futures' pool",
        YIELDS,
        TWO,
        Of::Wall,
        Rule::Than("futures-pool", 0.9),
    ),
    target(
        "ping-pong, message round trip: ≥ 1.3× the best",
        MESSAGES,
        BOTH,
        Of::Wall,
        Rule::Best(1.3),
    ),
    target(
        "memory of an idle task: ≤ 112 B asked",
        &["idle_task_bytes"],
        BOTH,
        Of::Headline,
        Rule::AtMost(112.0),
    ),
    target(
        "echo: CPU per request ≤ tokio",
        ECHO,
        BOTH,
        Of::Cpu,
        Rule::Than("tokio", 1.0),
    ),
    target(
        "echo: CPU per request ≤ 1.10× the better of one and two bare loops",
        ECHO,
        BOTH,
        Of::Cpu,
        Rule::Bare(1.1),
    ),
    target(
        "echo: p99 no worse than tokio",
        ECHO,
        BOTH,
        Of::P99,
        Rule::Than("tokio", 1.0),
    ),
    target(
        "HTTP with hyper: CPU per request ≤ tokio",
        HTTP,
        BOTH,
        Of::Cpu,
        Rule::Than("tokio", 1.0),
    ),
    target(
        "connection churn: as fast as tokio",
        &["churn"],
        BOTH,
        Of::Wall,
        Rule::Than("tokio", 1.0),
    ),
    target(
        "foreign wake: p50 ≤ the best",
        WAKES,
        BOTH,
        Of::P50,
        Rule::Best(1.0),
    ),
    target(
        "foreign wake: p99 ≤ the best",
        WAKES,
        BOTH,
        Of::P99,
        Rule::Best(1.0),
    ),
    target(
        "timers made and cancelled: ≥ 1.3× tokio's CPU",
        &["timers_cancel"],
        TWO,
        Of::Cpu,
        Rule::Than("tokio", 1.3),
    ),
    target(
        "100k sleepers: ≥ 1.3× tokio's CPU",
        &["timers_sleeping"],
        TWO,
        Of::Cpu,
        Rule::Than("tokio", 1.3),
    ),
    target(
        "100k sleepers: lateness p50 ≤ 70 µs",
        &["timers_sleeping"],
        TWO,
        Of::P50,
        Rule::AtMost(70e3),
    ),
    target(
        "start + stop: ≤ 10 µs",
        &["start_stop"],
        BOTH,
        Of::Wall,
        Rule::AtMost(10e3),
    ),
    target(
        "start + stop with a second thread and a timer: ≥ 1.5× the best",
        &["start_stop_second"],
        TWO,
        Of::Wall,
        Rule::Best(1.5),
    ),
    target(
        "stalls and floods: everybody else's p99 ≤ 10 ms",
        STALLS,
        BOTH,
        Of::P99,
        Rule::AtMost(10e6),
    ),
    target(
        "idle: no wake-ups",
        &["idle_wakeups"],
        BOTH,
        Of::Headline,
        Rule::AtMost(0.0),
    ),
    target(
        "one worker: no slower than the best peer with one",
        ONE_WORKER,
        &[1],
        Of::Headline,
        Rule::Best(1.0),
    ),
    target(
        "more workers than processors: ≤ 1.2× two workers",
        OVERSUBSCRIBED,
        MORE,
        Of::Headline,
        Rule::Workers(2, 1.2),
    ),
];

/// A target in one row of the figures.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The row.
    pub shape: &'static str,
    /// Its number of workers.
    pub workers: usize,
    /// heist's figure.
    pub heist: String,
    /// What it is compared with.
    pub reference: String,
    /// How many times better heist is; above 1 is better.
    pub ratio: String,
    /// Whether the medians meet the target.
    pub is_met: bool,
    /// Whether the spread of the two sides overlaps where the target puts them, so that another run may say otherwise.
    pub is_close: bool,
}

impl Target {
    /// The verdicts on all rows of this target that were measured.
    #[must_use]
    pub fn verdicts(&self, tables: &[Table]) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for &shape in self.shapes {
            for &workers in self.workers {
                let table = find(tables, shape, workers);
                verdicts.extend(table.and_then(|table| self.verdict(table, tables)));
            }
        }
        verdicts
    }

    fn verdict(&self, table: &Table, tables: &[Table]) -> Option<Verdict> {
        let heist = table.row("heist")?;
        let ours = self.spread(table, heist);
        let (name, theirs, times) = match self.rule {
            Rule::Best(times) => {
                let best = table.best_peer_by(|figures| self.value(table, figures))?;
                (best.runtime.name().into(), self.spread(table, best), times)
            }
            Rule::Than(name, times) => (name.into(), self.spread(table, table.row(name)?), times),
            Rule::Bare(most) => {
                let bare = |workers| -> Option<Quartiles> {
                    let table = find(tables, table.shape.name(), workers)?;
                    Some(self.spread(table, table.row("bare-epoll")?))
                };
                let both = [bare(1)?, bare(2)?];
                let better = both
                    .into_iter()
                    .min_by(|a, b| a.median.total_cmp(&b.median))?;
                ("bare-epoll".into(), better, 1.0 / most)
            }
            Rule::AtMost(limit) => ("limit".to_owned(), Quartiles::of(vec![limit]), 1.0),
            Rule::Growth(shape, most) => {
                let other = find(tables, shape, table.workers)?;
                let row = other.row("heist")?;
                (shape.into(), self.spread(other, row), 1.0 / most)
            }
            Rule::Workers(workers, most) => {
                let other = find(tables, table.shape.name(), workers)?;
                let row = other.row("heist")?;
                let name = format!("{workers} workers");
                (name, self.spread(other, row), 1.0 / most)
            }
        };
        let wanted = Quartiles {
            low: theirs.low / times,
            median: theirs.median / times,
            high: theirs.high / times,
        };
        Some(Verdict {
            shape: table.shape.name(),
            workers: table.workers,
            heist: self.shown(ours.median),
            reference: format!("{} ({name})", self.shown(theirs.median)),
            ratio: ratio_of(theirs.median, ours.median),
            is_met: ours.median <= wanted.median,
            is_close: ours.overlaps(&wanted),
        })
    }

    fn value(&self, table: &Table, figures: &Figures) -> f64 {
        match self.figure {
            Of::Headline => figures.headline(table.shape.headline()),
            Of::Wall => figures.wall,
            Of::Cpu => figures.cpu,
            Of::P50 => figures.p50,
            Of::P99 => figures.p99,
        }
    }

    fn spread(&self, table: &Table, row: &Row) -> Quartiles {
        row.quartiles(|figures| self.value(table, figures))
    }

    fn shown(&self, value: f64) -> String {
        let is_time = self.shapes.iter().all(|shape| !shape.starts_with("idle_"));
        if is_time {
            time(value)
        } else {
            format!("{value:.1}")
        }
    }
}

fn find<'a>(tables: &'a [Table], shape: &str, workers: usize) -> Option<&'a Table> {
    tables
        .iter()
        .find(|table| table.shape.name() == shape && table.workers == workers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::Measured;
    use crate::runtime_id::RuntimeId;
    use crate::shape::Shape;

    /// A table in which each runtime has one value for every figure.
    fn table(shape: &str, workers: usize, rows: &[(&str, f64)]) -> Table {
        let shape = Shape::named(shape).expect("a shape");
        let measured: Vec<_> = rows
            .iter()
            .map(|&(name, value)| {
                let runtime = RuntimeId::named(name).expect("a runtime");
                let mut one = Measured::none(shape, workers, runtime);
                one.figures = vec![Figures::from_each(|_| value)];
                one
            })
            .collect();
        Table::new(shape, workers, &measured)
    }

    fn verdicts(text: &str, tables: &[Table]) -> Vec<(bool, String)> {
        let target = TARGETS.iter().find(|target| target.text.starts_with(text));
        let target = target.expect("a target");
        let all = target.verdicts(tables).into_iter();
        all.map(|verdict| (verdict.is_met, verdict.ratio)).collect()
    }

    #[test]
    fn every_target_names_shapes_that_exist() {
        for target in TARGETS {
            assert!(!target.shapes.is_empty() && !target.workers.is_empty());
            for &shape in target.shapes {
                let found = Shape::named(shape);
                assert!(found.is_some(), "{}: no shape {shape}", target.text);
            }
        }
        for &shape in OVERSUBSCRIBED {
            assert!(Shape::named(shape).is_some(), "no shape {shape}");
        }
    }

    #[cfg(feature = "heist")]
    #[test]
    fn a_target_is_met_at_its_limit_and_not_beyond() {
        let tables = [
            table(
                "spawn_join_1k",
                2,
                &[
                    ("heist", 100.0),
                    ("tokio", 400.0),
                    ("async-executor", 150.0),
                ],
            ),
            table(
                "spawn_join_1m",
                2,
                &[
                    ("heist", 151.0),
                    ("tokio", 600.0),
                    ("async-executor", 226.0),
                ],
            ),
        ];
        assert_eq!(
            verdicts("spawn + join: ≥ 1.5×", &tables),
            [(true, "1.50".into()), (false, "1.50".into())]
        );
        assert_eq!(
            verdicts("spawn + join: ≥ 4×", &tables),
            [(true, "4.00".into()), (false, "3.97".into())]
        );
        assert_eq!(
            verdicts("spawn + join: a task at 1M", &tables),
            [(false, "0.66".into())]
        );
    }

    #[cfg(feature = "heist")]
    #[test]
    fn the_better_of_one_and_two_bare_loops_counts() {
        let tables = [
            table("echo_8", 1, &[("heist", 11.0), ("bare-epoll", 10.0)]),
            table("echo_8", 2, &[("heist", 11.1), ("bare-epoll", 20.0)]),
        ];
        assert_eq!(
            verdicts("echo: CPU per request ≤ 1.10×", &tables),
            [(true, "0.91".into()), (false, "0.90".into())]
        );
        let idle = [table("idle_wakeups", 2, &[("heist", 0.0)])];
        assert_eq!(verdicts("idle", &idle), [(true, "1.00".into())]);
    }
}
