//! The only door to atomics, locks, threads and thread-local values.
//!
//! Models run the code that ships over stand-ins, which are swapped in here:
//!
//! | cfg             | what compiles               | what a model sees                                    |
//! |-----------------|-----------------------------|------------------------------------------------------|
//! | `heist_loom`    | the whole crate             | every interleaving up to a number of preemptions, with weak memory, of a few calls |
//! | `heist_shuttle` | the whole crate             | many random interleavings, sequentially consistent   |
//!
//! What a model need not see stays with the standard library: `Arc`, cells that are written once, and
//! counters that only make numbers unique.

#![forbid(unsafe_code)]
#[cfg(heist_loom)]
mod loom;
#[cfg(not(any(heist_loom, heist_shuttle)))]
mod real;
#[cfg(heist_shuttle)]
mod shuttle;

#[cfg(heist_loom)]
pub(crate) use self::loom::*;
#[cfg(not(any(heist_loom, heist_shuttle)))]
pub(crate) use self::real::*;
#[cfg(heist_shuttle)]
pub(crate) use self::shuttle::*;
