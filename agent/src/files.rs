//! Files for software that knows neither the Workload API nor SDS: certificates, keys, bundles and tokens, kept current.
//!
//! One writer serves two sources: a `files` block of the agent's configuration takes what the agent holds, and the
//! command `files` is a client of the Workload API. Owns how files are made, replaced and announced. Never decides who
//! may have an identity. Invariants: no link in or on the way to a target folder is followed; what is half written is
//! never seen; private keys are erased from memory and appear in no log.

mod batch;
mod folder;
mod held;
mod hooks;
mod job;
mod keeper;
mod material;
mod owner;
mod password;
mod render;
mod source;
mod status;
mod target;
mod writer;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use credence_runtime::audit::AuditLog;
use credence_runtime::clock::Clock;
use credence_runtime::config::Section;
use credence_runtime::supervisor::Supervisor;

use crate::cache::Cache;
use held::Held;
pub use job::Job;
pub(crate) use job::{Choice, Helper, HookSettings, read_helper};
pub(crate) use keeper::{Ended, Keeper, Mode};
pub(crate) use material::Material;
pub(crate) use source::{Event, Source, SourceError, Token, Wants};
pub use status::Status;

/// Reads the `files` blocks of an agent's configuration.
pub(crate) fn read_blocks(agent: &Section<'_>) -> Vec<Job> {
    let mut jobs: BTreeMap<String, Job> = BTreeMap::new();
    for (label, block) in agent.labelled("files") {
        let Some(job) = job::read_block(&label.value, block) else {
            continue;
        };
        if jobs.insert(label.value.clone(), job).is_some() {
            let message = format!("there is another files block {:?}", label.value);
            agent.report().fault(label.place, message);
        }
    }
    jobs.into_values().collect()
}

/// Keeps the files of these blocks from now on.
pub(crate) fn keep(
    jobs: Vec<(Status, Job)>,
    (cache, audit): (&Cache, Option<&AuditLog>),
    clock: &Arc<dyn Clock>,
    supervisor: &Supervisor,
) {
    for (status, job) in jobs {
        let Some(spiffe_id) = job.choice.spiffe_id.clone() else {
            continue;
        };
        let source = Held {
            cache: cache.clone(),
            spiffe_id,
            choice: job.choice.clone(),
            name: job.name.clone(),
            audit: audit.cloned(),
            clock: clock.clone(),
        };
        let name = job.name.clone();
        tracing::info!(files = name, spiffe_id = %source.spiffe_id, "Keeping files");
        let keeper = Keeper::new(job, source, clock.clone(), status, false);
        supervisor.spawn("files", async move {
            let ended = keeper.run(Mode::Daemon).await;
            if let Err(error) = ended {
                tracing::error!(
                    error = &error as &dyn Error,
                    files = name,
                    "Files are no longer kept"
                );
            }
            Ok::<(), std::convert::Infallible>(())
        });
    }
}
