//! One event as one line, byte for byte as logrus writes it.

use std::collections::BTreeMap;
use std::fmt::Write;

use credence_identity::Timestamp;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::level::Level;

/// What is to be written.
pub(super) struct Line<'a, K> {
    pub(super) time: Timestamp,
    pub(super) level: Level,
    pub(super) message: &'a str,
    pub(super) file: Option<(&'a str, u32)>,
    pub(super) fields: &'a BTreeMap<K, Value>,
}

/// `time="…" level=… msg="…" key=value …`, fields by name, the message left out when empty.
pub(super) fn text<K: AsRef<str>>(line: &Line<'_, K>) -> String {
    let mut out = String::with_capacity(160);
    out.push_str("time=");
    push_value(&mut out, &rfc3339(line.time));
    out.push_str(" level=");
    out.push_str(line.level.as_str());
    if !line.message.is_empty() {
        out.push_str(" msg=");
        push_value(&mut out, line.message);
    }
    if let Some((file, number)) = line.file {
        out.push_str(" file=");
        push_value(&mut out, &format!("{file}:{number}"));
    }
    for (name, value) in line.fields {
        let name = name.as_ref();
        out.push(' ');
        out.push_str(free_of_clash(name).as_deref().unwrap_or(name));
        out.push('=');
        match value {
            Value::String(text) => push_value(&mut out, text),
            other => push_value(&mut out, &other.to_string()),
        }
    }
    out.push('\n');
    out
}

/// One JSON object, keys sorted.
pub(super) fn json<K: AsRef<str>>(line: &Line<'_, K>) -> String {
    let mut object: BTreeMap<String, Value> = BTreeMap::new();
    for (name, value) in line.fields {
        let name = name.as_ref();
        object.insert(
            free_of_clash(name).unwrap_or_else(|| name.to_owned()),
            value.clone(),
        );
    }
    object.insert("time".to_owned(), rfc3339(line.time).into());
    object.insert("level".to_owned(), line.level.as_str().into());
    object.insert("msg".to_owned(), line.message.into());
    if let Some((file, number)) = line.file {
        object.insert("file".to_owned(), format!("{file}:{number}").into());
    }
    let mut out = Value::Object(Map::from_iter(object)).to_string();
    out.push('\n');
    out
}

fn rfc3339(time: Timestamp) -> String {
    let date = OffsetDateTime::from_unix_timestamp(time.unix_seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    date.format(&Rfc3339).unwrap_or_default()
}

/// logrus moves fields that carry the name of a fixed key out of the way.
fn free_of_clash(name: &str) -> Option<String> {
    matches!(name, "time" | "level" | "msg").then(|| format!("fields.{name}"))
}

fn push_value(out: &mut String, value: &str) {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if value.chars().all(bare) {
        out.push_str(value);
    } else {
        push_quoted(out, value);
    }
}

/// Go's `%q`: what can't be seen, or would be read as another thing than it is, is escaped.
fn push_quoted(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if !hidden(c) => out.push(c),
            // Writing to a String can't fail.
            c if c <= '\u{7f}' => drop(write!(out, "\\x{:02x}", u32::from(c))),
            c if c <= '\u{ffff}' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => drop(write!(out, "\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
}

/// Controls, separators other than the space, and the formatting characters that reorder or hide text.
fn hidden(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{e007f}')
}
