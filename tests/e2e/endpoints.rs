//! The server's TCP port as other programs call it: with an SVID, without one, and with one of another trust domain.

mod admin;
mod downstream;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use credence_crypto::PrivateKey;
use credence_crypto::bundle::x509_from_pem;
use credence_crypto::x509::{X509Svid, X509SvidKey};
use credence_identity::{Bundle, SpiffeId, TrustDomain};
use credence_runtime::clock::SystemClock;
use credence_runtime::grpc::connect_tls;
use credence_runtime::tls::{KeyExchange, client_config};
use credence_test_support::Lab;
use tokio::sync::watch;
use tonic::transport::Channel;

/// An SVID for any workload, as `x509 mint` writes it.
pub(crate) fn minted(lab: &Lab, path: &str) -> Arc<X509SvidKey> {
    let folder = tempfile::tempdir().expect("make a folder");
    let id = format!("spiffe://example.org{path}");
    drop(lab.ok(&[
        "x509",
        "mint",
        "-spiffeID",
        &id,
        "-write",
        &folder.path().display().to_string(),
    ]));
    let read = |name: &str| read(&folder.path().join(name));
    let chain = x509_from_pem(&read("svid.pem")).expect("certificates");
    let chain: Vec<_> = chain.into_iter().map(|certificate| certificate.der).collect();
    let svid = X509Svid::from_der_chain(&chain).expect("an SVID");
    let key = PrivateKey::from_pem(&read("key.pem")).expect("a key");
    Arc::new(X509SvidKey::new(svid, key).expect("the SVID's key"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("read a file")
}

/// A connection to the server's port by that SVID, or without one.
async fn connect(lab: &Lab, own: Option<Arc<X509SvidKey>>) -> Channel {
    let domain = TrustDomain::parse("example.org").expect("a name");
    let bundle = Arc::new(Bundle {
        x509_authorities: x509_from_pem(&lab.ok(&["bundle", "show"])).expect("a bundle"),
        ..Bundle::empty(domain.clone())
    });
    let lookup = Arc::new(move |name: &TrustDomain| (*name == bundle.trust_domain).then(|| bundle.clone()));
    let own = own.map(|svid| watch::channel(svid).1);
    let config = client_config(
        own,
        SpiffeId::server(&domain),
        lookup,
        Arc::new(SystemClock),
        KeyExchange::Any,
    );
    connect_tls("127.0.0.1", lab.port(), config.expect("a TLS configuration"))
        .await
        .expect("connect to the server")
}

/// Demands that each of these calls, with an empty message, is refused by the authorization table.
macro_rules! denied {
    ($client:expr, $($call:ident),+ $(,)?) => {{
        let mut client = $client;
        $(
            let refusal = client.$call(tonic::Request::new(Default::default())).await.expect_err(stringify!($call));
            assert_eq!(refusal.code(), tonic::Code::PermissionDenied, "{}: {refusal:?}", stringify!($call));
        )+
    }};
}
use denied;
