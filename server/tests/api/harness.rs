//! One server per test, and the callers it can have.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::csr;
use credence_crypto::x509::{X509Svid, X509SvidKey};
use credence_crypto::{KeyType, PrivateKey};
use credence_identity::{Bundle, SpiffeId, Timestamp, TrustDomain, X509Authority};
use credence_proto::spire::api::server::agent::v1 as agent_pb;
use credence_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use credence_proto::spire::api::server::agent::v1::{attest_agent_request, attest_agent_response};
use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::entry::v1 as entry_pb;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::server::svid::v1 as svid_pb;
use credence_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use credence_proto::spire::api::types;
use credence_proto::spire::api::types::permission_denied_details::Reason;
use credence_runtime::clock::ManualClock;
use credence_runtime::config::TelemetryConfig;
use credence_runtime::grpc::{connect_tls, connect_unix, status};
use credence_runtime::log::{LogOptions, layer_writing_to};
use credence_runtime::supervisor::Supervisor;
use credence_runtime::tls::{KeyExchange, client_config};
use credence_server::app::{Bound, Plan, start};
use credence_server::ca;
use credence_server::config::Operations;
use credence_server::keymanager::MemoryKeyManager;
use credence_server::store::SqliteOptions;
use prost::Message;
use tempfile::TempDir;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Code, Status};

pub(crate) const DOMAIN: &str = "example.org";
/// The start of the tests' wall clock.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

/// A running server.
pub(crate) struct Lab {
    pub(crate) bound: Bound,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) supervisor: Supervisor,
    _dir: TempDir,
}

/// An attested agent.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) id: types::Spiffeid,
    pub(crate) svid: Arc<X509SvidKey>,
    pub(crate) channel: Channel,
}

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Plan)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = Plan {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            socket: dir.path().join("private/api.sock"),
            database: SqliteOptions::new(dir.path().join("db.sqlite3")),
            keys: Arc::new(MemoryKeyManager::default()),
            authorities: ca::Settings::defaults(TrustDomain::parse(DOMAIN).unwrap()),
            admin_ids: HashSet::from([id("/operator")]),
            limit_attestation: false,
            limit_signing: false,
            node_pruning: None,
            x509pop: None,
            health: None,
            telemetry: TelemetryConfig::default(),
            operations: Operations::default(),
        };
        change(&mut plan);
        let clock = Arc::new(ManualClock::new(NOW));
        let (_, log) = layer_writing_to(&LogOptions::default(), Box::new(io::sink()));
        let supervisor = Supervisor::new();
        let bound = start(plan, clock.clone(), log, &supervisor).await.unwrap();
        Self {
            bound,
            clock,
            supervisor,
            _dir: dir,
        }
    }

    pub(crate) async fn local(&self) -> Channel {
        connect_unix(&self.bound.socket).await.unwrap()
    }

    /// A TLS caller without a certificate.
    pub(crate) async fn anonymous(&self) -> Channel {
        self.tls(None).await
    }

    /// A TLS caller with an SVID.
    pub(crate) async fn peer(&self, svid: &Arc<X509SvidKey>) -> Channel {
        self.tls(Some(watch::channel(Arc::clone(svid)).1)).await
    }

    async fn tls(&self, own: Option<watch::Receiver<Arc<X509SvidKey>>>) -> Channel {
        let config = self.tls_config(own).await;
        connect_tls("127.0.0.1", self.bound.tcp.port(), config)
            .await
            .unwrap()
    }

    /// TLS as a caller with that SVID has it.
    pub(crate) async fn client_config(&self, own: Option<Arc<X509SvidKey>>) -> Arc<rustls::ClientConfig> {
        self.tls_config(own.map(|own| watch::channel(own).1)).await
    }

    async fn tls_config(&self, own: Option<watch::Receiver<Arc<X509SvidKey>>>) -> Arc<rustls::ClientConfig> {
        let bundle = Arc::new(self.bundle().await);
        let lookup =
            Arc::new(move |name: &TrustDomain| (*name == bundle.trust_domain).then(|| bundle.clone()));
        client_config(
            own,
            id("/spire/server"),
            lookup,
            self.clock.clone(),
            KeyExchange::Any,
        )
        .unwrap()
    }

    /// The trust bundle, by the socket.
    pub(crate) async fn bundle(&self) -> Bundle {
        let mut client = BundleClient::new(self.local().await);
        let bundle = client
            .get_bundle(GetBundleRequest::default())
            .await
            .unwrap()
            .into_inner();
        let authorities = bundle.x509_authorities.into_iter();
        let authorities = authorities.map(|found| X509Authority {
            der: found.asn1.into(),
            tainted: false,
        });
        Bundle {
            x509_authorities: authorities.collect(),
            ..Bundle::empty(TrustDomain::parse(&bundle.trust_domain).unwrap())
        }
    }

    pub(crate) async fn token(&self) -> String {
        let request = agent_pb::CreateJoinTokenRequest {
            ttl: 600,
            ..Default::default()
        };
        AgentClient::new(self.local().await)
            .create_join_token(request)
            .await
            .unwrap()
            .into_inner()
            .value
    }

    /// Attests a new agent by a join token.
    pub(crate) async fn agent(&self) -> Agent {
        let token = self.token().await;
        let key = new_key();
        let channel = self.anonymous().await;
        let svid = attest(channel, "join_token", token.as_bytes(), &csr_of(&key))
            .await
            .unwrap();
        self.agent_of(svid, key).await
    }

    pub(crate) async fn agent_of(&self, svid: types::X509svid, key: PrivateKey) -> Agent {
        let id = svid.id.clone().unwrap();
        let svid = joined(&svid, key);
        let channel = self.peer(&svid).await;
        Agent { id, svid, channel }
    }

    /// An SVID for any workload, minted on the socket.
    pub(crate) async fn mint(&self, path: &str) -> Arc<X509SvidKey> {
        let key = new_key();
        let csr = csr::create(&key, Some(&id(path)), &[]).unwrap();
        let request = svid_pb::MintX509svidRequest { csr, ttl: 0 };
        let minted = SvidClient::new(self.local().await)
            .mint_x509svid(request)
            .await
            .unwrap();
        joined(&minted.into_inner().svid.unwrap(), key)
    }

    pub(crate) async fn create(&self, entries: Vec<types::Entry>) -> Vec<types::Entry> {
        let request = entry_pb::BatchCreateEntryRequest {
            entries,
            output_mask: None,
        };
        let answer = EntryClient::new(self.local().await)
            .batch_create_entry(request)
            .await
            .unwrap();
        let results = answer.into_inner().results.into_iter();
        results
            .map(|result| {
                assert_eq!(result.status, Some(ok()));
                result.entry.unwrap()
            })
            .collect()
    }

    pub(crate) async fn delete(&self, ids: Vec<String>) {
        let request = entry_pb::BatchDeleteEntryRequest { ids };
        let answer = EntryClient::new(self.local().await)
            .batch_delete_entry(request)
            .await
            .unwrap();
        assert!(
            answer
                .into_inner()
                .results
                .iter()
                .all(|result| result.status == Some(ok()))
        );
    }
}

