//! UTCTime and GeneralizedTime (RFC 5280, 4.1.2.5), from year 1 to 9999: certificates in the field start in year 1.

use credence_identity::Timestamp;

use super::{DerError, GENERALIZED_TIME, Reader, UTC_TIME, Writer};

const SECONDS_PER_DAY: i64 = 86_400;

/// Reads either form. Seconds are required, the zone is `Z`, fractions are refused.
pub(crate) fn read_time(reader: &mut Reader<'_>) -> Result<Timestamp, DerError> {
    let element = reader.any()?;
    let (year, rest) = match element.tag {
        UTC_TIME => {
            let (digits, rest) = element.content.split_at_checked(2).ok_or(DerError::Value)?;
            let year = number(digits)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (digits, rest) = element.content.split_at_checked(4).ok_or(DerError::Value)?;
            (number(digits)?, rest)
        }
        other => return Err(DerError::Tag(other)),
    };
    let [m1, m2, d1, d2, h1, h2, i1, i2, s1, s2, b'Z'] = rest else {
        return Err(DerError::Value);
    };
    let month = number(&[*m1, *m2])?;
    let day = number(&[*d1, *d2])?;
    let (hour, minute, second) = (number(&[*h1, *h2])?, number(&[*i1, *i2])?, number(&[*s1, *s2])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return Err(DerError::Value);
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(DerError::Value);
    }
    let seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    Ok(Timestamp::from_unix_seconds(seconds))
}

/// Writes UTCTime for the years 1950 to 2049 and GeneralizedTime for all others; whole seconds, rounded down.
pub(crate) fn write_time(writer: &mut Writer, at: Timestamp) {
    let text: String = at
        .to_string()
        .chars()
        .filter(|char| !"-T:".contains(*char))
        .collect();
    match text.split_at_checked(2) {
        Some((century, rest)) if short_form(century, rest) => writer.element(UTC_TIME, rest.as_bytes()),
        _ => writer.element(GENERALIZED_TIME, text.as_bytes()),
    }
}

fn short_form(century: &str, rest: &str) -> bool {
    (century == "19" && rest >= "50") || (century == "20" && rest < "50")
}

fn number(digits: &[u8]) -> Result<i64, DerError> {
    digits.iter().try_fold(0, |sum, digit| {
        if digit.is_ascii_digit() {
            Ok(sum * 10 + i64::from(digit - b'0'))
        } else {
            Err(DerError::Value)
        }
    })
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; years start in March, so that leap days come last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tag: u8, text: &str) -> Result<i64, DerError> {
        let der = Writer::build(|w| w.element(tag, text.as_bytes()));
        read_time(&mut Reader::new(&der)).map(Timestamp::unix_seconds)
    }

    #[test]
    fn dates_before_1970_down_to_year_one() {
        assert_eq!(read(GENERALIZED_TIME, "00010101000000Z"), Ok(-62_135_596_800));
        assert_eq!(read(UTC_TIME, "500101000000Z"), Ok(-631_152_000));
        assert_eq!(read(UTC_TIME, "491231235959Z"), Ok(2_524_607_999));
        assert_eq!(read(GENERALIZED_TIME, "99991231235959Z"), Ok(253_402_300_799));
    }

    #[test]
    fn impossible_dates_are_refused() {
        for text in [
            "20230229000000Z",
            "20231301000000Z",
            "20230100000000Z",
            "20230101240000Z",
            "20230101000060Z",
        ] {
            assert_eq!(read(GENERALIZED_TIME, text), Err(DerError::Value), "{text}");
        }
        for text in [
            "2301010000Z",
            "230101000000+0000",
            "230101000000",
            "23010100000.Z",
        ] {
            assert_eq!(read(UTC_TIME, text), Err(DerError::Value), "{text}");
        }
    }

    #[test]
    fn every_day_reads_back() {
        for days in (-719_000..2_932_000).step_by(97) {
            let at = Timestamp::from_unix_seconds(days * SECONDS_PER_DAY + 3_723);
            let der = Writer::build(|w| write_time(w, at));
            assert_eq!(read_time(&mut Reader::new(&der)), Ok(at));
        }
    }
}
