//! `spire.api.agent.delegatedidentity.v1.DelegatedIdentity`: identities of other processes, for a delegate whom the
//! operator trusts to tell which processes those are.
//!
//! Owns who is a delegate: a process that has, at the moment of each message, one of the identities of
//! `authorized_delegates`. Invariant: identities of admins and downstream servers are never given to a delegate.

mod session;

use std::collections::BTreeSet;
use std::sync::Arc;

use credence_identity::{Selector, SelectorSet, SpiffeId};
use credence_proto::spire::api::agent::delegatedidentity::v1 as pb;
use credence_proto::spire::api::types;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status};

use crate::api::call::{Call, log};
use crate::api::follow::{Messages, follow};
use crate::api::view::{DELEGATED_JWT_BUNDLES, DELEGATED_X509_BUNDLES, DELEGATED_X509_SVIDS, id_message};
use crate::api::{Ground, tokens};
use crate::attestor::workload::Process;
use crate::cache::Scope;
use crate::explain::Stage;
use session::{Delegation, Subject};

/// Milliseconds from the call to the first message with an SVID.
const FIRST_UPDATE: &str = "delegated_identity_api.subscribe_x509_svids.first_update.elapsed_time";

/// The identities of `authorized_delegates`.
type Delegates = BTreeSet<SpiffeId>;

/// The service.
#[derive(Debug)]
pub(super) struct DelegatedIdentityService {
    ground: Arc<Ground>,
    delegates: Arc<Delegates>,
}

impl DelegatedIdentityService {
    pub(super) fn new(ground: Arc<Ground>, delegates: Delegates) -> Self {
        let delegates = Arc::new(delegates);
        Self { ground, delegates }
    }

    fn call<T>(&self, method: &'static str, request: &Request<T>) -> Result<Call<Delegates>, Status> {
        Call::new(
            ("DelegatedIdentity", method),
            self.ground.clone(),
            self.delegates.clone(),
            request.extensions(),
        )
    }
}

impl Call<Delegates> {
    /// That the caller is a delegate at this moment.
    async fn authorize(&self) -> Result<(), Status> {
        let selectors = self.attest().await?;
        let entries = self.ground.cache.matching_in(Scope::Process, &selectors);
        let Some(first) = entries.first() else {
            return Err(self.no_identity(&selectors, None));
        };
        let delegate = entries
            .iter()
            .find(|entry| self.profile.contains(&entry.spiffe_id));
        if let Some(delegate) = delegate {
            log!(debug, self, delegate_id = %delegate.spiffe_id, "Caller authorized as delegate");
            return Ok(());
        }
        log!(
            error,
            self,
            num_registered_entries = entries.len(),
            default_id = %first.spiffe_id,
            "Permission denied; caller not configured as an authorized delegate."
        );
        let status = Status::permission_denied("caller not configured as an authorized delegate");
        Err(self.refuse(status, Stage::Request, Some(&selectors)))
    }

