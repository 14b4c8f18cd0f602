//! Key stores of other worlds: PKCS#12 (RFC 7292) and Java's JKS, written and never read.
//!
//! Owns both formats, on the library's primitives; there is no decoder here, so nothing hostile is ever parsed. A store
//! holds one key with its chain and the authorities of a bundle, so that one file serves as a key store and a trust store.
//! Invariant: the key is in no buffer that isn't erased, but encrypted.

mod jks;
mod pkcs12;

use std::fmt;
use std::sync::Arc;

use credence_identity::Timestamp;
use zeroize::Zeroizing;

use crate::digest::RandomError;
use crate::keys::PrivateKey;

pub use jks::to_jks;
pub use pkcs12::to_pkcs12;

/// The alias of the key.
pub const KEY_ALIAS: &str = "svid";

/// Fewer characters Java's tools refuse.
const SHORTEST: usize = 6;
const LONGEST: usize = 1024;

/// The alias of an authority of the bundle.
fn authority_alias(index: usize) -> String {
    format!("authority-{}", index + 1)
}

/// Why there is no key store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyStoreError {
    /// Readers differ in how they encode anything else.
    #[error("password is not of 6 to 1024 printable ASCII characters")]
    Password,
    /// A certificate is larger than the format can say.
    #[error("certificate is too large")]
    TooLarge,
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The library failed.
    #[error("encryption failed")]
    Encryption,
}

/// What protects a store. Erased when dropped.
#[derive(Clone)]
pub struct StorePassword(Zeroizing<Vec<u8>>);

impl StorePassword {
    /// A password of printable ASCII.
    ///
    /// # Errors
    /// [`KeyStoreError::Password`].
    pub fn new(text: &[u8]) -> Result<Self, KeyStoreError> {
        let printable = text.iter().all(|byte| (0x20..0x7f).contains(byte));
        if !printable || !(SHORTEST..=LONGEST).contains(&text.len()) {
            return Err(KeyStoreError::Password);
        }
        Ok(Self(Zeroizing::new(text.to_vec())))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Each character as two bytes, as both formats want it somewhere.
    fn utf16(&self) -> Zeroizing<Vec<u8>> {
        let mut wide = Zeroizing::new(Vec::with_capacity(self.0.len() * 2 + 2));
        for byte in self.0.iter() {
            wide.extend_from_slice(&[0, *byte]);
        }
        wide
    }
}

impl fmt::Debug for StorePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StorePassword(redacted)")
    }
}

/// What a store is to hold.
#[derive(Debug, Clone, Copy)]
pub struct StoreContents<'a> {
    /// The key.
    pub key: &'a PrivateKey,
    /// Its certificates, leaf first.
    pub chain: &'a [Arc<[u8]>],
    /// Authorities to be trusted.
    pub authorities: &'a [Arc<[u8]>],
    /// When the store says that its entries were made.
    pub now: Timestamp,
}

#[cfg(test)]
mod tests;
