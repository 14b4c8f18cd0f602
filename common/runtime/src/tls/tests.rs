use std::time::Duration;

use credence_crypto::x509::{CaSubject, Certificate, LeafParams, X509Ca};
use credence_crypto::{KeyType, PrivateKey, Signer};
use credence_identity::{Timestamp, X509Authority};
use rustls::pki_types::ServerName;
use rustls::{HandshakeKind, NamedGroup};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::clock::{ManualClock, SystemClock};

type Server = tokio_rustls::server::TlsStream<DuplexStream>;
type Client = tokio_rustls::client::TlsStream<DuplexStream>;

const HOUR: Duration = Duration::from_secs(3600);

/// A trust domain with one root.
pub(crate) struct Authority {
    pub(crate) ca: X509Ca,
    pub(crate) trust_domain: TrustDomain,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let trust_domain = TrustDomain::parse(name).unwrap();
        let now = SystemClock.now();
        let signer = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
        let ca = X509Ca::self_sign(
            signer,
            &trust_domain,
            &CaSubject::default(),
            now - HOUR,
            now + HOUR * 24,
        );
        Authority {
            ca: ca.unwrap(),
            trust_domain,
        }
    }

    pub(crate) fn id(&self, path: &str) -> SpiffeId {
        SpiffeId::from_path(&self.trust_domain, path).unwrap()
    }

    pub(crate) fn svid(&self, path: &str) -> Arc<X509SvidKey> {
        let now = SystemClock.now();
        self.svid_between(path, now - HOUR, now + HOUR)
    }

    fn svid_between(&self, path: &str, not_before: Timestamp, not_after: Timestamp) -> Arc<X509SvidKey> {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let leaf = LeafParams {
            id: &self.id(path),
            public_key: key.public_key(),
            dns_names: &[],
            subject: None,
            not_before,
            not_after,
        };
        Arc::new(X509SvidKey::new(self.ca.sign_svid(&leaf).unwrap(), key).unwrap())
    }

    pub(crate) fn bundles(&self) -> BundleLookup {
        let mut bundle = Bundle::empty(self.trust_domain.clone());
        bundle.x509_authorities = vec![X509Authority {
            der: self.ca.certificate().der().clone(),
            tainted: false,
        }];
        let bundle = Arc::new(bundle);
        Arc::new(move |asked| (*asked == bundle.trust_domain).then(|| bundle.clone()))
    }

    pub(crate) fn server_config(&self, own: &watch::Sender<Arc<X509SvidKey>>) -> Arc<ServerConfig> {
        self.server_config_with(own, KeyExchange::Any)
    }

    fn server_config_with(
        &self,
        own: &watch::Sender<Arc<X509SvidKey>>,
        key_exchange: KeyExchange,
    ) -> Arc<ServerConfig> {
        server_config(
            own.subscribe(),
            self.bundles(),
            Arc::new(SystemClock),
            key_exchange,
        )
        .unwrap()
    }

    pub(crate) fn client_config(&self, own: Option<Arc<X509SvidKey>>) -> Arc<ClientConfig> {
        self.client_config_with(own, KeyExchange::Any)
    }

    fn client_config_with(
        &self,
        own: Option<Arc<X509SvidKey>>,
        key_exchange: KeyExchange,
    ) -> Arc<ClientConfig> {
        client_config(
            own.map(|svid| watch::channel(svid).1),
            self.id("/spire/server"),
            self.bundles(),
            Arc::new(SystemClock),
            key_exchange,
        )
        .unwrap()
    }

    /// A client with classic key exchanges only, as there are many.
    fn classic_client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let verifier = ExpectedServer::new(self.id("/spire/server"), self.bundles(), Arc::new(SystemClock));
        let classic = CryptoProvider {
            kx_groups: vec![kx_group::X25519, kx_group::SECP256R1],
            ..aws_lc_rs::default_provider()
        };
        let own = OwnCertificate::new(watch::channel(self.svid("/agent")).1).unwrap();
        Arc::new(
            ClientConfig::builder_with_provider(Arc::new(classic))
                .with_protocol_versions(versions)
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_client_cert_resolver(Arc::new(own)),
        )
    }
}

