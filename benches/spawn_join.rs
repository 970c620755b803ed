//! Spawning: 1k, 10k and 100k tasks from a worker, 10k from the main future and from a foreign thread, a chain, a tree.
//!
//! For: allocation, queueing, completion and hand-over of the output per task, and with two workers the price of
//! stealing. Shows neither real work in tasks nor memory after the burst.
#![forbid(unsafe_code)]

fn main() {
    heist_benches::harness::bench_main(&["spawn_", "fork_join"]);
}
