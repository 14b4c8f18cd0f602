//! The server, as this agent calls it: typed calls with a deadline each over one connection that is made anew when the
//! agent's SVID changes.
//!
//! Owns the wire: no message of the server's APIs leaves this folder. Never decides what follows from an answer, but
//! reports each refusal of the agent itself to the keeper of its SVID. Invariant: no call lasts longer than its deadline.

mod attest;
mod convert;
mod entries;
mod error;
mod matching;
mod push;
mod x509;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use credence_crypto::jwt::JwtSvid;
use credence_crypto::wit::WitSvid;
use credence_crypto::x509::{X509Svid, X509SvidKey};
use credence_crypto::{PrivateKey, Signer as _};
use credence_identity::{Bundle, EntryId, Timestamp, TrustDomain};
use credence_proto::credence::sync::v1::sync_client::SyncClient;
use credence_proto::spire::api::server::agent::v1::{
    AgentX509svidParams, PostStatusRequest, RenewAgentRequest, agent_client::AgentClient,
};
use credence_proto::spire::api::server::bundle::v1::{
    GetBundleRequest, GetFederatedBundleRequest, bundle_client::BundleClient,
};
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::server::svid::v1::{
    BatchNewWitsvidRequest, NewJwtsvidRequest, NewWitsvidParams, svid_client::SvidClient,
};
use credence_runtime::telemetry::Traced;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Code, Response, Status};

/// A connection; each call takes along the span in which it is made.
pub(super) type Channel = Traced<tonic::transport::Channel>;

pub(crate) use attest::{AttestError, Attested};
pub(crate) use error::{CallError, Refusal};
pub(crate) use push::{PushEvent, PushStream, WANT_AT_MOST};

use super::connection::{Connect, ConnectionError};
use crate::attestor::node::NodeAttestor;
use crate::cache::{CacheUpdate, EntryVersion};

/// No call lasts longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// Larger than a batch of 500 SVIDs or a page of entries ever is.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The server refused the agent that showed this SVID.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) svid: Arc<X509SvidKey>,
    pub(crate) error: CallError,
    pub(crate) refusal: Refusal,
}

/// A handle to the server; clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connector: Box<dyn Connect>,
    link: Mutex<Link>,
    refused: mpsc::Sender<Refused>,
}

/// A connection and the SVID that it shows. They change together: a refusal must never be laid to an SVID that wasn't
/// shown.
#[derive(Debug, Clone)]
struct Link {
    channel: Channel,
    svid: Arc<X509SvidKey>,
}

impl Server {
    /// Connects with the first call, and shows this SVID. Refusals of it go to `refused`.
    pub(crate) fn new(
        connector: impl Connect + 'static,
        svid: Arc<X509SvidKey>,
        refused: mpsc::Sender<Refused>,
    ) -> Result<Self, ConnectionError> {
        let link = Mutex::new(Link::new(&connector, svid)?);
        Ok(Self {
            shared: Arc::new(Shared {
                connector: Box::new(connector),
                link,
                refused,
            }),
        })
    }

    /// Makes the next call connect anew, with this SVID. Calls under way end on their connection.
    pub(crate) fn connect_as(&self, svid: Arc<X509SvidKey>) {
        self.renew_link(&mut self.lock(), svid);
    }

    /// Makes the next call connect anew, with the same SVID. Calls under way end on their connection.
    pub(crate) fn reconnect(&self) {
        let mut link = self.lock();
        let svid = link.svid.clone();
        self.renew_link(&mut link, svid);
    }

    /// Attests this host without showing an SVID.
    pub(crate) async fn attest(
        &self,
        attestor: &dyn NodeAttestor,
        csr: Vec<u8>,
    ) -> Result<Attested, AttestError> {
        let channel = self.shared.connector.channel(None);
        let channel =
            channel.map_err(|error| CallError::answer("could not open attestation stream", error))?;
        attest_over(channel, attestor, csr).await
    }

    /// A new SVID for this agent's new key.
    pub(crate) async fn renew(&self, csr: Vec<u8>) -> Result<X509Svid, CallError> {
        let action = "failed to renew agent";
        let request = RenewAgentRequest {
            params: Some(AgentX509svidParams { csr }),
        };
        let call = |channel| async { AgentClient::new(channel).renew_agent(request).await };
        let answer = self.call(action, call).await?;
        convert::x509_svid(answer.svid).map_err(|fault| CallError::answer(action, fault))
    }

