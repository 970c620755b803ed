//! A look at a runtime from outside, while it runs: for dashboards, and for the day it hangs.
//!
//! [`Handle::metrics`](crate::Handle::metrics) gives numbers. It stops nobody, and what it reads is
//! counted all the time.
//!
//! [`Handle::tasks`](crate::Handle::tasks) lists all tasks.
//!
//! The types are here; a [`Handle`](crate::Handle) makes their values, from any thread.

#![forbid(unsafe_code)]

mod metrics;
mod tasks;

pub use metrics::{RuntimeMetrics, WorkerMetrics};
pub use tasks::{TaskInfo, TaskKind, TaskState, WaitsOn};
