//! What figures were measured on, and with what: they mean nothing without.
#![forbid(unsafe_code)]

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// The lock file of the workspace, for the versions of the peers.
const LOCK: &str = include_str!("../../Cargo.lock");
/// The packages whose versions decide the figures.
const PACKAGES: [&str; 9] = [
    "tokio",
    "async-executor",
    "async-io",
    "smol",
    "smol-hyper",
    "futures-executor",
    "hyper",
    "hyper-util",
    "async-channel",
];

/// The name of the figure that tells whether the machine was quiet.
pub const IN_USE: &str = "processors in use before";
/// For how long is looked whether the processors are in use before a run.
const LOOK: Duration = Duration::from_secs(2);

/// Names and values: processor, kernel, compiler, versions, load before. Takes [`LOOK`].
#[must_use]
pub fn about() -> Vec<(String, String)> {
    let first_line = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().next().unwrap_or("unknown").to_owned()
    };
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let versions: Vec<_> = PACKAGES
        .iter()
        .filter_map(|name| Some(format!("{name} {}", version(name)?)))
        .collect();
    [
        ("processor", format!("{}, {cores} CPUs", processor())),
        ("memory", memory()),
        (
            "system",
            format!("Linux {}", first_line("/proc/sys/kernel/osrelease")),
        ),
        ("compiler", output("rustc", &["--version"])),
        (
            "heist",
            format!("{} ({})", env!("CARGO_PKG_VERSION"), commit()),
        ),
        ("versions", versions.join(", ")),
        ("date", output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("load before", first_line("/proc/loadavg")),
        (IN_USE, in_use()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// How much of the processors somebody else uses now, in percent. The load average still has what has ended a
/// minute ago: the build of the program itself.
fn in_use() -> String {
    let (idle_before, all_before) = ticks().unwrap_or_default();
    thread::sleep(LOOK);
    let (idle, all) = ticks().unwrap_or_default();
    match all.checked_sub(all_before) {
        None | Some(0) => "unknown".into(),
        Some(all) => format!("{} %", 100 - 100 * (idle - idle_before).min(all) / all),
    }
}

/// Idle ticks, and all.
fn ticks() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let mut fields = text.lines().next()?.split_whitespace();
    fields.next().filter(|name| *name == "cpu")?;
    let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    // User, nice, system, idle, waiting for a disk; those after the eighth are parts of the first two.
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((idle, ticks.iter().take(8).sum()))
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    model
        .map_or("unknown processor", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        })
        .to_owned()
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes: Option<u64> = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.map_or("unknown".into(), |all| format!("{} MiB", all / 1024))
}

/// The commit that is built, as far as it can be told now.
fn commit() -> String {
    output("git", &["describe", "--always", "--dirty"])
}

/// What a program says in one line, or `unknown`.
fn output(program: &str, args: &[&str]) -> String {
    let said = Command::new(program).args(args).output().ok();
    said.filter(|said| said.status.success())
        .and_then(|said| String::from_utf8(said.stdout).ok())
        .map_or("unknown".into(), |said| said.trim().to_owned())
}

/// The version of a package in the lock file.
fn version(name: &str) -> Option<&'static str> {
    let wanted = format!("name = \"{name}\"");
    let mut lines = LOCK.lines().skip_while(|line| *line != wanted);
    lines.next()?;
    lines
        .next()?
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_a_version() {
        for name in PACKAGES {
            let version = version(name).unwrap_or_else(|| panic!("{name} is not in Cargo.lock"));
            assert!(version.starts_with(|first: char| first.is_ascii_digit()));
        }
        assert_eq!(version("no-such-package"), None);
    }
}
