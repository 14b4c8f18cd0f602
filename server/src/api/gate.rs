//! The one door of every call: look-up, authorization, dispatch, and the last word on a refusal.
//!
//! Owns what happens between HTTP/2 and a service. Invariant: no service sees a call that the authorization table
//! doesn't allow to its caller; reading a message comes after, so that a refused caller learns nothing about it.

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
use super::authz;
use super::authz::decision::{self, Standing, Verdict};
use super::call::{Call, Connection};
use super::caller::Caller;
use super::context::Context;
use super::status;
use crate::registry::TransactError;
use crate::store::{Change, Node};

/// What tonic says about a message that is longer than allowed; Go's servers use another code.
const TONIC_TOO_LARGE: &str = "Error, decoded message length too large: ";

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
        Box::pin(async move { Ok(answer(&services, connection, request).await) })
    }
}

async fn answer(
    services: &Services,
    connection: Arc<Connection>,
    mut request: Request<Incoming>,
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
    };
    if let Err(refusal) = authorize(context, &call).await {
        return context.refused(&call, refusal).into_http();
    }
    request.extensions_mut().insert(call.clone());
    let response = services.dispatch(method, request).await;
    if response.headers().contains_key(Status::GRPC_STATUS) {
        return failed(context, &call, response);
    }
    response
}

/// Decides, and activates the serial of a renewed SVID on its first use.
async fn authorize(context: &Context, call: &Call) -> Result<(), Status> {
    let caller = call.caller();
    let now = context.clock.now();
    let verdict = decision::decide(
        &context.registry.read(),
        &context.admin_ids,
        caller,
        call.method.allow,
        now,
    );
    match verdict {
        Verdict::Allow => Ok(()),
        Verdict::Activate => match activate(context, caller).await {
            Ok(()) => Ok(()),
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
