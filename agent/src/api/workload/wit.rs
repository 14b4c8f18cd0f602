//! A stream of WIT-SVIDs with the keys that they are bound to, renewed while it is open.
//!
//! Owns when a stream looks again: at a change of the caller's entries, when a token is due, and soon after a failure.
//! Never takes a token away for want of a newer one. Invariant: two consecutive messages differ.

use std::sync::Arc;
use std::time::Duration;

use credence_crypto::private_jwk;
use credence_identity::{Entry, SelectorSet, SpiffeId};
use credence_proto::spiffe_workload::{Witsvid, WitsvidRequest, WitsvidResponse};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::WorkloadCall;
use crate::api::call::log;
use crate::api::follow::{Messages, Source, messages};
use crate::api::tokens;
use crate::cache::{Cache, Subscription, TokenError, WitSvidKey};

/// After a look that left something to be wished for.
const RETRY: Duration = Duration::from_secs(5);
/// The wall clock, by which tokens end, may be stepped while the stream sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// An identity of the caller with its token.
type Shown = (Arc<Entry>, Arc<WitSvidKey>);

/// The caller's tokens, or the one that it asks for, now and again with each change.
pub(super) async fn follow(
    call: WorkloadCall,
    request: &WitsvidRequest,
) -> Result<Messages<WitsvidResponse>, Status> {
    let wanted = call.wanted(&request.spiffe_id)?;
    let selectors = call.attest().await?;
    call.check_rate(&selectors)?;
    let entries = call.entries(&selectors, wanted.as_ref())?;
    let subscription = call.ground.cache.subscribe(selectors.clone());
    let mut follower = Follower {
        call,
        wanted,
        selectors,
        subscription,
        entries,
        looked: Instant::now(),
        shown: Vec::new(),
    };
    let found = match follower.look().await? {
        (found, Some(error)) if found.is_empty() => {
            let kind = "WIT-SVID";
            return Err(tokens::failed(&follower.call, &follower.selectors, kind, &error));
        }
        (found, _) => found,
    };
    let first = follower.show(found);
    Ok(messages(first, follower))
}

struct Follower {
    call: WorkloadCall,
    wanted: Option<SpiffeId>,
    selectors: SelectorSet,
    subscription: Subscription,
    entries: Vec<Arc<Entry>>,
    looked: Instant,
    shown: Vec<Shown>,
}

impl Source<WitsvidResponse> for Follower {
    async fn next(&mut self) -> Result<WitsvidResponse, Status> {
        loop {
            tokio::select! {
                () = self.subscription.changed() => {}
                () = due(&self.call.ground.cache, &self.entries, self.looked) => {}
                () = self.call.caller.ended() => {}
                () = self.call.ground.shutdown.cancelled() => return Err(self.call.shutting_down()),
            }
            let selectors = self.call.attest().await?;
            if selectors != self.selectors {
                self.subscription = self.call.ground.cache.subscribe(selectors.clone());
                self.selectors = selectors;
            }
            self.entries = self.call.entries(&self.selectors, self.wanted.as_ref())?;
            let (found, error) = self.look().await?;
            if let Some(error) = error {
                log!(warn, self.call, registered = true, %error, "Could not fetch WIT-SVID");
            }
            if !found.is_empty() && !same(&self.shown, &found) {
                return Ok(self.show(found));
            }
        }
    }
}

impl Follower {
    /// A token for each entry, as far as there is one; and why there is none, or no newer one than was shown.
    async fn look(&mut self) -> Result<(Vec<Shown>, Option<TokenError>), Status> {
        let cache = &self.call.ground.cache;
        let fetched = tokio::select! {
            fetched = join_all(self.entries.iter().map(|entry| cache.wit_svid(entry))) => fetched,
            () = self.call.ground.shutdown.cancelled() => return Err(self.call.shutting_down()),
        };
        // A fetch may have taken long: what it brought is for the process that asked.
        self.call.still_there()?;
        self.looked = Instant::now();
        let now = self.call.ground.clock.now();
        let (mut found, mut failure) = (Vec::with_capacity(fetched.len()), None);
        for (entry, fetched) in self.entries.iter().zip(fetched) {
            match fetched {
                Ok(token) => found.push((entry.clone(), token)),
                Err(error) => {
                    let serves = |(old, token): &&Shown| {
                        old.id == entry.id && token.svid.id == entry.spiffe_id && now < token.svid.expires_at
                    };
                    let shown = self.shown.iter().find(serves);
                    found.extend(shown.map(|(_, token)| (entry.clone(), token.clone())));
                    failure = Some(error);
                }
            }
        }
        Ok((found, failure))
    }

    fn show(&mut self, found: Vec<Shown>) -> WitsvidResponse {
        let now = self.call.ground.clock.now();
        for (entry, token) in &found {
            log!(
                debug,
                self.call,
                registered = true,
                spiffe_id = %entry.spiffe_id,
                ttl = now.until(token.svid.expires_at).as_secs_f64(),
                "Fetched WIT SVID"
            );
        }
        let svids = found.iter().map(|(entry, token)| Witsvid {
            spiffe_id: entry.spiffe_id.to_string(),
            wit_svid: token.svid.token.clone(),
            wit_svid_key: private_jwk(&token.key).as_deref().cloned().unwrap_or_default(),
            hint: entry.hint.to_string(),
        });
        let message = WitsvidResponse {
            svids: svids.collect(),
        };
        self.shown = found;
        message
    }
}

fn same(old: &[Shown], new: &[Shown]) -> bool {
    old.len() == new.len()
        && old
            .iter()
            .zip(new)
            .all(|((a, x), (b, y))| Arc::ptr_eq(x, y) && a.hint == b.hint)
}

/// Waits until a token of these entries is to be replaced, or to be had at last.
async fn due(cache: &Cache, entries: &[Arc<Entry>], looked: Instant) {
    loop {
        let due = |entry: &Arc<Entry>| cache.wit_svid_due_in(entry).unwrap_or_default();
        let first = entries.iter().map(due).min().unwrap_or(LONGEST_SLEEP);
        let wait = first.max(RETRY.saturating_sub(looked.elapsed()));
        if wait.is_zero() {
            return;
        }
        sleep(wait.min(LONGEST_SLEEP)).await;
    }
}
