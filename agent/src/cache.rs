//! Entries and SVIDs that this agent holds: who may have what, and what must be signed.
//!
//! Owns matching, the SVIDs and their keys, and the subscriptions of open streams. Never talks to the server: the
//! synchronisation puts in what it learned ([`Cache::apply`]), and the issuing task takes out what is to be signed.
//! Invariants: nothing expired is handed out; an SVID with a subscriber is never evicted; the lock is held for look-ups
//! only, never across a wait.

pub(crate) mod distrust;
mod entries;
mod lent;
mod metrics;
mod shelf;
mod state;
mod subscribers;
mod subscription;
mod survey;
#[cfg(test)]
pub(crate) mod testing;
mod tokens;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use credence_crypto::jwt::JwtSvid;
use credence_crypto::x509::X509SvidKey;
use credence_identity::{Bundle, Entry, EntryId, SelectorSet, SpiffeId, TrustDomain};
use credence_runtime::clock::Clock;
use credence_runtime::telemetry::{Measured, Telemetry};
use tokio::sync::Notify;

pub use shelf::EntryVersion;
pub(crate) use state::Wanted;
pub use subscription::Subscription;
pub(crate) use survey::{HeldEntry, Survey};
pub use tokens::{TokenError, TokenIssuer, WitSvidKey};
pub(crate) use update::without_hint_duplicates;
pub use update::{CacheUpdate, Identity, Scope, WorkloadUpdate};

use shelf::Moment;
use state::State;
use subscription::Follower;
use tokens::TokenCache;

/// How much the cache may hold, and how long it waits.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// X.509-SVIDs held when nobody waits for more: SPIRE's `x509_svid_cache_max_size`.
    pub x509_svids: usize,
    /// JWT-SVIDs held at most, and WIT-SVIDs that nobody has an open stream for: SPIRE's `jwt_svid_cache_max_size`.
    pub jwt_svids: usize,
    /// How long the server gets to renew a JWT-SVID that still serves: SPIRE's `jwt_svid_cache_hit_timeout`.
    pub jwt_cache_hit_timeout: Duration,
    /// How long X.509-SVIDs should serve without the server: SPIRE's `availability_target`.
    pub availability_target: Option<Duration>,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            x509_svids: 1000,
            jwt_svids: 1000,
            jwt_cache_hit_timeout: Duration::from_secs(2),
            availability_target: None,
        }
    }
}

/// The agent's cache; clones share it.
#[derive(Debug, Clone)]
pub struct Cache {
    shared: Arc<Shared>,
    jwt: TokenCache<JwtSvid>,
    wit: TokenCache<WitSvidKey>,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Something may have to be signed.
    work: Notify,
    measured: Measured,
}

impl Cache {
    /// A cache without entries, whose own trust domain is the bundle's.
    pub fn new<I>(clock: Arc<dyn Clock>, bundle: Arc<Bundle>, limits: CacheLimits, issuer: Arc<I>) -> Self
    where
        I: TokenIssuer<JwtSvid> + TokenIssuer<WitSvidKey> + 'static,
    {
        let (size, patience) = (limits.jwt_svids, limits.jwt_cache_hit_timeout);
        let jwt = TokenCache::new(clock.clone(), issuer.clone(), size, patience);
        let wit = TokenCache::new(clock.clone(), issuer, size, patience);
        let state = Mutex::new(State::new(bundle, &limits));
        Self {
            shared: Arc::new(Shared {
                clock,
                state,
                work: Notify::new(),
                measured: Measured::default(),
            }),
            jwt,
            wit,
        }
    }

    /// Measures what it does from now on.
    pub fn measure_by(&self, telemetry: &Telemetry) {
        self.shared.measured.by(telemetry);
        self.lock().telemetry = telemetry.clone();
        self.show_sizes();
    }

