//! fetch-x509-svids: a workload gets all its SVIDs, also where they are more than the agent's cache may hold.

use credence_test_support::Settings;

use super::*;
use crate::CREDENCE;

#[test]
fn a_workload_gets_more_svids_than_the_cache_may_hold() {
    let lab = Lab::with(
        CREDENCE,
        Settings {
            agent: "x509_svid_cache_max_size = 2".to_owned(),
            ..Settings::default()
        },
    );
    let _server = lab.server();
    let _agent = lab.agent("node");
    for number in 0..6 {
        lab.entry("node", &format!("w{number}"), &[]);
    }
    for round in 0..2 {
        wait_until("all six are there", SOON, || {
            let shown = fetched(&lab, "node");
            (0..6)
                .all(|number| shown.contains(&format!("spiffe://example.org/w{number}")))
                .then_some(())
        });
        assert!(
            round == 0 || fetched(&lab, "node").contains("Received 6 svids"),
            "and again, at once"
        );
    }
}
