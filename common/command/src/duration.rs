//! Spans of time as Go writes them: `1h30m`, `1.5s`, `-10m`.

use std::{fmt, str::FromStr, time::Duration};

const NANOSECOND: i128 = 1;
const MICROSECOND: i128 = 1_000;
const MILLISECOND: i128 = 1_000_000;
const SECOND: i128 = 1_000_000_000;

/// A signed span with the range of Go's `time.Duration` (292 years in nanoseconds).
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct GoDuration(i64);

/// A text that is no span.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("invalid duration {0:?}")]
pub struct InvalidDuration(String);

impl GoDuration {
    /// Less than nothing.
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Whole seconds, rounded up.
    pub fn seconds_rounded_up(self) -> i64 {
        self.0.div_euclid(1_000_000_000) + i64::from(self.0.rem_euclid(1_000_000_000) != 0)
    }

    /// The span without its sign if that is positive, else nothing.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<Duration> for GoDuration {
    fn from(span: Duration) -> Self {
        Self(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl FromStr for GoDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        parse(text)
            .map(Self)
            .ok_or_else(|| InvalidDuration(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_i128;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (unit, after) = unit(after)?;
        total = total.checked_add(number(whole)?.checked_mul(unit)?)?;
        let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        total = total.checked_add(number(fraction)?.checked_mul(unit)?.checked_div(scale)?)?;
        rest = after;
    }
    i64::try_from(total.checked_mul(sign)?).ok()
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn number(digits: &str) -> Option<i128> {
    if digits.is_empty() {
        Some(0)
    } else {
        digits.parse().ok()
    }
}

fn unit(text: &str) -> Option<(i128, &str)> {
    let units = [
        ("ns", NANOSECOND),
        ("us", MICROSECOND),
        ("µs", MICROSECOND),
        ("μs", MICROSECOND),
        ("ms", MILLISECOND),
        ("s", SECOND),
        ("m", 60 * SECOND),
        ("h", 3_600 * SECOND),
    ];
    units
        .into_iter()
        .find_map(|(name, unit)| text.strip_prefix(name).map(|rest| (unit, rest)))
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let nanos = i128::from(self.0).abs();
        let (unit, name) = match nanos {
            0 => return f.write_str("0s"),
            n if n < MICROSECOND => (NANOSECOND, "ns"),
            n if n < MILLISECOND => (MICROSECOND, "µs"),
            n if n < SECOND => (MILLISECOND, "ms"),
            _ => (SECOND, "s"),
        };
        if unit == SECOND {
            let minutes = nanos / (60 * SECOND);
            if minutes >= 60 {
                write!(f, "{}h", minutes / 60)?;
            }
            if minutes > 0 {
                write!(f, "{}m", minutes % 60)?;
            }
        }
        let rest = if unit == SECOND {
            nanos % (60 * SECOND)
        } else {
            nanos
        };
        write!(f, "{}", rest / unit)?;
        let width = usize::try_from(unit.ilog10()).unwrap_or(0);
        let fraction = format!("{:0width$}", rest % unit);
        let fraction = fraction.trim_end_matches('0');
        if !fraction.is_empty() {
            write!(f, ".{fraction}")?;
        }
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_in_go() {
        for (text, nanos) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("-1h", -3_600_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5ms", 500_000),
            ("+3µs", 3_000),
            ("720h", 2_592_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(GoDuration(nanos)), "{text}");
        }
        for text in ["", "5", "s", "-", "1x", "1h 2m", ".s", "9999999999h", "1h-2m"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_written_as_in_go() {
        for (nanos, text) in [
            (0, "0s"),
            (999, "999ns"),
            (1_500, "1.5µs"),
            (12_345_678, "12.345678ms"),
            (1_000_000_000, "1s"),
            (61_500_000_000, "1m1.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (-2_000_000, "-2ms"),
        ] {
            assert_eq!(GoDuration(nanos).to_string(), text);
        }
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (text, seconds) in [("0", 0), ("1ns", 1), ("1s", 1), ("1001ms", 2), ("-1500ms", -1)] {
            assert_eq!(
                text.parse::<GoDuration>().unwrap().seconds_rounded_up(),
                seconds,
                "{text}"
            );
        }
    }
}
