//! Yielding: 200 tasks a thousand times each, one task a million times.
//!
//! For: the shortest way of a task through the queue, and what a runtime does between two polls (looking at its
//! driver, at others' queues). `yield_one` uses the runtime's own `yield_now`, `yield_one_plain` wakes itself by hand.
//! futures' pool polls a task that woke itself again at once, without queueing it: fast, and unfair.
#![forbid(unsafe_code)]

fn main() {
    heist_benches::harness::bench_main(&["yield_"]);
}
