//! The audit log: who asked for what, and what became of it, under SPIRE's names.
//!
//! Owns the way of an event from a call to its sink. What an event says is its maker's business, who never puts a secret
//! into it. Invariants: a call never waits for the sink; events come out in the order in which they were recorded; and
//! none is lost unsaid: where the sink fails, or more comes than it takes, the number of those that were lost is an event
//! itself as soon as one can be written again, and the log says so at once.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use credence_identity::Timestamp;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::clock::Clock;
use crate::log::{Format, LogError, LogHandle, LogOptions, sink};
use crate::supervisor::Supervisor;

/// Events that wait for the sink; some seconds' worth under full load.
const WAITING: usize = 16 * 1024;
/// Events that are written in one go.
const BATCH: usize = 256;

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AuditSink {
    /// Into the program's log, as SPIRE does: at level info, in the log's form.
    #[default]
    Log,
    /// To standard output, one JSON object a line.
    Stdout,
    /// Appended to a file of mode 0640, one JSON object a line; reopened at SIGUSR2.
    File(PathBuf),
}

/// The fields of an event, by SPIRE's names.
pub type AuditFields = BTreeMap<String, Value>;

/// One thing that was asked for or done.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// When.
    pub time: Timestamp,
    /// What it is about, such as SPIRE's "API accessed".
    pub message: &'static str,
    /// The rest; `type` is added.
    pub fields: AuditFields,
}

/// Takes events; clones share the sink.
#[derive(Debug, Clone)]
pub struct AuditLog {
    events: mpsc::Sender<AuditEvent>,
    lost: Arc<AtomicU64>,
}

impl AuditLog {
    /// Starts the writing to a sink. Events that wait at shutdown are written, once nobody is left who could record one.
    ///
    /// # Errors
    /// [`LogError::Open`].
    pub fn start(
        to: &AuditSink,
        log: &LogHandle,
        clock: Arc<dyn Clock>,
        supervisor: &Supervisor,
    ) -> Result<Self, LogError> {
        let own = |file: Option<PathBuf>| {
            sink(&LogOptions {
                format: Format::Json,
                file,
                ..LogOptions::default()
            })
        };
        let handle = match to {
            AuditSink::Log => log.clone(),
            AuditSink::Stdout => own(None)?,
            AuditSink::File(path) => {
                let handle = own(Some(path.clone()))?;
                reopen_on_signal(handle.clone(), supervisor);
                handle
            }
        };
        Ok(Self::writing_to(handle, clock, supervisor))
    }

    /// As [`AuditLog::start`], to a sink that is open.
    pub fn writing_to(sink: LogHandle, clock: Arc<dyn Clock>, supervisor: &Supervisor) -> Self {
        let (sender, events) = mpsc::channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            sink,
            clock,
            lost: lost.clone(),
        };
        supervisor.spawn_graceful("audit-log", writer.run(events));
        Self { events: sender, lost }
    }

    /// Records an event. It never waits: an event too many is counted as lost.
    pub fn record(&self, event: AuditEvent) {
        if self.events.try_send(event).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Writer {
    sink: LogHandle,
    clock: Arc<dyn Clock>,
    lost: Arc<AtomicU64>,
}

impl Writer {
    async fn run(self, mut events: mpsc::Receiver<AuditEvent>) -> Result<(), Infallible> {
        let writer = Arc::new(self);
        let mut failing = false;
        let mut batch = Vec::with_capacity(BATCH);
        while events.recv_many(&mut batch, BATCH).await > 0 {
            let (blocking, taken) = (Arc::clone(&writer), std::mem::take(&mut batch));
            // A full disk or a reader that doesn't read may block.
            let written = spawn_blocking(move || blocking.write(taken)).await;
            let written = written.unwrap_or_else(|panic| Err(io::Error::other(panic)));
            match written {
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(%error, "Unable to write the audit log; events are being lost");
                }
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("Audit log is being written again");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes what it can, and counts the rest.
    fn write(&self, events: Vec<AuditEvent>) -> io::Result<()> {
        let mut outcome = self.confess();
        for event in events {
            if let Err(error) = self.write_one(event) {
                self.lost.fetch_add(1, Ordering::Relaxed);
                outcome = Err(error);
            }
        }
        outcome
    }

    /// Says how many events were lost before.
    fn confess(&self) -> io::Result<()> {
        let count = self.lost.load(Ordering::Relaxed);
        if count == 0 {
            return Ok(());
        }
        self.write_one(AuditEvent {
            time: self.clock.now(),
            message: "Audit events lost",
            fields: AuditFields::from([("count".to_owned(), count.into())]),
        })?;
        self.lost.fetch_sub(count, Ordering::Relaxed);
        Ok(())
    }

    fn write_one(&self, mut event: AuditEvent) -> io::Result<()> {
        event.fields.insert("type".to_owned(), "audit".into());
        self.sink.record(event.time, event.message, &event.fields)
    }
}

fn reopen_on_signal(handle: LogHandle, supervisor: &Supervisor) {
    supervisor.spawn("audit-reopen", async move {
        let mut signals = signal(SignalKind::user_defined2())?;
        while signals.recv().await.is_some() {
            match handle.reopen() {
                Ok(()) => tracing::info!("Reopened audit log file"),
                Err(error) => tracing::error!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "Failed to reopen audit log file"
                ),
            }
        }
        Ok::<(), io::Error>(())
    });
}

#[cfg(test)]
mod tests;
