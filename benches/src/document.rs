//! The page with the figures, and its charts, from the log of a run.
//!
//! Everything on the page follows from the log, so that it can be written again, and says what it follows from: machine,
//! versions, command, number of stretches, spread. Rows in which heist is behind are listed first of all.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::figures::Figures;
use crate::log::Log;
use crate::machine::IN_USE;
use crate::plot::{Chart, Line};
use crate::runtime_id::RuntimeId;
use crate::shape::{Headline, Shape};
use crate::table::{Row, Table, ratio_of, time, with_unit};
use crate::targets::{OVERSUBSCRIBED, TARGETS, Verdict};

/// The page's file, and the folder of its charts beside it.
const PAGE: &str = "benchmarks.md";
const CHARTS: &str = "benchmarks";
/// With fewer stretches per row, or more of the processors in use before, in percent, the page warns of itself.
const ENOUGH: usize = 5;
const QUIET: u32 = 10;

/// The name under which a log says that its shapes were small ones.
pub const SMALL: &str = "small shapes";

/// A section: heading, beginnings of its shapes, what an operation is.
struct Section {
    heading: &'static str,
    prefixes: &'static [&'static str],
    about: &'static str,
}

const SECTIONS: &[Section] = &[
    Section {
        heading: "Spawning",
        prefixes: &["spawn_", "fork_join"],
        about: "Wall time per task. `spawn_join_*`: from a task, awaited in order; `_main`: from the main future; \
                `_outside`: from one, and from four, foreign threads; `spawn_batch_busy`: a thousand at once while four \
                tasks compute 10 µs between yields; `spawn_chain`: each task spawns the next; `fork_join_*`: a binary \
                tree of depth 16, and a tree of ten children each with a million leaves.",
    },
    Section {
        heading: "Yielding",
        prefixes: &["yield_"],
        about: "Wall time per yield: 200 tasks, and one task alone, by the runtime's own function and (`_plain`) by \
                waking itself. futures' pool polls a task that woke itself again at once, without queueing it.",
    },
    Section {
        heading: "Messages",
        prefixes: &["ping_pong", "round_trip", "channel", "ring_"],
        about: "Wall time per pair of tasks that exchange two messages over oneshots, per round trip over two channels \
                of one place, per message through a channel of 64 places, per hop in a ring of 64 tasks. The channels \
                are the same for all.",
    },
    Section {
        heading: "Sockets",
        prefixes: &["echo_", "churn", "http_"],
        about: "CPU time of the server process per request (`churn`: wall time per connection). The load generator is \
                one thread of another process on the last CPU, so with many connections it is the generator that \
                limits throughput. `echo_N`: N connections, 64 bytes; `echo_16k_N`: 16 KiB; `echo_same_cpu_N`: \
                generator and server on one CPU; `churn`: accept, 64 bytes to and fro, close by the server, 16 at a \
                time; `http_N`: hyper, a short answer, N connections. `bare-epoll` is one epoll loop per thread and no \
                runtime: a limit, not a peer.",
    },
    Section {
        heading: "Timers",
        prefixes: &["timers_"],
        about: "`timers_cancel`: a timer of 10 to 20 s made, polled once and dropped, wall time; `timers_sleeping`: one \
                of 100,000 tasks that sleep 0.2 to 1 s at once, CPU time, the latency is lateness; `timers_ready`: a \
                timeout around a future that is ready, wall time.",
    },
    Section {
        heading: "Blocking pool",
        prefixes: &["blocking_"],
        about: "Wall time per closure that does nothing; 10,000 are handed over and then awaited.",
    },
    Section {
        heading: "Start and stop",
        prefixes: &["start_"],
        about: "Wall time of a runtime's whole life: with a main future that is ready (`start_stop`), that awaits one \
                task (`_task`), that has a task run on a second thread and awaits it under a timeout (`_second`). \
                futures' pool does not wait for its threads to end; async-io's thread and poller belong to the process \
                and outlive it.",
    },
    Section {
        heading: "Wake-up by a foreign thread",
        prefixes: &["foreign_wake"],
        about: "From the wake to the poll, half a millisecond after the last, so that the worker sleeps; the runtime \
                and the thread on one CPU, on two, or anywhere.",
    },
    Section {
        heading: "Idle",
        prefixes: &["idle_"],
        about: "`idle_task_bytes`: memory of a task that waits, beyond its future (which has one byte), as asked of \
                the allocator; `idle_wakeups`: context switches per second of all threads, with 10,000 sleeping tasks \
                and 100 open sockets.",
    },
    Section {
        heading: "Stalls",
        prefixes: &["stall_"],
        about: "Latency of everybody else beside a task that blocks its worker for 500 ms: of eight tasks that it woke \
                just before (`stall_woken`), of four timetables of sleeps (`stall_timers`), of four sockets asked to a \
                timetable (`stall_sockets`). The timetables go on meanwhile, 2 ms apart, so a stall counts as often as \
                it should have been answered.",
    },
    Section {
        heading: "Fairness",
        prefixes: &["fair_"],
        about: "Latency of everybody else (two timetables of sleeps with a yield each, one socket) for half a second \
                beside two tasks that wake each other all the time (`fair_pair`), eight connections of the runtime with \
                itself that are always ready (`fair_sockets`), a foreign thread that spawns all the time (`fair_spawns`).",
    },
];

