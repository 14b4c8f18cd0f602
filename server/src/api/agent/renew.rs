//! `RenewAgent` and `PostStatus`: what an agent does for itself.

use std::sync::Arc;

use credence_proto::spire::api::server::agent::v1 as pb;
use credence_proto::spire::api::types::permission_denied_details::Reason;
use tonic::{Code, Status};

use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::convert::svid;
use crate::api::limits::Bucket;
use crate::api::status::{denied, fault};
use crate::store::{Change, Node};

/// Longest version an agent may report, in bytes.
const MAX_VERSION: usize = 255;

/// Signs a new SVID for the calling agent. Its serial becomes the node's current one when the agent first calls with
/// it: until then the old SVID works, so that a lost answer locks nobody out. A second renewal replaces the first.
pub(super) async fn renew(
    context: &Context,
    call: &Call,
    request: &pb::RenewAgentRequest,
) -> Result<pb::RenewAgentResponse, Status> {
    context.limit(Bucket::Csr, call, 1).await.map_err(|limit| {
        fault(
            Code::ResourceExhausted,
            "rejecting request due to renew agent rate limiting",
            limit,
        )
    })?;
    let id = call.agent()?;
    let node = context.registry.read().node(id).cloned();
    let node = node.ok_or_else(|| Status::not_found("agent not found"))?;
    must_not_reattest(&node)?;
    let params = request
        .params
        .as_ref()
        .ok_or_else(|| Status::invalid_argument("params cannot be nil"))?;
    let csr = super::attest::verified_csr(&params.csr)?;
    let issued = super::attest::sign(context, id, &csr)?;
    let (renewed, serial, not_after) = (id.clone(), issued.serial.clone(), issued.not_after);
    let done = context.registry.transact(move |state| {
        let node = state.node(&renewed).filter(|node| !node.is_banned());
        let node = node.ok_or_else(|| Status::not_found("agent not found"))?;
        must_not_reattest(node)?;
        let node = Node {
            new_serial: Some(serial),
            new_not_after: Some(not_after),
            ..Node::clone(node)
        };
        Ok((vec![Change::NodePut(Arc::new(node))], ()))
    });
    done.await
        .map_err(|error| context.not_committed("failed to update agent", &error))?;
    tracing::info!(caller_id = %id, "Renewing agent SVID");
    Ok(pb::RenewAgentResponse {
        svid: Some(svid::x509_to_proto(&issued)),
    })
}

/// An agent that can attest again proves itself anew instead of renewing.
fn must_not_reattest(node: &Node) -> Result<(), Status> {
    if node.can_reattest {
        let message = "agent must reattest instead of renew".to_owned();
        return Err(denied(Some(Reason::AgentMustReattest), message));
    }
    Ok(())
}

/// Stores the version an agent reports of itself.
pub(super) async fn post_status(
    context: &Context,
    call: &Call,
    request: &pb::PostStatusRequest,
) -> Result<pb::PostStatusResponse, Status> {
    context.limit(Bucket::Status, call, 1).await.map_err(|limit| {
        fault(
            Code::ResourceExhausted,
            "rejecting request due to post status rate limiting",
            limit,
        )
    })?;
    let version = request.agent_version.clone();
    if version.len() > MAX_VERSION {
        return Err(Status::invalid_argument(format!(
            "agent version is longer than {MAX_VERSION} bytes"
        )));
    }
    let id = call.agent()?.clone();
    call.note("spiffe_id", id.as_str());
    let done = context.registry.transact(move |state| {
        let node = state
            .node(&id)
            .ok_or_else(|| Status::not_found("agent not found"))?;
        if *node.agent_version == *version {
            return Ok((Vec::new(), ()));
        }
        let node = Node {
            agent_version: Arc::from(version),
            ..Node::clone(node)
        };
        Ok((vec![Change::NodePut(Arc::new(node))], ()))
    });
    done.await
        .map_err(|error| context.not_committed("failed to update agent", &error))?;
    Ok(pb::PostStatusResponse {})
}
