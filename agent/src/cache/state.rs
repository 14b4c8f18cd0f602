//! All that the cache knows, without its lock, clock and waiting.
//!
//! Invariant: after each call, nobody waits for an entry that isn't there, and an SVID is held for a held entry only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::x509::X509SvidKey;
use credence_identity::{
    Bundle, Entry, EntryId, Selector, SelectorSet, SpiffeId, Timestamp, TrustDomain, rotation,
};
use credence_runtime::telemetry::Telemetry;

use super::CacheLimits;
use super::distrust::{Distrusted, DistrustedTokens, Waiting, hex_list};
use super::entries::Entries;
use super::shelf::{Document, EntryVersion, Kept, Moment, Shelf};
use super::subscribers::{SubscriberId, Subscribers};
use super::update::{CacheUpdate, Identity, Scope, WorkloadUpdate, without_hint_duplicates};

/// Removed entries that are remembered.
const MOST_GONE: usize = 256;

/// An entry for which an X.509-SVID is to be asked.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) entry: Arc<Entry>,
    /// The end of the SVID to be replaced, if there is one.
    pub(crate) expires_at: Option<Timestamp>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) bundle: Arc<Bundle>,
    pub(crate) federated: BTreeMap<TrustDomain, Arc<Bundle>>,
    pub(crate) entries: Entries,
    pub(crate) svids: Shelf<EntryId, X509SvidKey>,
    pub(crate) subscribers: Subscribers,
    /// X.509 authorities whose SVIDs are replaced, and the SVIDs that wait for that.
    distrusted: Distrusted,
    pub(crate) telemetry: Telemetry,
    waiting: Waiting,
    availability_target: Option<Duration>,
    /// Entries that were removed of late, the oldest first: whoever had an identity by one asks where it went.
    pub(crate) gone: VecDeque<Arc<Entry>>,
}

impl Document for X509SvidKey {
    fn spiffe_id(&self) -> &SpiffeId {
        &self.svid.id
    }

    fn not_after(&self) -> Timestamp {
        self.svid.not_after
    }

    fn authority(&self) -> Option<&[u8]> {
        self.svid.authority_key_id.as_deref()
    }
}

/// Whether callers can have the entry at all.
fn is_served(entry: &Entry, now: Timestamp) -> bool {
    !entry.store_svid && !entry.is_expired_at(now)
}

impl State {
    pub(crate) fn new(bundle: Arc<Bundle>, limits: &CacheLimits) -> Self {
        Self {
            bundle,
            federated: BTreeMap::new(),
            entries: Entries::default(),
            svids: Shelf::new(limits.x509_svids),
            availability_target: limits.availability_target,
            subscribers: Subscribers::default(),
            distrusted: Distrusted::default(),
            telemetry: Telemetry::default(),
            waiting: Waiting::default(),
            gone: VecDeque::new(),
        }
    }

    pub(crate) fn matching(&self, scope: Scope, caller: &SelectorSet, now: Timestamp) -> Vec<Arc<Entry>> {
        let mut entries = self.entries.matching(caller);
        entries.retain(|entry| is_served(entry, now));
        match scope {
            Scope::Workload => entries = without_hint_duplicates(entries),
            Scope::Delegate => entries.retain(|entry| !entry.admin && !entry.downstream),
            Scope::Process => {}
            Scope::AllBundles => entries.clear(),
        }
        entries
    }

    /// The entries of an identity, whoever has it.
    pub(crate) fn of_identity(&self, spiffe_id: &SpiffeId, now: Timestamp) -> Vec<Arc<Entry>> {
        let named = self.entries.iter().filter(|entry| entry.spiffe_id == *spiffe_id);
        named.filter(|entry| is_served(entry, now)).cloned().collect()
    }

    pub(crate) fn bundle_of(&self, trust_domain: &TrustDomain) -> Option<&Arc<Bundle>> {
        if *trust_domain == self.bundle.trust_domain {
            Some(&self.bundle)
        } else {
            self.federated.get(trust_domain)
        }
    }

    /// What the caller is to have now; marks it as used.
    pub(crate) fn update_for(
        &mut self,
        scope: Scope,
        caller: &SelectorSet,
        now: Timestamp,
    ) -> WorkloadUpdate {
        let entries = self.matching(scope, caller, now);
        self.update_of(scope, entries, now)
    }

    /// What a holder of these entries is to have now; marks it as used.
    pub(crate) fn update_of(
        &mut self,
        scope: Scope,
        entries: Vec<Arc<Entry>>,
        now: Timestamp,
    ) -> WorkloadUpdate {
        let federated = match scope {
            Scope::AllBundles => self.federated.clone(),
            Scope::Workload | Scope::Process | Scope::Delegate => entries
                .iter()
                .flat_map(|entry| &entry.federates_with)
                .filter_map(|name| self.federated.get_key_value(name))
                .map(|(name, bundle)| (name.clone(), bundle.clone()))
                .collect(),
        };
        let mut identities = Vec::with_capacity(entries.len());
        let mut unsigned = Vec::new();
        for entry in entries {
            self.svids.touch(&entry.id);
            let kept = self.svids.get(&entry.id);
            match kept.filter(|kept| kept.serves_at(&entry, now)) {
                Some(kept) => identities.push(Identity {
                    svid: kept.document().clone(),
                    entry,
                }),
                None => unsigned.push(entry),
            }
        }
        WorkloadUpdate {
            identities,
            unsigned,
            bundle: self.bundle.clone(),
            federated,
        }
    }

