//! How the agent's own work went last: its attestation, its synchronisation and the signatures it asked for.
//!
//! Owns the notes. Never decides anything: the tasks that work write, whoever explains reads. Invariant: there is one
//! note for each thing that can go wrong, and none after it went well.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use credence_identity::{EntryId, Timestamp};
use credence_runtime::clock::Clock;

use super::trouble::Trouble;

/// Something that went wrong, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// When it did last.
    pub at: Timestamp,
    /// What it was.
    pub trouble: Trouble,
}

/// What is known of the agent's own work.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// Why it isn't attested, while it isn't.
    pub attestation: Option<Note>,
    /// When the cache was last brought in step with the server.
    pub in_step: Option<Timestamp>,
    /// Why it isn't in step any more.
    pub synchronisation: Option<Note>,
    /// Why the agent's own SVID isn't renewed.
    pub renewal: Option<Note>,
    /// Why nothing is signed.
    pub signing: Option<Note>,
    /// Why single entries aren't signed for.
    pub unsigned: BTreeMap<EntryId, Note>,
}

/// The journal; clones share it.
#[derive(Debug, Clone)]
pub struct Journal {
    clock: Arc<dyn Clock>,
    notes: Arc<Mutex<Notes>>,
}

impl Journal {
    /// An empty one.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            notes: Arc::default(),
        }
    }

    /// What stands in it.
    pub fn notes(&self) -> Notes {
        self.lock().clone()
    }

    pub(crate) fn not_attested(&self, error: &(dyn Error + 'static)) {
        let note = self.note(error);
        self.lock().attestation = Some(note);
    }

    pub(crate) fn attested(&self) {
        self.lock().attestation = None;
    }

    pub(crate) fn in_step(&self) {
        let now = self.clock.now();
        let mut notes = self.lock();
        notes.in_step = Some(now);
        notes.synchronisation = None;
    }

    pub(crate) fn out_of_step(&self, error: &(dyn Error + 'static)) {
        let note = self.note(error);
        self.lock().synchronisation = Some(note);
    }

    pub(crate) fn renewed(&self) {
        self.lock().renewal = None;
    }

    pub(crate) fn not_renewed(&self, error: &(dyn Error + 'static)) {
        let note = self.note(error);
        self.lock().renewal = Some(note);
    }

    /// A batch was answered.
    pub(crate) fn signing(&self) {
        self.lock().signing = None;
    }

    pub(crate) fn not_signing(&self, error: &(dyn Error + 'static)) {
        let note = self.note(error);
        self.lock().signing = Some(note);
    }

    pub(crate) fn signed(&self, entry: &EntryId) {
        self.lock().unsigned.remove(entry);
    }

    pub(crate) fn not_signed(&self, entry: &EntryId, error: &(dyn Error + 'static)) {
        let note = self.note(error);
        self.lock().unsigned.insert(entry.clone(), note);
    }

    /// Forgets entries that aren't wanted any more.
    pub(crate) fn keep_unsigned(&self, wanted: impl Fn(&EntryId) -> bool) {
        self.lock().unsigned.retain(|id, _| wanted(id));
    }

    fn note(&self, error: &(dyn Error + 'static)) -> Note {
        Note {
            at: self.clock.now(),
            trouble: Trouble::of(error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
