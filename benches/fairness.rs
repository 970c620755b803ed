//! What a flood does to everybody else: tasks that wake each other all the time, sockets that are always ready, a foreign
//! thread that spawns all the time.
//!
//! For: whether a runtime turns to timers, sockets and other tasks while it has enough to do. Figures are 99th percentiles
//! of latencies. With more threads than processors they contain the system's own time slices, for all alike.
#![forbid(unsafe_code)]

fn main() {
    heist_benches::harness::bench_main(&["fair_"]);
}