/// Writes the page and its charts into `folder`.
///
/// # Errors
///
/// Those of the file system.
pub fn write(log: &Log, folder: &Path) -> io::Result<()> {
    let charts = charts(&log.tables());
    if !charts.is_empty() {
        fs::create_dir_all(folder.join(CHARTS))?;
    }
    for (name, chart) in &charts {
        fs::write(folder.join(CHARTS).join(name), chart.to_svg())?;
    }
    fs::write(folder.join(PAGE), page(log, &charts))
}

/// The page as text.
fn page(log: &Log, charts: &[(String, Chart)]) -> String {
    let tables = log.tables();
    let mut page = String::from("# Benchmarks\n\n");
    introduction(&mut page, log, &tables);
    behind(&mut page, &tables);
    targets(&mut page, &tables);
    if !charts.is_empty() {
        page.push_str("\n## Throughput\n\nMedians; the bars are quartiles.\n");
        for (name, chart) in charts {
            let _ = writeln!(page, "\n![{}]({CHARTS}/{name})", chart.title);
        }
    }
    for section in SECTIONS {
        write_section(&mut page, section, &tables);
    }
    many_workers(&mut page, &tables);
    absent(&mut page, &tables);
    page
}

fn introduction(page: &mut String, log: &Log, tables: &[Table]) {
    page.push_str(
        "This page is written by a program, from one run; what each row shows and does not show is told in \
         `benches/README.md`, and how to run it again. Every figure is the median of several \
         processes, the runtimes taking turns, with the lower and upper quartile in brackets. Ratios are of medians: \
         above 1, heist is better. Latencies are each process's own median and 99th percentile, and of these the \
         median.\n\n| | |\n|---|---|\n",
    );
    for (name, value) in &log.about {
        let _ = writeln!(page, "| {name} | {} |", value.replace('|', "\\|"));
    }
    let stretches = || {
        tables
            .iter()
            .flat_map(|table| &table.rows)
            .map(|row| row.stretches)
    };
    if let (Some(least), Some(most)) = (stretches().min(), stretches().max()) {
        let _ = writeln!(page, "| stretches per figure | {least} to {most} |");
    }
    if log.about(SMALL).is_some() {
        page.push_str(
            "\n> **The shapes were small ones**, which are there to test results. No figure is that of the named shape.\n",
        );
    }
    let in_use: Option<u32> = log
        .about(IN_USE)
        .and_then(|used| used.split(' ').next()?.parse().ok());
    if in_use.is_some_and(|used| used > QUIET) {
        page.push_str(
            "\n> **The machine was busy when this run began.** Its figures show the form of the page and little else.\n",
        );
    }
    if stretches().min().is_some_and(|least| least < ENOUGH) {
        page.push_str("\n> **Some rows have too few stretches** to be relied on.\n");
    }
}

