//! The programs of the two makes, under the same names.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use credence_test_support::counterparts;

/// Who made a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Make {
    /// SPIRE, unmodified.
    Spire,
    /// This repository.
    Credence,
}

/// A server and an agent of one make.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Who made them.
    pub make: Make,
    /// The program `spire-server`.
    pub server: PathBuf,
    /// The program `spire-agent`.
    pub agent: PathBuf,
}

impl Programs {
    /// Our binary, linked in `folder` under SPIRE's names.
    #[must_use]
    pub fn credence(binary: &str, folder: &Path) -> Self {
        let of = |name: &str| {
            let link = folder.join(name);
            if fs::symlink_metadata(&link).is_err() {
                symlink(binary, &link).expect("link the binary");
            }
            link
        };
        Self {
            make: Make::Credence,
            server: of("spire-server"),
            agent: of("spire-agent"),
        }
    }

    /// The first word that `spire-server --version` prints.
    #[must_use]
    pub fn version(&self) -> String {
        let output = Command::new(&self.server)
            .arg("--version")
            .output()
            .expect("ask for the version");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        text.split_whitespace().next().unwrap_or_default().to_owned()
    }
}

/// SPIRE's programs for the test `name`; without them it is recorded as skipped.
///
/// # Panics
/// If `SPIRE_BIN_DIR` names a folder without them.
#[must_use]
pub fn spire(name: &str) -> Option<Programs> {
    let Some(folder) = env::var_os("SPIRE_BIN_DIR").filter(|value| !value.is_empty()) else {
        counterparts::record(
            &format!("spire ({name})"),
            "SKIPPED: SPIRE is not installed: SPIRE_BIN_DIR doesn't name the folder of its programs",
        );
        return None;
    };
    let of = |name: &str| {
        let path = Path::new(&folder).join(name);
        assert!(path.is_file(), "SPIRE_BIN_DIR: no {}", path.display());
        path
    };
    Some(Programs {
        make: Make::Spire,
        server: of("spire-server"),
        agent: of("spire-agent"),
    })
}
