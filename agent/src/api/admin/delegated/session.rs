//! A delegate's stream: both the delegate and the process it asks for are looked at before each message.

use credence_identity::SelectorSet;
use tonic::Status;

use super::Delegates;
use crate::api::Ground;
use crate::api::call::{Call, log};
use crate::api::follow::{Audience, Session};
use crate::attestor::workload::Process;
use crate::cache::{Scope, WorkloadUpdate};

/// Whom a delegate asks for.
#[derive(Debug)]
pub(super) enum Subject {
    /// Whoever has these selectors; the delegate answers for it that somebody does.
    Selectors(SelectorSet),
    /// A process, pinned when the request came.
    Process(Box<Process>),
    /// Nobody by itself: bundles.
    Everybody,
}

/// A call of a delegate about a subject.
#[derive(Debug)]
pub(super) struct Delegation {
    pub(super) call: Call<Delegates>,
    pub(super) subject: Subject,
}

impl Delegation {
    /// The subject's selectors at this moment.
    pub(super) async fn subject_selectors(&self) -> Result<SelectorSet, Status> {
        match &self.subject {
            Subject::Selectors(selectors) => Ok(selectors.clone()),
            Subject::Process(process) => {
                let attested = self.call.ground.attestors.attest(process).await;
                attested.map_err(|error| self.call.not_attested(&error))
            }
            Subject::Everybody => Ok(SelectorSet::default()),
        }
    }
}

impl Session for Delegation {
    fn ground(&self) -> &Ground {
        &self.call.ground
    }

    fn scope(&self) -> Scope {
        match self.subject {
            Subject::Everybody => Scope::AllBundles,
            Subject::Selectors(_) | Subject::Process(_) => Scope::Delegate,
        }
    }

    async fn selectors(&self) -> Result<SelectorSet, Status> {
        self.call.authorize().await?;
        self.subject_selectors().await
    }

    fn open(&self, _: &SelectorSet) -> Result<(), Status> {
        Ok(())
    }

    async fn ended(&self) {
        tokio::select! {
            () = self.call.caller.ended() => {}
            () = subject_ended(&self.subject) => {}
        }
    }

    fn stopping(&self) -> Status {
        self.call.shutting_down()
    }
}

impl Audience for Delegation {
    /// That there is no identity is an answer too: a delegate asks before the entry is made.
    fn admit(&self, _: &WorkloadUpdate, _: &SelectorSet, _: bool) -> Result<(), Status> {
        Ok(())
    }

    fn late(&self, _: &SelectorSet) -> Option<Status> {
        None
    }

    fn record(&self, update: &WorkloadUpdate, before: Option<&WorkloadUpdate>, selectors: &SelectorSet) {
        let before = before.map_or(&[][..], |before| &before.identities);
        self.call.record_x509(&update.identities, before, selectors);
    }

    fn log(&self, update: &WorkloadUpdate) {
        let now = self.call.ground.clock.now();
        for identity in &update.identities {
            let svid = &identity.svid.svid;
            log!(
                debug,
                self.call,
                count = update.identities.len(),
                spiffe_id = %svid.id,
                ttl = now.until(svid.not_after).as_secs_f64(),
                "Fetched X.509 SVID for delegated identity"
            );
        }
    }
}

async fn subject_ended(subject: &Subject) {
    match subject {
        Subject::Process(process) => process.ended().await,
        Subject::Selectors(_) | Subject::Everybody => std::future::pending().await,
    }
}
