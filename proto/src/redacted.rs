//! `Debug` of the messages that carry private keys or bearer tokens: the secret is shown as its length.
//!
//! Invariant: the list here is the list `SECRET` of `build.rs`; the compiler sees to it, as each needs exactly one
//! `Debug`.

use std::fmt;

use crate::envoy::config::core::v3 as core;
use crate::envoy::service::discovery::v3 as discovery;
use crate::{spiffe::broker, spiffe_workload as workload, spire::api};

/// Stands for a secret of so many bytes.
struct Redacted(usize);

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0)
    }
}

macro_rules! redact {
    ($($message:path { shown: [$($shown:ident),*], secret: [$($secret:ident),+] })+) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Self { $($shown,)* $($secret,)+ } = self;
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($shown), $shown))*
                    $(.field(stringify!($secret), &Redacted($secret.len())))+
                    .finish()
            }
        }
    )+};
}

redact! {
    workload::X509svid { shown: [spiffe_id, x509_svid, bundle, hint], secret: [x509_svid_key] }
    workload::Jwtsvid { shown: [spiffe_id, hint], secret: [svid] }
    workload::Witsvid { shown: [spiffe_id, hint], secret: [wit_svid, wit_svid_key] }
    workload::ValidateJwtsvidRequest { shown: [audience], secret: [svid] }
    broker::X509svid { shown: [spiffe_id, x509_svid, bundle, hint], secret: [x509_svid_key] }
    broker::Jwtsvid { shown: [spiffe_id, hint], secret: [svid] }
    api::agent::delegatedidentity::v1::X509svidWithKey { shown: [x509_svid], secret: [x509_svid_key] }
    api::server::agent::v1::CreateJoinTokenRequest { shown: [ttl, agent_id], secret: [token] }
    api::types::AttestationData { shown: [r#type], secret: [payload] }
    api::types::JoinToken { shown: [expires_at], secret: [value] }
    api::types::Jwtsvid { shown: [id, expires_at, issued_at, hint], secret: [token] }
    api::types::Witsvid { shown: [id, expires_at, issued_at, hint], secret: [token] }
}

/// Bytes of a certificate, or of a private key: the message doesn't say which.
impl fmt::Debug for core::DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { specifier } = self;
        f.debug_struct("DataSource")
            .field("specifier", specifier)
            .finish()
    }
}

impl fmt::Debug for core::data_source::Specifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filename(path) => f.debug_tuple("Filename").field(path).finish(),
            Self::InlineBytes(bytes) => f
                .debug_tuple("InlineBytes")
                .field(&Redacted(bytes.len()))
                .finish(),
            Self::InlineString(text) => f
                .debug_tuple("InlineString")
                .field(&Redacted(text.len()))
                .finish(),
        }
    }
}

/// An encoded secret has its key in plain sight.
impl fmt::Debug for discovery::DiscoveryResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version_info,
            resources,
            type_url,
            nonce,
        } = self;
        let resources: Vec<_> = resources.iter().map(|any| Redacted(any.value.len())).collect();
        f.debug_struct("DiscoveryResponse")
            .field("version_info", version_info)
            .field("resources", &resources)
            .field("type_url", type_url)
            .field("nonce", nonce)
            .finish()
    }
}

impl fmt::Debug for discovery::Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            resource,
            name,
        } = self;
        let resource = resource.as_ref().map(|any| Redacted(any.value.len()));
        f.debug_struct("Resource")
            .field("version", version)
            .field("resource", &resource)
            .field("name", name)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spire::api::types::JoinToken;

    #[test]
    fn what_envoy_gets_is_not_shown() {
        let source = core::DataSource {
            specifier: Some(core::data_source::Specifier::InlineBytes(b"secret".to_vec())),
        };
        let any = || prost_types::Any {
            type_url: "t".to_owned(),
            value: b"secret".to_vec(),
        };
        let whole = discovery::DiscoveryResponse {
            resources: vec![any()],
            ..Default::default()
        };
        let part = discovery::Resource {
            resource: Some(any()),
            ..Default::default()
        };
        for shown in [format!("{source:?}"), format!("{whole:?}"), format!("{part:?}")] {
            assert!(shown.contains("<6 bytes>"), "{shown}");
            // Neither as text nor as a list of numbers.
            assert!(!shown.contains("secret") && !shown.contains("115"), "{shown}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = JoinToken {
            value: "3f2c-secret".into(),
            expires_at: 7,
        };
        let shown = format!("{token:?}");
        assert!(
            shown.contains("expires_at: 7") && shown.contains("<11 bytes>"),
            "{shown}"
        );
        assert!(!shown.contains("secret"), "{shown}");
    }
}
