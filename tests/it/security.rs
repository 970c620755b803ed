//! The two tables of SECURITY.md, held against the sources and the lock file; and the licences of all packages.
//!
//! With `HEIST_WRITE_SECURITY=1` the counts and versions are written into the tables. What is said about a file or a
//! package stays; a new one gets a row in which it is missing, and the test fails until somebody has written it.
#![forbid(unsafe_code)]

use crate::tidy::{Source, assert_none, files, read, root, short, text};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Set to write the tables.
const WRITE: &str = "HEIST_WRITE_SECURITY";
const PAGE: &str = "SECURITY.md";

/// The rows of the table between `<!-- name:begin -->` and `<!-- name:end -->`, each by its first cell.
fn rows(page: &str, name: &str) -> BTreeMap<String, Vec<String>> {
    let (begin, end) = marks(name);
    let inside = page
        .split_once(&begin)
        .and_then(|(_, rest)| rest.split_once(&end));
    let (inside, _) = inside.unwrap_or_else(|| panic!("{PAGE} has no table `{name}`"));
    let lines = inside
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .skip(1);
    let cells = lines.map(|line| {
        let cells = line.trim_end_matches(" |").split(" | ");
        cells.map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    });
    cells
        .map(|cells| (cells[0].trim_matches('`').to_owned(), cells))
        .collect()
}

fn marks(name: &str) -> (String, String) {
    (
        format!("<!-- {name}:begin -->\n"),
        format!("<!-- {name}:end -->"),
    )
}

/// Compares the table `name` with what there is: by the first cell, those in the middle. Writes it if asked to.
fn compare(name: &str, head: &[&str], found: &BTreeMap<String, Vec<String>>) {
    let page = text(PAGE);
    let known = rows(&page, name);
    if std::env::var_os(WRITE).is_some() {
        let mut table = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
        for (first, middle) in found {
            let why = known.get(first).and_then(|cells| cells.last());
            let why = why.map_or("", String::as_str);
            table += &format!("| `{first}` | {} | {why} |\n", middle.join(" | "));
        }
        let (begin, end) = marks(name);
        let (before, rest) = page.split_once(&begin).expect("seen above");
        let (_, after) = rest.split_once(&end).expect("seen above");
        let page = format!("{before}{begin}{table}{end}{after}");
        std::fs::write(root().join(PAGE), page).expect("the page can be written");
    }
    let known = rows(&text(PAGE), name);
    let mut complaints = Vec::new();
    for (first, middle) in found {
        match known.get(first) {
            None => complaints.push(format!("`{first}` is not in the table `{name}`")),
            Some(cells) if cells[1..cells.len() - 1] != middle[..] => complaints.push(format!(
                "`{first}` has {middle:?}, the table `{name}` says {:?}",
                &cells[1..cells.len() - 1]
            )),
            Some(cells) if cells.last().is_none_or(String::is_empty) => {
                complaints.push(format!(
                    "the table `{name}` does not say why `{first}` is there"
                ));
            }
            Some(_) => {}
        }
    }
    let gone = known.keys().filter(|first| !found.contains_key(*first));
    complaints
        .extend(gone.map(|first| format!("`{first}` is in the table `{name}` and nowhere else")));
    if !complaints.is_empty() {
        complaints.push(format!("{WRITE}=1 writes what can be written"));
    }
    assert_none(&complaints);
}

// ---- unsafe code ----

/// How often a file has each kind of unsafe code.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unsafe {
    blocks: usize,
    functions: usize,
    impls: usize,
}

impl Unsafe {
    fn of(source: &Source) -> Unsafe {
        let mut found = Unsafe::default();
        let mut rest = source.code.as_str();
        while let Some(at) = rest.find("unsafe") {
            let is_name = |one: char| one == '_' || one.is_alphanumeric();
            let begins = !rest[..at].ends_with(is_name);
            rest = &rest[at + "unsafe".len()..];
            let next = rest.trim_start();
            if !begins || rest.starts_with(is_name) {
                continue;
            }
            if next.starts_with('{') {
                found.blocks += 1;
            } else if next.starts_with("impl") {
                found.impls += 1;
            } else if let Some((_, after)) = next.split_once("fn") {
                // The type of a pointer to one has no name and is none.
                found.functions += usize::from(after.trim_start().starts_with(is_name));
            }
        }
        found
    }
}

/// Who audits the crate has a list of what to read, and it is the right one.
#[test]
fn the_inventory_of_unsafe_code_is_that_of_the_sources() {
    let mut found = BTreeMap::new();
    for file in files(&root().join("crates"), "rs") {
        let counts = Unsafe::of(&Source::parse(&read(&file)));
        if counts != Unsafe::default() {
            let counts = [counts.blocks, counts.functions, counts.impls];
            let name = short(&file).trim_start_matches("crates/").to_owned();
            found.insert(name, counts.map(|count| count.to_string()).to_vec());
        }
    }
    assert!(
        found.len() >= 8,
        "only these files have unsafe code: {found:?}"
    );
    compare(
        "unsafe",
        &["file", "blocks", "functions", "impls", "what for"],
        &found,
    );
}

