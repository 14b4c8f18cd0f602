//! A real server in this process, and what its operator does.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use credence_crypto::x509::{CaSubject, LeafParams, X509Ca};
use credence_crypto::{PrivateKey, Signer};
use credence_identity::{SpiffeId, X509Authority};
use credence_proto::spire::api::server::agent::v1 as agent_pb;
use credence_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use credence_proto::spire::api::server::entry::v1 as entry_pb;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::types;
use credence_runtime::clock::ManualClock;
use credence_runtime::config::TelemetryConfig;
use credence_runtime::grpc::connect_unix_lazy;
use credence_runtime::log::{LogOptions, layer_writing_to};
use credence_runtime::tls::KeyExchange;
use credence_server::app::{Plan, start};
use credence_server::attestor::x509pop::X509PopConfig;
use credence_server::ca;
use credence_server::config::Operations;
use credence_server::keymanager::{KeyManager as ServerKeys, MemoryKeyManager};
use credence_server::store::SqliteOptions;
use tempfile::TempDir;
use tonic::transport::Channel;

use super::*;
use crate::attestor::node::X509Pop;
use crate::cache::testing::{START, trust_domain};
use crate::sync::server::bundle_over;

/// A server that can be stopped and started again with its keys and data.
pub(super) struct Lab {
    pub(super) clock: Arc<ManualClock>,
    pub(super) folder: TempDir,
    pub(super) port: u16,
    database: String,
    keys: Arc<dyn ServerKeys>,
    x509pop: Option<X509PopConfig>,
    telemetry: TelemetryConfig,
    running: Option<Supervisor>,
}

impl Lab {
    pub(super) async fn new() -> Self {
        Self::with(None).await
    }

    pub(super) async fn with(x509pop: Option<X509PopConfig>) -> Self {
        Self::set_up(x509pop, TelemetryConfig::default()).await
    }

    pub(super) async fn measured(telemetry: TelemetryConfig) -> Self {
        Self::set_up(None, telemetry).await
    }

    /// A lab whose server trusts a certificate, and the attestor that shows it: a node that may attest again.
    pub(super) async fn with_certificate() -> (Self, X509Pop) {
        let end = START + Duration::from_secs(9 * 3600);
        let signer: Arc<dyn Signer> = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
        let ca = X509Ca::self_sign(signer, &trust_domain(), &CaSubject::default(), START, end).unwrap();
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let leaf = LeafParams {
            id: &SpiffeId::from_path(&trust_domain(), "/host").unwrap(),
            public_key: key.public_key(),
            dns_names: &[],
            subject: None,
            not_before: START,
            not_after: end,
        };
        let leaf = ca.sign_svid(&leaf).unwrap();
        let lab = Self::with(Some(X509PopConfig::external(vec![ca.certificate().clone()]))).await;
        let attestor = X509Pop {
            private_key_path: lab.path("key.pem"),
            certificate_path: lab.path("certificate.pem"),
            intermediates_path: None,
        };
        let pem = |tag: &str, der: &[u8]| pem::encode(&pem::Pem::new(tag, der));
        std::fs::write(&attestor.private_key_path, pem("PRIVATE KEY", key.pkcs8_der())).unwrap();
        std::fs::write(&attestor.certificate_path, pem("CERTIFICATE", &leaf.chain[0])).unwrap();
        (lab, attestor)
    }

    async fn set_up(x509pop: Option<X509PopConfig>, telemetry: TelemetryConfig) -> Self {
        let mut lab = Self {
            clock: Arc::new(ManualClock::new(START)),
            folder: tempfile::tempdir().unwrap(),
            port: 0,
            database: "db.sqlite3".to_owned(),
            keys: Arc::new(MemoryKeyManager::default()),
            x509pop,
            telemetry,
            running: None,
        };
        lab.start().await;
        lab
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("server.sock")
    }

    /// Starts the server, on the port that it had before.
    pub(super) async fn start(&mut self) {
        let plan = Plan {
            bind: SocketAddr::from(([127, 0, 0, 1], self.port)),
            socket: self.socket(),
            database: SqliteOptions::new(self.path(&self.database)),
            keys: self.keys.clone(),
            authorities: ca::Settings {
                wit: Some(ca::WitSettings {
                    key_type: KeyType::EcP256,
                    issuer: None,
                }),
                ..ca::Settings::defaults(trust_domain())
            },
            admin_ids: HashSet::new(),
            limit_attestation: false,
            limit_signing: false,
            node_pruning: None,
            x509pop: self.x509pop.clone(),
            health: None,
            telemetry: self.telemetry.clone(),
            operations: Operations::default(),
        };
        let (_, log) = layer_writing_to(&LogOptions::default(), Box::new(io::sink()));
        let supervisor = Supervisor::new();
        let bound = start(plan, self.clock.clone(), log, &supervisor).await.unwrap();
        self.port = bound.tcp.port();
        self.running = Some(supervisor);
    }

    pub(super) async fn stop(&mut self) {
        let supervisor = self.running.take().unwrap();
        supervisor.shutdown();
        supervisor.wait().await.unwrap();
    }

    /// Puts a server that knows nothing in the place of the one that runs, which can come back with what is answered.
    pub(super) async fn replace(&mut self) -> (Arc<dyn ServerKeys>, String) {
        let other = format!("{}.again", self.database);
        self.replace_by((Arc::new(MemoryKeyManager::default()), other))
            .await
    }

