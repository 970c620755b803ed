//! What timers leave in memory.
#![forbid(unsafe_code)]

use heist::time::{Instant, sleep, sleep_until, timeout};
use heist_tests::support::{poll_once, resident};
use std::future::ready;
use std::time::Duration;

/// A million timers are made, armed and dropped, long before they are due, few at a time. They must
/// not pile up: memory after them is what it was after the first ones.
pub(crate) fn a_million_timers() {
    heist::run(async {
        let some = async |count: usize| {
            for n in 0..count {
                // Near and far, so that all levels of a wheel are used.
                let length = Duration::from_millis(100 + (n as u64 * 7919) % 10_000_000);
                let mut timer = sleep(Duration::from_secs(1) + length);
                assert!(poll_once(&mut timer).is_pending());
                let mut moved = sleep_until(Instant::now() + length * 2);
                assert!(poll_once(&mut moved).is_pending());
                moved.reset(Instant::now() + Duration::from_secs(3600));
                assert!(poll_once(&mut moved).is_pending());
                assert_eq!(timeout(length, ready(1)).await, Ok(1));
                if n % 1000 == 0 {
                    heist::yield_now().await;
                }
            }
        };
        some(20_000).await;
        let before = resident();
        some(500_000).await;
        let after = resident();
        // A timer of eight bytes would be 8 MiB in all.
        assert!(after < before + (4 << 20), "{before} bytes became {after}");
    });
}
