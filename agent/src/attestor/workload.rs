//! Tells which selectors a caller has: pinned process in, selectors out.
//!
//! Owns the workload attestors and the rule that nothing is said of a process that has ended: it is looked at before
//! `/proc` is read and again afterwards. Never remembers selectors, since a process may `exec` or change its user
//! between two calls. Invariant: every selector returned was true of the very process that was pinned.

mod executable;
mod names;
mod process;
mod procfs;
mod unix;

use std::sync::Arc;

use credence_identity::SelectorSet;
use credence_identity::diagnosis::Offer;
use credence_runtime::clock::Clock;
use credence_runtime::telemetry::{Measured, Telemetry};

pub use executable::ExecutableError;
pub use process::{Gone, Process};
pub use procfs::{Credentials, ProcFs};
pub use unix::{UnixError, UnixOptions};

use unix::UnixAttestor;

/// Why a caller could not be attested.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// The process has ended.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// All attestors failed.
    #[error("workload attestor \"unix\" failed")]
    Unix(#[from] UnixError),
}

/// The workload attestors that are switched on.
#[derive(Debug)]
pub struct WorkloadAttestors {
    unix: Option<UnixAttestor>,
    measured: Measured,
}

impl WorkloadAttestors {
    /// `unix` is absent where the configuration doesn't name that attestor; callers have no selectors then.
    pub fn new(unix: Option<UnixOptions>, proc: ProcFs, clock: Arc<dyn Clock>) -> Self {
        Self {
            unix: unix.map(|options| UnixAttestor::new(options, proc, clock)),
            measured: Measured::default(),
        }
    }

    /// Measures what it does from now on.
    pub fn measure_by(&self, telemetry: &Telemetry) {
        self.measured.by(telemetry);
    }

    /// Gives the attestor `unix`, if it is switched on, other options from the next process on.
    pub fn configure_unix(&self, options: UnixOptions) {
        if let Some(unix) = &self.unix {
            unix.configure(options);
        }
    }

    /// What the attestors could say of a process, in the order in which they are asked.
    pub fn offers(&self) -> Vec<Offer> {
        self.unix.iter().map(UnixAttestor::offer).collect()
    }

    /// The caller's selectors at this moment. Costs some ten microseconds, a read of the executable aside when it is
    /// seen for the first time. Cancel safe.
    ///
    /// # Errors
    /// [`AttestError`]; the details are for the log, never for the caller.
    pub async fn attest(&self, caller: &Process) -> Result<SelectorSet, AttestError> {
        let attesting = self.attest_unmeasured(caller);
        let attested = self
            .measured
            .watch("workload_api.workload_attestation", attesting)
            .await;
        if let Ok(selectors) = &attested
            && self.measured.is_on()
        {
            let found = u32::try_from(selectors.len()).unwrap_or(u32::MAX);
            self.measured
                .sample("workload_api.discovered_selectors", f64::from(found));
        }
        attested
    }

    async fn attest_unmeasured(&self, caller: &Process) -> Result<SelectorSet, AttestError> {
        caller.check()?;
        let selectors = match &self.unix {
            Some(unix) => {
                let call = self.measured.call("workload_api.workload_attestor");
                let call = call.with_label("attestor", "unix");
                let selectors = call.run(unix.attest(caller)).await;
                call.end(&selectors);
                selectors
            }
            None => Ok(SelectorSet::default()),
        };
        // What was read under the number of a process that ended may be another's: that comes before all else.
        caller.check()?;
        let selectors = selectors?;
        tracing::debug!(
            subsystem_name = "workload_attestor",
            pid = caller.pid(),
            selectors = selectors.len(),
            "PID attested to have selectors"
        );
        Ok(selectors)
    }
}

#[cfg(test)]
mod tests;
