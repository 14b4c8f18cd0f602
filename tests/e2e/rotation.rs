//! A workload pair talks mTLS through at least 100 rotations without one failed handshake.

use std::collections::HashSet;
use std::time::Duration;

use credence_test_support::{Lab, counterparts};
use tokio::net::TcpListener;

use crate::CREDENCE;
use crate::mtls::{NAME, call, source};

/// Rotations of each side that the pair must live through.
const ROTATIONS: usize = 100;

#[test]
fn a_pair_talks_mtls_through_100_rotations() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let _agent = lab.agent("node");
    lab.entry("node", "store", &["-dns", NAME, "-x509SVIDTTL", "3"]);
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
        let store = source(lab.workload_api("node"), "spiffe://example.org/store").await;
        let trainer = source(lab.workload_api("node"), "spiffe://example.org/trainer").await;
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
