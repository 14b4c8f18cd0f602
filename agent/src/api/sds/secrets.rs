//! Which secrets names stand for, out of what a caller may have at a moment: the one core of all three methods.
//!
//! Owns the names' meaning, Envoy's messages for certificates and bundles, and versions. Invariants: a bundle is whole,
//! nothing in it has expired, and no certificate has; a version is a digest of what is sent, and of no private key, so
//! that the same content has the same version in each stream and each run of the agent.

use credence_crypto::bundle::{certificate_to_pem, private_key_to_pem};
use credence_crypto::x509::Certificate;
use credence_crypto::{hex, sha256};
use credence_identity::{Bundle, Timestamp};
use credence_proto::envoy::config::core::v3::{DataSource, TypedExtensionConfig, data_source::Specifier};
use credence_proto::envoy::extensions::transport_sockets::tls::v3 as tls;
use prost::{Message as _, Name};
use prost_types::Any;
use tls::secret::Type;
use tls::spiffe_cert_validator_config::TrustDomain;

use super::form::Form;
use super::names::Names;
use super::options::SdsOptions;
use crate::cache::{Identity, WorkloadUpdate};

const VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";

/// All bundles were asked for in a form that can hold one only.
#[derive(Debug, thiserror::Error)]
#[error("unable to use \"SPIFFE validator\" on Envoy below 1.17")]
pub(super) struct NoValidator;

/// A question for secrets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) names: &'a Names,
    pub(super) form: Form,
    pub(super) options: &'a SdsOptions,
    pub(super) now: Timestamp,
}

/// The answer.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Bundles first, then certificates.
    pub(super) found: Vec<Secret>,
    /// Names of nothing that the caller has at the moment, sorted.
    pub(super) missing: Vec<String>,
    /// Whether something of it is registered for the caller but not signed yet.
    pub(super) pending: bool,
}

/// One secret under the name by which it was asked for.
#[derive(Debug)]
pub(super) struct Secret {
    pub(super) name: String,
    pub(super) version: String,
    /// What is handed out, if it is a certificate with its key.
    pub(super) identity: Option<Identity>,
    content: Type,
}

enum Thing<'a> {
    Bundle(&'a Bundle),
    AllBundles,
    Certificate(&'a Identity),
}

impl Secrets {
    /// The version of the whole.
    pub(super) fn version(&self) -> String {
        let each = self.found.iter().map(|secret| secret.version.as_bytes());
        digest(each)
    }

    /// The certificates among it.
    pub(super) fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.found.iter().filter_map(|secret| secret.identity.as_ref())
    }
}

impl Secret {
    /// As Envoy reads it.
    pub(super) fn message(&self) -> Any {
        any(&tls::Secret {
            name: self.name.clone(),
            r#type: Some(self.content.clone()),
        })
    }
}

impl Question<'_> {
    /// Answers it with what the caller has.
    ///
    /// # Errors
    /// [`NoValidator`].
    pub(super) fn answer(&self, update: &WorkloadUpdate) -> Result<Secrets, NoValidator> {
        let mut secrets = Secrets::default();
        let mut certificates = Vec::new();
        if self.names.everything {
            for bundle in [&update.bundle].into_iter().chain(update.federated.values()) {
                let name = bundle.trust_domain.id().to_string();
                secrets.found.extend(self.one_bundle(&name, bundle));
            }
            for identity in &update.identities {
                let name = identity.entry.spiffe_id.as_str();
                // Two secrets of one name are an error to Envoy.
                if !certificates.iter().any(|known: &Secret| known.name == name) {
                    certificates.push(certificate(name, identity));
                }
            }
        }
        for name in &self.names.named {
            let known = secrets.found.iter().chain(&certificates);
            if known.into_iter().any(|known| known.name == *name) {
                continue;
            }
            let bundle = match self.thing(name, update) {
                Some(Thing::Certificate(identity)) => {
                    certificates.push(certificate(name, identity));
                    continue;
                }
                Some(Thing::Bundle(bundle)) => self.one_bundle(name, bundle),
                Some(Thing::AllBundles) => self.all_bundles(name, update)?,
                None => None,
            };
            match bundle {
                Some(bundle) => secrets.found.push(bundle),
                None => secrets.missing.push(name.clone()),
            }
        }
        secrets.found.append(&mut certificates);
        secrets.pending = self.is_pending(&secrets.missing, update);
        Ok(secrets)
    }

    /// Of two meanings the one that SPIRE looks for first.
    fn thing<'a>(&self, name: &str, update: &'a WorkloadUpdate) -> Option<Thing<'a>> {
        let names = self.options;
        let is_of = |bundle: &Bundle| *name == *bundle.trust_domain.id().as_str();
        if is_of(&update.bundle) || name == names.default_bundle_name {
            return Some(Thing::Bundle(&update.bundle));
        }
        if name == names.default_all_bundles_name {
            return Some(Thing::AllBundles);
        }
        if let Some(bundle) = update.federated.values().find(|bundle| is_of(bundle)) {
            return Some(Thing::Bundle(bundle));
        }
        let mut identities = update.identities.iter();
        let named = identities.find(|identity| identity.entry.spiffe_id.as_str() == name);
        let default = || default_identity(update).filter(|_| name == names.default_svid_name);
        named.or_else(default).map(Thing::Certificate)
    }

    fn is_pending(&self, missing: &[String], update: &WorkloadUpdate) -> bool {
        let is_missing = |name: &str| missing.iter().any(|missing| missing == name);
        let mut unsigned = update.unsigned.iter();
        self.names.everything && update.is_pending()
            || unsigned.any(|entry| is_missing(entry.spiffe_id.as_str()))
            || update.is_pending() && is_missing(&self.options.default_svid_name)
    }

    /// None if nothing of the bundle is valid: Envoy refuses an empty list, and keeps what it has.
    fn one_bundle(&self, name: &str, bundle: &Bundle) -> Option<Secret> {
        let pem = live_authorities(bundle, self.now)?;
        let context = match self.form {
            Form::Spiffe => by_spiffe_id(vec![trust_domain(bundle, pem)]),
            Form::TrustedCa => tls::CertificateValidationContext {
                trusted_ca: Some(inline(pem.into_bytes())),
                ..tls::CertificateValidationContext::default()
            },
        };
        Some(validation_context(name, context))
    }

    /// The peers of a trust domain of which nothing is valid are refused, like those of one that isn't there.
    fn all_bundles(&self, name: &str, update: &WorkloadUpdate) -> Result<Option<Secret>, NoValidator> {
        if self.form == Form::TrustedCa {
            return Err(NoValidator);
        }
        let bundles = [&update.bundle].into_iter().chain(update.federated.values());
        let mut trust_domains: Vec<TrustDomain> = bundles
            .filter_map(|bundle| Some(trust_domain(bundle, live_authorities(bundle, self.now)?)))
            .collect();
        trust_domains.sort_by(|a, b| a.name.cmp(&b.name));
        let any = !trust_domains.is_empty();
        Ok(any.then(|| validation_context(name, by_spiffe_id(trust_domains))))
    }
}

