//! Comparative benches of heist and its peers.
//!
//! Every runtime under test implements [`Peer`] (and [`Net`], [`Timers`], [`Blocking`], [`Http`] where it can); every
//! workload is written once against these traits, so that all runtimes run the same code. A [`Shape`] is a workload with
//! its parameters and a name; [`Shape::open`] builds a runtime and hands back a closure that runs so many batches and
//! returns a [`Sample`]. Both ways to run the suite, the criterion benches beside `src/` and the `compare` program, do
//! that in processes of their own ([`one`]), in alternation ([`rounds`]).
//!
//! In the order you meet them: [`peer`] (the traits), [`peers`] and `heist_impl` (the runtimes), [`shape`] and
//! [`shapes`] (the workloads), [`meter`] (what is measured), [`load`] (the clients of the servers), [`rounds`] and
//! [`table`] (from processes to medians), [`targets`], [`plot`] and [`document`] (the page in the book).
//! How to run it, and what each shape shows and does not, is in `README.md`.

pub mod affinity;
pub mod alloc;
pub mod document;
pub mod figures;
pub mod harness;
#[cfg(feature = "heist")]
pub mod heist_impl;
pub mod limits;
pub mod load;
pub mod log;
pub mod machine;
pub mod meter;
pub mod one;
pub mod peer;
pub mod peers;
pub mod plot;
pub mod rounds;
pub mod runtime_id;
pub mod shape;
pub mod shapes;
pub mod table;
pub mod targets;

pub use figures::Figures;
pub use meter::{Meter, Sample};
pub use peer::{Blocking, Full, Http, Net, Peer, Spawn, Timers, WakeSelf};
pub use runtime_id::RuntimeId;
pub use shape::{Headline, Shape};
