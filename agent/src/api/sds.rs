//! Envoy's secret discovery service, version 3: the workload's X.509-SVIDs as certificates, its bundles as validation
//! contexts, each under a name that the Envoy's configuration asks for.
//!
//! On the Workload API's socket, without its security header, which Envoy can't send. Invariant: all three methods answer
//! from `secrets` alone, for a caller attested afresh before each answer.

mod delta;
mod form;
mod names;
mod options;
mod secrets;
mod session;
mod talk;
mod whole;

use std::sync::Arc;

use credence_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use credence_proto::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use tonic::{Request, Response, Status, Streaming};

use super::Ground;
use super::call::{Call, log};
use super::follow::{Messages, Watch};
use form::Form;
use names::Names;
use options::Profile;
use secrets::Secret;
use session::{SdsCall, listed};

pub use options::SdsOptions;

/// Bytes of a request: an Envoy's description of itself with room to spare. Memory for it is a caller's to take.
const MAX_REQUEST: usize = 256 * 1024;

/// The service.
#[derive(Debug)]
pub struct EnvoySecrets {
    ground: Arc<Ground>,
    profile: Arc<Profile>,
}

impl EnvoySecrets {
    /// Serves what the cache holds to the callers whom the attestors know; open streams end at shutdown.
    pub fn new(ground: Arc<Ground>, options: SdsOptions) -> Self {
        let profile = Arc::new(Profile::new(options));
        Self { ground, profile }
    }

    /// As a service of a gRPC server.
    pub fn into_service(self) -> SecretDiscoveryServiceServer<Self> {
        SecretDiscoveryServiceServer::new(self).max_decoding_message_size(MAX_REQUEST)
    }

    fn call<T>(&self, method: &'static str, request: &Request<T>) -> Result<SdsCall, Status> {
        Call::new(
            ("SDS.v3", method),
            self.ground.clone(),
            self.profile.clone(),
            request.extensions(),
        )
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for EnvoySecrets {
    type StreamSecretsStream = Messages<DiscoveryResponse>;
    type DeltaSecretsStream = Messages<DeltaDiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let call = self.call("StreamSecrets", &request)?;
        let answers = talk::talk(call, request.into_inner(), whole::Whole::default()).await?;
        Ok(Response::new(answers))
    }

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        let call = self.call("DeltaSecrets", &request)?;
        let answers = talk::talk(call, request.into_inner(), delta::Delta::default()).await?;
        Ok(Response::new(answers))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let call = self.call("FetchSecrets", &request)?;
        Ok(Response::new(fetch(call, request.into_inner()).await?))
    }
}

/// All that is asked for, or a refusal. What isn't signed yet is waited for.
async fn fetch(call: SdsCall, request: DiscoveryRequest) -> Result<DiscoveryResponse, Status> {
    let disabled = call.profile.options.disable_spiffe_cert_validation;
    let form = Form::of(request.node.as_ref(), disabled);
    let resource_names = listed(&request.resource_names);
    let mut watch = Watch::open(call).await?;
    let names = Names::of(request.resource_names).map_err(|error| watch.session.too_many(&error))?;
    let asked = (&names, form);
    let mut secrets = watch.session.secrets(asked, &watch.update(), &watch.selectors)?;
    if secrets.pending {
        let update = watch.settled().await?;
        secrets = watch.session.secrets(asked, &update, &watch.selectors)?;
    }
    let (call, selectors) = (&watch.session, &watch.selectors);
    match secrets.missing.as_slice() {
        [] => {}
        [..] if secrets.pending => return Err(call.not_signed_yet(selectors)),
        missing => return Err(call.unauthorized(missing, selectors)),
    }
    let count = secrets.found.len();
    log!(
        debug,
        call,
        resource_names,
        count,
        "Sending FetchSecrets response"
    );
    let identities: Vec<_> = secrets.identities().cloned().collect();
    call.record_x509(&identities, &[], selectors);
    Ok(DiscoveryResponse {
        resources: secrets.found.iter().map(Secret::message).collect(),
        type_url: request.type_url,
        ..DiscoveryResponse::default()
    })
}

#[cfg(test)]
mod tests;
