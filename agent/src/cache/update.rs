//! What goes into the cache and what a caller gets out of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use credence_crypto::x509::X509SvidKey;
use credence_identity::{Bundle, Entry, EntryId, TrustDomain};

/// For whom the cache is asked: which of the entries that match count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A workload for itself: of several identities with one hint the oldest.
    Workload,
    /// Who a process is, whatever it may be given.
    Process,
    /// A delegate on behalf of a workload: neither admin nor downstream identities. Hints aren't looked at, as SPIRE has
    /// it.
    Delegate,
    /// Whoever sees all bundles, those that no entry of its own names included.
    AllBundles,
}

/// What a synchronisation learned, by push or by poll: the one form in which changes reach the cache.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CacheUpdate {
    /// New or changed entries.
    pub entries: Vec<Arc<Entry>>,
    /// Entries that this agent is no longer authorised for.
    pub removed_entries: Vec<EntryId>,
    /// New or changed bundles: the own one and those of foreign trust domains.
    pub bundles: Vec<Arc<Bundle>>,
    /// Foreign trust domains whose bundles are gone.
    pub removed_bundles: Vec<TrustDomain>,
}

/// One identity of a caller with its X.509-SVID.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The entry by which the caller has it.
    pub entry: Arc<Entry>,
    /// The SVID and its key.
    pub svid: Arc<X509SvidKey>,
}

/// All that one caller is to have.
#[derive(Debug, Clone)]
pub struct WorkloadUpdate {
    /// Its identities with a live SVID, by entry id, of which the first is the default; of several with one hint only
    /// the oldest.
    pub identities: Vec<Identity>,
    /// The entries by which further identities are registered for it that aren't signed yet, by entry id.
    pub unsigned: Vec<Arc<Entry>>,
    /// The bundle of the own trust domain.
    pub bundle: Arc<Bundle>,
    /// The bundles of the trust domains that its entries federate with, pending ones included.
    pub federated: BTreeMap<TrustDomain, Arc<Bundle>>,
}

impl WorkloadUpdate {
    /// Whether no entry matches the caller: it has no identity and none is on its way.
    pub fn is_unregistered(&self) -> bool {
        self.identities.is_empty() && !self.is_pending()
    }

    /// Whether a further identity is registered for it but not signed yet.
    pub fn is_pending(&self) -> bool {
        !self.unsigned.is_empty()
    }

    /// Whether both show the caller the same documents.
    pub fn shows_same_as(&self, other: &Self) -> bool {
        self.bundle == other.bundle
            && self.federated == other.federated
            && self.identities.len() == other.identities.len()
            && self
                .identities
                .iter()
                .zip(&other.identities)
                .all(|(ours, theirs)| {
                    Arc::ptr_eq(&ours.svid, &theirs.svid) && ours.entry.hint == theirs.entry.hint
                })
    }
}

/// Keeps, of several entries with one hint, the oldest, and of equally old ones the one with the smaller id, as SPIRE
/// does: a hint must name one identity. The order stays.
pub(crate) fn without_hint_duplicates(entries: Vec<Arc<Entry>>) -> Vec<Arc<Entry>> {
    let mut winners: HashMap<Arc<str>, Arc<Entry>> = HashMap::new();
    for entry in entries.iter().filter(|entry| !entry.hint.is_empty()) {
        let winner = winners.entry(entry.hint.clone()).or_insert_with(|| entry.clone());
        if (entry.created_at, &entry.id) < (winner.created_at, &winner.id) {
            *winner = entry.clone();
        }
    }
    if winners.is_empty() {
        return entries;
    }
    let wins = |entry: &Arc<Entry>| {
        winners
            .get(&entry.hint)
            .is_none_or(|winner| winner.id == entry.id)
    };
    entries.into_iter().filter(wins).collect()
}

#[cfg(test)]
mod tests {
    use credence_identity::Timestamp;

    use super::*;
    use crate::cache::testing::entry;

    /// Conforms: WAP-19
    #[test]
    fn a_hint_goes_to_the_older_entry_and_then_to_the_smaller_id() {
        let make = |id: &str, hint: &str, created: i64| {
            Arc::new(Entry {
                hint: hint.into(),
                created_at: Timestamp::from_unix_seconds(created),
                ..entry(id)
            })
        };
        let kept = without_hint_duplicates(vec![
            make("a", "db", 20),
            make("b", "db", 10),
            make("c", "", 5),
            make("d", "", 4),
            make("e", "web", 7),
            make("f", "web", 7),
        ]);
        let ids: Vec<&str> = kept.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["b", "c", "d", "e"]);
    }
}
