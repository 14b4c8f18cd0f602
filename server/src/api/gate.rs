//! The one door of every call: look-up, authorization, dispatch, and the last word on a refusal.
//!
//! Owns what happens between HTTP/2 and a service. Invariant: no service sees a call that the authorization table, or the
//! operator's policy in its place, doesn't allow to its caller. Reading a message comes after, unless a policy wants to
//! see it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use credence_proto::spire::api::types::permission_denied_details::Reason;
use credence_runtime::grpc::{REQUEST_ID, RequestId};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::{Code, Status};

use super::Services;
use super::audit::Trail;
use super::authz::decision::{self, Authorized, Standing, Verdict};
use super::authz::policy::{Input, Policy};
use super::authz::{self, Classes};
use super::body::{LARGEST, RequestBody};
use super::call::{Call, Connection};
use super::caller::Caller;
use super::context::Context;
use super::status;
use crate::registry::TransactError;
use crate::store::{Change, Node};

/// What tonic says about a message that is longer than allowed; Go's servers use another code.
const TONIC_TOO_LARGE: &str = "Error, decoded message length too large: ";

/// The largest message that is read of a caller who proved nothing, before a policy has judged it.
const LARGEST_OF_STRANGERS: usize = 64 * 1024;

/// The HTTP service of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    services: Arc<Services>,
    connection: Arc<Connection>,
}

impl Gate {
    pub(crate) fn new(services: Arc<Services>, connection: Arc<Connection>) -> Self {
        Self { services, connection }
    }
}

impl hyper::service::Service<Request<Incoming>> for Gate {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Self { services, connection } = self.clone();
        Box::pin(async move {
            // The span of a caller who proved nothing is referred to, and not gone on with.
            let believed = !matches!(connection.caller, Caller::Anonymous { .. });
            let call = services.calls.start(&request, believed);
            let response = call.run(answer(&services, connection, request)).await;
            Ok(call.follow(response))
        })
    }
}

