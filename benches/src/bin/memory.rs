//! The process that measures memory: it plays `--one`, with an allocator that counts. `compare` starts it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use heist_benches::alloc::Counting;
use heist_benches::one::play_if_asked;

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() -> ExitCode {
    play_if_asked();
    eprintln!("memory: wants --one <runtime> <shape> <workers>, as compare starts it");
    ExitCode::FAILURE
}
