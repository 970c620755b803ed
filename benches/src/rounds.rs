//! Alternating processes: the rounds of a comparison.
//!
//! For a shape and a number of workers, [`measure`] goes round all runtimes, one process each, as often as the plan
//! says; each round begins with another runtime. So a slow minute of the machine hurts all runtimes alike, and no runtime
//! inherits the heap or the threads of another.
#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::figures::Figures;
use crate::one::{One, SKIPPED};
use crate::peers::tokio::HAS_EAGER;
use crate::runtime_id::RuntimeId;
use crate::shape::Shape;

/// A process of one round that takes longer has lost a wake-up; it is killed and named.
const PROCESS_LIMIT: Duration = Duration::from_secs(60);
/// How often a process of a round is looked at. Rare enough to cost it nothing.
const LOOK: Duration = Duration::from_millis(10);
/// After so many failures a runtime is let off the rest of the rounds.
const FAILURES: usize = 2;

/// How a comparison is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rounds of processes.
    pub rounds: usize,
    /// Length of a stretch.
    pub target: Duration,
    /// Stretches of a process.
    pub stretches: usize,
    /// Exactly so many batches, without warm-up.
    pub batches: Option<u64>,
    /// The shapes in small.
    pub small: bool,
    /// The program that can build tokio with eager hand-over, if this one cannot.
    pub eager: Option<PathBuf>,
    /// The program whose allocator counts, if this one's does not.
    pub memory: Option<PathBuf>,
}

/// The figures of one runtime with one shape and one number of workers.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The shape.
    pub shape: Shape,
    /// Workers.
    pub workers: usize,
    /// The runtime.
    pub runtime: RuntimeId,
    /// One entry per stretch, or none if it was skipped or failed.
    pub figures: Vec<Figures>,
    /// Why it was skipped.
    pub skipped: Option<String>,
    /// What went wrong.
    pub failures: Vec<String>,
}

impl Measured {
    /// Nothing yet.
    #[must_use]
    pub fn none(shape: Shape, workers: usize, runtime: RuntimeId) -> Self {
        Self {
            shape,
            workers,
            runtime,
            figures: Vec::new(),
            skipped: None,
            failures: Vec::new(),
        }
    }

    fn goes_on(&self) -> bool {
        self.skipped.is_none() && self.failures.len() < FAILURES
    }

    fn add(&mut self, outcome: Result<String, String>) {
        let lines = match outcome {
            Ok(lines) => lines,
            Err(error) => return self.failures.push(error),
        };
        if let Some(reason) = lines.trim().strip_prefix(SKIPPED) {
            self.skipped = Some(reason.into());
            return;
        }
        for line in lines.lines() {
            match line.parse() {
                Ok(figures) => self.figures.push(figures),
                Err(error) => self.failures.push(error),
            }
        }
    }
}

/// Those of `runtimes` that play `shape` with `workers` workers.
pub fn players(shape: Shape, workers: usize, runtimes: &[RuntimeId]) -> Vec<RuntimeId> {
    let all = runtimes.iter().copied();
    all.filter(|&runtime| shape.suits(runtime) && shape.suits_workers(workers))
        .collect()
}

/// Measures `shape` on `runtimes`, which all play it.
#[must_use]
pub fn measure(plan: &Plan, shape: Shape, workers: usize, runtimes: &[RuntimeId]) -> Vec<Measured> {
    let mut all: Vec<_> = runtimes
        .iter()
        .map(|&runtime| Measured::none(shape, workers, runtime))
        .collect();
    for round in 0..plan.rounds {
        for turn in 0..all.len() {
            let at = (round + turn) % all.len();
            if !all[at].goes_on() {
                continue;
            }
            let one = One {
                batches: plan.batches,
                target: plan.target,
                stretches: plan.stretches,
                small: plan.small,
                ..One::new(all[at].runtime, shape, workers)
            };
            let outcome = plan.program(&one).and_then(|program| match program {
                Some(program) => run(&[], &program, &one.to_args()).map(|(out, _)| out),
                None => Ok(format!("{SKIPPED}{NO_EAGER}")),
            });
            all[at].add(outcome);
        }
    }
    all
}

/// What is said where the eager variant of tokio was not to be had.
pub const NO_EAGER: &str = "tokio has eager hand-over of its driver only in a build that is all made with \
                            `--cfg tokio_unstable`";

impl Plan {
    /// The program that can play `one`; `None` if there is none because tokio was built without the option.
    fn program(&self, one: &One) -> Result<Option<PathBuf>, String> {
        let this = || env::current_exe().map_err(|error| error.to_string());
        if one.runtime == RuntimeId::Eager && !HAS_EAGER {
            return Ok(self.eager.clone());
        }
        if one.shape.counts_memory() {
            if let Some(memory) = &self.memory {
                return Ok(Some(memory.clone()));
            }
        }
        this().map(Some)
    }
}

/// Runs `program` behind `wrapper`, if there is one; its standard output and error.
///
/// # Errors
///
/// It could not be started, failed, or did not end in time.
pub fn run(wrapper: &[&str], program: &Path, args: &[String]) -> Result<(String, String), String> {
    let mut words: Vec<OsString> = wrapper.iter().map(OsString::from).collect();
    words.push(program.into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(args);
    let shown = |error: io::Error| format!("{}: {error}", program.display());
    run_limited(&mut command).map_err(shown)?
}

fn run_limited(command: &mut Command) -> io::Result<Result<(String, String), String>> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let begin = Instant::now();
    let status = loop {
        // A few lines fit into the pipes, so the child never waits for us to read.
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begin.elapsed() > PROCESS_LIMIT {
            child.kill()?;
            child.wait()?;
            return Ok(Err(format!("HANG: no end after {PROCESS_LIMIT:?}")));
        }
        thread::sleep(LOOK);
    };
    let (mut out, mut err) = (String::new(), String::new());
    if let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) {
        stdout.read_to_string(&mut out)?;
        stderr.read_to_string(&mut err)?;
    }
    if !status.success() {
        let err: Vec<_> = err.split_whitespace().collect();
        return Ok(Err(format!("{status}: {}", err.join(" "))));
    }
    Ok(Ok((out, err)))
}
