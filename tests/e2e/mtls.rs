//! One mTLS call between two workloads, each with what its agent served last.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use spiffe::x509_source::SvidPicker;
use spiffe::{X509Context, X509Source, X509SourceBuilder, X509Svid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The DNS name that the serving workload's SVID must have.
pub(crate) const NAME: &str = "store.local";

struct ById(String);

impl SvidPicker for ById {
    fn pick_svid(&self, svids: &[Arc<X509Svid>]) -> Option<usize> {
        svids
            .iter()
            .position(|svid| svid.spiffe_id().to_string() == self.0)
    }
}

/// The identity `id` from the Workload API at `endpoint`, kept up to date.
pub(crate) async fn source(endpoint: String, id: &str) -> X509Source {
    X509SourceBuilder::new()
        .endpoint(endpoint)
        .picker(ById(id.to_owned()))
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

/// What one side of a call works with.
pub(crate) type Held = (Arc<X509Context>, Arc<X509Svid>);

/// What `source` holds right now.
fn held(source: &X509Source) -> Held {
    (
        source.x509_context().expect("context"),
        source.svid().expect("an SVID"),
    )
}

/// One call of `client` to `server`, each with what it holds right now; returns both certificates.
pub(crate) async fn call(server: &X509Source, client: &X509Source, listener: &TcpListener) -> [Vec<u8>; 2] {
    call_with(held(server), held(client), listener).await
}

/// One call of `client` to `server`; returns both certificates.
pub(crate) async fn call_with(server: Held, client: Held, listener: &TcpListener) -> [Vec<u8>; 2] {
    let (context, svid) = server;
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
    let (context, svid) = client;
    let calling = ClientConfig::builder()
        .with_root_certificates(roots(&context, &svid))
        .with_client_auth_cert(chain(&svid), key(&svid))
        .expect("a client configuration");
    let address = listener.local_addr().expect("an address");
    let ask = async {
        let socket = TcpStream::connect(address).await.expect("connect");
        let name = ServerName::try_from(NAME).expect("a name");
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
