//! What the command line says.
#![forbid(unsafe_code)]

use crate::leak::Planted;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const USAGE: &str = "\
usage: soak [--seconds N] [--seed N] [--clients N] [--workers N] [--report PATH] [--leak KIND]

  --seconds N    how long the traffic lasts (10)
  --seed N       where the random numbers begin (the time)
  --clients N    how many clients there are at a time (32)
  --workers N    workers of each of the two runtimes (2)
  --report PATH  writes PATH.md, and the plots into the folder PATH
  --leak KIND    leaks on purpose, which must be found: descriptor, task, memory, thread, time";

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
    pub(crate) clients: u64,
    pub(crate) workers: usize,
    pub(crate) report: Option<PathBuf>,
    pub(crate) leak: Option<Planted>,
}

impl Options {
    /// Parses all arguments but the program's name.
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = String>,
        seed: u64,
    ) -> Result<Options, String> {
        let mut options = Options {
            duration: Duration::from_secs(10),
            seed,
            clients: 32,
            workers: 2,
            report: None,
            leak: None,
        };
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(format!("{name} has no value"))?;
            match name.as_str() {
                "--seconds" => options.duration = Duration::from_secs(number(&name, &value, 1)?),
                "--seed" => options.seed = number(&name, &value, 0)?,
                "--clients" => options.clients = number(&name, &value, 1)?,
                "--workers" => options.workers = number(&name, &value, 1)? as usize,
                "--report" => options.report = Some(PathBuf::from(value)),
                "--leak" => {
                    let mut known = Planted::ALL.iter();
                    let found = known.find(|(known, _)| *known == value);
                    let (_, planted) = found.ok_or(format!("there is no leak called {value}"))?;
                    options.leak = Some(*planted);
                }
                _ => return Err(format!("there is no option called {name}")),
            }
        }
        Ok(options)
    }
}

fn number(name: &str, value: &str, least: u64) -> Result<u64, String> {
    match value.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(format!("{name} is a number from {least} on, not {value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned), 7)
    }

    #[test]
    fn all_options_are_understood() {
        let defaults = parse("").unwrap();
        assert_eq!(
            (defaults.seed, defaults.leak, &defaults.report),
            (7, None, &None)
        );
        let set = parse("--seconds 600 --seed 1 --clients 3 --workers 4 --report a/b --leak task");
        let wanted = Options {
            duration: Duration::from_secs(600),
            seed: 1,
            clients: 3,
            workers: 4,
            report: Some("a/b".into()),
            leak: Some(Planted::Task),
        };
        assert_eq!(set.unwrap(), wanted);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let cases = [
            ("--seconds", "--seconds has no value"),
            ("--seconds 0", "--seconds is a number from 1 on, not \"0\""),
            ("--leak nothing", "there is no leak called nothing"),
            ("--second 1", "there is no option called --second"),
        ];
        for (line, error) in cases {
            assert_eq!(parse(line).unwrap_err(), error);
        }
    }
}
