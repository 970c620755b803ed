//! A foreign thread wakes a task of an idle runtime: median latency.
//!
//! For: the way from `wake()` on a thread that belongs to nobody to the poll, with the runtime and the thread kept on one
//! CPU, on two, or free. Each ring comes after a pause, so what is shown is waking a sleeper, not a busy runtime.
#![forbid(unsafe_code)]

fn main() {
    heist_benches::harness::bench_main(&["foreign_wake"]);
}
