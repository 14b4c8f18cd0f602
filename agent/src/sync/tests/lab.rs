//! A real server in this process, and what its operator does.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use credence_identity::SpiffeId;
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
use crate::cache::testing::{START, trust_domain};

/// A server that can be stopped and started again with its keys and data.
pub(super) struct Lab {
    pub(super) clock: Arc<ManualClock>,
    pub(super) folder: TempDir,
    pub(super) port: u16,
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

    async fn set_up(x509pop: Option<X509PopConfig>, telemetry: TelemetryConfig) -> Self {
        let mut lab = Self {
            clock: Arc::new(ManualClock::new(START)),
            folder: tempfile::tempdir().unwrap(),
            port: 0,
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
            database: SqliteOptions::new(self.folder.path().join("db.sqlite3")),
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