/// That of the first entry and no other: while it isn't signed, its successor must not stand in for it.
fn default_identity(update: &WorkloadUpdate) -> Option<&Identity> {
    let unsigned = update.unsigned.first();
    let first = update.identities.first();
    first.filter(|first| unsigned.is_none_or(|unsigned| first.entry.id < unsigned.id))
}

fn certificate(name: &str, identity: &Identity) -> Secret {
    let svid = &identity.svid;
    let chain: String = svid
        .svid
        .chain
        .iter()
        .map(|der| certificate_to_pem(der))
        .collect();
    let key = private_key_to_pem(svid.key.pkcs8_der());
    let version = digest([name.as_bytes(), chain.as_bytes()]);
    Secret {
        name: name.to_owned(),
        version,
        identity: Some(identity.clone()),
        content: Type::TlsCertificate(tls::TlsCertificate {
            certificate_chain: Some(inline(chain.into_bytes())),
            private_key: Some(inline(key.as_bytes().to_vec())),
        }),
    }
}

fn validation_context(name: &str, context: tls::CertificateValidationContext) -> Secret {
    Secret {
        name: name.to_owned(),
        version: digest([name.as_bytes(), &context.encode_to_vec()]),
        identity: None,
        content: Type::ValidationContext(context),
    }
}

fn by_spiffe_id(trust_domains: Vec<TrustDomain>) -> tls::CertificateValidationContext {
    tls::CertificateValidationContext {
        custom_validator_config: Some(TypedExtensionConfig {
            name: VALIDATOR.to_owned(),
            typed_config: Some(any(&tls::SpiffeCertValidatorConfig { trust_domains })),
        }),
        ..tls::CertificateValidationContext::default()
    }
}

fn trust_domain(bundle: &Bundle, pem: String) -> TrustDomain {
    TrustDomain {
        name: bundle.trust_domain.to_string(),
        trust_bundle: Some(inline(pem.into_bytes())),
    }
}

/// The authorities that haven't expired, as PEM; none for none.
fn live_authorities(bundle: &Bundle, now: Timestamp) -> Option<String> {
    let ders = bundle.x509_authorities.iter().map(|authority| &authority.der);
    // What can't be read here isn't withheld: Envoy judges by itself.
    let has_expired = |der: &[u8]| Certificate::from_der(der).is_ok_and(|ca| ca.not_after() <= now);
    let pem: String = ders
        .filter(|der| !has_expired(der))
        .map(|der| certificate_to_pem(der))
        .collect();
    (!pem.is_empty()).then_some(pem)
}

fn inline(bytes: Vec<u8>) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineBytes(bytes)),
    }
}

fn any<M: Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// 32 hexadecimal digits. No part can pass for the end of another.
fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let hashes: Vec<[u8; 32]> = parts.into_iter().map(sha256).collect();
    hex(sha256(&hashes.concat()).get(..16).unwrap_or_default())
}
