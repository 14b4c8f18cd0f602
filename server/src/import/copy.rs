//! A copy of an SQLite database that another program may have open, made by nothing but reading its files.
//!
//! SQLite itself would write to the folder: to read a write-ahead log it makes or changes the shared index beside it.
//! Invariant: what is copied is a state of the database after some commit, or the copy is refused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::with_ending;

/// How often a database that is being written to is copied again.
const ATTEMPTS: usize = 10;
/// The header of a write-ahead log, with the salts that change whenever the log begins anew.
const LOG_HEADER: u64 = 32;

/// Why a database can't be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A file can't be read or written.
    #[error("unable to copy the database {}", path.display())]
    Io {
        /// The database.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its program was killed in the middle of a change and has to mend it first.
    #[error("the database {} has an unfinished change in its rollback journal: let its program open it once", path.display())]
    HotJournal {
        /// The database.
        path: PathBuf,
    },
    /// It changes too fast.
    #[error("the database {} is being written to: stop its program first", path.display())]
    Restless {
        /// The database.
        path: PathBuf,
    },
}

/// The copy; its files go with it.
#[derive(Debug)]
pub(super) struct DatabaseCopy {
    path: PathBuf,
    had_log: bool,
}

impl DatabaseCopy {
    /// Copies the database at `source`, a path without symbolic links, to `to`, readable by this user alone. What is
    /// at `to` goes. Blocks on the disk.
    pub(super) fn take(source: &Path, to: &Path) -> Result<Self, CopyError> {
        let io = |error| CopyError::Io {
            path: source.to_owned(),
            source: error,
        };
        let log = with_ending(source, "-wal");
        if length(&with_ending(source, "-journal")).map_err(io)? > 0 {
            return Err(CopyError::HotJournal {
                path: source.to_owned(),
            });
        }
        let mut copy = Self {
            path: to.to_owned(),
            had_log: false,
        };
        for _ in 0..ATTEMPTS {
            copy.remove().map_err(io)?;
            let before = (stamp(source).map_err(io)?, log_header(&log).map_err(io)?);
            copy_file(source, to).map_err(io)?;
            // The log comes second: all that went from it into the database meanwhile still is in it, unless it
            // began anew, which its header tells.
            copy.had_log = before.1.is_some();
            if copy.had_log {
                copy_file(&log, &with_ending(to, "-wal")).map_err(io)?;
            }
            let after = (stamp(source).map_err(io)?, log_header(&log).map_err(io)?);
            if before.1 == after.1 && (copy.had_log || before.0 == after.0) {
                return Ok(copy);
            }
        }
        Err(CopyError::Restless {
            path: source.to_owned(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there were changes outside of the database file: its program runs, or was killed.
    pub(super) fn had_log(&self) -> bool {
        self.had_log
    }

    fn remove(&self) -> io::Result<()> {
        for ending in ["", "-wal", "-shm", "-journal"] {
            match fs::remove_file(with_ending(&self.path, ending)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for DatabaseCopy {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(path = %self.path.display(), error = %error, "Unable to remove the copy of a database");
        }
    }
}

/// What changes with the content of a file.
fn stamp(path: &Path) -> io::Result<(u64, u64, i64, i64)> {
    let file = fs::metadata(path)?;
    Ok((file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
}

fn log_header(log: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut header = Vec::new();
    match File::open(log) {
        Ok(file) => file.take(LOG_HEADER).read_to_end(&mut header)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(header).filter(|header| !header.is_empty()))
}

fn length(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(file) => Ok(file.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = match File::open(from) {
        Ok(from) => from,
        // A log that went meanwhile: its header tells, and the copy is made again.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    io::copy(&mut from, &mut to).map(drop)
}
