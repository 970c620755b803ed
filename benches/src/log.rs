//! The raw figures of a run in a text file, so that a long run is kept as it goes and its page can be written again.
//!
//! One line each: `about <name>: <value>`, `figures <shape> <workers> <runtime> <figures>`,
//! `skipped <shape> <workers> <runtime> <reason>`, `failed <shape> <workers> <runtime> <reason>`.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use crate::rounds::Measured;
use crate::runtime_id::RuntimeId;
use crate::shape::Shape;
use crate::table::Table;

/// A run.
#[derive(Debug, Default)]
pub struct Log {
    /// What it was measured on, and how.
    pub about: Vec<(String, String)>,
    /// What was measured, one entry per shape, number of workers and runtime.
    pub measured: Vec<Measured>,
}

/// Writes a line about the run.
///
/// # Errors
///
/// Those of `out`.
pub fn write_about(out: &mut impl Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "about {name}: {value}")
}

/// Writes the figures of one runtime.
///
/// # Errors
///
/// Those of `out`.
pub fn write_measured(out: &mut impl Write, one: &Measured) -> io::Result<()> {
    let place = format!("{} {} {}", one.shape, one.workers, one.runtime.name());
    for figures in &one.figures {
        writeln!(out, "figures {place} {figures}")?;
    }
    if let Some(reason) = &one.skipped {
        writeln!(out, "skipped {place} {reason}")?;
    }
    for reason in &one.failures {
        writeln!(out, "failed {place} {reason}")?;
    }
    out.flush()
}

impl Log {
    /// Reads what was written.
    ///
    /// # Errors
    ///
    /// The line that cannot be read.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut log = Self::default();
        for line in text.lines() {
            log.add(line)
                .map_err(|error| format!("{error} in the line {line:?}"))?;
        }
        Ok(log)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let (kind, rest) = line.split_once(' ').ok_or("no kind")?;
        if kind == "about" {
            let (name, value) = rest.split_once(": ").ok_or("no name")?;
            self.about.push((name.into(), value.into()));
            return Ok(());
        }
        let mut words = rest.splitn(4, ' ');
        let mut next = || words.next().ok_or("too short");
        let shape = Shape::named(next()?).ok_or("no such shape")?;
        let workers = next()?.parse().map_err(|_| "no number of workers")?;
        let runtime = RuntimeId::named(next()?).ok_or("no such runtime")?;
        let rest = next()?;
        let one = self.entry(shape, workers, runtime);
        match kind {
            "figures" => one.figures.push(rest.parse()?),
            "skipped" => one.skipped = Some(rest.into()),
            "failed" => one.failures.push(rest.into()),
            _ => return Err("no such kind".into()),
        }
        Ok(())
    }

    fn entry(&mut self, shape: Shape, workers: usize, runtime: RuntimeId) -> &mut Measured {
        let is_it =
            |one: &Measured| one.shape == shape && one.workers == workers && one.runtime == runtime;
        let at = self.measured.iter().position(is_it).unwrap_or_else(|| {
            self.measured.push(Measured::none(shape, workers, runtime));
            self.measured.len() - 1
        });
        &mut self.measured[at]
    }

    /// A value about the run.
    #[must_use]
    pub fn about(&self, name: &str) -> Option<&str> {
        let found = self.about.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The tables, in the order of the shapes.
    #[must_use]
    pub fn tables(&self) -> Vec<Table> {
        let mut tables = Vec::new();
        for &shape in Shape::ALL {
            let of_shape: Vec<_> = self
                .measured
                .iter()
                .filter(|one| one.shape == shape)
                .collect();
            let mut workers: Vec<_> = of_shape.iter().map(|one| one.workers).collect();
            workers.sort_unstable();
            workers.dedup();
            for number in workers {
                let mut rows: Vec<Measured> = Vec::new();
                for &runtime in RuntimeId::ALL {
                    let found = of_shape
                        .iter()
                        .find(|one| one.workers == number && one.runtime == runtime);
                    rows.extend(found.map(|&one| one.clone()));
                }
                tables.push(Table::new(shape, number, &rows));
            }
        }
        tables
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;

    #[test]
    fn a_log_comes_back_as_it_went() {
        let shape = Shape::named("echo_8").expect("a shape");
        let mut one = Measured::none(shape, 2, RuntimeId::Tokio);
        one.figures = vec![Figures::from_each(|_| 1.5), Figures::from_each(|_| 2.5)];
        one.failures.push("it hung".into());
        let mut bare = Measured::none(shape, 2, RuntimeId::Bare);
        bare.skipped = Some("too few descriptors".into());
        let mut out = Vec::new();
        write_about(&mut out, "command", "compare --x: y").expect("a vector");
        write_measured(&mut out, &one).expect("a vector");
        write_measured(&mut out, &bare).expect("a vector");

        let log = Log::read(&String::from_utf8(out).expect("text")).expect("our own lines");
        assert_eq!(log.about("command"), Some("compare --x: y"));
        let tables = log.tables();
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0].rows.len(), 1);
        assert_eq!(tables[0].rows[0].headline.median, 2.0);
        assert_eq!(tables[0].absent.len(), 2);
        assert!(Log::read("figures echo_9 2 tokio x").is_err());
    }
}
