//! Signing: the header is encoded once for a key, the claims are written straight into the token.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credence_identity::{SpiffeId, Timestamp};
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

/// A key that signs JWT-SVIDs: one that verifiers find under its `kid` in the bundle.
#[derive(Clone)]
pub struct JwtKey {
    kid: Arc<str>,
    signer: Arc<dyn Signer>,
    not_after: Timestamp,
    /// The header, encoded, with the period after it.
    prefix: Arc<str>,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

/// The claims of a JWT-SVID.
#[derive(Debug, Clone, Copy)]
pub struct JwtClaims<'a> {
    /// The identity.
    pub sub: &'a SpiffeId,
    /// Whom the token is for. Empty texts are dropped; one at least must be left.
    pub aud: &'a [String],
    /// When it is issued.
    pub iat: Timestamp,
    /// When it ends; cut to the end of the key.
    pub exp: Timestamp,
    /// The issuer, where one is configured.
    pub iss: Option<&'a str>,
    /// A unique id, where the entry wants it.
    pub jti: Option<&'a str>,
}

#[derive(Serialize)]
struct Payload<'a> {
    aud: &'a [&'a str],
    exp: i64,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    sub: &'a str,
}

/// A token and the times that are in it.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedJwt {
    /// The compact serialization: a bearer secret.
    pub token: String,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `exp`, which may be sooner than was asked for.
    pub expires_at: Timestamp,
}

impl fmt::Debug for SignedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedJwt")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl JwtKey {
    /// Names `signer` for tokens.
    pub fn new(kid: &str, signer: Arc<dyn Signer>, not_after: Timestamp) -> Result<Self, JwtSignError> {
        let header = Header {
            alg: signer.key_type().jws_algorithm(),
            kid,
            typ: "JWT",
        };
        let header = serde_json::to_vec(&header).map_err(|_| JwtSignError::Encoding)?;
        let prefix = URL_SAFE_NO_PAD.encode(header) + ".";
        Ok(Self {
            kid: kid.into(),
            signer,
            not_after,
            prefix: prefix.into(),
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
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey")
            .field("kid", &self.kid)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Signs a JWT-SVID in SPIRE's profile: `alg`, `kid`, `typ: JWT`; `aud` a list; no `nbf`.
pub fn sign_svid(key: &JwtKey, claims: &JwtClaims<'_>) -> Result<SignedJwt, JwtSignError> {
    let audience: Vec<&str> = claims
        .aud
        .iter()
        .map(String::as_str)
        .filter(|value| !value.is_empty())
        .collect();
    if audience.is_empty() {
        return Err(JwtSignError::NoAudience);
    }
    let issued_at = claims.iat.floor_to_second();
    let expires_at = claims.exp.min(key.not_after).floor_to_second();
    if issued_at >= expires_at {
        return Err(JwtSignError::EmptyLifetime);
    }
    let payload = Payload {
        aud: &audience,
        exp: expires_at.unix_seconds(),
        iat: issued_at.unix_seconds(),
        iss: claims.iss,
        jti: claims.jti,
        sub: claims.sub.as_str(),
    };
    let payload = serde_json::to_vec(&payload).map_err(|_| JwtSignError::Encoding)?;
    let mut token = String::with_capacity(key.prefix.len() + payload.len() * 4 / 3 + 96);
    token.push_str(&key.prefix);
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = key.signer.sign(token.as_bytes(), SignatureForm::Jose)?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(SignedJwt {
        token,
        issued_at,
        expires_at,
    })
}
