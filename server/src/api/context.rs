//! What the services share.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Arc;

use credence_crypto::x509::X509SvidKey;
use credence_identity::{SpiffeId, TrustDomain};
use credence_runtime::audit::AuditLog;
use credence_runtime::clock::{Clock, StepWatch};
use credence_runtime::grpc::RequestId;
use credence_runtime::log::LogHandle;
use credence_runtime::telemetry::rate_limit_key;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::authz::policy::Policy;
use super::call::Call;
use super::caller::Caller;
use super::limits::{Bucket, LimitError, Limits};
use super::presence::Presence;
use super::refusals::{Owner, Refusal, Refusals};
use super::status::fault;
use crate::attestor::Attestors;
use crate::ca::Authority;
use crate::holdings::Holdings;
use crate::registry::{Registry, TransactError};

/// What every service is built from.
#[derive(Debug)]
pub(crate) struct Context {
    /// The server's own trust domain.
    pub(crate) trust_domain: TrustDomain,
    /// All that is known.
    pub(crate) registry: Registry,
    /// What signs.
    pub(crate) authority: Authority,
    /// The wall clock.
    pub(crate) clock: Arc<dyn Clock>,
    /// Tells streams that wait for an SVID's end that the wall clock was stepped.
    pub(crate) steps: StepWatch,
    /// TLS callers that are admins whatever the entries say (`admin_ids`).
    pub(crate) admin_ids: HashSet<SpiffeId>,
    /// JWT-SVIDs are off (`disable_jwt_svids`).
    pub(crate) jwt_disabled: bool,
    /// Each node gets its own ID as a selector (`agent_spiffe_id_as_selector`).
    pub(crate) agent_id_as_selector: bool,
    /// The node attestors beside join tokens.
    pub(crate) attestors: Attestors,
    /// The rate limits of TCP callers.
    pub(crate) limits: Limits,
    /// The calls that were refused of late.
    pub(crate) refusals: Refusals,
    /// The audit log, if there is one.
    pub(crate) audit: Option<AuditLog>,
    /// The operator's own authorization policy, if there is one.
    pub(crate) policy: Option<Policy>,
    /// What agents were given, for those who rotate authorities by hand.
    pub(crate) holdings: Holdings,
    /// When each agent was last here.
    pub(crate) presence: Presence,
    /// The log, whose level the Logger service sets.
    pub(crate) log: LogHandle,
    /// The server's own SVID, which the Debug service shows.
    pub(crate) server_svid: watch::Receiver<Arc<X509SvidKey>>,
    /// When the server started.
    pub(crate) started: Instant,
}

impl Context {
    /// Waits for the rate limit of a call, as [`Limits::take`] does.
    pub(crate) async fn limit(&self, bucket: Bucket, call: &Call, count: usize) -> Result<(), LimitError> {
        let telemetry = self.registry.telemetry();
        let waiting = self.limits.take(bucket, call.caller(), count);
        if !telemetry.is_on() || !self.limits.is_on(bucket) {
            return waiting.await;
        }
        let counted = telemetry.call(&rate_limit_key(call.method.service_name, call.method.name));
        let outcome = counted.run(waiting).await;
        counted.end_with(if outcome.is_ok() {
            Code::Ok
        } else {
            Code::ResourceExhausted
        });
        outcome
    }

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
        let refusal = Refusal::new(self.clock.now(), caller, path, status);
        self.refusals.put(id, Owner::of(caller), refusal);
    }

    /// The status of a call whose transaction was refused, or couldn't be committed. The cause stays in the log.
    pub(crate) fn not_committed(&self, what: &str, error: &TransactError<Status>) -> Status {
        match error {
            TransactError::Refused(status) => status.clone(),
            TransactError::Store(cause) => {
                tracing::error!(error = cause as &(dyn std::error::Error + 'static), "{what}");
                fault(Code::Internal, what, "datastore is unavailable")
            }
            TransactError::Closed => fault(Code::Unavailable, what, "server is shutting down"),
        }
    }

    /// The status of a call that needs an authority and got none, or whose signing failed.
    pub(crate) fn not_signed(&self, what: &str, error: &(impl std::error::Error + 'static)) -> Status {
        tracing::error!(error = error as &(dyn std::error::Error + 'static), "{what}");
        fault(Code::Internal, what, error as &dyn Display)
    }
}
