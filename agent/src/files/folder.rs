//! A target folder, held by its descriptor, and the only operations on it that there are.
//!
//! Nothing is ever reached by a path: what somebody swaps for a link, before or meanwhile, is refused or replaced, never
//! followed. Invariant: every name is made afresh (`O_EXCL`) and only renamed over what was there when it is whole.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use credence_crypto::{hex, random_bytes};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, fchown, fsync, symlinkat, unlinkat};

use super::owner::Owner;

/// Digits of a random suffix.
const SUFFIX: usize = 16;

/// Why files are not written. What was there before is still there, whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// The operation failed.
    #[error("unable to {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something on the way to the folder.
    #[error("{} is a symbolic link or no folder: links on the way to the target folder are not followed", path.display())]
    NotAFolder {
        /// As far as it was gone.
        path: PathBuf,
    },
    /// Somebody else writes there.
    #[error("another writer is at work in {}", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// Others could replace what is written.
    #[error("{} may be written to by every user, or belongs to uid {uid}: it must be the owner's or root's", path.display())]
    Exposed {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
}

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    /// For messages only.
    path: PathBuf,
}

/// A file to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content<'a> {
    pub(crate) name: &'a OsStr,
    pub(crate) mode: u32,
    pub(crate) bytes: &'a [u8],
}

impl Folder {
    /// Opens a folder, the empty path being the working directory. No component may be a link.
    pub(crate) fn open(path: &Path) -> Result<Self, FolderError> {
        let walk = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut gone = PathBuf::new();
        let mut fd = None;
        let root = if path.is_absolute() { "/" } else { "." };
        let first = std::iter::once(OsStr::new(root));
        let rest = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            Component::ParentDir => Some(OsStr::new("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        });
        for name in first.chain(rest) {
            gone.push(name);
            let from = fd.as_ref().map_or(AT_FDCWD, |fd: &OwnedFd| fd.as_fd());
            let opened = openat(from, name, walk, Mode::empty()).map_err(|errno| match errno {
                Errno::ENOTDIR | Errno::ELOOP => FolderError::NotAFolder { path: gone.clone() },
                errno => failed("open folder", &gone)(errno),
            });
            fd = Some(opened?);
        }
        // It has a first component, so this is never the working directory by mistake.
        let from = fd.as_ref().map_or(AT_FDCWD, |fd| fd.as_fd());
        Self::reopen(from, OsStr::new("."), path.to_owned())
    }

    fn reopen(from: BorrowedFd<'_>, name: &OsStr, path: PathBuf) -> Result<Self, FolderError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(from, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(Errno::ENOTDIR | Errno::ELOOP) => Err(FolderError::NotAFolder { path }),
            Err(errno) => Err(failed("open folder", &path)(errno)),
        }
    }

    /// A folder below this one, on whose way there is no link either.
    pub(crate) fn below(&self, path: &Path) -> Result<Self, FolderError> {
        let mut folder = Self::reopen(self.fd.as_fd(), OsStr::new("."), self.path.clone())?;
        for name in path {
            let path = folder.path.join(name);
            folder = Self::reopen(folder.fd.as_fd(), name, path)?;
        }
        Ok(folder)
    }

    /// Opens a file for reading, unless it is a link. A pipe doesn't hold it up.
    pub(crate) fn open_file(&self, name: &OsStr) -> Result<File, FolderError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(&self.fd, name, flags, Mode::empty());
        opened
            .map(File::from)
            .map_err(failed("open", &self.path.join(name)))
    }

    /// Refuses a folder in which somebody besides root, this process and the owner can replace names.
    pub(crate) fn refuse_exposed(&self, owner: &Owner) -> Result<(), FolderError> {
        let found = fstat(&self.fd).map_err(failed("look at", &self.path))?;
        let trusted = [0, nix::unistd::geteuid().as_raw(), owner.uid().as_raw()];
        if found.st_mode & 0o002 != 0 || !trusted.contains(&found.st_uid) {
            return Err(FolderError::Exposed {
                path: self.path.clone(),
                uid: found.st_uid,
            });
        }
        Ok(())
    }

