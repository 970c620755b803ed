//! The blocking pool: 10k closures that do nothing, handed over and awaited. Wall time per closure.
//!
//! For: the way to the pool's threads and back. Shows nothing of closures that block, which is what the pool is for.
#![forbid(unsafe_code)]

fn main() {
    heist_benches::harness::bench_main(&["blocking_"]);
}
