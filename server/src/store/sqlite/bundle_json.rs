//! The authorities of a bundle as the JSON text of its row.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use credence_identity::{Bundle, JwtAuthority, Timestamp, X509Authority};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Authorities {
    x509: Vec<X509>,
    jwt: Vec<Key>,
    /// Rows that were written before there were any have none.
    #[serde(default)]
    wit: Vec<Key>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct X509 {
    der: String,
    tainted: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    key_id: String,
    public_key: String,
    /// Milliseconds since the Unix epoch.
    expires_at: Option<i64>,
    tainted: bool,
}

/// Authorities of each kind.
pub(super) struct Parsed {
    pub(super) x509: Vec<X509Authority>,
    pub(super) jwt: Vec<JwtAuthority>,
    pub(super) wit: Vec<JwtAuthority>,
}

pub(super) fn encode(bundle: &Bundle) -> Result<String, serde_json::Error> {
    let x509 = bundle.x509_authorities.iter();
    let x509 = x509
        .map(|held| X509 {
            der: STANDARD.encode(&held.der),
            tainted: held.tainted,
        })
        .collect();
    let key = |held: &JwtAuthority| Key {
        key_id: held.key_id.as_ref().to_owned(),
        public_key: STANDARD.encode(&held.public_key),
        expires_at: held.expires_at.map(Timestamp::unix_millis),
        tainted: held.tainted,
    };
    serde_json::to_string(&Authorities {
        x509,
        jwt: bundle.jwt_authorities.iter().map(key).collect(),
        wit: bundle.wit_authorities.iter().map(key).collect(),
    })
}

/// Parses the text; the error says what is wrong with it.
pub(super) fn decode(text: &str) -> Result<Parsed, String> {
    let held: Authorities = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let bytes = |text: &str| {
        STANDARD
            .decode(text)
            .map(Arc::<[u8]>::from)
            .map_err(|error| error.to_string())
    };
    let x509 = held.x509.into_iter().map(|authority| {
        let der = bytes(&authority.der)?;
        Ok(X509Authority {
            der,
            tainted: authority.tainted,
        })
    });
    let key = |authority: Key| {
        let public_key = bytes(&authority.public_key)?;
        Ok(JwtAuthority {
            key_id: authority.key_id.into(),
            public_key,
            expires_at: authority.expires_at.map(Timestamp::from_unix_millis),
            tainted: authority.tainted,
        })
    };
    Ok(Parsed {
        x509: x509.collect::<Result<_, String>>()?,
        jwt: held.jwt.into_iter().map(key).collect::<Result<_, String>>()?,
        wit: held.wit.into_iter().map(key).collect::<Result<_, String>>()?,
    })
}
