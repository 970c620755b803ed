//! The rules of the repository that no compiler checks.
//!
//! Each rule of this file is written down in CONTRIBUTING.md. A rule that breaks names the file and
//! the line, and says what to do. Every test also counts what it looked at: a check that finds
//! nothing to check fails.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the repository is there")
}

/// The text of a file, named relative to the root.
pub(crate) fn text(name: &str) -> String {
    read(&root().join(name))
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below `folder` whose name ends in `.extension`, sorted. Build folders and hidden ones
/// are left out.
pub(crate) fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !name.starts_with('.') && !name.starts_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The folders of the library's crates.
pub(crate) fn crates() -> Vec<PathBuf> {
    let folders = fs::read_dir(root().join("crates")).expect("crates/");
    let mut all: Vec<PathBuf> = folders
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    all.retain(|path| path.join("Cargo.toml").is_file());
    all.sort();
    assert!(
        all.len() >= 4,
        "the workspace has four crates, found {all:?}"
    );
    all
}

/// A path relative to the root, for messages.
pub(crate) fn short(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Fails with all complaints at once.
#[track_caller]
pub(crate) fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

// ---- reading Rust ----

/// A Rust file taken apart: code without comments and texts, and the line comments.
pub(crate) struct Source {
    /// The code. Comments and the insides of literals are blank, line breaks are kept.
    pub(crate) code: String,
    /// Line number and text of each `//` comment that is not a doc comment, without the slashes.
    comments: Vec<(usize, String)>,
}

impl Source {
    pub(crate) fn parse(text: &str) -> Source {
        let mut source = Source {
            code: String::with_capacity(text.len()),
            comments: Vec::new(),
        };
        let mut rest = text;
        let mut line = 1;
        while !rest.is_empty() {
            let (length, is_code) = source.piece(rest, line);
            let (piece, after) = rest.split_at(length);
            line += piece.matches('\n').count();
            if is_code {
                source.code.push_str(piece);
            } else {
                source.code.extend(
                    piece
                        .chars()
                        .map(|one| if one == '\n' { '\n' } else { ' ' }),
                );
            }
            rest = after;
        }
        source
    }

    /// The length of the next piece of `rest`, and whether it is code.
    fn piece(&mut self, rest: &str, line: usize) -> (usize, bool) {
        let mut chars = rest.chars();
        let first = chars.next().expect("called with something left");
        if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            let comment = &rest[2..length];
            if !comment.starts_with(['/', '!']) {
                self.comments.push((line, comment.trim().to_owned()));
            }
            return (length, false);
        }
        if rest.starts_with("/*") {
            return (block_comment(rest), false);
        }
        if first == '"' {
            return (1 + quoted(&rest[1..], '"'), false);
        }
        if first == '\'' {
            let is_literal = matches!(
                (chars.next(), chars.next()),
                (Some('\\'), _) | (Some(_), Some('\''))
            );
            return if is_literal {
                (1 + quoted(&rest[1..], '\''), false)
            } else {
                (1, true)
            };
        }
        if is_name_start(first) {
            let length = rest.find(|one| !is_name_part(one)).unwrap_or(rest.len());
            if matches!(&rest[..length], "r" | "br" | "cr") {
                if let Some(raw) = raw_text(&rest[length..]) {
                    return (length + raw, false);
                }
            }
            return (length, true);
        }
        (first.len_utf8(), true)
    }

    /// All identifiers and keywords of the code.
    fn names(&self) -> impl Iterator<Item = &str> {
        names(&self.code)
    }

    fn has_unsafe(&self) -> bool {
        self.names().any(|name| name == "unsafe")
    }

    /// Whether `attribute` is among the inner attributes that come before the first item.
    fn starts_with_attribute(&self, attribute: &str) -> bool {
        let mut rest = self.code.trim_start();
        while rest.starts_with("#![") {
            let end = closing_bracket(&rest[2..]) + 2;
            let found: String = rest[..=end].split_whitespace().collect();
            if found == attribute {
                return true;
            }
            rest = rest[end + 1..].trim_start();
        }
        false
    }

    /// Backticked pieces of each comment that begins with `Ordering:`, up to the end of its
    /// paragraph or the next label, with their line.
    fn ordering_pieces(&self) -> Vec<(usize, String)> {
        let mut pieces = Vec::new();
        let mut paragraph = String::new();
        let mut begin = 0;
        let mut last = 0;
        for (line, comment) in self.comments.iter().chain([&(usize::MAX, String::new())]) {
            let label = ["SAFETY:", "Panic:", "Liveness:", "Ordering:"]
                .into_iter()
                .find(|label| comment.starts_with(label));
            let goes_on = *line == last + 1 && label.is_none() && !comment.is_empty();
            if !goes_on && !paragraph.is_empty() {
                let quoted = paragraph.split('`').skip(1).step_by(2);
                pieces.extend(quoted.map(|piece| (begin, piece.to_owned())));
                paragraph.clear();
            }
            if label == Some("Ordering:") {
                begin = *line;
                paragraph.push_str(comment);
            } else if goes_on && !paragraph.is_empty() {
                paragraph.push(' ');
                paragraph.push_str(comment);
            }
            last = *line;
        }
        pieces
    }
}

fn is_name_start(one: char) -> bool {
    one == '_' || one.is_alphabetic()
}

fn is_name_part(one: char) -> bool {
    one == '_' || one.is_alphanumeric()
}

fn names(code: &str) -> impl Iterator<Item = &str> {
    code.split(|one| !is_name_part(one))
        .filter(|name| name.starts_with(is_name_start))
}

/// The name that `code` begins with.
fn leading_name(code: &str) -> Option<&str> {
    names(code).next().filter(|name| code.starts_with(name))
}

/// The length of a block comment, which may hold others.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of a literal after its opening mark, with the closing one.
fn quoted(rest: &str, mark: char) -> usize {
    let mut is_escaped = false;
    for (at, one) in rest.char_indices() {
        match one {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if one == mark => return at + one.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// The length of a raw text after its `r`, or none when this is not one.
fn raw_text(rest: &str) -> Option<usize> {
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let inside = rest[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(hashes + 1 + length)
}

/// Where the bracket at the start of `rest` is closed.
fn closing_bracket(rest: &str) -> usize {
    let mut depth = 0_usize;
    for (at, one) in rest.char_indices() {
        match one {
            '[' => depth += 1,
            ']' if depth == 1 => return at,
            ']' => depth -= 1,
            _ => {}
        }
    }
    rest.len() - 1
}

/// The folder in which the child modules of a file are.
fn children(file: &Path) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default();
    let folder = file.parent().expect("a file is in a folder");
    if ["lib", "main", "mod"].iter().any(|name| stem == *name) {
        folder.to_owned()
    } else {
        folder.join(stem)
    }
}

// ---- rules for the code ----

/// Every module without `unsafe` promises to stay so. A module that has such a child cannot: the
/// promise would cover the child.
#[test]
fn every_file_without_unsafe_forbids_it() {
    let mut complaints = Vec::new();
    let mut looked_at = 0;
    for folder in crates() {
        let all: Vec<(PathBuf, Source)> = files(&folder.join("src"), "rs")
            .into_iter()
            .map(|file| (file.clone(), Source::parse(&read(&file))))
            .collect();
        let with_unsafe: Vec<&PathBuf> = all
            .iter()
            .filter(|(_, source)| source.has_unsafe())
            .map(|(file, _)| file)
            .collect();
        for (file, source) in &all {
            looked_at += 1;
            let inside = children(file);
            let may_not_promise = with_unsafe
                .iter()
                .any(|other| *other == file || other.starts_with(&inside));
            if !may_not_promise && !source.starts_with_attribute("#![forbid(unsafe_code)]") {
                complaints.push(format!(
                    "{}: has no `unsafe`; put `#![forbid(unsafe_code)]` below the `//!` lines",
                    short(file)
                ));
            }
        }
    }
    assert!(looked_at > 20, "only {looked_at} source files found");
    assert_none(&complaints);
}

/// A comment that explains a memory ordering names its partner. A rename must break this test and
/// not the reader.
#[test]
fn every_name_after_ordering_exists_in_its_crate() {
    let mut complaints = Vec::new();
    let mut looked_at = 0;
    for folder in crates() {
        let all = files(&folder, "rs");
        let sources: Vec<Source> = all.iter().map(|file| Source::parse(&read(file))).collect();
        let known: BTreeSet<&str> = sources.iter().flat_map(Source::names).collect();
        for (file, source) in all.iter().zip(&sources) {
            for (line, piece) in source.ordering_pieces() {
                looked_at += 1;
                let place = format!("{}:{line}", short(file));
                if piece.ends_with(".rs") {
                    if !all.iter().any(|other| other.ends_with(&piece)) {
                        complaints.push(format!("{place}: `Ordering:` names the file `{piece}`, which is not in this crate"));
                    }
                    continue;
                }
                let missing = names(&piece).filter(|name| !known.contains(name));
                complaints.extend(missing.map(|name| {
                    format!("{place}: `Ordering:` names `{name}`, which this crate does not have")
                }));
            }
        }
    }
    assert!(
        looked_at > 0,
        "no `Ordering:` comment names anything: this test checks nothing"
    );
    assert_none(&complaints);
}

/// What is in the repository is finished.
#[test]
fn nothing_is_left_to_do() {
    let mut complaints = Vec::new();
    for folder in ["crates", "tests", "benches"] {
        for file in files(&root().join(folder), "rs") {
            let source = Source::parse(&read(&file));
            for (number, line) in source.code.lines().enumerate() {
                let line: String = line.split_whitespace().collect();
                for stub in ["todo!(", "unimplemented!("] {
                    if line.contains(stub) {
                        complaints.push(format!("{}:{}: {stub}..)", short(&file), number + 1));
                    }
                }
            }
        }
    }
    assert_none(&complaints);
}

/// An example that nobody runs stops working.
#[test]
fn every_example_is_run_by_ci() {
    let run = text(".ci/run");
    let examples = files(&root().join("crates/heist/examples"), "rs");
    assert!(examples.len() >= 5, "five examples, found {examples:?}");
    let is_run = |name: &str| {
        run.lines()
            .any(|line| line.contains(&format!("--example {name} ")))
    };
    let missing = examples.iter().filter(|path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        !is_run(&name)
    });
    let complaints: Vec<String> = missing
        .map(|path| format!("{}: .ci/run does not run it", short(path)))
        .collect();
    assert_none(&complaints);
}

// ---- rules for the texts ----

/// All texts for readers.
fn texts() -> Vec<PathBuf> {
    let top = [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
    ];
    let top = top.map(|name| root().join(name));
    let mut all = Vec::from(top);
    all.extend(files(&root().join("docs"), "md"));
    all.extend(files(&root().join("crates"), "md"));
    all.extend(files(&root().join("benches"), "md"));
    all.retain(|path| !path.starts_with(root().join("docs/book")));
    all
}

/// The lines of a Markdown text, without blocks of code, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push((number + 1, line));
        }
    }
    lines
}

