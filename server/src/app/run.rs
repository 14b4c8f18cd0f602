//! From a configuration to a server that runs until it is told to stop.

use std::io;
use std::path::Path;
use std::sync::Arc;

use credence_runtime::VERSION;
use credence_runtime::clock::{Clock, SystemClock};
use credence_runtime::fs::{FsError, ensure_dir, refuse_foreign_tmp, restrict_umask};
use credence_runtime::log::{self, LogError, LogHandle};
use credence_runtime::supervisor::{Supervisor, TaskFailure};

use super::{Bound, Plan, StartError, start};
use crate::config::{KeyManagerConfig, ServerConfig, Warning};
use crate::import::{self, ImportError};
use crate::keymanager::{DiskKeyManager, KeyManager, KeyManagerError, MemoryKeyManager};

/// The mode of folders that hold what only the server reads.
const DATA_MODE: u32 = 0o750;

/// Why a server ended, other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log can't be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A folder can't be made, or is one that another user controls.
    #[error(transparent)]
    Folder(#[from] FsError),
    /// The signing keys can't be read.
    #[error("unable to open the key manager")]
    Keys(#[from] KeyManagerError),
    /// SPIRE's datastore was not taken over.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// Starting failed.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A part failed while running.
    #[error(transparent)]
    Task(#[from] TaskFailure),
    /// Signals can't be received.
    #[error("unable to listen for signals")]
    Signals(#[source] io::Error),
}

/// Runs a server until SIGINT or SIGTERM; SIGUSR2 opens the log file anew, as SPIRE does.
///
/// # Errors
/// [`RunError`]; the log has it too, if there was one by then.
pub async fn run(config: ServerConfig, warnings: &[Warning]) -> Result<(), RunError> {
    restrict_umask();
    let log = log::init(&config.log)?;
    for warning in warnings {
        warning.log();
    }
    tracing::info!(
        admin_ids = ?config.admin_ids,
        data_dir = %config.data_dir.display(),
        launch_log_level = config.log.level.as_str(),
        version = VERSION,
        "Configured"
    );
    let supervisor = Supervisor::new();
    supervisor.stop_on_signals().map_err(RunError::Signals)?;
    log.reopen_on_signal(&supervisor);
    let outcome = begin(config, log, &supervisor).await;
    if outcome.is_err() {
        supervisor.shutdown();
    }
    let ended = supervisor.wait().await;
    outcome?;
    tracing::info!("Server stopped gracefully");
    Ok(ended?)
}

/// Finds the files to work with, and starts on them.
async fn begin(mut config: ServerConfig, log: LogHandle, supervisor: &Supervisor) -> Result<Bound, RunError> {
    let clock = Arc::new(SystemClock);
    if let Some(folder) = config.data_store.path.parent() {
        make_folder(folder)?;
    }
    let keys = match &mut config.key_manager {
        KeyManagerConfig::Memory => None,
        KeyManagerConfig::Disk { keys_path } => Some(keys_path),
    };
    import::settle(&mut config.data_store, keys, &config.ca.trust_domain, clock.now()).await?;
    Ok(start(Plan::of(config)?, clock, log, supervisor).await?)
}

impl Plan {
    /// Opens what the configuration names. Blocks on the file system for a moment.
    ///
    /// # Errors
    /// [`RunError::Folder`], [`RunError::Keys`].
    pub fn of(config: ServerConfig) -> Result<Self, RunError> {
        make_folder(&config.data_dir)?;
        if let Some(folder) = config.data_store.path.parent() {
            make_folder(folder)?;
        }
        let keys: Arc<dyn KeyManager> = match &config.key_manager {
            KeyManagerConfig::Memory => Arc::new(MemoryKeyManager::default()),
            KeyManagerConfig::Disk { keys_path } => {
                if let Some(folder) = keys_path.parent() {
                    make_folder(folder)?;
                }
                Arc::new(DiskKeyManager::open(keys_path)?)
            }
        };
        Ok(Self {
            bind: config.bind,
            socket: config.socket_path,
            database: config.data_store,
            keys,
            authorities: config.ca,
            admin_ids: config.admin_ids.into_iter().collect(),
            limit_attestation: config.rate_limits.attestation,
            limit_signing: config.rate_limits.signing,
            node_pruning: config.registry.node_pruning,
            x509pop: config.x509pop,
            health: config.health_checks,
            telemetry: config.telemetry,
            operations: config.operations,
        })
    }
}

fn make_folder(folder: &Path) -> Result<(), FsError> {
    if folder.as_os_str().is_empty() {
        return Ok(());
    }
    refuse_foreign_tmp(folder)?;
    ensure_dir(folder, DATA_MODE)
}
