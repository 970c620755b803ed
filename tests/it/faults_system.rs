//! System calls that fail. `strace` makes chosen ones fail in processes of their own, which run the
//! scenarios of `alone/faults.rs`. Where it cannot be had the test says so with a line that begins with
//! `SKIPPED`.
//!
//! Not among them: `futex`, which the system does not fail and which would invent lost wake-ups; `write` to
//! the bell, an eventfd that the system writes to at once or not at all; a `recvfrom` that says
//! `EAGAIN` while there is data, after which no edge would come; and `mmap`, since who is out of memory is
//! aborted by the standard library.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

use crate::support::alone;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const ALONE: &str = env!("CARGO_BIN_EXE_alone");

/// A file that is gone with it.
struct Log(PathBuf);

impl Log {
    fn new() -> Log {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("heist-strace-{}-{number}", std::process::id());
        Log(std::env::temp_dir().join(name))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether programs may be traced here, and calls be made to fail.
fn can_trace() -> bool {
    let words = ["-f", "-qq", "-o", "/dev/null", "-e"];
    let probe = Command::new("strace")
        .args(words)
        .arg("inject=accept4:error=EINTR:when=1+2")
        .arg("true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let can = probe.is_ok_and(|status| status.success());
    if !can {
        let why = "SKIPPED failing system calls: `strace` is missing, or may not trace here";
        let _ = writeln!(std::io::stderr(), "{why}");
    }
    can
}

/// Runs a scenario in which these calls fail with `error`. `when` counts the calls of each thread, as
/// `strace` has it: `3+5` is the third, and every fifth after it.
#[track_caller]
fn inject(scenario: &str, calls: &str, error: &str, when: &str) {
    // On a loaded machine a timer can be due before it is waited for, and a call is not made.
    let failed = (0..ATTEMPTS).any(|_| failures(scenario, calls, error, when) > 0);
    // The other driver makes other calls.
    let may_be_none = cfg!(heist_portable_io);
    assert!(
        failed || may_be_none,
        "{calls}, {error}, {when}: no call has failed"
    );
}

const ATTEMPTS: usize = 5;

/// Runs the scenario once: how many calls were made to fail.
fn failures(scenario: &str, calls: &str, error: &str, when: &str) -> usize {
    let log = Log::new();
    let path = log.0.to_str().expect("a plain path");
    let (trace, inject) = (
        format!("trace={calls}"),
        format!("inject={calls}:error={error}:when={when}"),
    );
    let wrapper = [
        "strace", "-f", "-qq", "-o", path, "-e", &trace, "-e", &inject,
    ];
    let code = match error {
        "EMFILE" => "24",
        "ENOSPC" => "28",
        _ => "0",
    };
    let ended = alone(ALONE, &wrapper, scenario, &[("HEIST_TEST_ERRNO", code)]);
    assert!(ended.ok, "{calls}, {error}, {when}: {}", ended.output);
    let failed = std::fs::read_to_string(&log.0).expect("strace has written");
    failed.matches("(INJECTED)").count()
}

const WAITS: &str = "epoll_wait,epoll_pwait,epoll_pwait2";

/// A signal ends a call, again and again: whoever waited for events, took a connection, read or wrote
/// tries again, and nobody notices.
#[test]
fn interrupted_calls_are_made_again() {
    if !can_trace() {
        return;
    }
    for (calls, when) in [
        (WAITS, "1+3"),
        (WAITS, "1+2"),
        ("accept4", "1+2"),
        ("recvfrom,recvmsg", "1+3"),
        ("sendto,sendmsg", "1+2"),
    ] {
        inject("everything_works", calls, "EINTR", when);
    }
}

/// A listener is short of descriptors or memory, or a connection dies before it is taken: it goes on
/// with the next, after a pause where there is a shortage.
#[test]
fn a_listener_survives_what_accept_says() {
    if !can_trace() {
        return;
    }
    for error in [
        "EMFILE",
        "ENFILE",
        "ENOBUFS",
        "ENOMEM",
        "EPERM",
        "ECONNABORTED",
        "EPROTO",
    ] {
        inject("everything_works", "accept4", error, "1+3");
    }
}

/// A shard's descriptors cannot be had: the first of them, the second, the third. The socket answers that,
/// nothing is left open, and the next attempt makes a shard that works.
#[test]
fn a_shard_that_cannot_be_made_is_made_later() {
    if !can_trace() {
        return;
    }
    inject("refused_at_first", "epoll_create1", "EMFILE", "1");
    if cfg!(heist_portable_io) {
        // It has only those of `polling`, which does without the others.
        return;
    }
    // The first of each is `polling`'s own, which does without it.
    inject("refused_at_first", "eventfd2", "EMFILE", "2");
    inject("refused_at_first", "timerfd_create", "EMFILE", "2");
    inject("everything_works", "timerfd_create", "EMFILE", "1");
    for when in ["1", "2", "3", "4", "5", "6+5", "20+1"] {
        inject("some_fail", "epoll_ctl", "ENOSPC", when);
    }
}

/// The system refuses to wait, or to set the alarm clock, which it should not: timers are kept all the
/// same, and the end of the loop comes.
#[test]
fn a_wait_that_is_refused_stops_no_timer() {
    if !can_trace() {
        return;
    }
    inject("some_fail", WAITS, "EINVAL", "3+5");
    inject("some_fail", WAITS, "EBADF", "20+");
    if !cfg!(heist_portable_io) {
        inject("some_fail", "timerfd_settime", "EINVAL", "1+");
    }
}

/// Operations of sockets fail here and there: that is the operation's answer, and nobody else's.
#[test]
fn a_failed_operation_is_its_own_answer() {
    if !can_trace() {
        return;
    }
    for (calls, error, when) in [
        ("connect", "EINTR", "2+3"),
        ("connect", "EADDRNOTAVAIL", "2+3"),
        ("recvfrom", "ECONNRESET", "100+50"),
        ("sendto", "ENOBUFS", "20+30"),
        ("getsockopt", "ENOBUFS", "1+4"),
        ("getpeername", "ENOTCONN", "1+3"),
        ("accept4", "EINVAL", "2+"),
        ("socket", "ENOBUFS", "2+3"),
    ] {
        inject("some_fail", calls, error, when);
    }
}

/// How many processors there are cannot be found out.
#[test]
fn the_number_of_processors_is_not_known() {
    if can_trace() {
        inject("everything_works", "sched_getaffinity", "EPERM", "1+");
    }
}