/// The targets of all links `[..](target)`, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let mut rest = line;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let end = rest.find(')').unwrap_or(rest.len());
            let target = rest[..end].split_whitespace().next().unwrap_or_default();
            found.push((number, target));
        }
    }
    found
}

/// The anchors that the headings of a text make, as the book and hosting sites form them.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text)
        .into_iter()
        .filter(|(_, line)| line.starts_with('#'));
    let slug = |heading: &str| {
        let kept = heading
            .trim_start_matches('#')
            .trim()
            .chars()
            .filter(|one| one.is_alphanumeric() || " -_".contains(*one));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(|(_, line)| slug(line)).collect()
}

#[test]
fn every_link_to_a_file_of_the_repository_resolves() {
    let mut complaints = Vec::new();
    let mut looked_at = 0;
    for file in texts() {
        let text = read(&file);
        for (line, target) in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            looked_at += 1;
            let (name, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = file.parent().expect("a file is in a folder");
            let path = if name.is_empty() {
                file.clone()
            } else {
                folder.join(name)
            };
            let place = format!("{}:{line}", short(&file));
            if !path.exists() {
                complaints.push(format!("{place}: the link to `{target}` leads nowhere"));
            } else if !anchor.is_empty()
                && !anchors(&read(&path)).iter().any(|known| known == anchor)
            {
                complaints.push(format!("{place}: `{name}` has no heading `#{anchor}`"));
            }
        }
    }
    assert!(looked_at > 20, "only {looked_at} links found");
    assert_none(&complaints);
}

