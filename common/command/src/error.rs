//! Why a command failed, in the words an operator reads.
//!
//! Invariant: a gRPC status reads as Go's client prints it (`rpc error: code = NotFound desc = …`), because scripts
//! match that text.

use std::{error::Error, fmt::Display, future::Future, io, time::Duration};

use tonic::{Code, Status};

/// The outcome of a command that did not succeed: one text, and the process ends with status 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CommandError(String);

impl CommandError {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// An error with all its causes, as `outer: inner`.
    pub fn chain(error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let inner = match error.downcast_ref::<io::Error>() {
                Some(error) => io_text(error),
                None => error.to_string(),
            };
            text = format!("{text}: {inner}");
            cause = error.source();
        }
        Self(text)
    }

    /// The same error behind `what: `.
    #[must_use]
    pub fn context(self, what: impl Display) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl From<Status> for CommandError {
    fn from(status: Status) -> Self {
        Self(format!(
            "rpc error: code = {} desc = {}",
            code_name(status.code()),
            status.message()
        ))
    }
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        Self(io_text(&error))
    }
}

impl From<credence_identity::SpiffeIdError> for CommandError {
    fn from(error: credence_identity::SpiffeIdError) -> Self {
        Self(error.to_string())
    }
}

impl From<credence_identity::SelectorError> for CommandError {
    fn from(error: credence_identity::SelectorError) -> Self {
        Self(error.to_string())
    }
}

impl From<serde_json::Error> for CommandError {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// Runs a command's calls under one deadline.
pub async fn in_time<T>(
    limit: Duration,
    calls: impl Future<Output = Result<T, CommandError>>,
) -> Result<T, CommandError> {
    match tokio::time::timeout(limit, calls).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Status::deadline_exceeded("context deadline exceeded").into()),
    }
}

/// A gRPC code by the name Go gives it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// An I/O error in the words of errno, without Rust's number: `no such file or directory`.
pub(crate) fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_as_in_go() {
        let error = CommandError::from(Status::permission_denied("no identity issued"));
        assert_eq!(
            error.to_string(),
            "rpc error: code = PermissionDenied desc = no identity issued"
        );
    }

    #[test]
    fn errno_reads_as_in_go() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(CommandError::from(error).to_string(), "no such file or directory");
    }
}