pub(crate) fn id(path: &str) -> SpiffeId {
    SpiffeId::from_path(&TrustDomain::parse(DOMAIN).unwrap(), path).unwrap()
}

pub(crate) fn wire_id(path: &str) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: DOMAIN.to_owned(),
        path: path.to_owned(),
    }
}

pub(crate) fn selector(text: &str) -> types::Selector {
    let (kind, value) = text.split_once(':').unwrap();
    types::Selector {
        r#type: kind.to_owned(),
        value: value.to_owned(),
    }
}

/// An entry of the agent for the path, with one selector.
pub(crate) fn entry(parent: &types::Spiffeid, path: &str) -> types::Entry {
    types::Entry {
        spiffe_id: Some(wire_id(path)),
        parent_id: Some(parent.clone()),
        selectors: vec![selector("unix:uid:1000")],
        ..Default::default()
    }
}

pub(crate) fn ok() -> types::Status {
    types::Status {
        code: 0,
        message: "OK".to_owned(),
    }
}

pub(crate) fn new_key() -> PrivateKey {
    PrivateKey::generate(KeyType::EcP256).unwrap()
}

pub(crate) fn csr_of(key: &PrivateKey) -> Vec<u8> {
    csr::create(key, None, &[]).unwrap()
}

pub(crate) fn joined(svid: &types::X509svid, key: PrivateKey) -> Arc<X509SvidKey> {
    Arc::new(X509SvidKey::new(X509Svid::from_der_chain(&svid.cert_chain).unwrap(), key).unwrap())
}

pub(crate) fn params(kind: &str, payload: &[u8], csr: &[u8]) -> agent_pb::AttestAgentRequest {
    let data = types::AttestationData {
        r#type: kind.to_owned(),
        payload: payload.to_vec(),
    };
    let svid = agent_pb::AgentX509svidParams { csr: csr.to_vec() };
    let params = attest_agent_request::Params {
        data: Some(data),
        params: Some(svid),
    };
    agent_pb::AttestAgentRequest {
        step: Some(attest_agent_request::Step::Params(params)),
    }
}

/// An attestation without a challenge. The stream must end right after the result.
pub(crate) async fn attest(
    channel: Channel,
    kind: &str,
    payload: &[u8],
    csr: &[u8],
) -> Result<types::X509svid, Status> {
    let requests = tokio_stream::iter([params(kind, payload, csr)]);
    let mut answers = AgentClient::new(channel)
        .attest_agent(requests)
        .await?
        .into_inner();
    let answer = answers.message().await?.unwrap();
    assert!(
        answers.message().await?.is_none(),
        "the stream ends after the result"
    );
    match answer.step.unwrap() {
        attest_agent_response::Step::Result(result) => Ok(result.svid.unwrap()),
        attest_agent_response::Step::Challenge(_) => panic!("challenged"),
    }
}

/// The reason in the status's details.
pub(crate) fn reason(refusal: &Status) -> Option<Reason> {
    let detail = status::detail(refusal, "spire.api.types.PermissionDeniedDetails")?;
    Some(
        types::PermissionDeniedDetails::decode(detail.as_slice())
            .unwrap()
            .reason(),
    )
}

pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, text: &str) {
    let status = outcome.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, text));
}

/// As [`refused`], by the beginning of the text.
pub(crate) fn refused_with<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, start: &str) {
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().starts_with(start), "{status:?}");
}

/// What must come soon, on real sockets and real time.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what)
        .await
        .expect("came in time")
}
