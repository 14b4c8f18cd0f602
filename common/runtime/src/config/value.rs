//! HCL's weak typing: which written value does for which wanted type.

use std::time::Duration;

use super::hcl::Kind;

/// What a value is, in words for a fault.
pub(super) fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Null => "null".to_owned(),
        Kind::Bool(value) => value.to_string(),
        Kind::Number(text) => text.clone(),
        Kind::String(text) if text.chars().count() <= 64 => format!("{text:?}"),
        Kind::String(_) => "a long string".to_owned(),
        Kind::List(_) => "a list".to_owned(),
        Kind::Object(_) => "a block".to_owned(),
    }
}

/// Any scalar does for a string.
pub(super) fn as_string(kind: &Kind) -> Option<String> {
    match kind {
        Kind::String(text) | Kind::Number(text) => Some(text.clone()),
        Kind::Bool(value) => Some(value.to_string()),
        Kind::Null | Kind::List(_) | Kind::Object(_) => None,
    }
}

/// A number, or a string that holds one; `0x` is hexadecimal, a leading 0 octal, as in Go.
pub(super) fn as_integer(kind: &Kind) -> Option<i64> {
    let (Kind::Number(text) | Kind::String(text)) = kind else {
        return None;
    };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, digits.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if digits.starts_with(['-', '+']) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    i64::try_from(if negative { -value } else { value }).ok()
}

/// `true`, `false`, 1, 0, or one of them as a string, in any case.
pub(super) fn as_boolean(kind: &Kind) -> Option<bool> {
    match kind {
        Kind::Bool(value) => Some(*value),
        Kind::Number(text) | Kind::String(text) => match text.to_ascii_lowercase().as_str() {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        },
        Kind::Null | Kind::List(_) | Kind::Object(_) => None,
    }
}

/// Go's form of a duration, such as "1h30m", "1.5s" or "0"; none for anything else, negative ones included.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let after_number = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = rest.strip_suffix(after_number)?;
        let after_unit = after_number.trim_start_matches(|c: char| !c.is_ascii_digit() && c != '.');
        let nanos_per_unit: u64 = match after_number.strip_suffix(after_unit)? {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(times(number, nanos_per_unit)?)?;
        rest = after_unit;
    }
    // Go's durations end at 2^63 - 1 nanoseconds, about 292 years.
    i64::try_from(total.as_nanos()).is_ok().then_some(total)
}

/// `number` (digits with at most one point) times a unit, exact to the nanosecond.
fn times(number: &str, nanos_per_unit: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // What lies below 10^-18 of a unit is no nanosecond.
    let places = fraction.chars().take(18).count();
    let mut part = 0_u128;
    for digit in fraction.chars().take(places) {
        part = part * 10 + u128::from(digit.to_digit(10)?);
    }
    let unit = u128::from(nanos_per_unit);
    let nanos = u128::from(whole) * unit + part * unit / 10_u128.checked_pow(u32::try_from(places).ok()?)?;
    Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
}
