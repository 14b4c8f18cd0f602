//! Collects the facts about a process, or a call that was refused, and has them judged.
//!
//! Owns the looks at the agent's parts. Never signs, renews or changes anything by looking.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use credence_identity::diagnosis::{Explanation, Offer};
use credence_identity::{SelectorSet, SpiffeId};
use credence_runtime::clock::Clock;
use credence_runtime::grpc::RequestId;
use tokio::time::timeout;

use super::cause::WorkloadCause as Cause;
use super::certificate::CertificateCause;
use super::journal::Journal;
use super::judge::{Answer, Facts, judge};
use super::process::SocketFile;
use super::refusal::{Asker, Owner, Refusal, Refusals, Stage};
use crate::attestor::workload::{Credentials, ProcFs, Process, WorkloadAttestors};
use crate::cache::{Cache, Survey};
use crate::sync::Server;

/// How long the server may take; without its answer the agent says what it knows.
const ASK_FOR: Duration = Duration::from_secs(3);

/// The parts there are from the start.
#[derive(Debug, Clone)]
pub struct Node {
    /// Who tells a process's selectors.
    pub attestors: Arc<WorkloadAttestors>,
    /// Where `/proc` is.
    pub proc: ProcFs,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// How the agent's own work goes.
    pub journal: Journal,
    /// The calls that were refused of late.
    pub refusals: Refusals,
    /// Whether there is a Workload API at all.
    pub workload_api: bool,
    /// The parts that are there once the agent serves.
    pub running: Arc<OnceLock<Running>>,
}

/// The parts that an agent has once it serves.
#[derive(Debug)]
pub struct Running {
    pub(crate) cache: Cache,
    pub(crate) server: Server,
    /// The Workload API's socket, as it was bound.
    pub(crate) socket: Option<SocketFile>,
    /// The agent's own ID at its start.
    pub(crate) agent_id: SpiffeId,
}

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
pub enum NothingKnown {
    /// Nobody was refused under that number, or it is long ago.
    #[error(
        "no refusal of request {0} is known here: the last 1,000 of each user are kept until the agent restarts"
    )]
    Request(RequestId),
}

impl Node {
    /// Why the process has no identity, or not the one that is wanted.
    pub async fn process(&self, pid: i32, wanted: Option<&SpiffeId>) -> Explanation {
        let mut explanation = Explanation::of(format!("process {pid}"));
        let Ok(who) = self.proc.credentials(pid) else {
            explanation.found(Cause::NoProcess(pid));
            return explanation;
        };
        explanation.subject = format!("process {pid} (uid {}, gid {})", who.uid, who.gid);
        if let Ok(path) = std::fs::read_link(self.proc.path(pid, "exe")) {
            explanation.fact("Executable", path.display().to_string());
        }
        let selectors = self.attest(pid, &who, &mut explanation).await;
        let Some(running) = self.running.get() else {
            self.not_running(&mut explanation);
            return explanation;
        };
        if !self.workload_api {
            explanation.found(Cause::WorkloadApiOff);
        } else if let Some(socket) = &running.socket {
            let fault = socket
                .removed()
                .or_else(|| socket.fault_for(pid, &who, &self.proc));
            if let Some(fault) = fault {
                explanation.found(fault);
            }
            explanation.fact("Workload API", format!("unix://{}", socket.path().display()));
        }
        if let Some(selectors) = selectors {
            self.judge(running, &selectors, wanted, &mut explanation).await;
        }
        self.show_agent(running, &mut explanation);
        let last = self.refusals.latest(
            &Owner::User(who.uid),
            |refusal: &Refusal| matches!(refusal.asker, Asker::Process { pid: its, .. } if its == pid),
        );
        if let Some((id, refusal)) = last {
            explanation.fact(
                "Last refusal",
                format!(
                    "{} at {}, request {id}: {}",
                    refusal.method, refusal.at, refusal.message
                ),
            );
        }
        explanation
    }

