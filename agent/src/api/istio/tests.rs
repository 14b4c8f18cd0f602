//! Callers with SVIDs of a trust domain in memory, and a server that signs what it is told to.

mod listener;
mod refused;

use std::sync::Mutex;

use credence_crypto::csr::VerifiedCsr;
use credence_crypto::x509::{Certificate, X509Svid, verify_svid};
use credence_crypto::{PrivateKey, Signer as _};
use credence_identity::{Bundle, Entry, EntryId, X509Authority};
use credence_proto::istio::v1::auth::IstioCertificateRequest;
use credence_proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateService as _;
use credence_runtime::audit::AuditSink;
use credence_runtime::clock::{Clock as _, ManualClock};
use credence_runtime::grpc::{ConnectInfo, VerifiedPeer};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tonic::{Request, Status};

use super::asked::tests::{csr_of, id, impersonating, key};
use super::*;
use crate::api::lab::{Lab, Setup, TTL, trust_domain};
use crate::cache::testing::{authority, entry, sign};
use crate::sync::CallError;

/// What a server answers instead of signing as it should.
#[derive(Debug, Clone)]
enum Answer {
    Fails(CallError),
    Never,
    /// For another key.
    OtherKey,
    /// For another entry.
    Entry(Box<Entry>),
}

/// Signs for the entries that it has, and keeps what it was asked for.
#[derive(Debug)]
struct FakeServer {
    clock: Arc<ManualClock>,
    entries: Mutex<Vec<Entry>>,
    answer: Mutex<Option<Answer>>,
    asked: Mutex<Vec<EntryId>>,
}

impl SignCsr for FakeServer {
    fn sign(&self, id: EntryId, csr: Vec<u8>) -> BoxFuture<'static, Result<X509Svid, CallError>> {
        self.asked.lock().unwrap().push(id.clone());
        let csr = VerifiedCsr::from_der(&csr).unwrap();
        let now = self.clock.now();
        let entry = self
            .entries
            .lock()
            .unwrap()
            .iter()
            .find(|entry| entry.id == id)
            .cloned()
            .unwrap();
        let answer = self.answer.lock().unwrap().clone();
        async move {
            match answer {
                None => Ok(sign(&entry, csr.public_key(), now, TTL)),
                Some(Answer::Fails(error)) => Err(error),
                Some(Answer::Never) => std::future::pending().await,
                Some(Answer::OtherKey) => Ok(sign(&entry, key().public_key(), now, TTL)),
                Some(Answer::Entry(other)) => Ok(sign(&other, csr.public_key(), now, TTL)),
            }
        }
        .boxed()
    }
}

/// An agent that holds `web` and `db` of the namespace `shop`, and `ztunnel`, which may impersonate.
struct Mesh {
    lab: Lab,
    server: Arc<FakeServer>,
    service: CertificateService,
}

const WEB: &str = "/ns/shop/sa/web";
const DB: &str = "/ns/shop/sa/db";
const ZTUNNEL: &str = "/ns/istio-system/sa/ztunnel";

fn mesh_entry(path: &str) -> Entry {
    let name = path.rsplit('/').next().unwrap();
    Entry {
        spiffe_id: id(path),
        ..entry(name)
    }
}

fn root(der: &[u8]) -> X509Authority {
    X509Authority {
        der: der.into(),
        tainted: false,
    }
}

impl Mesh {
    fn new() -> Self {
        Self::of(Lab::new(Setup::default()))
    }

    fn of(lab: Lab) -> Self {
        let server = Arc::new(FakeServer {
            clock: lab.clock.clone(),
            entries: Mutex::default(),
            answer: Mutex::default(),
            asked: Mutex::default(),
        });
        let service = CertificateService::new(
            lab.ground.clone(),
            server.clone(),
            trust_domain("example.org"),
            [id(ZTUNNEL)].into(),
        );
        let mesh = Self { lab, server, service };
        mesh.trust(vec![root(&authority())]);
        for path in [WEB, DB, ZTUNNEL] {
            mesh.register(mesh_entry(path));
        }
        mesh
    }

    fn trust(&self, x509_authorities: Vec<X509Authority>) {
        self.lab.put_bundle(Bundle {
            x509_authorities,
            ..Bundle::empty(trust_domain("example.org"))
        });
    }

    fn register(&self, entry: Entry) {
        self.server.entries.lock().unwrap().push(entry.clone());
        self.lab.put(entry);
    }

    /// The call of a caller of that path whose SVID ends in an hour.
    fn request(&self, caller: &str, request: IstioCertificateRequest) -> Request<IstioCertificateRequest> {
        let mut request = Request::new(request);
        request.extensions_mut().insert(ConnectInfo {
            remote_addr: "192.0.2.7:4711".parse().unwrap(),
            peer: Some(VerifiedPeer {
                spiffe_id: id(caller),
                serial: "1".into(),
                not_after: self.lab.clock.now() + TTL,
            }),
        });
        request
    }

