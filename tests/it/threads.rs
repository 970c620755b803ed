//! Promise 11: a thread that cannot be created never loses work.
//!
//! Threads are refused in processes of their own: by the limit of processes of a user that has no
//! others, and by `strace`, which makes exactly the K-th attempt fail, or all from the K-th on. Where
//! one of these cannot be had, the test says so with a line that begins with `SKIPPED`.
#![forbid(unsafe_code)]

use crate::support::{Ended, Name, alone, within};
use heist::MainThread;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const ALONE: &str = env!("CARGO_BIN_EXE_alone");

/// Says that a test could not look. Not `println!`, which the test harness keeps to itself.
fn skipped(scenario: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {scenario}: {why}");
}

/// Whether a command can be had and ends well.
fn works(words: &[&str]) -> bool {
    let command = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    command.is_ok_and(|status| status.success())
}

/// Runs a scenario in which the attempts to create a thread that `when` says fail; `None` if that
/// cannot be done here.
fn with_strace(when: &str, scenario: &str) -> Option<Ended> {
    let inject = format!("inject=clone3,clone:error=EAGAIN:when={when}");
    let wrapper = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=clone3,clone",
        "-e",
        &inject,
    ];
    let mut probe = wrapper.to_vec();
    probe.push("true");
    if !works(&probe) {
        skipped(scenario, "`strace` is missing, or may not trace here");
        return None;
    }
    Some(alone(ALONE, &wrapper, scenario, &[]))
}

/// The program, where every user can run it.
struct Public(PathBuf);

impl Public {
    fn new(scenario: &str) -> Public {
        let path = std::env::temp_dir().join(format!("heist-{scenario}-{}", std::process::id()));
        std::fs::copy(ALONE, &path).expect("the temporary folder can be written to");
        Public(path)
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs a scenario as a user of its own that may have so many threads; `None` if that cannot be done
/// here.
fn with_limit(threads: u32, scenario: &str) -> Option<Ended> {
    // A user of its own each time, since the limit is one for all processes of a user: also for those of
    // another run of these tests on the same machine.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id() * 64 + NEXT.fetch_add(1, Ordering::Relaxed);
    let user = (20_000 + number % 45_000).to_string();
    let (uid, gid, limit) = (
        format!("--reuid={user}"),
        format!("--regid={user}"),
        format!("--nproc={threads}"),
    );
    let wrapper = ["setpriv", &uid, &gid, "--clear-groups", "prlimit", &limit];
    let mut probe = wrapper.to_vec();
    probe.push("true");
    if !works(&probe) {
        skipped(scenario, "needs root, `setpriv` and `prlimit`");
        return None;
    }
    let program = Public::new(scenario);
    let path = program.0.to_str().expect("a plain path");
    let mut probe = wrapper.to_vec();
    probe.extend([path, "nothing"]);
    if !works(&probe) {
        skipped(
            scenario,
            "another user cannot run programs in the temporary folder",
        );
        return None;
    }
    Some(alone(path, &wrapper, scenario, &[]))
}

#[track_caller]
fn assert_ok(how: &str, ended: Option<Ended>) {
    if let Some(ended) = ended {
        assert!(ended.ok, "{how}: {}", ended.output);
    }
}

/// By default threads start on demand. The K-th attempt fails, once: every task and closure must
/// still run, the failure must be reported once, and the runtime end as always.
#[test]
fn one_failed_start_loses_no_work() {
    for k in 1..=3 {
        assert_ok(
            &format!("K={k}"),
            with_strace(&k.to_string(), "all_work_is_done"),
        );
    }
}

/// All attempts from the K-th on fail: the runtime goes on with the threads it has.
#[test]
fn work_is_done_by_the_threads_there_are() {
    for k in 1..=3 {
        assert_ok(
            &format!("K={k}+"),
            with_strace(&format!("{k}+"), "all_work_is_done"),
        );
    }
}

/// With `start_threads` a failed attempt fails `build`, and those that succeeded are joined.
#[test]
fn build_fails_and_joins_when_threads_are_to_start_at_once() {
    for k in 1..=3 {
        assert_ok(
            &format!("K={k}"),
            with_strace(&k.to_string(), "build_fails"),
        );
        assert_ok(
            &format!("K={k}+"),
            with_strace(&format!("{k}+"), "build_fails"),
        );
    }
}

/// No thread can be had, and nobody is in `run`: spawning and `block_on` from outside are errors.
#[test]
fn without_any_thread_a_foreign_spawn_is_an_error() {
    assert_ok("strace", with_strace("1+", "no_thread_at_all"));
    assert_ok("limit", with_limit(1, "no_thread_at_all"));
}

/// Threads of the pool cannot be had: every closure runs on those there are, or says that it did
/// not.
#[test]
fn a_blocking_thread_that_cannot_be_created_loses_no_closure() {
    for k in 1..=3 {
        assert_ok(&format!("K={k}"), with_strace(&k.to_string(), "closures"));
        assert_ok(
            &format!("K={k}+"),
            with_strace(&format!("{k}+"), "closures"),
        );
    }
}

/// The thread for a closure cannot be had at first, while the only thread there is runs one that waits
/// for it: the start is tried again.
#[test]
fn a_closure_that_another_waits_for_gets_its_thread_later() {
    for when in ["1", "2", "3", "2..4"] {
        assert_ok(when, with_strace(when, "closures_in_closures"));
    }
}

/// The same by the limit of a user, with room for no thread beside `main`'s, for one, for two.
#[test]
fn a_limit_of_processes_loses_no_work() {
    for threads in 1..=3 {
        let how = format!("{threads} threads");
        assert_ok(&how, with_limit(threads, "all_work_is_done"));
        assert_ok(&how, with_limit(threads, "closures"));
    }
    for threads in 1..=3 {
        assert_ok(
            &format!("{threads} threads"),
            with_limit(threads, "build_fails"),
        );
    }
}

/// Threads can be had again after a while: the runtime tries again by itself.
#[test]
fn a_failed_start_is_tried_again() {
    assert_ok("K=1..6", with_strace("1..6", "tried_again"));
}

/// A foreign wake starts no thread; `Handle::spawn` does. With threads started at once, all of them
/// are there before anything runs.
#[test]
fn threads_start_on_demand_or_all_at_once() {
    within(|| {
        let name = Name::new();
        let runtime = name.builder().workers(3).build().unwrap();
        assert_eq!(name.threads(), Vec::<String>::new());
        let handle = runtime.handle();
        handle.block_on(handle.spawn(async {})).unwrap();
        assert!(!name.threads().is_empty());
        drop(runtime);
        name.assert_gone();
        for (main, workers) in [(MainThread::Worker, 2), (MainThread::Dedicated, 3)] {
            let builder = name
                .builder()
                .workers(3)
                .main_thread(main)
                .start_threads(true);
            let runtime = builder.build().unwrap();
            // A thread sets its own name: it may not have come to that yet.
            let wanted = workers + 1;
            crate::support::eventually(format!("{wanted} threads"), || {
                name.threads().len() >= wanted
            });
            let mut threads = name.threads();
            threads.sort();
            assert_eq!(threads.len(), wanted, "{threads:?}");
            assert_eq!(
                threads
                    .iter()
                    .filter(|name| name.ends_with("-monitor"))
                    .count(),
                1
            );
            drop(runtime);
            name.assert_gone();
        }
    });
}
