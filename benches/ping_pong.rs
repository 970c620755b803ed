//! Tasks waiting for tasks: 1000 pairs over oneshots, a round trip over two channels, a stream through one, a ring of 64.
//!
//! For: the path of a wake-up from a worker, and with two workers whether a runtime keeps two partners together or wakes
//! the other CPU needlessly. The channels cost the same on every runtime and are part of each figure.
#![forbid(unsafe_code)]

fn main() {
    heist_benches::harness::bench_main(&["ping_pong", "round_trip", "channel", "ring_"]);
}
