//! What the agent keeps on disk: its SVID and the last bundle, in `agent-data.json` as SPIRE's agent writes it.
//!
//! Never holds a private key. Invariant: the file is whole after any crash, mode 0600, and what a caller stored is in it
//! before the call returns.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use credence_crypto::x509::X509Svid;
use credence_identity::{Bundle, Timestamp};
use credence_runtime::fs::{FsError, ensure_dir, write_atomic};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Go's zero time, which SPIRE writes when no bootstrap is under way.
const NO_TIME: &str = "0001-01-01T00:00:00Z";
/// SPIRE's numbers for what a bootstrap is.
const USE_BOOTSTRAP: i64 = 1;
const USE_REBOOTSTRAP: i64 = 2;

/// Why the state can't be loaded or stored.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file can't be read.
    #[error("failed to read data file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file isn't JSON of the expected form.
    #[error("failed to decode data file {}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it fails.
        #[source]
        source: serde_json::Error,
    },
    /// A certificate in the file isn't one.
    #[error("data file {} holds a damaged certificate in {member:?}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The member of the file.
        member: &'static str,
    },
    /// The folder or the file can't be written.
    #[error("failed to write data file")]
    Write(#[from] FsError),
}

/// The agent's SVID as it was saved.
#[derive(Debug, Clone)]
pub struct SavedSvid {
    /// The chain.
    pub svid: X509Svid,
    /// Whether the server lets this node attest again.
    pub reattestable: bool,
}

/// How a bootstrap goes that is under way, or the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootstrapState {
    /// Whether the server was trusted before.
    pub again: bool,
    /// When it began, or when the server's authority was first found unknown; none if all is well.
    pub began: Option<Timestamp>,
    /// How often the source was asked for a bundle.
    pub attempts: u32,
}

/// The agent's state file.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    data: Mutex<Data>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Data {
    // Each is the base64 of a PEM text; Go writes an empty list as null.
    #[serde(default)]
    svid: Option<Vec<String>>,
    #[serde(default)]
    bundle: Option<Vec<String>>,
    #[serde(default)]
    reattestable: bool,
    #[serde(default)]
    bootstrap_use: i64,
    #[serde(default = "no_time")]
    bootstrap_start_time: String,
    #[serde(default)]
    connection_attempts: i64,
}

