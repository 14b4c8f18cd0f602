//! One call: who makes it, and how it is refused. Refusals have SPIRE's texts, and log lines its words.

use std::error::Error;
use std::sync::Arc;

use credence_identity::SelectorSet;
use tonic::{Extensions, Status};

use super::Shared;
use crate::api::peer::Caller;

#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) caller: Caller,
    pub(super) shared: Arc<Shared>,
}

/// An event of this call at a level, with SPIRE's fields.
macro_rules! log {
    ($level:ident, $call:expr, $($rest:tt)+) => {
        tracing::$level!(
            subsystem_name = "endpoints",
            service = "WorkloadAPI",
            method = $call.method,
            pid = $call.caller.pid(),
            $($rest)+
        )
    };
}
pub(super) use log;

impl Call {
    pub(super) fn new(
        method: &'static str,
        shared: Arc<Shared>,
        extensions: &Extensions,
    ) -> Result<Self, Status> {
        // Each connection has one; a request without is our own fault.
        let caller = extensions.get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Status::internal("caller of the connection is unknown"))?;
        Ok(Self {
            method,
            caller,
            shared,
        })
    }

    /// The caller's selectors at this moment.
    pub(super) async fn attest(&self) -> Result<SelectorSet, Status> {
        let attested = self.shared.attestors.attest(&self.caller).await;
        attested.map_err(|error| self.not_attested(&error))
    }

    /// That the process which made the call still runs.
    pub(super) fn still_there(&self) -> Result<(), Status> {
        self.caller.check().map_err(|gone| self.not_attested(&gone))
    }

    fn not_attested(&self, error: &(dyn Error + 'static)) -> Status {
        log!(error, self, error, "Workload attestation failed");
        Status::unavailable("workload attestation failed")
    }

    /// The refusal of a caller for whom there is no entry.
    pub(super) fn no_identity(&self) -> Status {
        log!(error, self, registered = false, "No identity issued");
        Status::permission_denied("no identity issued")
    }

    /// The answer when an entry is there but the server hasn't signed for it.
    pub(super) fn not_signed_yet(&self) -> Status {
        log!(
            warn,
            self,
            registered = true,
            "Identity is registered but not signed yet"
        );
        Status::unavailable("identity is registered but not signed yet")
    }

    pub(super) fn shutting_down(&self) -> Status {
        Status::unavailable("agent is shutting down")
    }
}

/// An error with its causes, for a caller who is to see them.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
