//! Finding out how the entries held differ from those the server authorises, whichever way its answer comes.
//!
//! Invariant: an entry is removed only after the server's whole set was seen without it.

use std::collections::BTreeMap;
use std::sync::Arc;

use credence_identity::{Entry, EntryId, Timestamp};

use crate::cache::{CacheUpdate, EntryVersion};

/// What of the held entries was not seen yet, and what is to be asked for.
#[derive(Debug)]
pub(crate) struct Comparison {
    held: BTreeMap<EntryId, EntryVersion>,
    unseen: BTreeMap<EntryId, EntryVersion>,
    lacking: Vec<EntryId>,
    changed: Vec<Arc<Entry>>,
}

impl Comparison {
    pub(crate) fn with(held: BTreeMap<EntryId, EntryVersion>) -> Self {
        Self {
            unseen: held.clone(),
            held,
            lacking: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// The server authorises this version of the entry.
    pub(crate) fn see_version(&mut self, id: EntryId, version: EntryVersion) {
        self.unseen.remove(&id);
        if !self.holds(&id, version) {
            self.lacking.push(id);
        }
    }

    /// The server authorises this entry.
    pub(crate) fn see_entry(&mut self, entry: Arc<Entry>) {
        self.unseen.remove(&entry.id);
        if !self.holds(&entry.id, EntryVersion::of(&entry)) {
            self.changed.push(entry);
        }
    }

    /// The entries whose bodies are to be asked for, by id, once; call it when all versions were seen.
    pub(crate) fn take_lacking(&mut self) -> Vec<EntryId> {
        let mut lacking = std::mem::take(&mut self.lacking);
        lacking.sort_unstable();
        lacking.dedup();
        lacking
    }

    /// The differences; call it when the whole set was seen.
    pub(crate) fn finish(self) -> CacheUpdate {
        CacheUpdate {
            entries: self.changed,
            removed_entries: self.unseen.into_keys().collect(),
            ..CacheUpdate::default()
        }
    }

    fn holds(&self, id: &EntryId, version: EntryVersion) -> bool {
        self.held.get(id).is_some_and(|held| {
            held.revision_number == version.revision_number
                // A server before 1.13 doesn't say when the entry was created.
                && (version.created_at == Timestamp::EPOCH || held.created_at == version.created_at)
        })
    }
}
