//! The statuses of calls and of batch items, in SPIRE's form "what: cause".
//!
//! Owns how a fault becomes text. A cause is what a caller may read: whoever passes one never puts a secret in it.

use std::fmt::Display;

use credence_proto::spire::api::types::{self, permission_denied_details::Reason};
use credence_runtime::grpc::status::with_detail;
use prost::Message;
use tonic::{Code, Status};

/// The type of the detail that agents act on.
pub(crate) const DETAILS: &str = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";

/// "what: cause"; for `NotFound` the cause is dropped, as SPIRE does.
pub(crate) fn fault(code: Code, what: impl Display, cause: impl Display) -> Status {
    match code {
        Code::NotFound => Status::new(code, what.to_string()),
        _ => Status::new(code, format!("{what}: {cause}")),
    }
}

/// `InvalidArgument` "what: cause".
pub(crate) fn invalid(what: impl Display, cause: impl Display) -> Status {
    fault(Code::InvalidArgument, what, cause)
}

/// `Unimplemented`, in the words of Go's generated servers.
pub(crate) fn unimplemented(method: &str) -> Status {
    Status::unimplemented(format!("method {method} not implemented"))
}

/// `PermissionDenied` with the reason that agents act on: expired, not attested, not active, banned, must
/// re-attest.
pub(crate) fn denied(reason: Option<Reason>, message: String) -> Status {
    let Some(reason) = reason else {
        return Status::permission_denied(message);
    };
    let details = types::PermissionDeniedDetails {
        reason: reason.into(),
    }
    .encode_to_vec();
    with_detail(Code::PermissionDenied, message, DETAILS, &details)
}

/// The status of a batch item that succeeded.
pub(crate) fn item_ok() -> types::Status {
    types::Status {
        code: Code::Ok.into(),
        message: "OK".to_owned(),
    }
}

/// The status of a batch item that failed.
pub(crate) fn item(status: &Status) -> types::Status {
    types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
    }
}
