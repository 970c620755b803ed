//! The runtimes heist is compared with, one file each.
#![forbid(unsafe_code)]

pub mod bare;
pub mod executor;
pub mod pool;
pub mod tokio;
