//! The scheduler of heist: task cells, run queues, workers, parking, the blocking pool.
//!
//! It has no file descriptors and no clock of its own: what a worker parks on, the time and the
//! randomness come through the [`Seam`]. Users depend on the crate `heist`; this one is its engine
//! and makes no promise of stability.
//!
//! # Map
//!
//! | module       | subject                                                        |
//! |--------------|----------------------------------------------------------------|
//! | `task`       | the cell, its state word, its handles                          |
//! | `worker`     | finds a task, runs it, goes idle                               |
//! | `queue`      | a worker's tasks, in order                                     |
//! | `deque`      | the only door to `crossbeam-deque`                             |
//! | `slot`       | what a worker has, as others see it                            |
//! | `spread`     | when a busy worker wakes a second one                          |
//! | `idle`       | who searches, who sleeps, whom to wake                         |
//! | `guests`     | foreign threads that are inside for a moment                   |
//! | `shared`     | what all threads share; where a task goes                      |
//! | `pinned`     | work that stays on the thread of `run`                         |
//! | `summons`    | what other threads tell `main`                                 |
//! | `address`    | where that thread parks                                        |
//! | `main_loop`  | the thread itself                                              |
//! | `catch`      | regions that catch a request to cancel, as futures             |
//! | `monitor`    | notices workers that are stuck                                 |
//! | `deadlock`   | the proof that `main` can never go on                          |
//! | `blocking`   | the pool for closures that block                               |
//! | `threads`    | starting and joining                                           |
//! | `closing`    | the end of a loop, as numbered steps                           |
//! | `graces`     | how long that may take                                         |
//! | `inspect`    | what people see of a runtime from outside                      |
//! | `context`    | what the current thread is doing for which runtime             |
//! | `values`     | what tasks take over from their spawners                       |
//! | `fork`       | a runtime in the child of a fork                               |
//! | `budget`     | a bound on what one poll may do                                |
//! | `sim`        | one thread steps all workers, in an order that a seed decides  |
//! | `config`     | every tuning number                                            |

#![cfg_attr(
    any(heist_loom, heist_shuttle),
    allow(
        dead_code,
        reason = "models call what can race, and their builds have no other tests"
    )
)]

mod address;
mod blocking;
mod budget;
mod catch;
mod closing;
mod config;
mod context;
mod deadlock;
mod deque;
mod fork;
mod graces;
mod guests;
mod hooks;
mod idle;
mod inspect;
mod main_loop;
#[cfg(all(test, heist_loom))]
mod models;
mod monitor;
mod pinned;
mod queue;
mod runtime;
mod seam;
mod shared;
pub mod sim;
mod slot;
mod spread;
mod summons;
mod sync;
mod task;
#[cfg(all(test, not(heist_loom)))]
mod testing;
mod threads;
mod values;
#[cfg(all(test, heist_shuttle))]
mod whole_models;
mod worker;

mod surface {
    pub use crate::budget::{Charge, poll_proceed};
    pub use crate::catch::{
        Cancelled, CatchCancel, Limit, Resume, cancel_again, cancelling, catch_cancel, uncancel,
    };
    pub use crate::closing::{DroppedTask, ShutdownReport};
    pub use crate::config::{
        BUDGET, Config, DRIVER_INTERVAL, GATHER_FOR, INJECTOR_INTERVAL, LIFO_STREAK, LOCAL_QUEUE,
        MainThread, SPREAD_AFTER,
    };
    pub use crate::context::{Role, reads_to_accept, waits_on, wake_at_end};
    pub use crate::deadlock::Deadlock;
    pub use crate::fork::forked;
    pub use crate::hooks::{Hooks, Report, drop_beside_panic, drop_payload};
    pub use crate::inspect::{Metrics, TaskPhase, TaskSnapshot, WorkerMetrics};
    pub use crate::main_loop::Outcome;
    pub use crate::pinned::Asked;
    pub use crate::runtime::{
        Entered, Handle, NotEntered, NotLocal, Runtime, YieldNow, attend, block_in_place,
        cancel_main, current_slot, entered, source_shard, spawn, spawn_local, task_id, task_name,
        timer_shard, with_seam, yield_now,
    };
    pub use crate::seam::{NEVER, Seam, Simulated};
    pub use crate::shared::Spawn;
    pub use crate::task::{
        AbortHandle, CancelOnDrop, Id, JoinError, JoinHandle, Kind as TaskKind, Label, Shield,
        Unseen, Wait, abort_along, abort_at, drop_foreign, shield, wake_foreign,
    };
    pub use crate::values::{VarKey, VarValue, replace_var, var};
}
pub use surface::*;
