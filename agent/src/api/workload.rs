//! The SPIFFE Workload API: X.509-SVIDs, JWT-SVIDs and bundles for the process that asks.
//!
//! Owns the protobuf side of what the cache holds. Never takes a caller's word for who it is, and never remembers what
//! it was: it is attested on each call and before each message of a stream. Invariant: a message holds all that the
//! caller may have at that moment, and nothing else.

mod claims;
mod header;
mod jwt;
mod session;
mod wit;

use std::collections::BTreeSet;
use std::sync::Arc;

use credence_proto::spiffe_workload::spiffe_workload_api_server::{
    SpiffeWorkloadApi, SpiffeWorkloadApiServer,
};
use credence_proto::spiffe_workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest, WitsvidResponse,
    X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

use super::call::Call;
use super::follow::{Messages, follow};
use super::limits::{Limits, RateLimits};
use super::{Ground, view};
use header::Demand;

/// Bytes of a request: a token with room to spare. Memory for it is a caller's to take.
const MAX_REQUEST: usize = 256 * 1024;

/// What the configuration says about the Workload API.
#[derive(Debug, Clone, Default)]
pub struct WorkloadOptions {
    /// `allow_unauthenticated_verifiers`: the bundle of the own trust domain goes to callers without an identity too.
    pub allow_unauthenticated_verifiers: bool,
    /// `allowed_foreign_jwt_claims`: claims of foreign tokens shown besides `sub`, `exp` and `aud`.
    pub allowed_foreign_jwt_claims: BTreeSet<String>,
    /// The feature flag `wit-svid`: the WIT profile is offered.
    pub wit_svid: bool,
    /// `experimental.ratelimit`.
    pub rate_limits: RateLimits,
    /// `log_selectors`: beginnings of selectors that the log may show.
    pub log_selectors: Vec<String>,
}

/// What a call finds set up.
#[derive(Debug)]
struct Profile {
    options: WorkloadOptions,
    limits: Limits,
}

/// The service; clones share it.
#[derive(Debug, Clone)]
pub struct WorkloadApi {
    ground: Arc<Ground>,
    profile: Arc<Profile>,
}

type WorkloadCall = Call<Profile>;

impl WorkloadApi {
    /// Serves what the cache holds to the callers whom the attestors know; open streams end at shutdown.
    pub fn new(ground: Arc<Ground>, options: WorkloadOptions) -> Self {
        let limits = options.rate_limits;
        let limits = Limits::new([
            ("FetchX509SVID", limits.fetch_x509_svid),
            ("FetchJWTSVID", limits.fetch_jwt_svid),
            ("FetchX509Bundles", limits.fetch_x509_bundles),
            ("FetchJWTBundles", limits.fetch_jwt_bundles),
        ]);
        let profile = Arc::new(Profile { options, limits });
        Self { ground, profile }
    }

    /// As a service of a gRPC server. The security header is demanded for all its methods, before anything else.
    pub fn into_service(self) -> InterceptedService<SpiffeWorkloadApiServer<Self>, Demand> {
        let demand = Demand { api: self.clone() };
        let server = SpiffeWorkloadApiServer::new(self).max_decoding_message_size(MAX_REQUEST);
        InterceptedService::new(server, demand)
    }

    fn call<T>(&self, method: &'static str, request: &Request<T>) -> Result<WorkloadCall, Status> {
        Call::new(
            ("WorkloadAPI", method),
            self.ground.clone(),
            self.profile.clone(),
            request.extensions(),
        )
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Messages<X509svidResponse>;
    type FetchX509BundlesStream = Messages<X509BundlesResponse>;
    type FetchJWTBundlesStream = Messages<JwtBundlesResponse>;
    type FetchWITSVIDStream = Messages<WitsvidResponse>;
    type FetchWITBundlesStream = Messages<WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let call = self.call("FetchX509SVID", &request)?;
        Ok(Response::new(follow(call, view::X509_SVIDS).await?))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let call = self.call("FetchX509Bundles", &request)?;
        Ok(Response::new(follow(call, view::X509_BUNDLES).await?))
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        let call = self.call("FetchJWTSVID", &request)?;
        Ok(Response::new(jwt::fetch(&call, request.into_inner()).await?))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        let call = self.call("FetchJWTBundles", &request)?;
        Ok(Response::new(follow(call, view::JWT_BUNDLES).await?))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        let call = self.call("ValidateJWTSVID", &request)?;
        Ok(Response::new(jwt::validate(&call, request.into_inner()).await?))
    }

    async fn fetch_witsvid(
        &self,
        request: Request<WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        if !self.profile.options.wit_svid {
            return Err(Status::unimplemented("fetching WIT-SVIDs is not implemented"));
        }
        let call = self.call("FetchWITSVID", &request)?;
        Ok(Response::new(wit::follow(call, &request.into_inner()).await?))
    }

    async fn fetch_wit_bundles(
        &self,
        request: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        if !self.profile.options.wit_svid {
            return Err(Status::unimplemented("fetching WIT bundles is not implemented"));
        }
        let call = self.call("FetchWITBundles", &request)?;
        Ok(Response::new(follow(call, view::WIT_BUNDLES).await?))
    }
}

#[cfg(test)]
mod tests;
