//! The state as it will be, for the decisions of transactions that share a commit.
//!
//! Owns the state while it looks ahead. Invariant: readers never see it so, for it holds the lock until all is taken
//! back, however it ends.

use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use super::state::{State, Undo};
use crate::store::Change;

/// Changes that are applied for a look and taken back on drop.
pub(super) struct Ahead<'a> {
    state: RwLockWriteGuard<'a, State>,
    /// One for each change that is applied.
    undo: Vec<Undo>,
}

impl<'a> Ahead<'a> {
    pub(super) fn of(state: &'a RwLock<State>) -> Self {
        Ahead {
            state: state.write().unwrap_or_else(PoisonError::into_inner),
            undo: Vec::new(),
        }
    }

    /// The state after these changes, the first of which are those of the last call.
    pub(super) fn after(&mut self, changes: &[Change]) -> &State {
        for change in changes.iter().skip(self.undo.len()) {
            self.undo.push(self.state.undo_of(change));
            self.state.apply(change.clone());
        }
        &self.state
    }
}

impl Drop for Ahead<'_> {
    fn drop(&mut self) {
        while let Some(undo) = self.undo.pop() {
            self.state.undo(undo);
        }
    }
}
