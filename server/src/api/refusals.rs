//! Calls that were refused of late, for `explain request`.
//!
//! Owns what is remembered of a refusal: who asked what, and what the answer said. Never the request, which may hold a
//! token. Invariant: what is kept has a bound, in number and in bytes.

use credence_identity::{SpiffeId, Timestamp};
use credence_proto::spire::api::types::{PermissionDeniedDetails, permission_denied_details::Reason};
use credence_runtime::grpc::status;
use credence_runtime::refusals;
use prost::Message;
use tonic::{Code, Status};

use super::caller::Caller;
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

impl Owner {
    pub(crate) fn of(caller: &Caller) -> Self {
        match caller {
            Caller::Local { uid, .. } => Self::Uid(*uid),
            Caller::Peer { id, .. } => Self::Id(id.clone()),
            Caller::Anonymous { .. } => Self::Anonymous,
        }
    }
}

impl Refusal {
    pub(crate) fn new(at: Timestamp, caller: &Caller, path: &str, status: &Status) -> Self {
        Self {
            at,
            caller: caller.clone(),
            path: cut(path),
            code: status.code(),
            message: cut(status.message()),
            reason: reason(status),
        }
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
