//! The entry by which somebody may have a certificate for a key of their own.

use std::sync::Arc;

use credence_identity::{Entry, SpiffeId};

use super::Cache;

impl Cache {
    /// The entry of that identity, the oldest if there are several, and of equally old ones that with the smaller id.
    /// Entries that give power over others (admin, downstream) are never lent, as delegates never get them.
    pub(crate) fn entry_to_lend(&self, id: &SpiffeId) -> Option<Arc<Entry>> {
        let now = self.shared.clock.now();
        let state = self.lock();
        let lent = |entry: &&Arc<Entry>| {
            entry.spiffe_id == *id
                && !(entry.admin || entry.downstream || entry.store_svid)
                && !entry.is_expired_at(now)
        };
        let oldest = state
            .entries
            .iter()
            .filter(lent)
            .min_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        oldest.cloned()
    }
}
