//! Whether a figure stayed flat.
//!
//! What is looked at begins after the warm-up. Its *base* is the median of its first third. It may rise by so much
//! over the whole time, by the median of the slopes between all pairs of samples (Theil and Sen's line, which single
//! outliers do not bend); and it may never be above so much.
//!
//! How long something takes depends on who else uses the machine. So what is added to the bounds of times is
//! [`SHARE_OF_MACHINE`] times what a thread of no runtime has seen in the same time: its rise and its peak.
#![forbid(unsafe_code)]

use crate::sample::Sample;

/// How many times a request has to wait for a processor, at most, where the thread that is compared with waits once.
const SHARE_OF_MACHINE: f64 = 10.0;
/// Samples after the warm-up that are needed to say anything.
pub(crate) const FEWEST: usize = 9;

/// What is judged, and how far it may go: by a share of its base, and by a number beside it.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    value: fn(&Sample) -> f64,
    rise: Allowance,
    peak: Allowance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Count,
    Micros,
}

#[derive(Clone, Copy)]
struct Allowance {
    share: f64,
    flat: f64,
}

impl Allowance {
    fn of(self, base: f64) -> f64 {
        self.share * base + self.flat
    }
}

const MIB: f64 = 1024.0 * 1024.0;
const MILLI: f64 = 1000.0;

const fn up_to(share: f64, flat: f64) -> Allowance {
    Allowance { share, flat }
}

/// Everything that must stay flat.
pub(crate) const FIGURES: [Figure; 10] = [
    Figure {
        name: "resident memory",
        unit: Unit::Bytes,
        value: |sample| sample.resident,
        rise: up_to(0.05, 4.0 * MIB),
        peak: up_to(0.5, 16.0 * MIB),
    },
    Figure {
        name: "heap in use",
        unit: Unit::Bytes,
        value: |sample| sample.heap,
        // crossbeam-epoch keeps what belonged to threads that have ended, up to 64 times 2 KiB for each worker. Spare
        // workers come and go, and so it takes about ten minutes until it has that much.
        rise: up_to(0.05, 0.5 * MIB),
        peak: up_to(0.5, 4.0 * MIB),
    },
    Figure {
        name: "threads",
        unit: Unit::Count,
        value: |sample| sample.threads,
        rise: up_to(0.1, 2.0),
        peak: up_to(0.5, 16.0),
    },
    Figure {
        name: "descriptors",
        unit: Unit::Count,
        value: |sample| sample.descriptors,
        rise: up_to(0.1, 8.0),
        peak: up_to(0.5, 64.0),
    },
    Figure {
        name: "tasks of the server",
        unit: Unit::Count,
        value: |sample| sample.server_tasks,
        rise: up_to(0.1, 8.0),
        peak: up_to(0.5, 64.0),
    },
    Figure {
        name: "tasks of the clients",
        unit: Unit::Count,
        value: |sample| sample.client_tasks,
        rise: up_to(0.1, 8.0),
        peak: up_to(0.5, 64.0),
    },
    Figure {
        name: "exchange, p50",
        unit: Unit::Micros,
        value: |sample| sample.p50,
        rise: up_to(0.5, 2.0 * MILLI),
        peak: up_to(2.0, 50.0 * MILLI),
    },
    Figure {
        name: "exchange, p99",
        unit: Unit::Micros,
        value: |sample| sample.p99,
        rise: up_to(0.5, 10.0 * MILLI),
        peak: up_to(2.0, 500.0 * MILLI),
    },
    Figure {
        name: "exchange, longest",
        unit: Unit::Micros,
        value: |sample| sample.max,
        rise: up_to(0.5, 100.0 * MILLI),
        peak: up_to(2.0, 2000.0 * MILLI),
    },
    Figure {
        name: "lateness of a timer, p99",
        unit: Unit::Micros,
        value: |sample| sample.timer_p99,
        rise: up_to(0.5, 10.0 * MILLI),
        peak: up_to(2.0, 500.0 * MILLI),
    },
];

/// What came out for one figure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finding {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    /// The median of the first third.
    pub(crate) base: f64,
    /// The median of the last third.
    pub(crate) last: f64,
    pub(crate) rise: f64,
    pub(crate) rise_allowed: f64,
    pub(crate) peak: f64,
    pub(crate) peak_allowed: f64,
}

