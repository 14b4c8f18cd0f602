//! From the configuration to what measures.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::memory::Memory;
use super::otlp::{Otlp, OtlpError};
use super::packets::{Dialect, Packets};
use super::prometheus::{self, PrometheusError};
use super::recorder::Recorder;
use super::selection::{Select, sanitized};
use super::sinks::Sinks;
use super::subject::Subject;
use super::{Shared, Telemetry, process};
use crate::clock::Clock;
use crate::config::TelemetryConfig;
use crate::log::LogHandle;
use crate::supervisor::Supervisor;

/// Why nothing can be measured as configured.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The page for Prometheus.
    #[error(transparent)]
    Prometheus(#[from] PrometheusError),
    /// OpenTelemetry.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
}

impl Telemetry {
    /// Starts what the configuration asks for, in tasks of `supervisor`; with OpenTelemetry's logs on, `log` is sent too.
    /// Returns the real address of Prometheus' page as well.
    ///
    /// # Errors
    /// [`TelemetryError`]. Servers that can't be reached are none.
    pub async fn start(
        config: &TelemetryConfig,
        subject: Subject<'_>,
        clock: &Arc<dyn Clock>,
        log: &LogHandle,
        supervisor: &Supervisor,
    ) -> Result<(Self, Option<SocketAddr>), TelemetryError> {
        let idle = TelemetryConfig {
            prefix: config.prefix.clone(),
            selection: config.selection.clone(),
            ..TelemetryConfig::default()
        };
        if *config == idle {
            return Ok((Self::default(), None));
        }
        let host = hostname();
        let otlp = match &config.otlp {
            Some(otlp) => Some(Otlp::start(otlp, &subject, &host)?),
            None => None,
        };
        let mut sinks = Sinks::default();
        for (dialect, addresses) in [
            (Dialect::Statsd, &config.statsd),
            (Dialect::Dogstatsd, &config.dogstatsd),
        ] {
            for address in addresses {
                sinks
                    .packets
                    .push(Packets::spawn(dialect, address.clone(), supervisor));
            }
        }
        if config.in_memory {
            let memory = Arc::new(Memory::new(clock.clone()));
            memory.clone().dump_on_signal(supervisor);
            sinks.memory = Some(memory);
        }
        let mut common = Vec::new();
        if config.selection.trust_domain_label {
            let trust_domain = sanitized(subject.trust_domain.as_str());
            common.push(("trust_domain".to_owned(), trust_domain));
        }
        if config.selection.hostname_label {
            common.push(("host".to_owned(), host));
        }
        let recorder = Recorder::new(
            config.prefix.as_deref().unwrap_or(subject.service),
            Select::new(&config.selection),
            common,
            sinks,
            otlp.as_ref().and_then(Otlp::meter),
        );
        let shared = Arc::new(Shared {
            recorder,
            tracer: otlp.as_ref().and_then(Otlp::tracer),
            polled: Mutex::default(),
            identity: watch::Sender::new(None),
        });
        if let Some(otlp) = otlp {
            if let Some(sink) = otlp.log() {
                log.send_to(sink);
            }
            otlp.finish_with(supervisor);
        }
        let address = match &config.prometheus {
            Some(page) => prometheus::serve(page, subject.key_exchange, &shared, clock, supervisor).await?,
            None => None,
        };
        let started = [
            ("version", subject.version),
            ("trust_domain_id", subject.trust_domain.as_str()),
        ];
        shared.recorder.gauge("started", 1.0, &started);
        process::report(shared.clone(), supervisor);
        let telemetry = Self { shared: Some(shared) };
        Ok((telemetry, address))
    }
}

/// The host's name as it calls itself.
fn hostname() -> String {
    let name = nix::unistd::gethostname().ok();
    name.and_then(|name| name.into_string().ok()).unwrap_or_default()
}
