//! Compares the runtimes in alternating processes and prints tables with medians, spread and ratios.
//!
//! For each shape and number of workers it goes round all runtimes, one process each, as often as `--rounds` says; each
//! round begins with another runtime. A process warms its runtime up with growing numbers of batches and reports the
//! first run that is long enough. So a slow minute of the machine hurts all runtimes alike, and no runtime inherits the
//! heap or the threads of another.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::fs;
use std::io::Read as _;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use heist_benches::load::become_load_if_asked;
use heist_benches::{Headline, RuntimeId, Sample, Shape};

const USAGE: &str = "\
compare [--rounds 9] [--shapes spawn_join,yield,...] [--workers 1,2] [--runtimes heist,tokio,...] [--millis 250]
    tables from alternating processes; a shape is named by the beginning of its name
compare --one <runtime> <shape> <workers> [--iters <batches>] [--millis 250]
    one runtime and one shape in this process; with --iters exactly so many batches, without warm-up
compare --instructions [--shapes ..] [--workers 1] [--runtimes ..]
    instructions per operation, from callgrind: those of three batches less those of one
compare --list
    names of shapes and runtimes";

/// A process of one round that takes longer has lost a wake-up; it is killed and named.
const PROCESS_LIMIT: Duration = Duration::from_secs(90);
/// How often a process of a round is looked at. Rare enough to cost it nothing.
const LOOK: Duration = Duration::from_millis(20);
/// The next calibration run has at most so many times the batches of the last.
const GROWTH: u64 = 8;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    become_load_if_asked();
    match Options::parse(env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    match &options.mode {
        Mode::Help => println!("{USAGE}"),
        Mode::List => list(),
        Mode::One {
            runtime,
            shape,
            workers,
            batches,
        } => {
            let sample = one(*runtime, *shape, *workers, *batches, options.target)?;
            println!("{}", Figures::of(&sample).to_line());
        }
        Mode::Instructions => instructions(&options)?,
        Mode::Rounds => rounds(&options)?,
    }
    Ok(())
}

struct Options {
    mode: Mode,
    rounds: usize,
    shapes: Vec<Shape>,
    workers: Option<Vec<usize>>,
    runtimes: Vec<RuntimeId>,
    /// A process reports the first run that takes at least this long.
    target: Duration,
}

enum Mode {
    Help,
    List,
    One {
        runtime: RuntimeId,
        shape: Shape,
        workers: usize,
        batches: Option<u64>,
    },
    Instructions,
    Rounds,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            mode: Mode::Rounds,
            rounds: 9,
            shapes: Shape::ALL.to_vec(),
            workers: None,
            runtimes: RuntimeId::ALL.to_vec(),
            target: Duration::from_millis(250),
        };
        let mut iters = None;
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} wants a value\n{USAGE}"));
            match arg.as_str() {
                "--help" | "-h" => options.mode = Mode::Help,
                "--list" => options.mode = Mode::List,
                "--instructions" => options.mode = Mode::Instructions,
                "--rounds" => options.rounds = value()?.parse()?,
                "--millis" => options.target = Duration::from_millis(value()?.parse()?),
                "--iters" => iters = Some(value()?.parse()?),
                "--shapes" => options.shapes = shapes(&value()?)?,
                "--runtimes" => {
                    options.runtimes = value()?.split(',').map(runtime).collect::<Result<_>>()?;
                }
                "--workers" => {
                    let numbers = value()?
                        .split(',')
                        .map(str::parse)
                        .collect::<std::result::Result<_, _>>()?;
                    options.workers = Some(numbers);
                }
                "--one" => {
                    options.mode = Mode::One {
                        runtime: runtime(&value()?)?,
                        shape: shapes(&value()?)?[0],
                        workers: value()?.parse()?,
                        batches: None,
                    };
                }
                _ => return Err(format!("unknown argument {arg:?}\n{USAGE}").into()),
            }
        }
        if let Mode::One { batches, .. } = &mut options.mode {
            *batches = iters;
        }
        let no_workers = options
            .workers
            .as_ref()
            .is_some_and(|list| list.contains(&0));
        if options.rounds == 0 || no_workers {
            return Err("rounds and workers are at least 1".into());
        }
        Ok(options)
    }
}

