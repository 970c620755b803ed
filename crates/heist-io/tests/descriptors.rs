//! Counts file descriptors, which belong to the process: so this file has one test that runs, and
//! the others are started by it as processes of their own.

#![cfg(target_os = "linux")]

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;

use heist_io::{Driver, NEVER};

fn descriptors() -> usize {
    // One of them is the directory being read, each time.
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn run_alone(test: &str, descriptors: u32) {
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "ulimit -n {descriptors}; exec \"$0\" --exact {test} --ignored --nocapture --test-threads 1"
        ))
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{test}: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("1 passed"), "{test} did not run: {stdout}");
}

#[test]
fn descriptors_are_counted() {
    run_alone("nothing_is_left_after_release", 256);
    run_alone(
        "a_failed_registration_leaves_nothing_and_can_be_repeated",
        40,
    );
    run_alone("a_source_stays_when_its_new_shard_gets_no_poller", 40);
}

/// A driver opens nothing before its first source, and after `release` nothing of it is open, although
/// the driver and its sources are still there.
#[test]
#[ignore = "a process of its own: started by descriptors_are_counted"]
fn nothing_is_left_after_release() {
    let before = descriptors();
    let driver = Arc::new(Driver::new(4));
    driver.attach(0);
    driver.unpark(0);
    driver.park(0, NEVER);
    assert_eq!(descriptors(), before, "a driver without sources is free");
    let (a, b) = UnixStream::pair().unwrap();
    let sources: Vec<_> = (0..4)
        .map(|shard| {
            let io = if shard % 2 == 0 { &a } else { &b };
            driver.register(io.as_fd(), shard).unwrap()
        })
        .collect();
    assert!(descriptors() > before + 2);
    driver.release();
    sources[0].deregister(a.as_fd()).unwrap();
    if driver.short_read_drains() {
        assert_eq!(descriptors(), before + 2, "the driver's are gone");
    }
    drop(sources);
    drop((a, b));
    assert_eq!(descriptors(), before);
}

/// No descriptors are left: `register` says so, leaves none behind, and works again later.
#[test]
#[ignore = "a process of its own: started by descriptors_are_counted"]
fn a_failed_registration_leaves_nothing_and_can_be_repeated() {
    let (a, _b) = UnixStream::pair().unwrap();
    let mut hogs = Vec::new();
    while let Ok(hog) = a.try_clone() {
        hogs.push(hog);
    }
    let all = hogs.len();
    assert!(all > 10, "the limit was not set");
    for spare in 0..8 {
        let driver = Arc::new(Driver::new(1));
        hogs.truncate(all - spare);
        let error = match driver.register(a.as_fd(), 0) {
            Ok(source) => {
                assert!(spare >= 3, "a poller is three descriptors at least");
                source.deregister(a.as_fd()).unwrap();
                continue;
            }
            Err(error) => error,
        };
        assert_eq!(error.raw_os_error(), Some(24), "EMFILE: {error}");
        assert!(!driver.is_used(0));
        while let Ok(hog) = a.try_clone() {
            hogs.push(hog);
        }
        assert!(
            hogs.len() == all || driver.backend() != "epoll",
            "with {spare} spare descriptors {} are left",
            hogs.len()
        );
        hogs.truncate(all - 8);
        let source = driver.register(a.as_fd(), 0).expect("now there are enough");
        source.deregister(a.as_fd()).unwrap();
        drop((source, driver));
        while let Ok(hog) = a.try_clone() {
            hogs.push(hog);
        }
    }
}

/// The shard that a source is to move to has no poller yet, and there are no descriptors for one. The
/// source stays, and is served there.
#[test]
#[ignore = "a process of its own: started by descriptors_are_counted"]
fn a_source_stays_when_its_new_shard_gets_no_poller() {
    let driver = Arc::new(Driver::new(2));
    let (a, mut b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    let source = driver.register(a.as_fd(), 0).unwrap();
    let mut hogs = Vec::new();
    while let Ok(hog) = a.try_clone() {
        hogs.push(hog);
    }
    let all = hogs.len();
    assert!(all > 10, "the limit was not set");
    let error = source.move_to(a.as_fd(), 1).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(24), "EMFILE: {error}");
    assert!(a.try_clone().is_err(), "nothing was opened or closed");
    assert_eq!(source.shard(), 0);
    assert!(driver.is_used(0) && !driver.is_used(1));
    b.write_all(b"x").unwrap();
    driver.poll(0);
    assert!(source.snapshot().is_readable());
    hogs.truncate(all - 6);
    source.move_to(a.as_fd(), 1).expect("now there are enough");
    driver.poll(1);
    assert!(source.snapshot().is_readable());
    source.deregister(a.as_fd()).unwrap();
}
