//! Calls that were refused of late, for `explain request`.
//!
//! Owns what is remembered of a refusal: who asked what, and what the answer said. Never the request, which may hold a
//! token. Invariant: what is kept has a bound, in number and in bytes.

use credence_identity::{SpiffeId, Timestamp};
use credence_proto::spire::api::types::{PermissionDeniedDetails, permission_denied_details::Reason};
use credence_runtime::grpc::{RequestId, status};
use credence_runtime::refusals;
use prost::Message;
use tonic::{Code, Status};

use super::call::Call;
use super::caller::Caller;
use super::context::Context;
use super::status::DETAILS;

/// Bytes kept of a text that a caller may have had a part in.
const LONGEST_TEXT: usize = 1024;

/// The refusals of this server.
pub(crate) type Refusals = refusals::Refusals<Owner, Refusal>;

/// Whom refusals are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    Uid(u32),
    Id(SpiffeId),
    /// All callers without a certificate together: their addresses cost nothing.
    Anonymous,
}

/// A call that was refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) at: Timestamp,
    pub(crate) caller: Caller,
    /// As `/package.Service/Method`.
    pub(crate) path: String,
    pub(crate) code: Code,
    pub(crate) message: String,
    /// What the status says to agents.
    pub(crate) reason: Option<Reason>,
}

impl Context {
    /// Keeps the refusal of a call, and gives its status the call's number.
    pub(crate) fn refused(&self, call: &Call, status: Status) -> Status {
        self.keep(call.request_id, call.caller(), &call.method.path(), &status);
        call.request_id.mark(status)
    }

    /// Keeps a refusal under this number.
    pub(super) fn keep(&self, id: RequestId, caller: &Caller, path: &str, status: &Status) {
        // The caller has gone away.
        if matches!(status.code(), Code::Ok | Code::Cancelled) {
            return;
        }
        let owner = match caller {
            Caller::Local { uid, .. } => Owner::Uid(*uid),
            Caller::Peer { id, .. } => Owner::Id(id.clone()),
            Caller::Anonymous { .. } => Owner::Anonymous,
        };
        let refusal = Refusal {
            at: self.clock.now(),
            caller: caller.clone(),
            path: cut(path),
            code: status.code(),
            message: cut(status.message()),
            reason: reason(status),
        };
        self.refusals.put(id, owner, refusal);
    }
}

fn reason(status: &Status) -> Option<Reason> {
    let details = PermissionDeniedDetails::decode(status::detail(status, DETAILS)?.as_slice()).ok()?;
    Some(details.reason()).filter(|reason| *reason != Reason::Unknown)
}

fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(LONGEST_TEXT))
        .unwrap_or_default()
        .to_owned()
}
