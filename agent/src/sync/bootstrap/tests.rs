use credence_crypto::x509::{CaSubject, X509Ca};
use credence_crypto::{KeyType, PrivateKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use super::*;
use crate::cache::testing::{START, trust_domain};

async fn load_from(source: &BundleSource) -> Result<Option<Arc<Bundle>>, BootstrapError> {
    let asker = Asker {
        trust_domain: &trust_domain(),
        server: &ServerAddress {
            host: "server.test".to_owned(),
            port: 8081,
        },
        again: true,
        began: START,
        attempts: 3,
    };
    load(source, &asker).await
}

/// A root, and the PEM of it.
fn root() -> (Bundle, String) {
    let key = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
    let end = START + Duration::from_secs(3600);
    let ca = X509Ca::self_sign(key, &trust_domain(), &CaSubject::default(), START, end).unwrap();
    let pem = pem::encode(&pem::Pem::new("CERTIFICATE", ca.certificate().der().to_vec()));
    (
        from_certificates(&trust_domain(), [ca.certificate().der().clone()]),
        pem,
    )
}

#[tokio::test]
async fn a_file_of_either_form_gives_the_roots() {
    let (expected, pem) = root();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    for (text, format) in [
        (pem, BundleFormat::Pem),
        (bundle::to_spiffe_json(&expected), BundleFormat::Spiffe),
    ] {
        std::fs::write(&path, text).unwrap();
        let source = BundleSource::Path(path.clone(), format);
        let loaded = load_from(&source).await.unwrap().unwrap();
        assert_eq!(loaded.x509_authorities, expected.x509_authorities);
    }
    for bad in [
        "",
        "{}",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        std::fs::write(&path, bad).unwrap();
        for format in [BundleFormat::Pem, BundleFormat::Spiffe] {
            let source = BundleSource::Path(path.clone(), format);
            load_from(&source).await.unwrap_err();
        }
    }
    let missing = BundleSource::Path(folder.path().join("none"), BundleFormat::Pem);
    assert!(matches!(
        load_from(&missing).await,
        Err(BootstrapError::Read { .. })
    ));
    assert!(load_from(&BundleSource::Insecure).await.unwrap().is_none());
}

#[tokio::test]
async fn a_url_without_tls_is_refused() {
    let url = Url::parse("http://127.0.0.1:1/bundle").unwrap();
    let source = BundleSource::Url(url, BundleFormat::Pem);
    assert!(matches!(
        load_from(&source).await,
        Err(BootstrapError::Download { .. })
    ));
}

/// Answers one request on the socket, and gives back its first line.
async fn answer_one(listener: UnixListener, status: &'static str, body: String) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    let text = String::from_utf8(request).unwrap();
    text.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_service_on_a_unix_socket_is_told_who_asks_for_what() {
    let (expected, pem) = root();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("bundle.sock");
    let source = BundleSource::Socket {
        url: Url::parse("http://bundles.test/trust?a=b").unwrap(),
        socket: socket.clone(),
        format: BundleFormat::Pem,
    };
    assert!(matches!(
        load_from(&source).await,
        Err(BootstrapError::Download { .. })
    ));
    let listener = UnixListener::bind(&socket).unwrap();
    let (loaded, asked) = tokio::join!(load_from(&source), answer_one(listener, "200 OK", pem));
    assert_eq!(
        loaded.unwrap().unwrap().x509_authorities,
        expected.x509_authorities
    );
    let target = asked.split_whitespace().nth(1).unwrap().to_owned();
    let asked = Url::parse("http://bundles.test").unwrap().join(&target).unwrap();
    let parameters: Vec<_> = asked.query_pairs().into_owned().collect();
    let began = START.to_string();
    let expected = [
        ("a", "b"),
        ("spire-attest-mode", "rebootstrap"),
        ("spire-connection-attempts", "3"),
        ("spire-attest-start-time", &*began),
        ("spire-server-address", "server.test"),
        ("spire-server-port", "8081"),
        ("spiffe-trust-domain", "example.org"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!((asked.path(), parameters), ("/trust", expected.to_vec()));

    std::fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let answer = answer_one(listener, "503 Service Unavailable", String::new());
    let (refused, _) = tokio::join!(load_from(&source), answer);
    assert!(matches!(refused, Err(BootstrapError::Download { .. })));
}

#[tokio::test]
async fn a_workload_api_that_is_not_there_gives_no_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let source = BundleSource::WorkloadApi(folder.path().join("none.sock"));
    assert!(matches!(
        load_from(&source).await,
        Err(BootstrapError::WorkloadApi { .. })
    ));
}
