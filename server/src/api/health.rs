//! `grpc.health.v1.Health`: whether the server can do its work.
//!
//! Only `Check` of the whole server is served, as SPIRE does. Invariant: a server that can't write to its store says
//! so, though it goes on serving what it knows.

use std::pin::Pin;
use std::sync::Arc;

use credence_proto::grpc::health::v1 as pb;
use credence_proto::grpc::health::v1::health_check_response::ServingStatus;
use futures_util::Stream;
use tonic::{Request, Response, Status};

use super::context::Context;
use super::status::unimplemented;
use crate::registry::Health;

/// The service.
#[derive(Debug)]
pub(crate) struct HealthService {
    context: Arc<Context>,
}

impl HealthService {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

/// Whether the server can do its work: its bundle can be read and its store written.
pub(crate) fn is_serving(context: &Context) -> bool {
    context.registry.health() == Health::Ready && context.registry.read().own_bundle().is_some()
}

#[tonic::async_trait]
impl pb::health_server::Health for HealthService {
    async fn check(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<pb::HealthCheckResponse>, Status> {
        if !request.get_ref().service.is_empty() {
            return Err(Status::invalid_argument("per-service health is not supported"));
        }
        let status = if is_serving(&self.context) {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        Ok(Response::new(pb::HealthCheckResponse {
            status: status.into(),
        }))
    }

    async fn list(
        &self,
        _: Request<pb::HealthListRequest>,
    ) -> Result<Response<pb::HealthListResponse>, Status> {
        Err(unimplemented("List"))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<pb::HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(unimplemented("Watch"))
    }
}
