//! `CreateJoinToken`.

use std::sync::Arc;
use std::time::Duration;

use credence_identity::{Entry, EntryId, Selector, SpiffeId, Timestamp};
use credence_proto::spire::api::server::agent::v1 as pb;
use credence_proto::spire::api::types;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::api::context::Context;
use crate::api::convert::workload_id_from_proto;
use crate::api::status::{fault, invalid};
use crate::attestor::join_token;
use crate::store::{Change, JoinToken};

/// Creates a token, and with `agent_id` the alias entry by which the agent that spends it has that ID too.
pub(super) async fn create(
    context: &Context,
    request: pb::CreateJoinTokenRequest,
) -> Result<types::JoinToken, Status> {
    const WHAT: &str = "failed to create token";
    let ttl = u32::try_from(request.ttl).ok().filter(|ttl| *ttl >= 1);
    let ttl = ttl.ok_or_else(|| Status::invalid_argument("ttl is required, you must provide one"))?;
    let alias_id = match &request.agent_id {
        Some(id) => Some(
            workload_id_from_proto(&context.trust_domain, Some(id))
                .map_err(|fault| invalid("invalid agent ID", fault))?,
        ),
        None => None,
    };
    let token = if request.token.is_empty() {
        Uuid::new_v4().to_string()
    } else {
        request.token
    };
    let now = context.clock.now();
    // Tokens are known to the second on the wire and in the store.
    let expires_at = (now + Duration::from_secs(ttl.into())).floor_to_second();
    let alias = match alias_id {
        Some(id) => Some(alias(context, &token, id, now)?),
        None => None,
    };
    let answer = types::JoinToken {
        value: token.clone(),
        expires_at: expires_at.unix_seconds(),
    };
    let done = context.registry.transact(move |state| {
        if state.join_token(&token).is_some() {
            return Err(fault(Code::Internal, WHAT, "the token exists already"));
        }
        let mut changes = vec![Change::JoinTokenPut(JoinToken { token, expires_at })];
        changes.extend(
            alias
                .filter(|alias| state.similar_entry(alias).is_none())
                .map(Arc::new)
                .map(Change::EntryPut),
        );
        Ok((changes, ()))
    });
    done.await.map_err(|error| context.not_committed(WHAT, &error))?;
    Ok(answer)
}

/// The entry that gives whoever holds the token's agent ID another ID.
fn alias(context: &Context, token: &str, id: SpiffeId, now: Timestamp) -> Result<Entry, Status> {
    const WHAT: &str = "failed to create join token registration entry: failed to create join token ID";
    let failed = |cause: &dyn std::fmt::Display| fault(Code::Internal, WHAT, cause);
    let parent_id = join_token::agent_id(&context.trust_domain, token).map_err(|cause| failed(&cause))?;
    let selector = Selector::new("spiffe_id", parent_id.as_str()).map_err(|cause| failed(&cause))?;
    let entry_id = EntryId::parse(&Uuid::new_v4().to_string()).map_err(|cause| failed(&cause))?;
    Ok(Entry {
        id: entry_id,
        spiffe_id: id,
        parent_id,
        selectors: vec![selector],
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Vec::new(),
        admin: false,
        downstream: false,
        store_svid: false,
        expires_at: None,
        dns_names: Vec::new(),
        hint: Arc::from(""),
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
        revision_number: 0,
        created_at: now.floor_to_second(),
    })
}
