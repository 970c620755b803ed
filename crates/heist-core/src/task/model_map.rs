//! The module `task` as the models see it: the state word and nothing around it.
//!
//! Loom cannot see into the primitives that the cell, the lists and the handles are built on, so
//! under `--cfg heist_loom` only the word is compiled. The models put loom's cells where the future,
//! the output and the join waker are, and make the same calls as `raw.rs`, `join.rs` and `list.rs`.

#![forbid(unsafe_code)]
#![allow(
    dead_code,
    reason = "the models call what can race, not every method of the word"
)]

pub(crate) mod state;

#[cfg(test)]
#[path = "tests/models.rs"]
pub(crate) mod models;
