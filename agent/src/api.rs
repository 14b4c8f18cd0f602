//! The services on the agent's sockets.
//!
//! Owns all protobuf of the agent's own APIs. Invariant: what answers here is attested afresh by [`crate::attestor`]
//! and answered from [`crate::cache`]; nothing is kept between two calls but open streams.

pub mod health;
pub mod peer;
mod reflection;
pub mod workload;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use credence_proto::grpc::health::v1::health_server::HealthServer;
use credence_runtime::clock::Clock;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::Server;

use crate::attestor::workload::{ProcFs, Process, WorkloadAttestors};
use crate::cache::Cache;
use crate::explain::Refusals;

use health::AgentHealth;
use workload::{WorkloadApi, WorkloadOptions};

/// Streams that one connection may have open: Envoy has one for each secret.
const MAX_STREAMS: u32 = 1024;

/// What connections get at shutdown to end well. Who waits for the agent's exit waits for this too.
const GOODBYE: Duration = Duration::from_secs(2);

/// Why the public socket is served no more.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// This process can't be pinned, so no caller can.
    #[error("could not open a descriptor for this process")]
    Process(#[source] io::Error),
    /// The descriptors of the reflection service are damaged.
    #[error("could not build the reflection service")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// What the transport says.
    #[error("could not serve the agent's socket")]
    Transport(#[from] tonic::transport::Error),
}

/// What the public socket offers.
#[derive(Debug, Clone)]
pub struct PublicApi {
    /// Entries and SVIDs.
    pub cache: Cache,
    /// Who tells a caller's selectors.
    pub attestors: Arc<WorkloadAttestors>,
    /// Where `/proc` is.
    pub proc: ProcFs,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Absent with `disable_workload_api`: its methods are Unimplemented then.
    pub workload: Option<WorkloadOptions>,
    /// The calls that were refused of late.
    pub refusals: Refusals,
}

/// Serves workloads on `listener` until `shutdown`: open streams end then with Unavailable, and connections close.
///
/// # Errors
/// [`ServeError`]; a connection that fails is no error.
pub async fn serve_public(
    listener: UnixListener,
    api: PublicApi,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    peer::raise_descriptor_limit();
    let routes = routes(&api, &shutdown)?;
    let incoming = peer::incoming(listener, api.proc);
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .add_routes(routes);
    let serving = server.serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
    tokio::select! {
        served = serving => served?,
        () = patience(&shutdown) => {}
    }
    Ok(())
}

/// Over when shutdown has lasted long enough: a client that is stopped never acknowledges the end of its connection.
async fn patience(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(GOODBYE).await;
}

fn routes(api: &PublicApi, shutdown: &CancellationToken) -> Result<Routes, ServeError> {
    let mut routes = RoutesBuilder::default();
    let mut services = vec!["grpc.health.v1.Health"];
    let mut probe = None;
    if let Some(options) = &api.workload {
        let PublicApi {
            cache,
            attestors,
            clock,
            refusals,
            ..
        } = api.clone();
        let own = Process::own(&api.proc).map_err(ServeError::Process)?;
        probe = Some((attestors.clone(), own));
        let workload = WorkloadApi::new(
            cache,
            attestors,
            clock,
            options.clone(),
            refusals,
            shutdown.clone(),
        );
        routes.add_service(workload.into_service());
        services.push("SpiffeWorkloadAPI");
    }
    routes.add_service(HealthServer::new(AgentHealth::new(probe, shutdown.clone())));
    reflection::add_to(&mut routes, &services)?;
    Ok(routes.routes())
}
