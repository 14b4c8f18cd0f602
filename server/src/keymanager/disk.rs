//! Keys in a JSON file, in SPIRE's format: `{"keys": {"<id>": "<base64 of PKCS#8 DER>"}}`.
//!
//! Invariant: the file is 0600 and whole at any time; it is the old or the new one after a crash, never half of one.
//! A file that doesn't parse is never written over.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credence_crypto::{KeyType, PrivateKey, Signer};
use credence_runtime::fs::{ensure_dir, write_atomic};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{KeyManager, KeyManagerError, blocking};

type Keys = BTreeMap<String, PrivateKey>;

/// See the module's text.
#[derive(Debug)]
pub struct DiskKeyManager {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    keys: Mutex<Keys>,
    /// Held over a whole generation, so that two of them don't write each other's keys away.
    writing: Mutex<()>,
}

impl DiskKeyManager {
    /// Reads the keys of the file, which need not be there yet; its folder is made if it is missing. Blocks on the disk.
    ///
    /// # Errors
    /// If the file can't be read or isn't one of keys: it is better to stop than to start with new authorities.
    pub fn open(path: &Path) -> Result<Self, KeyManagerError> {
        let keys = match std::fs::read(path) {
            Ok(text) => parse(path, &Zeroizing::new(text))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(folder) = path.parent() {
                    ensure_dir(folder, 0o750).map_err(KeyManagerError::Write)?;
                }
                Keys::new()
            }
            Err(source) => {
                return Err(KeyManagerError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let shared = Shared {
            path: path.to_owned(),
            keys: Mutex::new(keys),
            writing: Mutex::new(()),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }
}

impl KeyManager for DiskKeyManager {
    fn generate<'a>(
        &'a self,
        id: &'a str,
        key_type: KeyType,
    ) -> BoxFuture<'a, Result<Arc<dyn Signer>, KeyManagerError>> {
        let (shared, id) = (Arc::clone(&self.shared), id.to_owned());
        Box::pin(blocking(move || {
            let key = PrivateKey::generate(key_type).map_err(|source| KeyManagerError::Generate {
                id: id.clone(),
                source,
            })?;
            let _writing = shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut keys = shared.lock().clone();
            keys.insert(id, key.clone());
            write_atomic(&shared.path, &render(&keys), 0o600).map_err(KeyManagerError::Write)?;
            *shared.lock() = keys;
            Ok(Arc::new(key) as Arc<dyn Signer>)
        }))
    }

    fn key(&self, id: &str) -> Option<Arc<dyn Signer>> {
        self.shared
            .lock()
            .get(id)
            .map(|key| Arc::new(key.clone()) as Arc<dyn Signer>)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
struct File {
    keys: BTreeMap<String, String>,
}

fn parse(path: &Path, text: &[u8]) -> Result<Keys, KeyManagerError> {
    let malformed = |source| KeyManagerError::Malformed {
        path: path.to_owned(),
        source,
    };
    let file: File = serde_json::from_slice(text).map_err(malformed)?;
    let parse_key = |(id, encoded): (String, String)| {
        let encoded = Zeroizing::new(encoded);
        let bad_key = |id: &str, source| KeyManagerError::BadKey {
            path: path.to_owned(),
            id: id.to_owned(),
            source,
        };
        let der = Zeroizing::new(
            STANDARD
                .decode(encoded.as_bytes())
                .map_err(|_| bad_key(&id, None))?,
        );
        let key = PrivateKey::from_pkcs8_der(&der).map_err(|error| bad_key(&id, Some(error)))?;
        Ok((id, key))
    };
    file.keys.into_iter().map(parse_key).collect()
}

/// Written by hand into one buffer of sufficient size, because a buffer that grows leaves copies of keys behind.
fn render(keys: &Keys) -> Zeroizing<Vec<u8>> {
    let encoded: Vec<(String, Zeroizing<String>)> = keys
        .iter()
        .map(|(id, key)| {
            let name = serde_json::Value::from(id.as_str()).to_string();
            (name, Zeroizing::new(STANDARD.encode(key.pkcs8_der().as_slice())))
        })
        .collect();
    let size: usize = encoded
        .iter()
        .map(|(name, key)| name.len() + key.len() + 16)
        .sum();
    let mut text = Zeroizing::new(Vec::with_capacity(size + 32));
    text.extend_from_slice(b"{\n\t\"keys\": {");
    for (index, (name, key)) in encoded.iter().enumerate() {
        text.extend_from_slice(if index == 0 { b"\n\t\t" } else { b",\n\t\t" });
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b": \"");
        text.extend_from_slice(key.as_bytes());
        text.extend_from_slice(b"\"");
    }
    text.extend_from_slice(if encoded.is_empty() {
        b"}\n}\n"
    } else {
        b"\n\t}\n}\n"
    });
    text
}
