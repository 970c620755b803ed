//! What a task that blocks its worker for half a second does to everybody else: those it woke, timers, sockets.
//!
//! For: the worst of a program that was written carelessly. Figures are 99th percentiles of latencies.
#![forbid(unsafe_code)]

fn main() {
    heist_benches::harness::bench_main(&["stall_"]);
}
