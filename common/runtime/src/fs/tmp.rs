//! The rule for /tmp, where everybody may create names before we do.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::geteuid;

use super::{FsError, failed};

/// Refuses a socket or data folder at or below `/tmp/NAME` when `/tmp/NAME` exists and neither this user nor root owns
/// it; symbolic links on the way there are followed, one at `/tmp/NAME` itself is judged by its own owner.
///
/// # Errors
/// [`FsError::ForeignTmp`], or [`FsError::Io`] when the owner can't be found out.
pub fn refuse_foreign_tmp(path: &Path) -> Result<(), FsError> {
    refuse_foreign_below(Path::new("/tmp"), path, geteuid().as_raw())
}

pub(super) fn refuse_foreign_below(tmp: &Path, path: &Path, own_uid: u32) -> Result<(), FsError> {
    let asked = std::path::absolute(path).map_err(failed("resolve", path))?;
    let resolved = resolve_existing(&asked);
    for candidate in [Some(&asked), Some(&resolved)].into_iter().flatten() {
        let Ok(below) = candidate.strip_prefix(tmp) else {
            continue;
        };
        let Some(Component::Normal(name)) = below.components().next() else {
            continue;
        };
        let found = tmp.join(name);
        let owner = match fs::symlink_metadata(&found) {
            Ok(metadata) => metadata.uid(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("look at", &found)(error)),
        };
        if owner != own_uid && owner != 0 {
            return Err(FsError::ForeignTmp {
                path: path.to_owned(),
                found,
                owner,
            });
        }
    }
    Ok(())
}

/// The path with links and `..` resolved as far as it exists.
fn resolve_existing(path: &Path) -> PathBuf {
    let mut missing = PathBuf::new();
    for ancestor in path.ancestors() {
        if let Ok(resolved) = ancestor.canonicalize() {
            return resolved.join(missing);
        }
        let Some(name) = ancestor.file_name() else { break };
        missing = if missing.as_os_str().is_empty() {
            name.into()
        } else {
            Path::new(name).join(missing)
        };
    }
    path.to_owned()
}
