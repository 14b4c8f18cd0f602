//! When things that expire are replaced: SVIDs by their holders, authorities by the server.

use std::sync::Arc;
use std::time::Duration;

use crate::Timestamp;

/// An availability target that leaves an SVID less use than this doesn't count.
const GRACE: Duration = Duration::from_secs(12 * 60 * 60);
/// Renewals by the target are spread over this.
const TARGET_JITTER: Duration = Duration::from_secs(600);
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

/// As [`renew_at`], but early enough that about `target` is left even if the signer then goes away, where that leaves the
/// SVID more than twelve hours of use: `early` (0 to 1) times ten minutes before that. SPIRE's `availability_target`.
pub fn renew_at_for(
    arrived: Timestamp,
    not_after: Timestamp,
    target: Option<Duration>,
    jitter: f64,
    early: f64,
) -> Timestamp {
    let by_half = renew_at(arrived, not_after, jitter);
    let lifetime = arrived.until(not_after);
    match target {
        Some(target) if lifetime.saturating_sub(target) > GRACE => {
            let earlier = TARGET_JITTER.mul_f64(early.clamp(0.0, 1.0));
            by_half.min(not_after - target - earlier)
        }
        _ => by_half,
    }
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

    /// Conforms: WAP-09
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
    fn an_availability_target_hastens_the_renewal_of_long_lives_only() {
        let start = Timestamp::from_unix_seconds(1_000_000);
        let at = |hours, target, early| {
            let end = start + hours * HOUR;
            start.until(renew_at_for(start, end, target, 0.0, early))
        };
        assert_eq!(at(72, Some(48 * HOUR), 0.0), 24 * HOUR);
        assert_eq!(at(72, Some(48 * HOUR), 1.0), 24 * HOUR - TARGET_JITTER);
        assert_eq!(at(72, Some(24 * HOUR), 0.0), 36 * HOUR, "half comes first");
        assert_eq!(
            at(36, Some(24 * HOUR), 0.0),
            18 * HOUR,
            "too little use would be left"
        );
        assert_eq!(at(72, None, 0.0), 36 * HOUR);
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
