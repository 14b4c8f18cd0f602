//! A call of an Envoy: attested afresh before each answer, and refused in SPIRE's words.

use credence_identity::{SelectorSet, SpiffeId};
use credence_proto::google::rpc;
use tonic::Status;

use super::form::Form;
use super::names::{Names, TooManyNames};
use super::options::Profile;
use super::secrets::{Question, Secrets};
use crate::api::Ground;
use crate::api::call::{Call, log};
use crate::api::follow::Session;
use crate::cache::{Scope, WorkloadUpdate};
use crate::explain::Stage;

/// Characters that the log shows of what a caller sent.
const LONGEST_TEXT: usize = 1024;

pub(super) type SdsCall = Call<Profile>;

impl SdsCall {
    /// The secrets that these names stand for.
    ///
    /// # Errors
    /// Internal, when the Envoy can't take them.
    pub(super) fn secrets(
        &self,
        (names, form): (&Names, Form),
        update: &WorkloadUpdate,
        selectors: &SelectorSet,
    ) -> Result<Secrets, Status> {
        let question = Question {
            names,
            form,
            options: &self.profile.options,
            now: self.ground.clock.now(),
        };
        question.answer(update).map_err(|error| {
            self.log_unanswered(&error.to_string());
            let status = Status::internal(error.to_string());
            self.refuse(status, Stage::Request, Some(selectors))
        })
    }

    /// The refusal of names that nothing of the caller's has.
    pub(super) fn unauthorized(&self, missing: &[String], selectors: &SelectorSet) -> Status {
        let quoted: Vec<String> = missing.iter().map(|name| format!("{name:?}")).collect();
        let text = format!(
            "workload is not authorized for the requested identities [{}]",
            quoted.join(" ")
        );
        self.log_unanswered(&text);
        let ids = missing.iter().filter_map(|name| SpiffeId::parse(name).ok());
        let identity = ids.into_iter().find(|id| !id.path().is_empty());
        let stage = match identity {
            Some(id) => Stage::NoIdentity(Some(id)),
            None if missing.contains(&self.profile.options.default_svid_name) => Stage::NoIdentity(None),
            None => Stage::Request,
        };
        self.refuse(Status::invalid_argument(text), stage, Some(selectors))
    }

    /// The refusal of too many names.
    pub(super) fn too_many(&self, error: &TooManyNames) -> Status {
        let text = error.to_string();
        self.log_unanswered(&text);
        self.refuse(Status::invalid_argument(text), Stage::Request, None)
    }

    fn log_unanswered(&self, text: &str) {
        let kind = match self.method {
            "FetchSecrets" => "fetch",
            _ => "stream",
        };
        let error = shortened(text);
        log!(error, self, error, "Error building {kind} secrets response");
    }

    /// Names of a stream that nothing of the caller's has at the moment.
    pub(super) fn left_out(&self, missing: &[String]) {
        let resource_names = listed(missing);
        log!(
            info,
            self,
            resource_names,
            "Workload is not authorized for requested secrets; they follow when it is"
        );
    }

    /// An Envoy didn't take what it was sent.
    pub(super) fn rejected<'a>(
        &self,
        names: impl IntoIterator<Item = &'a String>,
        why: Option<&rpc::Status>,
    ) {
        let resource_names = listed(names);
        match why {
            Some(why) => {
                let error = shortened(&why.message);
                log!(
                    error,
                    self,
                    resource_names,
                    error,
                    "Envoy reported errors applying secrets"
                );
            }
            None => log!(
                error,
                self,
                resource_names,
                "Client rejected expected version and rolled back"
            ),
        }
        self.ground.cache.telemetry().count("sds_api.nack", 1);
    }
}

impl Session for SdsCall {
    fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Each identity has a name of its own, so those that share a hint are all there, as SPIRE has it.
    fn scope(&self) -> Scope {
        Scope::Process
    }

    async fn selectors(&self) -> Result<SelectorSet, Status> {
        self.attest().await
    }

    fn open(&self, selectors: &SelectorSet) -> Result<(), Status> {
        if self.profile.limits.allow(self.method, selectors) {
            return Ok(());
        }
        let text = format!(
            "rate limit exceeded for /envoy.service.secret.v3.SecretDiscoveryService/{}",
            self.method
        );
        Err(self.refuse(Status::unavailable(text), Stage::Request, Some(selectors)))
    }

    async fn ended(&self) {
        self.caller.ended().await;
    }

    fn stopping(&self) -> Status {
        self.shutting_down()
    }
}

/// As SPIRE's log has a list.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    shortened(&format!("[{}]", names.join(" ")))
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}
