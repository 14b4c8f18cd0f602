//! The password of a key store, from a file that is nobody else's to read.
//!
//! It is read at each write, so that a new one counts from the next renewal on. Invariant: for a block of the agent no link
//! on the way is followed, or the owner of the files could have the agent use what only the agent may read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use credence_crypto::keystore::{KeyStoreError, StorePassword};
use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use super::folder::{Folder, FolderError};
use super::target::Target;

/// Larger files hold no password.
const MOST: u64 = 4096;

/// Why a password isn't used. Never shows any of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// It can't be read.
    #[error("unable to read password file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The way to it.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Others may read it, or put another in its place.
    #[error("password file {} must be a regular file of root's, the owner's or this user's that others have no rights to: chmod o= it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// It is none that all readers take.
    #[error("{} holds no usable password", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyStoreError,
    },
}

/// The first line of the file. Blocks on the disk.
pub(crate) fn read_password(path: &Path, target: &Target) -> Result<StorePassword, PasswordError> {
    let failed = |source| PasswordError::Io {
        path: path.to_owned(),
        source,
    };
    let file = if target.guarded {
        let folder = Folder::open(path.parent().unwrap_or(Path::new("/")))?;
        folder.open_file(path.file_name().unwrap_or_default())?
    } else {
        let mut options = File::options();
        let options = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
        options.open(path).map_err(failed)?
    };
    let found = file.metadata().map_err(failed)?;
    let trusted = [0, nix::unistd::geteuid().as_raw(), target.owner.uid().as_raw()];
    if !found.is_file() || found.mode() & 0o007 != 0 || !trusted.contains(&found.uid()) {
        return Err(PasswordError::Exposed {
            path: path.to_owned(),
        });
    }
    // Sized beforehand: growing would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(MOST).unwrap_or_default() + 1));
    file.take(MOST).read_to_end(&mut bytes).map_err(failed)?;
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next();
    StorePassword::new(line.unwrap_or_default()).map_err(|source| PasswordError::Unusable {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::files::owner::Owner;

    #[test]
    fn a_password_is_private_and_no_link_leads_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let (path, link) = (folder.join("password"), folder.join("link"));
        let target = |guarded| Target {
            folder: folder.clone(),
            owner: Owner::this_process(),
            guarded,
        };
        let set = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        set("change it\nnot this", 0o640);
        symlink(&path, &link).unwrap();
        read_password(&path, &target(true)).unwrap();
        read_password(&link, &target(false)).unwrap();
        let refused = |path: &Path, guarded| read_password(path, &target(guarded)).unwrap_err();
        assert!(matches!(refused(&link, true), PasswordError::Folder(_)));
        assert!(matches!(refused(&folder, true), PasswordError::Exposed { .. }));
        assert!(matches!(
            refused(&folder.join("none"), false),
            PasswordError::Io { .. }
        ));
        set("short", 0o600);
        assert!(matches!(refused(&path, true), PasswordError::Unusable { .. }));
        for mode in [0o604, 0o602] {
            set("changeit", mode);
            assert!(matches!(refused(&path, true), PasswordError::Exposed { .. }));
        }
    }
}