fn shapes(list: &str) -> Result<Vec<Shape>> {
    let mut found = Vec::new();
    for prefix in list.split(',') {
        let before = found.len();
        found.extend(Shape::beginning_with(&[prefix]));
        if found.len() == before {
            return Err(format!("no shape begins with {prefix:?}; see --list").into());
        }
    }
    Ok(found)
}

fn runtime(name: &str) -> Result<RuntimeId> {
    RuntimeId::named(name).ok_or_else(|| format!("no runtime {name:?}; see --list").into())
}

fn list() {
    println!("shapes:");
    for shape in Shape::ALL {
        println!("  {shape} ({})", shape.headline().name());
    }
    println!("runtimes:");
    for runtime in RuntimeId::ALL {
        println!("  {}", runtime.name());
    }
}

/// Runs a shape in this process: so many batches, or as many as take `target`.
fn one(
    runtime: RuntimeId,
    shape: Shape,
    workers: usize,
    batches: Option<u64>,
    target: Duration,
) -> Result<Sample> {
    let mut run = shape
        .open(runtime, workers)?
        .ok_or_else(|| format!("{} cannot play {shape}", runtime.name()))?;
    if let Some(batches) = batches {
        return Ok(run(batches)?);
    }
    let mut batches = 1;
    loop {
        let sample = run(batches)?;
        if sample.wall >= target {
            return Ok(sample);
        }
        let per_batch = sample.wall.as_secs_f64() / batches as f64;
        // A tenth more, so that the next run is rarely just too short.
        let enough = (1.1 * target.as_secs_f64() / per_batch) as u64 + 1;
        batches = enough.clamp(batches + 1, batches * GROWTH);
    }
}

/// The figures of one process, per operation, as they travel over its standard output.
#[derive(Clone, Copy, Debug)]
struct Figures {
    ops: f64,
    wall: f64,
    cpu: f64,
    switches: f64,
    p50: f64,
    p99: f64,
}

impl Figures {
    fn of(sample: &Sample) -> Self {
        let nanos = |time: Option<Duration>| time.map_or(f64::NAN, |time| time.as_nanos() as f64);
        Self {
            ops: sample.ops as f64,
            wall: sample.per_op(sample.wall),
            cpu: sample.per_op(sample.cpu),
            switches: sample.switches as f64 / sample.ops as f64,
            p50: nanos(sample.latency.map(|(p50, _)| p50)),
            p99: nanos(sample.latency.map(|(_, p99)| p99)),
        }
    }

    fn to_line(self) -> String {
        format!(
            "ops={} wall={:.3} cpu={:.3} switches={:.6} p50={:.0} p99={:.0}",
            self.ops, self.wall, self.cpu, self.switches, self.p50, self.p99
        )
    }

    fn from_line(line: &str) -> Result<Self> {
        let fields: HashMap<_, _> = line
            .split_whitespace()
            .filter_map(|field| field.split_once('='))
            .collect();
        let get = |name| -> Result<f64> {
            let text = fields
                .get(name)
                .ok_or_else(|| format!("no {name} in {line:?}"))?;
            Ok(text.parse()?)
        };
        Ok(Self {
            ops: get("ops")?,
            wall: get("wall")?,
            cpu: get("cpu")?,
            switches: get("switches")?,
            p50: get("p50")?,
            p99: get("p99")?,
        })
    }

    fn headline(&self, shape: Shape) -> f64 {
        match shape.headline() {
            Headline::Wall => self.wall,
            Headline::Cpu => self.cpu,
            Headline::P50 => self.p50,
        }
    }
}

