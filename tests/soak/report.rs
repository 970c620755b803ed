//! What came out, for the screen and as a page with plots.
#![forbid(unsafe_code)]

use crate::judge::{Finding, Unit};
use crate::options::Options;
use crate::plot::{Chart, Scale};
use crate::process::machine;
use crate::run::Outcome;
use crate::sample::Sample;
use heist::inspect::WorkerMetrics;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

const MIB: f64 = 1024.0 * 1024.0;

/// A figure as a reader wants it.
fn in_unit(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Bytes if value.abs() >= MIB => format!("{:.1} MiB", value / MIB),
        Unit::Bytes => format!("{:.0} KiB", value / 1024.0),
        Unit::Count => format!("{value:.1}"),
        Unit::Micros => micros(value),
    }
}

fn micros(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.2} s", value / 1e6),
        size if size >= 1e4 => format!("{:.0} ms", value / 1e3),
        size if size >= 1e3 => format!("{:.1} ms", value / 1e3),
        _ => format!("{value:.0} µs"),
    }
}

/// A few lines for the screen.
pub(crate) fn summary(options: &Options, outcome: &Outcome) -> String {
    let counts = outcome.counts;
    let mut text = format!(
        "seed {}: {} exchanges and {} given up, over {} connections; {} unexpected failures\n",
        options.seed, counts.exchanged, counts.given_up, counts.connections, counts.failures
    );
    for finding in outcome.findings() {
        let [base, rise, rise_allowed, peak, peak_allowed] = shown(&finding);
        let _ = writeln!(
            text,
            "{:24} {base:>10} at first, rise {rise:>10} of {rise_allowed:>10}, peak {peak:>10} of \
             {peak_allowed:>10}  {}",
            finding.name,
            verdict(&finding)
        );
    }
    text
}

/// Its base, rise and peak, the last two with what is allowed.
pub(crate) fn shown(finding: &Finding) -> [String; 5] {
    let values = [
        finding.base,
        finding.rise,
        finding.rise_allowed,
        finding.peak,
        finding.peak_allowed,
    ];
    values.map(|value| in_unit(finding.unit, value))
}

fn verdict(finding: &Finding) -> &'static str {
    if finding.is_flat() { "flat" } else { "BROKEN" }
}

/// Writes `path`.md, and the plots into the folder `path`.
pub(crate) fn write(path: &Path, options: &Options, outcome: &Outcome) -> io::Result<()> {
    fs::create_dir_all(path)?;
    let folder = path.file_name().unwrap_or_default().to_string_lossy();
    let mut plots = String::new();
    for (name, chart) in charts(outcome) {
        fs::write(path.join(name).with_extension("svg"), chart.to_svg())?;
        let _ = writeln!(plots, "![{}]({folder}/{name}.svg)\n", chart.title);
    }
    fs::write(path.with_extension("md"), page(options, outcome, &plots))
}

fn charts(outcome: &Outcome) -> Vec<(&'static str, Chart<'static>)> {
    let samples = &outcome.samples;
    let warm = outcome
        .warm
        .checked_sub(1)
        .map_or(0.0, |last| samples[last].at);
    let line = |name, value: fn(&Sample) -> f64| {
        let points = samples.iter().map(|sample| (sample.at, value(sample)));
        (name, points.collect::<Vec<_>>())
    };
    let chart = |title, left, scale, lines| Chart {
        title,
        left,
        scale,
        warm,
        lines,
    };
    vec![
        (
            "memory",
            chart(
                "Memory",
                "MiB",
                Scale::Linear,
                vec![
                    line("resident", |sample| sample.resident / MIB),
                    line("heap in use", |sample| sample.heap / MIB),
                ],
            ),
        ),
        (
            "holdings",
            chart(
                "Threads, descriptors, tasks",
                "number",
                Scale::Linear,
                vec![
                    line("descriptors", |sample| sample.descriptors),
                    line("tasks, server", |sample| sample.server_tasks),
                    line("tasks, clients", |sample| sample.client_tasks),
                    line("threads", |sample| sample.threads),
                ],
            ),
        ),
        (
            "exchanges",
            chart(
                "How long exchanges took",
                "µs",
                Scale::Powers,
                vec![
                    line("p50", |sample| sample.p50),
                    line("p99", |sample| sample.p99),
                    line("longest", |sample| sample.max),
                ],
            ),
        ),
        (
            "lateness",
            chart(
                "How late a timer and a bare thread were, p99",
                "µs",
                Scale::Powers,
                vec![
                    line("timer", |sample| sample.timer_p99),
                    line("bare thread", |sample| sample.thread_p99),
                ],
            ),
        ),
        (
            "rate",
            chart(
                "Exchanges per second",
                "1/s",
                Scale::Linear,
                vec![line("exchanges", |sample| sample.rate)],
            ),
        ),
        (
            "load",
            chart(
                "The machine's load average",
                "threads",
                Scale::Linear,
                vec![line("load", |sample| sample.load)],
            ),
        ),
    ]
}

/// What a reader must know to understand the figures.
const ABOUT: &str = "\
# Soak

