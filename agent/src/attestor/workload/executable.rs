//! The file that a process runs: its path and its SHA-256.
//!
//! Both are taken from one opened file, so that they belong together whatever is renamed meanwhile. Only hashes are
//! remembered, under what changes with the content: device, inode, size and time of the last change. All of this
//! blocks, and belongs on a blocking thread: the file may lie on a slow or hostile file system.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use credence_crypto::{hex, sha256_of};
use credence_identity::Timestamp;
use credence_runtime::clock::Clock;

/// Hashes kept at most; any one is dropped for a new one.
const LIMIT: usize = 1024;
/// A file that changed this lately could change again without a new time, so its hash isn't kept.
const SETTLED: Duration = Duration::from_secs(2);

/// What a process runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Executable {
    /// As the kernel names it; absent when it isn't UTF-8, which no selector can be.
    pub(super) path: Option<String>,
    /// In lower-case hexadecimal; absent when not asked for.
    pub(super) sha256: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExecutableError {
    /// The file can't be opened or read.
    #[error("could not read the executable of the workload")]
    Io(#[from] io::Error),
    /// `workload_size_limit`.
    #[error("workload {} exceeds size limit ({size} > {limit})", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Somebody wrote to the file meanwhile.
    #[error("executable {} changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

/// Which hash is wanted: SPIRE's `workload_size_limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hashing {
    Never,
    UpTo(u64),
    Always,
}

/// What changes when the content does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// The hash of one version of a file. Whoever holds the lock computes it, the others wait.
type Slot = Arc<Mutex<Option<String>>>;

#[derive(Debug)]
pub(super) struct Executables {
    clock: Arc<dyn Clock>,
    hashes: Mutex<HashMap<Version, Slot>>,
}

impl Executables {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            hashes: Mutex::default(),
        }
    }

    /// Looks at the file behind the link `exe` of a process. Blocks.
    pub(super) fn look(&self, exe: &Path, hashing: Hashing) -> Result<Executable, ExecutableError> {
        let file = File::open(exe)?;
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let sha256 = match hashing {
            Hashing::Never => None,
            Hashing::UpTo(limit) => Some(self.hash(&file, &path, limit)?),
            Hashing::Always => Some(self.hash(&file, &path, u64::MAX)?),
        };
        Ok(Executable {
            path: path.into_os_string().into_string().ok(),
            sha256,
        })
    }

    fn hash(&self, file: &File, path: &Path, limit: u64) -> Result<String, ExecutableError> {
        let version = Version::of(&file.metadata()?);
        if version.size > limit {
            return Err(ExecutableError::TooLarge {
                path: path.to_owned(),
                size: version.size,
                limit,
            });
        }
        let slot = self.slot(version);
        let mut hash = lock(&slot);
        if let Some(known) = &*hash {
            return Ok(known.clone());
        }
        let computed = hex(&sha256_of(file)?);
        if Version::of(&file.metadata()?) != version {
            return Err(ExecutableError::Changed {
                path: path.to_owned(),
            });
        }
        if version.changed_at() + SETTLED <= self.clock.now() {
            *hash = Some(computed.clone());
        } else {
            lock(&self.hashes).remove(&version);
        }
        Ok(computed)
    }

    fn slot(&self, version: Version) -> Slot {
        let mut hashes = lock(&self.hashes);
        if hashes.len() >= LIMIT && !hashes.contains_key(&version) {
            let any = hashes.keys().next().copied();
            any.and_then(|any| hashes.remove(&any));
        }
        hashes.entry(version).or_default().clone()
    }
}

impl Version {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    fn changed_at(&self) -> Timestamp {
        let (seconds, nanos) = self.changed;
        Timestamp::from_unix_millis(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use credence_runtime::clock::{ManualClock, SystemClock};

    use super::*;

    fn settled() -> Executables {
        // An hour ahead, so that the files made here are old.
        Executables::new(Arc::new(ManualClock::new(
            SystemClock.now() + Duration::from_secs(3600),
        )))
    }

    #[tokio::test]
    async fn path_and_hash_are_of_the_file_that_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("program"), folder.path().join("exe"));
        std::fs::write(&target, "abc").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let found = settled().look(&link, Hashing::Always).unwrap();
        let wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(found.sha256.as_deref(), Some(wanted));
        assert_eq!(found.path.as_deref(), target.to_str());
        assert_eq!(settled().look(&link, Hashing::Never).unwrap().sha256, None);
    }

    #[tokio::test]
    async fn large_files_are_refused_by_size() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        std::fs::write(&file, [0; 1001]).unwrap();
        assert!(settled().look(&file, Hashing::UpTo(1001)).is_ok());
        let refused = settled().look(&file, Hashing::UpTo(1000)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("workload {} exceeds size limit (1001 > 1000)", file.display())
        );
    }

    #[tokio::test]
    async fn hashes_are_kept_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        std::fs::write(&file, "one").unwrap();
        let executables = settled();
        let first = executables.look(&file, Hashing::Always).unwrap();
        assert_eq!(executables.look(&file, Hashing::Always).unwrap(), first);
        assert_eq!(lock(&executables.hashes).len(), 1);
        // Same size, same inode.
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .write_all(b"two")
            .unwrap();
        let version = Version::of(&std::fs::metadata(&file).unwrap());
        if lock(&executables.hashes).contains_key(&version) {
            return; // The clock of this file system was too coarse to see it, which is what SETTLED is for.
        }
        assert_ne!(executables.look(&file, Hashing::Always).unwrap(), first);
    }

    #[tokio::test]
    async fn a_file_just_changed_is_hashed_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        std::fs::write(&file, "one").unwrap();
        let executables = Executables::new(Arc::new(SystemClock));
        executables.look(&file, Hashing::Always).unwrap();
        assert!(lock(&executables.hashes).is_empty());
    }

    #[tokio::test]
    async fn the_memory_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let executables = settled();
        for number in 0..LIMIT + 10 {
            let file = folder.path().join("program");
            std::fs::write(&file, vec![0; number]).unwrap();
            executables.look(&file, Hashing::Always).unwrap();
        }
        assert_eq!(lock(&executables.hashes).len(), LIMIT);
    }
}
