//! The gRPC services of the server.
//!
//! Owns the protobuf messages: nothing outside of this folder names one, or a `tonic::Status`. Each service is one
//! file; `gate` is the door all calls come through.
//!
//! Invariant: what a message says is checked here, once; what it may do is decided by the authorization table and in
//! the registry's transactions.

mod agent;
mod audit;
mod authority;
mod authz;
mod body;
mod bundle;
mod call;
mod caller;
mod context;
mod convert;
mod debug;
mod draft;
mod entry;
mod explain;
mod gate;
mod health;
mod limits;
mod localauthority;
mod logger;
mod matching;
mod paging;
mod presence;
mod program;
mod refusals;
mod status;
mod svid;
mod sync;
mod trustdomain;

use std::sync::Arc;

use credence_proto::credence::authority::v1::authority_server::AuthorityServer;
use credence_proto::credence::explain::v1::matching_server::MatchingServer;
use credence_proto::credence::explain::v1::registry_server::RegistryServer;
use credence_proto::credence::sync::v1::sync_server::SyncServer;
use credence_proto::grpc::health::v1::health_server::HealthServer;
use credence_proto::spire::api::server::agent::v1::agent_server::AgentServer;
use credence_proto::spire::api::server::bundle::v1::bundle_server::BundleServer;
use credence_proto::spire::api::server::debug::v1::debug_server::DebugServer;
use credence_proto::spire::api::server::entry::v1::entry_server::EntryServer;
use credence_proto::spire::api::server::localauthority::v1::local_authority_server::LocalAuthorityServer;
use credence_proto::spire::api::server::logger::v1::logger_server::LoggerServer;
use credence_proto::spire::api::server::svid::v1::svid_server::SvidServer;
use credence_proto::spire::api::server::trustdomain::v1::trust_domain_server::TrustDomainServer;
use credence_runtime::telemetry::RpcCalls;
use http::{Request, Response};
use tonic::body::Body;
use tonic::codegen::Service as _;

pub use authz::policy::{Policy, PolicyError};
pub(crate) use call::Connection;
pub(crate) use caller::Caller;
pub(crate) use context::Context;
pub(crate) use gate::Gate;
pub(crate) use health::is_serving;
pub(crate) use limits::Limits;
pub(crate) use presence::Presence;
pub(crate) use program::Program;
pub(crate) use refusals::Refusals;

use authz::{Method, Service};
use body::RequestBody;

/// Every service of the server, ready to be served on any number of connections.
#[derive(Debug)]
pub(crate) struct Services {
    context: Arc<Context>,
    calls: RpcCalls,
    agent: AgentServer<agent::AgentService>,
    bundle: BundleServer<bundle::BundleService>,
    entry: EntryServer<entry::EntryService>,
    svid: SvidServer<svid::SvidService>,
    trust_domain: TrustDomainServer<trustdomain::TrustDomainService>,
    sync: SyncServer<sync::SyncService>,
    authority: AuthorityServer<authority::AuthorityService>,
    local_authority: LocalAuthorityServer<localauthority::LocalAuthorityService>,
    registry: RegistryServer<explain::RegistryService>,
    matching: MatchingServer<explain::MatchingService>,
    debug: DebugServer<debug::DebugService>,
    logger: LoggerServer<logger::LoggerService>,
    health: HealthServer<health::HealthService>,
}

impl Services {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let shared = || Arc::clone(&context);
        let telemetry = context.registry.telemetry();
        Self {
            calls: RpcCalls::new(
                telemetry,
                authz::methods().map(|method| (method.service_name, method.name)),
            ),
            agent: AgentServer::new(agent::AgentService::new(shared())),
            bundle: BundleServer::new(bundle::BundleService::new(shared())),
            entry: EntryServer::new(entry::EntryService::new(shared())),
            svid: SvidServer::new(svid::SvidService::new(shared())),
            trust_domain: TrustDomainServer::new(trustdomain::TrustDomainService::new(shared())),
            sync: SyncServer::new(sync::SyncService::new(shared())),
            authority: AuthorityServer::new(authority::AuthorityService::new(shared())),
            local_authority: LocalAuthorityServer::new(localauthority::LocalAuthorityService::new(shared())),
            registry: RegistryServer::new(explain::RegistryService::new(shared())),
            matching: MatchingServer::new(explain::MatchingService::new(shared())),
            debug: DebugServer::new(debug::DebugService::new(shared())),
            logger: LoggerServer::new(logger::LoggerService::new(shared())),
            health: HealthServer::new(health::HealthService::new(shared())),
            context,
        }
    }

    /// Whether somebody asks which program a local caller runs.
    pub(crate) fn asks_for_programs(&self) -> bool {
        self.context.audit.is_some() || self.context.policy.is_some()
    }

    /// Hands an authorized call to its service. The clones are of a shared pointer.
    async fn dispatch(&self, method: &Method, request: Request<RequestBody>) -> Response<Body> {
        let answered = match method.service {
            Service::Agent => self.agent.clone().call(request).await,
            Service::Bundle => self.bundle.clone().call(request).await,
            Service::Entry => self.entry.clone().call(request).await,
            Service::Svid => self.svid.clone().call(request).await,
            Service::Sync => self.sync.clone().call(request).await,
            Service::Authority => self.authority.clone().call(request).await,
            Service::LocalAuthority => self.local_authority.clone().call(request).await,
            Service::Registry => self.registry.clone().call(request).await,
            Service::Matching => self.matching.clone().call(request).await,
            Service::Debug => self.debug.clone().call(request).await,
            Service::Logger => self.logger.clone().call(request).await,
            Service::Health => self.health.clone().call(request).await,
            Service::TrustDomain => self.trust_domain.clone().call(request).await,
        };
        let Ok(response) = answered;
        response
    }
}
