//! Keys about authorities and lifetimes.

use std::time::Duration;

use credence_crypto::KeyType;
use credence_crypto::x509::CaSubject;
use credence_identity::TrustDomain;
use credence_runtime::config::{Section, UnknownKeys, feature_flags};

use crate::ca::{Settings, WitSettings};

/// SPIRE's limit above which it warns, whatever the authorities' lifetime.
const LONG_TTL: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The share of an authority's lifetime in which a new one takes over, worst case.
const CA_SHARE: u32 = 6;

/// The keys about WIT-SVIDs of a server that issues them.
#[derive(Debug, Clone)]
pub(super) struct WitKeys {
    key_type: Option<KeyType>,
    issuer: Option<String>,
}

/// Reads the feature flags and, of `experimental`, what one of them switches on.
pub(super) fn wit(experimental: &Section<'_>) -> Option<WitKeys> {
    let keys = WitKeys {
        key_type: experimental.parsed("wit_key_type"),
        issuer: experimental.string("wit_issuer"),
    };
    feature_flags(experimental).wit_svid.then_some(keys)
}

pub(super) fn read(
    server: &Section<'_>,
    trust_domain: Option<&TrustDomain>,
    wit: Option<WitKeys>,
) -> Option<Settings> {
    let x509_key_type = server.parsed::<KeyType>("ca_key_type").unwrap_or(KeyType::EcP256);
    let jwt_key_type = server.parsed::<KeyType>("jwt_key_type").unwrap_or(x509_key_type);
    let ca_subject = ca_subject(server);
    let [ca_ttl, x509_svid_ttl, jwt_svid_ttl, agent_ttl] = [
        "ca_ttl",
        "default_x509_svid_ttl",
        "default_jwt_svid_ttl",
        "agent_ttl",
    ]
    .map(|key| lifetime(server, key));
    let jwt_issuer = server.string("jwt_issuer");
    let disable_jwt_svids = server.boolean("disable_jwt_svids").unwrap_or(false);
    let defaults = Settings::defaults(trust_domain?.clone());
    let x509_svid_ttl = x509_svid_ttl.unwrap_or(defaults.x509_svid_ttl);
    let settings = Settings {
        x509_key_type,
        jwt_key_type,
        ca_ttl: ca_ttl.unwrap_or(defaults.ca_ttl),
        ca_subject,
        x509_svid_ttl,
        jwt_svid_ttl: jwt_svid_ttl.unwrap_or(defaults.jwt_svid_ttl),
        agent_ttl: agent_ttl.unwrap_or(x509_svid_ttl),
        jwt_issuer,
        wit: wit.map(|keys| WitSettings {
            key_type: keys.key_type.unwrap_or(x509_key_type),
            issuer: keys.issuer,
        }),
        disable_jwt_svids,
        ..defaults
    };
    warn_of_cut_lifetimes(server, &settings);
    Some(settings)
}

fn ca_subject(server: &Section<'_>) -> CaSubject {
    let Some(block) = server.block("ca_subject") else {
        return CaSubject::default();
    };
    let texts = |key| block.strings(key).into_iter().map(|text| text.value).collect();
    let subject = CaSubject {
        country: texts("country"),
        organization: texts("organization"),
        common_name: block.string("common_name").unwrap_or_default(),
    };
    block.finish(UnknownKeys::Fatal);
    let empty =
        subject.country.is_empty() && subject.organization.is_empty() && subject.common_name.is_empty();
    if empty {
        server.warn("ca_subject", "is set but empty; the default will be used");
        return CaSubject::default();
    }
    subject
}

fn lifetime(server: &Section<'_>, key: &'static str) -> Option<Duration> {
    let ttl = server.duration(key)?;
    if ttl < Duration::from_secs(1) {
        server.fault(key, "must be at least one second");
        return None;
    }
    Some(ttl)
}

/// An SVID never outlives its authority, so a long lifetime may be cut in the time before an authority is replaced.
fn warn_of_cut_lifetimes(server: &Section<'_>, settings: &Settings) {
    let share = settings.ca_ttl / CA_SHARE;
    for (key, ttl) in [
        ("default_x509_svid_ttl", settings.x509_svid_ttl),
        ("default_jwt_svid_ttl", settings.jwt_svid_ttl),
        ("agent_ttl", settings.agent_ttl),
    ] {
        // A value that is only the default of another key needs no warning of its own.
        if ttl > LONG_TTL.min(share) && (server.has(key) || key != "agent_ttl") {
            let most = LONG_TTL.min(share).as_secs();
            let least = ttl.saturating_mul(CA_SHARE).as_secs();
            let remedy = if ttl > LONG_TTL {
                format!("at most {most}s is guaranteed")
            } else {
                format!("set it to {most}s or less, or ca_ttl to {least}s or more")
            };
            let message = format!(
                "is too high for the configured ca_ttl: SVIDs with shorter lifetimes may be issued; {remedy}"
            );
            server.warn(key, message);
        }
    }
}
