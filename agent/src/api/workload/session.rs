//! A workload's stream: for the process that called, attested afresh before each message.

use std::sync::Arc;

use credence_identity::{Entry, Selector, SelectorSet, SpiffeId};
use tonic::Status;

use super::WorkloadCall;
use crate::api::Ground;
use crate::api::call::log;
use crate::api::follow::{Audience, Session};
use crate::cache::{Scope, WorkloadUpdate};
use crate::explain::Stage;

impl WorkloadCall {
    /// Refuses a caller that calls more often than the operator allows.
    pub(super) fn check_rate(&self, selectors: &SelectorSet) -> Result<(), Status> {
        if self.profile.limits.allow(self.method, selectors) {
            return Ok(());
        }
        let text = format!("rate limit exceeded for /SpiffeWorkloadAPI/{}", self.method);
        Err(self.refuse(Status::unavailable(text), Stage::Request, Some(selectors)))
    }

    /// The one identity that the caller asks for, if it doesn't want all.
    pub(super) fn wanted(&self, spiffe_id: &str) -> Result<Option<SpiffeId>, Status> {
        if spiffe_id.is_empty() {
            return Ok(None);
        }
        SpiffeId::parse(spiffe_id).map(Some).map_err(|error| {
            let text = format!("invalid requested SPIFFE ID: {error}");
            self.invalid("Invalid requested SPIFFE ID", &text)
        })
    }

    /// The entries of a caller with these selectors: those of the identity that it wants, or all.
    pub(super) fn entries(
        &self,
        selectors: &SelectorSet,
        wanted: Option<&SpiffeId>,
    ) -> Result<Vec<Arc<Entry>>, Status> {
        let mut entries = self.ground.cache.matching(selectors);
        entries.retain(|entry| wanted.is_none_or(|wanted| entry.spiffe_id == *wanted));
        if entries.is_empty() {
            return Err(self.unknown(selectors, wanted.cloned()));
        }
        Ok(entries)
    }

    /// The refusal of a caller without the identity; the log shows what of its selectors it may.
    pub(super) fn unknown(&self, selectors: &SelectorSet, wanted: Option<SpiffeId>) -> Status {
        let shown = self.shown_selectors(selectors);
        if !shown.is_empty() {
            log!(
                info,
                self,
                selectors = shown,
                "Selectors of a caller without identity"
            );
        }
        self.no_identity(selectors, wanted)
    }

    fn shown_selectors(&self, selectors: &SelectorSet) -> String {
        let begins = |selector: &str, beginning: &str| {
            let rest = selector.strip_prefix(beginning);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        let beginnings = &self.profile.options.log_selectors;
        let shown = selectors.iter().map(Selector::as_str);
        let shown = shown.filter(|selector| beginnings.iter().any(|beginning| begins(selector, beginning)));
        shown.collect::<Vec<_>>().join(",")
    }
}

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

    fn open(&self, selectors: &SelectorSet) -> Result<(), Status> {
        self.check_rate(selectors)
    }

    async fn ended(&self) {
        self.caller.ended().await;
    }

    fn stopping(&self) -> Status {
        self.shutting_down()
    }
}

impl Audience for WorkloadCall {
    fn admit(
        &self,
        update: &WorkloadUpdate,
        selectors: &SelectorSet,
        shows_svids: bool,
    ) -> Result<(), Status> {
        let verifier = !shows_svids && self.profile.options.allow_unauthenticated_verifiers;
        if update.is_unregistered() && !verifier {
            Err(self.unknown(selectors, None))
        } else {
            Ok(())
        }
    }

    fn late(&self, selectors: &SelectorSet) -> Option<Status> {
        Some(self.not_signed_yet(selectors))
    }

    fn record(&self, update: &WorkloadUpdate, before: Option<&WorkloadUpdate>, selectors: &SelectorSet) {
        let before = before.map_or(&[][..], |before| &before.identities);
        self.record_x509(&update.identities, before, selectors);
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
