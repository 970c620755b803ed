//! Random choices with a seed, so that a run can be repeated as far as threads allow.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Sixty-four bits of state that are walked through in steps of the golden ratio: splitmix64.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// For a test: prints its seed, and takes it from `HEIST_SEED` if that is set.
    pub fn new(test: &str) -> Dice {
        let given = std::env::var("HEIST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map_or(1, |now| now.as_nanos() as u64)
        });
        println!("{test}: HEIST_SEED={seed}");
        Dice(seed)
    }

    /// With this seed.
    pub fn seeded(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The `stream`-th of those that belong to `seed`.
    pub fn stream(seed: u64, stream: u64) -> Dice {
        let mut dice = Dice(seed ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03));
        dice.number();
        dice
    }

    /// Dice for another task or thread.
    pub fn fork(&mut self) -> Dice {
        Dice(self.number())
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.number()) * n as u128) >> 64) as usize
    }

    /// A number of the range.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below((range.end - range.start) as usize) as u64
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A number below 2^`bits`, each magnitude as likely as any other: most are small, some are not.
    pub fn magnitude(&mut self, bits: u64) -> u64 {
        let shift = self.within(0..bits + 1);
        self.number() & ((1 << shift) - 1)
    }

    /// So many microseconds.
    pub fn micros(&mut self, range: Range<u64>) -> Duration {
        Duration::from_micros(self.within(range))
    }

    /// A length below `most`, in microseconds: many of them are equal or lie close together, so that
    /// timers race.
    pub fn length(&mut self, most: Duration) -> Duration {
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
