//! Who gets past the TLS handshake.

use std::sync::Arc;
use std::time::Duration;

use credence_crypto::x509::{CaSubject, LeafParams, X509Ca, X509SvidKey};
use credence_crypto::{KeyType, PrivateKey, Signer};
use credence_identity::{SpiffeId, TrustDomain};
use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_runtime::tls::RecordedChain;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{Lab, NOW, id, new_key, soon};

/// The client's preface and an empty SETTINGS frame.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Whether the server speaks HTTP/2 with a client of that TLS version.
async fn spoken_to(lab: &Lab, version: &'static SupportedProtocolVersion, own: Option<&X509SvidKey>) -> bool {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(RecordedChain::default()));
    let mut config = match own {
        Some(own) => {
            let chain = own
                .svid
                .chain
                .iter()
                .map(|der| CertificateDer::from(der.to_vec()))
                .collect();
            let key = PrivatePkcs8KeyDer::from(own.key.pkcs8_der().to_vec());
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(key))
                .unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(lab.bound.tcp).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let Ok(mut stream) = soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await else {
        return false;
    };
    // The server may have closed already.
    drop(stream.write_all(HELLO).await);
    let mut answer = [0; 9];
    soon(stream.read_exact(&mut answer)).await.is_ok()
}

#[tokio::test]
async fn without_a_certificate_it_takes_tls_1_3() {
    let lab = Lab::start().await;
    let svid = lab.mint("/workload").await;
    assert!(spoken_to(&lab, &TLS13, None).await);
    assert!(!spoken_to(&lab, &TLS12, None).await);
    assert!(spoken_to(&lab, &TLS12, Some(&svid)).await);
    assert!(spoken_to(&lab, &TLS13, Some(&svid)).await);
}

/// An SVID of a CA of our own making.
fn self_made(trust_domain: &str, path: &str) -> Arc<X509SvidKey> {
    let trust_domain = TrustDomain::parse(trust_domain).unwrap();
    let (from, to) = (NOW - Duration::from_secs(60), NOW + Duration::from_secs(3600));
    let signer = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
    let ca = X509Ca::self_sign(signer, &trust_domain, &CaSubject::default(), from, to).unwrap();
    let key = new_key();
    let params = LeafParams {
        id: &SpiffeId::from_path(&trust_domain, path).unwrap(),
        public_key: key.public_key(),
        dns_names: &[],
        subject: None,
        not_before: from,
        not_after: to,
    };
    Arc::new(X509SvidKey::new(ca.sign_svid(&params).unwrap(), key).unwrap())
}

/// Not even the bundle is for whoever shows a certificate that doesn't verify.
#[tokio::test]
async fn a_certificate_that_does_not_verify_is_worse_than_none() {
    let lab = Lab::start_with(|plan| {
        plan.admin_ids
            .insert(SpiffeId::parse("spiffe://other.org/admin").unwrap());
    })
    .await;
    for stranger in [
        self_made(crate::harness::DOMAIN, "/operator"),
        self_made("other.org", "/admin"),
        self_made("foreign.org", "/workload"),
    ] {
        assert!(
            !spoken_to(&lab, &TLS13, Some(&stranger)).await,
            "{}",
            stranger.svid.id
        );
        assert!(
            !spoken_to(&lab, &TLS12, Some(&stranger)).await,
            "{}",
            stranger.svid.id
        );
    }
}

#[tokio::test]
async fn an_expired_svid_is_refused_in_the_handshake() {
    let lab = Lab::start().await;
    let svid = lab.mint("/workload").await;
    assert_eq!(svid.svid.id, id("/workload"));
    let mut client = BundleClient::new(lab.peer(&svid).await);
    client.get_bundle(GetBundleRequest::default()).await.unwrap();
    lab.clock.step_forward(Duration::from_secs(3700));
    assert!(!spoken_to(&lab, &TLS13, Some(&svid)).await);
}