/// Whether there is a test, or a file of tests, that a text calls so: `net::a_name` or `net::*` for one of
/// `tests/it` or `tests/alone`, `io: wheel::tests::a_name` for a unit test of `heist-io`.
fn is_test(name: &str) -> bool {
    let (file, function) = match name.split_once(": ") {
        Some((krate, name)) => {
            let module = name.split("::").next().unwrap_or_default();
            let file = format!("crates/heist-{krate}/src/{module}.rs");
            (vec![file], name.rsplit("::").next())
        }
        None => {
            let module = name.split("::").next().unwrap_or_default();
            let folders = ["it", "alone"].map(|folder| format!("tests/{folder}/{module}.rs"));
            (folders.into(), name.rsplit("::").next())
        }
    };
    let wanted = match function.unwrap_or_default() {
        "*" => String::from("#[test]"),
        function => format!("fn {function}("),
    };
    file.iter()
        .filter_map(|file| std::fs::read_to_string(root().join(file)).ok())
        .any(|text| text.contains(&wanted))
}

/// A page that says which test shows what is checked by nobody once the test has another name.
#[test]
fn every_test_that_the_page_on_faults_names_exists() {
    let page = text("docs/verification/faults.md");
    let mut looked_at = 0;
    let mut complaints = Vec::new();
    for (line, text) in prose(&page) {
        let names = text.split('`').skip(1).step_by(2);
        for name in names.filter(|name| name.contains("::")) {
            looked_at += 1;
            if !is_test(name) {
                complaints.push(format!(
                    "docs/verification/faults.md:{line}: no test `{name}`"
                ));
            }
        }
    }
    assert!(looked_at > 50, "only {looked_at} names found");
    assert_none(&complaints);
    assert!(is_test("io: wheel::tests::*") && is_test("foreign::*"));
    assert!(!is_test("net::a_test_that_is_not_there"));
}

