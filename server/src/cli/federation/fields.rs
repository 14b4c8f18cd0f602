//! What makes up a relationship, from flags or a file, and its check.

use std::fs;

use credence_command::CommandError;
use credence_identity::SpiffeId;
use credence_proto::spire::api::types::{
    self, FederationRelationship, federation_relationship::BundleEndpointProfile as Profile,
};

use crate::cli::bundle::document::{self, Form};

pub(super) const HTTPS_WEB: &str = "https_web";
pub(super) const HTTPS_SPIFFE: &str = "https_spiffe";

/// A relationship as it was given; texts that were not are empty.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) trust_domain: &'a str,
    pub(super) url: &'a str,
    pub(super) profile: &'a str,
    pub(super) endpoint_spiffe_id: &'a str,
    pub(super) bundle: Option<Source<'a>>,
    pub(super) bundle_format: &'a str,
}

/// Where the bundle is.
#[derive(Debug)]
pub(super) enum Source<'a> {
    /// In a file.
    Path(&'a str),
    /// In the JSON of the relationship: a text with PEM, or the SPIFFE document as it is.
    Value(&'a serde_json::Value),
}

impl Fields<'_> {
    /// The relationship, if nothing is missing. Its bundle is that of the trust domain, whoever serves it.
    pub(super) fn relationship(&self) -> Result<FederationRelationship, CommandError> {
        if self.trust_domain.is_empty() {
            return Err(CommandError::new("trust domain is required"));
        }
        if self.url.is_empty() {
            return Err(CommandError::new("bundle endpoint URL is required"));
        }
        let profile = match self.profile {
            HTTPS_WEB => Profile::HttpsWeb(types::HttpsWebProfile {}),
            HTTPS_SPIFFE => Profile::HttpsSpiffe(self.spiffe_profile()?),
            other => {
                let text = format!("unknown bundle endpoint profile type: {other:?}");
                return Err(CommandError::new(text));
            }
        };
        Ok(FederationRelationship {
            trust_domain: self.trust_domain.to_owned(),
            bundle_endpoint_url: self.url.to_owned(),
            bundle_endpoint_profile: Some(profile),
            trust_domain_bundle: self.bundle()?,
        })
    }

    fn spiffe_profile(&self) -> Result<types::HttpsspiffeProfile, CommandError> {
        if self.endpoint_spiffe_id.is_empty() {
            return Err(CommandError::new(
                "endpoint SPIFFE ID is required if 'https_spiffe' endpoint profile is set",
            ));
        }
        let parsed = SpiffeId::parse(self.endpoint_spiffe_id);
        parsed
            .map_err(|error| CommandError::from(error).context("cannot parse bundle endpoint SPIFFE ID"))?;
        Ok(types::HttpsspiffeProfile {
            endpoint_spiffe_id: self.endpoint_spiffe_id.to_owned(),
        })
    }

    fn bundle(&self) -> Result<Option<types::Bundle>, CommandError> {
        let bundle = match self.bundle {
            None => return Ok(None),
            Some(Source::Path(path)) => {
                let bytes = fs::read(path).map_err(|error| {
                    let error = CommandError::from(error).context(format_args!("open {path}"));
                    error.context("cannot read bundle file")
                })?;
                self.read(&bytes)
                    .map_err(|error| error.context("cannot parse bundle file"))?
            }
            Some(Source::Value(value)) => self
                .value(value)
                .map_err(|error| error.context("cannot parse bundle raw message"))?,
        };
        Ok(Some(bundle))
    }

    fn value(&self, value: &serde_json::Value) -> Result<types::Bundle, CommandError> {
        match (self.form()?, value) {
            (Form::Pem, serde_json::Value::String(text)) => self.read(text.as_bytes()),
            (Form::Pem, _) => Err(CommandError::new("failed to unmarshal json: a text is wanted")),
            (Form::Spiffe, value) => self.read(value.to_string().as_bytes()),
        }
    }

    fn read(&self, bytes: &[u8]) -> Result<types::Bundle, CommandError> {
        document::read(bytes, self.form()?, self.trust_domain)
    }

    fn form(&self) -> Result<Form, CommandError> {
        match self.bundle_format {
            document::PEM => Ok(Form::Pem),
            document::SPIFFE => Ok(Form::Spiffe),
            other => Err(CommandError::new(format!(
                "bundle format {other:?} is unsupported"
            ))),
        }
    }
}
