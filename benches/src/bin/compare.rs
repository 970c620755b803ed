//! Compares the runtimes in alternating processes; prints tables with medians, spread and ratios, or writes the page of
//! the book.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use heist_benches::document::SMALL;
use heist_benches::log::{Log, write_about, write_measured};
use heist_benches::one::{One, play_if_asked};
use heist_benches::rounds::{Plan, measure, players, run};
use heist_benches::table::{Table, number, print_summary};
use heist_benches::targets::OVERSUBSCRIBED;
use heist_benches::{Figures, RuntimeId, Shape, document, machine};

const USAGE: &str = "\
compare [--rounds 9] [--shapes spawn_join,yield_,...] [--workers 1,2] [--runtimes heist,tokio,...] [--millis 250]
        [--log FILE] [--small]
    tables from alternating processes; a shape is named in full or by the beginning of its name
compare --document DIR [--log FILE] [--rounds 9] [--shapes ..] [--workers ..] [--runtimes ..] [--millis ..] [--small]
    the same, and writes DIR/benchmarks.md with its charts; also builds what plays memory and tokio-eager, and adds
    more workers than processors where the design speaks of them
compare --render FILE --document DIR
    writes the page again from the log of a run
compare --one <runtime> <shape> <workers> [--iters <batches>] [--millis 250] [--stretches 1] [--small]
    one runtime and one shape in this process; with --iters exactly so many batches, without warm-up
compare --instructions [--shapes ..] [--workers 1] [--runtimes ..]
    instructions per operation, from callgrind: those of three batches less those of one
compare --list
    names of shapes and runtimes";

/// Workers beyond the processors of a small machine.
const MANY: [usize; 2] = [4, 8];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    play_if_asked();
    match Options::parse(env::args().skip(1)).and_then(start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(mut options: Options) -> Result<()> {
    match options.mode {
        Mode::Help => println!("{USAGE}"),
        Mode::List => list(),
        Mode::Instructions => instructions(&options)?,
        Mode::Render => {
            let (log, folder) = options.log.zip(options.document).ok_or(USAGE)?;
            document::write(&Log::read(&fs::read_to_string(log)?)?, &folder)?;
        }
        Mode::Rounds => rounds(&mut options)?,
    }
    Ok(())
}

struct Options {
    mode: Mode,
    shapes: Vec<Shape>,
    workers: Option<Vec<usize>>,
    runtimes: Vec<RuntimeId>,
    plan: Plan,
    /// Where the raw figures go, or come from.
    log: Option<PathBuf>,
    /// Where the page goes.
    document: Option<PathBuf>,
    command: String,
}

enum Mode {
    Help,
    List,
    Instructions,
    Render,
    Rounds,
}

impl Options {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let args: Vec<String> = args.collect();
        let mut options = Self {
            mode: Mode::Rounds,
            shapes: Shape::ALL.to_vec(),
            workers: None,
            runtimes: RuntimeId::ALL.to_vec(),
            plan: Plan {
                rounds: 9,
                target: Duration::from_millis(250),
                stretches: 1,
                batches: None,
                small: false,
                eager: None,
                memory: sibling("memory"),
            },
            log: None,
            document: None,
            command: format!(
                "cargo run --release -p heist-benches --bin compare -- {}",
                args.join(" ")
            ),
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} wants a value\n{USAGE}"));
            match arg.as_str() {
                "--help" | "-h" => options.mode = Mode::Help,
                "--list" => options.mode = Mode::List,
                "--instructions" => options.mode = Mode::Instructions,
                "--render" => {
                    options.mode = Mode::Render;
                    options.log = Some(value()?.into());
                }
                "--log" => options.log = Some(value()?.into()),
                "--document" => options.document = Some(value()?.into()),
                "--rounds" => options.plan.rounds = value()?.parse()?,
                "--millis" => options.plan.target = Duration::from_millis(value()?.parse()?),
                "--small" => {
                    options.plan.small = true;
                    options.plan.batches = Some(1);
                }
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
                _ => return Err(format!("unknown argument {arg:?}\n{USAGE}").into()),
            }
        }
        let no_workers = options
            .workers
            .as_ref()
            .is_some_and(|list| list.contains(&0));
        if options.plan.rounds == 0 || no_workers {
            return Err("rounds and workers are at least 1".into());
        }
        Ok(options)
    }
}