    /// Keeps other writers of this program out while the lock lives.
    pub(crate) fn lock(&self) -> Result<Flock<OwnedFd>, FolderError> {
        let own = Self::reopen(self.fd.as_fd(), OsStr::new("."), self.path.clone())?;
        Flock::lock(own.fd, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => FolderError::Busy {
                path: self.path.clone(),
            },
            errno => failed("lock", &self.path)(errno),
        })
    }

    /// Makes a folder in this one that only the owner can enter yet.
    pub(crate) fn make_folder(&self, name: &OsStr, owner: &Owner) -> Result<Self, FolderError> {
        let path = self.path.join(name);
        mkdirat(&self.fd, name, Mode::S_IRWXU).map_err(failed("create folder", &path))?;
        let made = Self::reopen(self.fd.as_fd(), name, path)?;
        made.give(&made.fd, owner, &made.path)?;
        Ok(made)
    }

    /// Lets others read the folder's names.
    pub(crate) fn open_up(&self) -> Result<(), FolderError> {
        let mode = Mode::from_bits_truncate(0o755);
        fchmod(&self.fd, mode).map_err(failed("set the mode of", &self.path))
    }

    /// Makes a file in this folder, whole and synced; it must not exist.
    pub(crate) fn make_file(&self, file: Content<'_>, owner: &Owner) -> Result<(), FolderError> {
        let path = self.path.join(file.name);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, file.name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(failed("create", &path))?;
        self.give(&fd, owner, &path)?;
        let mode = Mode::from_bits_truncate(file.mode & 0o777);
        fchmod(&fd, mode).map_err(failed("set the mode of", &path))?;
        let mut out = File::from(fd);
        let written = out.write_all(file.bytes).and_then(|()| out.sync_all());
        written.map_err(|source| FolderError::Io {
            operation: "write",
            path,
            source,
        })
    }

    /// The kernel gave it to whom this thread acts as; the group may be another one.
    fn give(&self, fd: &OwnedFd, owner: &Owner, path: &Path) -> Result<(), FolderError> {
        let found = fstat(fd).map_err(failed("look at", path))?;
        if found.st_gid == owner.gid().as_raw() {
            return Ok(());
        }
        fchown(fd, None, Some(owner.gid())).map_err(failed("set the group of", path))
    }

    /// Puts a file in the place of whatever has its name, by one rename.
    pub(crate) fn replace(&self, file: Content<'_>, owner: &Owner) -> Result<(), FolderError> {
        let beside = beside(file.name)?;
        let named = Content {
            name: &beside,
            ..file
        };
        let done = self
            .make_file(named, owner)
            .and_then(|()| self.rename(&beside, file.name));
        done.inspect_err(|_| self.forget(&beside))
    }

    /// Puts a link in the place of whatever has this name, by one rename; what is one already stays.
    pub(crate) fn point(&self, name: &OsStr, to: &OsStr) -> Result<(), FolderError> {
        if self.points_to(name).as_deref() == Some(to) {
            return Ok(());
        }
        let beside = beside(name)?;
        let made = symlinkat(to, &self.fd, beside.as_os_str());
        made.map_err(failed("create", &self.path.join(&beside)))?;
        self.rename(&beside, name).inspect_err(|_| self.forget(&beside))
    }

    /// Where a link points to, if it is one.
    pub(crate) fn points_to(&self, name: &OsStr) -> Option<OsString> {
        readlinkat(&self.fd, name).ok()
    }

    pub(crate) fn sync(&self) -> Result<(), FolderError> {
        fsync(&self.fd).map_err(failed("sync folder", &self.path))
    }

    /// The names in it.
    pub(crate) fn names(&self) -> Result<Vec<OsString>, FolderError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let read = Dir::openat(&self.fd, ".", flags, Mode::empty())
            .and_then(|mut listing| listing.iter().collect::<Result<Vec<_>, _>>());
        let entries = read.map_err(failed("list", &self.path))?;
        let names = entries.iter().map(|entry| entry.file_name().to_bytes().to_vec());
        let names = names.filter(|name| name != b"." && name != b"..");
        Ok(names.map(OsString::from_vec).collect())
    }

    /// Removes a name: a file, a link, or a folder with the files in it. Whatever can't be removed stays.
    pub(crate) fn forget(&self, name: &OsStr) {
        if self.unlink(name, UnlinkatFlags::NoRemoveDir) != Err(Errno::EISDIR) {
            return;
        }
        // No deeper: a generation has no folders, and whoever put one there may clear it away.
        let inside = Self::reopen(self.fd.as_fd(), name, self.path.join(name));
        let within = inside.and_then(|folder| folder.names().map(|names| (folder, names)));
        let all = within.into_iter().all(|(folder, names)| {
            let mut removed = names
                .iter()
                .map(|name| folder.unlink(name, UnlinkatFlags::NoRemoveDir));
            removed.all(|removed| removed.is_ok())
        });
        if !all || self.unlink(name, UnlinkatFlags::RemoveDir).is_err() {
            tracing::debug!(path = %self.path.join(name).display(), "Unable to remove a folder");
        }
    }

    fn unlink(&self, name: &OsStr, flags: UnlinkatFlags) -> Result<(), Errno> {
        unlinkat(&self.fd, name, flags)
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> Result<(), FolderError> {
        renameat(&self.fd, from, &self.fd, to).map_err(failed("replace", &self.path.join(to)))
    }
}

/// A name that nobody has guessed: `.NAME.` and random digits.
pub(crate) fn beside(name: &OsStr) -> Result<OsString, FolderError> {
    let random = random_bytes::<{ SUFFIX / 2 }>().map_err(|error| FolderError::Io {
        operation: "name",
        path: name.into(),
        source: io::Error::other(error),
    })?;
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(".");
    beside.push(hex(&random));
    Ok(beside)
}

/// Whether [`beside`] could have made `found` of `name`.
pub(crate) fn is_beside(found: &OsStr, name: &OsStr) -> bool {
    let rest = found.as_bytes().strip_prefix(b".");
    let rest = rest.and_then(|rest| rest.strip_prefix(name.as_bytes()));
    let rest = rest.and_then(|rest| rest.strip_prefix(b"."));
    rest.is_some_and(|digits| digits.len() == SUFFIX && digits.iter().all(u8::is_ascii_hexdigit))
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(Errno) -> FolderError {
    move |errno| FolderError::Io {
        operation,
        path: path.to_owned(),
        source: errno.into(),
    }
}
