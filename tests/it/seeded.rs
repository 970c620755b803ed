//! The lists of `.ci/seeded`, held against the sources, the manifest and the page with the results.
//!
//! The script itself takes minutes and is not part of every check. What must not rot in the meantime is
//! here: a bug that is in no list is tried by nobody, and neither is one whose line is gone.
#![forbid(unsafe_code)]

use crate::tidy::{assert_none, crates, files, read, root, short, text};
use std::collections::{BTreeMap, BTreeSet};

/// How many the project promises.
const BUGS: usize = 25;
const WEAKENINGS: usize = 10;

/// A line of the script's first list.
struct Bug {
    number: String,
    file: String,
    krate: String,
    check: String,
}

/// A line of the second.
struct Weakening {
    number: String,
    function: String,
    from: String,
    file: String,
    krate: String,
    model: String,
}

/// The lines of the list that the script calls `name`, in their columns.
fn list<const COLUMNS: usize>(name: &str) -> Vec<[String; COLUMNS]> {
    let script = text(".ci/seeded");
    let (_, list) = script
        .split_once(&format!("readonly {name}='\n"))
        .unwrap_or_else(|| panic!(".ci/seeded has no list {name}"));
    let (list, _) = list.split_once("\n'\n").expect("the list has an end");
    let columns = |line: &str| {
        let columns: Vec<String> = line.split('|').map(str::to_owned).collect();
        columns
            .try_into()
            .unwrap_or_else(|_| panic!(".ci/seeded: {COLUMNS} columns: {line}"))
    };
    list.lines().map(columns).collect()
}

fn bugs() -> Vec<Bug> {
    let bug = |[number, _, file, _, krate, _, check]: [String; 7]| Bug {
        number,
        file,
        krate,
        check,
    };
    list("BUGS").into_iter().map(bug).collect()
}

fn weakenings() -> Vec<Weakening> {
    let weakening = |[number, function, from, _, file, krate, model]: [String; 7]| Weakening {
        number,
        function,
        from,
        file,
        krate,
        model,
    };
    list("WEAK").into_iter().map(weakening).collect()
}

/// The numbers after `heist_bug_` in a text.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let after = text.split("heist_bug_").skip(1);
    after.map(|rest| {
        rest.split(|one: char| !one.is_ascii_digit())
            .next()
            .unwrap_or_default()
    })
}

/// The files of the library in which each bug is.
fn places() -> BTreeMap<String, BTreeSet<String>> {
    let mut places = BTreeMap::<_, BTreeSet<_>>::new();
    for file in crates().iter().flat_map(|folder| files(folder, "rs")) {
        for number in numbers(&read(&file)) {
            let file = short(&file);
            places.entry(number.to_owned()).or_default().insert(file);
        }
    }
    places
}

/// Whether a crate has a test, or a model, of this name.
fn has_test(krate: &str, name: &str) -> bool {
    let declared = format!("fn {name}(");
    files(&root().join("crates").join(krate).join("src"), "rs")
        .iter()
        .any(|file| read(file).contains(&declared))
}

#[test]
fn every_seeded_bug_is_in_the_list_the_manifest_and_one_file() {
    let (bugs, places, manifest) = (bugs(), places(), text("Cargo.toml"));
    let listed: BTreeSet<&str> = bugs.iter().map(|bug| &*bug.number).collect();
    assert!(
        bugs.len() >= BUGS && listed.len() == bugs.len(),
        "{listed:?}"
    );
    let known: BTreeSet<&str> = numbers(&manifest).collect();
    assert_eq!(known, listed, "`check-cfg` in Cargo.toml");
    let found: BTreeSet<&str> = places.keys().map(String::as_str).collect();
    assert_eq!(found, listed, "the sources");
    let mut complaints = Vec::new();
    for bug in &bugs {
        let file = format!("crates/{}", bug.file);
        if !places[&bug.number].iter().eq([&file]) {
            complaints.push(format!("{}: is in {:?}", bug.number, places[&bug.number]));
        }
        if !has_test(&bug.krate, &bug.check) {
            complaints.push(format!("{}: no test `{}`", bug.number, bug.check));
        }
    }
    assert_none(&complaints);
}

#[test]
fn every_weakening_finds_its_place() {
    let weakenings = weakenings();
    assert!(weakenings.len() >= WEAKENINGS);
    let mut complaints = Vec::new();
    for weakening in &weakenings {
        let source = text(&format!("crates/{}", weakening.file));
        let begins = format!("fn {}(", weakening.function);
        let body = source.split_once(&begins).map(|(_, rest)| {
            // Up to the next function of the file.
            rest.split("\n    }\n").next().unwrap_or(rest)
        });
        if !body.is_some_and(|body| body.contains(&weakening.from)) {
            let Weakening {
                number,
                from,
                function,
                ..
            } = weakening;
            complaints.push(format!("{number}: no `{from}` in `{function}`"));
        }
        if !has_test(&weakening.krate, &weakening.model) {
            complaints.push(format!(
                "{}: no model `{}`",
                weakening.number, weakening.model
            ));
        }
    }
    assert_none(&complaints);
}

/// The page is written by the script; a line that came later is on it once somebody has run the script.
#[test]
fn the_page_shows_all_of_them_caught() {
    let page = text("docs/verification.md");
    let bugs = bugs().into_iter().map(|bug| (bug.number, bug.check));
    let weak = weakenings().into_iter().map(|one| (one.number, one.model));
    let complaints: Vec<String> = bugs
        .chain(weak)
        .filter(|(number, check)| {
            !page.lines().any(|line| {
                line.starts_with(&format!("| {number} |"))
                    && line.contains(&format!("`{check}`"))
                    && line.ends_with("| yes |")
            })
        })
        .map(|(number, check)| {
            format!("docs/verification.md: does not show {number} caught by `{check}`; run `.ci/seeded --write`")
        })
        .collect();
    assert_none(&complaints);
}
