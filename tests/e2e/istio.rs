//! Istio's certificate signing service on a real agent: who gets a certificate from it, and who doesn't.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::bundle::x509_from_pem;
use credence_crypto::x509::{Certificate, X509SvidKey, verify_svid};
use credence_crypto::{KeyType, PrivateKey, Signer as _, csr};
use credence_identity::{Bundle, SpiffeId, TrustDomain};
use credence_proto::istio::v1::auth::IstioCertificateRequest;
use credence_proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use credence_runtime::clock::{Clock as _, SystemClock};
use credence_runtime::grpc::{RequestId, connect_tls};
use credence_runtime::tls::{KeyExchange, client_config};
use credence_test_support::{Lab, Process, counterparts, wait_until};
use tokio::sync::watch;
use tonic::{Code, Request, Status};

use crate::endpoints::minted;
use crate::{CREDENCE, cache, said};

const LISTENER: &str = "ns/istio-system/sa/credence-agent";
const HOST: &str = "credence-agent.istio-system.svc";
const ZTUNNEL: &str = "/ns/istio-system/sa/ztunnel";
const WEB: &str = "/ns/shop/sa/web";
/// Held by another node.
const FAR: &str = "/ns/shop/sa/far";

struct Mesh {
    lab: Lab,
    port: u16,
    agent: Process,
    _server: Process,
}

impl Mesh {
    /// A server, and an agent that serves Istio's clients.
    fn new() -> Self {
        let lab = Lab::new(CREDENCE);
        let server = lab.server();
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.expect("find a free port").port();
        let token = lab.ok(&["token", "generate", "-spiffeID", "spiffe://example.org/node/a"]);
        let token = token.split_whitespace().nth(1).expect("a token");
        let block = format!(
            "join_token = \"{token}\"\n  audit_log_enabled = true\n  istio {{\n    bind_port = {port}\n    \
             spiffe_id = \"spiffe://example.org/{LISTENER}\"\n    impersonators = [\"istio-system/ztunnel\"]\n  }}"
        );
        drop(lab.agent_config("a", "NodeAttestor \"join_token\" { plugin_data {} }", &block));
        lab.entry("a", LISTENER, &["-dns", HOST]);
        lab.entry("a", WEB.trim_start_matches('/'), &["-x509SVIDTTL", "600"]);
        lab.entry("a", ZTUNNEL.trim_start_matches('/'), &[]);
        lab.entry("b", FAR.trim_start_matches('/'), &[]);
        let mut agent = lab.agent_again("a");
        agent.wait_for_line("Starting agent APIs", 1);
        Self {
            lab,
            port,
            agent,
            _server: server,
        }
    }

    /// What the caller is answered: the identity of the certificate that it gets, which verifies.
    async fn ask(&self, caller: Option<Arc<X509SvidKey>>, ask: Ask<'_>) -> Result<Certificate, Status> {
        let key = PrivateKey::generate(KeyType::EcP256).expect("a key");
        let named = SpiffeId::parse(ask.csr).expect("a SPIFFE ID");
        let der = csr::create(&key, Some(&named), &[]).expect("a CSR");
        let field = |text: &str| prost_types::Value {
            kind: Some(prost_types::value::Kind::StringValue(text.to_owned())),
        };
        let metadata = ask.impersonated.map(|id| prost_types::Struct {
            fields: [("ImpersonatedIdentity".to_owned(), field(id))].into(),
        });
        let mut request = Request::new(IstioCertificateRequest {
            csr: pem(&der),
            validity_duration: 86_400,
            metadata,
        });
        if let Some(token) = ask.token {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.metadata_mut().insert("authorization", value);
        }
        let channel = connect_tls("127.0.0.1", self.port, self.client_config(caller)).await;
        let channel = channel.map_err(|error| Status::unknown(format!("no connection: {error:?}")))?;
        let mut client = IstioCertificateServiceClient::new(channel);
        let chain = client.create_certificate(request).await?.into_inner().cert_chain;
        let (roots, rest) = chain.split_last().expect("a chain");
        let roots = x509_from_pem(roots).expect("roots");
        let rest: Vec<_> = rest
            .iter()
            .flat_map(|pem| x509_from_pem(pem).expect("a certificate"))
            .collect();
        let ders: Vec<_> = rest.into_iter().map(|certificate| certificate.der).collect();
        let verified = verify_svid(&ders, &roots, SystemClock.now()).expect("a chain that verifies");
        assert_eq!(verified.leaf.public_key(), key.public_key());
        Ok(verified.leaf)
    }

