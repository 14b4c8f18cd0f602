//! The admin socket: for operators and trusted delegates of this node, not for workloads.
//!
//! Owns what is served there. Who may open the socket is the file system's to say, and who may have other processes'
//! identities the delegates' own attestation. Never serves health or reflection, as SPIRE doesn't.

mod debug;
mod delegated;
mod logger;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use credence_crypto::x509::X509SvidKey;
use credence_identity::{SpiffeId, Timestamp};
use credence_proto::spire::agent::debug::v1::debug_server::DebugServer;
use credence_proto::spire::api::agent::delegatedidentity::v1::delegated_identity_server::DelegatedIdentityServer;
use credence_proto::spire::api::agent::logger::v1::logger_server::LoggerServer;
use credence_runtime::log::LogHandle;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::service::RoutesBuilder;

use super::explain::explain_service;
use super::{Ground, ServeError, serve};
use debug::DebugService;
use delegated::DelegatedIdentityService;
use logger::LoggerService;

use crate::explain::Node;

/// What the operator says of the admin socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminPlan {
    /// Its path.
    pub socket: PathBuf,
    /// Whoever has one of these identities may ask for those of others.
    pub delegates: BTreeSet<SpiffeId>,
}

/// What the admin socket shows besides the cache.
#[derive(Debug)]
pub struct AdminApi {
    /// `authorized_delegates`: whoever has one of these identities may ask for those of others.
    pub delegates: BTreeSet<SpiffeId>,
    /// The log whose level can be changed.
    pub log: LogHandle,
    /// The agent's own SVID.
    pub svid: watch::Receiver<Arc<X509SvidKey>>,
    /// When the agent last knew itself in step with the server.
    pub last_sync: watch::Receiver<Option<Timestamp>>,
    /// When the agent started.
    pub started: Instant,
    /// What operators may ask why.
    pub explain: Node,
}

/// Serves operators and delegates on `listener` until shutdown.
///
/// # Errors
/// [`ServeError`]; a connection that fails is no error.
pub async fn serve_admin(
    listener: UnixListener,
    ground: Arc<Ground>,
    api: AdminApi,
) -> Result<(), ServeError> {
    let delegated = DelegatedIdentityService::new(ground.clone(), api.delegates);
    let debug = DebugService {
        ground: ground.clone(),
        svid: api.svid,
        last_sync: api.last_sync,
        started: api.started,
    };
    let mut routes = RoutesBuilder::default();
    routes.add_service(DelegatedIdentityServer::new(delegated));
    routes.add_service(DebugServer::new(debug));
    routes.add_service(LoggerServer::new(LoggerService { log: api.log }));
    routes.add_service(explain_service(api.explain));
    serve(listener, &ground, routes.routes()).await
}

#[cfg(test)]
mod tests;
