//! `items.tsv` is what the SPIFFE standards ask for, item by item. Tests all over the workspace say above themselves
//! which items they show, in a doc comment: `Conforms: JWS-12, JWS-13`. This one collects them and writes
//! `docs/conformance.md`.
//!
//! Invariant: each item that binds anybody is shown by a test or stands in `open.tsv` with the reason, never both.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this is a test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The revision of the standards that the items are of.
const REVISION: &str = "665a28f (2026-07-01)";
const MARKER: &str = "/// Conforms: ";

/// The documents behind the groups of items, in the order of the list.
const DOCUMENTS: &[(&str, &str)] = &[
    ("SID", "SPIFFE ID"),
    ("X5S", "X509-SVID"),
    ("JWS", "JWT-SVID"),
    ("WIT", "WIT-SVID (incubating)"),
    ("BND", "Trust Domain and Bundle, 2 to 4 and 6"),
    ("BMP", "Trust Domain and Bundle, 5: bundle maps"),
    ("FED", "Federation"),
    ("WEP", "Workload Endpoint"),
    ("WAP", "Workload API"),
    ("BEP", "Broker Endpoint (incubating)"),
    ("BRK", "Broker API (incubating)"),
    ("SDS", "Envoy's SDS, as SPIRE serves it"),
    ("OID", "OIDC discovery, as SPIRE serves it"),
    ("STB", "Stability"),
];

struct Item {
    id: String,
    level: String,
    binds: String,
    section: String,
    about: String,
}

/// Test functions by file, of one item.
type Shown = BTreeMap<String, BTreeSet<String>>;

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn root() -> PathBuf {
    package().join("../..").canonicalize().unwrap()
}

/// The rows of a table without its head.
fn rows(file: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(package().join(file)).unwrap();
    let rows = text.lines().skip(1).filter(|line| !line.is_empty());
    rows.map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

fn items() -> Vec<Item> {
    let item = |row: Vec<String>| {
        let [id, level, binds, section, about] = row.try_into().expect("five columns");
        Item {
            id,
            level,
            binds,
            section,
            about,
        }
    };
    rows("items.tsv").into_iter().map(item).collect()
}

/// Reasons by item, or by group where the first column ends with `*`.
fn open() -> BTreeMap<String, String> {
    let pair = |row: Vec<String>| {
        let [id, reason] = row.try_into().expect("two columns");
        (id, reason)
    };
    rows("open.tsv").into_iter().map(pair).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && !name.starts_with("target") {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// Adds the markers of one file; answers what is wrong with them.
fn scan(file: &str, text: &str, shown: &mut BTreeMap<String, Shown>) -> Vec<String> {
    let (mut faults, mut pending, mut is_test) = (Vec::new(), Vec::new(), false);
    for line in text.lines().map(str::trim_start) {
        if let Some(ids) = line.strip_prefix(MARKER) {
            pending.extend(ids.split(',').map(|id| id.trim().to_owned()));
        } else if line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| !line.starts_with("//")) {
            let name = rest.split('(').next().unwrap_or_default();
            if !is_test && !pending.is_empty() {
                faults.push(format!("{file}: {name} is no test and shows nothing"));
            }
            for id in pending.drain(..) {
                let files = shown.entry(id).or_default();
                files.entry(file.to_owned()).or_default().insert(name.to_owned());
            }
            is_test = false;
        }
    }
    if !pending.is_empty() {
        faults.push(format!("{file}: {pending:?} stand above nothing"));
    }
    faults
}

/// The reason why an item is open: its own or its group's.
fn reason<'a>(open: &'a BTreeMap<String, String>, id: &str) -> Option<&'a str> {
    let group = format!("{}-*", id.split('-').next().unwrap_or_default());
    open.get(id).or_else(|| open.get(&group)).map(String::as_str)
}