    /// By what it is measured, and those who keep it in step.
    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.shared.measured
    }

    /// What a caller with these selectors has now. It asks for no signature: what isn't signed is `pending`, and comes
    /// sooner while a [`Subscription`] waits for it.
    pub fn identities(&self, caller: &SelectorSet) -> WorkloadUpdate {
        self.identities_in(Scope::Workload, caller)
    }

    /// As [`Cache::identities`], for another than the workload itself.
    pub fn identities_in(&self, scope: Scope, caller: &SelectorSet) -> WorkloadUpdate {
        let now = self.shared.clock.now();
        self.lock().update_for(scope, caller, now)
    }

    /// Follows what a caller with these selectors has. While the subscription lives, its SVIDs are signed and kept.
    pub fn subscribe(&self, caller: SelectorSet) -> Subscription {
        self.subscribe_in(Scope::Workload, caller)
    }

    /// As [`Cache::subscribe`], for another than the workload itself.
    pub fn subscribe_in(&self, scope: Scope, caller: SelectorSet) -> Subscription {
        self.subscribe_as(Follower::Caller(scope, caller))
    }

    /// Follows an identity by its name, whether an entry has it yet or not: for what the operator of this agent asked
    /// for, never on behalf of a process.
    pub fn subscribe_to(&self, spiffe_id: SpiffeId) -> Subscription {
        self.subscribe_as(Follower::Holder(spiffe_id))
    }

    fn subscribe_as(&self, follower: Follower) -> Subscription {
        let now = self.shared.clock.now();
        let mut state = self.lock();
        let (id, changed) = match &follower {
            Follower::Caller(scope, caller) => {
                state.subscribers.add(caller.clone(), *scope == Scope::AllBundles)
            }
            Follower::Holder(spiffe_id) => state.subscribers.add_holder(spiffe_id.clone()),
        };
        let unsigned = |entry: &Arc<Entry>| state.svids.get(&entry.id).is_none();
        if follower.entries(&state, now).iter().any(unsigned) {
            self.shared.work.notify_one();
        }
        drop(state);
        Subscription::new(self.clone(), id, follower, changed)
    }

    /// The entries of a caller with these selectors, by id; of several with one hint the oldest.
    pub fn matching(&self, caller: &SelectorSet) -> Vec<Arc<Entry>> {
        self.matching_in(Scope::Workload, caller)
    }

    /// As [`Cache::matching`], for another than the workload itself.
    pub fn matching_in(&self, scope: Scope, caller: &SelectorSet) -> Vec<Arc<Entry>> {
        let now = self.shared.clock.now();
        self.lock().matching(scope, caller, now)
    }

    /// The entries of an identity, whoever has it, by id.
    pub fn entries_of(&self, spiffe_id: &SpiffeId) -> Vec<Arc<Entry>> {
        let now = self.shared.clock.now();
        self.lock().of_identity(spiffe_id, now)
    }

    /// The bundle of the own trust domain.
    pub fn bundle(&self) -> Arc<Bundle> {
        self.lock().bundle.clone()
    }

    /// The bundle of that trust domain, own or foreign.
    pub fn bundle_of(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        self.lock().bundle_of(trust_domain).cloned()
    }

    /// A JWT-SVID of the entry for these audiences, held or new. The entry is one that [`Cache::matching`] returned for
    /// the caller. Entries with a `jti` get a new token each time.
    ///
    /// Cancel safe: other callers of the same token go on.
    ///
    /// # Errors
    /// [`TokenError`], when no held token serves either.
    pub async fn jwt_svid(
        &self,
        entry: &Arc<Entry>,
        audience: &[String],
    ) -> Result<Arc<JwtSvid>, TokenError> {
        self.jwt.fetch(entry, audience).await
    }

    /// A WIT-SVID of the entry with its key, held or new. The entry is one that [`Cache::matching`] returned for the
    /// caller.
    ///
    /// Cancel safe: other callers of the same token go on.
    ///
    /// # Errors
    /// [`TokenError`], when no held token serves either.
    pub async fn wit_svid(&self, entry: &Arc<Entry>) -> Result<Arc<WitSvidKey>, TokenError> {
        self.wit.fetch(entry, &[]).await
    }

    /// How long until the entry's WIT-SVID is to be replaced; none if none is held.
    pub(crate) fn wit_svid_due_in(&self, entry: &Entry) -> Option<Duration> {
        self.wit.due_in(entry, &[])
    }

    /// How many X.509-SVIDs are held.
    pub fn x509_svid_count(&self) -> usize {
        self.lock().svids.len()
    }

    /// How many JWT-SVIDs are held.
    pub fn jwt_svid_count(&self) -> usize {
        self.jwt.len()
    }

    /// How many entries are held.
    pub fn entry_count(&self) -> usize {
        self.lock().entries.len()
    }

    /// The entries held, as a synchronisation compares them with the server's.
    pub fn versions(&self) -> BTreeMap<EntryId, EntryVersion> {
        self.lock()
            .entries
            .iter()
            .map(|entry| (entry.id.clone(), EntryVersion::of(entry)))
            .collect()
    }

    /// The foreign trust domains that the entries would federate with after the update.
    pub(crate) fn federates_with_after(&self, update: &CacheUpdate) -> BTreeSet<TrustDomain> {
        let replaced: BTreeSet<&EntryId> = update
            .removed_entries
            .iter()
            .chain(update.entries.iter().map(|entry| &entry.id))
            .collect();
        let state = self.lock();
        let own = &state.bundle.trust_domain;
        let staying = state.entries.iter().filter(|entry| !replaced.contains(&entry.id));
        let names = staying
            .chain(&update.entries)
            .flat_map(|entry| &entry.federates_with);
        names.filter(|name| *name != own).cloned().collect()
    }

    /// The foreign trust domains whose bundles are held.
    pub(crate) fn federated(&self) -> Vec<TrustDomain> {
        self.lock().federated.keys().cloned().collect()
    }

    /// What the push stream opens with: SHA-256 over id, revision and creation of each entry, by id; empty for none.
    pub(crate) fn digest(&self) -> Vec<u8> {
        let mut text = String::new();
        for entry in self.lock().entries.iter() {
            let (id, revision, created) = (&entry.id, entry.revision_number, entry.created_at.unix_seconds());
            text.push_str(&format!("{id}\0{revision}\0{created}\n"));
        }
        if text.is_empty() {
            Vec::new()
        } else {
            credence_crypto::sha256(text.as_bytes()).to_vec()
        }
    }

    /// Takes over what a synchronisation learned, and tells those whom it concerns.
    pub fn apply(&self, update: CacheUpdate) {
        if self.shared.measured.is_on() {
            self.count_update(&update);
        }
        let distrusted = self.lock().apply(update);
        if let Some(distrusted) = distrusted {
            self.distrust_tokens(distrusted);
        }
        self.shared.work.notify_one();
    }

    /// What is to be signed now, the most urgent first.
    pub(crate) fn wanted(&self) -> Vec<Wanted> {
        let now = self.shared.now();
        self.lock().wanted(now)
    }

    /// How long until a renewal is due.
    pub(crate) fn due_in(&self) -> Option<Duration> {
        let now = self.shared.now();
        self.lock().due_in(now)
    }

    /// Waits until something may have to be signed. One task may wait. Cancel safe.
    pub(crate) async fn work(&self) {
        self.shared.work.notified().await;
    }

    /// Takes over SVIDs that arrived for these states of their entries.
    pub(crate) fn put_x509_svids(&self, svids: Vec<(Arc<Entry>, X509SvidKey)>) {
        let now = self.shared.now();
        let mut state = self.lock();
        for (entry, svid) in svids {
            let random = (rand::random_range(-1.0..=1.0), rand::random_range(0.0..=1.0));
            if !state.put_svid(&entry, Arc::new(svid), now, random) {
                tracing::debug!(entry = %entry.id, "Entry not found");
            }
        }
        state.evict();
    }

    /// Lets X.509-SVIDs above the limit go that nobody waits for.
    pub(crate) fn evict(&self) {
        self.lock().evict();
    }

    /// Whether X.509-SVIDs are held above the limit.
    pub(crate) fn is_over_limit(&self) -> bool {
        self.lock().svids.is_over_limit()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn now(&self) -> Moment {
        Moment::now(&*self.clock)
    }
}

#[cfg(test)]
mod tests;