This page is written by a program, from one run. A server and random clients, on two runtimes of one process, talk over
the loopback: echoes of up to 128 KiB, and requests that sleep, run blocking closures, task groups with and without a
failure, tasks that are cancelled and clean up or do not, tasks that panic, timers that are made and dropped. Clients
half-close, reset, stall, give up after a random time, cancel the task that talks, or leave at once. Every few seconds
a task blocks its worker for 50 to 200 ms. Every byte of a reply is checked.

What must stay flat is judged after the warm-up, which is grey in the plots. The *base* of a figure is the median of
its first third. Its *rise* over the whole time is by the median of all slopes between two samples. What is allowed is
a share of the base and a fixed amount; `tests/soak/judge.rs` has them. To what is allowed of times is added what a
bare thread that only sleeps and wakes has seen at the same time, tenfold: that is the machine's part, and not
heist's. At the end both runtimes are closed; the process must then have the threads, descriptors and memory that it
had before.

The heap rises by some hundred KiB in the first ten minutes. That is no leak: `crossbeam-epoch`, which is below the
deques, keeps up to 64 records of ended threads for each worker before it frees them, 2 KiB each, and the spare workers
that stand in for blocked ones come and go. After the end they are freed, and the figures below are without them.

```sh
cargo run --release -p heist-tests --bin soak -- --seconds 600 --report docs/verification/soak
cargo test -p heist-tests --test soak       # ten seconds, and a leak of each kind, which must be found
```

";

fn page(options: &Options, outcome: &Outcome, plots: &str) -> String {
    let mut page = ABOUT.to_owned();
    let complaints = outcome.complaints();
    if complaints.is_empty() {
        page.push_str("**Everything stayed flat, and nothing was left.**\n\n");
    }
    for complaint in complaints {
        let _ = writeln!(page, "**Broken:** {complaint}.\n");
    }
    page.push_str("| | |\n|---|---|\n");
    for (name, value) in about(options, outcome) {
        let _ = writeln!(page, "| {name} | {value} |");
    }
    page.push_str(
        "\n## What stayed flat\n\n\
         | figure | base | last third | rise | allowed | peak | allowed | |\n|---|---|---|---|---|---|---|---|\n",
    );
    for finding in outcome.findings() {
        let [base, rise, rise_allowed, peak, peak_allowed] = shown(&finding);
        let _ = writeln!(
            page,
            "| {} | {base} | {} | {rise} | {rise_allowed} | {peak} | {peak_allowed} | {} |",
            finding.name,
            in_unit(finding.unit, finding.last),
            verdict(&finding)
        );
    }
    page.push_str(
        "\n## How long it took\n\n| what | number | p50 | p99 | longest |\n|---|---|---|---|---|\n",
    );
    for (name, spread) in &outcome.whole {
        let [p50, p99, max] = [spread.p50, spread.p99, spread.max].map(micros);
        let _ = writeln!(
            page,
            "| {name} | {} | {p50} | {p99} | {max} |",
            spread.count
        );
    }
    page.push_str("\n## The end\n\n| | threads | descriptors | heap in use |\n|---|---|---|---|\n");
    for (name, remains) in [("before", outcome.before), ("after", outcome.after)] {
        let (holdings, heap) = (remains.holdings, in_unit(Unit::Bytes, remains.heap as f64));
        let _ = writeln!(
            page,
            "| {name} | {} | {} | {heap} |",
            holdings.threads, holdings.descriptors
        );
    }
    page.push_str("\n## Plots\n\n");
    page.push_str(plots.trim_end());
    page.push('\n');
    page
}

/// The machine, and what was done on it.
fn about(options: &Options, outcome: &Outcome) -> Vec<(&'static str, String)> {
    let (counts, samples) = (outcome.counts, &outcome.samples);
    let mut rows = machine();
    let loads = || samples.iter().map(|sample| sample.load);
    let mean = loads().sum::<f64>() / samples.len().max(1) as f64;
    rows.extend([
        (
            "load average",
            format!(
                "{mean:.1} on average, {:.1} at most",
                loads().fold(0.0, f64::max)
            ),
        ),
        (
            "run",
            format!(
                "{} s, seed {}, {} clients, {} workers for each side",
                options.duration.as_secs(),
                options.seed,
                options.clients,
                options.workers
            ),
        ),
        ("connections", counts.connections.to_string()),
        (
            "exchanges",
            format!("{}, each with the right reply", counts.exchanged),
        ),
        ("given up on purpose", counts.given_up.to_string()),
        ("unexpected failures", counts.failures.to_string()),
    ]);
    for end in &outcome.ends {
        let workers = end.metrics.workers();
        let sum = |value: fn(&WorkerMetrics) -> u64| workers.iter().map(value).sum::<u64>();
        rows.push((
            end.name,
            format!(
                "{} polls, {} tasks stolen, {} parks; its end took {:?}",
                sum(WorkerMetrics::polls),
                sum(WorkerMetrics::steals),
                sum(WorkerMetrics::parks),
                end.report.took
            ),
        ));
    }
    rows
}
