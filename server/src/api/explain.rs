//! `credence.explain.v1`: `Registry` for operators on the Unix socket, `Matching` for agents.
//!
//! Owns both faces. Invariant: what `Matching` says is what [`crate::explain::matching`] lets an agent know.

use std::sync::Arc;
use std::time::Duration;

use credence_command::explanation::to_proto;
use credence_identity::diagnosis::Explanation;
use credence_identity::{EntryId, Selector, SelectorSet, SpiffeId};
use credence_proto::credence::explain::v1 as pb;
use credence_proto::spire::api::types::permission_denied_details::Reason;
use credence_runtime::grpc::{NoRequestId, RequestId};
use tonic::{Code, Request, Response, Status};

use super::call::Call;
use super::caller::Caller;
use super::context::Context;
use super::limits::Bucket;
use super::refusals::Refusal;
use super::status::fault;
use crate::explain::matching::matches;
use crate::explain::{CallCause, View};

/// More than an attestor ever says of a process.
const MOST_SELECTORS: usize = 1024;
/// Agents come back within this after a start of the server.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// Explains to operators.
#[derive(Debug)]
pub(crate) struct RegistryService {
    context: Arc<Context>,
}

/// Answers agents that explain.
#[derive(Debug)]
pub(crate) struct MatchingService {
    context: Arc<Context>,
}

impl RegistryService {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn explained(&self, explain: impl FnOnce(&View<'_>) -> Explanation) -> Response<pb::Explanation> {
        let context = &self.context;
        let rotation = context.authority.rotation_health();
        let signing = context.authority.signing_health();
        let view = View {
            state: &context.registry.read(),
            now: context.clock.now(),
            seen: &|agent| context.presence.of(agent),
            settled: context.started.elapsed() > SETTLED_AFTER,
            store: context.registry.health(),
            rotation: rotation.err().map(|stuck| stuck.to_string()),
            signing: signing.err().map(|fault| fault.to_string()),
        };
        Response::new(to_proto(explain(&view)))
    }
}

impl MatchingService {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

fn invalid(error: impl ToString) -> Status {
    Status::invalid_argument(error.to_string())
}

fn agent(text: &str) -> Result<Option<SpiffeId>, Status> {
    match text {
        "" => Ok(None),
        text => SpiffeId::parse(text).map(Some).map_err(invalid),
    }
}

#[tonic::async_trait]
impl pb::registry_server::Registry for RegistryService {
    async fn explain_entry(
        &self,
        request: Request<pb::ExplainEntryRequest>,
    ) -> Result<Response<pb::Explanation>, Status> {
        let request = request.into_inner();
        let id = EntryId::parse(&request.entry_id).map_err(invalid)?;
        let agent = agent(&request.agent_id)?;
        Ok(self.explained(|view| view.entry(&id, agent.as_ref())))
    }

    async fn explain_spiffe_id(
        &self,
        request: Request<pb::ExplainSpiffeIdRequest>,
    ) -> Result<Response<pb::Explanation>, Status> {
        let request = request.into_inner();
        let id = SpiffeId::parse(&request.spiffe_id).map_err(invalid)?;
        let agent = agent(&request.agent_id)?;
        Ok(self.explained(|view| view.spiffe_id(&id, agent.as_ref())))
    }

