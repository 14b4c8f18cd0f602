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
use credence_identity::Bundle;
use credence_runtime::fs::{FsError, ensure_dir, write_atomic};
use serde::{Deserialize, Serialize};

/// Go's zero time, which SPIRE writes when no bootstrap is under way.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

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
