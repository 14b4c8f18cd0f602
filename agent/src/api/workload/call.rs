//! One call: who makes it, and how it is refused. Refusals have SPIRE's texts, and log lines its words; each is kept under
//! the call's number for `explain request`.

use std::error::Error;
use std::sync::Arc;

use credence_identity::{SelectorSet, SpiffeId};
use credence_runtime::grpc::RequestId;
use tonic::{Extensions, Status};

use super::Shared;
use crate::api::peer::Caller;
use crate::explain::{Refusal, Stage};

#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) caller: Caller,
    pub(super) id: RequestId,
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
            request_id = %$call.id,
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
            id: RequestId::random(),
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

    /// A refusal, which is kept, with the number of the call.
    pub(super) fn refuse(&self, status: Status, stage: Stage, selectors: Option<&SelectorSet>) -> Status {
        let refusal = Refusal {
            at: self.shared.clock.now(),
            method: self.method,
            pid: self.caller.pid(),
            uid: self.caller.uid(),
            message: status.message().to_owned(),
            selectors: selectors.cloned(),
            stage,
        };
        let refusals = &self.shared.refusals;
        refusals.put(self.id, refusal.uid, refusal.bounded());
        self.id.mark(status)
    }

    fn not_attested(&self, error: &(dyn Error + 'static)) -> Status {
        log!(error, self, error, "Workload attestation failed");
        let status = Status::unavailable("workload attestation failed");
        self.refuse(status, Stage::Attestation(with_causes(error)), None)
    }

    /// The refusal of a caller with these selectors, for whom there is no entry, or none of the identity it asked for.
    pub(super) fn no_identity(&self, selectors: &SelectorSet, wanted: Option<SpiffeId>) -> Status {
        log!(error, self, registered = false, "No identity issued");
        let status = Status::permission_denied("no identity issued");
        self.refuse(status, Stage::NoIdentity(wanted), Some(selectors))
    }

    /// The answer when an entry is there but the server hasn't signed for it.
    pub(super) fn not_signed_yet(&self, selectors: &SelectorSet) -> Status {
        log!(
            warn,
            self,
            registered = true,
            "Identity is registered but not signed yet"
        );
        let status = Status::unavailable("identity is registered but not signed yet");
        self.refuse(status, Stage::NotSigned, Some(selectors))
    }

    pub(super) fn shutting_down(&self) -> Status {
        self.refuse(
            Status::unavailable("agent is shutting down"),
            Stage::Stopping,
            None,
        )
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
