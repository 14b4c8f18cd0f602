//! Keys, certificates, tokens and bundle documents: everything of Credence that needs cryptography.
//!
//! Owns the only use of a cryptographic library in the project (rustls, which the TLS code configures, aside). Never reads a clock,
//! a file or a socket: the time is an argument. Invariant: what these types hold was parsed strictly; what they sign is
//! conformant; nothing here panics on any input, and no private key or token appears in `Debug` or an error.

pub mod bundle;
pub mod csr;
mod der;
pub mod digest;
mod json;
mod jwk;
mod jws;
pub mod jwt;
mod keys;
pub mod keystore;
mod oid;
pub mod wit;
pub mod x509;

pub use der::DerError;
pub use digest::{RandomError, hex, random_alphanumeric, random_bytes, sha1_hex, sha256, sha256_of};
pub use jwk::private_jwk;
pub use jws::{Profile, TokenKey};
pub use keys::{
    Hash, KeyType, PopSignature, PrivateKey, PrivateKeyError, PublicKey, PublicKeyError, PublicKeyKind,
    SignError, SignatureAlgorithm, SignatureForm, Signer, UnknownKeyType, VerifyError,
};
