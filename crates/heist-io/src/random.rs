//! How the random tests of this crate are run.

#![forbid(unsafe_code)]

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;
use std::fmt::Debug;

/// Runs `test` with random values, as often as `PROPTEST_CASES` says. It answers how many operations it has done,
/// and this says how many there were.
pub(crate) fn with_random<V: Debug>(values: impl Strategy<Value = V>, test: impl Fn(V) -> usize) {
    let operations = Cell::new(0);
    let config = ProptestConfig {
        cases: if cfg!(miri) {
            2
        } else {
            ProptestConfig::default().cases
        },
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let ended = TestRunner::new(config).run(&values, |value| {
        operations.set(operations.get() + test(value));
        Ok(())
    });
    ended.unwrap_or_else(|error| panic!("{error}"));
    println!("{} operations", operations.get());
}
