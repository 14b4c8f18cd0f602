//! `AttestAgent`.
//!
//! Invariant: nothing changes unless the agent gets its SVID. The request and its CSR are checked before anything else,
//! and a join token is spent in the transaction that creates the node, so that of two attestations with one token
//! exactly one wins.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::csr::VerifiedCsr;
use credence_crypto::x509::X509Svid;
use credence_identity::{Selector, SpiffeId};
use credence_proto::spire::api::server::agent::v1 as pb;
use credence_proto::spire::api::server::agent::v1::attest_agent_request::{Params, Step as Asked};
use credence_proto::spire::api::server::agent::v1::attest_agent_response::{
    Result as Attested, Step as Answered,
};
use futures_util::stream::{self, Stream};
use tonic::{Code, Status, Streaming};

use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::convert::svid;
use crate::api::gate::mend;
use crate::api::limits::Bucket;
use crate::api::status::{fault, invalid};
use crate::attestor::{AttestError, AttestedNode, Challenger, Step, join_token};
use crate::registry::State;
use crate::store::{Change, Node};

/// How long an agent may take to answer a challenge.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

type Answers = Pin<Box<dyn Stream<Item = Result<pb::AttestAgentResponse, Status>> + Send>>;
type Requests = Streaming<pb::AttestAgentRequest>;

pub(super) async fn attest(
    context: &Arc<Context>,
    call: &Call,
    mut requests: Requests,
) -> Result<Answers, Status> {
    context.limit(Bucket::Attest, call, 1).await.map_err(|limit| {
        fault(
            Code::ResourceExhausted,
            "rejecting request due to attest agent rate limiting",
            limit,
        )
    })?;
    let first = receive(
        &mut requests,
        Code::InvalidArgument,
        "failed to receive request from stream",
    )
    .await?;
    let params = match first.step {
        Some(Asked::Params(params)) => params,
        _ => return Err(invalid("malformed param", "missing params")),
    };
    let (kind, payload, csr) = checked(params)?;
    call.note("node_attestor_type", kind.as_str());
    if kind == join_token::TYPE {
        let token = String::from_utf8_lossy(&payload).into_owned();
        return by_join_token(context, call, token, &csr).await.map(last);
    }
    let attestor = context.attestors.named(&kind).ok_or_else(|| {
        let cause = format!("could not find node attestor type \"{kind}\"");
        fault(Code::FailedPrecondition, "error getting node attestor", cause)
    })?;
    let step = attestor
        .attest(&payload, call.caller().ip())
        .map_err(|error| failed(&error))?;
    let pending = Pending::Take(step);
    let exchange = Exchange {
        context: Arc::clone(context),
        call: call.clone(),
        kind: Arc::from(kind),
        csr,
        pending,
        requests,
    };
    Ok(Box::pin(stream::unfold(exchange, |mut exchange| async {
        let answer = exchange
            .next()
            .await?
            .map_err(|refusal| exchange.refused(refusal));
        Some((answer, exchange))
    })))
}

/// An attestation with challenges.
struct Exchange {
    context: Arc<Context>,
    call: Call,
    kind: Arc<str>,
    csr: VerifiedCsr,
    pending: Pending,
    requests: Requests,
}

enum Pending {
    Take(Step),
    /// The challenge was sent.
    Answer(Box<dyn Challenger>),
    /// The last answer was given.
    Nothing,
}

impl Exchange {
    fn refused(&self, refusal: Status) -> Status {
        tracing::error!(
            node_attestor_type = &*self.kind,
            request_id = %self.call.request_id,
            subsystem_name = "api",
            "{}",
            refusal.message()
        );
        self.context.refused(&self.call, refusal)
    }

