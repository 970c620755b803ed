//! What the system says of this process and of the machine.
#![forbid(unsafe_code)]

use std::fs;

/// What a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) threads: usize,
    pub(crate) descriptors: usize,
}

pub(crate) fn holdings() -> Holdings {
    let count = |folder: &str| fs::read_dir(folder).expect("Linux with /proc").count();
    Holdings {
        threads: count("/proc/self/task"),
        // The one of this look is among them.
        descriptors: count("/proc/self/fd") - 1,
    }
}

/// How many threads of the whole machine run or want to, on average over the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").expect("Linux with /proc");
    let first = text.split_whitespace().next();
    first
        .and_then(|first| first.parse().ok())
        .unwrap_or(f64::NAN)
}

/// Processor, system and compiler: names and values for the report.
pub(crate) fn machine() -> Vec<(&'static str, String)> {
    let line = |path: &str, start: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(start));
        line.map(|line| line.rsplit(": ").next().unwrap_or(line).to_owned())
            .unwrap_or_else(|| "unknown".to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    vec![
        (
            "processor",
            format!("{}, {cores} CPUs", line("/proc/cpuinfo", "model name")),
        ),
        (
            "system",
            format!("Linux {}", line("/proc/sys/kernel/osrelease", "")),
        ),
        ("build", build.to_owned()),
    ]
}
