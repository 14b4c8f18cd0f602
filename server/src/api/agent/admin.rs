//! `DeleteAgent` and `BanAgent`.

use std::sync::Arc;

use credence_identity::SpiffeId;
use credence_proto::spire::api::server::agent::v1 as pb;
use tonic::Status;

use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::convert::agent_id_from_proto;
use crate::api::status::invalid;
use crate::store::{Change, Node};

/// Evicts a node: its row goes, and the alias entry of its join token with it.
pub(super) async fn delete(
    context: &Context,
    call: &Call,
    request: &pb::DeleteAgentRequest,
) -> Result<(), Status> {
    let id = agent_id_from_proto(&context.trust_domain, request.id.as_ref())
        .map_err(|fault| invalid("invalid agent ID", fault))?;
    let evicted = id.clone();
    let done = context
        .registry
        .transact(move |state| match state.node(&evicted) {
            Some(_) => Ok((state.eviction_of(&evicted), ())),
            None => Err(Status::not_found("agent not found")),
        });
    done.await
        .map_err(|error| context.not_committed("failed to remove agent", &error))?;
    done_by(call, &id, "Agent deleted");
    Ok(())
}

/// Bans a node: it keeps its row, without a serial, so that it can neither call nor attest again.
pub(super) async fn ban(context: &Context, call: &Call, request: &pb::BanAgentRequest) -> Result<(), Status> {
    let id = agent_id_from_proto(&context.trust_domain, request.id.as_ref())
        .map_err(|fault| invalid("invalid agent ID", fault))?;
    let target = id.clone();
    let done = context.registry.transact(move |state| {
        let node = state
            .node(&target)
            .ok_or_else(|| Status::not_found("agent not found"))?;
        let banned = Node {
            serial: String::new(),
            new_serial: None,
            new_not_after: None,
            ..Node::clone(node)
        };
        let changes = if node.is_banned() {
            Vec::new()
        } else {
            vec![Change::NodePut(Arc::new(banned))]
        };
        Ok((changes, ()))
    });
    done.await
        .map_err(|error| context.not_committed("failed to ban agent", &error))?;
    done_by(call, &id, "Agent banned");
    Ok(())
}

/// What was done to a node, and by whom, under SPIRE's names.
fn done_by(call: &Call, node: &SpiffeId, what: &str) {
    tracing::info!(
        caller_addr = %call.caller().address(),
        caller_id = call.caller().id().map(tracing::field::display),
        method = call.method.name,
        service = call.method.log_service(),
        spiffe_id = %node,
        subsystem_name = "api",
        "{what}"
    );
}
