//! The packed words: each edge of the state word once, and the ends of the counts' ranges.

#![forbid(unsafe_code)]

use crate::config::MAX_SLOTS;
use crate::idle::{Idle, Left};
use crate::task::state::{
    Abandon, Close, Complete, Entered, JoinCell, Outcome, Park, Start, State, Wake,
};

fn given_up(with_waker: bool) -> Abandon {
    Abandon::GivenUp { with_waker }
}

/// A task that runs.
fn running() -> State {
    let state = State::queued();
    assert_eq!(state.start_run(), Start::Poll);
    state
}

/// A task that sleeps.
fn idle() -> State {
    let state = running();
    assert_eq!(state.park(), Park::Idle);
    state
}

/// A task that has ended, with its output in the cell.
fn done() -> State {
    let state = running();
    assert_eq!(state.complete(true), Complete::Finished);
    state
}

#[test]
fn edge_1_a_new_task_is_queued_and_wanted() {
    let seen = State::queued().snapshot();
    assert!(seen.is_queued() && seen.is_wanted());
    assert!(!seen.is_running() && !seen.is_done() && !seen.is_cancelled() && !seen.is_abandoned());
    assert_eq!((seen.wakers(), seen.handles()), (0, 0));
}

#[test]
fn edge_2_start_polls_or_drops() {
    let seen = running().snapshot();
    assert!(seen.is_running() && !seen.is_queued());

    let state = State::queued();
    assert_eq!(state.request_cancel(), Wake::Noted);
    assert_eq!(state.start_run(), Start::Drop);
    assert!(state.snapshot().is_cancelled());
}

#[test]
fn edge_3_park_leaves_nothing_behind() {
    let seen = idle().snapshot();
    assert!(!seen.is_queued() && !seen.is_running() && !seen.is_done());
}

#[test]
fn edge_4_a_notified_task_is_queued_again() {
    let state = running();
    assert_eq!(state.wake_by_ref(), Wake::Noted);
    assert_eq!(state.park(), Park::Requeue);
    assert!(state.snapshot().is_queued() && !state.snapshot().is_running());
    assert_eq!(state.start_run(), Start::Poll);
    assert_eq!(state.yield_run(), Park::Requeue);
    assert!(state.snapshot().is_queued() && !state.snapshot().is_running());
}

#[test]
fn edge_4_a_notified_task_yields_into_one_place() {
    let state = running();
    assert_eq!(state.wake_by_ref(), Wake::Noted);
    assert_eq!(state.yield_run(), Park::Requeue);
    assert_eq!(state.start_run(), Start::Poll);
    assert_eq!(state.park(), Park::Idle);
}

#[test]
fn edge_5_the_first_wake_pushes_and_no_other() {
    let state = idle();
    assert_eq!(state.wake_by_ref(), Wake::Push);
    assert_eq!(state.wake_by_ref(), Wake::Noted);
    assert_eq!(state.request_cancel(), Wake::Noted);

    let state = idle();
    assert_eq!(state.request_cancel(), Wake::Push);
    assert_eq!(state.start_run(), Start::Drop);

    let state = idle();
    state.clone_waker();
    assert_eq!(state.wake(), Wake::Push);
    assert_eq!(state.snapshot().wakers(), 0);
}

#[test]
fn edge_6_a_request_while_running_is_delivered_after_the_poll() {
    let state = running();
    assert_eq!(state.request_cancel(), Wake::Noted);
    assert_eq!(state.park(), Park::Requeue);
    assert_eq!(state.start_run(), Start::Drop);
}

#[test]
fn edge_7_ready_wins_over_a_request() {
    let state = running();
    assert_eq!(state.request_cancel(), Wake::Noted);
    assert_eq!(state.complete(true), Complete::Finished);
    assert_eq!(state.outcome(), Outcome::Done);
    assert!(!state.snapshot().is_queued());
}

