//! What a handler knows about the call it answers, beside the message.

use std::sync::{Arc, Mutex, PoisonError};

use credence_identity::SpiffeId;
use credence_runtime::audit::AuditFields;
use credence_runtime::grpc::RequestId;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::authz::Method;
use super::caller::Caller;
use super::program::Program;

/// One accepted connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) caller: Caller,
    /// What a local caller runs, where an audit log or a policy asks.
    pub(crate) program: Option<Program>,
    /// Cancelled when the connection takes no more calls: it is old, or the server stops. Streams that would
    /// otherwise never end watch it.
    pub(crate) closing: CancellationToken,
}

/// One authorized call; put into the request by [`super::gate`].
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) connection: Arc<Connection>,
    pub(crate) method: &'static Method,
    /// Under which it is logged and, if it is refused, explained.
    pub(crate) request_id: RequestId,
    /// What is to be said of it in the audit log, where there is one.
    pub(crate) notes: Option<Arc<Notes>>,
}

/// What the service of a stream finds out about its call, for the event at its end.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<AuditFields>);

impl Notes {
    /// Adds a field by SPIRE's name; never a secret.
    pub(crate) fn add(&self, name: &str, value: impl Into<serde_json::Value>) {
        let mut fields = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        fields.insert(name.to_owned(), value.into());
    }

    /// All that was added, once.
    pub(crate) fn taken(&self) -> AuditFields {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Call {
    /// The call of a request that came through the gate.
    ///
    /// # Errors
    ///
    /// `Internal` for one that didn't, which no listener lets happen.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<&Self, Status> {
        request
            .extensions()
            .get()
            .ok_or_else(|| Status::internal("caller missing from request context"))
    }

    /// Adds to what the audit log says of the call; never a secret.
    pub(crate) fn note(&self, name: &str, value: impl Into<serde_json::Value>) {
        if let Some(notes) = &self.notes {
            notes.add(name, value);
        }
    }

    /// The program of a local caller, where it is known.
    pub(crate) fn program_path(&self) -> Option<String> {
        self.connection.program.as_ref()?.path()
    }

    /// Who calls.
    pub(crate) fn caller(&self) -> &Caller {
        &self.connection.caller
    }

    /// The ID of the agent that calls a method that only agents may call.
    ///
    /// # Errors
    ///
    /// `Internal`; the authorization table lets none but TLS callers with an ID call such a method.
    pub(crate) fn agent(&self) -> Result<&SpiffeId, Status> {
        self.caller()
            .id()
            .ok_or_else(|| Status::internal("caller ID missing from request context"))
    }
}