impl StateFile {
    /// Opens `agent-data.json` of that folder, which is made if it is missing.
    ///
    /// # Errors
    /// [`StateError`], if there is a file that can't be read.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        ensure_dir(folder, 0o755)?;
        let path = folder.join("agent-data.json");
        let data = match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(data) => data,
                Err(source) => return Err(StateError::Json { path, source }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Data::default(),
            Err(source) => return Err(StateError::Read { path, source }),
        };
        let state = Self {
            path,
            data: Mutex::new(data),
        };
        state.svid()?;
        state.bundle()?;
        Ok(state)
    }

    /// The saved SVID, live or not.
    ///
    /// # Errors
    /// [`StateError::Certificate`].
    pub fn svid(&self) -> Result<Option<SavedSvid>, StateError> {
        let data = self.data();
        let damaged = || StateError::Certificate {
            path: self.path.clone(),
            member: "svid",
        };
        let chain = decode(data.svid.as_deref()).ok_or_else(damaged)?;
        if chain.is_empty() {
            return Ok(None);
        }
        let svid = X509Svid::from_der_chain(&chain).map_err(|_| damaged())?;
        Ok(Some(SavedSvid {
            svid,
            reattestable: data.reattestable,
        }))
    }

    /// The certificates of the saved bundle, DER; none if none was saved.
    ///
    /// # Errors
    /// [`StateError::Certificate`].
    pub fn bundle(&self) -> Result<Vec<Arc<[u8]>>, StateError> {
        let damaged = || StateError::Certificate {
            path: self.path.clone(),
            member: "bundle",
        };
        decode(self.data().bundle.as_deref()).ok_or_else(damaged)
    }

    /// Stores the SVID. Blocks on the disk.
    ///
    /// # Errors
    /// [`StateError::Write`]; the old file is then still there.
    pub fn store_svid(&self, svid: &X509Svid, reattestable: bool) -> Result<(), StateError> {
        self.change(|data| {
            data.svid = Some(encode(&svid.chain));
            data.reattestable = reattestable;
        })
    }

    /// Forgets the SVID, so that the next start attests the node. Blocks on the disk.
    ///
    /// # Errors
    /// [`StateError::Write`]; the old file is then still there.
    pub fn delete_svid(&self) -> Result<(), StateError> {
        self.change(|data| {
            data.svid = None;
            data.reattestable = false;
        })
    }

    /// Stores the X.509 authorities of the own bundle, unless they are there already. Blocks on the disk.
    ///
    /// # Errors
    /// [`StateError::Write`]; the old file is then still there.
    pub fn store_bundle(&self, bundle: &Bundle) -> Result<(), StateError> {
        let ders: Vec<_> = bundle
            .x509_authorities
            .iter()
            .map(|authority| authority.der.clone())
            .collect();
        let encoded = Some(encode(&ders));
        if self.data().bundle == encoded {
            return Ok(());
        }
        self.change(|data| data.bundle = encoded)
    }

    /// How bootstrapping stands. An agent with a saved bundle that doesn't say has been through its first.
    pub fn bootstrap(&self) -> BootstrapState {
        let data = self.data();
        let began = OffsetDateTime::parse(&data.bootstrap_start_time, &Rfc3339).ok();
        BootstrapState {
            again: match data.bootstrap_use {
                USE_BOOTSTRAP => false,
                USE_REBOOTSTRAP => true,
                _ => data.bundle.is_some_and(|bundle| !bundle.is_empty()),
            },
            began: began
                .filter(|_| data.bootstrap_start_time != NO_TIME)
                .map(|time| Timestamp::from_unix_seconds(time.unix_timestamp())),
            attempts: u32::try_from(data.connection_attempts).unwrap_or(0),
        }
    }

    /// Stores how bootstrapping stands, unless it is there already. Blocks on the disk.
    ///
    /// # Errors
    /// [`StateError::Write`]; the old file is then still there.
    pub fn store_bootstrap(&self, bootstrap: BootstrapState) -> Result<(), StateError> {
        if self.data().bootstrap_use != 0 && self.bootstrap() == bootstrap {
            return Ok(());
        }
        self.change(|data| data.set_bootstrap(bootstrap))
    }

    /// Forgets SVID and bundle, so that the next start bootstraps; it began at `began`. Blocks on the disk.
    ///
    /// # Errors
    /// [`StateError::Write`]; the old file is then still there.
    pub fn begin_again(&self, began: Timestamp) -> Result<(), StateError> {
        self.change(|data| {
            data.svid = None;
            data.reattestable = false;
            data.bundle = None;
            data.set_bootstrap(BootstrapState {
                again: true,
                began: Some(began),
                attempts: 0,
            });
        })
    }

    fn data(&self) -> Data {
        self.data.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Data)) -> Result<(), StateError> {
        let mut held = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        let mut data = held.clone();
        change(&mut data);
        let json = serde_json::to_vec(&data).map_err(|source| StateError::Json {
            path: self.path.clone(),
            source,
        })?;
        write_atomic(&self.path, &json, 0o600)?;
        *held = data;
        Ok(())
    }
}

impl Data {
    fn set_bootstrap(&mut self, bootstrap: BootstrapState) {
        self.bootstrap_use = if bootstrap.again {
            USE_REBOOTSTRAP
        } else {
            USE_BOOTSTRAP
        };
        self.bootstrap_start_time = bootstrap.began.map_or_else(no_time, |began| began.to_string());
        self.connection_attempts = i64::from(bootstrap.attempts);
    }
}

impl Default for Data {
    fn default() -> Self {
        Self {
            svid: None,
            bundle: None,
            reattestable: false,
            bootstrap_use: 0,
            bootstrap_start_time: no_time(),
            connection_attempts: 0,
        }
    }
}

fn no_time() -> String {
    NO_TIME.to_owned()
}

fn encode(chain: &[Arc<[u8]>]) -> Vec<String> {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let text = |der: &Arc<[u8]>| pem::encode_config(&pem::Pem::new("CERTIFICATE", der.to_vec()), config);
    chain.iter().map(|der| STANDARD.encode(text(der))).collect()
}

fn decode(stored: Option<&[String]>) -> Option<Vec<Arc<[u8]>>> {
    let one = |text: &String| {
        let pem = pem::parse(STANDARD.decode(text).ok()?).ok()?;
        (pem.tag() == "CERTIFICATE").then(|| Arc::from(pem.into_contents()))
    };
    stored.unwrap_or_default().iter().map(one).collect()
}

#[cfg(test)]
mod tests;