    async fn next(&mut self) -> Option<Result<pb::AttestAgentResponse, Status>> {
        loop {
            match std::mem::replace(&mut self.pending, Pending::Nothing) {
                Pending::Take(Step::Challenge { challenge, then }) => {
                    self.pending = Pending::Answer(then);
                    return Some(Ok(pb::AttestAgentResponse {
                        step: Some(Answered::Challenge(challenge)),
                    }));
                }
                Pending::Take(Step::Attested(node)) => {
                    return Some(by_attestor(&self.context, &self.call, &self.kind, node, &self.csr).await);
                }
                Pending::Answer(then) => match self.answered(then).await {
                    Ok(step) => self.pending = Pending::Take(step),
                    Err(status) => return Some(Err(status)),
                },
                Pending::Nothing => return None,
            }
        }
    }

    /// The step after the agent's answer to the challenge.
    async fn answered(&mut self, then: Box<dyn Challenger>) -> Result<Step, Status> {
        const WHAT: &str = "failed to receive challenge from agent";
        let answer =
            tokio::time::timeout(ANSWER_WITHIN, receive(&mut self.requests, Code::Internal, WHAT)).await;
        let answer = answer.map_err(|_| fault(Code::DeadlineExceeded, WHAT, "no answer within 30 s"))??;
        let response = match answer.step {
            Some(Asked::ChallengeResponse(response)) => response,
            _ => Vec::new(),
        };
        then.answered(&response).map_err(|error| failed(&error))
    }
}

/// The next message; its absence is a failure with that code.
async fn receive(requests: &mut Requests, code: Code, what: &str) -> Result<pb::AttestAgentRequest, Status> {
    match requests.message().await {
        Ok(Some(request)) => Ok(request),
        Ok(None) => Err(fault(code, what, "EOF")),
        Err(status) => Err(mend(&status).unwrap_or(status)),
    }
}

