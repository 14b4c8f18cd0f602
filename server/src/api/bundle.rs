//! `spire.api.server.bundle.v1.Bundle`.
//!
//! Owns the service's face; each subject has its file. Invariant: a batch is one transaction of the registry, and its
//! results stand in the order of the request.

mod delete;
mod federated;
mod own;

use std::sync::Arc;

use credence_proto::spire::api::server::bundle::v1 as pb;
use credence_proto::spire::api::types;
use tonic::{Request, Response, Status};

use super::call::Call;
use super::context::Context;

/// The service.
#[derive(Debug)]
pub(crate) struct BundleService {
    context: Arc<Context>,
}

impl BundleService {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl pb::bundle_server::Bundle for BundleService {
    async fn count_bundles(
        &self,
        _: Request<pb::CountBundlesRequest>,
    ) -> Result<Response<pb::CountBundlesResponse>, Status> {
        let _counted = self
            .context
            .registry
            .telemetry()
            .counted("datastore.bundle.count");
        let count = self.context.registry.read().bundles().count();
        Ok(Response::new(pb::CountBundlesResponse {
            count: i32::try_from(count).unwrap_or(i32::MAX),
        }))
    }

    async fn get_bundle(
        &self,
        request: Request<pb::GetBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let _counted = self
            .context
            .registry
            .telemetry()
            .counted("datastore.bundle.fetch");
        let call = Call::of(&request)?.clone();
        call.note("trust_domain_id", self.context.trust_domain.as_str());
        own::get(&self.context, &call, request.get_ref()).map(Response::new)
    }

    async fn append_bundle(
        &self,
        request: Request<pb::AppendBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        own::append(&self.context, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn publish_jwt_authority(
        &self,
        request: Request<pb::PublishJwtAuthorityRequest>,
    ) -> Result<Response<pb::PublishJwtAuthorityResponse>, Status> {
        let call = Call::of(&request)?.clone();
        own::publish_jwt(&self.context, &call, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn publish_wit_authority(
        &self,
        _: Request<pb::PublishWitAuthorityRequest>,
    ) -> Result<Response<pb::PublishWitAuthorityResponse>, Status> {
        Err(Status::unimplemented(
            "WIT-SVID functionality is not yet implemented",
        ))
    }

    async fn list_federated_bundles(
        &self,
        request: Request<pb::ListFederatedBundlesRequest>,
    ) -> Result<Response<pb::ListFederatedBundlesResponse>, Status> {
        federated::list(&self.context, request.get_ref()).map(Response::new)
    }

    async fn get_federated_bundle(
        &self,
        request: Request<pb::GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        federated::get(&self.context, request.get_ref()).map(Response::new)
    }

    async fn batch_create_federated_bundle(
        &self,
        request: Request<pb::BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchCreateFederatedBundleResponse>, Status> {
        let answer = federated::create(&self.context, request.into_inner()).await;
        Ok(Response::new(answer))
    }

    async fn batch_update_federated_bundle(
        &self,
        request: Request<pb::BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchUpdateFederatedBundleResponse>, Status> {
        let answer = federated::update(&self.context, request.into_inner()).await;
        Ok(Response::new(answer))
    }

    async fn batch_set_federated_bundle(
        &self,
        request: Request<pb::BatchSetFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchSetFederatedBundleResponse>, Status> {
        let _counted = self.context.registry.telemetry().counted("datastore.bundle.set");
        let answer = federated::set(&self.context, request.into_inner()).await;
        Ok(Response::new(answer))
    }

    async fn batch_delete_federated_bundle(
        &self,
        request: Request<pb::BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchDeleteFederatedBundleResponse>, Status> {
        delete::batch(&self.context, request.into_inner())
            .await
            .map(Response::new)
    }
}
