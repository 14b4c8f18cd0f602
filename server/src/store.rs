//! The trust domain on disk.
//!
//! Owns the one ordered log of changes and the tables they act on: with `crate::import`, which reads SPIRE's, the only
//! module that names SQL. It decides nothing and validates nothing beyond what keeps the tables consistent;
//! [`crate::registry`] is its only writer.
//! Invariant: a commit is one transaction that gives each of its changes the next revision, so what was acknowledged
//! is on disk in full, in order, and no revision is ever given out twice.

mod change;
#[cfg(test)]
pub(crate) mod conformance;
mod error;
mod memory;
mod sqlite;

use std::fmt::{self, Debug, Display};
use std::sync::Arc;

use credence_identity::{Bundle, Entry, FederationRelationship, Timestamp};

pub use change::{Change, JoinToken, Journal, Node};
pub use error::StoreError;
pub use memory::MemoryStore;
pub use sqlite::{SqliteOptions, SqliteStore};

/// A point in the log of changes: the number of changes made since the store was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after `count` more changes.
    #[must_use]
    pub fn plus(self, count: usize) -> Revision {
        Revision(self.0.saturating_add(u64::try_from(count).unwrap_or(u64::MAX)))
    }
}

impl Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

/// The place of an object in listings: the revision that created it. It never changes while the object
/// lives, is greater than 0, and is what page tokens are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row(pub u64);

impl From<Revision> for Row {
    fn from(created_by: Revision) -> Row {
        Row(created_by.0)
    }
}

/// Everything a store holds, at one revision.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The last revision given out.
    pub revision: Revision,
    /// All entries, by ascending row.
    pub entries: Vec<(Row, Arc<Entry>)>,
    /// All attested nodes, by ascending row.
    pub nodes: Vec<(Row, Arc<Node>)>,
    /// All join tokens that were neither used nor cleaned.
    pub join_tokens: Vec<JoinToken>,
    /// All bundles, the trust domain's own included, by ascending row.
    pub bundles: Vec<(Row, Arc<Bundle>)>,
    /// All federation relationships, by ascending row.
    pub relationships: Vec<(Row, Arc<FederationRelationship>)>,
    /// The authorities' journal, if one was written.
    pub journal: Option<Journal>,
}

/// A place that keeps the trust domain. It has one writer at a time and notices when it had another.
///
/// Every implementation passes the suite in `store/conformance.rs`.
pub trait Store: Debug + Send + 'static {
    /// Reads everything.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] names the row that cannot be read; nothing is skipped silently.
    fn load(&mut self) -> impl Future<Output = Result<Snapshot, StoreError>> + Send;

    /// Makes `changes` durable in one transaction: all or nothing. The first gets the revision after `at`, the next
    /// the one after that; the answer is the revision of the last. `at` is the revision of the caller's knowledge.
    ///
    /// A deletion of what isn't there is no error and uses up its revision all the same.
    ///
    /// # Errors
    /// On any error nothing has changed. [`StoreError::Moved`] if the log isn't at `at`: someone else writes to this
    /// store, and what the caller knows is stale. Not cancel safe: after dropping it the outcome is unknown.
    fn commit(
        &mut self,
        at: Revision,
        changes: &[Change],
        now: Timestamp,
    ) -> impl Future<Output = Result<Revision, StoreError>> + Send;

    /// Tries whether a commit could succeed now, by writing something that changes nothing.
    ///
    /// # Errors
    /// What a commit would end with.
    fn probe(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Closes what is open.
    fn close(self) -> impl Future<Output = ()> + Send;
}
