//! What `dev` asks of its own server and agent, as any client would: over their sockets.

use std::path::Path;

use anyhow::{Context, Result, bail};
use credence_identity::TrustDomain;
use credence_proto::spiffe_workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use credence_proto::spiffe_workload::{JwtsvidRequest, X509svidRequest, X509svidResponse};
use credence_proto::spire::api::server::agent::v1::CreateJoinTokenRequest;
use credence_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::entry::v1::BatchCreateEntryRequest;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::types::{Bundle, Entry, Selector, Spiffeid};
use credence_runtime::grpc::connect_unix;
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};

/// Long enough for a first look round, and a token that leaks is of no use: it is spent at once.
const TOKEN_TTL_SECONDS: i32 = 600;

/// The admin's side of the server.
pub(super) struct Admin {
    channel: Channel,
    trust_domain: TrustDomain,
}

impl Admin {
    pub(super) async fn connect(socket: &Path, trust_domain: TrustDomain) -> Result<Self> {
        let channel = connect_unix(socket).await.context("connect to the server")?;
        Ok(Self {
            channel,
            trust_domain,
        })
    }

    fn id(&self, path: &str) -> Spiffeid {
        Spiffeid {
            trust_domain: self.trust_domain.as_str().to_owned(),
            path: path.to_owned(),
        }
    }

    pub(super) async fn bundle(&self) -> Result<Bundle> {
        let answer = BundleClient::new(self.channel.clone())
            .get_bundle(GetBundleRequest::default())
            .await;
        Ok(answer.context("get the bundle")?.into_inner())
    }

    /// A token whose agent also answers to the node identity `node`.
    pub(super) async fn join_token(&self, node: &str) -> Result<String> {
        let request = CreateJoinTokenRequest {
            ttl: TOKEN_TTL_SECONDS,
            agent_id: Some(self.id(node)),
            ..CreateJoinTokenRequest::default()
        };
        let answer = AgentClient::new(self.channel.clone())
            .create_join_token(request)
            .await;
        Ok(answer.context("create a join token")?.into_inner().value)
    }

    /// Registers `path` below `node` for processes of user `uid`; one that is registered already is left as it is.
    pub(super) async fn register(&self, node: &str, path: &str, uid: u32) -> Result<()> {
        let entry = Entry {
            spiffe_id: Some(self.id(path)),
            parent_id: Some(self.id(node)),
            selectors: vec![Selector {
                r#type: "unix".into(),
                value: format!("uid:{uid}"),
            }],
            ..Entry::default()
        };
        let request = BatchCreateEntryRequest {
            entries: vec![entry],
            output_mask: None,
        };
        let answer = EntryClient::new(self.channel.clone())
            .batch_create_entry(request)
            .await;
        let results = answer.context("register the workload")?.into_inner().results;
        match results.first().and_then(|result| result.status.as_ref()) {
            Some(status) if [Code::Ok, Code::AlreadyExists].contains(&Code::from_i32(status.code)) => Ok(()),
            Some(status) => bail!("register the workload: {}", status.message),
            None => bail!("register the workload: the server answered nothing"),
        }
    }
}

/// The workload's side of the agent.
pub(super) struct Workload(SpiffeWorkloadApiClient<Channel>);

/// The header that SPIFFE demands, so that no browser can be talked into calling.
fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(
        "workload.spiffe.io",
        tonic::metadata::MetadataValue::from_static("true"),
    );
    request
}

impl Workload {
    pub(super) async fn connect(socket: &Path) -> Result<Self> {
        Ok(Self(SpiffeWorkloadApiClient::new(
            connect_unix(socket).await.context("connect to the agent")?,
        )))
    }

    /// The stream of X.509-SVIDs; `None` while the agent has no identity for us yet.
    pub(super) async fn x509_svids(&mut self) -> Result<Option<Streaming<X509svidResponse>>> {
        match self.0.fetch_x509svid(with_header(X509svidRequest {})).await {
            Ok(stream) => Ok(Some(stream.into_inner())),
            Err(status) if status.code() == Code::PermissionDenied => Ok(None),
            Err(status) => Err(status).context("fetch an X.509-SVID"),
        }
    }

    /// A JWT-SVID for `audience`.
    pub(super) async fn jwt_svid(&mut self, audience: &str) -> Result<String> {
        let request = JwtsvidRequest {
            audience: vec![audience.to_owned()],
            ..JwtsvidRequest::default()
        };
        let answer = self
            .0
            .fetch_jwtsvid(with_header(request))
            .await
            .context("fetch a JWT-SVID")?
            .into_inner();
        answer
            .svids
            .into_iter()
            .next()
            .map(|svid| svid.svid)
            .context("the agent answered without a JWT-SVID")
    }
}
