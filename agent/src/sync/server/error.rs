//! What a call of the server's can end with.

use credence_proto::spire::api::types::{PermissionDeniedDetails, permission_denied_details::Reason};
use credence_runtime::grpc::{LinkFault, status};
use prost::Message;
use tonic::{Code, Status};

const DETAILS: &str = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";

/// Why the server refuses the agent itself, whatever the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its SVID has expired, it was evicted, or its SVID is not the current one: it may attest again.
    MustReattest,
    /// It was banned.
    Banned,
}

/// A call that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    /// The server said no, or couldn't be reached. The text has the form that SPIRE logs.
    #[error("{action}: rpc error: code = {} desc = {message}", code_name(*code))]
    Status {
        /// What was tried, as SPIRE words it, such as "failed to renew agent".
        action: &'static str,
        code: Code,
        message: String,
        refusal: Option<Refusal>,
        /// What was wrong with the connection, if that was it.
        link: Option<LinkFault>,
    },
    /// The server's answer makes no sense.
    #[error("{action}: {reason}")]
    Answer { action: &'static str, reason: String },
}

impl CallError {
    pub(crate) fn status(action: &'static str, status: &Status) -> Self {
        let refusal = refusal(status);
        Self::Status {
            action,
            code: status.code(),
            message: describe(status),
            refusal,
            link: LinkFault::of(status),
        }
    }

    pub(crate) fn answer(action: &'static str, reason: impl ToString) -> Self {
        Self::Answer {
            action,
            reason: reason.to_string(),
        }
    }

    /// The deadline went by.
    pub(crate) fn timeout(action: &'static str) -> Self {
        let message = "context deadline exceeded".to_owned();
        Self::Status {
            action,
            code: Code::DeadlineExceeded,
            message,
            refusal: None,
            link: None,
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Status { code, .. } => *code,
            Self::Answer { .. } => Code::Internal,
        }
    }

    /// What the server said, or what is wrong with it.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Status { message, .. } => message,
            Self::Answer { reason, .. } => reason,
        }
    }

    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Status { refusal, .. } => *refusal,
            Self::Answer { .. } => None,
        }
    }

    /// What was wrong with the connection, if that was it.
    pub(crate) fn link(&self) -> Option<&LinkFault> {
        match self {
            Self::Status { link, .. } => link.as_ref(),
            Self::Answer { .. } => None,
        }
    }

    /// Whether the same call may succeed later without anybody's doing: the server is away or overloaded.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Status { code, .. } => matches!(
                code,
                Code::Unavailable
                    | Code::DeadlineExceeded
                    | Code::Cancelled
                    | Code::Unknown
                    | Code::Internal
                    | Code::Aborted
                    | Code::ResourceExhausted
            ),
            Self::Answer { .. } => false,
        }
    }
}

fn refusal(status: &Status) -> Option<Refusal> {
    if status.code() != Code::PermissionDenied {
        return None;
    }
    let details = PermissionDeniedDetails::decode(status::detail(status, DETAILS)?.as_slice()).ok()?;
    match details.reason() {
        Reason::AgentBanned => Some(Refusal::Banned),
        Reason::AgentExpired
        | Reason::AgentNotAttested
        | Reason::AgentNotActive
        | Reason::AgentMustReattest => Some(Refusal::MustReattest),
        Reason::Unknown => None,
    }
}

/// The message, with the causes that a transport error keeps to itself ("transport error" alone helps nobody).
fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = if text.is_empty() {
                message
            } else {
                format!("{text}: {message}")
            };
        }
        cause = error.source();
    }
    text
}

/// The code's name as Go's gRPC prints it.
fn code_name(code: Code) -> String {
    match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(reason: Reason) -> Status {
        let details = PermissionDeniedDetails {
            reason: reason.into(),
        };
        status::with_detail(
            Code::PermissionDenied,
            "agent is banned",
            DETAILS,
            &details.encode_to_vec(),
        )
    }

    #[test]
    fn reasons_come_from_the_details_and_from_nowhere_else() {
        let refusal = |status: &Status| CallError::status("failed", status).refusal();
        assert_eq!(refusal(&denied(Reason::AgentBanned)), Some(Refusal::Banned));
        assert_eq!(
            refusal(&denied(Reason::AgentNotActive)),
            Some(Refusal::MustReattest)
        );
        assert_eq!(refusal(&denied(Reason::Unknown)), None);
        assert_eq!(refusal(&Status::permission_denied("agent is banned")), None);
    }

    #[test]
    fn the_text_is_what_scripts_look_for() {
        let error = CallError::status("failed to fetch authorized entries", &denied(Reason::AgentBanned));
        assert_eq!(
            error.to_string(),
            "failed to fetch authorized entries: rpc error: code = PermissionDenied desc = agent is banned"
        );
    }
}
