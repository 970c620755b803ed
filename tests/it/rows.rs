//! The table of asyncio's behaviours in `docs/coming-from-asyncio.md`, held against the names of the tests.
//!
//! A row is named by a letter and two digits. A test that checks a row begins with its id, or with the
//! ids of several: `r18_r19_run_takes_whatever_can_become_a_future`. The last cell of a row has the
//! names of all its tests, then perhaps `; ` and a note. A row without a test says why there is none.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Set to write the names of the tests into the table.
const WRITE: &str = "HEIST_WRITE_ROWS";

/// The letters, with their first and their last row.
const ROWS: [(char, u32, u32); 6] = [
    ('R', 0, 31),
    ('L', 1, 25),
    ('K', 1, 27),
    ('G', 1, 39),
    ('T', 1, 19),
    ('W', 1, 11),
];

/// What the reason of a row without a test begins with, by its kind.
const REASONS: [(&str, &[&str]); 4] = [
    ("V", &[]),
    ("A", &[]),
    ("C", &["compiler: "]),
    ("N", &["no: "]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> PathBuf {
    root().join("docs/coming-from-asyncio.md")
}

fn is_id(text: &str) -> bool {
    let mut chars = text.chars();
    let letter = chars.next().unwrap_or_default().to_ascii_uppercase();
    ROWS.iter().any(|(known, ..)| *known == letter)
        && text.len() == 3
        && chars.all(|one| one.is_ascii_digit())
}

/// The rows that a test is about.
fn ids(name: &str) -> impl Iterator<Item = String> {
    let pieces = name.split('_').take_while(|piece| is_id(piece));
    pieces.map(str::to_ascii_uppercase)
}

/// The names of functions that a text marks as tests.
fn tests_in(text: &str) -> Vec<&str> {
    let mut is_marked = false;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[heist::test") {
            is_marked = true;
        } else if let Some(name) = line.split_once("fn ").map(|(_, name)| name) {
            let end = name.find(|one: char| one != '_' && !one.is_alphanumeric());
            if is_marked {
                found.push(&name[..end.unwrap_or(name.len())]);
            }
            is_marked = false;
        }
    }
    found
}

/// The names of the tests of each row.
fn tests() -> BTreeMap<String, BTreeSet<String>> {
    let mut by_row = BTreeMap::<String, BTreeSet<String>>::new();
    for folder in ["tests/it", "tests/alone"] {
        for file in fs::read_dir(root().join(folder)).expect("a readable folder") {
            let path = file.expect("a readable folder").path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(path).expect("a readable file");
            for name in tests_in(&text) {
                for id in ids(name) {
                    by_row.entry(id).or_default().insert(name.to_owned());
                }
            }
        }
    }
    by_row
}

/// The cells of a row of the table.
fn cells(line: &str) -> Option<[&str; 4]> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let ["", id, what, kind, state, ""] = cells[..] else {
        return None;
    };
    is_id(id).then_some([id, what, kind, state])
}

/// The tests that the last cell names, and the note.
fn state(cell: &str) -> (BTreeSet<String>, Option<&str>) {
    let (names, note) = cell
        .split_once("; ")
        .map_or((cell, None), |(names, note)| (names, Some(note)));
    let names = names.split('`').skip(1).step_by(2);
    (names.map(str::to_owned).collect(), note)
}

/// The row as it should be, for one that has tests.
fn with_tests([id, what, kind, old]: [&str; 4], tests: &BTreeSet<String>) -> String {
    let names: Vec<String> = tests.iter().map(|name| format!("`{name}`")).collect();
    let names = names.join(", ");
    // The reason for having none is none any more.
    let note = if old.starts_with('`') {
        state(old).1
    } else {
        None
    };
    let note = note.map_or(String::new(), |note| format!("; {note}"));
    format!("| {id} | {what} | {kind} | {names}{note} |")
}

