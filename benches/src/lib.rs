//! Comparative benches of heist and its peers.
//!
//! Every runtime under test implements [`Peer`] (and [`Net`], [`Timers`] where it has sockets and timers); every
//! workload is written once against these traits, so that all runtimes run the same code. A [`Shape`] is a workload
//! with its parameters and a name; [`Shape::open`] builds a runtime and hands back a closure that runs so many batches
//! and returns a [`Sample`]. Both ways to run the suite, the criterion benches beside `src/` and the `compare` program,
//! go through that closure.
//!
//! In the order you meet them: [`peer`] (the traits), [`peers`] and `heist_impl` (the runtimes), [`shape`] and
//! [`shapes`] (the workloads), [`meter`] (what is measured), [`load`] (the clients of the echo server).
//! How to run it, and what each shape shows and does not, is in `README.md`.

pub mod affinity;
pub mod harness;
#[cfg(feature = "heist")]
pub mod heist_impl;
pub mod load;
pub mod meter;
pub mod peer;
pub mod peers;
pub mod shape;
pub mod shapes;

pub use meter::{Meter, Sample};
pub use peer::{Net, Peer, Spawn, Timers, WakeSelf};
pub use shape::{Headline, RuntimeId, Shape};
