//! Connections that come and go: accept, a task, one exchange, close. Wall time per connection.
//!
//! For: registering and forgetting sockets, and accepting. The load generator is one thread that also pays for `connect`.
#![forbid(unsafe_code)]

fn main() {
    heist_benches::harness::bench_main(&["churn"]);
}
