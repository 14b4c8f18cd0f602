//! The port itself: who gets through the handshake, and which SVID is shown.

use credence_crypto::x509::X509SvidKey;
use credence_proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use credence_runtime::grpc::connect_tls;
use credence_runtime::tls::client_config;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Channel;

use super::*;
use crate::cache::testing::svid;

const LISTENER: &str = "/ns/istio-system/sa/credence";

/// Serves the mesh; the listener shows the entry of that path, or the agent's own SVID.
async fn serve(mesh: &Mesh, shown: Option<&str>) -> SocketAddr {
    let agent = svid(&mesh_entry("/spire/agent/x/y"), mesh.lab.clock.now(), TTL);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let istio = Istio {
        options: IstioOptions {
            bind: address,
            spiffe_id: shown.map(id),
            impersonators: [id(ZTUNNEL)].into(),
        },
        ground: mesh.lab.ground.clone(),
        signer: mesh.server.clone(),
        trust_domain: trust_domain("example.org"),
        svid: watch::channel(Arc::new(agent)).1,
        key_exchange: KeyExchange::Any,
    };
    istio.serve(listener, &mesh.lab.supervisor).unwrap();
    address
}

/// A client that shows this SVID, or none, and expects the listener to be `server`.
async fn connect(
    mesh: &Mesh,
    address: SocketAddr,
    own: Option<X509SvidKey>,
    server: &str,
) -> Option<IstioCertificateServiceClient<Channel>> {
    let cache = mesh.lab.cache.clone();
    let config = client_config(
        own.map(|svid| watch::channel(Arc::new(svid)).1),
        id(server),
        Arc::new(move |_| Some(cache.bundle())),
        mesh.lab.clock.clone(),
        KeyExchange::Any,
    );
    let channel = connect_tls("127.0.0.1", address.port(), config.unwrap()).await;
    channel.ok().map(IstioCertificateServiceClient::new)
}

/// Whether the caller gets a certificate for its own identity.
async fn gets_through(mesh: &Mesh, address: SocketAddr, own: Option<X509SvidKey>, server: &str) -> bool {
    let Some(mut client) = connect(mesh, address, own, server).await else {
        return false;
    };
    let request = by_istio_agent(&key(), WEB);
    client.create_certificate(request).await.is_ok()
}

#[tokio::test]
async fn only_a_live_svid_of_the_own_trust_domain_gets_through_the_handshake() {
    let mesh = Mesh::new();
    let address = serve(&mesh, None).await;
    let agent = "/spire/agent/x/y";
    let now = mesh.lab.clock.now();
    let of = |entry: &Entry, ttl| Some(svid(entry, now, ttl));
    let web = mesh_entry(WEB);
    assert!(gets_through(&mesh, address, of(&web, TTL), agent).await);
    assert!(!gets_through(&mesh, address, None, agent).await);
    let ended = Duration::from_secs(5);
    let ended = Some(svid(&web, now - ended * 2, ended));
    assert!(!gets_through(&mesh, address, ended, agent).await);
    let foreign = Entry {
        spiffe_id: SpiffeId::parse("spiffe://other.org/ns/shop/sa/web").unwrap(),
        ..web.clone()
    };
    assert!(!gets_through(&mesh, address, of(&foreign, TTL), agent).await);
    // By an authority that is no longer trusted.
    mesh.trust(vec![root(b"another")]);
    assert!(!gets_through(&mesh, address, of(&web, TTL), agent).await);
    assert_eq!(mesh.asked(), ["web"]);
}

#[tokio::test]
async fn the_listener_shows_its_entry_while_it_is_there_and_nothing_else() {
    let mesh = Mesh::new();
    let address = serve(&mesh, Some(LISTENER)).await;
    let web = || Some(svid(&mesh_entry(WEB), mesh.lab.clock.now(), TTL));
    assert!(
        !gets_through(&mesh, address, web(), LISTENER).await,
        "nothing to show yet"
    );

    let shown = mesh_entry(LISTENER);
    mesh.register(shown.clone());
    mesh.lab.sign(shown.clone());
    while !gets_through(&mesh, address, web(), LISTENER).await {
        tokio::task::yield_now().await;
    }
    assert!(!gets_through(&mesh, address, web(), "/spire/agent/x/y").await);

    mesh.lab.remove("credence");
    while gets_through(&mesh, address, web(), LISTENER).await {
        tokio::task::yield_now().await;
    }
    mesh.register(shown.clone());
    mesh.lab.sign(shown);
    while !gets_through(&mesh, address, web(), LISTENER).await {
        tokio::task::yield_now().await;
    }
    // Ended, and not renewed: no client is shown that.
    mesh.lab.clock.step_forward(TTL);
    assert!(!gets_through(&mesh, address, web(), LISTENER).await);
}
