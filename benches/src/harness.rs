//! What the criterion benches share.
//!
//! Each bench file names the beginnings of its shapes; here they are run with one and two workers on every runtime that
//! can play. What criterion is told is the shape's headline per operation: wall time for most, CPU time for echo and
//! sleepers, the median latency for wake-ups.
#![forbid(unsafe_code)]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};

use crate::load::become_load_if_asked;
use crate::meter::Sample;
use crate::shape::{RuntimeId, Shape};

/// Workers that every shape is run with.
pub const WORKERS: [usize; 2] = [1, 2];
/// Criterion's smallest number of samples: `compare` is the tool for small differences.
const SAMPLES: usize = 10;
/// Enough for a runtime's threads to be up and its queues grown.
const WARM_UP: Duration = Duration::from_millis(300);
/// Long against a scheduling hiccup, short enough for a whole run to take minutes.
const MEASURE: Duration = Duration::from_secs(2);

/// The `main` of a bench file: runs all shapes whose names begin with one of `prefixes`.
///
/// # Panics
///
/// A runtime could not be built, or the system refused a socket or a thread.
pub fn bench_main(prefixes: &[&str]) {
    become_load_if_asked();
    let mut criterion = Criterion::default().configure_from_args();
    for shape in Shape::beginning_with(prefixes) {
        for workers in WORKERS {
            bench_shape(&mut criterion, shape, workers);
        }
    }
    criterion.final_summary();
}

fn bench_shape(criterion: &mut Criterion, shape: Shape, workers: usize) {
    let mut group = criterion.benchmark_group(shape.name());
    group
        .sample_size(SAMPLES)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(WARM_UP)
        .measurement_time(MEASURE)
        .throughput(Throughput::Elements(1));
    for &runtime in RuntimeId::ALL {
        if !shape.suits(runtime) {
            continue;
        }
        let id = BenchmarkId::new(runtime.name(), format!("{workers}w"));
        // The runtime is built inside, so that a bench that a filter leaves out makes no threads.
        group.bench_function(id, |bencher| {
            let mut run = shape
                .open(runtime, workers)
                .expect("the runtime is built")
                .expect("the runtime plays");
            bencher.iter_custom(|iters| {
                let sample = run(iters).expect("the system has sockets and threads");
                headline(shape, &sample, iters)
            });
        });
    }
    group.finish();
}

/// Time per operation, times the iterations: criterion divides by these, and the figure is per operation.
fn headline(shape: Shape, sample: &Sample, iters: u64) -> Duration {
    let nanos = sample.figure(shape.headline());
    Duration::from_secs_f64(nanos * iters as f64 / 1e9)
}
