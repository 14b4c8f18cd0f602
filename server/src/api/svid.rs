//! `spire.api.server.svid.v1.SVID`.
//!
//! Owns the service's face. Invariant: nothing is signed for an agent without an authorised entry, and nothing at all
//! without a CSR whose signature was checked.

mod downstream;
mod issue;
mod mint;
mod wit;

use std::sync::Arc;

use credence_proto::spire::api::server::svid::v1 as pb;
use credence_runtime::grpc::KEY_ELSEWHERE;
use tonic::{Request, Response, Status};

use super::call::Call;
use super::context::Context;

/// The service.
#[derive(Debug)]
pub(crate) struct SvidService {
    context: Arc<Context>,
}

impl SvidService {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl pb::svid_server::Svid for SvidService {
    async fn mint_x509svid(
        &self,
        request: Request<pb::MintX509svidRequest>,
    ) -> Result<Response<pb::MintX509svidResponse>, Status> {
        mint::x509(&self.context, request.get_ref()).map(Response::new)
    }

    async fn mint_jwtsvid(
        &self,
        request: Request<pb::MintJwtsvidRequest>,
    ) -> Result<Response<pb::MintJwtsvidResponse>, Status> {
        mint::jwt(&self.context, request.get_ref()).map(Response::new)
    }

    async fn mint_witsvid(
        &self,
        request: Request<pb::MintWitsvidRequest>,
    ) -> Result<Response<pb::MintWitsvidResponse>, Status> {
        wit::mint(&self.context, request.get_ref()).map(Response::new)
    }

    async fn batch_new_x509svid(
        &self,
        request: Request<pb::BatchNewX509svidRequest>,
    ) -> Result<Response<pb::BatchNewX509svidResponse>, Status> {
        let call = Call::of(&request)?.clone();
        let keys = if request.metadata().contains_key(KEY_ELSEWHERE) {
            issue::Keys::Elsewhere
        } else {
            issue::Keys::OfAgent
        };
        issue::x509_batch(&self.context, &call, keys, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn new_jwtsvid(
        &self,
        request: Request<pb::NewJwtsvidRequest>,
    ) -> Result<Response<pb::NewJwtsvidResponse>, Status> {
        let call = Call::of(&request)?.clone();
        issue::jwt(&self.context, &call, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn batch_new_witsvid(
        &self,
        request: Request<pb::BatchNewWitsvidRequest>,
    ) -> Result<Response<pb::BatchNewWitsvidResponse>, Status> {
        let call = Call::of(&request)?.clone();
        wit::batch(&self.context, &call, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn new_downstream_x509ca(
        &self,
        request: Request<pb::NewDownstreamX509caRequest>,
    ) -> Result<Response<pb::NewDownstreamX509caResponse>, Status> {
        let call = Call::of(&request)?.clone();
        downstream::x509_ca(&self.context, &call, request.into_inner())
            .await
            .map(Response::new)
    }
}
