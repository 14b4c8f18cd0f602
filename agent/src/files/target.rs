//! Where files go.

use std::path::PathBuf;

use super::owner::Owner;

/// Where files go, and whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The folder; it must exist.
    pub folder: PathBuf,
    /// Whose files they are to be.
    pub owner: Owner,
    /// Whether a folder in which strangers can replace names is refused.
    pub guarded: bool,
}
