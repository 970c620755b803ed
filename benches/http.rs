//! HTTP/1.1 with hyper over 1 and 50 connections: CPU time of the server process per request.
//!
//! For: what is left of the differences between runtimes under a real protocol. hyper itself costs the same on all of them.
#![forbid(unsafe_code)]

fn main() {
    heist_benches::harness::bench_main(&["http_"]);
}
