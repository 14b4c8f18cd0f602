//! Points in time as Go prints them. Always in UTC: the same moment reads the same on every machine.

use credence_identity::Timestamp;
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use crate::CommandError;

/// The form SPIRE documents for `-expiresBefore`.
const EXPIRES_BEFORE: &str = "2006-01-02 15:04:05 -0700 -07";

/// `2026-08-22 19:28:37 +0000 UTC`.
pub fn utc(time: Timestamp) -> String {
    let form = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] +0000 UTC");
    at(time)
        .and_then(|time| time.format(form).ok())
        .unwrap_or_else(|| beyond(time))
}

/// `2026-08-22T19:28:37Z`.
pub fn rfc3339(time: Timestamp) -> String {
    at(time)
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| beyond(time))
}

/// Refuses what a server would not understand as a date; the text itself is what travels.
pub fn check_expires_before(text: &str) -> Result<(), CommandError> {
    let form = format_description!(
        "[year]-[month]-[day] [hour]:[minute]:[second] [offset_hour sign:mandatory][offset_minute] [offset_hour sign:mandatory]"
    );
    OffsetDateTime::parse(text, form).map(drop).map_err(|_| {
        CommandError::new(format!(
            "date is not valid: {text:?} is not of the form {EXPIRES_BEFORE:?}"
        ))
    })
}

fn at(time: Timestamp) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(time.unix_seconds()).ok()
}

/// A date that has no year of four digits.
fn beyond(time: Timestamp) -> String {
    format!("{} seconds since 1970", time.unix_seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_as_in_go() {
        let time = Timestamp::from_unix_seconds(1_787_426_917);
        assert_eq!(utc(time), "2026-08-22 19:28:37 +0000 UTC");
        assert_eq!(rfc3339(time), "2026-08-22T19:28:37Z");
        assert_eq!(
            utc(Timestamp::from_unix_seconds(-1)),
            "1969-12-31 23:59:59 +0000 UTC"
        );
        assert_eq!(
            utc(Timestamp::from_unix_seconds(i64::MAX / 1000)),
            "9223372036854775 seconds since 1970"
        );
    }

    #[test]
    fn an_expiry_filter_is_a_full_date() {
        assert!(check_expires_before("2026-08-22 19:28:37 -0700 -07").is_ok());
        for junk in [
            "",
            "tomorrow",
            "2026-08-22",
            "2026-08-22 19:28:37 -0700",
            "2026-13-22 19:28:37 +0000 +00",
        ] {
            assert!(check_expires_before(junk).is_err(), "{junk}");
        }
    }
}
