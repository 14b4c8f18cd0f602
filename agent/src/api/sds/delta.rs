//! DeltaSecrets: each answer has the secrets that changed, each request the names that come and go.
//!
//! What an Envoy has is known from what it was sent, or says at first. Nothing is ever taken away from it: a secret that
//! is gone ends by itself, and the next one of its name takes its place. Invariant: names count whatever the nonce, since
//! no request repeats them.

use std::collections::BTreeMap;

use credence_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};
use tonic::Status;

use super::form::Form;
use super::names::Names;
use super::secrets::{Secret, Secrets};
use super::session::{SdsCall, listed};
use super::talk::{Dialect, Said, nonce};
use crate::api::call::log;

/// One stream.
#[derive(Debug, Default)]
pub(super) struct Delta {
    asked: Option<(Names, Form)>,
    type_url: String,
    /// The versions of what the Envoy has, or has refused, by name.
    held: BTreeMap<String, String>,
}

impl Dialect for Delta {
    type Request = DeltaDiscoveryRequest;
    type Answer = DeltaDiscoveryResponse;

    fn hear(&mut self, request: DeltaDiscoveryRequest, call: &SdsCall) -> Result<bool, Status> {
        log!(
            debug,
            call,
            resource_names = listed(&request.resource_names_subscribe),
            nonce = request.response_nonce,
            "Received DeltaSecrets request"
        );
        if let Some(why) = &request.error_detail {
            let names = self.asked.iter().flat_map(|(names, _)| &names.named);
            call.rejected(names, Some(why));
        }
        let disabled = call.profile.options.disable_spiffe_cert_validation;
        let node = request.node.as_ref();
        self.type_url = request.type_url;
        let new = request.resource_names_subscribe;
        let due = self.asked.is_none() || !new.is_empty();
        if let Some((names, form)) = &mut self.asked {
            if node.is_some() {
                *form = Form::of(node, disabled);
            }
            // Who asks again for what it was sent has lost it.
            for name in &new {
                self.held.remove(name);
            }
            names.add(new).map_err(|error| call.too_many(&error))?;
        } else {
            let names = Names::of(new).map_err(|error| call.too_many(&error))?;
            self.held = request.initial_resource_versions.into_iter().collect();
            self.asked = Some((names, Form::of(node, disabled)));
        }
        if let Some((names, _)) = &mut self.asked {
            for name in &request.resource_names_unsubscribe {
                names.named.remove(name);
            }
            self.held.retain(|name, _| names.cover(name));
        }
        Ok(due)
    }

    fn asked(&self) -> Option<(&Names, Form)> {
        self.asked.as_ref().map(|(names, form)| (names, *form))
    }

    fn say(&mut self, secrets: &Secrets) -> Option<Said<DeltaDiscoveryResponse>> {
        let is_news = |secret: &&Secret| self.held.get(&secret.name) != Some(&secret.version);
        let news: Vec<&Secret> = secrets.found.iter().filter(is_news).collect();
        if news.is_empty() {
            return None;
        }
        for secret in &news {
            self.held.insert(secret.name.clone(), secret.version.clone());
        }
        let (version, nonce) = (secrets.version(), nonce());
        let resource = |secret: &&Secret| Resource {
            version: secret.version.clone(),
            resource: Some(secret.message()),
            name: secret.name.clone(),
        };
        Some(Said {
            answer: DeltaDiscoveryResponse {
                system_version_info: version.clone(),
                resources: news.iter().map(resource).collect(),
                type_url: self.type_url.clone(),
                nonce: nonce.clone(),
            },
            version,
            nonce,
            identities: news.iter().filter_map(|secret| secret.identity.clone()).collect(),
            count: news.len(),
        })
    }
}