    async fn ask(&self, caller: &str, request: IstioCertificateRequest) -> Result<Vec<String>, Status> {
        let request = self.request(caller, request);
        let answer = self.service.create_certificate(request).await?;
        Ok(answer.into_inner().cert_chain)
    }

    fn asked(&self) -> Vec<String> {
        let asked = self.server.asked.lock().unwrap();
        asked.iter().map(ToString::to_string).collect()
    }
}

/// What ztunnel sends for `path`.
fn by_ztunnel(key: &PrivateKey, path: &str) -> IstioCertificateRequest {
    IstioCertificateRequest {
        csr: csr_of(key, Some(&id(path))),
        validity_duration: 86_400,
        metadata: impersonating(&id(path)),
    }
}

/// What istio-agent sends for `path`.
fn by_istio_agent(key: &PrivateKey, path: &str) -> IstioCertificateRequest {
    IstioCertificateRequest {
        metadata: None,
        ..by_ztunnel(key, path)
    }
}

/// Reads a chain as Istio does: the last element is all roots, the others one certificate each.
fn read(chain: &[String]) -> (Vec<Arc<[u8]>>, Vec<Certificate>) {
    let (roots, rest) = chain.split_last().unwrap();
    let one = |pem: &String| match Certificate::parse_pem(pem).unwrap().as_slice() {
        [one] => one.der().clone(),
        several => panic!("{} certificates in one element", several.len()),
    };
    (
        rest.iter().map(one).collect(),
        Certificate::parse_pem(roots).unwrap(),
    )
}

#[tokio::test]
async fn an_impersonator_and_the_owner_get_certificates_for_keys_that_they_keep() {
    let mesh = Mesh::new();
    for (caller, path) in [(ZTUNNEL, WEB), (ZTUNNEL, ZTUNNEL), (WEB, WEB)] {
        let key = key();
        for request in [by_ztunnel(&key, path), by_istio_agent(&key, path)] {
            let chain = mesh.ask(caller, request).await.unwrap();
            assert!(
                chain
                    .iter()
                    .all(|pem| pem.ends_with("-----END CERTIFICATE-----\n"))
            );
            let (certificates, roots) = read(&chain);
            let roots: Vec<_> = roots.iter().map(|certificate| root(certificate.der())).collect();
            let verified = verify_svid(&certificates, &roots, mesh.lab.clock.now()).unwrap();
            assert_eq!(
                (verified.id, verified.leaf.public_key()),
                (id(path), key.public_key())
            );
        }
    }
    assert_eq!(mesh.asked(), ["web", "web", "ztunnel", "ztunnel", "web", "web"]);
}

/// Peers may have certificates of any of the authorities; and some clients read one root only.
#[tokio::test]
async fn all_roots_are_in_the_last_element_the_one_of_the_leaf_first_and_no_ended_one() {
    let mesh = Mesh::new();
    let other = |from: u64, to: u64| {
        let signer = Arc::new(key());
        let (start, hour) = (crate::cache::testing::START, Duration::from_secs(3600));
        let subject = credence_crypto::x509::CaSubject::default();
        let (from, to) = (
            start - hour * 100 + hour * from.try_into().unwrap(),
            start - hour * 100 + hour * to.try_into().unwrap(),
        );
        let ca = credence_crypto::x509::X509Ca::self_sign(
            signer,
            &trust_domain("example.org"),
            &subject,
            from,
            to,
        );
        ca.unwrap().certificate().der().clone()
    };
    let (next, ended) = (other(99, 200), other(0, 99));
    mesh.trust(vec![
        root(&ended),
        root(&next),
        root(b"nonsense"),
        root(&authority()),
    ]);
    let chain = mesh.ask(WEB, by_istio_agent(&key(), WEB)).await.unwrap();
    let (_, roots) = read(&chain);
    let ders: Vec<_> = roots.iter().map(|root| root.der().clone()).collect();
    assert_eq!(ders, [authority(), next]);
}

#[tokio::test]
async fn each_certificate_is_in_the_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.json");
    let mesh = Mesh::of(Lab::new(Setup {
        audit: Some(AuditSink::File(path.clone())),
        ..Setup::default()
    }));
    let chain = mesh.ask(ZTUNNEL, by_ztunnel(&key(), WEB)).await.unwrap();
    mesh.ask(WEB, by_ztunnel(&key(), DB)).await.unwrap_err();
    let read_log = || std::fs::read_to_string(&path).unwrap();
    while read_log().lines().count() < 1 {
        tokio::task::yield_now().await;
    }
    let event: Value = serde_json::from_str(&read_log()).unwrap();
    let leaf = Certificate::parse_pem(&chain[0]).unwrap()[0].serial();
    for (field, value) in [
        ("msg", "SVID issued"),
        ("service", "IstioCertificateService"),
        ("caller_id", "spiffe://example.org/ns/istio-system/sa/ztunnel"),
        ("caller_addr", "192.0.2.7:4711"),
        ("spiffe_id", "spiffe://example.org/ns/shop/sa/web"),
        ("entry_id", "web"),
        ("serial_number", &leaf),
    ] {
        assert_eq!(event[field], value, "{field}: {event}");
    }
}
