//! Where the agent's own key lives: in memory, or in `keys.json` as SPIRE's disk key manager has it.
//!
//! Owns two slots, A and B: a new key goes to the slot that the SVID in use doesn't need, so that a crash between the
//! key and its SVID loses nothing. Keys of workloads never come here. Invariant: with `disk`, a key that was returned is
//! on the disk, mode 0600.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use credence_crypto::{KeyType, PrivateKey, PrivateKeyError, PublicKey, Signer};
use credence_runtime::fs::{FsError, ensure_dir, write_atomic};
use credence_runtime::telemetry::{Measured, Telemetry};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const SLOTS: [&str; 2] = ["agent-svid-A", "agent-svid-B"];

/// Why a key can't be loaded or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyManagerError {
    /// The file can't be read.
    #[error("unable to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file isn't JSON of the expected form.
    #[error("unable to decode keys JSON in {}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it fails; never shows a value.
        #[source]
        source: serde_json::Error,
    },
    /// A key in the file can't be used.
    #[error("unable to parse key {name:?} in {}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key's name.
        name: String,
    },
    /// The folder or the file can't be written.
    #[error(transparent)]
    Write(#[from] FsError),
    /// No key could be made.
    #[error("unable to generate private key")]
    Generate(#[from] PrivateKeyError),
}

/// The keys of this agent.
#[derive(Debug)]
pub struct KeyManager {
    file: Option<PathBuf>,
    keys: Mutex<BTreeMap<String, PrivateKey>>,
    measured: Measured,
}

#[derive(Deserialize)]
struct Stored<'a> {
    // Borrowed, so that only the text that is erased holds the keys.
    #[serde(borrow, default)]
    keys: BTreeMap<String, &'a str>,
}

#[derive(Serialize)]
struct ToStore<'a> {
    keys: BTreeMap<&'a str, &'a str>,
}

impl KeyManager {
    /// Keys that end with the process.
    pub fn memory() -> Self {
        Self {
            file: None,
            keys: Mutex::default(),
            measured: Measured::default(),
        }
    }

    /// Keys in `keys.json` of that folder, which is made if it is missing (mode 0700).
    ///
    /// # Errors
    /// [`KeyManagerError`], if there is a file that can't be used: it is never overwritten then.
    pub fn disk(folder: &Path) -> Result<Self, KeyManagerError> {
        ensure_dir(folder, 0o700)?;
        let path = folder.join("keys.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    file: Some(path),
                    keys: Mutex::default(),
                    measured: Measured::default(),
                });
            }
            Err(source) => return Err(KeyManagerError::Read { path, source }),
        };
        let stored: Stored<'_> = match serde_json::from_str(&text) {
            Ok(stored) => stored,
            Err(source) => return Err(KeyManagerError::Json { path, source }),
        };
        let mut keys = BTreeMap::new();
        for (name, encoded) in stored.keys {
            let der = STANDARD.decode(encoded).map(Zeroizing::new).ok();
            match der.and_then(|der| PrivateKey::from_pkcs8_der(&der).ok()) {
                Some(key) => keys.insert(name, key),
                None => return Err(KeyManagerError::Key { path, name }),
            };
        }
        Ok(Self {
            file: Some(path),
            keys: Mutex::new(keys),
            measured: Measured::default(),
        })
    }

    /// Measures what it does from now on.
    pub fn measure_by(&self, telemetry: &Telemetry) {
        self.measured.by(telemetry);
        // They were read when it was opened.
        drop(self.measured.counted("agent_key_manager.get_keys"));
    }

    /// By what it is measured, and those who use its keys.
    pub fn telemetry(&self) -> &Telemetry {
        &self.measured
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// The private half of that key, if it is held.
    pub fn find(&self, public: &PublicKey) -> Option<PrivateKey> {
        let _counted = self.measured.counted("agent_key_manager.get_key");
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.values().find(|key| key.public_key() == public).cloned()
    }

    /// Makes a key (P-256, as SPIRE's agent does) in the slot that doesn't hold `current`. Blocks on the disk.
    ///
    /// # Errors
    /// [`KeyManagerError`]; what was held is unchanged then.
    pub fn generate(&self, current: Option<&PublicKey>) -> Result<PrivateKey, KeyManagerError> {
        self.measured
            .measure("agent_key_manager.generate_key", || self.make(current))
    }

    fn make(&self, current: Option<&PublicKey>) -> Result<PrivateKey, KeyManagerError> {
        let [first, second] = SLOTS;
        let mut held = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = held
            .get(first)
            .is_some_and(|key| Some(key.public_key()) == current);
        let slot = if in_use { second } else { first };
        let key = PrivateKey::generate(KeyType::EcP256)?;
        let mut keys = held.clone();
        keys.insert(slot.to_owned(), key.clone());
        if let Some(path) = &self.file {
            write_atomic(path, &encode(&keys), 0o600)?;
        }
        *held = keys;
        Ok(key)
    }
}

fn encode(keys: &BTreeMap<String, PrivateKey>) -> Zeroizing<Vec<u8>> {
    let encoded: BTreeMap<&str, Zeroizing<String>> = keys
        .iter()
        .map(|(name, key)| {
            (
                name.as_str(),
                Zeroizing::new(STANDARD.encode(key.pkcs8_der().as_slice())),
            )
        })
        .collect();
    let stored = ToStore {
        keys: encoded
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect(),
    };
    // Large enough from the start, so that growing leaves no copy of a key behind.
    let mut json = Zeroizing::new(Vec::with_capacity(64 + 8 * 1024 * keys.len()));
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut *json, tabs);
    // Text in a map always has a JSON form, and memory takes all of it.
    if stored.serialize(&mut serializer).is_err() {
        json.clear();
    }
    json
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_key_never_takes_the_slot_of_the_one_in_use() {
        let keys = KeyManager::memory();
        let first = keys.generate(None).unwrap();
        let second = keys.generate(Some(first.public_key())).unwrap();
        assert!(keys.find(first.public_key()).is_some() && keys.find(second.public_key()).is_some());
        let third = keys.generate(Some(second.public_key())).unwrap();
        assert!(keys.find(first.public_key()).is_none(), "its slot was free");
        assert!(keys.find(second.public_key()).is_some() && keys.find(third.public_key()).is_some());
    }

    #[test]
    fn the_disk_keeps_keys_in_spires_form() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyManager::disk(&folder.path().join("made/here")).unwrap();
        let key = keys.generate(None).unwrap();
        let file = folder.path().join("made/here/keys.json");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let stored = json["keys"]["agent-svid-A"].as_str().unwrap();
        assert_eq!(STANDARD.decode(stored).unwrap(), key.pkcs8_der().as_slice());
        let again = KeyManager::disk(file.parent().unwrap()).unwrap();
        assert!(again.find(key.public_key()).is_some());
        again.generate(Some(key.public_key())).unwrap();
        assert!(fs::read_to_string(&file).unwrap().contains("agent-svid-B"));
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.json");
        for damaged in [
            "{",
            r#"{"keys":{"agent-svid-A":"AAAA"}}"#,
            r#"{"keys":{"agent-svid-A":"?"}}"#,
        ] {
            fs::write(&file, damaged).unwrap();
            KeyManager::disk(folder.path()).unwrap_err();
            assert_eq!(fs::read_to_string(&file).unwrap(), damaged);
        }
    }
}