#[test]
fn edge_7_an_unwanted_output_is_destroyed_first() {
    let state = running();
    assert!(state.detach());
    assert_eq!(state.complete(true), Complete::Unwanted);
    assert_eq!(state.outcome(), Outcome::Pending);
    assert_eq!(state.complete(false), Complete::Free);
}

#[test]
fn edges_7w_and_8_wake_the_joiner_before_the_runner_lets_go() {
    let state = running();
    assert_eq!(state.join_cell(), JoinCell::Empty);
    assert!(state.set_join_waker());
    assert_eq!(state.join_cell(), JoinCell::Filled);
    assert_eq!(state.complete(true), Complete::WakeJoiner);
    assert_eq!(state.join_cell(), JoinCell::TooLate { given: true });
    // The joiner is quicker than the runner: it does not free.
    assert_eq!(state.outcome(), Outcome::Done);
    assert_eq!(state.drop_join(), Wake::Noted);
    assert_eq!(state.finish_waking(), Wake::Free);
    assert_eq!(state.join_cell(), JoinCell::TooLate { given: false });
}

#[test]
fn after_the_end_nothing_is_pushed() {
    let state = done();
    state.clone_waker();
    assert_eq!(state.wake_by_ref(), Wake::Noted);
    assert_eq!(state.request_cancel(), Wake::Noted);
    assert_eq!(state.wake(), Wake::Noted);
    assert!(!state.detach());
    assert_eq!(state.drop_join(), Wake::Free);
}

#[test]
fn the_join_waker_can_be_taken_back_until_the_end() {
    let state = running();
    assert!(state.set_join_waker());
    assert!(state.unset_join_waker());
    assert_eq!(state.join_cell(), JoinCell::Empty);
    assert_eq!(state.complete(true), Complete::Finished);
    assert!(!state.set_join_waker());
    assert!(!state.unset_join_waker());
}

#[test]
fn the_last_reference_frees_whoever_holds_it() {
    let references = || {
        let state = done();
        state.clone_waker();
        state.clone_handle();
        state
    };
    let state = references();
    assert_eq!(state.drop_join(), Wake::Noted);
    assert_eq!(state.drop_handle(), Wake::Noted);
    assert_eq!(state.drop_waker(), Wake::Free);

    let state = references();
    assert_eq!(state.drop_waker(), Wake::Noted);
    assert_eq!(state.drop_join(), Wake::Noted);
    assert_eq!(state.drop_handle(), Wake::Free);

    let state = references();
    assert_eq!(state.wake(), Wake::Noted);
    assert_eq!(state.drop_handle(), Wake::Noted);
    assert_eq!(state.drop_join(), Wake::Free);
}

#[test]
fn a_task_that_is_not_done_is_never_freed() {
    let state = idle();
    state.clone_waker();
    state.clone_handle();
    assert!(state.detach());
    assert_eq!(state.drop_handle(), Wake::Noted);
    assert_eq!(state.drop_waker(), Wake::Noted);
}

#[test]
fn a_running_poll_is_abandoned_once_and_ends_in_a_drop() {
    assert_eq!(State::queued().abandon(), given_up(false));
    assert_eq!(idle().abandon(), Abandon::Idle);
    assert_eq!(done().abandon(), Abandon::Over);

    let state = running();
    assert!(state.set_join_waker());
    assert_eq!(state.abandon(), given_up(true));
    assert_eq!(state.abandon(), Abandon::Over);
    assert_eq!(state.join_cell(), JoinCell::TooLate { given: true });
    assert_eq!(state.outcome(), Outcome::Abandoned);
    assert_eq!(state.wake_by_ref(), Wake::Noted);
    assert_eq!(state.yield_run(), Park::Abandoned);
    assert_eq!(state.park(), Park::Abandoned);
    assert_eq!(state.complete(true), Complete::Finished);
    assert_eq!(state.outcome(), Outcome::Done);

    assert_eq!(running().abandon(), given_up(false));
}