/// A chapter that is not in the summary is not in the book.
#[test]
fn every_chapter_is_in_the_summary() {
    let summary = text("docs/SUMMARY.md");
    let listed: BTreeSet<PathBuf> = links(&summary)
        .into_iter()
        .map(|(_, target)| root().join("docs").join(target))
        .collect();
    let mut chapters: Vec<PathBuf> = texts()
        .into_iter()
        .filter(|path| path.starts_with(root().join("docs")))
        .collect();
    chapters.retain(|path| !path.ends_with("SUMMARY.md"));
    assert!(
        chapters.len() >= 10,
        "only {} chapters found",
        chapters.len()
    );
    let missing = chapters.iter().filter(|path| !listed.contains(*path));
    let complaints: Vec<String> = missing
        .map(|path| format!("{}: is not in docs/SUMMARY.md", short(path)))
        .collect();
    assert_none(&complaints);
}

/// The notes are found from the page on the architecture.
#[test]
fn every_decision_is_listed_on_the_architecture_page() {
    let page = text("docs/architecture.md");
    let listed: BTreeSet<PathBuf> = links(&page)
        .into_iter()
        .map(|(_, target)| root().join("docs").join(target))
        .collect();
    let notes = files(&root().join("docs/decisions"), "md");
    assert!(!notes.is_empty(), "there are no decision notes");
    let missing = notes.iter().filter(|path| !listed.contains(*path));
    let complaints: Vec<String> = missing
        .map(|path| format!("{}: is not linked in docs/architecture.md", short(path)))
        .collect();
    assert_none(&complaints);
}

/// The page says where things are. A file that moves must break this test and not the reader.
#[test]
fn every_file_named_on_the_architecture_page_exists() {
    let page = text("docs/architecture.md");
    let mut known = files(&root().join("crates"), "rs");
    known.extend(files(&root().join("crates"), "md"));
    known.extend(files(&root().join("tests"), "rs"));
    let lines = prose(&page).into_iter();
    let pieces = lines.flat_map(|(number, line)| {
        line.split('`')
            .skip(1)
            .step_by(2)
            .map(move |piece| (number, piece))
    });
    let named: Vec<(usize, &str)> = pieces
        .filter(|(_, piece)| piece.ends_with(".rs") || piece.ends_with(".md"))
        .collect();
    assert!(named.len() >= 10, "only these files are named: {named:?}");
    let missing = named
        .iter()
        .filter(|(_, piece)| !known.iter().any(|path| path.ends_with(piece)));
    let complaints: Vec<String> = missing
        .map(|(number, piece)| format!("docs/architecture.md:{number}: there is no file `{piece}`"))
        .collect();
    assert_none(&complaints);
}

/// The commands that the README promises are commands that run in every check.
#[test]
fn the_commands_of_the_readme_are_run_by_ci() {
    let commands = [
        "cargo run --release -p heist --example quickstart --features hyper",
        "cargo test --workspace",
    ];
    let readme = text("README.md");
    let shown: Vec<&str> = readme
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("cargo "))
        .collect();
    assert_eq!(shown, commands, "the commands of the README");
    let run = text(".ci/run");
    let complaints = commands.iter().filter(|command| {
        let is_whole = |line: &str| {
            let after = line.split_once(*command).map(|(_, after)| after);
            after.is_some_and(|after| after.is_empty() || after.starts_with(" 2>&1"))
        };
        !run.lines().any(is_whole)
    });
    let complaints: Vec<String> = complaints
        .map(|command| format!(".ci/run does not run `{command}`"))
        .collect();
    assert_none(&complaints);
}