    /// Tells the server this agent's version.
    pub(crate) async fn post_status(&self, version: &str) -> Result<(), CallError> {
        let request = PostStatusRequest {
            agent_version: version.to_owned(),
            ..PostStatusRequest::default()
        };
        let call = |channel| async { AgentClient::new(channel).post_status(request).await };
        self.call("failed to post agent status", call).await.map(drop)
    }

    /// The bundle of the own trust domain.
    pub(crate) async fn bundle(&self) -> Result<Arc<Bundle>, CallError> {
        let action = "failed to fetch bundle";
        let call = |channel| async {
            let mut client = BundleClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
            client.get_bundle(GetBundleRequest::default()).await
        };
        let answer = self.call(action, call).await?;
        convert::bundle(answer).map_err(|fault| CallError::answer(action, fault))
    }

    /// The bundle of a foreign trust domain; none if the server hasn't got it or it can't be read.
    pub(crate) async fn federated_bundle(
        &self,
        name: &TrustDomain,
    ) -> Result<Option<Arc<Bundle>>, CallError> {
        let request = GetFederatedBundleRequest {
            trust_domain: name.to_string(),
            output_mask: None,
        };
        let call = |channel| async {
            let mut client = BundleClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
            client.get_federated_bundle(request).await
        };
        match self.call("failed to fetch federated bundle", call).await {
            Ok(answer) => Ok(convert::bundle_or_warn(answer)),
            Err(error) if error.code() == Code::NotFound => {
                tracing::warn!(federated_bundle = %name, %error, "Federated bundle not found");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// How the authorised entries differ from those held.
    pub(crate) async fn sync_entries(
        &self,
        held: BTreeMap<EntryId, EntryVersion>,
    ) -> Result<CacheUpdate, CallError> {
        let Link { channel, svid } = self.link();
        let client = EntryClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        let outcome = timeout(DEADLINE, entries::sync(client, held)).await;
        outcome
            .unwrap_or_else(|_| Err(CallError::timeout(entries::ACTION)))
            .map_err(|error| self.report(&svid, error))
    }

    /// The same by one call that brings all entries whole, as old servers have it.
    pub(crate) async fn authorized_entries(
        &self,
        held: BTreeMap<EntryId, EntryVersion>,
    ) -> Result<CacheUpdate, CallError> {
        let call = |channel| async {
            let mut client = EntryClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
            client.get_authorized_entries(entries::whole_request()).await
        };
        let answer = self.call(entries::ACTION, call).await?;
        Ok(entries::compare(held, answer.entries))
    }

    /// Opens the push stream; `digest` is that of the entries held, empty for none.
    pub(crate) async fn subscribe(&self, digest: Vec<u8>) -> Result<PushStream, CallError> {
        let Link { channel, svid } = self.link();
        let client = SyncClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        PushStream::open(self.clone(), svid, client, digest).await
    }

    /// A JWT-SVID of the entry.
    pub(crate) async fn new_jwt_svid(
        &self,
        entry: &EntryId,
        audience: &[String],
    ) -> Result<JwtSvid, CallError> {
        let action = "failed to fetch JWT SVID";
        let request = NewJwtsvidRequest {
            entry_id: entry.to_string(),
            audience: audience.to_vec(),
        };
        let call = |channel| async { SvidClient::new(channel).new_jwtsvid(request).await };
        let answer = self.call(action, call).await?;
        let svid = answer
            .svid
            .ok_or_else(|| CallError::answer(action, "SVID is missing"))?;
        let audience: Vec<&str> = audience.iter().map(String::as_str).collect();
        // Judged at the issuer's time: whether our own clock is right is no question of the token's form.
        let issued_at = Timestamp::from_unix_seconds(svid.issued_at);
        JwtSvid::parse_insecure(&svid.token, &audience, issued_at)
            .map_err(|fault| CallError::answer(action, fault))
    }

    /// A WIT-SVID of the entry for this key.
    pub(crate) async fn new_wit_svid(&self, entry: &EntryId, key: &PrivateKey) -> Result<WitSvid, CallError> {
        let action = "failed to fetch WIT SVID";
        let fault = |reason: &str| CallError::answer(action, reason);
        let params = NewWitsvidParams {
            entry_id: entry.to_string(),
            public_key: key.public_key().spki_der().to_vec(),
            signing_algorithm: key.key_type().jws_algorithm().to_owned(),
        };
        let request = BatchNewWitsvidRequest { params: vec![params] };
        let call = |channel| async { SvidClient::new(channel).batch_new_witsvid(request).await };
        let result = self.call(action, call).await?.results.pop();
        let result = result.ok_or_else(|| fault("result is missing"))?;
        let status = result.status.unwrap_or_default();
        if status.code != 0 {
            let status = Status::new(Code::from(status.code), status.message);
            return Err(CallError::status(action, &status));
        }
        let svid = result.svid.ok_or_else(|| fault("SVID is missing"))?;
        // Judged at the issuer's time, as a JWT-SVID is.
        let issued_at = Timestamp::from_unix_seconds(svid.issued_at);
        let svid = WitSvid::parse_insecure(&svid.token, issued_at)
            .map_err(|error| CallError::answer(action, error))?;
        let is_ours =
            svid.public_key == *key.public_key() && svid.algorithm == key.key_type().signature_algorithm();
        is_ours
            .then_some(svid)
            .ok_or_else(|| fault("it is bound to another key"))
    }

    fn link(&self) -> Link {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Link> {
        self.shared.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew_link(&self, link: &mut Link, svid: Arc<X509SvidKey>) {
        match Link::new(&*self.shared.connector, svid) {
            Ok(new) => *link = new,
            Err(error) => tracing::error!(
                error = &error as &dyn Error,
                "Keeping the connection to the server"
            ),
        }
    }

    async fn call<T, F>(&self, action: &'static str, call: impl FnOnce(Channel) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let Link { channel, svid } = self.link();
        let outcome = match timeout(DEADLINE, call(channel)).await {
            Ok(outcome) => outcome.map_err(|status| CallError::status(action, &status)),
            Err(_) => Err(CallError::timeout(action)),
        };
        outcome
            .map(Response::into_inner)
            .map_err(|error| self.report(&svid, error))
    }

    /// Passes an error on; if it refuses the agent that showed the SVID, its keeper gets to know.
    fn report(&self, svid: &Arc<X509SvidKey>, error: CallError) -> CallError {
        if let Some(refusal) = error.refusal() {
            let refused = Refused {
                svid: svid.clone(),
                error: error.clone(),
                refusal,
            };
            // If the queue is full, its reader is about to act on the same news.
            drop(self.shared.refused.try_send(refused));
        }
        error
    }
}

impl Link {
    fn new(connector: &dyn Connect, svid: Arc<X509SvidKey>) -> Result<Self, ConnectionError> {
        let channel = Traced(connector.channel(Some(svid.clone()))?);
        Ok(Self { channel, svid })
    }
}

/// Attests a host over a channel without a client certificate.
pub(crate) async fn attest_over(
    channel: tonic::transport::Channel,
    attestor: &dyn NodeAttestor,
    csr: Vec<u8>,
) -> Result<Attested, AttestError> {
    let outcome = timeout(
        DEADLINE,
        attest::attest(AgentClient::new(Traced(channel)), attestor, csr),
    )
    .await;
    outcome.unwrap_or_else(|_| Err(CallError::timeout("failed to receive attestation response").into()))
}

/// The bundle of the trust domain, over a channel without a client certificate.
pub(crate) async fn bundle_over(channel: tonic::transport::Channel) -> Result<Arc<Bundle>, CallError> {
    let action = "failed to get updated bundle";
    let mut client = BundleClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
    let answer = match timeout(DEADLINE, client.get_bundle(GetBundleRequest::default())).await {
        Ok(outcome) => outcome.map_err(|status| CallError::status(action, &status))?,
        Err(_) => return Err(CallError::timeout(action)),
    };
    convert::bundle(answer.into_inner()).map_err(|fault| CallError::answer(action, fault))
}
