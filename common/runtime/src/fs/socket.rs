//! Unix sockets that are there with their mode from the first connection on.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use tokio::net::UnixListener;

use super::{FsError, ensure_dir, failed, refuse_foreign_tmp};

const BACKLOG: i32 = 1024;
/// Others must be able to walk to a socket whose own mode lets them in.
const FOLDER_MODE: u32 = 0o755;

/// Listens on a Unix socket with exactly `mode`: makes missing folders, applies the rule for /tmp, replaces a socket
/// that nobody answers any more.
///
/// Must be called inside a tokio runtime.
///
/// # Errors
/// [`FsError::SocketInUse`] when a live process answers there, [`FsError::NotASocket`], [`FsError::ForeignTmp`], or
/// what the system says (a path above 107 bytes: `ENAMETOOLONG`).
pub fn bind_unix(path: &Path, mode: u32) -> Result<UnixListener, FsError> {
    // Before anything is made, and again when the folder can no longer be planted.
    refuse_foreign_tmp(path)?;
    if let Some(parent) = path.parent() {
        ensure_dir(parent, FOLDER_MODE)?;
    }
    remove_stale(path)?;
    refuse_foreign_tmp(path)?;
    let listener = listen_at(path, mode).map_err(failed("listen on socket", path))?;
    UnixListener::from_std(listener).map_err(failed("listen on socket", path))
}

fn listen_at(path: &Path, mode: u32) -> io::Result<StdListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    // Nobody can connect between bind and listen, so the mode is right before the first caller.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(StdListener::from(fd))
}

fn remove_stale(path: &Path) -> Result<(), FsError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", path)(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(FsError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    match probe(path) {
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove stale socket", path)(error))
            }
            _ => Ok(()),
        },
        // EAGAIN is a live server whose queue is full.
        Ok(()) | Err(Errno::EAGAIN) => Err(FsError::SocketInUse {
            path: path.to_owned(),
        }),
        Err(errno) => Err(failed("probe socket", path)(errno.into())),
    }
}

fn probe(path: &Path) -> Result<(), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)
}
