//! The deployment under load: the release binary's server, and an administrator at its socket.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use credence_proto::spire::api::server::agent::v1::CreateJoinTokenRequest;
use credence_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::entry::v1::BatchCreateEntryRequest;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::types::{Bundle, Entry, Selector, Spiffeid};
use credence_runtime::grpc::connect_unix;
use credence_test_support::{Lab, Process, Settings};
use tonic::transport::Channel;

use crate::meter::Meter;

/// Entries per call, as SPIRE's figure was measured.
pub(crate) const BATCH: usize = 500;

/// A running server.
pub(crate) struct Field {
    pub(crate) lab: Lab,
    pub(crate) server: Process,
    pub(crate) admin: Channel,
}

pub(crate) fn id(path: &str) -> Spiffeid {
    Spiffeid {
        trust_domain: "example.org".into(),
        path: path.into(),
    }
}

/// An entry below `parent` with two selectors.
pub(crate) fn entry(parent: &str, path: &str, uid: &str) -> Entry {
    Entry {
        spiffe_id: Some(id(path)),
        parent_id: Some(id(parent)),
        selectors: vec![
            Selector {
                r#type: "unix".into(),
                value: format!("uid:{uid}"),
            },
            Selector {
                r#type: "unix".into(),
                value: "gid:0".into(),
            },
        ],
        ..Entry::default()
    }
}

impl Field {
    /// Starts a server with quiet logs, without rate limits, and with SPIRE's defaults else.
    pub(crate) async fn start(binary: &Path) -> Result<Self> {
        Self::with(binary, "", "").await
    }

    /// The same with lines in the `server` block, and blocks beside it.
    pub(crate) async fn with(binary: &Path, server: &str, top: &str) -> Result<Self> {
        let settings = Settings {
            log_level: "WARN",
            discover_workload_path: false,
            server: format!("ratelimit {{ attestation = false signing = false }}\n{server}"),
            top: top.into(),
            ..Settings::default()
        };
        let lab = Lab::with(&binary.display().to_string(), settings);
        let server = lab.server_unready();
        let admin = ready(&lab).await?;
        Ok(Self { lab, server, admin })
    }

    /// Stops the server and starts it again; returns the time until it answered.
    pub(crate) async fn restart(&mut self) -> Result<Duration> {
        self.server.kill();
        let began = Instant::now();
        self.server = self.lab.server_unready();
        self.admin = ready(&self.lab).await?;
        Ok(began.elapsed())
    }

    pub(crate) fn meter(&self) -> Meter {
        Meter::of(self.server.pid())
    }

    pub(crate) async fn bundle(&self) -> Result<Bundle> {
        Ok(BundleClient::new(self.admin.clone())
            .get_bundle(GetBundleRequest::default())
            .await?
            .into_inner())
    }

    /// A token; with a `node`, its agent also answers to that identity.
    pub(crate) async fn token(&self, node: Option<&str>) -> Result<String> {
        let request = CreateJoinTokenRequest {
            ttl: 3600,
            agent_id: node.map(id),
            ..CreateJoinTokenRequest::default()
        };
        Ok(AgentClient::new(self.admin.clone())
            .create_join_token(request)
            .await?
            .into_inner()
            .value)
    }

    /// Creates `entries` in one call and returns their ids; every one must be new.
    pub(crate) async fn create(&self, entries: Vec<Entry>) -> Result<Vec<String>> {
        let request = BatchCreateEntryRequest {
            entries,
            output_mask: None,
        };
        let mut client = EntryClient::new(self.admin.clone()).max_decoding_message_size(64 << 20);
        let results = client.batch_create_entry(request).await?.into_inner().results;
        results
            .into_iter()
            .map(|result| {
                let status = result.status.context("no status")?;
                ensure!(status.code == 0, "{}", status.message);
                Ok(result.entry.context("no entry")?.id)
            })
            .collect()
    }

    /// Creates `count` entries that belong to no agent here.
    pub(crate) async fn fill(&self, from: usize, count: usize) -> Result<()> {
        for start in (from..from + count).step_by(BATCH) {
            let batch = (start..(start + BATCH).min(from + count))
                .map(|n| {
                    entry(
                        &format!("/elsewhere/{}", n / 100),
                        &format!("/filler/{n}"),
                        "4000000000",
                    )
                })
                .collect();
            self.create(batch).await?;
        }
        Ok(())
    }
}

/// Waits until the server answers on its socket.
async fn ready(lab: &Lab) -> Result<Channel> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Ok(channel) = connect_unix(&lab.server_socket()).await
            && BundleClient::new(channel.clone())
                .get_bundle(GetBundleRequest::default())
                .await
                .is_ok()
        {
            return Ok(channel);
        }
        ensure!(Instant::now() < deadline, "the server doesn't answer");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