    /// Why that call was refused.
    ///
    /// # Errors
    /// [`NothingKnown`].
    pub async fn request(&self, id: RequestId) -> Result<Explanation, NothingKnown> {
        let refusal = self.refusals.find(id).ok_or(NothingKnown::Request(id))?;
        let mut explanation = Explanation::of(format!(
            "request {id}: {} of {}, {}",
            Some(refusal.method)
                .filter(|name| !name.is_empty())
                .unwrap_or("call"),
            refusal.asker,
            refusal.at
        ));
        explanation.fact("Answer", refusal.message.clone());
        match &refusal.stage {
            Stage::Header => explanation.found(Cause::HeaderMissing),
            Stage::Request => explanation.found(Cause::BadRequest(refusal.message.clone())),
            Stage::Attestation(why) => explanation.found(Cause::NotAttested(why.clone())),
            Stage::Jwt(why) => explanation.found(Cause::JwtFailed(why.clone())),
            Stage::Stopping => explanation.found(Cause::Stopping),
            Stage::NotImpersonator(wanted) => explanation.found(CertificateCause::NotImpersonator {
                caller: refusal.asker.clone(),
                wanted: wanted.clone(),
            }),
            Stage::NotHeld(wanted) => explanation.found(CertificateCause::NotHeld(wanted.clone())),
            Stage::Certificate(why) => explanation.found(CertificateCause::Failed(why.clone())),
            Stage::NoIdentity(_) | Stage::NotSigned => {}
        }
        let wanted = match &refusal.stage {
            Stage::NoIdentity(wanted) => wanted.as_ref(),
            _ => None,
        };
        if let Some(selectors) = &refusal.selectors {
            show_selectors(selectors, &mut explanation);
            if let (true, Some(running)) = (explanation.findings.is_empty(), self.running.get()) {
                self.judge(running, selectors, wanted, &mut explanation).await;
                if explanation.findings.is_empty() {
                    explanation.all_well =
                        "The call would be answered now: what was missing has come since.".to_owned();
                }
            }
        }
        if let Some(running) = self.running.get() {
            self.show_agent(running, &mut explanation);
        }
        Ok(explanation)
    }

    async fn attest(
        &self,
        pid: i32,
        who: &Credentials,
        explanation: &mut Explanation,
    ) -> Option<SelectorSet> {
        let process = Process::of_pid(pid, who.uid, who.gid, &self.proc);
        let attested = match process {
            Ok(process) => self.attestors.attest(&process).await.map_err(|error| {
                let mut text = error.to_string();
                let mut source = std::error::Error::source(&error);
                while let Some(cause) = source {
                    text = format!("{text}: {cause}");
                    source = cause.source();
                }
                text
            }),
            Err(error) => Err(error.to_string()),
        };
        match attested {
            Ok(selectors) => {
                show_selectors(&selectors, explanation);
                Some(selectors)
            }
            Err(why) => {
                explanation.found(Cause::NotAttested(why));
                None
            }
        }
    }

    /// The agent isn't attested, or has only just been.
    fn not_running(&self, explanation: &mut Explanation) {
        let notes = self.journal.notes();
        match notes.attestation.or(notes.synchronisation) {
            Some(note) => {
                explanation.fact("Last attempt", note.at.to_string());
                explanation.found(Cause::Agent(note.trouble));
            }
            None => explanation.found(Cause::Starting),
        }
    }

    async fn judge(
        &self,
        running: &Running,
        selectors: &SelectorSet,
        wanted: Option<&SpiffeId>,
        explanation: &mut Explanation,
    ) {
        let survey: Survey = running.cache.survey();
        let notes = self.journal.notes();
        let offers: Vec<Offer> = self.attestors.offers();
        // While the link is down the answer is known.
        let answer: Option<Answer> = match notes.synchronisation {
            None => timeout(ASK_FOR, running.server.matching(selectors, &*self.clock))
                .await
                .ok()
                .and_then(Result::ok),
            Some(_) => None,
        };
        let facts = Facts {
            selectors,
            offers: &offers,
            wanted,
            survey: &survey,
            notes: &notes,
            answer: answer.as_ref(),
            now: self.clock.now(),
        };
        judge(&facts, explanation);
    }

    fn show_agent(&self, running: &Running, explanation: &mut Explanation) {
        explanation.fact("Agent", running.agent_id.to_string());
        explanation.fact("Entries held", running.cache.entry_count().to_string());
        let notes = self.journal.notes();
        let state = match (&notes.synchronisation, notes.in_step) {
            (Some(note), _) => format!("failing since {}: {}", note.at, note.trouble.text),
            (None, Some(at)) => format!("in step, last news at {at}"),
            (None, None) => "not yet in step".to_owned(),
        };
        explanation.fact("Synchronisation", state);
        if let Some(note) = notes.renewal {
            explanation.fact(
                "Renewal of the agent's SVID",
                format!("failing since {}: {}", note.at, note.trouble.text),
            );
        }
    }
}

fn show_selectors(selectors: &SelectorSet, explanation: &mut Explanation) {
    explanation.facts("Attested", selectors.iter().map(ToString::to_string));
}
