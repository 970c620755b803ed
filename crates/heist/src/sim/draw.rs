//! Decisions that the seed makes; outside of a simulation all are "no".

#![forbid(unsafe_code)]

use std::time::Duration;

/// One number of the seed, from which a few small decisions are taken.
#[derive(Debug)]
pub(super) struct Draw(Option<u64>);

impl Draw {
    pub(super) fn new() -> Draw {
        Draw(heist_core::sim::random())
    }

    /// The next number below `bound`, which is not zero; 0 outside of a simulation.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let Some(number) = &mut self.0 else { return 0 };
        // The high half of the product is the choice, the low half what is left of the draw.
        let product = u128::from(*number) * u128::from(bound);
        *number = product as u64;
        (product >> 64) as u64
    }

    /// True in one of `many` cases; never if that is zero.
    pub(super) fn one_in(&mut self, many: u64) -> bool {
        self.0.is_some() && many > 0 && self.below(many) == 0
    }

    /// A length up to `most`.
    pub(super) fn up_to(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.below(most.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A draw of `number`.
    fn draw(number: u64) -> Draw {
        Draw(Some(number))
    }

    #[test]
    fn decisions_stay_in_their_range_at_both_ends() {
        for number in [0, 1, u64::MAX / 2, u64::MAX] {
            let mut draw = draw(number);
            for bound in [1, 2, 3, 1000, u64::MAX] {
                assert!(draw.below(bound) < bound, "{number} below {bound}");
            }
            assert!(draw.up_to(Duration::from_nanos(5)) <= Duration::from_nanos(5));
        }
        assert_eq!(draw(u64::MAX).below(10), 9);
        assert_eq!(draw(0).below(10), 0);
        assert!(draw(0).one_in(1));
        assert!(!draw(0).one_in(0));
    }

    #[test]
    fn outside_of_a_simulation_nothing_is_left_to_chance() {
        let mut draw = Draw::new();
        assert_eq!(draw.below(7), 0);
        assert!(!draw.one_in(1));
        assert!(draw.up_to(Duration::MAX).is_zero());
    }
}