/// The rows in which heist does not have the best figure.
fn behind(page: &mut String, tables: &[Table]) {
    let mut rows: Vec<_> = tables
        .iter()
        .filter_map(|table| {
            let (heist, best) = (table.row("heist")?, table.best_peer()?);
            (heist.headline.median > best.headline.median).then_some((table, heist, best))
        })
        .collect();
    let ratio =
        |(_, heist, best): &(&Table, &Row, &Row)| best.headline.median / heist.headline.median;
    rows.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    page.push_str("\n## Where heist is behind\n\n");
    let compared = tables
        .iter()
        .filter(|table| table.row("heist").is_some() && table.best_peer().is_some())
        .count();
    if rows.is_empty() {
        let _ = writeln!(page, "In none of {compared} rows.");
        return;
    }
    let _ = writeln!(
        page,
        "In {} of {compared} rows the best peer has the better figure. “Close” means that the quartiles overlap.\n\n\
         | shape | workers | figure | heist | best peer | ratio | |\n|---|---|---|---|---|---|---|",
        rows.len()
    );
    for (table, heist, best) in rows {
        let close = heist.headline.overlaps(&best.headline);
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} ({}) | {} | {} |",
            table.shape,
            table.workers,
            what(table.shape.headline()),
            spread(heist, table.shape.headline()),
            spread(best, table.shape.headline()),
            best.runtime.name(),
            ratio_of(best.headline.median, heist.headline.median),
            if close { "close" } else { "" }
        );
    }
}

fn targets(page: &mut String, tables: &[Table]) {
    let verdicts: Vec<_> = TARGETS
        .iter()
        .map(|target| (target, target.verdicts(tables)))
        .filter(|(_, verdicts)| !verdicts.is_empty())
        .collect();
    let all = || verdicts.iter().flat_map(|(_, verdicts)| verdicts);
    let met = all().filter(|verdict| verdict.is_met).count();
    page.push_str("\n## Targets\n\n");
    let _ = writeln!(
        page,
        "What the design asks for, in each row it speaks of: {met} of {} are met. “Close”: the spread of the two sides \
         overlaps at the target, and another run may say otherwise.\n\n\
         | target | shape | workers | heist | compared with | ratio | |\n|---|---|---|---|---|---|---|",
        all().count()
    );
    for (target, verdicts) in &verdicts {
        for Verdict {
            shape,
            workers,
            heist,
            reference,
            ratio,
            is_met,
            is_close,
        } in verdicts
        {
            let verdict = if *is_met { "met" } else { "**not met**" };
            let close = if *is_close { ", close" } else { "" };
            let _ = writeln!(
                page,
                "| {} | {shape} | {workers} | {heist} | {reference} | {ratio} | {verdict}{close} |",
                target.text
            );
        }
    }
}

fn write_section(page: &mut String, section: &Section, tables: &[Table]) {
    let of_section: Vec<_> = tables
        .iter()
        .filter(|table| table.workers <= 2)
        .filter(|table| {
            let name = table.shape.name();
            let mut prefixes = section.prefixes.iter();
            prefixes.any(|prefix| name.starts_with(prefix))
        })
        .collect();
    if of_section.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n## {}\n\n{}\n", section.heading, section.about);
    main_table(page, &of_section);
    if of_section
        .iter()
        .any(|table| table.shape.echoed().is_some())
    {
        page.push_str(
            "\nRequests per second, as the generator saw them (`churn`: connections):\n\n",
        );
        cells(page, &of_section, |_, row| {
            format!("{:.0}", 1e9 / row.median.wall)
        });
    }
    let with_latency: Vec<_> = of_section
        .iter()
        .copied()
        .filter(|table| table.rows.iter().any(|row| !row.median.p50.is_nan()))
        .collect();
    if !with_latency.is_empty() {
        page.push_str("\nLatency, p50 / p99:\n\n");
        cells(page, &with_latency, |_, row| {
            format!("{} / {}", time(row.median.p50), time(row.median.p99))
        });
    }
    let with_bytes: Vec<_> = of_section
        .iter()
        .copied()
        .filter(|table| table.shape.counts_memory())
        .collect();
    if !with_bytes.is_empty() {
        page.push_str("\nThe same as the allocator rounds it up:\n\n");
        cells(page, &with_bytes, |_, row| {
            with_unit(row.median.given, Headline::Bytes)
        });
    }
    let spawned: Vec<_> = of_section
        .iter()
        .copied()
        .filter(|table| table.shape.spawned().is_some())
        .collect();
    if !spawned.is_empty() {
        page.push_str("\nPages touched for the first time, per 1000 tasks:\n\n");
        cells(page, &spawned, |_, row| {
            format!("{:.2}", row.median.faults * 1000.0)
        });
    }
}