    /// Puts the server with these keys and that database in the place of the one that runs.
    pub(super) async fn replace_by(
        &mut self,
        (keys, database): (Arc<dyn ServerKeys>, String),
    ) -> (Arc<dyn ServerKeys>, String) {
        self.stop().await;
        let before = (
            std::mem::replace(&mut self.keys, keys),
            std::mem::replace(&mut self.database, database),
        );
        self.start().await;
        before
    }

    /// The server's authorities as PEM, as an operator puts them into a file.
    pub(super) async fn publish(&self, path: &Path) {
        let bundle = bundle_over(self.local()).await.unwrap();
        let pem =
            |authority: &X509Authority| pem::encode(&pem::Pem::new("CERTIFICATE", authority.der.to_vec()));
        let text: String = bundle.x509_authorities.iter().map(pem).collect();
        std::fs::write(path, text).unwrap();
    }

    pub(super) fn local(&self) -> Channel {
        connect_unix_lazy(&self.socket())
    }

    pub(super) async fn token(&self) -> String {
        let request = agent_pb::CreateJoinTokenRequest {
            ttl: 600,
            ..Default::default()
        };
        AgentClient::new(self.local())
            .create_join_token(request)
            .await
            .unwrap()
            .into_inner()
            .value
    }

    /// Creates entries below the agent: id, last part of the SPIFFE ID, uid of the caller.
    pub(super) async fn create(&self, agent: &SpiffeId, entries: &[(&str, &str, u8)]) {
        let entries = entries
            .iter()
            .map(|(id, name, uid)| entry_of(agent, id, name, *uid))
            .collect();
        let request = entry_pb::BatchCreateEntryRequest {
            entries,
            output_mask: None,
        };
        let answer = EntryClient::new(self.local())
            .batch_create_entry(request)
            .await
            .unwrap()
            .into_inner();
        assert!(
            answer
                .results
                .iter()
                .all(|result| result.status.as_ref().unwrap().code == 0),
            "{answer:?}"
        );
    }

    /// Replaces an entry.
    pub(super) async fn update(&self, agent: &SpiffeId, id: &str, name: &str, uid: u8) {
        let entries = vec![entry_of(agent, id, name, uid)];
        let request = entry_pb::BatchUpdateEntryRequest {
            entries,
            ..Default::default()
        };
        EntryClient::new(self.local())
            .batch_update_entry(request)
            .await
            .unwrap();
    }

    pub(super) async fn delete(&self, id: &str) {
        let request = entry_pb::BatchDeleteEntryRequest {
            ids: vec![id.to_owned()],
        };
        EntryClient::new(self.local())
            .batch_delete_entry(request)
            .await
            .unwrap();
    }

    pub(super) async fn ban(&self, agent: &SpiffeId) {
        let request = agent_pb::BanAgentRequest {
            id: Some(id_of(agent)),
        };
        AgentClient::new(self.local()).ban_agent(request).await.unwrap();
    }

    pub(super) async fn evict(&self, agent: &SpiffeId) {
        let request = agent_pb::DeleteAgentRequest {
            id: Some(id_of(agent)),
        };
        AgentClient::new(self.local())
            .delete_agent(request)
            .await
            .unwrap();
    }

    /// The version that the server was told by the agent.
    pub(super) async fn version_of(&self, agent: &SpiffeId) -> String {
        let request = agent_pb::GetAgentRequest {
            id: Some(id_of(agent)),
            output_mask: None,
        };
        AgentClient::new(self.local())
            .get_agent(request)
            .await
            .unwrap()
            .into_inner()
            .agent_version
    }

    /// A plan for an agent whose data is in that folder of the lab.
    pub(super) fn plan(&self, attestor: Arc<dyn NodeAttestor>, data: &str, keys: KeyManager) -> SyncPlan {
        SyncPlan {
            trust_domain: trust_domain(),
            server: ServerAddress {
                host: "127.0.0.1".to_owned(),
                port: self.port,
            },
            bundle: BundleSource::Insecure,
            rebootstrap: Rebootstrap::default(),
            attestor,
            keys: Arc::new(keys),
            state: Arc::new(StateFile::open(&self.folder.path().join(data)).unwrap()),
            interval: Duration::from_secs(5),
            whole_sets: false,
            key_type: KeyType::EcP256,
            key_exchange: KeyExchange::Any,
            limits: CacheLimits::default(),
            version: "1.2.3-test",
            journal: Journal::new(self.clock.clone()),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }
}

pub(super) fn id_of(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: id.trust_domain_name().to_owned(),
        path: id.path().to_owned(),
    }
}

fn entry_of(agent: &SpiffeId, id: &str, name: &str, uid: u8) -> types::Entry {
    types::Entry {
        id: id.to_owned(),
        spiffe_id: Some(types::Spiffeid {
            trust_domain: "example.org".to_owned(),
            path: format!("/{name}"),
        }),
        parent_id: Some(id_of(agent)),
        selectors: vec![types::Selector {
            r#type: "unix".to_owned(),
            value: format!("uid:{uid}"),
        }],
        ..types::Entry::default()
    }
}
