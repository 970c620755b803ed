//! Tests of the cell.
#[cfg(not(heist_loom))]
mod general;