/// The shapes' own figures with their spread, and heist's ratios.
fn main_table(page: &mut String, tables: &[&Table]) {
    let runtimes = runtimes_of(tables);
    let _ = writeln!(
        page,
        "| shape | workers | {} | best peer | heist to best | heist to tokio |",
        names(&runtimes)
    );
    let _ = writeln!(
        page,
        "|---|---|{}---|---|---|",
        "---|".repeat(runtimes.len())
    );
    for table in tables {
        let figures: Vec<_> = runtimes
            .iter()
            .map(|runtime| {
                let row = table.row(runtime.name());
                row.map_or("–".into(), |row| spread(row, table.shape.headline()))
            })
            .collect();
        let best = table.best_peer();
        let heist = table.row("heist");
        let against = |other: Option<&Row>| match (other, heist) {
            (Some(other), Some(heist)) => ratio_of(other.headline.median, heist.headline.median),
            _ => "–".into(),
        };
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            table.shape,
            table.workers,
            figures.join(" | "),
            best.map_or("–", |row| row.runtime.name()),
            against(best),
            against(table.row("tokio"))
        );
    }
}

/// A table with one cell per runtime.
fn cells(page: &mut String, tables: &[&Table], cell: impl Fn(&Table, &Row) -> String) {
    let runtimes = runtimes_of(tables);
    let _ = writeln!(page, "| shape | workers | {} |", names(&runtimes));
    let _ = writeln!(page, "|---|---|{}", "---|".repeat(runtimes.len()));
    for table in tables {
        let cells: Vec<_> = runtimes
            .iter()
            .map(|runtime| {
                let row = table.row(runtime.name());
                row.map_or("–".into(), |row| cell(table, row))
            })
            .collect();
        let _ = writeln!(
            page,
            "| {} | {} | {} |",
            table.shape,
            table.workers,
            cells.join(" | ")
        );
    }
}

fn many_workers(page: &mut String, tables: &[Table]) {
    let rows: Vec<_> = tables
        .iter()
        .filter(|table| OVERSUBSCRIBED.contains(&table.shape.name()))
        .collect();
    if rows.iter().all(|table| table.workers <= 2) {
        return;
    }
    page.push_str("\n## More workers than processors\n\n");
    main_table(page, &rows);
}

/// Who is missing, and why.
fn absent(page: &mut String, tables: &[Table]) {
    let mut lines: Vec<String> = Vec::new();
    for table in tables {
        for (runtime, reason) in &table.absent {
            let place = format!("{} with {} worker(s)", table.shape, table.workers);
            lines.push(format!("- {} in {place}: {reason}", runtime.name()));
        }
    }
    if !lines.is_empty() {
        let _ = writeln!(page, "\n## Missing figures\n\n{}", lines.join("\n"));
    }
}

fn runtimes_of(tables: &[&Table]) -> Vec<RuntimeId> {
    let all = RuntimeId::ALL.iter().copied();
    all.filter(|runtime| {
        tables
            .iter()
            .any(|table| table.row(runtime.name()).is_some())
    })
    .collect()
}

fn names(runtimes: &[RuntimeId]) -> String {
    let names: Vec<_> = runtimes.iter().map(|runtime| runtime.name()).collect();
    names.join(" | ")
}

fn what(headline: Headline) -> &'static str {
    match headline {
        Headline::Wall => "wall time",
        Headline::Cpu => "CPU time",
        Headline::P50 => "p50",
        Headline::P99 => "p99",
        Headline::Bytes => "bytes",
        Headline::Switches => "switches",
    }
}

