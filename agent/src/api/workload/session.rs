//! A workload's stream: for the process that called, attested afresh before each message.

use credence_identity::SelectorSet;
use tonic::Status;

use super::WorkloadCall;
use crate::api::Ground;
use crate::api::call::log;
use crate::api::follow::Session;
use crate::cache::{Scope, WorkloadUpdate};

impl Session for WorkloadCall {
    fn ground(&self) -> &Ground {
        &self.ground
    }

    fn scope(&self) -> Scope {
        Scope::Workload
    }

    async fn selectors(&self) -> Result<SelectorSet, Status> {
        self.attest().await
    }

    async fn ended(&self) {
        self.caller.ended().await;
    }

    fn admit(
        &self,
        update: &WorkloadUpdate,
        selectors: &SelectorSet,
        shows_svids: bool,
    ) -> Result<(), Status> {
        let verifier = !shows_svids && self.options.allow_unauthenticated_verifiers;
        if update.is_unregistered() && !verifier {
            Err(self.no_identity(selectors, None))
        } else {
            Ok(())
        }
    }

    fn late(&self, selectors: &SelectorSet) -> Option<Status> {
        Some(self.not_signed_yet(selectors))
    }

    fn stopping(&self) -> Status {
        self.shutting_down()
    }

    fn log(&self, update: &WorkloadUpdate) {
        let now = self.ground.clock.now();
        for identity in &update.identities {
            let svid = &identity.svid.svid;
            log!(
                debug,
                self,
                registered = true,
                count = update.identities.len(),
                spiffe_id = %svid.id,
                ttl = now.until(svid.not_after).as_secs_f64(),
                "Fetched X.509 SVID"
            );
        }
    }
}
