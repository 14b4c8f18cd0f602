//! A server of SPIRE's with 1,000 entries and two live agents is replaced by ours and put back, while workloads talk.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use credence_dropin::{Programs, Site, spire};
use credence_test_support::{Process, wait_until};
use tokio::net::TcpListener;

use super::spires_files;
use crate::mtls::{NAME, call, source};
use crate::{credence, passed};

const ENTRIES: usize = 1_000;
/// Of the workloads' SVIDs, in seconds: SPIRE's agent renews such short ones each second.
const TTL: &str = "8";

/// Entries for all but a few of the thousand, none of them for a workload here.
fn many() -> String {
    let mut text = String::from("{\"entries\": [");
    for n in 0..ENTRIES - 4 {
        let comma = if n == 0 { "" } else { "," };
        let node = ["one", "two"][n % 2];
        write!(
            text,
            "{comma}{{\"parent_id\": \"spiffe://example.org/node/{node}\", \
             \"spiffe_id\": \"spiffe://example.org/many/{n}\", \
             \"selectors\": [{{\"type\": \"unix\", \"value\": \"uid:{}\"}}]}}",
            4_000_000_000_usize + n
        )
        .expect("write to a string");
    }
    text + "]}"
}

/// How often the pair has called, and how many SVIDs each side has shown.
#[derive(Default)]
struct Tally {
    over: AtomicBool,
    calls: AtomicUsize,
    leaves: [AtomicUsize; 2],
}

impl Tally {
    fn rotations(&self) -> usize {
        let seen = self.leaves.iter().map(|leaves| leaves.load(Ordering::Relaxed));
        seen.min().unwrap_or_default()
    }
}

/// Tells that the calls have ended, and be it by a panic.
struct Ended<'a>(&'a Tally);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// Calls every 20 ms until it is over; the first failure ends it with a panic.
fn talk(endpoints: [String; 2], tally: &Tally) {
    let _ended = Ended(tally);
    let runtime = tokio::runtime::Runtime::new().expect("start a runtime");
    let [one, two] = endpoints;
    runtime.block_on(async {
        let store = source(one, "spiffe://example.org/store").await;
        let trainer = source(two, "spiffe://example.org/trainer").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let mut seen = [HashSet::new(), HashSet::new()];
        while !tally.over.load(Ordering::Relaxed) {
            let leaves = call(&store, &trainer, &listener).await;
            for ((seen, count), leaf) in seen.iter_mut().zip(&tally.leaves).zip(leaves) {
                seen.insert(leaf);
                count.store(seen.len(), Ordering::Relaxed);
            }
            tally.calls.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

/// Both agents work with the server that runs now: a new entry arrives, and both workloads get more SVIDs.
fn works(site: &Site, server: &Programs, agent: &Programs, phase: &str, tally: &Tally) {
    for node in ["one", "two"] {
        let name = format!("{phase}-{node}");
        drop(site.entry(server, node, &name, &[]));
        drop(site.wait_for_svid(agent, node, &name));
    }
    let (calls, rotations) = (tally.calls.load(Ordering::Relaxed), tally.rotations());
    wait_until(
        "calls and rotations on both sides",
        Duration::from_secs(60),
        || {
            let called = tally.calls.load(Ordering::Relaxed) - calls;
            assert!(!tally.over.load(Ordering::Relaxed), "{phase}: a call failed");
            (tally.rotations() >= rotations + 2 && called >= 50).then_some(())
        },
    );
}

fn swap(site: &Site, running: Process, next: &Programs) -> Process {
    assert!(running.stop().success());
    site.start_server(next)
}

#[test]
fn a_server_of_spires_is_replaced_and_put_back_and_no_call_fails() {
    let Some(spire) = spire("replaced and put back") else {
        return;
    };
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let (site, ours) = (Site::new(""), credence());
    let server = site.start_server(&spire);
    let fast = "experimental { sync_interval = \"1s\" }";
    let _agents = ["one", "two"].map(|name| site.join(&spire, &spire, name, fast));
    let created = site.server_cli_with(&spire, &["entry", "create", "-data", "-"], &many());
    assert!(created.status.success(), "{}", credence_dropin::said(&created));
    drop(site.entry(&spire, "one", "store", &["-dns", NAME, "-x509SVIDTTL", TTL]));
    drop(site.entry(&spire, "two", "trainer", &["-x509SVIDTTL", TTL]));
    let counted = site.server_ok(&spire, &["entry", "count"]);
    assert!(counted.starts_with("1000 registration entries"), "{counted}");
    drop(site.wait_for_svid(&spire, "one", "store"));
    drop(site.wait_for_svid(&spire, "two", "trainer"));

    let tally = Arc::new(Tally::default());
    let endpoints = ["one", "two"].map(|name| format!("unix://{}", site.agent_socket(name).display()));
    let talking = Arc::clone(&tally);
    let talk = thread::spawn(move || talk(endpoints, &talking));
    works(&site, &spire, &spire, "before", &tally);
    let before = site.server_ok(&spire, &["bundle", "show"]);

    let server = swap(&site, server, &ours);
    let files = spires_files(&site);
    assert!(
        server.output().contains("Took SPIRE's datastore over"),
        "{}",
        server.output()
    );
    works(&site, &ours, &spire, "ours", &tally);
    assert_eq!(
        site.server_ok(&ours, &["bundle", "show"]),
        before,
        "the same authorities sign"
    );
    assert_eq!(spires_files(&site), files, "SPIRE's files were written");

    let _server = swap(&site, server, &spire);
    works(&site, &spire, &spire, "after", &tally);
    tally.over.store(true, Ordering::Relaxed);
    talk.join().expect("no call failed");
    let listed = site.server_ok(&spire, &["agent", "count"]);
    assert!(listed.starts_with("2 attested agents"), "{listed}");
    let calls = tally.calls.load(Ordering::Relaxed);
    passed("replaced and put back (mTLS calls)", calls, &spire);
}