/// Who looks for an option finds its unit, its default and its price.
#[test]
fn every_builder_option_is_on_the_tuning_page() {
    let builder = Source::parse(&text("crates/heist/src/builder.rs"));
    let methods = builder
        .code
        .split("pub fn ")
        .skip(1)
        .filter_map(leading_name);
    let options: Vec<&str> = methods
        .filter(|name| !["new", "build", "scope"].contains(name))
        .collect();
    assert!(options.len() >= 10, "only these options found: {options:?}");
    let page = text("docs/tuning.md");
    let is_there = |name: &str| {
        let row = page.lines().filter_map(|line| line.strip_prefix("| `"));
        row.filter_map(leading_name).any(|listed| listed == name)
    };
    let missing = options.iter().filter(|name| !is_there(name));
    let complaints: Vec<String> = missing
        .map(|name| format!("docs/tuning.md: has no row for `Builder::{name}`"))
        .collect();
    assert_none(&complaints);
}

/// The newest changes are on top, under the fixed headings in their fixed order.
#[test]
fn the_change_log_begins_with_what_is_unreleased() {
    let log = text("CHANGELOG.md");
    let headings: Vec<&str> = prose(&log)
        .into_iter()
        .map(|(_, line)| line)
        .filter(|line| line.starts_with("## "))
        .collect();
    assert_eq!(headings.first(), Some(&"## Unreleased"));
    let order = ["Breaking", "Added", "Changed", "Fixed", "Performance"];
    let mut last = None;
    for (number, line) in prose(&log) {
        if line.starts_with("## ") {
            last = None;
        } else if let Some(section) = line.strip_prefix("### ") {
            let place = order.iter().position(|known| *known == section);
            assert!(
                place.is_some(),
                "CHANGELOG.md:{number}: the sections are {order:?}, not {section:?}"
            );
            assert!(
                last < place,
                "CHANGELOG.md:{number}: the order of the sections is {order:?}"
            );
            last = place;
        }
    }
}

// ---- the checks themselves ----

#[test]
fn comments_and_texts_are_not_code() {
    let source = Source::parse(concat!(
        "let a = \"unsafe \\\" unsafe\"; // unsafe\n",
        "let b = r#\"unsafe \" unsafe\"#; /* unsafe /* unsafe */ unsafe */\n",
        "let c = ('\"', b'\\'', 'x'); fn d<'unsafe_>(_: &'unsafe_ str) {}\n",
        "let r#type = br\"unsafe\";\n",
    ));
    assert!(!source.has_unsafe(), "{}", source.code);
    assert!(source.names().any(|name| name == "type"));
    assert_eq!(source.comments, [(1, "unsafe".to_owned())]);
    assert!(Source::parse("let a = '\"'; unsafe { b() }").has_unsafe());
    assert!(!Source::parse("#![forbid(unsafe_code)]").has_unsafe());
}

#[test]
fn an_attribute_must_come_before_the_first_item() {
    let attribute = "#![forbid(unsafe_code)]";
    assert!(
        Source::parse("//! Docs.\n#![forbid(unsafe_code)]\nuse a::b;")
            .starts_with_attribute(attribute)
    );
    assert!(
        Source::parse("#![cfg(all(a, b))]\n#![forbid(unsafe_code)]\n")
            .starts_with_attribute(attribute)
    );
    assert!(
        !Source::parse("use a::b;\nmod c {\n#![forbid(unsafe_code)]\n}")
            .starts_with_attribute(attribute)
    );
    assert!(
        !Source::parse("// #![forbid(unsafe_code)]\nuse a::b;").starts_with_attribute(attribute)
    );
}

#[test]
fn names_after_ordering_are_found_up_to_the_end_of_the_paragraph() {
    let source = Source::parse(concat!(
        "// Ordering: Release. Pairs with `Worker::take`; see\n",
        "// `publish` too.\n",
        "// SAFETY: `not_this`.\n",
        "x.store(1); // Ordering: Relaxed, a hint for `look`.\n",
        "\n",
        "// `nor_this`\n",
        "// Ordering: `last`\n",
    ));
    let found = source.ordering_pieces();
    let wanted = [
        (1, "Worker::take"),
        (1, "publish"),
        (4, "look"),
        (7, "last"),
    ];
    assert_eq!(found, wanted.map(|(line, piece)| (line, piece.to_owned())));
}

#[test]
fn links_in_code_are_not_links() {
    let text = "# A `b` c!\n[x](a.md#b) and [y](c.md \"title\")\n```\n[z](d.md)\n```\n";
    assert_eq!(links(text), [(2, "a.md#b"), (2, "c.md")]);
    assert_eq!(anchors(text), ["a-b-c"]);
}
