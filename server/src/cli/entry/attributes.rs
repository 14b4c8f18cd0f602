//! The flags that say what an entry is.

use clap::Args;
use credence_command::CommandError;
use credence_identity::TrustDomain;
use credence_proto::spire::api::types;

use crate::cli::request::{id, selectors};

#[derive(Args, Debug, Default)]
pub(super) struct Attributes {
    /// The SPIFFE ID of this entry's parent
    #[arg(
        long = "parentID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) parent_id: String,
    /// The SPIFFE ID this entry grants
    #[arg(
        long = "spiffeID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) spiffe_id: String,
    /// A selector, type:value; may be repeated
    #[arg(long = "selector", value_name = "SELECTOR")]
    pub(super) selectors: Vec<String>,
    /// Lifetime of its X509-SVIDs in seconds; 0 for the server's default
    #[arg(long = "x509SVIDTTL", value_name = "SECONDS", default_value_t = 0)]
    pub(super) x509_svid_ttl: i32,
    /// Lifetime of its JWT-SVIDs in seconds; 0 for the server's default
    #[arg(long = "jwtSVIDTTL", value_name = "SECONDS", default_value_t = 0)]
    pub(super) jwt_svid_ttl: i32,
    /// A trust domain whose bundle the workload gets; may be repeated
    #[arg(long = "federatesWith", value_name = "ID")]
    pub(super) federates_with: Vec<String>,
    /// Grants access to the server's administration
    #[arg(long = "admin")]
    pub(super) admin: bool,
    /// The workload is a downstream server
    #[arg(long = "downstream")]
    pub(super) downstream: bool,
    /// The SVID goes to a store plugin
    #[arg(long = "storeSVID")]
    pub(super) store_svid: bool,
    /// When the entry ends, in Unix seconds; 0 for never
    #[arg(long = "entryExpiry", value_name = "SECONDS", default_value_t = 0)]
    pub(super) expires_at: i64,
    /// A DNS name of its X509-SVIDs; may be repeated
    #[arg(long = "dns", value_name = "NAME")]
    pub(super) dns_names: Vec<String>,
    /// Tells identities of one workload apart
    #[arg(
        long = "hint",
        value_name = "HINT",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) hint: String,
    /// The agent signs only when a workload asks
    #[arg(long = "disableX509SVIDPrefetch", value_name = "BOOL")]
    pub(super) disable_x509_svid_prefetch: Option<bool>,
    /// JWT-SVIDs get a "jti" claim and are not cached
    #[arg(long = "jwtSVIDIncludeJTI", value_name = "BOOL")]
    pub(super) jwt_svid_include_jti: Option<bool>,
}

impl Attributes {
    /// What can be said without a server, in SPIRE's words.
    pub(super) fn check(&self) -> Result<(), CommandError> {
        let fault = if self.spiffe_id.is_empty() {
            "a SPIFFE ID is required"
        } else if self.x509_svid_ttl < 0 {
            "a positive x509-SVID TTL is required"
        } else if self.jwt_svid_ttl < 0 {
            "a positive JWT-SVID TTL is required"
        } else {
            return Ok(());
        };
        Err(CommandError::new(fault))
    }

    /// The entry, under `parent` unless the flag names one.
    pub(super) fn entry(&self, entry_id: &str, node: bool) -> Result<types::Entry, CommandError> {
        let spiffe_id = id(&self.spiffe_id)?;
        let parent_id = if node {
            types::Spiffeid {
                trust_domain: spiffe_id.trust_domain.clone(),
                path: "/spire/server".to_owned(),
            }
        } else {
            id(&self.parent_id)?
        };
        Ok(types::Entry {
            id: entry_id.to_owned(),
            spiffe_id: Some(spiffe_id),
            parent_id: Some(parent_id),
            selectors: selectors(&self.selectors)?,
            x509_svid_ttl: self.x509_svid_ttl,
            jwt_svid_ttl: self.jwt_svid_ttl,
            federates_with: self.federates_with.clone(),
            admin: self.admin,
            downstream: self.downstream,
            store_svid: self.store_svid,
            expires_at: self.expires_at,
            dns_names: self.dns_names.clone(),
            hint: self.hint.clone(),
            additional_attributes: self.additional(None),
            ..types::Entry::default()
        })
    }

    /// Whether a flag speaks of the attributes that have no field of their own.
    pub(super) fn has_additional(&self) -> bool {
        self.disable_x509_svid_prefetch.is_some() || self.jwt_svid_include_jti.is_some()
    }

    /// Those attributes: what the flags say, else what is `stored`.
    pub(super) fn additional(
        &self,
        stored: Option<types::entry::AdditionalAttributes>,
    ) -> Option<types::entry::AdditionalAttributes> {
        if !self.has_additional() {
            return stored;
        }
        let mut attributes = stored.unwrap_or_default();
        if let Some(disabled) = self.disable_x509_svid_prefetch {
            attributes.disable_x509_svid_prefetch = disabled;
        }
        if let Some(included) = self.jwt_svid_include_jti {
            attributes.jwt_svid_include_jti = included;
        }
        Some(attributes)
    }
}

/// The name of a trust domain that a file gives as name or ID.
pub(super) fn trust_domain(text: &str) -> Result<String, CommandError> {
    let trust_domain = TrustDomain::parse_lenient(text)
        .map_err(|error| CommandError::from(error).context("invalid federated trust domain"))?;
    Ok(trust_domain.as_str().to_owned())
}
