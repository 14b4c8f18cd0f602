//! The security header (SPIFFE Workload Endpoint, section 3): it keeps requests out that a workload was tricked into.
//!
//! Demanded for the Workload API's own methods only, as SPIRE does: health checks, reflection and Envoy's SDS on the
//! same socket come from clients that cannot send it.

use credence_runtime::grpc::RequestId;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::WorkloadApi;
use crate::explain::Stage;

const HEADER: &str = "workload.spiffe.io";

/// Lets a request through that carries the header exactly once, with exactly the value `true`.
#[derive(Debug, Clone)]
pub struct Demand {
    pub(super) api: WorkloadApi,
}

impl Interceptor for Demand {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let mut values = request.metadata().get_all(HEADER).iter();
        match (values.next(), values.next()) {
            (Some(value), None) if value.as_bytes() == b"true" => Ok(request),
            _ => Err(self.refusal(&request)),
        }
    }
}

impl Demand {
    /// An interceptor isn't told the method.
    #[cold]
    fn refusal(&self, request: &Request<()>) -> Status {
        let status = Status::invalid_argument("security header missing from request");
        match self.api.call("", request) {
            Ok(call) => call.refuse(status, Stage::Header, None),
            Err(_) => RequestId::random().mark(status),
        }
    }
}
