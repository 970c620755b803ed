//! Random numbers with a seed, so that a run can be repeated as far as threads allow.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::time::Duration;

/// A splitmix64 generator.
pub(crate) struct Random(u64);

impl Random {
    /// The `stream`-th of the generators that belong to `seed`.
    pub(crate) fn new(seed: u64, stream: u64) -> Random {
        let mut random = Random(seed ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03));
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// A number below 2^`bits`, each magnitude as likely as any other: most are small, some are not.
    pub(crate) fn magnitude(&mut self, bits: u64) -> u64 {
        let shift = self.within(0..bits + 1);
        self.next() & ((1 << shift) - 1)
    }

    pub(crate) fn micros(&mut self, range: Range<u64>) -> Duration {
        Duration::from_micros(self.within(range))
    }

    pub(crate) fn is_one_in(&mut self, count: u64) -> bool {
        self.next() % count == 0
    }
}
