//! Tasks: one allocation each, and the kinds of handles that keep it alive.
//!
//! ```text
//!   Header ─────────────────────────────┐ state word, vtable, owner, links, labels, join waker
//!   Stage<F> = Future | Output | Gone ──┘ the future, then its output
//! ```
//!
//! | handle         | how many            | counts as          | may                                    |
//! |----------------|---------------------|--------------------|----------------------------------------|
//! | [`Runnable`]   | one while queued    | QUEUED             | be pushed, be started                  |
//! | [`Running`]    | one while running   | RUNNING            | touch the future                       |
//! | [`JoinHandle`] | one at most         | JOIN               | take the output, set the join waker    |
//! | [`AbortHandle`]| any                 | HANDLE             | request the end                        |
//! | `Waker`        | any                 | WAKER              | make the task queued                   |
//! | [`TaskList`]   | one                 | LISTED             | look at the labels, request the end    |
//!
//! # Who may touch which field
//!
//! * `state`: everybody, through its methods.
//! * `vtable`, `owner`, the labels: written before the task is published, then only read. What
//!   `owner` points to may be gone once the task is done; see `waker.rs`.
//! * `links`: who holds the lock of the task's list.
//! * what a task waits on is in none of them but in its list, under the lock of that: `wait.rs`.
//! * `polls`: written by the runner, read by anybody as a hint.
//! * `join_waker`: by invariant 6 of the state word.
//! * the stage: the runner before DONE, the join handle after (invariants 3 and 7).
//!
//! `unsafe` lives in `raw.rs`, `place.rs`, `waker.rs`, `list.rs` and `join.rs`; what they offer to the rest of
//! the crate is safe.

mod error;
mod id;
mod join;
mod keeper;
mod list;
#[cfg(all(test, heist_loom))]
mod model_memory;
#[cfg(all(test, heist_loom))]
#[path = "tests/models.rs"]
mod models;
mod place;
mod raw;
pub(crate) mod region;
#[cfg(all(test, heist_loom))]
#[path = "tests/region_models.rs"]
mod region_models;
pub(crate) mod state;
mod wait;
mod waker;

#[cfg(all(test, not(any(heist_loom, heist_shuttle))))]
pub(crate) mod tests;

pub use error::{JoinError, Label};
pub use id::Id;
pub(crate) use join::TaskRef;
pub use join::{AbortHandle, CancelOnDrop, JoinHandle, Shield, abort_along, abort_at, shield};
pub(crate) use keeper::Keeper;
pub(crate) use list::{AnyLeft, GivenUp, LastOut, TaskList, TaskLists};
#[cfg(all(test, heist_loom))]
pub(crate) use model_memory::Memory;
pub(crate) use place::Place;
pub(crate) use raw::{Header, New, Runnable, Running, Side, Started, create};
pub use raw::{Kind, Unseen};
pub(crate) use region::{Carried, Inside, Key, Polled, Why};
pub use wait::Wait;
pub(crate) use waker::is_of;
pub use waker::{drop_foreign, wake_foreign};
