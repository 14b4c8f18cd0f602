//! The HTTP health endpoint (`health_checks`), for load balancers and orchestrators that speak no gRPC.
//!
//! Owns two paths and nothing else of HTTP: a request line is read, an answer written, the connection closed. What is well
//! is the caller's to say. Invariant: no peer holds a task for longer than five seconds, and at most 64 do at a time.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::config::HealthChecks;
use crate::supervisor::Supervisor;

/// Peers at a time.
const MOST: usize = 64;
/// How long one may take.
const WITHIN: Duration = Duration::from_secs(5);
/// Longest request head that is read.
const HEAD: usize = 8 * 1024;
/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the process is at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// A restart wouldn't help.
    pub live: bool,
    /// It can serve.
    pub ready: bool,
    /// Each part, and what is wrong with it if something is.
    pub subsystems: BTreeMap<&'static str, Option<String>>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Whether a restart would help.
    Live,
    /// Whether it can serve.
    Ready,
}

/// An answer to a probe.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Code and reason of HTTP.
    pub status: &'static str,
    /// What is told about it.
    pub body: Value,
}

/// Listens as configured, answers by what `find` says at each request, and returns the real address.
///
/// # Errors
/// If the name means nothing or the port can't be had.
pub async fn serve_health(
    checks: HealthChecks,
    find: impl Fn() -> Findings + Send + Sync + 'static,
    supervisor: &Supervisor,
) -> io::Result<SocketAddr> {
    serve_probes(checks, move |probe| report(&find(), probe), supervisor).await
}

/// As [`serve_health`], with answers of another form.
///
/// # Errors
/// As there.
pub async fn serve_probes(
    checks: HealthChecks,
    find: impl Fn(Probe) -> Answer + Send + Sync + 'static,
    supervisor: &Supervisor,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((checks.bind_address.as_str(), checks.bind_port)).await?;
    let address = listener.local_addr()?;
    tracing::info!(%address, subsystem_name = "health", "Serving health checks");
    let (tasks, places) = (supervisor.clone(), Arc::new(Semaphore::new(MOST)));
    let served = Arc::new((checks, find));
    supervisor.spawn("health-checks", async move {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let served = Arc::clone(&served);
            tasks.spawn("health-check", async move {
                let (checks, find) = &*served;
                // Whoever asks and goes away needs no answer.
                drop(timeout(WITHIN, answer(checks, find, stream)).await);
                drop(place);
                Ok::<(), Infallible>(())
            });
        }
        Ok::<(), Infallible>(())
    });
    Ok(address)
}

async fn answer(
    checks: &HealthChecks,
    find: &(impl Fn(Probe) -> Answer + Sync),
    mut stream: TcpStream,
) -> io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let path = match (words.next(), words.next()) {
        (Some("GET" | "HEAD"), Some(target)) => target.split('?').next().unwrap_or_default(),
        _ => "",
    };
    let found = match path {
        path if path == checks.ready_path => find(Probe::Ready),
        path if path == checks.live_path => find(Probe::Live),
        _ => Answer {
            status: "404 Not Found",
            body: json!({}),
        },
    };
    let response = response(&found);
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// As SPIRE words it: a map of subsystems, 200 or 500.
fn report(found: &Findings, probe: Probe) -> Answer {
    let detail = |error: &Option<String>| {
        error
            .as_ref()
            .map_or_else(|| json!({}), |error| json!({ "error": error }))
    };
    let details = found
        .subsystems
        .iter()
        .map(|(name, error)| ((*name).to_owned(), detail(error)));
    let well = match probe {
        Probe::Live => found.live,
        Probe::Ready => found.ready,
    };
    let status = if well {
        "200 OK"
    } else {
        "500 Internal Server Error"
    };
    Answer {
        status,
        body: Value::Object(Map::from_iter(details)),
    }
}

fn response(Answer { status, body }: &Answer) -> String {
    let body = body.to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn serve(found: Findings, supervisor: &Supervisor) -> SocketAddr {
        let checks = HealthChecks {
            bind_address: "localhost".to_owned(),
            bind_port: 0,
            live_path: "/live".to_owned(),
            ready_path: "/ready".to_owned(),
        };
        serve_health(checks, move || found.clone(), supervisor)
            .await
            .unwrap()
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_get_what_was_found() {
        let supervisor = Supervisor::new();
        let subsystems = [
            ("server", None),
            ("catalog.datastore", Some("disk full".to_owned())),
        ]
        .into();
        let address = serve(
            Findings {
                live: true,
                ready: false,
                subsystems,
            },
            &supervisor,
        )
        .await;
        let live = ask(address, "GET /live HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(live.starts_with("HTTP/1.1 200 OK\r\n"), "{live}");
        let ready = ask(address, "GET /ready?verbose HTTP/1.1\r\n\r\n").await;
        assert!(ready.starts_with("HTTP/1.1 500 "), "{ready}");
        assert!(
            ready.ends_with(r#"{"catalog.datastore":{"error":"disk full"},"server":{}}"#),
            "{ready}"
        );
        for request in [
            "GET /other HTTP/1.1\r\n\r\n",
            "POST /live HTTP/1.1\r\n\r\n",
            "\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            let answer = ask(address, request).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{request}: {answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_let_go() {
        let supervisor = Supervisor::new();
        let found = Findings {
            live: true,
            ready: true,
            subsystems: BTreeMap::new(),
        };
        let address = serve(found, &supervisor).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
