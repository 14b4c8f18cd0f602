//! A crowd at the server's TCP port that holds connections and says nothing, or next to nothing.

use std::fs;
use std::time::{Duration, Instant};

use credence_runtime::tls::{KeyExchange, client_config_that_trusts_anyone};
use credence_test_support::{Lab, Process, wait_until};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::CREDENCE;

/// Connections that say nothing, before and after the handshake.
const SILENT: usize = 9_000;
const IDLE: usize = 1_000;
/// Connections that say a byte at a time, before and after the handshake.
const SLOW: usize = 500;
/// The start of a TLS record with a client's greeting.
const GREETING: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
/// The start of HTTP/2, with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// The start of a HEADERS frame of 16 kB.
const HEADERS: &[u8] = b"\x00\x40\x00\x01\x04\x00\x00\x00\x01";
/// What the crowd may cost the server, in kB: some tens for each connection that it keeps.
const MOST_MEMORY: u64 = 400_000;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
type Connection = Box<dyn Stream>;

async fn connect(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.expect("connect")
}

/// A connection that has begun with HTTP/2; none if the server has no room for it.
async fn begun(port: u16, connector: TlsConnector) -> Option<Connection> {
    let name = "server.test".try_into().expect("a name");
    let mut stream = connector.connect(name, connect(port).await).await.ok()?;
    stream.write_all(PREFACE).await.ok()?;
    Some(Box::new(stream))
}

/// Says a byte now and then, until the server has had enough.
async fn trickle(mut stream: Connection, start: &'static [u8]) {
    let mut spoken = stream.write_all(start).await;
    while spoken.is_ok() {
        tokio::time::sleep(Duration::from_millis(300)).await;
        spoken = stream.write_all(&[0]).await;
    }
}

/// Reads what comes, until the server has had enough.
async fn idle(mut stream: Connection) {
    while stream.read(&mut [0; 512]).await.is_ok_and(|read| read > 0) {}
}

/// Joins the crowd and stays in it.
async fn gather(port: u16) -> JoinSet<()> {
    let (config, _) = client_config_that_trusts_anyone(KeyExchange::Any).expect("a configuration");
    let connector = TlsConnector::from(config);
    let mut crowd = JoinSet::new();
    for _ in 0..SILENT {
        let stream = Box::new(connect(port).await);
        crowd.spawn(idle(stream));
    }
    // As many handshakes at a time as don't keep the machine busy.
    for n in (0..IDLE + SLOW).step_by(50) {
        let begun = (n..n + 50).map(|_| tokio::spawn(begun(port, connector.clone())));
        for (n, begun) in (n..).zip(begun.collect::<Vec<_>>()) {
            match begun.await.expect("no panic") {
                Some(stream) if n < IDLE => drop(crowd.spawn(idle(stream))),
                Some(stream) => drop(crowd.spawn(trickle(stream, HEADERS))),
                None => {}
            }
        }
    }
    for _ in 0..SLOW {
        let stream = Box::new(connect(port).await);
        crowd.spawn(trickle(stream, GREETING));
    }
    crowd
}

/// How long it takes until a new agent is attested and its workload has an identity.
fn time_to_serve(lab: &Lab, node: &str) -> (Process, Duration) {
    let began = Instant::now();
    let agent = lab.agent(node);
    lab.entry(node, &format!("of-{node}"), &[]);
    wait_until("the identity", Duration::from_secs(20), || {
        let fetched = lab.agent_cli(node, &["api", "fetch", "x509"]);
        fetched.status.success().then_some(())
    });
    (agent, began.elapsed())
}

/// In kB.
fn memory(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).expect("read the status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).expect("a number")
}

/// The server took no more than 1,024 connections, which is the usual soft limit of open files.
#[test]
fn idle_and_slow_connections_leave_the_others_served() {
    credence_runtime::descriptors::raise_limit();
    let lab = Lab::new(CREDENCE);
    let server = lab.server();
    let (_before, alone) = time_to_serve(&lab, "before");
    let small = memory(&server);

    let runtime = tokio::runtime::Runtime::new().expect("start a runtime");
    let began = Instant::now();
    let crowd = runtime.block_on(gather(lab.port()));
    let gathered = began.elapsed();
    let (_among, crowded) = time_to_serve(&lab, "among");
    let grown = memory(&server).saturating_sub(small);

    // An agent that was there before goes on, too.
    let began = Instant::now();
    lab.entry("before", "later", &[]);
    wait_until("a later identity", Duration::from_secs(20), || {
        let fetched = lab.agent_cli("before", &["api", "fetch", "x509"]);
        String::from_utf8_lossy(&fetched.stdout)
            .contains("/later")
            .then_some(())
    });
    let later = began.elapsed();
    eprintln!(
        "a crowd of {} gathered within {gathered:?}: attested and served in {crowded:?} ({alone:?} without it), an \
         entry in {later:?}, {grown} kB more",
        crowd.len()
    );
    // On a machine that does other things as well.
    let bearable = 2 * alone + Duration::from_secs(10);
    assert!(crowded < bearable, "{crowded:?} instead of {alone:?}");
    assert!(later < bearable, "{later:?} instead of {alone:?}");
    assert!(grown < MOST_MEMORY, "{grown} kB");
    drop(crowd);
}
