//! What goes wrong with a store, told apart by what to do about it.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use super::Revision;

/// What a library said. Shared, for all transactions of a commit fail with it.
type Cause = Arc<dyn Error + Send + Sync>;

/// Why the store could not do what it was asked. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The file is a database of another program. It was only looked at.
    #[error("{} is not a Credence database ({found}); it was left untouched", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found in it.
        found: String,
    },
    /// The database was written by a newer version of this program.
    #[error("the database has schema version {found}, and this program knows versions up to {known}")]
    Newer {
        /// The version found.
        found: i64,
        /// The last version this program knows.
        known: i64,
    },
    /// A record does not parse.
    #[error("corrupt record in table {table}, key {key:?}: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The key of the record.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process held the database for longer than the deadline of a commit.
    #[error("the database is locked by another process")]
    Busy(#[source] Cause),
    /// The disk is full, or a quota is reached.
    #[error("no space left for the database")]
    Full(#[source] Cause),
    /// A change contradicts a constraint: an unknown bundle is referred to, or one that is referred to is deleted.
    #[error("the change contradicts a constraint of the database")]
    Constraint(#[source] Cause),
    /// The log is not where its only writer left it.
    #[error("the database was changed by another process: its log is not at revision {expected}")]
    Moved {
        /// Where the log was thought to be.
        expected: Revision,
    },
    /// Anything else.
    #[error("the database failed")]
    Failed(#[source] Cause),
}

impl StoreError {
    /// Anything that has no variant of its own.
    pub(crate) fn failed(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        StoreError::Failed(cause.into().into())
    }

    /// Whether the change itself is at fault, and not the state of the store: trying again is of no use, and the
    /// store is healthy.
    pub fn is_refusal(&self) -> bool {
        matches!(self, StoreError::Constraint(_))
    }
}
