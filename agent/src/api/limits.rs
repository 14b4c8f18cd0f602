//! SPIRE's optional rate limits: calls a second of one method by callers with the same selectors. More are refused.
//!
//! The clock is tokio's. Invariant: within any t seconds such callers get at most `limit × (t + 1)` calls of a method.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use credence_identity::SelectorSet;
use tokio::time::Instant;

/// `experimental.ratelimit`: calls a second of each method, which are the burst too; none for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimits {
    /// Streams of X.509-SVIDs opened.
    pub fetch_x509_svid: Option<u32>,
    /// JWT-SVIDs.
    pub fetch_jwt_svid: Option<u32>,
    /// Streams of X.509 bundles opened.
    pub fetch_x509_bundles: Option<u32>,
    /// Streams of JWT bundles opened.
    pub fetch_jwt_bundles: Option<u32>,
    /// Envoy's streams opened.
    pub stream_secrets: Option<u32>,
    /// Envoy's single calls.
    pub fetch_secrets: Option<u32>,
}

/// Those of one API at work.
#[derive(Debug)]
pub(super) struct Limits {
    by_method: Vec<(&'static str, Limiter<SelectorSet>)>,
}

impl Limits {
    /// Methods with calls a second, none for no limit.
    pub(super) fn new<const N: usize>(limits: [(&'static str, Option<u32>); N]) -> Self {
        let limited = limits
            .into_iter()
            .filter_map(|(method, limit)| Some((method, Limiter::new(limit?)?)));
        Self {
            by_method: limited.collect(),
        }
    }

    /// Whether callers with these selectors may make one more call of the method now.
    pub(super) fn allow(&self, method: &str, caller: &SelectorSet) -> bool {
        let limiter = self.by_method.iter().find(|(name, _)| *name == method);
        limiter.is_none_or(|(_, limiter)| limiter.allow(caller))
    }
}

/// One bucket for each caller, kept as the moment at which it is full again, and dropped some time after.
#[derive(Debug)]
pub(in crate::api) struct Limiter<K> {
    cost: Duration,
    buckets: Mutex<Buckets<K>>,
}

#[derive(Debug)]
struct Buckets<K> {
    full_at: HashMap<K, Instant>,
    swept: Instant,
}

/// What a bucket holds, as time.
const BURST: Duration = Duration::from_secs(1);
/// Full buckets are dropped this often.
const SWEEP: Duration = Duration::from_secs(60);

impl<K: Clone + Eq + Hash> Limiter<K> {
    /// Lets each caller call `limit` times a second; none for 0.
    pub(in crate::api) fn new(limit: u32) -> Option<Self> {
        let buckets = Mutex::new(Buckets {
            full_at: HashMap::new(),
            swept: Instant::now(),
        });
        Some(Self {
            cost: BURST.checked_div(limit)?,
            buckets,
        })
    }

    /// Whether the caller may call once more now.
    pub(in crate::api) fn allow(&self, caller: &K) -> bool {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(buckets.swept) >= SWEEP {
            buckets.swept = now;
            buckets.full_at.retain(|_, full_at| *full_at > now);
        }
        let full_at = buckets.full_at.entry(caller.clone()).or_insert(now);
        let after = (*full_at).max(now) + self.cost;
        let fits = after.duration_since(now) <= BURST;
        if fits {
            *full_at = after;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::testing::selectors;

    /// Conforms: WAP-50
    #[tokio::test(start_paused = true)]
    async fn callers_with_the_same_selectors_share_a_second_of_calls() {
        let limits = Limits::new([("FetchJWTSVID", Some(3)), ("FetchX509SVID", None)]);
        let caller = |uid| selectors(&[uid]).into_iter().collect::<SelectorSet>();
        let calls = |uid, count: usize| {
            (0..count)
                .filter(|_| limits.allow("FetchJWTSVID", &caller(uid)))
                .count()
        };
        assert_eq!((calls(1, 5), calls(2, 5)), (3, 3));
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(calls(1, 5), 1, "a third of a second makes one call");
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(calls(1, 5), 3);
        assert!(
            (0..100).all(|_| limits.allow("FetchX509SVID", &caller(1))),
            "without a limit"
        );
    }
}
