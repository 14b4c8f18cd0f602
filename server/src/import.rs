//! Taking over from SPIRE: the first start on SPIRE's SQLite file makes a database of ours from it.
//!
//! Owns the decision which files the server works with, and the way from SPIRE's records to ours. It only ever reads
//! SPIRE's files, so the way back is to start SPIRE: the new database and the copy of the keys lie beside them, under
//! their names with `.credence` behind. Invariant: either the new database is there whole, or there is none.

mod copy;
mod read;
mod records;
mod wire;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use credence_identity::{Timestamp, TrustDomain};
use credence_runtime::fs::{FsError, write_atomic};
use zeroize::Zeroizing;

use crate::keymanager::{DiskKeyManager, KeyManagerError};
use crate::store::{SqliteOptions, SqliteStore, StoreError};
use copy::{CopyError, DatabaseCopy};
use read::{ReadError, Spire};

/// What is put behind the names of SPIRE's files.
const ENDING: &str = ".credence";

/// Why SPIRE's database was not taken over. It is as it was, and so is what an earlier start made of it.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The database can't be copied for reading.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The database can't be taken over.
    #[error("unable to take over SPIRE's datastore {}; it was left untouched", path.display())]
    Read {
        /// SPIRE's file.
        path: PathBuf,
        /// What is in the way.
        #[source]
        source: ReadError,
    },
    /// Our own database can't be made, or can't be read.
    #[error("unable to take over SPIRE's datastore: {}", path.display())]
    Store {
        /// Our file.
        path: PathBuf,
        /// What the store said.
        #[source]
        source: StoreError,
    },
    /// SPIRE's keys can't be read.
    #[error("unable to take over SPIRE's keys")]
    Keys(#[from] KeyManagerError),
    /// A file can't be looked at.
    #[error("unable to read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The copy of the keys can't be written.
    #[error("unable to copy SPIRE's keys")]
    Write(#[from] FsError),
    /// Both programs went on from the same state.
    #[error(
        "SPIRE has written to {} since it was taken over, and {} has changes of its own: to take over anew, move the \
         files that end with {ENDING} away; to go on without SPIRE's changes, name them in connection_string and \
         keys_path", spire.display(), ours.display()
    )]
    Parted {
        /// SPIRE's file.
        spire: PathBuf,
        /// Ours.
        ours: PathBuf,
    },
}

/// If `database` names SPIRE's file, or one that was taken over, changes it and `keys` to the names of our files,
/// which are made if they are not there. A database of ours or of a third program stays what is named.
///
/// # Errors
/// [`ImportError`]. Not cancel safe in so far as a file of a temporary name may stay behind; the next start removes it.
pub async fn settle(
    database: &mut SqliteOptions,
    keys: Option<&mut PathBuf>,
    trust_domain: &TrustDomain,
    now: Timestamp,
) -> Result<(), ImportError> {
    let named = database.path.clone();
    let ours = SqliteOptions {
        path: with_ending(&named, ENDING),
        ..database.clone()
    };
    let made = exists(&ours.path)?;
    let foreign = SqliteStore::is_of_another_program(&named).map_err(unreadable(&named))?;
    if !foreign {
        if made && exists(&named)? {
            tracing::warn!(used = %named.display(), ignored = %ours.path.display(), "Using the named database: it is no longer SPIRE's, and what was taken over is ignored");
        } else if made {
            tracing::info!(path = %ours.path.display(), "Using the database that was taken over; SPIRE's is gone");
            adopt(database, keys, ours);
        }
        return Ok(());
    }
    let Some(mut spire) = open(&named).await? else {
        // The store refuses it, and says what it is.
        return Ok(());
    };
    let digest = spire.digest().await.map_err(in_spires(&named))?;
    if made {
        let mark = SqliteStore::taken_over(&ours)
            .await
            .map_err(in_ours(&ours.path))?;
        match mark {
            Some(mark) if mark.digest == digest => {
                tracing::info!(
                    path = %ours.path.display(), spire = %named.display(),
                    "Using the database that was taken over from SPIRE's"
                );
                adopt(database, keys, ours);
                return Ok(());
            }
            Some(mark) if mark.untouched => {
                tracing::info!(spire = %named.display(), "SPIRE went on since its datastore was taken over, and we did not");
            }
            _ => {
                return Err(ImportError::Parted {
                    spire: named,
                    ours: ours.path,
                });
            }
        }
    }
    let copied_keys = match &keys {
        Some(path) => copy_keys(path)?,
        None => None,
    };
    let records = spire
        .records(trust_domain, copied_keys.as_ref(), now)
        .await
        .map_err(in_spires(&named))?;
    SqliteStore::create_from(&ours.path, &records.changes, digest, now)
        .await
        .map_err(in_ours(&ours.path))?;
    let counts = records.counts;
    tracing::info!(
        spire = %named.display(), path = %ours.path.display(), schema = spire.version(),
        entries = counts.entries, nodes = counts.nodes, bundles = counts.bundles,
        relationships = counts.relationships, join_tokens = counts.join_tokens,
        x509_cas = counts.x509_cas, jwt_keys = counts.jwt_keys, wit_keys = counts.wit_keys,
        "Took SPIRE's datastore over"
    );
    adopt(database, keys, ours);
    Ok(())
}

/// SPIRE's database, in a copy; none if it is a third program's.
async fn open(named: &Path) -> Result<Option<Spire>, ImportError> {
    let source = fs::canonicalize(named).map_err(unreadable(named))?;
    let copy = DatabaseCopy::take(&source, &with_ending(named, ".credence-read"))?;
    if copy.had_log() {
        tracing::warn!(
            spire = %named.display(),
            "SPIRE has not closed its datastore: if it still runs, what it changes from now on is lost"
        );
    }
    Spire::open(copy).await.map_err(in_spires(named))
}

/// Copies SPIRE's keys beside themselves. A copy of an earlier start that didn't get to its end is replaced.
fn copy_keys(path: &Path) -> Result<Option<DiskKeyManager>, ImportError> {
    if !exists(path)? {
        return Ok(None);
    }
    let keys = DiskKeyManager::open(path)?;
    let text = Zeroizing::new(fs::read(path).map_err(unreadable(path))?);
    write_atomic(&with_ending(path, ENDING), &text, 0o600)?;
    Ok(Some(keys))
}

fn adopt(database: &mut SqliteOptions, keys: Option<&mut PathBuf>, ours: SqliteOptions) {
    *database = ours;
    if let Some(keys) = keys {
        *keys = with_ending(keys, ENDING);
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn exists(path: &Path) -> Result<bool, ImportError> {
    // An empty file is what a crash in the middle of its creation leaves, and counts as none.
    match fs::metadata(path) {
        Ok(file) => Ok(file.len() > 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(unreadable(path)(error)),
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> ImportError {
    move |source| ImportError::File {
        path: path.to_owned(),
        source,
    }
}

fn in_spires(path: &Path) -> impl FnOnce(ReadError) -> ImportError {
    move |source| ImportError::Read {
        path: path.to_owned(),
        source,
    }
}

fn in_ours(path: &Path) -> impl FnOnce(StoreError) -> ImportError {
    move |source| ImportError::Store {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
