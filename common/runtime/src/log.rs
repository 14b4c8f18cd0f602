//! The log, in the form and words that SPIRE's operators and scripts know (logrus text or JSON).
//!
//! Owns the output and the level. It never lets hostile bytes through: whatever a field holds, one event is one line.
//! Fields are tracing fields under SPIRE's names (`spiffe_id`, `subsystem_name`, `error`), those of the enclosing
//! spans included; events of other crates are shown from warning on only.

mod format;
mod layer;
mod level;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use credence_identity::Timestamp;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;

use crate::supervisor::Supervisor;

pub use layer::LogLayer;
pub use level::{Level, UnknownLevel};

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `time="…" level=info msg="…" key=value`, as logrus.
    #[default]
    Text,
    /// One JSON object per line, keys sorted, as logrus.
    Json,
}

/// What the configuration says about the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The level at launch.
    pub level: Level,
    /// Text or JSON.
    pub format: Format,
    /// Appended to, made with mode 0640; standard output when absent.
    pub file: Option<PathBuf>,
    /// Adds `file=path:line` of the statement.
    pub source_location: bool,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log file can't be opened.
    #[error("unable to open log file {}", path.display())]
    Open {
        /// The file of the configuration.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another subscriber is there already.
    #[error("the log of this process is already set up")]
    AlreadySet,
}

/// Another place that gets what the log shows of this program's own events.
pub trait LogSink: Send + Sync {
    /// One event, with the fields of its spans. Must not log.
    fn emit(&self, level: Level, message: &str, fields: &BTreeMap<&'static str, Value>);
}

/// Changes the log while it runs; clones share it.
#[derive(Debug, Clone)]
pub struct LogHandle {
    shared: Arc<Shared>,
}

struct Shared {
    level: AtomicU8,
    launch: Level,
    format: Format,
    source_location: bool,
    path: Option<PathBuf>,
    output: Mutex<Box<dyn Write + Send>>,
    sink: OnceLock<Box<dyn LogSink>>,
}

/// Sets the log of this process up; to be called once, before anything is logged.
///
/// # Errors
/// [`LogError`].
pub fn init(options: &LogOptions) -> Result<LogHandle, LogError> {
    init_with(options, output(options)?)
}

/// As [`init`], to standard error, for a program whose standard output is another's.
///
/// # Errors
/// [`LogError::AlreadySet`].
pub fn init_stderr(options: &LogOptions) -> Result<LogHandle, LogError> {
    init_with(options, Box::new(io::stderr()))
}

fn init_with(options: &LogOptions, output: Box<dyn Write + Send>) -> Result<LogHandle, LogError> {
    let (layer, handle) = layer_writing_to(options, output);
    tracing::subscriber::set_global_default(Registry::default().with(layer))
        .map_err(|_| LogError::AlreadySet)?;
    Ok(handle)
}

/// Something else that is written in the form of a log, such as the audit log.
///
/// # Errors
/// [`LogError::Open`].
pub(crate) fn sink(options: &LogOptions) -> Result<LogHandle, LogError> {
    Ok(layer_writing_to(options, output(options)?).1)
}

fn output(options: &LogOptions) -> Result<Box<dyn Write + Send>, LogError> {
    Ok(match &options.file {
        Some(path) => Box::new(open(path)?),
        None => Box::new(io::stdout()),
    })
}

/// The layer alone, writing to `output`, for tests and for programs that keep their own subscriber.
pub fn layer_writing_to(options: &LogOptions, output: Box<dyn Write + Send>) -> (LogLayer, LogHandle) {
    let shared = Arc::new(Shared {
        level: AtomicU8::new(options.level as u8),
        launch: options.level,
        format: options.format,
        source_location: options.source_location,
        path: options.file.clone(),
        output: Mutex::new(output),
        sink: OnceLock::new(),
    });
    (LogLayer::new(shared.clone()), LogHandle { shared })
}

impl LogHandle {
    /// The level now.
    pub fn level(&self) -> Level {
        self.shared.level()
    }

    /// The level of the configuration.
    pub fn launch_level(&self) -> Level {
        self.shared.launch
    }

    /// Shows events from this level on, at once.
    pub fn set_level(&self, level: Level) {
        self.shared.level.store(level as u8, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    /// Back to the level of the configuration.
    pub fn reset(&self) {
        self.set_level(self.shared.launch);
    }

    /// Sends the events there too, from now on. The first sink stays.
    pub fn send_to(&self, sink: Box<dyn LogSink>) {
        drop(self.shared.sink.set(sink));
    }

    /// Writes a line at level info, if that is shown.
    ///
    /// # Errors
    /// What the output says.
    pub(crate) fn record(
        &self,
        time: Timestamp,
        message: &str,
        fields: &BTreeMap<String, Value>,
    ) -> io::Result<()> {
        if !self.level().allows(tracing::Level::INFO) {
            return Ok(());
        }
        let line = format::Line {
            time,
            level: Level::Info,
            message,
            file: None,
            fields,
        };
        let line = match self.shared.format {
            Format::Text => format::text(&line),
            Format::Json => format::json(&line),
        };
        self.shared.try_write_line(&line)
    }

    /// Opens the log file anew, for rotation by others; nothing to do when the log is standard output.
    ///
    /// # Errors
    /// [`LogError::Open`]: the old file is then still written to.
    pub fn reopen(&self) -> Result<(), LogError> {
        let Some(path) = &self.shared.path else {
            return Ok(());
        };
        let file = open(path)?;
        *self.shared.output.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(file);
        Ok(())
    }

    /// Reopens the log file at each SIGUSR2 until shutdown, as SPIRE does.
    pub fn reopen_on_signal(&self, supervisor: &Supervisor) {
        let handle = self.clone();
        supervisor.spawn("log-reopen", async move {
            let mut signals = signal(SignalKind::user_defined2())?;
            while signals.recv().await.is_some() {
                match handle.reopen() {
                    Ok(()) => tracing::info!("Reopened log file"),
                    Err(error) => {
                        tracing::error!(
                            error = &error as &(dyn std::error::Error + 'static),
                            "Failed to reopen log file"
                        );
                    }
                }
            }
            Ok::<(), io::Error>(())
        });
    }
}

impl Shared {
    fn level(&self) -> Level {
        Level::from_number(self.level.load(Ordering::Relaxed))
    }

    fn write_line(&self, line: &str) {
        // A log that can't be written (full disk, closed pipe) must not stop the service.
        drop(self.try_write_line(line));
    }

    fn try_write_line(&self, line: &str) -> io::Result<()> {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(line.as_bytes())?;
        output.flush()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("level", &self.level())
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn open(path: &Path) -> Result<File, LogError> {
    let opened = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path);
    opened.map_err(|source| LogError::Open {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
