//! StreamSecrets: each answer has all secrets that are asked for, and each request all names.
//!
//! Invariant: a request that doesn't reply to the last answer is stale, and changes nothing.

use credence_proto::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use tonic::Status;

use super::form::Form;
use super::names::Names;
use super::secrets::{Secret, Secrets};
use super::session::{SdsCall, listed};
use super::talk::{Dialect, Said, nonce};
use crate::api::call::log;

/// One stream.
#[derive(Debug, Default)]
pub(super) struct Whole {
    asked: Option<(Names, Form)>,
    type_url: String,
    /// Of the last answer on this stream.
    nonce: Option<String>,
    /// Of what the Envoy was sent last, or says to hold from an earlier stream.
    version: String,
    /// The names are others than those of the last answer, so that the same content is news.
    renamed: bool,
}

impl Dialect for Whole {
    type Request = DiscoveryRequest;
    type Answer = DiscoveryResponse;

    fn hear(&mut self, request: DiscoveryRequest, call: &SdsCall) -> Result<bool, Status> {
        log!(
            debug,
            call,
            resource_names = listed(&request.resource_names),
            version_info = request.version_info,
            nonce = request.response_nonce,
            "Received StreamSecrets request"
        );
        let why = request.error_detail.as_ref();
        let is_stale = self
            .nonce
            .as_ref()
            .is_some_and(|nonce| *nonce != request.response_nonce);
        let rolled_back = self.nonce.is_some() && !is_stale && request.version_info != self.version;
        if why.is_some() || rolled_back {
            call.rejected(&request.resource_names, why);
        }
        if is_stale {
            log!(
                warn,
                call,
                nonce = request.response_nonce,
                expect = self.nonce,
                "Received unexpected nonce; ignoring request"
            );
            return Ok(false);
        }
        self.take(request, call)
    }

    fn asked(&self) -> Option<(&Names, Form)> {
        self.asked.as_ref().map(|(names, form)| (names, *form))
    }

    fn say(&mut self, secrets: &Secrets) -> Option<Said<DiscoveryResponse>> {
        // An answer without any would tell an Envoy that has one nothing to act on.
        if secrets.found.is_empty() {
            return None;
        }
        let version = secrets.version();
        let renamed = std::mem::take(&mut self.renamed);
        if version == self.version && !renamed {
            return None;
        }
        let nonce = nonce();
        self.version.clone_from(&version);
        self.nonce = Some(nonce.clone());
        Some(Said {
            answer: DiscoveryResponse {
                version_info: version.clone(),
                resources: secrets.found.iter().map(Secret::message).collect(),
                type_url: self.type_url.clone(),
                nonce: nonce.clone(),
            },
            version,
            nonce,
            identities: secrets.identities().cloned().collect(),
            count: secrets.found.len(),
        })
    }
}

impl Whole {
    fn take(&mut self, request: DiscoveryRequest, call: &SdsCall) -> Result<bool, Status> {
        let names = Names::of(request.resource_names).map_err(|error| call.too_many(&error))?;
        let disabled = call.profile.options.disable_spiffe_cert_validation;
        let node = request.node.as_ref();
        self.type_url = request.type_url;
        let Some((known, form)) = &mut self.asked else {
            self.version = request.version_info;
            self.asked = Some((names, Form::of(node, disabled)));
            return Ok(true);
        };
        if node.is_some() {
            *form = Form::of(node, disabled);
        }
        if *known == names {
            return Ok(false);
        }
        *known = names;
        self.renamed = true;
        Ok(true)
    }
}
