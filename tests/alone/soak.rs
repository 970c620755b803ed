//! The soak in short, and the proof that it bites.
//!
//! Its load is felt by the whole machine. So this is a program of its own, with one test.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

use std::process::Command;

const SOAK: &str = env!("CARGO_BIN_EXE_soak");

/// Runs it for so many seconds; what it says, and its exit code.
fn soak(seconds: u32, more: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new(SOAK);
    command.args(["--seconds", &seconds.to_string(), "--seed", "1"]);
    let output = command.args(more).output().expect("it can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text, output.status.code())
}

/// Ten seconds of everything stay flat and leave nothing. Then each kind of leak, planted into every request, is
/// found, and under its own name.
#[test]
fn a_soak_stays_flat_and_finds_what_does_not() {
    // Ten seconds on a machine that others use may look as if something grew. What leaks grows each time.
    let mut runs = (0..3).map(|_| soak(10, &[]));
    let flat = |(_, code): &(String, Option<i32>)| *code == Some(0);
    let (said, code) = runs.find(flat).unwrap_or_else(|| soak(10, &[]));
    assert!(code == Some(0) && said.ends_with("all is flat\n"), "{said}");
    let exchanges = said
        .split(" exchanges and ")
        .next()
        .and_then(|line| line.rsplit(' ').next());
    let exchanges: u64 = exchanges
        .and_then(|number| number.parse().ok())
        .expect("a number");
    assert!(exchanges > 100, "{said}");

    for (leak, figure) in [
        ("descriptor", "descriptors"),
        ("task", "tasks of the server"),
        ("memory", "heap in use"),
        ("thread", "threads"),
        ("time", "exchange, p50"),
    ] {
        let (said, code) = soak(5, &["--leak", leak]);
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
