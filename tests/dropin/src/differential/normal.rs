//! What of an answer may be compared: identifiers, times, keys, certificates and tokens are replaced by what they have in
//! common on both sides.
//!
//! Times become `{"(time)": seconds}`, so that they are compared with a tolerance; those inside a text stand in a list
//! of their own. Random values become numbered symbols, so that it still shows which of them are equal.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::{Captures, Regex};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

use super::profile;

/// The member that marks a time.
pub(super) const TIME: &str = "(time)";

static RANDOM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x)
        (?P<pem>-----BEGIN\ [A-Z0-9\ ]+-----[A-Za-z0-9+/=\s]+-----END\ [A-Z0-9\ ]+-----)
        |(?P<jwt>eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*)
        |(?P<b64>[A-Za-z0-9+/_-]{60,}={0,2})
        |(?P<uuid>\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b)
        |(?P<date>\b\d{4}-\d\d-\d\d[T\ ]\d\d:\d\d:\d\d(\.\d+)?(\ [+-]\d{4}\ [A-Z]{3,4}|Z)?)
        |(?P<uptime>\bUptime:\s+[0-9a-z.]+)
        |(?P<after>\bafter\ [0-9.]+(ns|µs|ms|s)\b)
        |(?P<coordinate>\x22[A-Za-z0-9_-]{43}\x22)
        |(?P<epoch>\b1[6-9]\d{8}\b)
        |(?P<fingerprint>\b[0-9a-f]{40}\b)
        |(?P<serial>\b\d{30,40}\b)
        |(?P<kid>\b[A-Za-z0-9]{32}\b)",
    )
    .expect("a pattern")
});

