//! What `validate` says of a wrong configuration file.
//!
//! SPIRE tells the first fault, in sentences of their own kind each; ours are told by place and key. So what must be the
//! same is the meaning: ours names each key and each value that SPIRE's words name, and the line that is wrong.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::compare::Difference;

/// From here on SPIRE quotes a library of Go's, or the system.
const QUOTED: &[&str] = &[
    "time: ",
    "strconv.",
    ": lookup ",
    ": address ",
    ": open /",
    ": At ",
];

/// What a text names: values in quotes, and keys.
static NAMES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#""([^"]*)"|'([^']*)'|\bkeys=(\S+)|\b([a-z0-9]+(?:_[a-z0-9]+)+)\b"#).expect("a pattern")
});

/// The difference between two refusals of a file, if there is one; none at all for other transcripts.
pub(super) fn compare(spire: &Value, ours: &Value) -> Option<Option<Difference>> {
    let theirs = words(spire.get("fault")?)?;
    let said = words(ours.get("fault")?)?;
    let missing = missing(&theirs, &said).or_else(|| misplaced(ours, &said));
    Some(missing.map(|missing| Difference {
        path: "fault".into(),
        spire: theirs,
        ours: format!("{said} ({missing})"),
    }))
}

fn words(fault: &Value) -> Option<String> {
    let lines: Vec<&str> = fault.as_array()?.iter().filter_map(Value::as_str).collect();
    Some(lines.join("\n"))
}

fn missing(spire: &str, ours: &str) -> Option<String> {
    if spire.contains("nknown configuration detected") && !ours.contains("unknown key \"") {
        return Some("an unknown key isn't called so".into());
    }
    for line in spire.lines() {
        let end = QUOTED.iter().filter_map(|quoted| line.find(quoted)).min();
        let line = line.get(..end.unwrap_or(line.len())).unwrap_or_default();
        for found in NAMES.captures_iter(line) {
            let name = found
                .iter()
                .skip(1)
                .flatten()
                .next()
                .map_or("", |name| name.as_str());
            // The file's own name; the time and the words of a line of a log.
            let of_form = ["${dir}", "(time", "Unknown configuration detected"];
            if !of_form.iter().any(|form| name.starts_with(form)) && !ours.contains(name) {
                return Some(format!("{name:?} is missing"));
            }
        }
    }
    None
}

/// Ours must name one of the lines that were added.
fn misplaced(transcript: &Value, ours: &str) -> Option<String> {
    let added = transcript.get("added")?.as_array()?;
    let named = added.iter().any(|line| ours.contains(&format!(".conf:{line}:")));
    (!added.is_empty() && !named).then(|| format!("none of the lines {added:?} is named"))
}