    /// Takes over what a synchronisation learned, and wakes those whom it concerns. Answers with the authorities of tokens
    /// that aren't to be relied on any more, if the own bundle changed.
    pub(crate) fn apply(&mut self, update: CacheUpdate) -> Option<DistrustedTokens> {
        let mut concerned = BTreeSet::new();
        let mut tokens = None;
        for bundle in update.bundles {
            tokens = self.put_bundle(bundle, &mut concerned).or(tokens);
        }
        for trust_domain in update.removed_bundles {
            if self.federated.remove(&trust_domain).is_some() {
                tracing::debug!(trust_domain_id = %trust_domain, "Bundle removed");
                self.concern_federated(&trust_domain, &mut concerned);
            }
        }
        for id in update.removed_entries {
            if let Some(old) = self.entries.remove(&id) {
                tracing::debug!(entry = %id, spiffe_id = %old.spiffe_id, "Entry removed");
                self.svids.remove(&id);
                concerned.extend(self.subscribers.of(&old));
                self.gone.push_back(old);
                if self.gone.len() > MOST_GONE {
                    self.gone.pop_front();
                }
            }
        }
        for entry in update.entries {
            self.put_entry(entry, &mut concerned);
        }
        self.subscribers.wake(concerned);
        tokens
    }

    /// Takes over a new SVID for this state of its entry. False if the entry has gone meanwhile.
    pub(crate) fn put_svid(
        &mut self,
        entry: &Entry,
        svid: Arc<X509SvidKey>,
        now: Moment,
        (jitter, early): (f64, f64),
    ) -> bool {
        if self.entries.get(&entry.id).is_none() {
            return false;
        }
        tracing::debug!(entry = %entry.id, spiffe_id = %entry.spiffe_id, "SVID updated");
        let authority = svid.authority();
        let replaced = self.svids.get(&entry.id);
        // It was under way when its authority was tainted. A server that goes on signing so isn't asked over and over.
        if self.distrusted.covers(authority)
            && replaced.is_none_or(|kept| kept.document().authority() != authority)
        {
            self.waiting.add(entry.id.clone());
        }
        let not_after = svid.svid.not_after;
        let renew_at = rotation::renew_at_for(now.wall, not_after, self.availability_target, jitter, early);
        let kept = Kept::due_at(svid, EntryVersion::of(entry), now, renew_at);
        self.svids.put(entry.id.clone(), kept);
        self.subscribers.wake(self.subscribers.of(entry));
        true
    }

    /// Lets SVIDs above the limit go that nobody waits for.
    pub(crate) fn evict(&mut self) {
        let wanted = |id: &EntryId, _: &Kept<X509SvidKey>| {
            self.entries
                .get(id)
                .is_some_and(|entry| self.subscribers.want(entry))
        };
        for id in self.svids.evict(wanted) {
            tracing::debug!(record_id = %id, "Removing SVID record");
        }
    }

    /// What is to be signed now, the most urgent first: what somebody waits for, then renewals, then as many others as
    /// there is room for (all but those whose entry says to wait for a caller).
    pub(crate) fn wanted(&mut self, now: Moment) -> Vec<Wanted> {
        self.release(now);
        let (mut urgent, mut renewals, mut spare) = (Vec::new(), Vec::new(), Vec::new());
        let mut newcomers = 0;
        for entry in self.entries.iter().filter(|entry| is_served(entry, now.wall)) {
            let want = |expires_at| Wanted {
                entry: entry.clone(),
                expires_at,
            };
            match self.svids.get(&entry.id) {
                Some(kept) if !kept.is_due_at(entry, now) => {}
                Some(kept) => {
                    let list = if kept.serves_at(entry, now.wall) {
                        &mut renewals
                    } else {
                        &mut urgent
                    };
                    list.push(want(Some(kept.document().svid.not_after)));
                }
                None if self.subscribers.want(entry) => {
                    newcomers += 1;
                    urgent.push(want(None));
                }
                None if !entry.disable_x509_svid_prefetch => spare.push(want(None)),
                None => {}
            }
        }
        spare.truncate(self.svids.room().saturating_sub(newcomers));
        urgent.append(&mut renewals);
        urgent.append(&mut spare);
        urgent
    }

    /// How long until the next renewal.
    pub(crate) fn due_in(&self, now: Moment) -> Option<Duration> {
        let renewals = self.svids.iter().map(|(_, kept)| kept.due_in(now));
        renewals.chain(self.waiting.due_in(now.monotonic)).min()
    }

