//! A soak: a server and many clients that come and go in every way there is, for as long as one likes, under the eyes
//! of somebody who looks at what the process has.
//!
//! ```sh
//! cargo run --release -p heist-tests --bin soak -- --seconds 600 --seed 1 --report docs/verification/soak
//! ```
//!
//! Both sides run on heist, on two runtimes of one process, over the loopback. Memory, threads, descriptors, tasks and
//! times must stay flat (`judge.rs` says what that means), every reply must be right, and when both runtimes have
//! ended nothing may be left. If not, the exit code is 1, and the reasons are printed.
//!
//! `--leak` leaks on purpose. Whoever trusts the soak has seen it fail.

mod clients;
mod heap;
mod judge;
mod leak;
mod options;
mod plot;
mod process;
mod report;
mod run;
mod sample;
mod server;
mod traffic;
mod wire;

use options::{Options, USAGE};
use std::process::ExitCode;
use std::time::SystemTime;

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

/// The line that ends a soak in which everything stayed flat.
const ALL_IS_FLAT: &str = "all is flat";

fn main() -> ExitCode {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = now.map_or(0, |since| since.as_secs());
    let options = match Options::parse(std::env::args().skip(1), seed) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let outcome = run::run(&options);
    println!("{}", report::summary(&options, &outcome));
    if let Some(path) = &options.report {
        if let Err(error) = report::write(path, &options, &outcome) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::from(2);
        }
    }
    let complaints = outcome.complaints();
    if complaints.is_empty() {
        println!("{ALL_IS_FLAT}");
        return ExitCode::SUCCESS;
    }
    for complaint in complaints {
        println!("broken: {complaint}");
    }
    ExitCode::FAILURE
}