const DATE: &[FormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");

/// The state of one transcript.
#[derive(Debug, Default)]
pub(super) struct Normal {
    /// What earlier steps captured, and places of this side: the value and its name.
    known: Vec<(String, String)>,
    symbols: BTreeMap<String, String>,
    counts: BTreeMap<&'static str, usize>,
    /// Times, certificates and tokens found inside texts.
    within: Vec<Value>,
}

impl Normal {
    /// `known` are values and their names.
    pub(super) fn new(known: Vec<(String, String)>) -> Self {
        Self {
            known,
            ..Self::default()
        }
    }

    /// A whole transcript.
    pub(super) fn transcript(mut self, value: Value) -> Value {
        let mut value = self.value("", value);
        if !self.within.is_empty()
            && let Value::Object(members) = &mut value
        {
            members.insert("within".into(), Value::from(self.within));
        }
        value
    }

    pub(super) fn value(&mut self, name: &str, value: Value) -> Value {
        match value {
            Value::Object(members) => Value::Object(
                members
                    .into_iter()
                    .map(|(name, value)| {
                        let value = self.value(&name, value);
                        (self.text(&name), value)
                    })
                    .collect::<Map<_, _>>(),
            ),
            Value::Array(items) => items.into_iter().map(|item| self.value(name, item)).collect(),
            Value::Number(_) | Value::String(_) if name == "uptime" => json!("(uptime)"),
            Value::String(token) if name == "next_page_token" && !token.is_empty() => json!("(page)"),
            Value::Number(number) => match number.as_i64().filter(|n| is_recent(*n)) {
                Some(seconds) => time(seconds),
                None => Value::Number(number),
            },
            Value::String(text) => self.string(name, &text),
            other => other,
        }
    }

    fn string(&mut self, name: &str, text: &str) -> Value {
        for (value, name) in &self.known {
            if value == text {
                return json!(name);
            }
        }
        if let Some(seconds) = text.parse().ok().filter(|n| is_recent(*n)) {
            return time(seconds);
        }
        if let Some(found) = profile::token(text, self) {
            return found;
        }
        if ["x", "y"].contains(&name) && text.len() == 43 {
            return json!("(coordinate)");
        }
        if name == "nonce" && !text.is_empty() {
            return json!("(nonce)");
        }
        if name == "jti" {
            return json!(format!("(jti of {} bytes)", text.len()));
        }
        if text.len() > 60
            && let Ok(bytes) = STANDARD.decode(text)
        {
            if let Some(found) = profile::der(&bytes, self) {
                return found;
            }
            if let Ok(pem) = str::from_utf8(&bytes)
                && pem.starts_with("-----BEGIN")
            {
                return Value::from(self.text(pem));
            }
        }
        let text = self.text(text);
        if ["stdout", "stderr", "fault"].contains(&name) {
            return text.trim_end().lines().map(str::trim_end).collect();
        }
        Value::from(text)
    }

    /// A text with its random parts replaced.
    pub(super) fn text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (value, name) in &self.known {
            text = text.replace(value.as_str(), name);
        }
        RANDOM
            .replace_all(&text, |found: &Captures<'_>| self.replace(found))
            .into_owned()
    }

    fn replace(&mut self, found: &Captures<'_>) -> String {
        let whole = found.get(0).map_or("", |found| found.as_str());
        for kind in ["uuid", "fingerprint", "serial", "kid"] {
            if found.name(kind).is_some() {
                return self.symbol(kind, whole);
            }
        }
        if found.name("uptime").is_some() {
            return "Uptime: (a while)".into();
        }
        if found.name("after").is_some() {
            return "after (a while)".into();
        }
        if found.name("coordinate").is_some() {
            return self.symbol("coordinate", whole);
        }
        if found.name("date").is_some() {
            let plain = whole.get(..19).unwrap_or_default().replace('T', " ");
            let seconds = time::PrimitiveDateTime::parse(&plain, DATE)
                .map(|date| date.assume_utc().unix_timestamp())
                .unwrap_or_default();
            return self.time_within(whole, seconds);
        }
        if found.name("epoch").is_some() {
            return self.time_within("", whole.parse().unwrap_or_default());
        }
        if found.name("jwt").is_some() {
            return match profile::token(whole, self) {
                Some(token) => self.put_aside("token", token),
                None => whole.to_owned(),
            };
        }
        if found.name("pem").is_some() {
            let Some((label, bytes)) = pem(whole) else {
                return whole.to_owned();
            };
            return match profile::der(&bytes, self) {
                Some(found) => self.put_aside(&label, found),
                None => format!("({label})"),
            };
        }
        let bytes = STANDARD.decode(whole).unwrap_or_default();
        match profile::der(&bytes, self).filter(|_| !bytes.is_empty()) {
            Some(found) => self.put_aside("base64", found),
            None => self.symbol("base64", whole),
        }
    }

    fn time_within(&mut self, form: &str, seconds: i64) -> String {
        self.within.push(time(seconds));
        // How it is written counts, not what it says.
        let form: String = form
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        format!("(time {form})")
    }

    fn put_aside(&mut self, what: &str, value: Value) -> String {
        self.within.push(value);
        format!("({what} within)")
    }

    /// A value that is random: the first of its kind is 1, and so on.
    pub(super) fn symbol(&mut self, kind: &'static str, value: &str) -> String {
        if let Some(symbol) = self.symbols.get(value) {
            return symbol.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let symbol = format!("({kind} {count})");
        self.symbols.insert(value.to_owned(), symbol.clone());
        symbol
    }
}

fn pem(text: &str) -> Option<(String, Vec<u8>)> {
    let label = text.strip_prefix("-----BEGIN ")?.split("-----").next()?;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    Some((label.to_owned(), STANDARD.decode(body.trim()).ok()?))
}

/// A time.
pub(super) fn time(seconds: i64) -> Value {
    json!({ TIME: seconds })
}

/// Whether a number is a time of these years, and not a count.
fn is_recent(seconds: i64) -> bool {
    (seconds - OffsetDateTime::now_utc().unix_timestamp()).abs() < 20 * 365 * 86_400
}
