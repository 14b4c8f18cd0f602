//! gRPC health on the agent's public socket.
//!
//! Answers from within, where SPIRE's agent calls its own socket by URL and stays unhealthy when the path has a `%`.
//! Invariant: SERVING means that a workload that asked now would be attested.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;

use credence_proto::grpc::health::v1::health_check_response::ServingStatus;
use credence_proto::grpc::health::v1::health_server::Health;
use credence_proto::grpc::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use futures_util::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::attestor::workload::{Process, WorkloadAttestors};

/// The service.
#[derive(Debug)]
pub struct AgentHealth {
    /// What a caller needs, and this process as the caller; absent without a Workload API.
    probe: Option<(Arc<WorkloadAttestors>, Process)>,
    shutdown: CancellationToken,
}

impl AgentHealth {
    /// Reports whether `attestors` can attest `own`, this very process, until `shutdown`.
    pub fn new(probe: Option<(Arc<WorkloadAttestors>, Process)>, shutdown: CancellationToken) -> Self {
        Self { probe, shutdown }
    }

    async fn is_serving(&self) -> bool {
        if self.shutdown.is_cancelled() {
            return false;
        }
        let Some((attestors, own)) = &self.probe else {
            return true;
        };
        let attested = attestors.attest(own).await;
        if let Err(error) = &attested {
            let error = error as &(dyn Error + 'static);
            tracing::warn!(
                subsystem_name = "endpoints",
                service = "grpc.health.v1.Health",
                error,
                "Health check failed"
            );
        }
        attested.is_ok()
    }
}

#[tonic::async_trait]
impl Health for AgentHealth {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !request.into_inner().service.is_empty() {
            return Err(Status::invalid_argument("per-service health is not supported"));
        }
        let status = if self.is_serving().await {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        Ok(Response::new(HealthCheckResponse {
            status: status.into(),
        }))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("method List not implemented"))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("method Watch not implemented"))
    }
}
