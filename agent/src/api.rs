//! The services on the agent's sockets.
//!
//! Owns all protobuf of the agent's own APIs. Invariant: what answers here is attested afresh by [`crate::attestor`]
//! and answered from [`crate::cache`]; nothing is kept between two calls but open streams.

pub mod admin;
mod audit;
mod call;
mod explain;
mod follow;
pub mod health;
pub mod istio;
#[cfg(test)]
mod lab;
pub mod limits;
pub mod peer;
mod reflection;
#[cfg(test)]
mod robust;
pub mod sds;
mod tokens;
mod view;
pub mod workload;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use credence_proto::grpc::health::v1::health_server::HealthServer;
use credence_runtime::audit::AuditLog;
use credence_runtime::clock::Clock;
use credence_runtime::telemetry::{CountCalls, RpcCalls};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::Server;

use crate::attestor::workload::{ProcFs, Process, WorkloadAttestors};
use crate::cache::Cache;
use crate::explain::Refusals;

pub use explain::serve_explain;
use health::AgentHealth;
use sds::{EnvoySecrets, SdsOptions};
use workload::{WorkloadApi, WorkloadOptions};

/// Streams that one connection may have open: Envoy has one for each secret.
const MAX_STREAMS: u32 = 1024;

const SDS: &str = "envoy.service.secret.v3.SecretDiscoveryService";

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

/// What all APIs answer from.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Entries and SVIDs.
    pub cache: Cache,
    /// Who tells a process's selectors.
    pub attestors: Arc<WorkloadAttestors>,
    /// Where `/proc` is.
    pub proc: ProcFs,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// The calls that were refused of late.
    pub refusals: Refusals,
    /// The audit log, if there is one.
    pub audit: Option<AuditLog>,
    /// When it comes, open streams end with Unavailable, and connections close.
    pub shutdown: CancellationToken,
}

/// What is served on the public socket, besides health and reflection. The methods of an API that isn't are
/// Unimplemented.
#[derive(Debug, Clone)]
pub struct PublicApis {
    /// The Workload API; none with `disable_workload_api`.
    pub workload: Option<WorkloadOptions>,
    /// Envoy's secrets; none with `disable_sds_api`.
    pub sds: Option<SdsOptions>,
}

impl PublicApis {
    /// What the log calls them.
    pub fn name(&self) -> &'static str {
        match (&self.workload, &self.sds) {
            (Some(_), Some(_)) => "Workload and SDS APIs",
            (Some(_), None) => "Workload API",
            (None, Some(_)) => "SDS API",
            (None, None) => "no APIs",
        }
    }
}

/// Serves workloads on `listener` until shutdown.
///
/// # Errors
/// [`ServeError`]; a connection that fails is no error.
pub async fn serve_public(
    listener: UnixListener,
    ground: Arc<Ground>,
    apis: PublicApis,
) -> Result<(), ServeError> {
    credence_runtime::descriptors::raise_limit();
    let routes = routes(&ground, apis)?;
    serve(listener, &ground, routes).await
}

async fn serve(listener: UnixListener, ground: &Ground, routes: Routes) -> Result<(), ServeError> {
    let calls = RpcCalls::new(ground.cache.telemetry(), counted_methods());
    let incoming = peer::incoming(listener, ground.proc.clone());
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .layer(CountCalls(calls))
        .add_routes(routes);
    let shutdown = ground.shutdown.clone();
    let serving = server.serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
    tokio::select! {
        served = serving => served?,
        () = patience(&shutdown) => {}
    }
    Ok(())
}

/// The methods that are counted: not reflection, as with SPIRE.
fn counted_methods() -> impl Iterator<Item = (&'static str, &'static str)> {
    const COUNTED: [(&str, &[&str]); 6] = [
        (
            "SpiffeWorkloadAPI",
            &[
                "FetchX509SVID",
                "FetchX509Bundles",
                "FetchJWTSVID",
                "FetchJWTBundles",
                "ValidateJWTSVID",
                "FetchWITSVID",
                "FetchWITBundles",
            ],
        ),
        (SDS, &["StreamSecrets", "DeltaSecrets", "FetchSecrets"]),
        (
            "spire.api.agent.delegatedidentity.v1.DelegatedIdentity",
            &[
                "SubscribeToX509SVIDs",
                "SubscribeToX509Bundles",
                "FetchJWTSVIDs",
                "SubscribeToJWTBundles",
            ],
        ),
        ("grpc.health.v1.Health", &["Check"]),
        ("spire.agent.debug.v1.Debug", &["GetInfo"]),
        (
            "spire.api.agent.logger.v1.Logger",
            &["GetLogger", "SetLogLevel", "ResetLogLevel"],
        ),
    ];
    COUNTED
        .into_iter()
        .flat_map(|(service, methods)| methods.iter().map(move |method| (service, *method)))
}

/// Over when shutdown has lasted long enough: a client that is stopped never acknowledges the end of its connection.
async fn patience(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(GOODBYE).await;
}

fn routes(ground: &Arc<Ground>, apis: PublicApis) -> Result<Routes, ServeError> {
    let mut routes = RoutesBuilder::default();
    let mut services = vec!["grpc.health.v1.Health"];
    let mut probe = None;
    if let Some(options) = apis.workload {
        let own = Process::own(&ground.proc).map_err(ServeError::Process)?;
        probe = Some((ground.attestors.clone(), own));
        routes.add_service(WorkloadApi::new(ground.clone(), options).into_service());
        services.push("SpiffeWorkloadAPI");
    }
    if let Some(options) = apis.sds {
        routes.add_service(EnvoySecrets::new(ground.clone(), options).into_service());
        services.push(SDS);
    }
    routes.add_service(HealthServer::new(AgentHealth::new(
        probe,
        ground.shutdown.clone(),
    )));
    reflection::add_to(&mut routes, &services)?;
    Ok(routes.routes())
}