    fn client_config(&self, own: Option<Arc<X509SvidKey>>) -> Arc<rustls::ClientConfig> {
        let domain = TrustDomain::parse("example.org").expect("a name");
        let bundle = Arc::new(Bundle {
            x509_authorities: x509_from_pem(&self.lab.ok(&["bundle", "show"])).expect("a bundle"),
            ..Bundle::empty(domain)
        });
        let config = client_config(
            own.map(|svid| watch::channel(svid).1),
            SpiffeId::parse(&format!("spiffe://example.org/{LISTENER}")).expect("a SPIFFE ID"),
            Arc::new(move |name| (*name == bundle.trust_domain).then(|| bundle.clone())),
            Arc::new(SystemClock),
            KeyExchange::Any,
        );
        config.expect("a TLS configuration")
    }

    /// What `explain request` says of a refusal.
    fn explained(&self, refused: &Status) -> String {
        let id = RequestId::of(refused).expect("a request id").to_string();
        let output = Command::new(CREDENCE)
            .args(["explain", "request", &id, "-config"])
            .arg(self.lab.dir().join("a/agent.conf"))
            .output()
            .expect("run the command line");
        said(&output)
    }
}

/// A request: what the CSR names, and what stands beside it.
#[derive(Clone, Copy)]
struct Ask<'a> {
    csr: &'a str,
    impersonated: Option<&'a str>,
    token: Option<&'a str>,
}

/// As ztunnel asks.
fn impersonating(id: &str) -> Ask<'_> {
    Ask {
        csr: id,
        impersonated: Some(id),
        token: None,
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
}

fn id(path: &str) -> String {
    format!("spiffe://example.org{path}")
}

#[test]
fn impersonators_and_owners_get_certificates_and_everybody_else_is_refused() {
    let mesh = Mesh::new();
    let (ztunnel, web) = (minted(&mesh.lab, ZTUNNEL), minted(&mesh.lab, WEB));
    let (web_id, far_id) = (id(WEB), id(FAR));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        // The listener has its SVID a moment after the socket is there.
        let began = std::time::Instant::now();
        let leaf = loop {
            match mesh.ask(Some(ztunnel.clone()), impersonating(&web_id)).await {
                Ok(leaf) => break leaf,
                Err(status) => assert!(began.elapsed() < Duration::from_secs(10), "{status:?}"),
            }
        };
        assert_eq!(leaf.uri_sans(), [web_id.as_str()]);
        // The server decides on the lifetime, by the entry.
        let left = SystemClock.now().until(leaf.not_after());
        assert!(left <= Duration::from_secs(600), "{left:?}");
        let own = Ask {
            impersonated: None,
            ..impersonating(&web_id)
        };
        assert_eq!(
            mesh.ask(Some(web.clone()), own)
                .await
                .expect("its own")
                .uri_sans(),
            [web_id.as_str()]
        );

        let ztunnel_id = id(ZTUNNEL);
        let unlisted = mesh
            .ask(Some(web.clone()), impersonating(&ztunnel_id))
            .await
            .expect_err("unlisted");
        assert_eq!(unlisted.code(), Code::PermissionDenied);
        assert!(
            mesh.explained(&unlisted)
                .contains("add its SPIFFE ID to `impersonators`"),
            "{}",
            mesh.explained(&unlisted)
        );
        let elsewhere = mesh
            .ask(Some(ztunnel.clone()), impersonating(&far_id))
            .await
            .expect_err("of another node");
        assert_eq!(elsewhere.code(), Code::PermissionDenied);
        assert!(mesh.explained(&elsewhere).contains(&far_id));
        let foreign = mesh
            .ask(
                Some(ztunnel.clone()),
                impersonating("spiffe://other.org/ns/shop/sa/web"),
            )
            .await;
        assert_eq!(foreign.expect_err("a foreign ID").code(), Code::InvalidArgument);
        let other = Ask {
            csr: &ztunnel_id,
            ..impersonating(&web_id)
        };
        let other = mesh
            .ask(Some(ztunnel.clone()), other)
            .await
            .expect_err("a CSR for another ID");
        assert_eq!(other.code(), Code::InvalidArgument);
        let bearer = Ask {
            token: Some("eyJhbGciOiJSUzI1NiJ9.e30.c2ln"),
            ..impersonating(&web_id)
        };
        let bearer = mesh
            .ask(Some(ztunnel.clone()), bearer)
            .await
            .expect_err("a bearer token");
        assert_eq!(bearer.code(), Code::Unauthenticated);
        assert!(
            bearer.message().contains("bearer tokens are not accepted"),
            "{bearer:?}"
        );
        assert!(
            mesh.ask(None, impersonating(&web_id)).await.is_err(),
            "no certificate"
        );
        assert!(
            mesh.ask(Some(expired(&mesh.lab)), impersonating(&web_id))
                .await
                .is_err(),
            "an expired one"
        );
    });
    let log = mesh.agent.output();
    assert_eq!(log.matches("Certificate issued").count(), 2, "{log}");
    let audited = log
        .lines()
        .filter(|line| line.contains("SVID issued") && line.contains(WEB));
    assert_eq!(audited.count(), 2);
    assert!(!log.contains("eyJhbGci"));
}

