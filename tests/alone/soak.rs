//! The soak in short, and the proof that it bites.
//!
//! Its load is felt by the whole machine. So this is a program of its own, with one test.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

use heist_tests::support::output_of;
use std::process::Command;
use std::thread;

const SOAK: &str = env!("CARGO_BIN_EXE_soak");

/// Ten seconds on a machine that others use may look as if something grew. What leaks grows each time.
const ATTEMPTS: usize = 4;

/// What can be planted, the figure that must show it, and how many clients there are: a few suffice for what
/// is counted, and many wait in line where requests take longer and longer.
const LEAKS: [(&str, &str, &str); 5] = [
    ("descriptor", "descriptors", "8"),
    ("task", "tasks of the server", "8"),
    ("memory", "heap in use", "8"),
    ("thread", "threads", "8"),
    ("time", "exchange, p50", "32"),
];

/// Runs it for so many seconds; what it says, and its exit code.
fn soak(seconds: u32, more: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new(SOAK);
    command.args(["--seconds", &seconds.to_string(), "--seed", "1"]);
    let output = output_of(command.args(more));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text, output.status.code())
}

/// Ten seconds of everything stay flat and leave nothing. Then each kind of leak, planted into every request of
/// a process of its own, is found, and under its own name.
#[test]
fn a_soak_stays_flat_and_finds_what_does_not() {
    let (mut said, mut code) = soak(10, &[]);
    for _ in 1..ATTEMPTS {
        if code == Some(0) {
            break;
        }
        (said, code) = soak(10, &[]);
    }
    assert!(code == Some(0) && said.ends_with("all is flat\n"), "{said}");
    let exchanges = said
        .split(" exchanges and ")
        .next()
        .and_then(|line| line.rsplit(' ').next());
    let exchanges: u64 = exchanges
        .and_then(|number| number.parse().ok())
        .expect("a number");
    assert!(exchanges > 100, "{said}");

    // At one time: each looks at its own process.
    let runs = LEAKS.map(|(leak, _, clients)| {
        thread::spawn(move || soak(5, &["--leak", leak, "--clients", clients]))
    });
    for ((leak, figure, _), run) in LEAKS.into_iter().zip(runs) {
        let (said, code) = run.join().expect("it comes to its end");
        let wanted = format!("broken: {figure} did not stay flat");
        assert!(code == Some(1) && said.contains(&wanted), "{leak}: {said}");
    }
}

/// Whoever mistypes an option does not get a run without it.
#[test]
fn what_the_soak_does_not_understand_it_does_not_run() {
    let (said, code) = soak(1, &["--leek", "task"]);
    assert_eq!((said.as_str(), code), ("", Some(2)));
}
