//! Tests of the cell over the real scheduler: plain ones, with a seam that parks threads.
//!
//! The model-checked ones are in `models.rs`, which only `--cfg heist_loom` compiles.

mod contained;
mod general;
mod regions;
pub(crate) mod support;
mod word;