fn document(items: &[Item], shown: &BTreeMap<String, Shown>, open: &BTreeMap<String, String>) -> String {
    let tests: BTreeSet<_> = shown
        .values()
        .flat_map(|files| {
            files
                .iter()
                .flat_map(|(file, names)| names.iter().map(move |name| (file, name)))
        })
        .collect();
    let mut text = format!(
        "# Conformance\n\nWhat the SPIFFE standards ask for, revision {REVISION} of github.com/spiffe/spiffe, and the tests \
         that show it. Generated from the tests\n(`UPDATE_CONFORMANCE=1 cargo test -p credence-conformance --test checklist`); \
         CI fails when it is stale.\n\n{} items, {} shown by {} tests. REF: no standard says so; SPIRE, go-spiffe or an RFC \
         does it so.\n",
        items.len(),
        shown.len(),
        tests.len()
    );
    for (group, title) in DOCUMENTS {
        let of_group: Vec<_> = items.iter().filter(|item| item.id.starts_with(group)).collect();
        let count = of_group
            .iter()
            .filter(|item| shown.contains_key(&item.id))
            .count();
        write!(text, "\n## {title}\n\n{count} of {} shown.", of_group.len()).unwrap();
        match open.get(&format!("{group}-*")) {
            Some(reason) => writeln!(text, " The rest: {reason}.\n").unwrap(),
            None => text.push_str("\n\n"),
        }
        text.push_str("| Item | Level | Section | About | Shown by |\n|---|---|---|---|---|\n");
        for item in of_group {
            let by = match (shown.get(&item.id), open.get(&item.id)) {
                (Some(files), _) => files
                    .iter()
                    .map(|(file, names)| {
                        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                        format!("[{file}](../{file}): {}", names.join(", "))
                    })
                    .collect::<Vec<_>>()
                    .join("; "),
                (None, Some(reason)) => format!("open: {reason}"),
                (None, None) => "-".to_owned(),
            };
            let Item {
                id,
                level,
                section,
                about,
                ..
            } = item;
            writeln!(text, "| {id} | {level} | {section} | {about} | {by} |").unwrap();
        }
    }
    text
}

/// Conforms: STB-02
#[test]
fn every_item_is_shown_or_open_and_the_document_says_so() {
    let (items, open, root) = (items(), open(), root());
    let ids: BTreeSet<&str> = items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!((items.len(), ids.len()), (396, 396), "the list is whole");
    let (mut files, mut shown, mut faults) = (Vec::new(), BTreeMap::new(), Vec::new());
    sources(&root, &mut files);
    files.sort();
    for path in files {
        let file = path.strip_prefix(&root).unwrap().display().to_string();
        faults.extend(scan(&file, &fs::read_to_string(&path).unwrap(), &mut shown));
    }
    faults.extend(
        shown
            .iter()
            .filter(|(id, _)| !ids.contains(id.as_str()))
            .map(|(id, files)| format!("{id} in {files:?} is no item")),
    );
    for id in open.keys().filter(|id| !id.ends_with('*')) {
        if !ids.contains(id.as_str()) {
            faults.push(format!("open.tsv: {id} is no item"));
        } else if shown.contains_key(id) {
            faults.push(format!("open.tsv: {id} is shown by a test now"));
        }
    }
    let belongs = |item: &&Item| item.binds != "-" && !shown.contains_key(&item.id);
    for item in items.iter().filter(belongs) {
        if reason(&open, &item.id).is_none() {
            faults.push(format!(
                "{} ({}) has no test: {}",
                item.id, item.binds, item.about
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));

    let (path, wanted) = (root.join("docs/conformance.md"), document(&items, &shown, &open));
    if std::env::var_os("UPDATE_CONFORMANCE").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == wanted,
        "docs/conformance.md is stale; run this test with UPDATE_CONFORMANCE=1"
    );
}

#[test]
fn markers_count_above_tests_alone() {
    let mut shown = BTreeMap::new();
    let test = format!("{MARKER}A-01, A-02\n#[tokio::test(start_paused = true)]\nasync fn it_works() {{\n");
    assert_eq!(scan("a.rs", &test, &mut shown), [""; 0]);
    let names = |id: &str| shown[id]["a.rs"].iter().cloned().collect::<Vec<_>>();
    assert_eq!(
        (names("A-01"), names("A-02")),
        (vec!["it_works".into()], vec!["it_works".into()])
    );
    for text in [
        format!("{MARKER}A-03\nfn helper() {{\n"),
        format!("{MARKER}A-03\nstruct Nothing;\n"),
    ] {
        assert_eq!(scan("b.rs", &text, &mut BTreeMap::new()).len(), 1, "{text}");
    }
}