impl Finding {
    pub(crate) fn is_flat(&self) -> bool {
        self.rise <= self.rise_allowed && self.peak <= self.peak_allowed
    }
}

impl Figure {
    /// Judges the samples after the warm-up.
    pub(crate) fn judge(&self, samples: &[Sample]) -> Finding {
        let points = |value: fn(&Sample) -> f64| -> Vec<(f64, f64)> {
            samples
                .iter()
                .map(|sample| (sample.at, value(sample)))
                .collect()
        };
        let (own, machine) = (points(self.value), points(|sample| sample.thread_p99));
        let third = own.len().div_ceil(3);
        let base = median(own[..third].iter().map(|(_, value)| *value).collect());
        let last = own[own.len() - third..].iter().map(|(_, value)| *value);
        let share = match self.unit {
            Unit::Micros => SHARE_OF_MACHINE,
            Unit::Bytes | Unit::Count => 0.0,
        };
        Finding {
            name: self.name,
            unit: self.unit,
            base,
            last: median(last.collect()),
            rise: rise(&own),
            rise_allowed: self.rise.of(base) + share * rise(&machine).max(0.0),
            peak: peak(&own),
            peak_allowed: base + self.peak.of(base) + share * peak(&machine),
        }
    }
}

fn peak(points: &[(f64, f64)]) -> f64 {
    points.iter().map(|(_, value)| *value).fold(0.0, f64::max)
}

/// By how much the line through the points rises from the first to the last.
fn rise(points: &[(f64, f64)]) -> f64 {
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (index, (at, value)) in points.iter().enumerate() {
        for (later, other) in &points[index + 1..] {
            slopes.push((other - value) / (later - at));
        }
    }
    let (first, last) = (points[0].0, points[points.len() - 1].0);
    median(slopes) * (last - first)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str) -> &'static Figure {
        let mut figures = FIGURES.iter();
        figures
            .find(|figure| figure.name == name)
            .expect("a figure")
    }

    fn samples(sample: impl Fn(f64) -> Sample) -> Vec<Sample> {
        let at = (0..30).map(f64::from);
        at.map(|at| Sample { at, ..sample(at) }).collect()
    }

    fn heap(sample: impl Fn(f64) -> f64) -> Finding {
        let samples = samples(|at| Sample {
            heap: sample(at),
            ..Sample::default()
        });
        figure("heap in use").judge(&samples)
    }

    /// It goes up and down by a lot, and comes back.
    #[test]
    fn what_goes_up_and_down_is_flat() {
        let finding = heap(|at| 4.0 * MIB + if at % 3.0 < 1.0 { MIB } else { 0.0 });
        assert!(finding.is_flat(), "{finding:?}");
        assert_eq!((finding.base, finding.last), (4.0 * MIB, 4.0 * MIB));
        assert_eq!(finding.peak, 5.0 * MIB);
    }

    /// 2 % with each sample, below any peak that is allowed.
    #[test]
    fn what_creeps_is_not_flat() {
        let finding = heap(|at| 4.0 * MIB + at * 0.05 * MIB);
        assert!(
            (finding.rise - 29.0 * 0.05 * MIB).abs() < 1.0,
            "{finding:?}"
        );
        assert!(finding.peak < finding.peak_allowed && !finding.is_flat());
    }

    /// One sample, far above everything else, which the line does not see.
    #[test]
    fn a_single_peak_is_not_flat() {
        let finding = heap(|at| if at == 20.0 { 20.0 * MIB } else { 4.0 * MIB });
        assert_eq!(finding.rise, 0.0);
        assert!(!finding.is_flat());
    }

    /// Requests take longer because everything on this machine does, and the same with nothing to blame.
    #[test]
    fn a_busy_machine_is_not_held_against_times() {
        let times = |machine: f64| {
            samples(|at| Sample {
                p50: 1000.0 + at * 300.0,
                thread_p99: 50.0 + at * machine,
                ..Sample::default()
            })
        };
        assert!(!figure("exchange, p50").judge(&times(0.0)).is_flat());
        assert!(figure("exchange, p50").judge(&times(40.0)).is_flat());
    }

    #[test]
    fn less_than_before_is_flat() {
        assert!(heap(|at| (40.0 - at) * MIB).is_flat());
    }
}
