//! Spawning: 1k to 1M tasks from a worker, 10k from the main future and from one and four foreign threads, a thousand at
//! once beside busy tasks, a chain, trees.
//!
//! For: allocation, queueing, completion and hand-over of the output per task, and with two workers the price of
//! stealing. Shows neither real work in tasks nor memory after the burst.
#![forbid(unsafe_code)]

fn main() {
    heist_benches::harness::bench_main(&["spawn_", "fork_join"]);
}
