//! One runtime, one shape, one process: the part of a comparison that is measured.
//!
//! Any program of this suite becomes such a process when its first argument is `--one`: its `main` calls
//! [`play_if_asked`] first. The answer on the standard output is a line of [`Figures`] for each stretch, or
//! `skipped: <reason>`.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::fmt;
use std::io;
use std::process;
use std::time::Duration;

use crate::figures::Figures;
use crate::load::become_load_if_asked;
use crate::meter::Sample;
use crate::runtime_id::RuntimeId;
use crate::shape::{Headline, Shape};

/// The word that begins the answer of a process that cannot play for a reason outside of the runtime.
pub const SKIPPED: &str = "skipped: ";
/// The next calibration run has at most so many times the batches of the last.
const GROWTH: u64 = 8;
/// A process makes no further stretches once those before took so many times what all of them should take.
const PATIENCE: u32 = 2;

/// What one process does.
#[derive(Clone, Debug)]
pub struct One {
    /// The runtime.
    pub runtime: RuntimeId,
    /// The shape.
    pub shape: Shape,
    /// Workers of the runtime.
    pub workers: usize,
    /// Exactly so many batches, without warm-up.
    pub batches: Option<u64>,
    /// Otherwise: the first stretch is the first run that takes at least this long.
    pub target: Duration,
    /// Stretches to report, if time allows.
    pub stretches: usize,
    /// The shape in small.
    pub small: bool,
}

impl One {
    /// With default settings: one stretch of 250 ms.
    #[must_use]
    pub fn new(runtime: RuntimeId, shape: Shape, workers: usize) -> Self {
        Self {
            runtime,
            shape,
            workers,
            batches: None,
            target: Duration::from_millis(250),
            stretches: 1,
            small: false,
        }
    }

    /// The arguments that make a program of this suite do it.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let mut args: Vec<String> = vec![
            "--one".into(),
            self.runtime.name().into(),
            self.shape.name().into(),
            self.workers.to_string(),
            "--millis".into(),
            self.target.as_millis().to_string(),
            "--stretches".into(),
            self.stretches.to_string(),
        ];
        if let Some(batches) = self.batches {
            args.extend(["--iters".into(), batches.to_string()]);
        }
        if self.small {
            args.push("--small".into());
        }
        args
    }

    /// The other way round; the arguments behind `--one`.
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut next = |what: &str| args.next().ok_or(format!("{what} is missing"));
        let runtime = next("the runtime")?;
        let runtime = RuntimeId::named(&runtime).ok_or(format!("no runtime {runtime:?}"))?;
        let shape = next("the shape")?;
        let shape = Shape::named(&shape).ok_or(format!("no shape {shape:?}"))?;
        let workers = next("the number of workers")?.parse()?;
        let mut one = Self::new(runtime, shape, workers);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} wants a value"));
            match arg.as_str() {
                "--iters" => one.batches = Some(value()?.parse()?),
                "--millis" => one.target = Duration::from_millis(value()?.parse()?),
                "--stretches" => one.stretches = value()?.parse()?,
                "--small" => one.small = true,
                _ => return Err(format!("unknown argument {arg:?}").into()),
            }
        }
        if one.workers == 0 || one.stretches == 0 || one.batches == Some(0) {
            return Err("workers, stretches and iters are at least 1".into());
        }
        Ok(one)
    }

    /// Does it in this process, and hands each stretch to `report`.
    ///
    /// # Errors
    ///
    /// The runtime could not be built, or the system refused a socket or a thread.
    pub fn play(&self, mut report: impl FnMut(&Sample)) -> io::Result<()> {
        let shape = if self.small {
            self.shape.small()
        } else {
            self.shape
        };
        let mut run = shape
            .open(self.runtime, self.workers)?
            .ok_or_else(|| io::Error::other(format!("{self} cannot be played")))?;
        let (batches, first) = match self.batches {
            Some(batches) => (batches, run(batches)?),
            // Bytes are the same after a short run as after a long one, and the tasks that were counted stay.
            None if shape.headline() == Headline::Bytes => (1, run(1)?),
            None => self.warmed_up(&mut run)?,
        };
        report(&first);
        let patience = self.target * self.stretches as u32 * PATIENCE;
        let mut spent = first.wall;
        for _ in 1..self.stretches {
            if spent > patience {
                break;
            }
            let sample = run(batches)?;
            spent += sample.wall;
            report(&sample);
        }
        Ok(())
    }

    /// Runs growing numbers of batches; the first run that is long enough counts.
    fn warmed_up(
        &self,
        run: &mut dyn FnMut(u64) -> io::Result<Sample>,
    ) -> io::Result<(u64, Sample)> {
        let mut batches = 1;
        loop {
            let sample = run(batches)?;
            if sample.wall >= self.target {
                return Ok((batches, sample));
            }
            let per_batch = sample.wall.as_secs_f64() / batches as f64;
            // A tenth more, so that the next run is rarely just too short.
            let enough = (1.1 * self.target.as_secs_f64() / per_batch) as u64 + 1;
            batches = enough.clamp(batches + 1, batches * GROWTH);
        }
    }
}

impl fmt::Display for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runtime = self.runtime.name();
        write!(f, "{} {runtime} {}", self.shape, self.workers)
    }
}

/// Does what the program was started for, and ends it, if that is the load generator or `--one`. To be called first in
/// `main`.
pub fn play_if_asked() {
    become_load_if_asked();
    let mut args = env::args().skip(1);
    if args.next().as_deref() != Some("--one") {
        return;
    }
    let played = One::parse(args).and_then(|one| {
        let outcome = one.play(|sample| println!("{}", Figures::of(sample)));
        match outcome {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::QuotaExceeded | io::ErrorKind::Unsupported
                ) =>
            {
                println!("{SKIPPED}{error}");
                Ok(())
            }
            other => Ok(other?),
        }
    });
    if let Err(error) = played {
        eprintln!("{error}");
        process::exit(1);
    }
    process::exit(0);
}
