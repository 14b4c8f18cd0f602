//! A node full of Envoys and workloads: what their open streams cost, and how soon a new bundle reaches them all.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use credence_crypto::x509::{CaSubject, X509Ca};
use credence_crypto::{KeyType, PrivateKey};
use credence_identity::{Timestamp, TrustDomain};
use credence_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use credence_proto::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use credence_proto::spire::api::server::bundle::v1::BatchSetFederatedBundleRequest;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::types::{Bundle, Entry, X509Certificate};
use credence_runtime::grpc::connect_unix;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::Arguments;
use crate::agent::{nix_uid, x509_stream};
use crate::field::{Field, entry};
use crate::latency::Latencies;
use crate::meter::Meter;
use crate::report::Report;

const ENVOYS: usize = 200;
const WORKLOADS: usize = 1_000;
const ROUNDS: usize = 20;
const FOREIGN: &str = "partner.test";
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// When something came.
type Arrivals = mpsc::Sender<Instant>;

pub(crate) async fn measure(binary: &Path, _: &Arguments, report: &mut Report) -> Result<()> {
    let field = Field::start(binary).await?;
    let agent = field.lab.agent("full");
    let meter = Meter::of(agent.pid());
    let socket = field.lab.agent_socket("full");
    set_bundle(&field).await?;
    field
        .create(vec![Entry {
            federates_with: vec![FOREIGN.to_owned()],
            ..entry("/node/full", "/full", &nix_uid())
        }])
        .await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = meter.resident()?;

    let (arrivals, mut arrived) = mpsc::channel(ENVOYS + WORKLOADS);
    for number in 0..ENVOYS {
        open_envoy(&socket, number % 2 == 0, &arrivals).await?;
    }
    all(&mut arrived, ENVOYS).await?;
    let with_envoys = meter.resident()?;
    for _ in 0..WORKLOADS {
        let stream = x509_stream(connect_unix(&socket).await?).await?;
        watch(stream, arrivals.clone());
    }
    all(&mut arrived, WORKLOADS).await?;
    report.row(
        format!("Agent memory: idle, {ENVOYS} SDS streams, and {WORKLOADS} Workload API streams beside them"),
        format!("{idle:.1} / {with_envoys:.1} / {:.1} MiB", meter.resident()?),
        "-",
    );

    let (mut each, mut last) = (Latencies::default(), Latencies::default());
    let mark = meter.mark()?;
    for _ in 0..ROUNDS {
        // Nothing of the round before is to be under way.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        set_bundle(&field).await?;
        let came = all(&mut arrived, ENVOYS + WORKLOADS).await?;
        let mut slowest = Duration::ZERO;
        for at in came {
            let took = at.duration_since(began);
            slowest = slowest.max(took);
            each.push(took);
        }
        last.push(slowest);
    }
    let used = meter.since(mark)?;
    let messages = u64::try_from(ROUNDS * (ENVOYS + WORKLOADS))?;
    report.row(
        format!(
            "One new bundle to all of those {} streams, each",
            ENVOYS + WORKLOADS
        ),
        format!("{}; {:.0} µs CPU", each.summary(), used.micros_per(messages)),
        "< 1 s",
    );
    report.row("The last of them", last.summary(), "< 1 s");
    report.row(
        "Agent memory after that",
        format!("{:.1} MiB, peak {:.1}", meter.resident()?, meter.peak()?),
        "-",
    );
    Ok(())
}

/// A bundle of the foreign trust domain with an authority that it hadn't.
async fn set_bundle(field: &Field) -> Result<()> {
    let name = TrustDomain::parse(FOREIGN)?;
    let key = Arc::new(PrivateKey::generate(KeyType::EcP256)?);
    let now = Timestamp::from_unix_seconds(1_700_000_000);
    let end = now + Duration::from_secs(10 * 365 * 86_400);
    let ca = X509Ca::self_sign(key, &name, &CaSubject::default(), now, end)?;
    let bundle = Bundle {
        trust_domain: FOREIGN.to_owned(),
        x509_authorities: vec![X509Certificate {
            asn1: ca.certificate().der().to_vec(),
            ..X509Certificate::default()
        }],
        ..Bundle::default()
    };
    let request = BatchSetFederatedBundleRequest {
        bundle: vec![bundle],
        output_mask: None,
    };
    let results = BundleClient::new(field.admin.clone())
        .batch_set_federated_bundle(request)
        .await?
        .into_inner()
        .results;
    let status = results.into_iter().next().and_then(|result| result.status);
    ensure!(
        status.is_some_and(|status| status.code == 0),
        "the bundle wasn't set"
    );
    Ok(())
}

/// One connection with one stream, as Envoy has one for each secret, and the acknowledgements that it sends.
async fn open_envoy(socket: &Path, whole: bool, arrivals: &Arrivals) -> Result<()> {
    let mut client = SecretDiscoveryServiceClient::new(connect_unix(socket).await?);
    if whole {
        let (requests, received) = mpsc::channel(4);
        let ask = |version_info: String, response_nonce: String| DiscoveryRequest {
            version_info,
            response_nonce,
            resource_names: vec!["ALL".to_owned()],
            type_url: SECRET.to_owned(),
            ..DiscoveryRequest::default()
        };
        requests.send(ask(String::new(), String::new())).await?;
        let answers = client
            .stream_secrets(ReceiverStream::new(received))
            .await?
            .into_inner();
        let acknowledged = answers.then(move |answer| {
            let requests = requests.clone();
            async move {
                if let Ok(answer) = &answer {
                    // The agent is gone if nobody takes it.
                    drop(
                        requests
                            .send(ask(answer.version_info.clone(), answer.nonce.clone()))
                            .await,
                    );
                }
                answer
            }
        });
        watch(acknowledged, arrivals.clone());
    } else {
        let (requests, received) = mpsc::channel(4);
        let ask = |names: Vec<String>, response_nonce: String| DeltaDiscoveryRequest {
            resource_names_subscribe: names,
            response_nonce,
            type_url: SECRET.to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(ask(vec!["ALL".to_owned()], String::new())).await?;
        let answers = client
            .delta_secrets(ReceiverStream::new(received))
            .await?
            .into_inner();
        let acknowledged = answers.then(move |answer| {
            let requests = requests.clone();
            async move {
                if let Ok(answer) = &answer {
                    drop(requests.send(ask(Vec::new(), answer.nonce.clone())).await);
                }
                answer
            }
        });
        watch(acknowledged, arrivals.clone());
    }
    Ok(())
}

/// Tells of each message.
fn watch<M: Send + 'static>(
    messages: impl Stream<Item = Result<M, tonic::Status>> + Send + 'static,
    arrivals: Arrivals,
) {
    tokio::spawn(async move {
        let mut messages = Box::pin(messages);
        while let Some(Ok(_)) = messages.next().await {
            if arrivals.send(Instant::now()).await.is_err() {
                return;
            }
        }
    });
}

async fn all(arrived: &mut mpsc::Receiver<Instant>, count: usize) -> Result<Vec<Instant>> {
    let mut came = Vec::with_capacity(count);
    while came.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(30), arrived.recv()).await;
        came.push(next.context("a stream is silent")?.context("no stream is left")?);
    }
    Ok(came)
}