/// What is wrong with a row.
fn complaint(row: [&str; 4], tests: Option<&BTreeSet<String>>) -> Option<String> {
    let [id, what, kind, cell] = row;
    if what.is_empty() {
        return Some(format!("{id}: says nothing of the behaviour"));
    }
    let Some((_, reasons)) = REASONS.iter().find(|(known, _)| *known == kind) else {
        return Some(format!("{id}: there is no kind {kind:?}"));
    };
    match tests {
        Some(_) if kind == "N" => Some(format!("{id}: has tests, so it is not out")),
        Some(tests) if cell.starts_with('`') && state(cell).0 == *tests => None,
        Some(tests) => Some(format!(
            "{id}: the tests are {tests:?}; set {WRITE}=1 to write them into the table"
        )),
        None if reasons
            .iter()
            .any(|begin| cell.starts_with(begin) && cell.len() > begin.len() + 10) =>
        {
            None
        }
        None => Some(format!(
            "{id}: no test begins with `{}_`, and the table does not say why (one of {reasons:?} and a reason)",
            id.to_ascii_lowercase()
        )),
    }
}

#[test]
fn every_row_has_a_test_or_a_reason() {
    let tests = tests();
    let text = fs::read_to_string(page()).expect("the page is there");
    if std::env::var_os(WRITE).is_some() {
        let lines = text.lines().map(|line| {
            let row = cells(line).and_then(|row| Some((row, tests.get(row[0])?)));
            row.map_or(line.to_owned(), |(row, tests)| with_tests(row, tests))
        });
        let lines: Vec<String> = lines.collect();
        fs::write(page(), lines.join("\n") + "\n").expect("the page can be written");
    }
    let text = fs::read_to_string(page()).expect("the page is there");
    let rows: Vec<[&str; 4]> = text.lines().filter_map(cells).collect();
    let known: Vec<String> = ROWS
        .iter()
        .flat_map(|&(letter, first, last)| {
            (first..=last).map(move |number| format!("{letter}{number:02}"))
        })
        .collect();
    let listed: Vec<&str> = rows.iter().map(|[id, ..]| *id).collect();
    assert_eq!(listed, known, "all rows, each once and in order");

    let complaints = rows
        .iter()
        .filter_map(|row| complaint(*row, tests.get(row[0])));
    let mut complaints: Vec<String> = complaints.collect();
    let unknown = tests.keys().filter(|id| !known.contains(id));
    complaints.extend(unknown.map(|id| format!("{id}: tests name it, and there is no such row")));
    assert!(tests.len() >= 60, "only these rows have tests: {tests:?}");
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

// ---- the check itself ----

#[test]
fn names_of_tests_give_rows() {
    let rows = |name| ids(name).collect::<Vec<_>>();
    assert_eq!(rows("t10_w07_the_answer"), ["T10", "W07"]);
    assert_eq!(rows("the_t10_answer"), Vec::<String>::new());
    assert_eq!(rows("r1_of_r00"), Vec::<String>::new());
    let text = "fn r01_no() {}\n#[test]\n#[ignore]\nfn r02_yes() {\n#[heist::test]\nasync fn r03_yes() {}\nfn r04_no() {}\n";
    assert_eq!(tests_in(text), ["r02_yes", "r03_yes"]);
}

#[test]
fn a_row_without_test_or_reason_is_found() {
    let row = |line| cells(line).expect("a row");
    let tests = BTreeSet::from(["r01_a".to_owned(), "r01_b".to_owned()]);
    let is_fine = |line, tests| complaint(row(line), tests).is_none();
    let named = "| R01 | text | V | `r01_a`, `r01_b`; a note |";
    assert!(is_fine(named, Some(&tests)));
    assert!(!is_fine("| R01 | text | V | `r01_a` |", Some(&tests)));
    assert!(!is_fine(
        "| R01 | text | N | no: it does not apply here |",
        Some(&tests)
    ));
    let untested = |cell| is_fine(cell, None);
    assert!(!untested("| R01 | text | V | `r01_a` |"));
    assert!(!untested("| R01 | text | V | |"));
    assert!(!untested(
        "| R01 | text | V | open: nobody has written it |"
    ));
    assert!(!untested("| R01 | text | V | no: it does not apply here |"));
    assert!(!untested("| R01 | text | N | no: |"));
    assert!(untested("| R01 | text | N | no: it does not apply here |"));
    assert!(untested(
        "| R03 | text | C | compiler: it does not compile |"
    ));
    assert!(!untested(
        "| R03 | text | C | open: nobody has written it |"
    ));
    let written = with_tests(row("| R01 | text | V | `r01_x`; a note |"), &tests);
    assert_eq!(written, "| R01 | text | V | `r01_a`, `r01_b`; a note |");
    let written = with_tests(row("| R01 | text | V | open: not yet; later |"), &tests);
    assert_eq!(written, "| R01 | text | V | `r01_a`, `r01_b` |");
}
