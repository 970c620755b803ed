//! The figures of one stretch of work, per operation, as they travel between processes: a line of `name=value` words.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::meter::Sample;
use crate::shape::Headline;

/// Figures per operation, times in nanoseconds. What a shape does not measure is not a number.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Operations.
    pub ops: f64,
    /// Wall time.
    pub wall: f64,
    /// CPU time of the process.
    pub cpu: f64,
    /// Context switches.
    pub switches: f64,
    /// Page faults.
    pub faults: f64,
    /// Median latency.
    pub p50: f64,
    /// 99th percentile of the latency.
    pub p99: f64,
    /// Bytes asked of the allocator.
    pub asked: f64,
    /// Bytes it set aside.
    pub given: f64,
}

/// Names of the figures, in the order of a line.
const NAMES: [&str; 9] = [
    "ops", "wall", "cpu", "switches", "faults", "p50", "p99", "asked", "given",
];

impl Figures {
    /// Those of a sample.
    #[must_use]
    pub fn of(sample: &Sample) -> Self {
        let nanos = |time: Option<Duration>| time.map_or(f64::NAN, |time| time.as_nanos() as f64);
        let ops = sample.ops as f64;
        Self {
            ops,
            wall: sample.per_op(sample.wall),
            cpu: sample.per_op(sample.cpu),
            switches: sample.switches as f64 / ops,
            faults: sample.faults as f64 / ops,
            p50: nanos(sample.latency.map(|(p50, _)| p50)),
            p99: nanos(sample.latency.map(|(_, p99)| p99)),
            asked: sample.bytes.map_or(f64::NAN, |held| held.asked),
            given: sample.bytes.map_or(f64::NAN, |held| held.given),
        }
    }

    /// The figure that a shape is about.
    #[must_use]
    pub fn headline(&self, headline: Headline) -> f64 {
        match headline {
            Headline::Wall => self.wall,
            Headline::Cpu => self.cpu,
            Headline::P50 => self.p50,
            Headline::P99 => self.p99,
            Headline::Bytes => self.asked,
            Headline::Switches => self.switches,
        }
    }

    /// Another set of figures from the values of each, in order.
    pub(crate) fn from_each(mut value: impl FnMut(fn(&Self) -> f64) -> f64) -> Self {
        Self {
            ops: value(|figures| figures.ops),
            wall: value(|figures| figures.wall),
            cpu: value(|figures| figures.cpu),
            switches: value(|figures| figures.switches),
            faults: value(|figures| figures.faults),
            p50: value(|figures| figures.p50),
            p99: value(|figures| figures.p99),
            asked: value(|figures| figures.asked),
            given: value(|figures| figures.given),
        }
    }

    fn values(&self) -> [f64; 9] {
        [
            self.ops,
            self.wall,
            self.cpu,
            self.switches,
            self.faults,
            self.p50,
            self.p99,
            self.asked,
            self.given,
        ]
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in NAMES.iter().zip(self.values()).enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(f, "{gap}{name}={value:.6}")?;
        }
        Ok(())
    }
}

impl FromStr for Figures {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let get = |name: &str| -> Result<f64, String> {
            let mut words = line.split_whitespace();
            let text = words
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                .ok_or_else(|| format!("no {name} in {line:?}"))?;
            text.parse()
                .map_err(|error| format!("{name} in {line:?}: {error}"))
        };
        let mut values = NAMES.map(get).into_iter();
        let mut next = || values.next().expect("as many values as names");
        Ok(Self {
            ops: next()?,
            wall: next()?,
            cpu: next()?,
            switches: next()?,
            faults: next()?,
            p50: next()?,
            p99: next()?,
            asked: next()?,
            given: next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_as_it_went() {
        let sample = Sample {
            ops: 4,
            wall: Duration::from_nanos(10),
            cpu: Duration::from_nanos(8),
            switches: 2,
            latency: Some((Duration::from_nanos(3), Duration::from_nanos(5))),
            faults: 1,
            bytes: None,
        };
        let line = Figures::of(&sample).to_string();
        let back: Figures = line.parse().expect("our own line");
        assert_eq!(back.values()[..7], [4.0, 2.5, 2.0, 0.5, 0.25, 3.0, 5.0]);
        assert!(back.asked.is_nan() && back.given.is_nan());
        assert!("wall=3".parse::<Figures>().is_err());
    }
}
