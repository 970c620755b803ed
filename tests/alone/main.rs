//! Tests that need a process of their own, because they count what the whole process has, use up
//! what it may have, or depend on its environment.
//!
//! `alone SCENARIO` runs one of them; the tests of `it` do so. It ends with the last line
//! `scenario: all is well`, or with a panic.
#![forbid(unsafe_code)]

mod deadlock;
mod debug;
mod descriptors;
mod faults;
mod idle;
mod lifetime;
mod seeds;
mod sim;
mod threads;
mod timers;
mod torture;

use heist_tests::support::ALL_IS_WELL;

/// Every scenario under its name.
macro_rules! scenarios {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((stringify!($name), $module::$name)),*]
    };
}

fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    let scenarios: &[(&str, fn())] = scenarios![
        lifetime::computes_only,
        lifetime::a_thousand_runs,
        threads::all_work_is_done,
        threads::build_fails,
        threads::no_thread_at_all,
        threads::closures,
        threads::closures_in_closures,
        threads::tried_again,
        descriptors::accept_without_descriptors,
        descriptors::no_descriptors_left,
        descriptors::connections_come_and_go,
        faults::everything_works,
        faults::refused_at_first,
        faults::some_fail,
        timers::a_million_timers,
        idle::costs_nothing,
        deadlock::found,
        deadlock::not_found,
        seeds::fails_under_a_seed,
        torture::random_programs,
        sim::traces,
        debug::stalls_are_reported,
        debug::stalls_are_not_reported,
        debug::stalls_are_not_reported_when_debug_is_off,
        debug::stalls_are_reported_when_debug_is_on,
        debug::a_handler_panics,
    ];
    // For whoever wants to know whether the program can be run at all.
    let nothing: (&str, fn()) = ("nothing", || ());
    let known = || scenarios.iter().chain([&nothing]);
    let Some((_, scenario)) = known().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = known().map(|(name, _)| *name).collect();
        eprintln!("there is no scenario {name:?}; there are {known:?}");
        std::process::exit(2);
    };
    scenario();
    println!("{ALL_IS_WELL}");
}