fn shapes(list: &str) -> Result<Vec<Shape>> {
    let mut found = Vec::new();
    for name in list.split(',') {
        let before = found.len();
        match Shape::named(name) {
            Some(shape) => found.push(shape),
            None => found.extend(Shape::beginning_with(&[name])),
        }
        if found.len() == before {
            return Err(format!("no shape begins with {name:?}; see --list").into());
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

/// A program that was built beside this one.
fn sibling(name: &str) -> Option<PathBuf> {
    let path = env::current_exe().ok()?.with_file_name(name);
    path.is_file().then_some(path)
}

/// All rounds of all shapes; a table each, heist's summary at the end, and the page if it is asked for.
fn rounds(options: &mut Options) -> Result<()> {
    let mut log = match (&options.log, &options.document) {
        (Some(path), _) => Some(path.clone()),
        (None, Some(_)) => Some(env::current_exe()?.with_file_name("benchmarks.log")),
        (None, None) => None,
    };
    // Its load is that before the machine is busy with our own builds.
    let about = about(options);
    if options.document.is_some() {
        build_others(&mut options.plan)?;
    }
    let mut file = log.as_ref().map(File::create).transpose()?;
    for (name, value) in about {
        println!("{name}: {value}");
        if let Some(file) = &mut file {
            write_about(file, &name, &value)?;
        }
    }
    let (mut tables, mut failures) = (Vec::new(), Vec::new());
    for (shape, workers) in rows(options) {
        let runtimes = players(shape, workers, &options.runtimes);
        if runtimes.is_empty() {
            continue;
        }
        let measured = measure(&options.plan, shape, workers, &runtimes);
        for one in &measured {
            if let Some(file) = &mut file {
                write_measured(file, one)?;
            }
            for failure in &one.failures {
                let name = one.runtime.name();
                eprintln!("{shape} {name} {workers}: {failure}");
                failures.push(format!("{shape} {name} {workers}"));
            }
        }
        let table = Table::new(shape, workers, &measured);
        table.print();
        tables.push(table);
    }
    print_medians(&tables, &options.runtimes);
    print_summary(&tables);
    if let (Some(path), Some(folder)) = (log.take(), &options.document) {
        document::write(&Log::read(&fs::read_to_string(&path)?)?, folder)?;
        println!("\nraw figures: {}", path.display());
    }
    if failures.is_empty() {
        return Ok(());
    }
    let number = failures.len();
    Err(format!("{number} processes failed: {}", failures.join(", ")).into())
}

/// The shapes with their numbers of workers.
fn rows(options: &Options) -> Vec<(Shape, usize)> {
    let mut rows = Vec::new();
    for &shape in &options.shapes {
        let workers = options.workers.clone().unwrap_or_else(|| {
            let many = options.document.is_some() && OVERSUBSCRIBED.contains(&shape.name());
            let many: &[usize] = if many { &MANY } else { &[] };
            [&[1, 2], many].concat()
        });
        rows.extend(workers.into_iter().map(|workers| (shape, workers)));
    }
    rows
}

fn about(options: &Options) -> Vec<(String, String)> {
    let plan = &options.plan;
    let mut about = machine::about();
    let each = if plan.small {
        "one small batch each".into()
    } else {
        format!("{} ms each", plan.target.as_millis())
    };
    let method = format!("{} rounds of alternating processes, {each}", plan.rounds);
    about.push(("method".into(), method));
    if plan.small {
        about.push((SMALL.into(), "yes".into()));
    }
    about.push(("command".into(), format!("`{}`", options.command)));
    about
}

/// Builds the programs that `compare` cannot be itself: the one whose allocator counts, and, with flags that would
/// change tokio in every other row, the one that has tokio's eager hand-over of the driver.
fn build_others(plan: &mut Plan) -> Result<()> {
    let folder = env::current_exe()?.with_file_name("tokio-unstable");
    build("memory", None)?;
    plan.memory = sibling("memory");
    build("compare", Some(&folder))?;
    plan.eager = Some(folder.join("release").join("compare"));
    Ok(())
}

fn build(program: &str, unstable: Option<&Path>) -> Result<()> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    cargo.args(["build", "--release", "--manifest-path", manifest]);
    cargo.args(["--bin", program]);
    if let Some(folder) = unstable {
        cargo.env("RUSTFLAGS", "--cfg tokio_unstable");
        cargo.arg("--target-dir").arg(folder);
    }
    if cargo.status()?.success() {
        return Ok(());
    }
    Err(format!("{program} could not be built").into())
}

fn print_medians(tables: &[Table], runtimes: &[RuntimeId]) {
    let names: Vec<_> = runtimes.iter().map(|id| id.name()).collect();
    println!("\n### all medians (IQR)\n");
    println!("| shape | workers | figure | {} |", names.join(" | "));
    println!("|---|---|---|{}", "---|".repeat(names.len()));
    for table in tables {
        let cells: Vec<_> = names
            .iter()
            .map(|name| {
                table.row(name).map_or("–".into(), |row| {
                    let [low, median, high] =
                        [row.headline.low, row.headline.median, row.headline.high].map(number);
                    format!("{median} ({low}–{high})")
                })
            })
            .collect();
        println!(
            "| {} | {} | {} | {} |",
            table.shape,
            table.workers,
            table.shape.headline().name(),
            cells.join(" | ")
        );
    }
}

/// Instructions per operation under callgrind, a table for each number of workers.
fn instructions(options: &Options) -> Result<()> {
    for &workers in options.workers.as_deref().unwrap_or(&[1]) {
        println!("\n### instructions per operation, {workers} worker(s)\n");
        println!("| shape | runtime | instructions/op |");
        println!("|---|---|---|");
        for &shape in &options.shapes {
            for runtime in players(shape, workers, &options.runtimes) {
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
    let count = |batches: u64| -> Result<(f64, f64)> {
        let mut one = One::new(runtime, shape, workers);
        one.batches = Some(batches);
        let (out, err) = run(&callgrind, &env::current_exe()?, &one.to_args())?;
        let collected = err
            .lines()
            .find_map(|line| line.split_once("Collected :"))
            .ok_or("callgrind said nothing about what it collected")?;
        let figures: Figures = out.trim().parse()?;
        Ok((collected.1.trim().parse()?, figures.ops))
    };
    let (few, few_ops) = count(1)?;
    let (many, many_ops) = count(3)?;
    Ok((many - few) / (many_ops - few_ops))
}
