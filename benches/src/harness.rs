//! What the criterion benches share.
//!
//! Each bench file names the beginnings of its shapes. They are measured as `compare` does it, in alternating processes
//! (`rounds`), with one and two workers, on every runtime that can play; the tables with medians and
//! ratios come from there. Criterion then gets the same figures, one stretch of work being one of its samples, and keeps
//! and compares them as it does: its "time" is the shape's own figure per operation. A shape whose batch takes so long
//! that there are too few stretches for criterion, and one that is not about time, has the table alone.
#![forbid(unsafe_code)]

use std::env;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode};

use crate::one::play_if_asked;
use crate::rounds::{Measured, Plan, measure, players};
use crate::runtime_id::RuntimeId;
use crate::shape::{Headline, Shape};
use crate::table::{Table, print_summary};

/// Workers that every shape is run with.
pub const WORKERS: [usize; 2] = [1, 2];
/// Rounds of processes, stretches of each and their length: the whole suite is to take less than a quarter of an hour.
/// `compare` is the tool for small differences.
const ROUNDS: usize = 3;
const STRETCHES: usize = 4;
const TARGET: Duration = Duration::from_millis(20);
/// Criterion's smallest number of samples.
const SAMPLES: usize = 10;
/// Criterion counts iterations and waits for time to pass, which for a recorded figure is idle: as little as it takes.
const WARM_UP: Duration = Duration::from_nanos(1);
const MEASURE: Duration = Duration::from_millis(1);

/// The `main` of a bench file: runs all shapes whose names begin with one of `prefixes`.
///
/// # Panics
///
/// A process failed; all others were run before.
pub fn bench_main(prefixes: &[&str]) {
    play_if_asked();
    let asked = Asked::from_args();
    if asked.lists {
        return;
    }
    let plan = asked.plan();
    let (mut all, mut tables, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for shape in Shape::beginning_with(prefixes) {
        for workers in WORKERS {
            let mut runtimes = players(shape, workers, RuntimeId::ALL);
            runtimes.retain(|&runtime| asked.wants(&id_of(shape, workers, runtime)));
            if runtimes.is_empty() {
                continue;
            }
            let measured = measure(&plan, shape, workers, &runtimes);
            for one in measured.iter().filter(|one| !one.failures.is_empty()) {
                failures.push(id_of(one.shape, one.workers, one.runtime));
            }
            let table = Table::new(shape, workers, &measured);
            table.print();
            tables.push(table);
            all.extend(measured);
        }
    }
    print_summary(&tables);
    if asked.measures {
        report_to_criterion(&all);
    }
    assert!(failures.is_empty(), "failed: {}", failures.join(", "));
}

/// The command line, which belongs to criterion, as far as it decides what is run.
struct Asked {
    /// `cargo bench` says so; `cargo test --benches` does not, and wants to see that all works, quickly.
    measures: bool,
    lists: bool,
    /// Alternatives of which a benchmark's name must contain one: as much of criterion's regular expressions as is
    /// needed to choose shapes and runtimes.
    filter: Option<String>,
}

impl Asked {
    fn from_args() -> Self {
        let args: Vec<_> = env::args().skip(1).collect();
        let has = |word: &str| args.iter().any(|arg| arg == word);
        Self {
            measures: has("--bench") && !has("--test"),
            lists: has("--list"),
            filter: args.iter().find(|arg| !arg.starts_with('-')).cloned(),
        }
    }

    fn wants(&self, id: &str) -> bool {
        let filter = self.filter.as_deref();
        filter.is_none_or(|filter| filter.split('|').any(|part| id.contains(part)))
    }

    fn plan(&self) -> Plan {
        let (rounds, stretches, batches) = if self.measures {
            (ROUNDS, STRETCHES, None)
        } else {
            (1, 1, Some(1))
        };
        Plan {
            rounds,
            target: TARGET,
            stretches,
            batches,
            small: !self.measures,
            eager: None,
            memory: None,
        }
    }
}

/// The name that criterion gives it.
fn id_of(shape: Shape, workers: usize, runtime: RuntimeId) -> String {
    format!("{shape}/{}/{workers}w", runtime.name())
}

/// Hands the figures that are enough for it to criterion, which prints and keeps them.
fn report_to_criterion(all: &[Measured]) {
    let mut criterion = Criterion::default()
        .warm_up_time(WARM_UP)
        .measurement_time(MEASURE)
        .configure_from_args();
    for one in all {
        let headline = one.shape.headline();
        if headline.is_time() && one.figures.len() >= SAMPLES {
            replay(&mut criterion, one, headline);
        }
    }
    criterion.final_summary();
}

fn replay(criterion: &mut Criterion, one: &Measured, headline: Headline) {
    let mut group = criterion.benchmark_group(one.shape.name());
    group
        .sample_size(one.figures.len())
        .sampling_mode(SamplingMode::Flat);
    let id = BenchmarkId::new(one.runtime.name(), format!("{}w", one.workers));
    // Criterion calls the closure once to warm up and then once per sample, so each figure becomes one sample.
    let mut figures = one.figures.iter().cycle();
    group.bench_function(id, |bencher| {
        // Criterion divides by the iterations, and the figure is per operation.
        bencher.iter_custom(|iters| {
            let figure = figures.next().expect("a cycle of several");
            Duration::from_secs_f64(figure.headline(headline) * iters as f64 / 1e9)
        });
    });
    group.finish();
}
