//! Rate limits: token buckets per source IP that make a call wait rather than fail, as SPIRE's do.
//!
//! Owns the buckets. Local callers never reach them. The clock is tokio's, so that paused tests drive it.
//!
//! Invariant: within any span of t seconds a source IP gets at most `limit × (t + 1)` tokens of a bucket; a caller
//! that goes away while it waits gives its tokens back.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::caller::Caller;

#[cfg(test)]
mod tests;

/// Buckets that weren't touched for this long are dropped.
const UNUSED: Duration = Duration::from_secs(60);

/// Why a call was turned away at once.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitError {
    /// More was asked at once than the bucket ever holds; waiting wouldn't help. Answered `ResourceExhausted`.
    #[error("rate ({asked}) exceeds burst size ({burst})")]
    ExceedsBurst { asked: usize, burst: u32 },
}

/// The buckets of the server's API.
#[derive(Debug)]
pub(crate) struct Limits {
    attest: Option<Limiter>,
    sign: Option<SignLimits>,
    status: Limiter,
    publish: Limiter,
}

#[derive(Debug)]
struct SignLimits {
    csr: Limiter,
    jwt: Limiter,
    wit: Limiter,
}

/// What is taken from which bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bucket {
    /// `AttestAgent`: one a second.
    Attest,
    /// `BatchNewX509SVID`, `NewDownstreamX509CA` and `RenewAgent` together: 500 a second.
    Csr,
    /// `NewJWTSVID`: 500 a second.
    Jwt,
    /// `BatchNewWITSVID`: 500 a second.
    Wit,
    /// `PostStatus`: ten a second.
    Status,
    /// `PublishJWTAuthority`: 500 a second.
    Publish,
}

impl Limits {
    /// `attestation` and `signing` are the switches of the configuration's `ratelimit` block.
    pub(crate) fn new(attestation: bool, signing: bool) -> Self {
        Self {
            attest: attestation.then(|| Limiter::new(1)),
            sign: signing.then(|| SignLimits {
                csr: Limiter::new(500),
                jwt: Limiter::new(500),
                wit: Limiter::new(500),
            }),
            status: Limiter::new(10),
            publish: Limiter::new(500),
        }
    }

    /// Whether the configuration has this limit on.
    pub(crate) fn is_on(&self, bucket: Bucket) -> bool {
        self.limiter(bucket).is_some()
    }

    fn limiter(&self, bucket: Bucket) -> Option<&Limiter> {
        match bucket {
            Bucket::Attest => self.attest.as_ref(),
            Bucket::Csr => self.sign.as_ref().map(|sign| &sign.csr),
            Bucket::Jwt => self.sign.as_ref().map(|sign| &sign.jwt),
            Bucket::Wit => self.sign.as_ref().map(|sign| &sign.wit),
            Bucket::Status => Some(&self.status),
            Bucket::Publish => Some(&self.publish),
        }
    }

    /// Takes `count` tokens for `caller`, waiting until they are there.
    ///
    /// # Errors
    ///
    /// [`LimitError::ExceedsBurst`] at once where `count` is more than the bucket ever holds.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while it waits gives the tokens back.
    pub(crate) async fn take(&self, bucket: Bucket, caller: &Caller, count: usize) -> Result<(), LimitError> {
        match (self.limiter(bucket), caller.ip()) {
            (Some(limiter), Some(ip)) => limiter.take(ip, count).await,
            _ => Ok(()),
        }
    }
}

/// One token bucket per source IP, each of `limit` tokens, refilled with `limit` tokens a second.
///
/// A bucket is kept as the moment at which it is full again: taking tokens moves that moment on, and a caller waits
/// for as long as it lies more than one second ahead.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: u32,
    state: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    full_at: HashMap<IpAddr, Instant>,
    swept: Instant,
}

impl Limiter {
    fn new(limit: u32) -> Self {
        let state = Buckets {
            full_at: HashMap::new(),
            swept: Instant::now(),
        };
        Self {
            limit,
            state: Mutex::new(state),
        }
    }

    async fn take(&self, ip: IpAddr, count: usize) -> Result<(), LimitError> {
        let exceeds = || LimitError::ExceedsBurst {
            asked: count,
            burst: self.limit,
        };
        let tokens = u32::try_from(count)
            .ok()
            .filter(|tokens| *tokens <= self.limit)
            .ok_or_else(exceeds)?;
        let cost = Duration::from_secs(1) * tokens / self.limit;
        let Some(until) = self.reserve(ip, cost) else {
            return Ok(());
        };
        let refund = Refund {
            limiter: self,
            ip,
            cost,
        };
        tokio::time::sleep_until(until).await;
        std::mem::forget(refund);
        Ok(())
    }

    /// Takes the tokens and says how long the caller has to wait for them, if at all.
    fn reserve(&self, ip: IpAddr, cost: Duration) -> Option<Instant> {
        let now = Instant::now();
        let mut buckets = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(buckets.swept) >= UNUSED {
            buckets.swept = now;
            buckets.full_at.retain(|_, full_at| *full_at > now);
        }
        let full_at = buckets.full_at.entry(ip).or_insert(now);
        *full_at = (*full_at).max(now) + cost;
        let wait = full_at.duration_since(now).saturating_sub(Duration::from_secs(1));
        (!wait.is_zero()).then(|| now + wait)
    }
}

/// Gives the tokens of a caller that stopped waiting back.
struct Refund<'a> {
    limiter: &'a Limiter,
    ip: IpAddr,
    cost: Duration,
}

impl Drop for Refund<'_> {
    fn drop(&mut self) {
        let mut buckets = self.limiter.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full_at) = buckets.full_at.get_mut(&self.ip) {
            *full_at = full_at.checked_sub(self.cost).unwrap_or(*full_at);
        }
    }
}
