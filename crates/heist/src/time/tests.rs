#![forbid(unsafe_code)]

use std::future::{Future, pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use super::MissedTickBehavior::{Burst, Delay, Skip};
use super::*;
use crate::io::testing::{now, poll_once, run, within};

const HOUR: Duration = Duration::from_secs(3600);
const MS: Duration = Duration::from_millis(1);

#[test]
fn arithmetic_saturates_at_both_ends() {
    let t = Instant::now();
    assert_eq!(t + Duration::MAX, Instant::far_future());
    assert_eq!(t.checked_add(Duration::MAX), None);
    assert_eq!(t.checked_sub(Duration::MAX), None);
    assert_eq!((t - Duration::MAX) - Duration::MAX, t - Duration::MAX);
    assert_eq!(Instant::far_future() - HOUR, Instant::far_future());
    let earlier = Instant::far_future().checked_sub(HOUR);
    assert_eq!(earlier, Some(Instant::far_future()));
    assert_eq!(Instant::far_future() + HOUR, Instant::far_future());
    assert_eq!(t - (t + MS), Duration::ZERO);
    assert_eq!((t + MS) - t, MS);
    assert_eq!(t.checked_duration_since(t + MS), None);
}

#[test]
fn the_standard_clock_is_the_same_clock() {
    let before = Instant::now();
    let std = std::time::Instant::now();
    let after = Instant::now();
    let there = Instant::from(std);
    // The conversion may err, on the late side, by the time between two readings of the clock.
    assert!(before <= there, "{before:?} {there:?}");
    assert!(there - after < 100 * MS, "{there:?} {after:?}");
    assert_eq!(Instant::from(std::time::Instant::from(there)), there);
    let far = std::time::Instant::from(Instant::far_future());
    assert!(far > std + HOUR);
}

#[test]
fn a_past_deadline_needs_no_runtime() {
    now(sleep(Duration::ZERO));
    now(sleep_until(Instant::now() - HOUR));
}

#[test]
fn making_a_timer_outside_a_runtime_is_fine() {
    let (sleep, timeout) = (sleep(HOUR), timeout(HOUR, ready(1)));
    assert_eq!(now(timeout), Ok(1));
    assert!(!sleep.is_elapsed());
}

#[test]
#[should_panic(expected = "outside a runtime")]
fn waiting_outside_a_runtime_panics() {
    let _ = poll_once(&mut sleep(HOUR));
}

#[test]
fn a_sleep_is_never_early() {
    run(|| async {
        for us in [1, 50, 300, 1_000, 7_000] {
            let start = Instant::now();
            let length = Duration::from_micros(us);
            sleep(length).await;
            assert!(start.elapsed() >= length, "{length:?}");
        }
    });
}

#[test]
fn the_longest_sleep_is_never_over() {
    run(|| async {
        let mut long = sleep(Duration::MAX);
        assert_eq!(long.deadline(), Instant::far_future());
        assert!(timeout(5 * MS, &mut long).await.is_err());
        assert!(!long.is_elapsed());
    });
}

/// A sleep that was armed far ahead is set to a near deadline, then, once over, to another.
#[test]
fn a_reset_counts_from_the_next_poll() {
    run(|| async {
        let mut timer = sleep(HOUR);
        assert!(
            poll_fn(|cx| Poll::Ready(Pin::new(&mut timer).poll(cx)))
                .await
                .is_pending()
        );
        for _ in 0..3 {
            let start = Instant::now();
            timer.reset(start + 2 * MS);
            assert!(!timer.is_elapsed());
            (&mut timer).await;
            assert!(timer.is_elapsed() && start.elapsed() >= 2 * MS);
        }
    });
}

#[test]
fn a_timeout_looks_at_the_future_first() {
    run(|| async {
        assert_eq!(timeout(Duration::ZERO, ready(7)).await, Ok(7));
        let late = timeout(Duration::ZERO, pending::<()>()).await.unwrap_err();
        assert!(!late.is_closed());
        let late = std::io::Error::from(late);
        assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
    });
}

/// The future spends the whole budget at every poll and is never ready. The timeout must fire all
/// the same.
#[test]
fn a_timeout_fires_over_a_future_that_spends_the_budget() {
    run(|| async {
        let greedy = poll_fn(|cx| {
            while let Poll::Ready(charge) = crate::context::poll_budget(cx) {
                charge.progress();
            }
            Poll::<()>::Pending
        });
        assert!(timeout(5 * MS, greedy).await.is_err());
    });
}

#[test]
fn a_timeout_can_be_put_off() {
    run(|| async {
        let start = Instant::now();
        let mut limited = pin!(timeout(2 * MS, sleep(20 * MS)));
        limited.as_mut().reset(start + HOUR);
        assert_eq!(limited.await, Ok(()));
        assert!(start.elapsed() >= 20 * MS);
    });
}

#[test]
fn an_interval_starts_at_once_and_keeps_its_period() {
    run(|| async {
        let mut ticks = interval(2 * MS);
        let first = ticks.tick().await;
        for k in 1..5 {
            let tick = ticks.tick().await;
            assert_eq!(tick, first + 2 * MS * k);
            assert!(Instant::now() >= tick);
        }
    });
}

#[test]
fn an_interval_can_be_reset() {
    run(|| async {
        let mut ticks = interval(HOUR);
        ticks.tick().await;
        ticks.reset_immediately();
        ticks.tick().await;
        ticks.reset_after(MS);
        ticks.tick().await;
        let start = Instant::now();
        ticks.reset();
        assert!(timeout_at(start + 2 * MS, ticks.tick()).await.is_err());
    });
}

#[test]
#[should_panic(expected = "period above zero")]
fn an_interval_without_a_period_is_refused() {
    drop(interval(Duration::ZERO));
}

/// The table in the documentation of `MissedTickBehavior`.
#[test]
fn missed_ticks_are_treated_as_documented() {
    let origin = Instant::now();
    let at = |ms: u64| origin + Duration::from_millis(ms);
    let period = 10 * MS;
    assert_eq!(Burst.next(at(20), at(45), period), at(30));
    assert_eq!(Delay.next(at(20), at(45), period), at(55));
    assert_eq!(Skip.next(at(20), at(45), period), at(50));
    // On a multiple, the next one is a whole period away.
    assert_eq!(Skip.next(at(20), at(40), period), at(50));
    for behavior in [Burst, Delay, Skip] {
        assert_eq!(behavior.next(at(20), at(20), period), at(30));
        assert_eq!(behavior.next(at(20), at(24), period), at(30));
        let far = Instant::far_future();
        assert_eq!(behavior.next(at(20), far, Duration::MAX), far);
        assert_eq!(behavior.next(far, far, period), far);
    }
    // A short period is missed when a whole one is over, however little that is.
    let short = Duration::from_micros(100);
    assert_eq!(Delay.next(at(20), at(21), short), at(21) + short);
}

/// Timers that wait when their runtime ends, and are used after that.
#[test]
fn a_closed_runtime_ends_every_wait() {
    within(|| {
        let (mut timer, mut limited, mut ticks) = crate::run(async {
            let mut timer = sleep(HOUR);
            let mut limited = Box::pin(timeout(HOUR, pending::<()>()));
            let mut ticks = interval_at(Instant::now() + HOUR, HOUR);
            poll_fn(|cx| {
                assert!(Pin::new(&mut timer).poll(cx).is_pending());
                assert!(limited.as_mut().poll(cx).is_pending());
                assert!(ticks.poll_tick(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            (timer, limited, ticks)
        });
        now(&mut timer);
        assert!(timer.is_closed() && !timer.is_elapsed());
        assert_eq!(now(timer.checked()), Err(Closed));
        let late = now(&mut limited).unwrap_err();
        assert!(late.is_closed());
        crate::io::testing::assert_closed(&late.into());
        now(ticks.tick());
        now(ticks.tick());
        assert!(ticks.is_closed());
        // A reset outside any runtime leaves it closed rather than panic ...
        timer.reset(Instant::now() + HOUR);
        now(&mut timer);
        assert!(timer.is_closed());
        // ... and inside another one binds it there.
        crate::run(async {
            timer.reset(Instant::now() + MS);
            timer.checked().await.unwrap();
            ticks.reset_after(MS);
            ticks.tick().await;
            assert!(!ticks.is_closed());
        });
    });
}

#[test]
fn timers_can_be_moved_and_sent() {
    fn unpin<T: Unpin + Send + Sync>() {}
    unpin::<Sleep>();
    unpin::<Interval>();
    unpin::<Timeout<Sleep>>();
    assert_eq!(size_of::<Instant>(), 8);
}
