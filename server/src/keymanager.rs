//! Where the authorities' private keys live.
//!
//! Owns the keys, by name; a key is used through [`Signer`] and leaves this module in no other form. It does not know
//! what a key is for, or whether it still is in use. Invariant: a key that was generated is as durable as the manager
//! promises before it can sign anything, and a failed generation leaves every key as it was.

mod disk;
mod measured;
mod memory;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use credence_crypto::{KeyType, PrivateKeyError, Signer};
use credence_runtime::fs::FsError;
use futures_util::future::BoxFuture;

pub use disk::DiskKeyManager;
pub use measured::MeasuredKeyManager;
pub use memory::MemoryKeyManager;

/// A place that keeps private keys. Every implementation passes the suite in `keymanager/tests.rs`.
pub trait KeyManager: Debug + Send + Sync + 'static {
    /// Makes a new key under `id`, in place of the one that was there.
    ///
    /// Not cancel safe: after dropping it the key may have been replaced or not.
    ///
    /// # Errors
    /// In each case the key that was there still is.
    fn generate<'a>(
        &'a self,
        id: &'a str,
        key_type: KeyType,
    ) -> BoxFuture<'a, Result<Arc<dyn Signer>, KeyManagerError>>;

    /// The key under `id`, if there is one.
    fn key(&self, id: &str) -> Option<Arc<dyn Signer>>;
}

/// Why a key manager failed. Shows names and paths, never a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyManagerError {
    /// The file cannot be read.
    #[error("unable to read keys from {}", path.display())]
    Read {
        /// The file of keys.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be written; the one before is still there.
    #[error("unable to write keys")]
    Write(#[source] FsError),
    /// The file is not what this key manager writes. It was left untouched.
    #[error("{} is no file of keys", path.display())]
    Malformed {
        /// The file of keys.
        path: PathBuf,
        /// Where it departs from the format; positions only.
        #[source]
        source: serde_json::Error,
    },
    /// A key of the file does not parse. The file was left untouched.
    #[error("key {id:?} in {} is unusable", path.display())]
    BadKey {
        /// The file of keys.
        path: PathBuf,
        /// The name of the key.
        id: String,
        /// What is wrong with it.
        #[source]
        source: Option<PrivateKeyError>,
    },
    /// The key could not be made.
    #[error("unable to generate key {id:?}")]
    Generate {
        /// The name of the key.
        id: String,
        /// What the cryptographic library said.
        #[source]
        source: PrivateKeyError,
    },
    /// The process is shutting down.
    #[error("key generation was interrupted")]
    Interrupted,
}

/// Runs what takes long or waits for the disk where it holds up no other task.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyManagerError> + Send + 'static,
) -> Result<T, KeyManagerError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(KeyManagerError::Interrupted))
}

#[cfg(test)]
mod tests;