#[test]
fn unsafe_code_is_counted_by_its_kind() {
    let source = Source::parse(concat!(
        "unsafe impl Send for A {}\n",
        "unsafe fn a() { unsafe { b() } } // unsafe { }\n",
        "unsafe extern \"C\" fn c(d: unsafe fn(u8)) { unsafe {\ne() } }\n",
        "fn not_unsafe() { let unsafe_code = \"unsafe {\"; }\n",
    ));
    let wanted = Unsafe {
        blocks: 2,
        functions: 2,
        impls: 1,
    };
    assert_eq!(Unsafe::of(&source), wanted);
}

// ---- packages ----

/// What `cargo tree` prints for each package, in the form asked for; only others' packages.
fn packages(arguments: &[&str], format: &str) -> BTreeSet<String> {
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "tree",
        "--color",
        "never",
        "--locked",
        "--all-features",
        "--prefix",
        "none",
    ]);
    command
        .args(["--format", format])
        .args(arguments)
        .current_dir(root());
    let output = command.output().expect("cargo can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().map(|line| line.trim_end_matches(" (*)"));
    // Ours are named with their folder.
    let others = lines.filter(|line| !line.is_empty() && !line.contains(" (/"));
    others
        .filter(|line| !line.contains("(proc-macro) (/"))
        .map(str::to_owned)
        .collect()
}

/// Whoever trusts the crate trusts these, and is told why we do.
#[test]
fn the_table_of_dependencies_is_that_of_the_lock_file() {
    let tree = packages(&["-p", "heist", "--edges", "normal"], "{p}");
    let mut found = BTreeMap::new();
    for package in &tree {
        let (name, version) = package.split_once(" v").expect("a name and a version");
        let version = version.split(' ').next().unwrap_or_default().to_owned();
        assert!(
            found.insert(name.to_owned(), vec![version]).is_none(),
            "two versions of {name}"
        );
    }
    assert!(found.len() >= 20, "only {} packages found", found.len());
    compare(
        "dependencies",
        &["package", "version", "what for, and why it is trusted"],
        &found,
    );
}

/// The licences that packages may have: each lets anybody use, change and pass on.
fn allowed() -> Vec<String> {
    let config = text("deny.toml");
    let line = config
        .lines()
        .find_map(|line| line.strip_prefix("allow = "));
    let names = line
        .expect("deny.toml allows licences")
        .split('"')
        .skip(1)
        .step_by(2);
    names.map(str::to_owned).collect()
}

/// Whether one may choose licences from `expression` so that all of them are allowed.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let expression = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let tokens: Vec<&str> = expression.split_whitespace().collect();
    let (value, rest) = alternatives(&tokens, allowed);
    assert!(rest.is_empty(), "{expression} has a rest: {rest:?}");
    value
}

fn alternatives<'a>(tokens: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    let (mut value, mut rest) = all_of(tokens, allowed);
    while let Some((&"OR", after)) = rest.split_first() {
        let (other, left) = all_of(after, allowed);
        (value, rest) = (value | other, left);
    }
    (value, rest)
}

fn all_of<'a>(tokens: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    let (mut value, mut rest) = one(tokens, allowed);
    while let Some((&"AND", after)) = rest.split_first() {
        let (other, left) = one(after, allowed);
        (value, rest) = (value & other, left);
    }
    (value, rest)
}

fn one<'a>(tokens: &'a [&'a str], allowed: &[String]) -> (bool, &'a [&'a str]) {
    match tokens.split_first() {
        Some((&"(", after)) => {
            let (value, rest) = alternatives(after, allowed);
            (value, rest.split_first().map_or(&[], |(_, rest)| rest))
        }
        // An exception to a licence only adds to what is permitted.
        Some((name, ["WITH", _, rest @ ..])) | Some((name, rest)) => {
            (allowed.iter().any(|known| known == name), rest)
        }
        None => (false, &[]),
    }
}

/// In short what `.ci/run deny` checks where cargo-deny can be had: also of packages for tests, benches and models.
#[test]
fn every_licence_is_allowed() {
    let allowed = allowed();
    let edges = "normal,build,dev";
    let all = packages(
        &["--workspace", "--edges", edges, "--target", "all"],
        "{p}|{l}",
    );
    assert!(all.len() > 100, "only {} packages found", all.len());
    let complaints = all.iter().filter_map(|package| {
        let (name, licence) = package.split_once('|').expect("a package and its licence");
        (!permits(licence, &allowed)).then(|| format!("{name} is under {licence:?}"))
    });
    assert_none(&complaints.collect::<Vec<_>>());
}

#[test]
fn a_licence_is_allowed_if_one_may_choose_it() {
    let allowed = ["MIT", "Unicode-3.0"].map(str::to_owned);
    let cases = [
        ("MIT", true),
        ("GPL-3.0", false),
        ("", false),
        ("GPL-3.0 OR MIT", true),
        ("Unlicense/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("(GPL-3.0 OR GPL-2.0) AND MIT", false),
        ("Apache-2.0 WITH LLVM-exception OR MIT", true),
        ("MIT WITH something", true),
    ];
    for (expression, wanted) in cases {
        assert_eq!(permits(expression, &allowed), wanted, "{expression}");
    }
}
