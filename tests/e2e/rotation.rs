//! A workload pair talks mTLS through at least 100 rotations without one failed handshake.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use credence_test_support::{Lab, counterparts};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use spiffe::x509_source::SvidPicker;
use spiffe::{X509Context, X509Source, X509SourceBuilder, X509Svid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::CREDENCE;

/// Rotations of each side that the pair must live through.
const ROTATIONS: usize = 100;

struct ById(&'static str);

impl SvidPicker for ById {
    fn pick_svid(&self, svids: &[Arc<X509Svid>]) -> Option<usize> {
        svids
            .iter()
            .position(|svid| svid.spiffe_id().to_string() == self.0)
    }
}

async fn source(lab: &Lab, id: &'static str) -> X509Source {
    X509SourceBuilder::new()
        .endpoint(lab.workload_api("node"))
        .picker(ById(id))
        .build()
        .await
        .expect("the source starts")
}

fn chain(svid: &X509Svid) -> Vec<CertificateDer<'static>> {
    svid.cert_chain()
        .iter()
        .map(|certificate| certificate.as_bytes().to_vec().into())
        .collect()
}

fn key(svid: &X509Svid) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(svid.private_key().as_bytes().to_vec()).expect("a PKCS#8 key")
}

fn roots(context: &X509Context, svid: &X509Svid) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let bundle = context
        .bundle_set()
        .get(svid.spiffe_id().trust_domain())
        .expect("a bundle");
    for authority in bundle.authorities() {
        roots
            .add(authority.as_bytes().to_vec().into())
            .expect("an authority");
    }
    roots
}

/// One call of `client` to `server`, each with what it holds right now; returns both certificates.
async fn call(server: &X509Source, client: &X509Source, listener: &TcpListener) -> [Vec<u8>; 2] {
    let (context, svid) = (
        server.x509_context().expect("context"),
        server.svid().expect("an SVID"),
    );
    let verifier = WebPkiClientVerifier::builder(roots(&context, &svid).into())
        .build()
        .expect("a verifier");
    let accepting = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(&svid), key(&svid))
        .expect("a server configuration");
    let server_leaf = svid.leaf().as_bytes().to_vec();
    let serve = async {
        let (socket, _) = listener.accept().await.expect("accept");
        let mut stream = TlsAcceptor::from(Arc::new(accepting))
            .accept(socket)
            .await
            .expect("server's handshake");
        let mut question = [0; 4];
        stream.read_exact(&mut question).await.expect("read the question");
        stream.write_all(&question).await.expect("write the answer");
        stream.shutdown().await.expect("close");
    };
    let (context, svid) = (
        client.x509_context().expect("context"),
        client.svid().expect("an SVID"),
    );
    let calling = ClientConfig::builder()
        .with_root_certificates(roots(&context, &svid))
        .with_client_auth_cert(chain(&svid), key(&svid))
        .expect("a client configuration");
    let address = listener.local_addr().expect("an address");
    let ask = async {
        let socket = TcpStream::connect(address).await.expect("connect");
        let name = ServerName::try_from("store.local").expect("a name");
        let connector = TlsConnector::from(Arc::new(calling));
        let mut stream = connector.connect(name, socket).await.expect("client's handshake");
        stream.write_all(b"ping").await.expect("ask");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("read the answer");
        assert_eq!(answer, b"ping");
    };
    tokio::join!(serve, ask);
    [server_leaf, svid.leaf().as_bytes().to_vec()]
}

#[test]
fn a_pair_talks_mtls_through_100_rotations() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let _agent = lab.agent("node");
    lab.entry("node", "store", &["-dns", "store.local", "-x509SVIDTTL", "3"]);
    lab.entry("node", "trainer", &["-x509SVIDTTL", "3"]);
    let runtime = tokio::runtime::Runtime::new().expect("start a runtime");
    let (handshakes, seen) = runtime.block_on(async {
        credence_test_support::wait_until("both identities arrive", Duration::from_secs(10), || {
            let fetched = lab.agent_cli("node", &["api", "fetch", "x509"]);
            (String::from_utf8_lossy(&fetched.stdout)
                .matches("SPIFFE ID:")
                .count()
                == 2)
                .then_some(())
        });
        let store = source(&lab, "spiffe://example.org/store").await;
        let trainer = source(&lab, "spiffe://example.org/trainer").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let mut seen = [HashSet::new(), HashSet::new()];
        let mut handshakes = 0_u32;
        let began = std::time::Instant::now();
        while seen.iter().any(|leaves| leaves.len() <= ROTATIONS) {
            assert!(
                began.elapsed() < Duration::from_secs(500),
                "too slow: {:?}",
                seen.map(|s| s.len())
            );
            let leaves = call(&store, &trainer, &listener).await;
            for (seen, leaf) in seen.iter_mut().zip(leaves) {
                seen.insert(leaf);
            }
            handshakes += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (handshakes, seen.map(|leaves| leaves.len() - 1))
    });
    counterparts::record(
        "rust spiffe + rustls",
        &format!("ran: {handshakes} handshakes, {seen:?} rotations"),
    );
}
