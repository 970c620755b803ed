//! The choices of a program.
//!
//! They come from the seed alone and not from the simulation, and every task takes dice of its own from its
//! spawner. So what a task does depends neither on the order in which tasks run nor on what others do.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Sixty-four bits of state that are walked through in steps of the golden ratio.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Dice for another task.
    pub(super) fn fork(&mut self) -> Dice {
        Dice(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A length below `most`, in microseconds: many of them are equal or lie close together, so that
    /// timers race.
    pub(super) fn length(&mut self, most: Duration) -> Duration {
        let most = usize::try_from(most.as_micros()).expect("it is short");
        let length = self.below(most.max(1));
        let length = if self.one_in(2) {
            // A whole millisecond.
            length / 1000 * 1000
        } else {
            length
        };
        Duration::from_micros(length as u64)
    }
}
