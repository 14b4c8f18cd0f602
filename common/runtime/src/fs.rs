//! Files, folders and sockets that others on the machine must not be able to plant or tear.
//!
//! Owns how state is written (atomically, with its mode from the first byte on) and where it may lie. It never deletes
//! anything but a socket that nobody answers. Invariant: a file written here is either the old or the new one, whole,
//! after any crash.

mod socket;
mod tmp;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

pub use socket::bind_unix;
pub use tmp::refuse_foreign_tmp;

/// Why a file, folder or socket could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The operation named failed.
    #[error("unable to {operation} {}", path.display())]
    Io {
        /// What was tried, such as "create directory".
        operation: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something directly below /tmp that another user owns, who could replace it at will.
    #[error("refusing {}: {} is owned by uid {owner}, neither this user nor root", path.display(), found.display())]
    ForeignTmp {
        /// The path asked for.
        path: PathBuf,
        /// The part of it directly below /tmp.
        found: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Another process answers on the socket.
    #[error("socket {} is in use by a running process", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// There is something at the socket's path that isn't a socket.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FsError {
    move |source| FsError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

/// Takes group write and all of the others' rights from what this process creates, as SPIRE does (umask at least 0027).
pub fn restrict_umask() {
    let given = umask(Mode::from_bits_truncate(0o777));
    umask(given | Mode::from_bits_truncate(0o027));
}

/// Makes the folder and its missing parents, each of them with exactly `mode` whatever the umask; what exists keeps
/// its mode.
///
/// # Errors
/// [`FsError::Io`], also when a part of the path is not a folder.
pub fn ensure_dir(path: &Path, mode: u32) -> Result<(), FsError> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        ensure_dir(parent, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(failed("set the mode of directory", path)),
        // Another process may have been quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(failed("create directory", path)(error)),
    }
}

/// Replaces the file by one with these bytes and this mode: a new file beside it, synced, renamed over it, folder synced.
///
/// Blocks on the disk: call it from `spawn_blocking` where latency matters. One writer per path at a time.
///
/// # Errors
/// [`FsError::Io`]; the old file is then still whole.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FsError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    let written = write_synced(&beside, bytes, mode).and_then(|()| fs::rename(&beside, path));
    if let Err(error) = written {
        // Best effort: a full disk must not keep half a file.
        drop(fs::remove_file(&beside));
        return Err(failed("write", path)(error));
    }
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("sync directory", folder))
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // One that a crash left behind goes first: an existing file would keep its own mode and its readers.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode & 0o700)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