async fn answer(
    services: &Services,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Response<Body> {
    let (context, caller) = (&services.context, &connection.caller);
    let request_id = RequestId::random();
    let method = match authz::find(request.uri().path(), !caller.is_local()) {
        Ok(method) => method,
        Err(unknown) => {
            let status = Status::unimplemented(unknown.to_string());
            context.keep(request_id, caller, request.uri().path(), &status);
            return request_id.mark(status).into_http();
        }
    };
    let call = Call {
        connection: Arc::clone(&connection),
        method,
        request_id,
        notes: context.audit.as_ref().map(|_| Arc::default()),
    };
    let (parts, body) = request.into_parts();
    let mut body = RequestBody::Wire(body);
    let allowed = match &context.policy {
        None => Ok(method.allow),
        Some(policy) => judged(policy, &call, &mut body).await,
    };
    let authorized = match allowed {
        Ok(allow) => authorize(context, &call, allow).await,
        Err(refusal) => Err(refusal),
    };
    let trail = context
        .audit
        .as_ref()
        .map(|log| Trail::begin(log, &call, context.clock.now(), authorized.as_ref().ok().copied()));
    if let Err(refusal) = authorized {
        if let Some(trail) = trail {
            trail.refused(&refusal);
        }
        return context.refused(&call, refusal).into_http();
    }
    let request = Request::from_parts(parts, body);
    match trail {
        None => dispatched(services, &call, request).await,
        Some(trail) => recorded(services, &call, request, trail).await,
    }
}

async fn dispatched(services: &Services, call: &Call, mut request: Request<RequestBody>) -> Response<Body> {
    request.extensions_mut().insert(call.clone());
    let response = services.dispatch(call.method, request).await;
    if response.headers().contains_key(Status::GRPC_STATUS) {
        return failed(&services.context, call, response);
    }
    response
}

/// As [`dispatched`], seen by the audit log.
async fn recorded(
    services: &Services,
    call: &Call,
    mut request: Request<RequestBody>,
    mut trail: Trail,
) -> Response<Body> {
    if !call.method.takes_a_stream() {
        match request.body_mut().read(LARGEST).await {
            Ok(message) => trail.request = message,
            Err(refusal) => {
                trail.refused(&refusal);
                return failed(&services.context, call, refusal.into_http());
            }
        }
    }
    let response = dispatched(services, call, request).await;
    trail.answered(response).await
}

/// Whom the operator's policy lets make the call. It sees the message, so that this is read before anybody is let in.
async fn judged(policy: &Policy, call: &Call, body: &mut RequestBody) -> Result<Classes, Status> {
    let most = match call.caller() {
        Caller::Anonymous { .. } => LARGEST_OF_STRANGERS,
        Caller::Local { .. } | Caller::Peer { .. } => LARGEST,
    };
    let req = if call.method.takes_a_stream() {
        serde_json::Value::Null
    } else {
        let message = body.read(most).await?;
        authz::request::json(call.method, &message).map_err(|error| Status::internal(error.to_string()))?
    };
    let caller = call.caller().id().map(ToString::to_string).unwrap_or_default();
    let input = Input {
        caller_file_path: call.program_path().unwrap_or_default(),
        caller,
        full_method: call.method.path(),
        req,
    };
    policy.classes(input).map_err(|error| {
        tracing::error!(
            caller_addr = %call.caller().address(),
            caller_id = call.caller().id().map(tracing::field::display),
            %error,
            method = call.method.name,
            request_id = %call.request_id,
            service = call.method.log_service(),
            subsystem_name = "api",
            "Authorization failure from OPA auth"
        );
        // The policy's fault isn't the caller's business, and no reason for an agent to give up.
        Status::internal("authorization policy failed")
    })
}

/// Decides, and activates the serial of a renewed SVID on its first use.
async fn authorize(context: &Context, call: &Call, allow: Classes) -> Result<Authorized, Status> {
    let caller = call.caller();
    let now = context.clock.now();
    let verdict = decision::decide(&context.registry.read(), &context.admin_ids, caller, allow, now);
    match verdict {
        Verdict::Allow(authorized) => Ok(authorized),
        Verdict::Activate => match activate(context, caller).await {
            Ok(()) => Ok(Authorized::Agent),
            Err(reason) => Err(refuse(call, Some(reason))),
        },
        Verdict::Deny(reason) => Err(refuse(call, reason)),
    }
}

/// Makes the serial the caller shows the node's current one, unless the node was banned, evicted or renewed again
/// meanwhile. With the store down the SVID is good all the same, and its next use tries again.
async fn activate(context: &Context, caller: &Caller) -> Result<(), Reason> {
    let Caller::Peer {
        id,
        serial,
        not_after,
        ..
    } = caller.clone()
    else {
        return Err(Reason::AgentNotAttested);
    };
    let now = context.clock.now();
    let outcome = context.registry.transact(move |state| {
        let changes = match decision::standing(state, &id, &serial, not_after, now)? {
            Standing::Current => Vec::new(),
            Standing::Renewed => {
                let node = state.node(&id).ok_or(Reason::AgentNotAttested)?;
                let activated = Node {
                    not_after: node.new_not_after.unwrap_or(not_after),
                    serial: serial.to_string(),
                    new_serial: None,
                    new_not_after: None,
                    ..Node::clone(node)
                };
                vec![Change::NodePut(Arc::new(activated))]
            }
        };
        Ok((changes, ()))
    });
    match outcome.await {
        Ok(()) => Ok(()),
        Err(TransactError::Refused(reason)) => Err(reason),
        Err(error) => {
            tracing::warn!(caller_id = %caller, %error, "Unable to activate the new agent SVID; will try again");
            Ok(())
        }
    }
}

/// The refusal, said to the log in SPIRE's words and to the caller in SPIRE's form.
pub(crate) fn refuse(call: &Call, reason: Option<Reason>) -> Status {
    let (caller, method) = (call.caller(), call.method);
    let why = match reason {
        Some(Reason::AgentExpired) => "Agent SVID is expired",
        Some(Reason::AgentNotAttested) => "Agent is not attested",
        Some(Reason::AgentBanned) => "Agent is banned",
        Some(Reason::AgentNotActive) => "Agent SVID is not active",
        _ => "Authorization denied",
    };
    tracing::error!(
        caller_addr = %caller.address(),
        caller_id = caller.id().map(tracing::field::display),
        method = method.name,
        request_id = %call.request_id,
        service = method.log_service(),
        subsystem_name = "api",
        "{why}"
    );
    status::denied(reason, method.refusal())
}

/// A call that ended without an answer: logged, kept, and mended where tonic's code isn't Go's.
#[cold]
fn failed(context: &Context, call: &Call, mut response: Response<Body>) -> Response<Body> {
    let Some(status) = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok)
    else {
        return response;
    };
    let mended = mend(&status);
    let status = mended.as_ref().unwrap_or(&status);
    let (caller, method) = (call.caller(), call.method);
    tracing::error!(
        caller_addr = %caller.address(),
        caller_id = caller.id().map(tracing::field::display),
        method = method.name,
        request_id = %call.request_id,
        service = method.log_service(),
        status_code = ?status.code(),
        subsystem_name = "api",
        "{}",
        status.message()
    );
    if let Some(mended) = mended {
        return context.refused(call, mended).into_http();
    }
    context.keep(call.request_id, caller, &method.path(), status);
    if let Ok(number) = HeaderValue::try_from(call.request_id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, number);
    }
    response
}

/// The status Go's servers give for a message that is too long; also for the messages of streams.
pub(crate) fn mend(status: &Status) -> Option<Status> {
    let lengths = status.message().strip_prefix(TONIC_TOO_LARGE)?;
    Some(Status::resource_exhausted(format!(
        "grpc: received message larger than max: {lengths}"
    )))
}