    async fn explain_request(
        &self,
        request: Request<pb::ExplainRequestRequest>,
    ) -> Result<Response<pb::Explanation>, Status> {
        let id: RequestId = request
            .into_inner()
            .request_id
            .parse()
            .map_err(|error: NoRequestId| invalid(error))?;
        let refusal = self.context.refusals.find(id).ok_or_else(|| {
            Status::not_found(format!(
                "no refusal of request {id} is known here: the last 1,000 of each caller are kept until the server restarts"
            ))
        })?;
        let mut explanation = Explanation::of(format!(
            "request {id}: {} of {} at {}",
            refusal.path, refusal.caller, refusal.at
        ));
        explanation.fact("Answer", format!("{:?}: {}", refusal.code, refusal.message));
        explanation.found(cause(&refusal));
        Ok(Response::new(to_proto(explanation)))
    }
}

fn cause(refusal: &Refusal) -> CallCause {
    let says = |words: &str| refusal.message.contains(words);
    match (refusal.code, refusal.reason) {
        (_, Some(Reason::AgentExpired)) => CallCause::SvidExpired,
        (_, Some(Reason::AgentNotAttested | Reason::AgentMustReattest)) => CallCause::NotAttested,
        (_, Some(Reason::AgentBanned)) => CallCause::Banned,
        (_, Some(Reason::AgentNotActive)) => CallCause::Superseded,
        _ if says("agent is banned") => CallCause::Banned,
        _ if says("join token expired") => CallCause::JoinTokenExpired,
        _ if says("join token does not exist") => CallCause::JoinTokenUnknown,
        _ if says("could not find node attestor") => CallCause::AttestorUnknown,
        _ if refusal.path.ends_with("/AttestAgent") && says("nodeattestor(") => CallCause::ProofRefused,
        (Code::PermissionDenied | Code::Unauthenticated, _) => match refusal.caller {
            Caller::Local { .. } => CallCause::NotAllowedLocal,
            Caller::Peer { .. } => CallCause::NotAllowed,
            Caller::Anonymous { .. } => CallCause::Anonymous,
        },
        (Code::Unimplemented, _) => CallCause::Unimplemented,
        (Code::NotFound, _) => CallCause::NotFound,
        (Code::ResourceExhausted, _) => CallCause::Exhausted,
        (
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::OutOfRange
            | Code::Aborted,
            _,
        ) => CallCause::Invalid,
        _ => CallCause::Fault,
    }
}

#[tonic::async_trait]
impl pb::matching_server::Matching for MatchingService {
    async fn r#match(
        &self,
        request: Request<pb::MatchRequest>,
    ) -> Result<Response<pb::MatchResponse>, Status> {
        let context = &self.context;
        let call = Call::of(&request)?.clone();
        context
            .limits
            .take(Bucket::Status, call.caller(), 1)
            .await
            .map_err(|limit| {
                fault(
                    Code::ResourceExhausted,
                    "rejecting request due to rate limiting",
                    limit,
                )
            })?;
        let asked = request.into_inner().selectors;
        if asked.len() > MOST_SELECTORS {
            return Err(Status::invalid_argument(format!(
                "more than {MOST_SELECTORS} selectors"
            )));
        }
        let selectors: Result<SelectorSet, _> = asked
            .iter()
            .map(|selector| Selector::new(&selector.r#type, &selector.value))
            .collect();
        let now = context.clock.now();
        let found = matches(
            &context.registry,
            call.agent()?,
            &selectors.map_err(invalid)?,
            now,
        )
        .await;
        let expired = found.expired.iter().map(|entry| pb::match_response::Expired {
            entry_id: entry.id.to_string(),
            spiffe_id: entry.spiffe_id.to_string(),
            expired_at_unix_seconds: entry.expires_at.unwrap_or_default().unix_seconds(),
        });
        Ok(Response::new(pb::MatchResponse {
            authorized_ids: found
                .authorized
                .iter()
                .map(|entry| entry.id.to_string())
                .collect(),
            expired: expired.collect(),
            elsewhere: found.elsewhere,
            now_unix_millis: context.clock.now().unix_millis(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use credence_identity::Timestamp;

    use super::*;

    /// It was laid to the missing certificate, which no agent has that attests.
    #[test]
    fn bug_a_refused_proof_of_a_node_was_no_cause_of_its_own() {
        let caller = Caller::Anonymous {
            address: "127.0.0.1:1".parse().unwrap(),
        };
        let told = |path: &str, status: Status| {
            let path = format!("/spire.api.server.{path}");
            cause(&Refusal::new(
                Timestamp::from_unix_seconds(0),
                &caller,
                &path,
                &status,
            ))
        };
        let says = "nodeattestor(x509pop): certificate verification failed: unknown issuer";
        let attest = "agent.v1.Agent/AttestAgent";
        for refusal in [
            Status::permission_denied(says),
            Status::internal(says),
            Status::invalid_argument(says),
        ] {
            assert_eq!(told(attest, refusal), CallCause::ProofRefused);
        }
        let banned = Status::permission_denied("failed to attest: agent is banned");
        assert_eq!(told(attest, banned), CallCause::Banned);
        let denied = Status::permission_denied("authorization denied for method");
        assert_eq!(told("agent.v1.Agent/ListAgents", denied), CallCause::Anonymous);
    }
}