    /// Lets SVIDs of tainted authorities be replaced whose turn it is.
    fn release(&mut self, now: Moment) {
        let batch = self.waiting.take_batch(now.monotonic);
        if batch.is_empty() {
            return;
        }
        let _counted = self
            .telemetry
            .counted("cache_manager.workload.process_tainted_x509_svids");
        let mut tainted = 0_u32;
        for id in &batch {
            let svid = self.svids.get(id).map(Kept::document);
            // It may have been renewed while it waited.
            if svid.is_some_and(|svid| self.distrusted.covers(svid.authority())) {
                self.svids.outdate(id);
                tainted += 1;
            }
        }
        let key = "cache_manager.tainted_x509_svids.workload";
        self.telemetry.sample(key, f64::from(tainted));
        tracing::info!(tainted_x509_svids = tainted, "Tainted X.509 SVIDs");
        match self.waiting.len() {
            0 => tracing::info!("Finished processing all tainted entries"),
            count => tracing::info!(count, "There are tainted X.509 SVIDs left to be processed"),
        }
    }

    /// Puts the SVIDs in line that name an authority of the own bundle which was tainted or revoked.
    fn distrust(&mut self, before: &Bundle) -> DistrustedTokens {
        let mut x509 = Distrusted::x509(before, &self.bundle);
        let named = self
            .svids
            .iter()
            .filter_map(|(_, kept)| kept.document().authority());
        x509.remember(&self.distrusted, named);
        let tokens = DistrustedTokens::between(before, &self.bundle);
        if !x509.newly_tainted.is_empty() {
            tracing::debug!(
                subject_key_ids = hex_list(&x509.newly_tainted),
                "New tainted X.509 authorities found"
            );
            match self.svids.len() {
                0 => tracing::debug!("No SVID entries to process for tainted X.509 authorities"),
                count => tracing::debug!(
                    count,
                    "Scheduled rotation for SVID entries due to tainted X.509 authorities"
                ),
            }
        }
        tokens.log();
        let (mut waited_for, mut others) = (Vec::new(), Vec::new());
        for (id, kept) in self.svids.iter() {
            let authority = kept.document().authority();
            // What is in line for another reason stays there.
            if x509.covers(authority) && !self.distrusted.covers(authority) {
                let wanted = self
                    .entries
                    .get(id)
                    .is_some_and(|entry| self.subscribers.want(entry));
                let line = if wanted { &mut waited_for } else { &mut others };
                line.push(id.clone());
            }
        }
        self.waiting.extend(waited_for.into_iter().chain(others));
        self.distrusted = x509;
        tokens
    }

    fn put_bundle(
        &mut self,
        bundle: Arc<Bundle>,
        concerned: &mut BTreeSet<SubscriberId>,
    ) -> Option<DistrustedTokens> {
        let name = bundle.trust_domain.clone();
        let old = if name == self.bundle.trust_domain {
            Some(std::mem::replace(&mut self.bundle, bundle.clone()))
        } else {
            self.federated.insert(name.clone(), bundle.clone())
        };
        if old.as_ref() == Some(&bundle) {
            return None;
        }
        let event = if old.is_some() {
            "Bundle updated"
        } else {
            "Bundle added"
        };
        tracing::debug!(trust_domain_id = %name, "{event}");
        if name == self.bundle.trust_domain {
            concerned.extend(self.subscribers.iter().map(|(id, _)| id));
            old.map(|old| self.distrust(&old))
        } else {
            self.concern_federated(&name, concerned);
            None
        }
    }

    fn concern_federated(&self, trust_domain: &TrustDomain, concerned: &mut BTreeSet<SubscriberId>) {
        concerned.extend(self.subscribers.of_all_bundles());
        for entry in self
            .entries
            .iter()
            .filter(|entry| entry.federates_with.contains(trust_domain))
        {
            concerned.extend(self.subscribers.of(entry));
        }
    }

    fn put_entry(&mut self, entry: Arc<Entry>, concerned: &mut BTreeSet<SubscriberId>) {
        let old = self.entries.put(entry.clone());
        self.gone.retain(|gone| gone.id != entry.id);
        if old.as_ref() == Some(&entry) {
            return;
        }
        if old
            .as_ref()
            .is_some_and(|old| EntryVersion::of(old) == EntryVersion::of(&entry))
        {
            self.svids.outdate(&entry.id);
        }
        let known = |old: &Entry, selector: &Selector| old.selectors.contains(selector);
        let added = entry
            .selectors
            .iter()
            .filter(|s| !old.as_ref().is_some_and(|old| known(old, s)))
            .count();
        if let Some(old) = &old {
            let removed = old.selectors.iter().filter(|s| !known(&entry, s)).count();
            tracing::debug!(entry = %entry.id, selectors_added = added, selectors_removed = removed,
                spiffe_id = %entry.spiffe_id, "Entry updated");
            concerned.extend(self.subscribers.of(old));
        } else {
            tracing::debug!(entry = %entry.id, selectors_added = added, spiffe_id = %entry.spiffe_id, "Entry created");
        }
        concerned.extend(self.subscribers.of(&entry));
    }
}
