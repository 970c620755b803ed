//! The life of a runtime: built, used for one future, one task, or a task on a second thread; dropped.
//!
//! For: programs and tests that make many runtimes. futures' pool does not wait for its threads to end, and async-io's
//! one thread and poller belong to the process and outlive every runtime.
#![forbid(unsafe_code)]

fn main() {
    heist_benches::harness::bench_main(&["start_"]);
}