/// Median and quartiles of a row's own figure.
fn spread(row: &Row, headline: Headline) -> String {
    let shown = |value| with_unit(value, headline);
    let quartiles = row.headline;
    format!(
        "{} ({}–{})",
        shown(quartiles.median),
        shown(quartiles.low),
        shown(quartiles.high)
    )
}

/// The charts with the names of their files: requests per second by connections, tasks per second by tasks.
fn charts(tables: &[Table]) -> Vec<(String, Chart)> {
    let mut charts = Vec::new();
    for workers in [1, 2] {
        for (bytes, name, size) in [(64, "64", "64 bytes"), (16 * 1024, "16k", "16 KiB")] {
            let place = |shape: Shape| {
                let (connections, of) = shape.echoed()?;
                (of == bytes).then_some(connections as f64)
            };
            let chart = Chart {
                title: format!("Echo of {size}, {workers} worker(s)"),
                below: "connections".into(),
                left: "requests per second".into(),
                lines: lines(tables, workers, place),
            };
            charts.push((format!("echo-{name}-{workers}w.svg"), chart));
        }
        let chart = Chart {
            title: format!("Spawn and join from a worker, {workers} worker(s)"),
            below: "tasks at once".into(),
            left: "tasks per second".into(),
            lines: lines(tables, workers, |shape| Some(shape.spawned()? as f64)),
        };
        charts.push((format!("spawn-{workers}w.svg"), chart));
    }
    charts.retain(|(_, chart)| chart.lines.iter().any(|line| line.points.len() > 1));
    charts
}

/// Throughput of each runtime in the tables that have a place on the axis below.
fn lines(tables: &[Table], workers: usize, place: impl Fn(Shape) -> Option<f64>) -> Vec<Line> {
    let throughput = |figures: &Figures| 1e9 / figures.wall;
    let mut lines = Vec::new();
    for runtime in RuntimeId::ALL {
        let mut points: Vec<_> = tables
            .iter()
            .filter(|table| table.workers == workers)
            .filter_map(|table| {
                let row = table.row(runtime.name())?;
                Some((place(table.shape)?, row.quartiles(throughput)))
            })
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if !points.is_empty() {
            lines.push(Line {
                name: runtime.name().into(),
                points,
            });
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::Measured;

    fn measured(shape: &str, runtime: RuntimeId, value: f64) -> Measured {
        let shape = Shape::named(shape).expect("a shape");
        let mut one = Measured::none(shape, 2, runtime);
        one.figures = vec![Figures::from_each(|_| value)];
        one
    }

    #[test]
    fn every_shape_has_a_section() {
        for shape in Shape::ALL {
            let sections = SECTIONS.iter().filter(|section| {
                let mut prefixes = section.prefixes.iter();
                prefixes.any(|prefix| shape.name().starts_with(prefix))
            });
            assert_eq!(sections.count(), 1, "{shape}");
        }
    }

    #[cfg(feature = "heist")]
    #[test]
    fn the_page_says_where_heist_is_behind_and_who_is_missing() {
        let mut bare = measured("echo_8", RuntimeId::Bare, 1.0);
        bare.figures.clear();
        bare.failures.push("it hung".into());
        let log = Log {
            about: vec![(IN_USE.into(), "25 %".into())],
            measured: vec![
                measured("echo_1", RuntimeId::Heist, 200.0),
                measured("echo_1", RuntimeId::Tokio, 100.0),
                measured("echo_8", RuntimeId::Heist, 50.0),
                measured("echo_8", RuntimeId::Tokio, 100.0),
                bare,
            ],
        };
        let charts = charts(&log.tables());
        let page = page(&log, &charts);
        assert!(page.contains("In 1 of 2 rows"), "{page}");
        assert!(page.contains("| echo_1 | 2 | CPU time | 200 ns (200 ns–200 ns) |"));
        assert!(page.contains("**not met**") && page.contains("| met"));
        assert!(page.contains("bare-epoll in echo_8 with 2 worker(s): failed 1 times"));
        assert!(page.contains("The machine was busy"));
        let names: Vec<_> = charts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["echo-64-2w.svg"]);
    }
}
