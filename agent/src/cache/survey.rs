//! What the cache holds, for whoever explains.

use std::sync::Arc;

use credence_crypto::x509::X509SvidKey;
use credence_identity::{Entry, TrustDomain};

use super::Cache;

/// An entry that is held.
#[derive(Debug, Clone)]
pub(crate) struct HeldEntry {
    pub(crate) entry: Arc<Entry>,
    /// Its X.509-SVID, served or not.
    pub(crate) svid: Option<Arc<X509SvidKey>>,
    /// Whether that one is served now.
    pub(crate) serves: bool,
}

/// All that is held, at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Survey {
    /// By id.
    pub(crate) entries: Vec<HeldEntry>,
    /// Entries that went away of late, the newest first.
    pub(crate) gone: Vec<Arc<Entry>>,
    /// The trust domains whose bundles are held.
    pub(crate) federated: Vec<TrustDomain>,
}

impl Cache {
    /// What is held now. Costs what the cache is large.
    pub(crate) fn survey(&self) -> Survey {
        let now = self.shared.clock.now();
        let state = self.lock();
        let held = state.entries.iter().map(|entry| {
            let kept = state.svids.get(&entry.id);
            HeldEntry {
                entry: entry.clone(),
                svid: kept.map(|kept| kept.document().clone()),
                serves: kept.is_some_and(|kept| kept.serves_at(entry, now)),
            }
        });
        Survey {
            entries: held.collect(),
            gone: state.gone.iter().rev().cloned().collect(),
            federated: state.federated.keys().cloned().collect(),
        }
    }
}