/// SPIRE's TCP listener takes the switch and doesn't enforce it.
#[tokio::test]
async fn bug_of_spire_required_post_quantum_key_exchange_is_enforced_on_both_sides() {
    let authority = Authority::new("example.org");
    let (own, _) = watch::channel(authority.svid("/spire/server"));
    let strict = authority.server_config_with(&own, KeyExchange::QuantumSafe);
    for client in [
        authority.client_config(None),
        authority.client_config_with(None, KeyExchange::QuantumSafe),
    ] {
        let (server, client) = connect(strict.clone(), client).await;
        drop((server.unwrap(), client.unwrap()));
    }
    for versions in [&[&TLS13][..], &[&TLS12]] {
        let classic = authority.classic_client(versions);
        let (server, client) = connect(authority.server_config(&own), classic.clone()).await;
        drop((server.unwrap(), client.unwrap()));
        let (server, client) = connect(strict.clone(), classic).await;
        assert!(server.is_err() && client.is_err());
    }
    let config = authority.client_config_with(None, KeyExchange::QuantumSafe);
    let classic = CryptoProvider {
        kx_groups: vec![kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let server = ServerConfig::builder_with_provider(Arc::new(classic))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(OwnCertificate::new(own.subscribe()).unwrap()));
    assert!(connect(Arc::new(server), config).await.1.is_err());
}

/// Shakes hands in memory and sends a byte each way, so that refusals of TLS 1.3 show on both sides.
async fn connect(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> (io::Result<Server>, io::Result<Client>) {
    let (near, far) = duplex(1 << 16);
    let name = ServerName::try_from("server.test").unwrap();
    let serve = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        stream.write_all(b"s").await?;
        stream.flush().await?;
        stream.read_exact(&mut [0]).await?;
        Ok(stream)
    };
    let call = async {
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        stream.write_all(b"c").await?;
        stream.flush().await?;
        stream.read_exact(&mut [0]).await?;
        Ok(stream)
    };
    tokio::join!(serve, call)
}

/// Conforms: X5S-36
#[tokio::test]
async fn peers_of_one_trust_domain_meet() {
    let authority = Authority::new("example.org");
    let (own, _) = watch::channel(authority.svid("/spire/server"));
    let config = authority.server_config(&own);
    let (server, client) = connect(config, authority.client_config(Some(authority.svid("/agent")))).await;
    let (server, client) = (server.unwrap(), client.unwrap());
    assert_eq!(server.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let shown = Certificate::from_der(&server.get_ref().1.peer_certificates().unwrap()[0]).unwrap();
    assert_eq!(shown.spiffe_id().unwrap(), authority.id("/agent"));
    drop(client);
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_anonymous() {
    let authority = Authority::new("example.org");
    let (own, _) = watch::channel(authority.svid("/spire/server"));
    let (server, client) = connect(authority.server_config(&own), authority.client_config(None)).await;
    assert!(server.unwrap().get_ref().1.peer_certificates().is_none());
    client.unwrap();
}

/// Platform notes A4.5: without the feature the hybrid group would come last.
#[tokio::test]
async fn trap_post_quantum_key_exchange_is_preferred() {
    let authority = Authority::new("example.org");
    let (own, _) = watch::channel(authority.svid("/spire/server"));
    let (_, client) = connect(authority.server_config(&own), authority.client_config(None)).await;
    let group = client
        .unwrap()
        .get_ref()
        .1
        .negotiated_key_exchange_group()
        .unwrap()
        .name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
}

/// Platform notes A4.6: a ticket would outlive the certificate.
#[tokio::test]
async fn trap_no_session_is_resumed() {
    let authority = Authority::new("example.org");
    let (own, _) = watch::channel(authority.svid("/spire/server"));
    let server = authority.server_config(&own);
    let client = authority.client_config(Some(authority.svid("/agent")));
    for _ in 0..3 {
        let (_, connected) = connect(server.clone(), client.clone()).await;
        let kind = connected.unwrap().get_ref().1.handshake_kind();
        assert!(
            matches!(
                kind,
                Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
            ),
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn the_next_connection_shows_the_new_svid() {
    let authority = Authority::new("example.org");
    let (own, _) = watch::channel(authority.svid("/spire/server"));
    let config = authority.server_config(&own);
    let client = authority.client_config(None);
    let serial = |client: Client| {
        Certificate::from_der(&client.get_ref().1.peer_certificates().unwrap()[0])
            .unwrap()
            .serial()
    };
    let before = serial(connect(config.clone(), client.clone()).await.1.unwrap());
    let next = authority.svid("/spire/server");
    own.send_replace(next.clone());
    let after = serial(connect(config, client).await.1.unwrap());
    assert_ne!(before, after);
    assert_eq!(after, next.svid.serial);
}

/// Conforms: X5S-36
#[tokio::test]
async fn a_server_with_another_id_or_authority_is_refused() {
    let (authority, other) = (Authority::new("example.org"), Authority::new("example.org"));
    let (own, _) = watch::channel(authority.svid("/not/the/server"));
    let (_, client) = connect(authority.server_config(&own), authority.client_config(None)).await;
    let error = client.unwrap_err();
    assert!(
        error.to_string().contains("example.org/not/the/server"),
        "{error}"
    );
    assert!(!is_unknown_authority(&error));

    let (own, _) = watch::channel(other.svid("/spire/server"));
    let (_, client) = connect(other.server_config(&own), authority.client_config(None)).await;
    assert!(is_unknown_authority(&client.unwrap_err()));
}

/// Conforms: WAP-14, X5S-22, X5S-24
#[tokio::test]
async fn clients_with_a_bad_certificate_are_refused_not_anonymous() {
    let authority = Authority::new("example.org");
    let (own, _) = watch::channel(authority.svid("/spire/server"));
    let (now, config) = (SystemClock.now(), authority.server_config(&own));
    for (what, svid) in [
        ("another authority", Authority::new("example.org").svid("/agent")),
        (
            "a foreign trust domain",
            Authority::new("other.org").svid("/agent"),
        ),
        (
            "expired",
            authority.svid_between("/agent", now - HOUR, now - Duration::from_secs(60)),
        ),
        (
            "not yet valid",
            authority.svid_between("/agent", now + HOUR, now + HOUR * 2),
        ),
    ] {
        let (server, _) = connect(config.clone(), authority.client_config(Some(svid))).await;
        assert!(server.is_err(), "{what}");
    }
}

#[tokio::test]
async fn the_verifier_follows_the_given_clock() {
    let authority = Authority::new("example.org");
    let (own, _) = watch::channel(authority.svid("/spire/server"));
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let id = authority.id("/spire/server");
    let client = client_config(None, id, authority.bundles(), clock.clone(), KeyExchange::Any).unwrap();
    let server = authority.server_config(&own);
    connect(server.clone(), client.clone()).await.1.unwrap();
    clock.step_forward(HOUR * 2);
    assert!(connect(server, client).await.1.is_err());
}

#[tokio::test]
async fn insecure_bootstrap_records_what_it_was_shown() {
    let authority = Authority::new("example.org");
    let (own, _) = watch::channel(authority.svid("/spire/server"));
    let (config, recorded) = client_config_that_trusts_anyone(KeyExchange::QuantumSafe).unwrap();
    assert!(recorded.chain().is_empty());
    connect(authority.server_config(&own), config).await.1.unwrap();
    assert_eq!(recorded.chain(), own.borrow().svid.chain);
}

#[tokio::test]
async fn tls12_works_with_a_certificate() {
    let authority = Authority::new("example.org");
    let (own, _) = watch::channel(authority.svid("/spire/server"));
    let verifier = ExpectedServer::new(
        authority.id("/spire/server"),
        authority.bundles(),
        Arc::new(SystemClock),
    );
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(
            OwnCertificate::new(watch::channel(authority.svid("/agent")).1).unwrap(),
        ));
    let (server, _) = connect(authority.server_config(&own), Arc::new(client)).await;
    let server = server.unwrap();
    assert_eq!(
        server.get_ref().1.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_2)
    );
    assert!(server.get_ref().1.peer_certificates().is_some());
}
