//! Adapters for other people's traits: one file, and one feature, for each.

#[cfg(feature = "futures-task")]
mod futures;
#[cfg(feature = "hyper")]
pub mod hyper;

#[cfg(feature = "futures-task")]
pub use futures::LocalHandle;
