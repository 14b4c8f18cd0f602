//! Bundles as documents: PEM, and the JSON of the SPIFFE standard.

use std::{sync::Arc, time::Duration};

use credence_command::{CommandError, Console};
use credence_crypto::bundle::{parse_spiffe, to_spiffe_json, x509_from_der, x509_from_pem, x509_to_pem};
use credence_identity::{Bundle, JwtAuthority, Timestamp, TrustDomain, X509Authority};
use credence_proto::spire::api::types;

/// The flag that chooses the form.
pub(in crate::cli) const PEM: &str = "pem";
pub(in crate::cli) const SPIFFE: &str = "spiffe";

/// The form of a bundle document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cli) enum Form {
    /// X.509 authorities alone.
    Pem,
    /// All authorities, with sequence number and refresh hint (Trust Domain and Bundle, section 4).
    Spiffe,
}

impl Form {
    /// `pem` or `spiffe` in any case; nothing is `pem`.
    pub(super) fn parse(text: &str) -> Result<Self, CommandError> {
        match text.to_ascii_lowercase().as_str() {
            "" | PEM => Ok(Self::Pem),
            SPIFFE => Ok(Self::Spiffe),
            other => Err(CommandError::new(format!("invalid format: {other:?}"))),
        }
    }
}

/// Reads a document as the bundle of that trust domain.
pub(in crate::cli) fn read(
    bytes: &[u8],
    form: Form,
    trust_domain: &str,
) -> Result<types::Bundle, CommandError> {
    match form {
        Form::Pem => {
            let text = String::from_utf8_lossy(bytes);
            let authorities = x509_from_pem(&text)
                .map_err(|error| CommandError::chain(&error).context("unable to parse bundle data"))?;
            Ok(types::Bundle {
                // The server says what is wrong with it.
                trust_domain: trust_domain.to_owned(),
                x509_authorities: authorities.iter().map(certificate).collect(),
                ..Default::default()
            })
        }
        Form::Spiffe => {
            let domain = TrustDomain::parse_lenient(trust_domain)?;
            let bundle = parse_spiffe(&domain, bytes)
                .map_err(|error| CommandError::chain(&error).context("unable to parse to spiffe bundle"))?;
            Ok(message(&bundle))
        }
    }
}

/// Writes a bundle, under a heading with its trust domain if there may be several.
pub(super) fn print(
    bundle: types::Bundle,
    form: Form,
    heading: bool,
    console: &mut Console<'_>,
) -> Result<(), CommandError> {
    let bundle = parse(bundle)?;
    if heading {
        let stars = "*".repeat(40);
        writeln!(
            console.out,
            "{stars}\n* {}\n{stars}",
            bundle.trust_domain.as_str()
        )?;
    }
    match form {
        Form::Pem => write!(console.out, "{}", x509_to_pem(&bundle))?,
        Form::Spiffe => writeln!(console.out, "{}", to_spiffe_json(&bundle).trim_end())?,
    }
    Ok(())
}

fn parse(message: types::Bundle) -> Result<Bundle, CommandError> {
    let mut bundle = Bundle::empty(TrustDomain::parse_lenient(&message.trust_domain)?);
    for authority in message.x509_authorities {
        let authorities = x509_from_der(&authority.asn1).map_err(|error| {
            CommandError::chain(&error).context("unable to parse certificates ASN.1 DER data")
        })?;
        bundle.x509_authorities.extend(authorities);
    }
    bundle.jwt_authorities = message.jwt_authorities.into_iter().map(jwt_authority).collect();
    bundle.sequence_number = message.sequence_number;
    bundle.refresh_hint = u64::try_from(message.refresh_hint)
        .ok()
        .filter(|hint| *hint > 0)
        .map(Duration::from_secs);
    Ok(bundle)
}

fn jwt_authority(key: types::JwtKey) -> JwtAuthority {
    JwtAuthority {
        key_id: key.key_id.into(),
        public_key: Arc::from(key.public_key),
        expires_at: (key.expires_at != 0).then(|| Timestamp::from_unix_seconds(key.expires_at)),
        tainted: key.tainted,
    }
}

/// What a document says, which is neither an expiry nor a taint.
fn message(bundle: &Bundle) -> types::Bundle {
    let jwt = bundle.jwt_authorities.iter();
    let hint = bundle.refresh_hint.unwrap_or_default().as_secs();
    types::Bundle {
        trust_domain: bundle.trust_domain.as_str().to_owned(),
        x509_authorities: bundle.x509_authorities.iter().map(certificate).collect(),
        jwt_authorities: jwt
            .map(|authority| types::JwtKey {
                public_key: authority.public_key.to_vec(),
                key_id: authority.key_id.to_string(),
                ..Default::default()
            })
            .collect(),
        refresh_hint: i64::try_from(hint).unwrap_or(i64::MAX),
        sequence_number: bundle.sequence_number,
        wit_authorities: Vec::new(),
    }
}

fn certificate(authority: &X509Authority) -> types::X509Certificate {
    types::X509Certificate {
        asn1: authority.der.to_vec(),
        tainted: false,
    }
}
