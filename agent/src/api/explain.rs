//! `credence.explain.v1.Node` on the agent's own socket, and on the admin socket.
//!
//! Owns the agent's own. Invariant: its mode is 0600, so that only root and the agent's own user can ask; the service is
//! never on the Workload API's.

use std::path::{Path, PathBuf};

use credence_command::explanation::to_proto;
use credence_identity::SpiffeId;
use credence_proto::credence::explain::v1 as pb;
use credence_proto::credence::explain::v1::node_server::NodeServer;
use credence_runtime::fs::{FsError, bind_unix};
use credence_runtime::grpc::RequestId;
use credence_runtime::supervisor::Supervisor;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::explain::{Node, NothingKnown};

const MODE: u32 = 0o600;

/// Serves explanations on a socket of that path, until the supervisor stops.
///
/// # Errors
/// [`FsError`] if the socket can't be made.
pub fn serve_explain(path: &Path, node: Node, supervisor: &Supervisor) -> Result<(), FsError> {
    let incoming = UnixListenerStream::new(bind_unix(path, MODE)?);
    let shutdown = supervisor.token();
    let socket = Socket(path.to_owned());
    // What is asked here holds nobody up: the task is dropped at the shutdown.
    supervisor.spawn("explain", async move {
        let _socket = socket;
        Server::builder()
            .max_concurrent_streams(16)
            .add_service(explain_service(node))
            .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
            .await
    });
    Ok(())
}

/// The service, for the admin socket too.
pub(super) fn explain_service(node: Node) -> NodeServer<Explain> {
    NodeServer::new(Explain(node))
}

/// The socket's file, which goes with the agent: one that stays tells of an agent that was killed.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

#[derive(Debug)]
pub(super) struct Explain(Node);

#[tonic::async_trait]
impl pb::node_server::Node for Explain {
    async fn explain_process(
        &self,
        request: Request<pb::ExplainProcessRequest>,
    ) -> Result<Response<pb::Explanation>, Status> {
        let pb::ExplainProcessRequest { pid, spiffe_id } = request.into_inner();
        let wanted = match spiffe_id.as_str() {
            "" => None,
            text => Some(SpiffeId::parse(text).map_err(|error| Status::invalid_argument(error.to_string()))?),
        };
        let explanation = self.0.process(pid, wanted.as_ref()).await;
        Ok(Response::new(to_proto(explanation)))
    }

    async fn explain_request(
        &self,
        request: Request<pb::ExplainRequestRequest>,
    ) -> Result<Response<pb::Explanation>, Status> {
        let id = request.into_inner().request_id;
        let id: RequestId = id.parse().map_err(|error: credence_runtime::grpc::NoRequestId| {
            Status::invalid_argument(error.to_string())
        })?;
        match self.0.request(id).await {
            Ok(explanation) => Ok(Response::new(to_proto(explanation))),
            Err(error @ NothingKnown::Request(_)) => Err(Status::not_found(error.to_string())),
        }
    }
}
