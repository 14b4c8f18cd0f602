//! Keys that are gone with the process: after a restart every authority is made anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use credence_crypto::{KeyType, PrivateKey, Signer};
use futures_util::future::BoxFuture;

use super::{KeyManager, KeyManagerError, blocking};

/// See the module's text. Clones share the keys, which tests use to outlive a server.
#[derive(Debug, Clone, Default)]
pub struct MemoryKeyManager {
    keys: Arc<Mutex<HashMap<String, PrivateKey>>>,
}

impl KeyManager for MemoryKeyManager {
    fn generate<'a>(
        &'a self,
        id: &'a str,
        key_type: KeyType,
    ) -> BoxFuture<'a, Result<Arc<dyn Signer>, KeyManagerError>> {
        let (keys, id) = (Arc::clone(&self.keys), id.to_owned());
        Box::pin(blocking(move || {
            let key = PrivateKey::generate(key_type).map_err(|source| KeyManagerError::Generate {
                id: id.clone(),
                source,
            })?;
            keys.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(id, key.clone());
            Ok(Arc::new(key) as Arc<dyn Signer>)
        }))
    }

    fn key(&self, id: &str) -> Option<Arc<dyn Signer>> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(id).map(|key| Arc::new(key.clone()) as Arc<dyn Signer>)
    }
}