/// A task that sleeps inside a region.
fn idle_in_region() -> State {
    let state = running();
    assert_eq!(state.enter_region(), Entered::Clear);
    assert_eq!(state.park(), Park::Idle);
    state
}

#[test]
fn edge_c1_a_request_without_a_region_drops() {
    let state = idle();
    assert_eq!(state.request_cancel(), Wake::Push);
    assert_eq!(state.start_run(), Start::Drop);
    assert!(!state.snapshot().is_cleaning() && !state.snapshot().is_closing());
}

#[test]
fn edge_c2_the_end_of_the_loop_asks_by_what_it_finds() {
    let state = idle();
    assert_eq!(state.request_close(), Close::Push);
    assert_eq!(state.request_close(), Close::Noted);
    assert_eq!(state.start_run(), Start::Drop);
    assert!(state.snapshot().is_closing());

    assert_eq!(running().request_close(), Close::Noted);
    assert_eq!(done().request_close(), Close::Noted);
    assert!(!done().snapshot().is_closing());

    let state = idle_in_region();
    assert_eq!(state.request_close(), Close::Region);
    assert!(state.snapshot().is_closing() && !state.snapshot().is_cancelled());
    assert!(!state.snapshot().is_queued());
}

#[test]
fn edge_c3_a_region_takes_a_request_over() {
    let state = running();
    assert_eq!(state.enter_region(), Entered::Clear);
    assert!(state.snapshot().is_cleaning());

    let state = running();
    assert_eq!(state.request_cancel(), Wake::Noted);
    assert_eq!(state.enter_region(), Entered::Requested);
    assert!(!state.snapshot().is_cancelled());
    assert_eq!(state.park(), Park::Requeue);
    assert_eq!(state.start_run(), Start::Poll);

    assert_eq!(done().enter_region(), Entered::Refused);
    let state = running();
    assert_eq!(state.abandon(), given_up(false));
    assert_eq!(state.enter_region(), Entered::Refused);
}

#[test]
fn edge_c4_a_delivery_begins_the_cleanup() {
    let state = idle_in_region();
    assert_eq!(state.wake_by_ref(), Wake::Push);
    assert_eq!(state.start_run(), Start::Poll);
    state.deliver(true, true);
    assert_eq!(state.park(), Park::Idle);
    assert!(state.snapshot().is_cleaning());
    assert_eq!(state.request_close(), Close::Cleanup);
    // A further explicit request drops it.
    assert_eq!(state.request_cancel(), Wake::Push);
    assert_eq!(state.start_run(), Start::Drop);

    // One of a time limit is no request to the task; nor is the last region gone.
    let state = running();
    assert_eq!(state.enter_region(), Entered::Clear);
    state.deliver(false, false);
    assert_eq!(state.request_close(), Close::Region);
    state.deliver(false, true);
    assert!(!state.snapshot().is_cleaning());
}

#[test]
fn edge_c5_the_last_region_leaves_a_request_or_nothing() {
    let state = idle_in_region();
    assert_eq!(state.leave_region(false), Wake::Noted);
    assert!(!state.snapshot().is_cleaning() && !state.snapshot().is_queued());

    let state = idle_in_region();
    assert_eq!(state.leave_region(true), Wake::Push);
    assert_eq!(state.start_run(), Start::Drop);

    let state = running();
    assert_eq!(state.enter_region(), Entered::Clear);
    assert_eq!(state.leave_region(true), Wake::Noted);
    assert_eq!(state.park(), Park::Requeue);
    assert_eq!(state.start_run(), Start::Drop);

    let state = running();
    assert_eq!(state.enter_region(), Entered::Clear);
    assert_eq!(state.complete(true), Complete::Finished);
    assert_eq!(state.leave_region(true), Wake::Noted);
    assert!(!state.snapshot().is_queued());
}