/// An SVID of ztunnel that has just ended.
fn expired(lab: &Lab) -> Arc<X509SvidKey> {
    let folder = tempfile::tempdir().expect("make a folder");
    let path = folder.path().display().to_string();
    drop(lab.ok(&[
        "x509",
        "mint",
        "-spiffeID",
        &id(ZTUNNEL),
        "-ttl",
        "1s",
        "-write",
        &path,
    ]));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("read a file");
    let chain: Vec<_> = x509_from_pem(&read("svid.pem"))
        .expect("certificates")
        .into_iter()
        .map(|c| c.der)
        .collect();
    let svid = credence_crypto::x509::X509Svid::from_der_chain(&chain).expect("an SVID");
    let key = PrivateKey::from_pem(&read("key.pem")).expect("a key");
    let end = svid.not_after;
    wait_until("the SVID ends", Duration::from_secs(5), || {
        (SystemClock.now() > end).then_some(())
    });
    Arc::new(X509SvidKey::new(svid, key).expect("the SVID's key"))
}

/// Istio's own generated client, gRPC for Go and Go's verification, as in istio-agent.
#[test]
fn the_client_of_istios_api_gets_a_certificate_by_host_name() {
    let Some(program) = counterparts::istio_api(cache()) else {
        return;
    };
    let mesh = Mesh::new();
    let roots = mesh.lab.dir().join("roots.pem");
    fs::write(&roots, mesh.lab.ok(&["bundle", "show"])).expect("write the roots");
    let ask = |caller: Option<&Path>, name: &str, more: &[&str]| -> Output {
        let mut command = Command::new(&program);
        command.args([
            "-address",
            &format!("127.0.0.1:{}", mesh.port),
            "-name",
            name,
            "-id",
            &id(WEB),
            "-roots",
        ]);
        command.arg(&roots).args(more);
        if let Some(folder) = caller {
            command
                .arg("-cert")
                .arg(folder.join("svid.pem"))
                .arg("-key")
                .arg(folder.join("key.pem"));
        }
        command.output().expect("run the client")
    };
    let mint = |name: &str, path: &str| -> PathBuf {
        let folder = mesh.lab.dir().join(name);
        fs::create_dir(&folder).expect("make a folder");
        let written = folder.display().to_string();
        drop(
            mesh.lab
                .ok(&["x509", "mint", "-spiffeID", &id(path), "-write", &written]),
        );
        folder
    };
    let (ztunnel, other) = (mint("ztunnel", ZTUNNEL), mint("other", "/ns/shop/sa/other"));
    let got = wait_until("the listener has its SVID", Duration::from_secs(10), || {
        let got = ask(Some(&ztunnel), HOST, &[]);
        got.status.success().then_some(got)
    });
    assert!(
        String::from_utf8_lossy(&got.stdout).starts_with(&id(WEB)),
        "{}",
        said(&got)
    );
    let refused = |output: &Output, text: &str| {
        assert!(
            !output.status.success() && said(output).contains(text),
            "{}",
            said(output)
        );
    };
    refused(
        &ask(Some(&other), HOST, &[]),
        "PermissionDenied: the caller may ask for its own identity only",
    );
    refused(
        &ask(Some(&ztunnel), HOST, &["-token", "x"]),
        "Unauthenticated: bearer tokens are not accepted",
    );
    refused(&ask(None, HOST, &[]), "Unavailable: ");
    refused(
        &ask(Some(&ztunnel), "istiod.istio-system.svc", &[]),
        "not istiod.istio-system.svc",
    );
    counterparts::record("istio.io/api", "ran");
}
