//! Names of users and groups, remembered for a short while.
//!
//! A look-up may leave the machine (LDAP, SSSD), so it runs on a blocking thread and gets three seconds. What it found
//! serves for a minute, and no longer than the local file (`/etc/passwd`, `/etc/group`) stays as it is: with local
//! accounts a change counts at once, with a directory service within a minute. "No such name" is remembered alike.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User};
use tokio::time::{Instant, timeout};

const KEEP: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(3);
/// More names than a node has; above it all is forgotten and asked again.
const LIMIT: usize = 4096;

type LookUp = fn(u32) -> Result<Option<String>, nix::Error>;

/// The names behind one kind of id.
#[derive(Debug)]
pub(super) struct Names {
    file: &'static Path,
    look_up: LookUp,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    stamp: Stamp,
    names: HashMap<u32, (Option<Arc<str>>, Instant)>,
}

/// What changes when the local file does.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Names {
    pub(super) fn of_users() -> Self {
        let look_up = |id| User::from_uid(Uid::from_raw(id)).map(|user| user.map(|user| user.name));
        Self::new(Path::new("/etc/passwd"), look_up)
    }

    pub(super) fn of_groups() -> Self {
        let look_up = |id| Group::from_gid(Gid::from_raw(id)).map(|group| group.map(|group| group.name));
        Self::new(Path::new("/etc/group"), look_up)
    }

    fn new(file: &'static Path, look_up: LookUp) -> Self {
        Self {
            file,
            look_up,
            known: Mutex::default(),
        }
    }

    /// The names of those ids, in their order; `None` where there is none, or none was found in time. Cancel safe.
    pub(super) async fn of(&self, ids: &[u32]) -> Vec<Option<Arc<str>>> {
        let stamp = std::fs::metadata(self.file).ok().map(|file| {
            (
                file.dev(),
                file.ino(),
                file.mtime()
                    .wrapping_mul(1_000_000_000)
                    .wrapping_add(file.mtime_nsec()),
                file.ctime_nsec(),
            )
        });
        let missing: Vec<u32> = {
            let mut known = self.known();
            if known.stamp != stamp {
                *known = Known {
                    stamp,
                    ..Known::default()
                };
            }
            let now = Instant::now();
            let fresh = |id: &u32| known.names.get(id).is_some_and(|(_, until)| now < *until);
            ids.iter().filter(|id| !fresh(id)).copied().collect()
        };
        if !missing.is_empty() {
            self.learn(missing, stamp).await;
        }
        let known = self.known();
        ids.iter()
            .map(|id| known.names.get(id).and_then(|(name, _)| name.clone()))
            .collect()
    }

    async fn learn(&self, ids: Vec<u32>, stamp: Stamp) {
        let look_up = self.look_up;
        let asked = tokio::task::spawn_blocking(move || {
            ids.into_iter().map(|id| (id, look_up(id))).collect::<Vec<_>>()
        });
        let Ok(Ok(found)) = timeout(PATIENCE, asked).await else {
            tracing::warn!(file = %self.file.display(), "Looking up user or group names took too long; left out");
            return;
        };
        let until = Instant::now() + KEEP;
        let mut known = self.known();
        if known.names.len() + found.len() > LIMIT {
            known.names.clear();
        }
        // If the file changed meanwhile, the next call will see that and ask again.
        known.stamp = stamp;
        for (id, name) in found {
            match name {
                Ok(name) => drop(
                    known
                        .names
                        .insert(id, (name.filter(|name| !name.is_empty()).map(Arc::from), until)),
                ),
                Err(error) => tracing::debug!(id, error = %error, "Name look-up failed"),
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn root_has_its_name_and_nobody_else_does() {
        assert_eq!(
            Names::of_users().of(&[0, 4_000_000_000]).await,
            [Some("root".into()), None]
        );
        assert_eq!(
            Names::of_groups().of(&[4_000_000_000, 0]).await,
            [None, Some("root".into())]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_asked_once_a_minute() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let names = Names::new(Path::new("/etc/passwd"), |id| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            Ok((id != 7).then(|| format!("user{id}")))
        });
        for _ in 0..3 {
            assert_eq!(names.of(&[5, 7]).await, [Some("user5".into()), None]);
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), 2);
        tokio::time::advance(KEEP).await;
        names.of(&[5]).await;
        assert_eq!(ASKED.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_changed_file_counts_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file: &'static Path = Box::leak(folder.path().join("passwd").into_boxed_path());
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        std::fs::write(file, "a").unwrap();
        let names = Names::new(file, |_| {
            Ok(Some(ASKED.fetch_add(1, Ordering::Relaxed).to_string()))
        });
        assert_eq!(names.of(&[1]).await, [Some("0".into())]);
        std::fs::remove_file(file).unwrap();
        assert_eq!(names.of(&[1]).await, [Some("1".into())]);
        assert_eq!(names.of(&[1]).await, [Some("1".into())]);
    }
}
