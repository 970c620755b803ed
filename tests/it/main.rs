//! The promises of heist, tested through its public surface. One topic a file; the README says which
//! promise each of them is about.
#![forbid(unsafe_code)]
#![expect(
    clippy::async_yields_async,
    reason = "`main` hands handles out that are awaited after the run"
)]
#![expect(
    clippy::waker_clone_wake,
    reason = "each way to wake is a case of its own"
)]

use heist_tests::support;

mod blocked;
mod cancel;
mod cleanup;
mod context;
mod deadlock;
mod fairness;
mod fallible;
mod faults_descriptors;
mod faults_forget;
mod faults_panics;
mod faults_sizes;
mod faults_system;
mod groups;
mod guide;
mod handles;
mod idle;
mod input;
mod inspect;
mod late;
mod lifetime;
mod limits;
mod main_cancel;
mod moves;
mod nested;
mod net;
mod panics;
mod regions;
mod rows;
mod security;
mod seeded;
mod several;
mod sim;
mod sim_duplex;
mod sim_explore;
mod sim_torture;
mod stalls;
mod threads;
mod tidy;
mod wakes;
