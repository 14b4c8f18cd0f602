//! What stands between a process and the Workload API's socket.
//!
//! Owns the looks at a process's environment and at the file system as it sees it. Never changes anything, and never
//! keeps a variable but the one that names the socket. What can't be looked at is no fault.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use credence_identity::endpoint::Endpoint;

use super::cause::WorkloadCause as Cause;
use crate::attestor::workload::{Credentials, ProcFs};

/// Environments may be megabytes; the variable stands in front as a rule.
const ENVIRONMENT_BYTES: u64 = 1024 * 1024;
const VARIABLE: &[u8] = b"SPIFFE_ENDPOINT_SOCKET=";

/// The file of a socket, as it was when it was bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// The socket that is there now; none if it isn't.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let path = std::path::absolute(path).ok()?;
        let found = fs::metadata(&path).ok()?;
        found.file_type().is_socket().then(|| Self {
            path,
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// Its absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }

    /// Why the socket's file is no way to the agent any more.
    pub(crate) fn removed(&self) -> Option<Cause> {
        (!self.is_at(&self.path)).then(|| Cause::SocketRemoved(self.path.clone()))
    }

    /// Why that process can't come to the socket, as far as it can be told.
    pub(crate) fn fault_for(&self, pid: i32, who: &Credentials, proc: &ProcFs) -> Option<Cause> {
        let root = proc.path(pid, "root");
        let seen = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        // Only root may look into the environment and the root of another user's process.
        let can_look = fs::read_dir(&root).is_ok();
        let mut used = self.path.clone();
        if let Some(theirs) = environment(&proc.path(pid, "environ")) {
            let unix = match Endpoint::parse_workload(&theirs) {
                Ok(Endpoint::Unix(path)) => Some(path),
                _ => None,
            };
            let same = |path: &PathBuf| *path == self.path || (can_look && self.is_at(&seen(path)));
            match unix.filter(same) {
                Some(path) => used = path,
                None => {
                    return Some(Cause::OtherSocket {
                        theirs,
                        ours: self.path.clone(),
                    });
                }
            }
        }
        if can_look && !self.is_at(&seen(&used)) {
            return Some(Cause::SocketNotMounted(used));
        }
        let base = if can_look { seen(&used) } else { used.clone() };
        shut_part(&used, &base, who)
    }
}

/// The first part of the way that doesn't let the user through. Access control lists aren't looked at.
fn shut_part(path: &Path, base: &Path, who: &Credentials) -> Option<Cause> {
    if who.uid == 0 {
        return None;
    }
    let mut parts: Vec<(PathBuf, PathBuf)> = path
        .ancestors()
        .zip(base.ancestors())
        .map(|(path, base)| (path.to_owned(), base.to_owned()))
        .collect();
    parts.reverse();
    parts.into_iter().find_map(|(part, at)| {
        let found = fs::metadata(at).ok()?;
        // Folders are walked through, the socket is written to.
        let right = if found.is_dir() { 0o1 } else { 0o2 };
        let shift = if found.uid() == who.uid {
            6
        } else if found.gid() == who.gid || who.groups.contains(&found.gid()) {
            3
        } else {
            0
        };
        let mode = found.mode() & 0o7777;
        ((mode >> shift) & right == 0).then_some(Cause::SocketShut {
            part,
            mode,
            uid: who.uid,
        })
    })
}

fn environment(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .ok()?
        .take(ENVIRONMENT_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    let found = bytes
        .split(|byte| *byte == 0)
        .find_map(|one| one.strip_prefix(VARIABLE))?;
    let text = String::from_utf8_lossy(found).into_owned();
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_first_shut_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let socket = inner.join("api.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
        let who = Credentials {
            uid: 4711,
            gid: 4711,
            groups: Vec::new(),
        };
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o750)).unwrap();
        assert_eq!(
            shut_part(&socket, &socket, &who),
            Some(Cause::SocketShut {
                part: inner.clone(),
                mode: 0o750,
                uid: 4711
            })
        );
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(shut_part(&socket, &socket, &who), None);
        let file = SocketFile::at(&socket).unwrap();
        assert_eq!(file.removed(), None);
        fs::remove_file(&socket).unwrap();
        assert!(file.removed().is_some());
    }
}
