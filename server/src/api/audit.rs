//! The audit log of the server's API: one event per call, or per item of a batch, with its status.
//!
//! Owns what is said of a call: who made it, as whom it was let in, what it asked for, what became of it. The messages
//! are seen on their way through the gate, so that no service can forget to be recorded. Invariant: every call of a known
//! method leaves an event, refused ones too, and nothing that is said is a secret (see [`fields`]).

mod fields;
mod unary;

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use credence_identity::Timestamp;
use credence_proto::spire::api::types;
use credence_runtime::audit::{AuditEvent, AuditLog};
use http::Response;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tonic::body::Body;
use tonic::{Code, Status};

use super::authz::decision::Authorized;
use super::body::message;
use super::call::Call;
use super::caller::Caller;
use fields::Fields;

/// SPIRE's words for every event.
const MESSAGE: &str = "API accessed";

/// One call on its way to its event.
#[derive(Debug)]
pub(crate) struct Trail {
    log: AuditLog,
    call: Call,
    time: Timestamp,
    authorized: Option<Authorized>,
    /// The one message of the request, where it has one.
    pub(crate) request: Bytes,
}

impl Trail {
    /// A call that was let in as `authorized`, or not at all.
    pub(crate) fn begin(
        log: &AuditLog,
        call: &Call,
        time: Timestamp,
        authorized: Option<Authorized>,
    ) -> Self {
        Self {
            log: log.clone(),
            call: call.clone(),
            time,
            authorized,
            request: Bytes::new(),
        }
    }

    /// The call was refused.
    pub(crate) fn refused(&self, status: &Status) {
        let fields = unary::of_call(self.call.method, &self.request, &[]);
        self.record(fields, Outcome::of(status));
    }

    /// The call was answered: its event follows with the answer's end.
    pub(crate) async fn answered(self, response: Response<Body>) -> Response<Body> {
        if let Some(status) = Status::from_header_map(response.headers()) {
            self.refused(&status);
            return response;
        }
        if self.call.method.streams() {
            return response.map(|body| {
                Body::new(Watched {
                    inner: body,
                    trail: Some(self),
                })
            });
        }
        let (parts, body) = response.into_parts();
        let Ok(collected) = body.collect().await else {
            let lost = Status::internal("the answer could not be encoded");
            self.refused(&lost);
            return lost.into_http();
        };
        let trailers = collected.trailers().cloned();
        let answer = collected.to_bytes();
        let status = trailers.as_ref().and_then(Status::from_header_map);
        match status.filter(|status| status.code() != Code::Ok) {
            Some(status) => self.refused(&status),
            None => self.succeeded(&message(&answer)),
        }
        let body = Full::new(answer).with_trailers(std::future::ready(trailers.map(Ok)));
        Response::from_parts(parts, Body::new(body))
    }

    fn succeeded(&self, answer: &[u8]) {
        let method = self.call.method;
        match unary::of_items(method, &self.request, answer) {
            // An empty batch is a call all the same.
            Some(items) if !items.is_empty() => {
                for item in items {
                    self.record(item.fields, Outcome::of_item(item.status.as_ref()));
                }
            }
            _ => self.record(unary::of_call(method, &self.request, answer), Outcome::Success),
        }
    }

    fn record(&self, fields: Fields, outcome: Outcome<'_>) {
        let (call, method) = (&self.call, self.call.method);
        let authorized = self.authorized.unwrap_or_default();
        let mut fields = fields
            .with("authorized_as", authorized.who())
            .with("authorized_via", authorized.how())
            .with("method", method.name)
            .with("request_id", call.request_id.to_string())
            .with("service", method.log_service())
            .with("subsystem_name", "api");
        fields = match call.caller() {
            Caller::Local { uid, gid, .. } => fields
                .with("caller_uid", *uid)
                .with("caller_gid", *gid)
                .text("caller_path", &call.program_path().unwrap_or_default()),
            Caller::Peer { id, address, .. } => fields
                .with("caller_addr", address.to_string())
                .with("caller_id", id.as_str()),
            Caller::Anonymous { address } => fields.with("caller_addr", address.to_string()),
        };
        fields = match outcome {
            Outcome::Success => fields.with("status", "success"),
            Outcome::Error(code, message) => fields
                .with("status", "error")
                .with("status_code", format!("{code:?}"))
                .with("status_message", message),
        };
        let mut fields = fields.0;
        if let Some(notes) = &call.notes {
            fields.extend(notes.taken());
        }
        self.log.record(AuditEvent {
            time: self.time,
            message: MESSAGE,
            fields,
        });
    }
}

enum Outcome<'a> {
    Success,
    Error(Code, &'a str),
}

impl<'a> Outcome<'a> {
    fn of(status: &'a Status) -> Self {
        match status.code() {
            Code::Ok => Self::Success,
            code => Self::Error(code, status.message()),
        }
    }

    fn of_item(status: Option<&'a types::Status>) -> Self {
        match status {
            Some(status) if status.code != 0 => Self::Error(Code::from_i32(status.code), &status.message),
            _ => Self::Success,
        }
    }
}

/// The answers of a stream, whose end is the call's. A caller that goes away ends it too.
struct Watched {
    inner: Body,
    trail: Option<Trail>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let ended = match &frame {
            Some(Ok(frame)) => frame
                .trailers_ref()
                .map(|trailers| Status::from_header_map(trailers).unwrap_or_else(|| Status::ok(""))),
            Some(Err(status)) => Some(status.clone()),
            None => Some(Status::ok("")),
        };
        if let Some((status, trail)) = ended.and_then(|status| Some((status, self.trail.take()?))) {
            trail.record(Fields::default(), Outcome::of(&status));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(trail) = self.trail.take() {
            trail.record(
                Fields::default(),
                Outcome::Error(Code::Cancelled, "the caller went away"),
            );
        }
    }
}
