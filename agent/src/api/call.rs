//! One call of a process: who makes it, and how it is refused. Refusals have SPIRE's texts, and log lines its words; each
//! is kept under the call's number for `explain request`.

use std::error::Error;
use std::sync::Arc;

use credence_identity::{SelectorSet, SpiffeId};
use credence_runtime::grpc::RequestId;
use tonic::{Extensions, Status};

use super::Ground;
use super::peer::Caller;
use crate::explain::{Asker, Refusal, Stage};

/// A call with what its service was set up with.
#[derive(Debug)]
pub(super) struct Call<O> {
    pub(super) service: &'static str,
    pub(super) method: &'static str,
    pub(super) caller: Caller,
    pub(super) id: RequestId,
    pub(super) ground: Arc<Ground>,
    pub(super) profile: Arc<O>,
}

/// An event of this call at a level, with SPIRE's fields.
macro_rules! log {
    ($level:ident, $call:expr, $($rest:tt)+) => {
        tracing::$level!(
            subsystem_name = "endpoints",
            service = $call.service,
            method = $call.method,
            pid = $call.caller.pid(),
            request_id = %$call.id,
            $($rest)+
        )
    };
}
pub(super) use log;

impl<O> Call<O> {
    /// The call of the process whose connection the request came by.
    pub(super) fn new(
        (service, method): (&'static str, &'static str),
        ground: Arc<Ground>,
        profile: Arc<O>,
        extensions: &Extensions,
    ) -> Result<Self, Status> {
        // Each connection has one; a request without is our own fault.
        let caller = extensions.get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Status::internal("caller of the connection is unknown"))?;
        Ok(Self {
            service,
            method,
            caller,
            id: RequestId::random(),
            ground,
            profile,
        })
    }

    /// The caller's selectors at this moment.
    pub(super) async fn attest(&self) -> Result<SelectorSet, Status> {
        let attested = self.ground.attestors.attest(&self.caller).await;
        attested.map_err(|error| self.not_attested(&error))
    }

    /// That the process which made the call still runs.
    pub(super) fn still_there(&self) -> Result<(), Status> {
        self.caller.check().map_err(|gone| self.not_attested(&gone))
    }

    /// A refusal, which is kept, with the number of the call.
    pub(super) fn refuse(&self, status: Status, stage: Stage, selectors: Option<&SelectorSet>) -> Status {
        let refusal = Refusal {
            at: self.ground.clock.now(),
            method: self.method,
            asker: Asker::Process {
                pid: self.caller.pid(),
                uid: self.caller.uid(),
            },
            message: status.message().to_owned(),
            selectors: selectors.cloned(),
            stage,
        };
        refusal.keep(&self.ground.refusals, self.id);
        self.id.mark(status)
    }

    /// The answer when the caller, or the process it asks for, can't be attested.
    pub(super) fn not_attested(&self, error: &(dyn Error + 'static)) -> Status {
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

    /// The end of a stream when the agent stops.
    pub(super) fn shutting_down(&self) -> Status {
        let status = Status::unavailable("agent is shutting down");
        self.refuse(status, Stage::Stopping, None)
    }

    /// The refusal of an argument; `event` is what the log calls it.
    pub(super) fn invalid(&self, event: &'static str, text: &str) -> Status {
        log!(error, self, error = %text, "{event}");
        self.refuse(Status::invalid_argument(text), Stage::Request, None)
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
