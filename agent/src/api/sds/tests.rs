mod fetched;
mod streams;
mod vectors;

use std::collections::BTreeMap;
use std::time::Duration;

use credence_crypto::PrivateKey;
use credence_crypto::bundle::x509_to_pem;
use credence_crypto::x509::{Certificate, X509Svid, X509SvidKey};
use credence_identity::{Bundle, Entry, SpiffeId};
use credence_proto::envoy::config::core::v3::{DataSource, data_source::Specifier};
use credence_proto::envoy::extensions::transport_sockets::tls::v3::{
    Secret as SecretMessage, SpiffeCertValidatorConfig, secret::Type,
};
use credence_proto::envoy::service::discovery::v3::Resource;
use credence_proto::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use credence_proto::google::rpc;
use prost::Message as _;
use prost_types::Any;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::api::lab::*;

const SOON: Duration = Duration::from_secs(1);
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const OWN: &str = "spiffe://example.org";
const WORKLOAD: &str = "spiffe://example.org/workload";
const SECOND: &str = "spiffe://example.org/second";
const FOREIGN: &str = "spiffe://otherdomain.test";

/// The entry of that number, which is its id: the first is the default.
fn numbered(number: u8, id: &str) -> Entry {
    Entry {
        spiffe_id: SpiffeId::parse(id).unwrap(),
        ..own_entry(&number.to_string())
    }
}

/// A caller with these identities, the first of which federates with these.
fn lab_with(setup: Setup, identities: &[&str], federated: &[&str]) -> Lab {
    let lab = Lab::new(setup);
    for name in federated {
        lab.put_bundle(foreign_bundle(name, &TokenKey::new("foreign")));
    }
    for (number, id) in (1..).zip(identities) {
        let mut entry = numbered(number, id);
        entry.federates_with = federated.iter().map(|name| trust_domain(name)).collect();
        lab.put(entry.clone());
        lab.sign(entry);
    }
    lab
}

/// A caller with the identity [`WORKLOAD`].
fn lab() -> Lab {
    lab_with(Setup::default(), &[WORKLOAD], &[])
}

async fn envoy(lab: &Lab) -> SecretDiscoveryServiceClient<Channel> {
    SecretDiscoveryServiceClient::new(lab.channel().await)
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn request(names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: texts(names),
        type_url: SECRET.to_owned(),
        ..DiscoveryRequest::default()
    }
}

fn bad() -> Option<rpc::Status> {
    Some(rpc::Status {
        code: 13,
        message: "bad".to_owned(),
        details: Vec::new(),
    })
}

/// A stream of StreamSecrets.
struct Stream {
    requests: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
}

impl Stream {
    async fn open(lab: &Lab) -> Self {
        let (requests, received) = mpsc::channel(8);
        let answers = envoy(lab)
            .await
            .stream_secrets(ReceiverStream::new(received))
            .await;
        Self {
            requests,
            answers: answers.unwrap().into_inner(),
        }
    }

    async fn send(&self, request: DiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    /// The next answer, if there is one soon.
    async fn next(&mut self) -> Option<DiscoveryResponse> {
        let next = timeout(SOON, self.answers.message()).await.ok()?;
        Some(next.unwrap().unwrap())
    }

    async fn end(&mut self) -> Option<Code> {
        let end = timeout(SOON, self.answers.message()).await.ok()?;
        end.map(|answer| assert!(answer.is_none(), "an answer"))
            .err()
            .map(|end| end.code())
    }

    /// Asks for these names first, and takes the answer over.
    async fn ask(&mut self, names: &[&str]) -> DiscoveryResponse {
        self.send(request(names)).await;
        let answer = self.next().await.unwrap();
        self.send(ack(&answer, names)).await;
        answer
    }
}

fn ack(answer: &DiscoveryResponse, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: answer.version_info.clone(),
        response_nonce: answer.nonce.clone(),
        ..request(names)
    }
}

fn secret(any: &Any) -> SecretMessage {
    assert_eq!(any.type_url, SECRET);
    SecretMessage::decode(any.value.as_slice()).unwrap()
}

fn names_of(answer: &DiscoveryResponse) -> Vec<String> {
    answer.resources.iter().map(|any| secret(any).name).collect()
}

fn bytes(source: Option<DataSource>) -> String {
    match source.unwrap().specifier.unwrap() {
        Specifier::InlineBytes(bytes) => String::from_utf8(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The SVID of a secret, whose key must fit.
fn svid_of(any: &Any) -> X509SvidKey {
    let Some(Type::TlsCertificate(certificate)) = secret(any).r#type else {
        panic!("no certificate");
    };
    let chain = Certificate::parse_pem(&bytes(certificate.certificate_chain)).unwrap();
    let chain: Vec<_> = chain
        .iter()
        .map(|certificate| certificate.der().clone())
        .collect();
    let key = PrivateKey::from_pem(&bytes(certificate.private_key)).unwrap();
    X509SvidKey::new(X509Svid::from_der_chain(&chain).unwrap(), key).unwrap()
}

/// The trust domains of a context in the form for the SPIFFE validator, with their PEM.
fn validator_of(any: &Any) -> BTreeMap<String, String> {
    let Some(Type::ValidationContext(context)) = secret(any).r#type else {
        panic!("no context");
    };
    assert!(context.trusted_ca.is_none());
    let custom = context.custom_validator_config.unwrap();
    assert_eq!(custom.name, "envoy.tls.cert_validator.spiffe");
    let config = custom.typed_config.unwrap();
    let name = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
    assert_eq!(config.type_url, name);
    let config = SpiffeCertValidatorConfig::decode(config.value.as_slice()).unwrap();
    let domains = config.trust_domains.into_iter();
    domains
        .map(|domain| (domain.name, bytes(domain.trust_bundle)))
        .collect()
}

fn trusted_ca_of(any: &Any) -> String {
    let Some(Type::ValidationContext(context)) = secret(any).r#type else {
        panic!("no context");
    };
    assert!(context.custom_validator_config.is_none());
    bytes(context.trusted_ca)
}