/// Runs `--one` in a process of its own, behind `wrapper` if there is one; its standard output and error.
fn in_process(wrapper: &[&str], args: &[String]) -> Result<(String, String)> {
    let exe = env::current_exe()?;
    let mut command = match wrapper.split_first() {
        Some((tool, rest)) => {
            let mut command = Command::new(tool);
            command.args(rest).arg(exe);
            command
        }
        None => Command::new(exe),
    };
    let mut child = command
        .args(args)
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
            return Err(format!("HANG: no end after {PROCESS_LIMIT:?}").into());
        }
        thread::sleep(LOOK);
    };
    let (mut out, mut err) = (String::new(), String::new());
    if let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) {
        stdout.read_to_string(&mut out)?;
        stderr.read_to_string(&mut err)?;
    }
    if !status.success() {
        return Err(format!("{status}: {}", err.trim()).into());
    }
    Ok((out, err))
}

fn one_args(runtime: RuntimeId, shape: Shape, workers: usize) -> Vec<String> {
    vec![
        "--one".into(),
        runtime.name().into(),
        shape.name().into(),
        workers.to_string(),
    ]
}

/// All rounds of all shapes; a table each, and heist's summary at the end.
fn rounds(options: &Options) -> Result<()> {
    print_machine(options);
    let mut medians = Vec::new();
    let mut summary = Vec::new();
    let mut failures = Vec::new();
    for &shape in &options.shapes {
        for &workers in options.workers.as_deref().unwrap_or(&[1, 2]) {
            let players: Vec<_> = options
                .runtimes
                .iter()
                .copied()
                .filter(|&runtime| shape.suits(runtime))
                .collect();
            if players.is_empty() {
                continue;
            }
            let mut rows: Vec<Vec<Figures>> = vec![Vec::new(); players.len()];
            for round in 0..options.rounds {
                for turn in 0..players.len() {
                    let at = (round + turn) % players.len();
                    let mut args = one_args(players[at], shape, workers);
                    args.extend(["--millis".into(), options.target.as_millis().to_string()]);
                    match in_process(&[], &args).and_then(|(out, _)| Figures::from_line(&out)) {
                        Ok(figures) => rows[at].push(figures),
                        Err(error) => {
                            let name = players[at].name();
                            eprintln!("{shape} {name} {workers}: {error}");
                            failures.push(format!("{shape} {name} {workers}"));
                        }
                    }
                }
            }
            let table = Table::new(shape, workers, &players, &rows);
            table.print();
            medians.push(table.medians_line(&options.runtimes));
            summary.extend(table.heist_line());
        }
    }
    let names: Vec<_> = options.runtimes.iter().map(|id| id.name()).collect();
    println!("\n### all medians (IQR)\n");
    println!("| shape | workers | figure | {} |", names.join(" | "));
    println!("|---|---|---|{}", "---|".repeat(names.len()));
    for line in medians {
        println!("{line}");
    }
    if !summary.is_empty() {
        println!("\n### heist\n\nRatios above 1: heist is faster.\n");
        println!("| shape | workers | figure | heist | best peer | ratio | tokio | ratio |");
        println!("|---|---|---|---|---|---|---|---|");
        for line in summary {
            println!("{line}");
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} processes failed: {}",
        failures.len(),
        failures.join(", ")
    )
    .into())
}

fn print_machine(options: &Options) {
    let first_line = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().next().unwrap_or("unknown").to_owned()
    };
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cores = thread::available_parallelism().map_or(0, usize::from);
    println!(
        "{model}, {cores} CPUs, Linux {}; load before: {}; {} rounds, {:?} each",
        first_line("/proc/sys/kernel/osrelease"),
        first_line("/proc/loadavg"),
        options.rounds,
        options.target
    );
}

/// The figures of one shape with one number of workers.
struct Table {
    shape: Shape,
    workers: usize,
    rows: Vec<Row>,
}

struct Row {
    runtime: RuntimeId,
    headline: Quartiles,
    median: Figures,
}

