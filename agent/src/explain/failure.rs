//! Why the agent ended last, in a file of its data folder: an agent that doesn't run can't be asked.
//!
//! Owns the file. Invariant: it has mode 0600 and a bound, and is gone once the agent serves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use credence_identity::Timestamp;
use credence_runtime::fs::{FsError, write_atomic};
use serde::{Deserialize, Serialize};

use super::trouble::Trouble;

/// The file's name.
const FILE: &str = "last-failure.json";
/// Nobody's file of this kind is larger.
const LARGEST: usize = 64 * 1024;

/// Why and when it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    at_unix_millis: i64,
    /// Why.
    pub trouble: Trouble,
}

impl LastFailure {
    /// One of this moment.
    pub fn new(at: Timestamp, trouble: Trouble) -> Self {
        Self {
            at_unix_millis: at.unix_millis(),
            trouble,
        }
    }

    /// When.
    pub fn at(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.at_unix_millis)
    }

    /// Leaves it in the folder.
    ///
    /// # Errors
    /// [`FsError`]; nobody is worse off than without.
    pub fn leave_in(&self, folder: &Path) -> Result<(), FsError> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        write_atomic(&file(folder), &json, 0o600)
    }

    /// The one in the folder, if there is one that can be read.
    pub fn of(folder: &Path) -> Option<Self> {
        let bytes = fs::read(file(folder)).ok()?;
        (bytes.len() <= LARGEST)
            .then(|| serde_json::from_slice(&bytes).ok())
            .flatten()
    }

    /// Takes it away.
    ///
    /// # Errors
    /// What the system says, unless there is none.
    pub fn remove_from(folder: &Path) -> io::Result<()> {
        match fs::remove_file(file(folder)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::explain::TroubleKind;

    #[test]
    fn a_failure_is_found_again_until_it_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let trouble = Trouble::new(TroubleKind::JoinTokenUnknown, "said the server");
        let failure = LastFailure::new(Timestamp::from_unix_seconds(17), trouble);
        failure.leave_in(folder.path()).unwrap();
        assert_eq!(LastFailure::of(folder.path()), Some(failure));
        let mode = fs::metadata(file(folder.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        LastFailure::remove_from(folder.path()).unwrap();
        assert_eq!(LastFailure::of(folder.path()), None);
        LastFailure::remove_from(folder.path()).unwrap();
    }
}
