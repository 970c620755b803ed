//! An idle program: bytes of a task that waits, wake-ups per second of a runtime with sleeping tasks and open sockets.
//!
//! For: what very many waiting tasks cost. Not about time, so criterion has no part in it; the tables are all.
#![forbid(unsafe_code)]

use heist_benches::alloc::Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() {
    heist_benches::harness::bench_main(&["idle_"]);
}
