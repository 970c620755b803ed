//! From figures to medians, spread and ratios.
#![forbid(unsafe_code)]

use crate::figures::Figures;
use crate::rounds::Measured;
use crate::runtime_id::RuntimeId;
use crate::shape::{Headline, Shape};

/// A median with the quartiles around it.
#[derive(Clone, Copy, Debug)]
pub struct Quartiles {
    /// Lower quartile.
    pub low: f64,
    /// Median.
    pub median: f64,
    /// Upper quartile.
    pub high: f64,
}

impl Quartiles {
    /// Of values of which there is at least one.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let place = quantile * (values.len() - 1) as f64;
            let (below, above) = (place.floor() as usize, place.ceil() as usize);
            values[below] + (values[above] - values[below]) * place.fract()
        };
        Self {
            low: at(0.25),
            median: at(0.5),
            high: at(0.75),
        }
    }

    /// Whether the two ranges have a value in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

/// The figures of one shape with one number of workers.
#[derive(Debug)]
pub struct Table {
    /// The shape.
    pub shape: Shape,
    /// Workers.
    pub workers: usize,
    /// The runtimes that have figures, in their usual order.
    pub rows: Vec<Row>,
    /// Those that have none, and why.
    pub absent: Vec<(RuntimeId, String)>,
}

/// The figures of one runtime.
#[derive(Debug)]
pub struct Row {
    /// The runtime.
    pub runtime: RuntimeId,
    /// The shape's own figure.
    pub headline: Quartiles,
    /// Medians of all figures.
    pub median: Figures,
    /// Stretches measured.
    pub stretches: usize,
    all: Vec<Figures>,
}

impl Row {
    /// The spread of any figure.
    #[must_use]
    pub fn quartiles(&self, figure: impl Fn(&Figures) -> f64) -> Quartiles {
        Quartiles::of(self.all.iter().map(figure).collect())
    }
}

impl Table {
    /// From what was measured, all with the same shape and number of workers.
    #[must_use]
    pub fn new(shape: Shape, workers: usize, measured: &[Measured]) -> Self {
        let mut table = Self {
            shape,
            workers,
            rows: Vec::new(),
            absent: Vec::new(),
        };
        for one in measured {
            if let Some(reason) = &one.skipped {
                table
                    .absent
                    .push((one.runtime, format!("skipped: {reason}")));
            }
            if let Some(failure) = one.failures.first() {
                let times = one.failures.len();
                let text = format!("failed {times} times, the first: {failure}");
                table.absent.push((one.runtime, text));
            }
            if one.figures.is_empty() {
                continue;
            }
            let all = one.figures.clone();
            let values = |figure: fn(&Figures) -> f64| all.iter().map(figure).collect();
            table.rows.push(Row {
                runtime: one.runtime,
                headline: Quartiles::of(
                    all.iter()
                        .map(|one| one.headline(shape.headline()))
                        .collect(),
                ),
                median: Figures::from_each(|figure| Quartiles::of(values(figure)).median),
                stretches: all.len(),
                all,
            });
        }
        table
    }

    /// The peer with the least of the shape's own figure.
    #[must_use]
    pub fn best_peer(&self) -> Option<&Row> {
        self.best_peer_by(|figures| figures.headline(self.shape.headline()))
    }

    /// The peer with the least of some figure.
    pub fn best_peer_by(&self, figure: impl Fn(&Figures) -> f64) -> Option<&Row> {
        let peers = self.rows.iter().filter(|row| row.runtime.is_peer());
        peers.min_by(|a, b| figure(&a.median).total_cmp(&figure(&b.median)))
    }

    /// The row of a runtime.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.runtime.name() == name)
    }

    /// Prints all figures of all runtimes.
    pub fn print(&self) {
        let unit = self.shape.headline().name();
        println!("\n### {}, {} worker(s)\n", self.shape, self.workers);
        println!(
            "| runtime | {unit} | IQR | ratio to best peer | ratio to tokio | wall ns/op | CPU ns/op | switches/1000 ops | p50 ns | p99 ns |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        for row in &self.rows {
            println!(
                "| {} | {} | {} to {} | {} | {} | {} | {} | {:.2} | {} | {} |",
                row.runtime.name(),
                number(row.headline.median),
                number(row.headline.low),
                number(row.headline.high),
                ratio(self.best_peer(), row),
                ratio(self.row("tokio"), row),
                number(row.median.wall),
                number(row.median.cpu),
                row.median.switches * 1000.0,
                number(row.median.p50),
                number(row.median.p99),
            );
        }
        for (runtime, reason) in &self.absent {
            println!("\n{}: {reason}", runtime.name());
        }
    }

    /// heist's line of the summary.
    #[must_use]
    pub fn heist_line(&self) -> Option<String> {
        let heist = self.row("heist")?;
        let (best, tokio) = (self.best_peer(), self.row("tokio"));
        let shown = |row: Option<&Row>| row.map_or("–".into(), |row| number(row.headline.median));
        Some(format!(
            "| {} | {} | {} | {} | {} ({}) | {} | {} | {} |",
            self.shape,
            self.workers,
            self.shape.headline().name(),
            number(heist.headline.median),
            shown(best),
            best.map_or("–", |row| row.runtime.name()),
            ratio(best, heist),
            shown(tokio),
            ratio(tokio, heist),
        ))
    }
}

