//! Timers: made and dropped; 100k tasks asleep at once; a timeout around a ready future.
//!
//! For: inserting and cancelling (wall time per timer), and the whole life of a sleep with its task (criterion's "time"
//! is CPU time there). Lateness, without which a cheap timer means little, is in the tables.
#![forbid(unsafe_code)]

fn main() {
    heist_benches::harness::bench_main(&["timers_"]);
}