/// The type, payload and CSR of the first message.
fn checked(params: Params) -> Result<(String, Vec<u8>, VerifiedCsr), Status> {
    let malformed = |cause: &str| invalid("malformed param", cause);
    let data = params.data.ok_or_else(|| malformed("missing attestation data"))?;
    let svid = params
        .params
        .ok_or_else(|| malformed("missing X509-SVID parameters"))?;
    if svid.csr.is_empty() {
        return Err(malformed("missing CSR"));
    }
    if data.r#type.is_empty() {
        return Err(malformed("missing attestation data type"));
    }
    if data.payload.is_empty() {
        return Err(malformed("missing attestation data payload"));
    }
    let csr = verified_csr(&svid.csr)?;
    Ok((data.r#type, data.payload, csr))
}

/// The CSR of an agent.
pub(super) fn verified_csr(der: &[u8]) -> Result<VerifiedCsr, Status> {
    if der.is_empty() {
        return Err(Status::invalid_argument("missing CSR"));
    }
    VerifiedCsr::from_der(der).map_err(|fault| invalid("failed to parse CSR", fault))
}

/// Signs an agent's SVID. Whoever signs hands it out only once the registry knows its serial.
pub(super) fn sign(context: &Context, id: &SpiffeId, csr: &VerifiedCsr) -> Result<X509Svid, Status> {
    let issued = context
        .authority
        .sign_agent_svid(csr, id)
        .map_err(|error| context.not_signed("failed to sign X509 SVID", &error))?;
    context
        .holdings
        .agent_svid_issued(id, &issued, context.clock.now());
    Ok(issued)
}

async fn by_join_token(
    context: &Context,
    call: &Call,
    token: String,
    csr: &VerifiedCsr,
) -> Result<pb::AttestAgentResponse, Status> {
    let now = context.clock.now();
    let refused = |error: join_token::JoinTokenError| match error {
        join_token::JoinTokenError::Unknown => Status::invalid_argument(format!("failed to attest: {error}")),
        join_token::JoinTokenError::Expired => Status::invalid_argument(error.to_string()),
        join_token::JoinTokenError::NoPath(cause) => {
            fault(Code::Internal, "failed to create join token ID", cause)
        }
    };
    let fetched = context
        .registry
        .telemetry()
        .measure("datastore.join_token.fetch", || {
            join_token::check(&context.registry.read(), &token, now)
        });
    let id = fetched.map_err(refused)?;
    let issued = sign(context, &id, csr)?;
    let node = node(context, &id, join_token::TYPE.into(), &issued, Vec::new(), false)?;
    let done = context.registry.transact(move |state| {
        join_token::check(state, &token, now).map_err(refused)?;
        let node = admitted(state, node)?;
        Ok((
            vec![Change::NodePut(Arc::new(node)), Change::JoinTokenDelete(token)],
            (),
        ))
    });
    done.await
        .map_err(|error| context.not_committed("failed to create attested agent", &error))?;
    Ok(result(call, &id, join_token::TYPE, &issued, false))
}

async fn by_attestor(
    context: &Context,
    call: &Call,
    kind: &Arc<str>,
    attested: AttestedNode,
    csr: &VerifiedCsr,
) -> Result<pb::AttestAgentResponse, Status> {
    let AttestedNode {
        id,
        selectors,
        can_reattest,
    } = attested;
    if context
        .registry
        .read()
        .node(&id)
        .is_some_and(|node| node.is_banned())
    {
        return Err(banned());
    }
    let issued = sign(context, &id, csr)?;
    let node = node(context, &id, Arc::clone(kind), &issued, selectors, can_reattest)?;
    let done = context.registry.transact(move |state| {
        let node = admitted(state, node)?;
        Ok((vec![Change::NodePut(Arc::new(node))], ()))
    });
    done.await
        .map_err(|error| context.not_committed("failed to update attested agent", &error))?;
    Ok(result(call, &id, kind, &issued, can_reattest))
}

/// The node as it is to be stored: never over a banned one, and with what is known of it beside attestation.
fn admitted(state: &State, node: Node) -> Result<Node, Status> {
    match state.node(&node.id) {
        Some(known) if known.is_banned() => Err(banned()),
        Some(known) => Ok(Node {
            agent_version: Arc::clone(&known.agent_version),
            ..node
        }),
        None => Ok(node),
    }
}

fn node(
    context: &Context,
    id: &SpiffeId,
    kind: Arc<str>,
    issued: &X509Svid,
    mut selectors: Vec<Selector>,
    can_reattest: bool,
) -> Result<Node, Status> {
    if context.agent_id_as_selector {
        let own = Selector::new("spiffe_id", id.as_str());
        selectors.push(own.map_err(|cause| fault(Code::Internal, "failed to update selectors", cause))?);
    }
    selectors.sort_unstable();
    selectors.dedup();
    Ok(Node {
        id: id.clone(),
        attestation_type: kind,
        serial: issued.serial.clone(),
        not_after: issued.not_after,
        new_serial: None,
        new_not_after: None,
        can_reattest,
        selectors,
        agent_version: Arc::from(""),
    })
}

fn banned() -> Status {
    Status::permission_denied("failed to attest: agent is banned")
}

fn failed(error: &AttestError) -> Status {
    let code = match error {
        AttestError::Malformed(_) => Code::InvalidArgument,
        AttestError::Denied(_) => Code::PermissionDenied,
        AttestError::Internal(_) => Code::Internal,
    };
    Status::new(code, error.to_string())
}

fn result(
    call: &Call,
    id: &SpiffeId,
    kind: &str,
    issued: &X509Svid,
    reattestable: bool,
) -> pb::AttestAgentResponse {
    call.note("agent_id", id.as_str());
    call.note("serial_number", issued.serial.to_string());
    tracing::info!(agent_id = %id, node_attestor_type = kind, "Agent attestation request completed");
    let attested = Attested {
        svid: Some(svid::x509_to_proto(issued)),
        reattestable,
    };
    pb::AttestAgentResponse {
        step: Some(Answered::Result(attested)),
    }
}

/// A stream of one answer, after which the stream ends.
fn last(answer: pb::AttestAgentResponse) -> Answers {
    Box::pin(stream::iter([Ok(answer)]))
}
