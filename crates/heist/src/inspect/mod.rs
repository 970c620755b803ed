//! A look at a runtime from outside, while it runs: for dashboards, and for the day it hangs.
//!
//! [`Handle::metrics`](crate::Handle::metrics) gives numbers. It stops nobody, and what it reads is
//! counted all the time.
//!
//! [`Handle::tasks`](crate::Handle::tasks) lists all tasks, and [`Handle::dump`](crate::Handle::dump)
//! makes a tree of them, as text or JSON, with those that will not go on.
//!
//! The types are here; a [`Handle`](crate::Handle) makes their values, from any thread.

#![forbid(unsafe_code)]

mod dump;
mod json;
mod metrics;
mod tasks;

pub use dump::Dump;
pub use metrics::{RuntimeMetrics, WorkerMetrics};
pub use tasks::{TaskInfo, TaskKind, TaskState, WaitsOn};
