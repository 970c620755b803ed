//! Echo over 1 to 4096 connections, 64 bytes and 16 KiB: CPU time of the server process per request.
//!
//! For: the price of readiness, from the poller to the task. Not throughput: the load generator has one thread, and both
//! share the machine. Criterion's "time" is CPU time here.
#![forbid(unsafe_code)]

fn main() {
    heist_benches::harness::bench_main(&["echo_"]);
}
