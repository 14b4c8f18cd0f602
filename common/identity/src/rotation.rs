//! When things that expire are replaced: SVIDs by their holders, authorities by the server.

use std::sync::Arc;
use std::time::Duration;

use crate::Timestamp;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Something that is valid for a span of time.
pub trait Lifetime {
    /// When it was made. A certificate's backdating does not count: the thresholds are measured from here.
    fn issued_at(&self) -> Timestamp;
    /// The moment from which it is not valid any more.
    fn not_after(&self) -> Timestamp;
}

impl<T: Lifetime> Lifetime for Arc<T> {
    fn issued_at(&self) -> Timestamp {
        T::issued_at(self)
    }

    fn not_after(&self) -> Timestamp {
        T::not_after(self)
    }
}

/// When the holder of an SVID asks for the next one: after half of the time that was left when it arrived, moved by
/// `jitter` (-1 to 1, clamped) times a tenth of that half, but not within the first second.
///
/// The time left counts, not the lifetime: backdating, and a signer that cut the end, must not move the renewal.
pub fn renew_at(arrived: Timestamp, not_after: Timestamp, jitter: f64) -> Timestamp {
    let half = arrived.until(not_after) / 2;
    let jitter = if jitter.is_nan() {
        0.0
    } else {
        jitter.clamp(-1.0, 1.0)
    };
    arrived + half.mul_f64(1.0 + jitter / 10.0).max(Duration::from_secs(1))
}

/// When the successor of an authority with this lifetime is prepared: half of it before the end, at most 30 days
/// before, as SPIRE does.
pub fn prepare_at(issued_at: Timestamp, not_after: Timestamp) -> Timestamp {
    not_after - (issued_at.until(not_after) / 2).min(30 * DAY)
}

/// When the prepared successor takes over: a sixth of the lifetime before the end, at most 7 days before, as SPIRE does.
pub fn activate_at(issued_at: Timestamp, not_after: Timestamp) -> Timestamp {
    not_after - (issued_at.until(not_after) / 6).min(7 * DAY)
}

/// From when on an authority that was prepared late may take over: a minute after it was published, or half of the
/// time its predecessor had left, if that is less. SPIRE activates it at once, before any verifier has seen it.
pub fn settled_at(prepared_at: Timestamp, predecessor_not_after: Timestamp) -> Timestamp {
    prepared_at + (prepared_at.until(predecessor_not_after) / 2).min(Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn renewal_is_at_half_of_what_was_left_give_or_take_a_tenth() {
        let start = Timestamp::from_unix_seconds(1_000_000);
        assert_eq!(renew_at(start, start + HOUR, 0.0), start + HOUR / 2);
        assert_eq!(
            renew_at(start, start + HOUR, 1.0),
            start + Duration::from_secs(1980)
        );
        assert_eq!(
            renew_at(start, start + HOUR, -7.0),
            start + Duration::from_secs(1620)
        );
        assert_eq!(renew_at(start, start + HOUR, f64::NAN), start + HOUR / 2);
    }

    #[test]
    fn renewal_is_never_within_a_second_of_the_arrival() {
        let start = Timestamp::from_unix_seconds(1_000_000);
        for end in [start - HOUR, start, start + Duration::from_millis(1500)] {
            assert_eq!(renew_at(start, end, -1.0), start + Duration::from_secs(1));
        }
    }

    #[test]
    fn authorities_rotate_at_spires_thresholds() {
        let start = Timestamp::EPOCH;
        assert_eq!(prepare_at(start, start + DAY), start + 12 * HOUR);
        assert_eq!(activate_at(start, start + DAY), start + 20 * HOUR);
        assert_eq!(prepare_at(start, start + 365 * DAY), start + 335 * DAY);
        assert_eq!(activate_at(start, start + 365 * DAY), start + 358 * DAY);
    }

    #[test]
    fn a_late_successor_settles_for_a_minute_or_half_of_what_is_left() {
        let now = Timestamp::from_unix_seconds(1_000_000);
        assert_eq!(settled_at(now, now + HOUR), now + Duration::from_secs(60));
        assert_eq!(
            settled_at(now, now + Duration::from_secs(10)),
            now + Duration::from_secs(5)
        );
        assert_eq!(settled_at(now, now - HOUR), now);
    }
}
