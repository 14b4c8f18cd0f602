//! The HTTP health endpoint (`health_checks`), for load balancers and orchestrators that speak no gRPC.
//!
//! Owns two paths and nothing else of HTTP: a request line is read, an answer written, the connection closed.
//! Invariant: no peer holds a task for longer than five seconds, and at most [`MOST`] do at a time.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use credence_runtime::supervisor::Supervisor;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::StartError;
use crate::api::{Context, is_serving};

/// Peers at a time.
const MOST: usize = 64;
/// How long one may take.
const WITHIN: Duration = Duration::from_secs(5);
/// Longest request head that is read.
const HEAD: usize = 8 * 1024;

/// What the `health_checks` block configures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthListener {
    /// Where to listen.
    pub address: SocketAddr,
    /// Answers whether the process works (`live_path`).
    pub live_path: String,
    /// Answers whether it can serve (`ready_path`).
    pub ready_path: String,
}

impl HealthListener {
    /// Listens, and says where.
    pub(super) async fn start(
        self,
        context: Arc<Context>,
        supervisor: &Supervisor,
    ) -> Result<SocketAddr, StartError> {
        let failed = |source| StartError::Bind {
            address: self.address,
            source,
        };
        let listener = TcpListener::bind(self.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(%address, subsystem_name = "health", "Serving health checks");
        let (tasks, places) = (supervisor.clone(), Arc::new(Semaphore::new(MOST)));
        let health = Arc::new(self);
        supervisor.spawn("health-checks", async move {
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    break;
                };
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let (health, context) = (Arc::clone(&health), Arc::clone(&context));
                tasks.spawn("health-check", async move {
                    // Whoever asks and goes away needs no answer.
                    drop(timeout(WITHIN, health.answer(stream, &context)).await);
                    drop(place);
                    Ok::<(), Infallible>(())
                });
            }
            Ok::<(), Infallible>(())
        });
        Ok(address)
    }

    async fn answer(&self, mut stream: TcpStream, context: &Context) -> io::Result<()> {
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
        let answer = self.report(path, context);
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }

    /// The answer to a path, as SPIRE words it: a map of subsystems, 200 or 500.
    fn report(&self, path: &str, context: &Context) -> String {
        let ready = path == self.ready_path;
        if !ready && path != self.live_path {
            return response("404 Not Found", "{}");
        }
        let signing = context
            .authority
            .signing_health()
            .map_err(|error| error.to_string());
        let rotation = context
            .authority
            .rotation_health()
            .map_err(|error| error.to_string());
        let store = match context.registry.health() {
            crate::registry::Health::Ready => Ok(()),
            crate::registry::Health::Degraded(why) => Err(why),
        };
        // A server that can't write goes on serving: restarting it would help nobody.
        let live = signing.is_ok();
        let well = if ready {
            live && rotation.is_ok() && store.is_ok() && is_serving(context)
        } else {
            live
        };
        let detail =
            |state: Result<(), String>| state.map_or_else(|error| json!({ "error": error }), |()| json!({}));
        let body = json!({
            "server.ca": detail(signing),
            "server.ca.rotator": detail(rotation),
            "catalog.datastore": detail(store),
            "server": if is_serving(context) { json!({}) } else { json!({ "error": "not serving" }) },
        });
        response(
            if well {
                "200 OK"
            } else {
                "500 Internal Server Error"
            },
            &body.to_string(),
        )
    }
}

fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