    /// Whom the request is about: selectors that the delegate has found, or a process for us to look at.
    fn subject(&self, selectors: &[types::Selector], pid: i32) -> Result<Subject, Status> {
        match (selectors, pid) {
            ([], 0) | ([_, ..], 1.. | ..0) => {
                let text = "must provide either selectors or non-zero PID, but not both";
                let event = "Invalid argument; must provide either selectors or non-zero PID, but not both";
                Err(self.invalid(event, text))
            }
            ([], pid) => {
                let process = Process::with_pid(pid, &self.ground.proc);
                let process = process.map_err(|error| self.not_attested(&error))?;
                Ok(Subject::Process(Box::new(process)))
            }
            (selectors, 0) => {
                let parsed = selectors
                    .iter()
                    .map(|selector| Selector::new(&selector.r#type, &selector.value));
                match parsed.collect::<Result<SelectorSet, _>>() {
                    Ok(selectors) => Ok(Subject::Selectors(selectors)),
                    Err(_) => {
                        let event = "Invalid argument; could not parse provided selectors";
                        Err(self.invalid(event, "could not parse provided selectors"))
                    }
                }
            }
        }
    }
}

#[tonic::async_trait]
impl pb::delegated_identity_server::DelegatedIdentity for DelegatedIdentityService {
    type SubscribeToX509SVIDsStream = Messages<pb::SubscribeToX509sviDsResponse>;
    type SubscribeToX509BundlesStream = Messages<pb::SubscribeToX509BundlesResponse>;
    type SubscribeToJWTBundlesStream = Messages<pb::SubscribeToJwtBundlesResponse>;

    async fn subscribe_to_x509svi_ds(
        &self,
        request: Request<pb::SubscribeToX509sviDsRequest>,
    ) -> Result<Response<Self::SubscribeToX509SVIDsStream>, Status> {
        let began = Instant::now();
        let call = self.call("SubscribeToX509SVIDs", &request)?;
        let pb::SubscribeToX509sviDsRequest { selectors, pid } = request.into_inner();
        // Who may not ask isn't told what is wrong with the question.
        call.authorize().await?;
        let subject = call.subject(&selectors, pid)?;
        let stream = follow(Delegation { call, subject }, DELEGATED_X509_SVIDS).await?;
        let telemetry = self.ground.cache.telemetry().clone();
        let mut waiting = true;
        let stream = stream.map(move |message| {
            let held = message
                .as_ref()
                .is_ok_and(|message| !message.x509_svids.is_empty());
            if held && std::mem::take(&mut waiting) {
                telemetry.sample(FIRST_UPDATE, began.elapsed().as_secs_f64() * 1000.0);
            }
            message
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn subscribe_to_x509_bundles(
        &self,
        request: Request<pb::SubscribeToX509BundlesRequest>,
    ) -> Result<Response<Self::SubscribeToX509BundlesStream>, Status> {
        let call = self.call("SubscribeToX509Bundles", &request)?;
        let subject = Subject::Everybody;
        let stream = follow(Delegation { call, subject }, DELEGATED_X509_BUNDLES).await?;
        Ok(Response::new(stream))
    }

    async fn fetch_jwtsvi_ds(
        &self,
        request: Request<pb::FetchJwtsviDsRequest>,
    ) -> Result<Response<pb::FetchJwtsviDsResponse>, Status> {
        let call = self.call("FetchJWTSVIDs", &request)?;
        let pb::FetchJwtsviDsRequest {
            audience,
            selectors,
            pid,
        } = request.into_inner();
        tokens::check_audience(&call, &audience)?;
        call.authorize().await?;
        let subject = call.subject(&selectors, pid)?;
        let delegation = Delegation { call, subject };
        let svids = delegation.jwt_svids(&audience).await?;
        Ok(Response::new(pb::FetchJwtsviDsResponse { svids }))
    }

    async fn subscribe_to_jwt_bundles(
        &self,
        request: Request<pb::SubscribeToJwtBundlesRequest>,
    ) -> Result<Response<Self::SubscribeToJWTBundlesStream>, Status> {
        let call = self.call("SubscribeToJWTBundles", &request)?;
        let subject = Subject::Everybody;
        let stream = follow(Delegation { call, subject }, DELEGATED_JWT_BUNDLES).await?;
        Ok(Response::new(stream))
    }
}

impl Delegation {
    async fn jwt_svids(&self, audience: &[String]) -> Result<Vec<types::Jwtsvid>, Status> {
        let call = &self.call;
        let selectors = self.subject_selectors().await?;
        let entries = call.ground.cache.matching_in(Scope::Delegate, &selectors);
        if entries.is_empty() {
            return Err(call.no_identity(&selectors, None));
        }
        let tokens = tokens::fetch(call, (&selectors, &entries), audience).await?;
        let svids = entries.iter().zip(&tokens).map(|(entry, token)| types::Jwtsvid {
            token: token.token.clone(),
            id: Some(id_message(&entry.spiffe_id)),
            expires_at: token.expires_at.unix_seconds(),
            issued_at: token.issued_at.map_or(0, |issued| issued.unix_seconds()),
            hint: entry.hint.to_string(),
        });
        Ok(svids.collect())
    }
}