/// Prints heist's summary, if heist took part.
pub fn print_summary(tables: &[Table]) {
    let lines: Vec<_> = tables.iter().filter_map(Table::heist_line).collect();
    if lines.is_empty() {
        return;
    }
    println!("\n### heist\n\nRatios above 1: heist is better.\n");
    println!("| shape | workers | figure | heist | best peer | ratio | tokio | ratio |");
    println!("|---|---|---|---|---|---|---|---|");
    for line in lines {
        println!("{line}");
    }
}

/// How many times better `row` is than `other`, in the shape's own figure.
#[must_use]
pub fn ratio(other: Option<&Row>, row: &Row) -> String {
    other.map_or("–".into(), |other| {
        ratio_of(other.headline.median, row.headline.median)
    })
}

/// How many times less `ours` is than `theirs`.
#[must_use]
pub fn ratio_of(theirs: f64, ours: f64) -> String {
    match theirs / ours {
        ratio if ratio.is_nan() => "1.00".into(),
        ratio if ratio.is_infinite() => "∞".into(),
        ratio => format!("{ratio:.2}"),
    }
}

/// Three digits at least, and none too many.
#[must_use]
pub fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "–".into(),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// A figure with its unit, as people say it.
#[must_use]
pub fn with_unit(value: f64, headline: Headline) -> String {
    if value.is_nan() {
        return "–".into();
    }
    match headline {
        Headline::Bytes => format!("{} B", number(value)),
        Headline::Switches => number(value),
        _ => time(value),
    }
}

/// Nanoseconds as people say them.
#[must_use]
pub fn time(nanos: f64) -> String {
    let (value, unit) = match nanos {
        nanos if nanos.is_nan() => return "–".into(),
        nanos if nanos < 1e3 => (nanos, "ns"),
        nanos if nanos < 1e6 => (nanos / 1e3, "µs"),
        nanos if nanos < 1e9 => (nanos / 1e6, "ms"),
        nanos => (nanos / 1e9, "s"),
    };
    let digits = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_values() {
        let quartiles = Quartiles::of(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(
            (quartiles.low, quartiles.median, quartiles.high),
            (1.75, 2.5, 3.25)
        );
        assert_eq!(Quartiles::of(vec![7.0]).high, 7.0);
        assert!(quartiles.overlaps(&Quartiles::of(vec![3.0])));
        assert!(!quartiles.overlaps(&Quartiles::of(vec![3.5])));
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let shown = [1.234, 45.67, 999.4, 1234.0, 5.67e7, 1.5e9].map(time);
        assert_eq!(
            shown,
            [
                "1.23 ns", "45.7 ns", "999 ns", "1.23 µs", "56.7 ms", "1.50 s"
            ]
        );
        assert_eq!(ratio_of(0.0, 0.0), "1.00");
        assert_eq!(ratio_of(3.0, 0.0), "∞");
    }

    #[test]
    fn the_best_peer_is_neither_heist_nor_a_bare_loop() {
        let shape = Shape::named("echo_8").expect("a shape");
        let measured: Vec<_> = [
            ("tokio", 30.0),
            ("async-executor", 20.0),
            ("bare-epoll", 10.0),
        ]
        .into_iter()
        .map(|(name, cpu)| {
            let runtime = RuntimeId::named(name).expect("a runtime");
            let mut one = Measured::none(shape, 2, runtime);
            one.figures = vec![Figures::from_each(|_| cpu)];
            one
        })
        .collect();
        let table = Table::new(shape, 2, &measured);
        let best = table.best_peer().expect("there are peers");
        assert_eq!(best.runtime.name(), "async-executor");
        let tokio = table.row("tokio").expect("it was measured");
        assert_eq!(ratio(Some(best), tokio), "0.67");
    }
}
