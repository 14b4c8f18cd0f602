//! Signing: the header is encoded once for a key, the claims are written straight into the token.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credence_identity::Timestamp;
use serde::Serialize;

use crate::digest::{RandomError, random_alphanumeric};
use crate::keys::{PublicKey, SignError, SignatureForm, Signer};

/// Why no token was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtSignError {
    /// The key failed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// No audience that isn't empty.
    #[error("audience is missing")]
    NoAudience,
    /// Nothing is left of the lifetime within that of the key.
    #[error("token would have expired before it is issued")]
    EmptyLifetime,
    /// The claims can't be written as JSON.
    #[error("claims cannot be encoded")]
    Encoding,
}

/// A kind of token: a key of one never signs the other.
pub trait Profile: fmt::Debug + Clone + Send + Sync + 'static {
    /// `typ` of its header.
    const TYP: &'static str;
}

/// A key that signs tokens of one profile: one that verifiers find under its `kid` in the bundle.
#[derive(Clone)]
pub struct TokenKey<P> {
    kid: Arc<str>,
    signer: Arc<dyn Signer>,
    not_after: Timestamp,
    /// The header, encoded, with the period after it.
    prefix: Arc<str>,
    profile: PhantomData<fn() -> P>,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

/// A token and the times that are in it.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedToken {
    /// The compact serialization: a secret.
    pub token: String,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `exp`, which may be sooner than was asked for.
    pub expires_at: Timestamp,
    /// `kid`: the authority that signed it.
    pub key_id: Arc<str>,
}

impl fmt::Debug for SignedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedToken")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The lifetime of a token in whole seconds, within that of its key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

impl<P: Profile> TokenKey<P> {
    /// Names `signer` for tokens.
    pub fn new(kid: &str, signer: Arc<dyn Signer>, not_after: Timestamp) -> Result<Self, JwtSignError> {
        let header = Header {
            alg: signer.key_type().jws_algorithm(),
            kid,
            typ: P::TYP,
        };
        let header = serde_json::to_vec(&header).map_err(|_| JwtSignError::Encoding)?;
        let prefix = URL_SAFE_NO_PAD.encode(header) + ".";
        Ok(Self {
            kid: kid.into(),
            signer,
            not_after,
            prefix: prefix.into(),
            profile: PhantomData,
        })
    }

    /// A new key id: 32 random letters and digits (as SPIRE makes them).
    pub fn random_kid() -> Result<String, RandomError> {
        random_alphanumeric(32)
    }

    /// The name of the key in bundles and headers.
    pub fn kid(&self) -> &Arc<str> {
        &self.kid
    }

    /// The public half, as the bundle publishes it.
    pub fn public_key(&self) -> &PublicKey {
        self.signer.public_key()
    }

    /// When the key stops signing; no token lives longer.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The lifetime that a token of this key gets when asked for one from `from` to `to`.
    pub(crate) fn times(&self, from: Timestamp, to: Timestamp) -> Result<Times, JwtSignError> {
        let times = Times {
            issued_at: from.floor_to_second(),
            expires_at: to.min(self.not_after).floor_to_second(),
        };
        if times.issued_at >= times.expires_at {
            return Err(JwtSignError::EmptyLifetime);
        }
        Ok(times)
    }

    /// Signs a payload, which has `times` in it.
    pub(crate) fn sign(&self, payload: &impl Serialize, times: Times) -> Result<SignedToken, JwtSignError> {
        let payload = serde_json::to_vec(payload).map_err(|_| JwtSignError::Encoding)?;
        let mut token = String::with_capacity(self.prefix.len() + payload.len() * 4 / 3 + 96);
        token.push_str(&self.prefix);
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let signature = self.signer.sign(token.as_bytes(), SignatureForm::Jose)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(SignedToken {
            token,
            issued_at: times.issued_at,
            expires_at: times.expires_at,
            key_id: Arc::clone(&self.kid),
        })
    }
}

impl<P> fmt::Debug for TokenKey<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey")
            .field("kid", &self.kid)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}
