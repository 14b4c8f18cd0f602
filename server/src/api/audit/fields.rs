//! What an audit event says of one message, under SPIRE's names.
//!
//! Owns the list of what may be said: each field is named here, so that a token, a payload or a key never gets in by
//! being added to a message. A CSR, a certificate and a public key are told by their SHA-256.

use credence_crypto::digest::{hex, sha256};
use credence_crypto::x509::Certificate;
use credence_proto::spire::api::types::{
    self, federates_with_match, federation_relationship::BundleEndpointProfile, selector_match,
};
use credence_runtime::audit::AuditFields;
use serde_json::Value;

/// Fields in the making.
#[derive(Debug, Default, Clone)]
pub(super) struct Fields(pub(super) AuditFields);

impl Fields {
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Nothing is said of the empty text.
    pub(super) fn text(self, name: &str, value: &str) -> Self {
        if value.is_empty() {
            self
        } else {
            self.with(name, value)
        }
    }

    pub(super) fn list(self, name: &str, values: &[String]) -> Self {
        self.text(name, &values.join(","))
    }

    pub(super) fn hash(self, name: &str, bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return self;
        }
        self.with(name, hex(&sha256(bytes)))
    }

    pub(super) fn id(self, name: &str, id: Option<&types::Spiffeid>) -> Self {
        match id {
            Some(id) => self.with(name, format!("spiffe://{}{}", bare(&id.trust_domain), id.path)),
            None => self,
        }
    }

    pub(super) fn selectors(self, name: &str, selectors: &[types::Selector]) -> Self {
        let texts: Vec<_> = selectors
            .iter()
            .map(|selector| format!("{}:{}", selector.r#type, selector.value))
            .collect();
        self.list(name, &texts)
    }

    pub(super) fn selector_match(self, asked: Option<&types::SelectorMatch>) -> Self {
        let Some(asked) = asked else { return self };
        let how = selector_match::MatchBehavior::try_from(asked.r#match);
        self.with(
            "by_selector_match",
            how.map_or("unknown", |how| how.as_str_name()),
        )
        .selectors("by_selectors", &asked.selectors)
    }

    pub(super) fn federates_with(self, asked: Option<&types::FederatesWithMatch>) -> Self {
        let Some(asked) = asked else { return self };
        let how = federates_with_match::MatchBehavior::try_from(asked.r#match);
        self.with(
            "federates_with_match",
            how.map_or("unknown", |how| how.as_str_name()),
        )
        .list("federates_with", &asked.trust_domains)
    }

    /// An entry as it is to be made, or what of it is to be changed.
    pub(super) fn entry(self, entry: &types::Entry, mask: Option<&types::EntryMask>) -> Self {
        let asked = |of: fn(&types::EntryMask) -> bool| mask.is_none_or(of);
        let mut fields = self.text("entry_id", &entry.id);
        if asked(|mask| mask.spiffe_id) {
            fields = fields.id("spiffe_id", entry.spiffe_id.as_ref());
        }
        if asked(|mask| mask.parent_id) {
            fields = fields.id("parent_id", entry.parent_id.as_ref());
        }
        if asked(|mask| mask.selectors) {
            fields = fields.selectors("selectors", &entry.selectors);
        }
        if asked(|mask| mask.federates_with) {
            fields = fields.list("federates_with", &entry.federates_with);
        }
        if asked(|mask| mask.dns_names) {
            fields = fields.list("dns_name", &entry.dns_names);
        }
        let plain: [(&str, bool, Value); 9] = [
            (
                "x509_svid_ttl",
                asked(|mask| mask.x509_svid_ttl),
                entry.x509_svid_ttl.into(),
            ),
            (
                "jwt_svid_ttl",
                asked(|mask| mask.jwt_svid_ttl),
                entry.jwt_svid_ttl.into(),
            ),
            ("admin", asked(|mask| mask.admin), entry.admin.into()),
            (
                "downstream",
                asked(|mask| mask.downstream),
                entry.downstream.into(),
            ),
            (
                "expires_at",
                asked(|mask| mask.expires_at),
                entry.expires_at.into(),
            ),
            (
                "revision_number",
                asked(|mask| mask.revision_number),
                entry.revision_number.into(),
            ),
            (
                "store_svid",
                asked(|mask| mask.store_svid),
                entry.store_svid.into(),
            ),
            ("hint", asked(|mask| mask.hint), entry.hint.as_str().into()),
            (
                "created_at",
                asked(|mask| mask.created_at),
                entry.created_at.into(),
            ),
        ];
        for (name, wanted, value) in plain {
            if wanted {
                fields = fields.with(name, value);
            }
        }
        fields
    }

    pub(super) fn bundle(self, bundle: &types::Bundle, mask: Option<&types::BundleMask>) -> Self {
        let asked = |of: fn(&types::BundleMask) -> bool| mask.is_none_or(of);
        let mut fields = self.with("trust_domain_id", bundle.trust_domain.as_str());
        if asked(|mask| mask.refresh_hint) {
            fields = fields.with("refresh_hint", bundle.refresh_hint);
        }
        if asked(|mask| mask.sequence_number) {
            fields = fields.with("sequence_number", bundle.sequence_number);
        }
        if asked(|mask| mask.jwt_authorities) {
            fields = fields.jwt_authorities(&bundle.jwt_authorities);
        }
        if asked(|mask| mask.x509_authorities) {
            fields = fields.x509_authorities(&bundle.x509_authorities);
        }
        fields
    }

    pub(super) fn jwt_authority(self, authority: &types::JwtKey, suffix: &str) -> Self {
        self.with(&format!("jwt_authority_expires_at{suffix}"), authority.expires_at)
            .with(
                &format!("jwt_authority_key_id{suffix}"),
                authority.key_id.as_str(),
            )
            .hash(
                &format!("jwt_authority_public_key_sha256{suffix}"),
                &authority.public_key,
            )
    }

    /// Numbered, as SPIRE does.
    pub(super) fn jwt_authorities(self, authorities: &[types::JwtKey]) -> Self {
        let numbered = authorities.iter().enumerate();
        numbered.fold(self, |fields, (at, authority)| {
            fields.jwt_authority(authority, &format!(".{at}"))
        })
    }

    pub(super) fn x509_authorities(self, authorities: &[types::X509Certificate]) -> Self {
        let numbered = authorities.iter().enumerate();
        numbered.fold(self, |fields, (at, authority)| {
            fields.hash(&format!("x509_authorities_asn1_sha256.{at}"), &authority.asn1)
        })
    }

    pub(super) fn relationship(
        self,
        relationship: &types::FederationRelationship,
        mask: Option<&types::FederationRelationshipMask>,
    ) -> Self {
        let asked = |of: fn(&types::FederationRelationshipMask) -> bool| mask.is_none_or(of);
        let mut fields = self.text("trust_domain_id", &relationship.trust_domain);
        if asked(|mask| mask.bundle_endpoint_url) {
            fields = fields.with("bundle_endpoint_url", relationship.bundle_endpoint_url.as_str());
        }
        if asked(|mask| mask.bundle_endpoint_profile) {
            fields = match &relationship.bundle_endpoint_profile {
                Some(BundleEndpointProfile::HttpsWeb(_)) => {
                    fields.with("bundle_endpoint_profile", "https_web")
                }
                Some(BundleEndpointProfile::HttpsSpiffe(profile)) => fields
                    .with("bundle_endpoint_profile", "https_spiffe")
                    .with("endpoint_spiffe_id", profile.endpoint_spiffe_id.as_str()),
                None => fields,
            };
        }
        if let (true, Some(bundle)) = (
            asked(|mask| mask.trust_domain_bundle),
            &relationship.trust_domain_bundle,
        ) {
            for (name, value) in Fields::default().bundle(bundle, None).0 {
                fields = fields.with(&format!("bundle_{name}"), value);
            }
        }
        fields
    }

    /// An X.509-SVID that was issued.
    pub(super) fn x509_svid(self, svid: Option<&types::X509svid>) -> Self {
        let Some(svid) = svid else { return self };
        let leaf = svid.cert_chain.first();
        let serial = leaf
            .and_then(|der| Certificate::from_der(der).ok())
            .map(|leaf| leaf.serial());
        self.id("spiffe_id", svid.id.as_ref())
            .with("expires_at", svid.expires_at)
            .text("serial_number", serial.as_deref().unwrap_or_default())
    }

    /// What else the certificate of that SVID names.
    pub(super) fn names(self, svid: Option<&types::X509svid>) -> Self {
        let leaf = svid.and_then(|svid| Certificate::from_der(svid.cert_chain.first()?).ok());
        let Some(leaf) = leaf else { return self };
        self.list("dns_name", leaf.dns_names())
            .text("subject", &leaf.subject().to_string())
    }
}

fn bare(trust_domain: &str) -> &str {
    trust_domain.strip_prefix("spiffe://").unwrap_or(trust_domain)
}
