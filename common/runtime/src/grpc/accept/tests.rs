use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;

use super::*;
use crate::tls::tests::Authority;

struct Bench {
    authority: Authority,
    address: SocketAddr,
    incoming: ReceiverStream<io::Result<TlsConnection>>,
    supervisor: Supervisor,
}

async fn bench() -> Bench {
    bench_behind(TrustedProxies::default()).await
}

async fn bench_behind(proxies: TrustedProxies) -> Bench {
    let authority = Authority::new("example.org");
    let (own, _) = watch::channel(authority.svid("/spire/server"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let supervisor = Supervisor::new();
    let incoming = accept_tls(listener, authority.server_config(&own), proxies, &supervisor);
    Bench {
        authority,
        address,
        incoming,
        supervisor,
    }
}

/// Platform notes A4.3: with handshakes one after the other, one silent client would block all.
#[tokio::test]
async fn trap_a_silent_client_delays_nobody() {
    let mut bench = bench().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(bench.address).await.unwrap());
    }
    silent
        .first_mut()
        .unwrap()
        .write_all(b"\x16\x03\x01")
        .await
        .unwrap();
    let svid = bench.authority.svid("/agent");
    let config = bench.authority.client_config(Some(svid.clone()));
    let stream = TcpStream::connect(bench.address).await.unwrap();
    let own_address = stream.local_addr().unwrap();
    let client = TlsConnector::from(config).connect("server.test".try_into().unwrap(), stream);
    let (client, accepted) = tokio::join!(client, bench.incoming.next());
    let (_client, accepted) = (client.unwrap(), accepted.unwrap().unwrap());
    let want = VerifiedPeer {
        spiffe_id: bench.authority.id("/agent"),
        serial: svid.svid.serial.as_str().into(),
        not_after: svid.svid.not_after,
    };
    assert_eq!(accepted.connect_info().peer, Some(want));
    assert_eq!(accepted.info().remote_addr, own_address);
}

/// Once they held all places, everybody else waited until they had had their ten seconds.
#[tokio::test]
async fn bug_silent_clients_in_every_place_kept_the_others_out() {
    let mut bench = bench().await;
    let mut silent = Vec::new();
    for _ in 0..3 * MAX_HANDSHAKES {
        silent.push(TcpStream::connect(bench.address).await.unwrap());
    }
    let config = bench.authority.client_config(None);
    let stream = TcpStream::connect(bench.address).await.unwrap();
    let client = TlsConnector::from(config).connect("server.test".try_into().unwrap(), stream);
    let both = async { tokio::join!(client, bench.incoming.next()) };
    let (client, accepted) = timeout(HANDSHAKE_TIMEOUT / 2, both).await.unwrap();
    assert!(client.is_ok() && accepted.unwrap().is_ok());
    // The oldest made room, the youngest didn't have to.
    assert_eq!(silent[0].read(&mut [0]).await.unwrap_or(0), 0);
    let youngest = silent.last_mut().unwrap();
    assert!(
        timeout(Duration::from_millis(20), youngest.read(&mut [0]))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn callers_without_a_certificate_have_no_peer() {
    let mut bench = bench().await;
    let config = bench.authority.client_config(None);
    let stream = TcpStream::connect(bench.address).await.unwrap();
    let client = TlsConnector::from(config).connect("server.test".try_into().unwrap(), stream);
    let (client, accepted) = tokio::join!(client, bench.incoming.next());
    client.unwrap();
    assert_eq!(accepted.unwrap().unwrap().info().peer, None);
}

#[tokio::test(start_paused = true)]
async fn a_half_open_connection_is_closed_after_ten_seconds() {
    let bench = bench().await;
    let began = tokio::time::Instant::now();
    let mut silent = TcpStream::connect(bench.address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(began.elapsed() >= HANDSHAKE_TIMEOUT, "{:?}", began.elapsed());
}

fn loopback() -> TrustedProxies {
    let mut proxies = TrustedProxies::default();
    proxies.add("127.0.0.0/8").unwrap();
    proxies
}

/// What becomes of a client that says this before TLS: the address it is known by, or nothing.
async fn known_as(proxies: TrustedProxies, said: &[u8]) -> Option<SocketAddr> {
    let mut bench = bench_behind(proxies).await;
    let config = bench.authority.client_config(None);
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    let own = stream.local_addr().unwrap();
    stream.write_all(said).await.unwrap();
    let shaken = TlsConnector::from(config)
        .connect("server.test".try_into().unwrap(), stream)
        .await;
    shaken.ok()?;
    let client = bench.incoming.next().await.unwrap().unwrap().info().remote_addr;
    Some(if client == own {
        "0.0.0.0:0".parse().unwrap()
    } else {
        client
    })
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client_and_no_other_does() {
    let header = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 8081\r\n";
    let own = Some("0.0.0.0:0".parse().unwrap());
    assert_eq!(
        known_as(loopback(), header).await,
        Some("203.0.113.7:4711".parse().unwrap())
    );
    assert_eq!(known_as(loopback(), b"").await, own);
    assert_eq!(known_as(loopback(), b"PROXY UNKNOWN\r\n").await, own);
    assert_eq!(known_as(loopback(), b"PROXY nonsense\r\n").await, None);
    let mut elsewhere = TrustedProxies::default();
    elsewhere.add("10.0.0.0/8").unwrap();
    assert_eq!(known_as(elsewhere.clone(), header).await, None);
    assert_eq!(known_as(elsewhere, b"").await, own);
    assert_eq!(known_as(TrustedProxies::default(), header).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_header_that_trickles_in_is_cut_off_after_ten_seconds() {
    let bench = bench_behind(loopback()).await;
    let began = tokio::time::Instant::now();
    let mut slow = TcpStream::connect(bench.address).await.unwrap();
    slow.write_all(b"PROXY TCP4 203.0").await.unwrap();
    assert_eq!(slow.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert!(began.elapsed() >= HANDSHAKE_TIMEOUT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_stream_ends_at_shutdown() {
    let mut bench = bench().await;
    bench.supervisor.shutdown();
    bench.supervisor.wait().await.unwrap();
    assert!(bench.incoming.next().await.is_none());
}
