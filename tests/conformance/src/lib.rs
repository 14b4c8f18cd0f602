//! The vectors of the SPIFFE standards, run against our parsers.
//!
//! Owns: reading the files of `tests/vectors`, and the one list of cases in which we differ. Never repairs a case: a
//! case passes, or it stands in [`DIFFERENCES`] with the reason, and a difference that is none any more fails too.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// A case of the vectors whose verdict we do not share.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    /// The id of the case.
    pub id: &'static str,
    /// Why we do otherwise.
    pub reason: &'static str,
}

/// Every case in which we differ.
pub const DIFFERENCES: &[Difference] = &[
    differs(
        "PB-05",
        "a document shows the number that the registry gives, whose tests hold it to growing",
    ),
    differs("SD-018", ALL_NAMES),
    differs("SD-022", ALL_NAMES),
    differs("SD-023", ALL_NAMES),
    differs("SS-008", DIGEST),
    differs("SS-009", DIGEST),
    differs("SS-017", REMEMBERED),
    differs("SS-018", REMEMBERED),
    differs("SS-022", DIGEST),
];

const ALL_NAMES: &str = "each name of one thing is answered";
const DIGEST: &str = "other secrets have another version, since it is a digest of them";
const REMEMBERED: &str = "on a stream an unknown name is left out until it is known";

const fn differs(id: &'static str, reason: &'static str) -> Difference {
    Difference { id, reason }
}

/// Reads a file of the vectors.
///
/// # Panics
/// If the file is missing or is no JSON, for then nothing could be tested.
#[must_use]
#[expect(clippy::panic, reason = "a test without its vectors must fail")]
pub fn load(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../vectors")
        .join(file);
    let read = std::fs::read_to_string(&path).map_err(|e| e.to_string());
    match read.and_then(|text| serde_json::from_str(&text).map_err(|e| e.to_string())) {
        Ok(value) => value,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// Runs every case of a list: `run` answers `Ok(())` where we do what the case asks for, else says what we do instead.
///
/// # Panics
/// If a case fails that is not among the [`DIFFERENCES`], if one that is passes, or if there are no cases at all.
#[expect(clippy::panic, reason = "this is the assertion of the tests")]
pub fn run_cases(document: &Value, list: &str, mut run: impl FnMut(&Value) -> Result<(), String>) {
    let cases = document
        .get(list)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for case in cases {
        let id = text(case, "id");
        let difference = DIFFERENCES.iter().find(|difference| difference.id == id);
        match (run(case), difference) {
            (Err(_), Some(_)) | (Ok(()), None) => {}
            (Err(fault), None) => faults.push(format!("{id}: {fault}\n    {case}")),
            (Ok(()), Some(difference)) => {
                faults.push(format!(
                    "{id} passes now, though it is listed as a difference: {}",
                    difference.reason
                ));
            }
        }
        if !seen.insert(id) {
            faults.push(format!("{id} is there twice"));
        }
    }
    if cases.is_empty() || !faults.is_empty() {
        panic!(
            "{} of {} cases of {list} failed:\n{}",
            faults.len(),
            cases.len(),
            faults.join("\n")
        );
    }
}

/// The text of a member of a case; empty if it is absent or null.
#[must_use]
pub fn text<'a>(case: &'a Value, member: &str) -> &'a str {
    case.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// Compares an outcome with the `verdict` and `error` of a case: `Ok` where both agree or both outcomes conform.
///
/// # Errors
/// What we do instead.
pub fn judge<T: std::fmt::Debug>(case: &Value, outcome: Result<T, &str>) -> Result<Option<T>, String> {
    let class = text(case, "error");
    match (text(case, "verdict"), outcome) {
        ("valid" | "either", Ok(value)) => Ok(Some(value)),
        ("invalid" | "either", Err(error)) if error == class || class.is_empty() => Ok(None),
        (_, outcome) => Err(format!("we answer {outcome:?}")),
    }
}