#[test]
fn edge_c6_a_request_is_withdrawn_but_not_the_end_of_the_loop() {
    let state = running();
    state.deliver(true, true);
    assert_eq!(state.request_cancel(), Wake::Noted);
    assert!(state.withdraw());
    assert!(!state.snapshot().is_cancelled() && !state.snapshot().is_cleaning());
    assert_eq!(state.park(), Park::Requeue);
    assert_eq!(state.start_run(), Start::Poll);

    assert_eq!(state.request_close(), Close::Noted);
    assert!(!state.withdraw());
    assert_eq!(state.park(), Park::Requeue);
    assert_eq!(state.start_run(), Start::Drop);
}

#[test]
fn edge_c7_a_doomed_task_is_dropped_whatever_it_enters() {
    let state = idle_in_region();
    assert_eq!(state.doom(), (Wake::Push, true));
    assert_eq!(state.doom(), (Wake::Noted, false));
    assert!(!state.snapshot().is_cleaning());
    assert_eq!(state.start_run(), Start::Drop);

    let state = running();
    assert_eq!(state.doom(), (Wake::Noted, false));
    assert_eq!(state.enter_region(), Entered::Refused);
    assert_eq!(state.park(), Park::Requeue);
    assert_eq!(state.start_run(), Start::Drop);

    assert_eq!(done().doom(), (Wake::Noted, false));
}

#[test]
fn debug_prints_the_parts() {
    let state = running();
    state.clone_waker();
    state.clone_waker();
    state.clone_handle();
    assert_eq!(state.request_cancel(), Wake::Noted);
    assert_eq!(
        format!("{state:?}"),
        "[QUEUED, RUNNING, CANCEL, JOIN, LISTED, handles=1, wakers=2]"
    );
    assert_eq!(format!("{:?}", state.snapshot()), format!("{state:?}"));
}

/// The counts of handles and wakers are neighbours in one word: many of one kind do not spill
/// into the other or into the flags.
#[test]
fn the_counts_do_not_touch_each_other() {
    let many = if cfg!(miri) { 1 << 10 } else { 1 << 18 };
    let state = idle();
    for _ in 0..many {
        state.clone_waker();
        state.clone_handle();
    }
    let seen = state.snapshot();
    assert_eq!((seen.wakers(), seen.handles()), (many, many));
    assert!(!seen.is_queued() && !seen.is_running() && !seen.is_done() && seen.is_wanted());
    assert_eq!(state.wake_by_ref(), Wake::Push);
    for _ in 0..many {
        assert_eq!(state.drop_waker(), Wake::Noted);
        assert_eq!(state.drop_handle(), Wake::Noted);
    }
    let seen = state.snapshot();
    assert_eq!((seen.wakers(), seen.handles()), (0, 0));
    assert!(seen.is_queued() && seen.is_wanted());
}

/// Both halves of the idle word hold every slot there can be.
#[test]
fn the_idle_word_holds_all_slots() {
    let slots = if cfg!(miri) { 64 } else { MAX_SLOTS as u32 };
    let idle = Idle::new();
    for slot in 0..slots {
        assert!(idle.begin_search(slots), "{slot}");
    }
    assert!(!idle.begin_search(slots), "the bound is exact");
    let counts = idle.counts();
    assert_eq!((counts.searching, counts.sleeping), (slots, 0));
    assert_eq!(idle.claim(), None, "somebody searches");
    for slot in 0..slots {
        idle.announce(slot, true);
    }
    let counts = idle.counts();
    assert_eq!((counts.searching, counts.sleeping), (0, slots));

    // The warmest first, and one at a time.
    assert_eq!(idle.claim(), Some(slots - 1));
    assert_eq!(idle.claim(), None);
    assert_eq!(idle.leave(slots - 1).0, Left::Claimed);
    assert!(idle.end_search(), "it was the last searcher");
    assert_eq!(idle.leave(0).0, Left::Free);
    let counts = idle.counts();
    assert_eq!((counts.searching, counts.sleeping), (0, slots - 2));
}
