//! `BatchNewX509SVID` and `NewJWTSVID`: what agents ask for their workloads.

use std::sync::Arc;

use credence_crypto::csr::{CsrError, VerifiedCsr};
use credence_identity::{EntryId, SpiffeId};
use credence_proto::spire::api::server::svid::v1 as pb;
use credence_proto::spire::api::types;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::convert::svid;
use crate::api::limits::Bucket;
use crate::api::status::{self, fault, invalid};
use crate::registry::{AuthorizedEntry, State};

/// Up to this many are signed by the task that has the call: handing them out would cost more than it saves.
const ALONE: usize = 8;

type Outcome = pb::batch_new_x509svid_response::Result;

/// One item whose entry was looked up; the CSR is not read yet.
type Asked = Result<(AuthorizedEntry, Vec<u8>), Status>;

/// Who has the keys of a batch of CSRs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keys {
    /// The agent that asks: it replaces what it gets.
    OfAgent,
    /// Somebody who asked the agent.
    Elsewhere,
}

pub(super) async fn x509_batch(
    context: &Arc<Context>,
    call: &Call,
    keys: Keys,
    request: pb::BatchNewX509svidRequest,
) -> Result<pb::BatchNewX509svidResponse, Status> {
    if request.params.is_empty() {
        return Err(Status::invalid_argument("missing parameters"));
    }
    context
        .limit(Bucket::Csr, call, request.params.len())
        .await
        .map_err(|limit| {
            fault(
                Code::ResourceExhausted,
                "rejecting request due to certificate signing rate limiting",
                limit,
            )
        })?;
    let agent = call.agent()?;
    let asked: Vec<Asked> = {
        let now = context.clock.now();
        let state = context.registry.read();
        request
            .params
            .into_iter()
            .map(|params| look_up(&state, agent, params, now))
            .collect()
    };
    let results = if asked.len() <= ALONE {
        sign_all(context, agent, keys, asked).await
    } else {
        sign_in_parallel(context, agent, keys, asked).await?
    };
    Ok(pb::BatchNewX509svidResponse { results })
}

fn look_up(
    state: &State,
    agent: &SpiffeId,
    params: pb::NewX509svidParams,
    now: credence_identity::Timestamp,
) -> Asked {
    if params.entry_id.is_empty() {
        return Err(Status::invalid_argument("missing entry ID"));
    }
    if params.csr.is_empty() {
        return Err(Status::invalid_argument("missing CSR"));
    }
    let id = EntryId::parse(&params.entry_id).ok();
    let entry = id.and_then(|id| state.authorized_entry(agent, &id, now));
    Ok((entry.ok_or_else(not_authorized)?, params.csr))
}

fn not_authorized() -> Status {
    Status::not_found("entry not found or not authorized")
}

/// Signs on all workers of the runtime, an equal share on each, in the order of the request.
async fn sign_in_parallel(
    context: &Arc<Context>,
    agent: &SpiffeId,
    keys: Keys,
    asked: Vec<Asked>,
) -> Result<Vec<Outcome>, Status> {
    let workers = tokio::runtime::Handle::current().metrics().num_workers().max(1);
    let share = asked.len().div_ceil(workers);
    let mut tasks = JoinSet::new();
    let mut asked = asked.into_iter().peekable();
    let mut shares = 0_usize;
    while asked.peek().is_some() {
        let items: Vec<Asked> = asked.by_ref().take(share).collect();
        let (context, agent, at) = (Arc::clone(context), agent.clone(), shares);
        tasks.spawn(async move { (at, sign_all(&context, &agent, keys, items).await) });
        shares += 1;
    }
    let mut done = Vec::with_capacity(shares);
    while let Some(finished) = tasks.join_next().await {
        done.push(finished.map_err(|_| Status::internal("failed to sign X509-SVID"))?);
    }
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().flat_map(|(_, outcomes)| outcomes).collect())
}

/// Signs one after the other, and lets others have the worker in between.
async fn sign_all(context: &Context, agent: &SpiffeId, keys: Keys, asked: Vec<Asked>) -> Vec<Outcome> {
    let several = asked.len() > 1;
    let mut outcomes = Vec::with_capacity(asked.len());
    for item in asked {
        let outcome = match item.and_then(|(entry, csr)| sign(context, agent, keys, &entry, &csr)) {
            Ok(svid) => Outcome {
                status: Some(status::item_ok()),
                svid: Some(svid),
            },
            Err(refusal) => Outcome {
                status: Some(status::item(&refusal)),
                svid: None,
            },
        };
        outcomes.push(outcome);
        if several {
            tokio::task::yield_now().await;
        }
    }
    outcomes
}

fn sign(
    context: &Context,
    agent: &SpiffeId,
    keys: Keys,
    entry: &AuthorizedEntry,
    csr: &[u8],
) -> Result<types::X509svid, Status> {
    let csr = VerifiedCsr::from_der(csr).map_err(|fault| match fault {
        CsrError::Signature(_) => invalid("invalid CSR signature", fault),
        _ => invalid("malformed CSR", fault),
    })?;
    let issued = context
        .authority
        .sign_x509_svid(&csr, entry)
        .map_err(|error| context.not_signed("failed to sign X509-SVID", &error))?;
    let (holdings, now) = (&context.holdings, context.clock.now());
    match keys {
        Keys::OfAgent => holdings.svid_issued(agent, &entry.id, &issued, now),
        Keys::Elsewhere => holdings.minted(issued.authority_key_id.as_deref(), issued.not_after, now),
    }
    Ok(svid::x509_to_proto(&issued))
}

pub(super) async fn jwt(
    context: &Context,
    call: &Call,
    request: pb::NewJwtsvidRequest,
) -> Result<pb::NewJwtsvidResponse, Status> {
    super::mint::check_jwt_enabled(context)?;
    context.limit(Bucket::Jwt, call, 1).await.map_err(|limit| {
        fault(
            Code::ResourceExhausted,
            "rejecting request due to JWT signing request rate limiting",
            limit,
        )
    })?;
    let agent = call.agent()?;
    let id = EntryId::parse(&request.entry_id).ok();
    let entry = id.and_then(|id| {
        context
            .registry
            .read()
            .authorized_entry(agent, &id, context.clock.now())
    });
    let entry = entry.ok_or_else(not_authorized)?;
    call.note("spiffe_id", entry.spiffe_id.as_str());
    call.note("ttl", entry.jwt_svid_ttl);
    super::mint::check_audience(&request.audience)?;
    let issued = context
        .authority
        .sign_jwt_svid(&entry, &request.audience)
        .map_err(|error| context.not_signed("failed to sign JWT-SVID", &error))?;
    context.holdings.token_issued(&issued, context.clock.now());
    Ok(pb::NewJwtsvidResponse {
        svid: Some(svid::jwt_to_proto(&entry.spiffe_id, issued)),
    })
}