#[derive(Clone, Copy)]
struct Quartiles {
    low: f64,
    median: f64,
    high: f64,
}

impl Quartiles {
    fn of(mut values: Vec<f64>) -> Self {
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
}

impl Table {
    fn new(shape: Shape, workers: usize, players: &[RuntimeId], rows: &[Vec<Figures>]) -> Self {
        let played = players.iter().zip(rows).filter(|(_, row)| !row.is_empty());
        let rows = played.map(|(&runtime, row)| {
            let median =
                |field: fn(&Figures) -> f64| Quartiles::of(row.iter().map(field).collect()).median;
            Row {
                runtime,
                headline: Quartiles::of(
                    row.iter().map(|figures| figures.headline(shape)).collect(),
                ),
                median: Figures {
                    ops: median(|figures| figures.ops),
                    wall: median(|figures| figures.wall),
                    cpu: median(|figures| figures.cpu),
                    switches: median(|figures| figures.switches),
                    p50: median(|figures| figures.p50),
                    p99: median(|figures| figures.p99),
                },
            }
        });
        Self {
            shape,
            workers,
            rows: rows.collect(),
        }
    }

    fn best_peer(&self) -> Option<&Row> {
        let peers = self.rows.iter().filter(|row| row.runtime.is_peer());
        peers.min_by(|a, b| a.headline.median.total_cmp(&b.headline.median))
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.runtime.name() == name)
    }

    fn print(&self) {
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
    }

    fn medians_line(&self, runtimes: &[RuntimeId]) -> String {
        let cells = runtimes.iter().map(|id| {
            self.row(id.name()).map_or("–".into(), |row| {
                let Quartiles { low, median, high } = row.headline;
                format!("{} ({}–{})", number(median), number(low), number(high))
            })
        });
        format!(
            "| {} | {} | {} | {} |",
            self.shape,
            self.workers,
            self.shape.headline().name(),
            cells.collect::<Vec<_>>().join(" | ")
        )
    }

    fn heist_line(&self) -> Option<String> {
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

/// How many times faster `row` is than `other`.
fn ratio(other: Option<&Row>, row: &Row) -> String {
    other.map_or("–".into(), |other| {
        format!("{:.2}", other.headline.median / row.headline.median)
    })
}

/// Three digits at least, and none too many.
fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "–".into(),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// Instructions per operation under callgrind, a table for each number of workers.
fn instructions(options: &Options) -> Result<()> {
    for &workers in options.workers.as_deref().unwrap_or(&[1]) {
        println!("\n### instructions per operation, {workers} worker(s)\n");
        println!("| shape | runtime | instructions/op |");
        println!("|---|---|---|");
        for &shape in &options.shapes {
            for &runtime in options
                .runtimes
                .iter()
                .filter(|&&runtime| shape.suits(runtime))
            {
                let shown = match instructions_per_op(runtime, shape, workers) {
                    Ok(count) => number(count),
                    Err(error) => error.to_string(),
                };
                println!("| {shape} | {} | {shown} |", runtime.name());
            }
        }
    }
    Ok(())
}

/// The difference of two runs leaves out start and stop, and the first touch of the memory.
fn instructions_per_op(runtime: RuntimeId, shape: Shape, workers: usize) -> Result<f64> {
    let callgrind = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        "--fair-sched=yes",
    ];
    let count = |batches: u32| -> Result<(f64, f64)> {
        let mut args = one_args(runtime, shape, workers);
        args.extend(["--iters".into(), batches.to_string()]);
        let (out, err) = in_process(&callgrind, &args)?;
        let collected = err
            .lines()
            .find_map(|line| line.split_once("Collected :"))
            .ok_or("callgrind said nothing about what it collected")?;
        Ok((collected.1.trim().parse()?, Figures::from_line(&out)?.ops))
    };
    let (few, few_ops) = count(1)?;
    let (many, many_ops) = count(3)?;
    Ok((many - few) / (many_ops - few_ops))
}
