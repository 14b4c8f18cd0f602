//! The wall clock steps by hours under running programs (libfaketime moves it; the monotonic clock goes on).

use std::path::{Path, PathBuf};
use std::time::Duration;

use credence_test_support::{Lab, Settings, counterparts, wait_until};

use crate::CREDENCE;

const NAME: &str = "libfaketime";

pub(crate) fn library() -> Option<PathBuf> {
    let found = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .iter()
        .map(|machine| PathBuf::from(format!("/usr/lib/{machine}/faketime/libfaketime.so.1")))
        .find(|path| path.exists());
    if found.is_none() {
        counterparts::record(NAME, "SKIPPED: libfaketime.so.1 is not installed");
    }
    found
}

/// A lab whose clock is moved by writing an offset such as `+3h` to the returned file.
fn lab(server: &str) -> Option<(Lab, PathBuf)> {
    let library = library()?;
    let clock = tempfile_path();
    step(&clock, "+0");
    let environment = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ("DONT_FAKE_MONOTONIC", "1".into()),
    ];
    let environment = environment
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let settings = Settings {
        server: server.into(),
        environment,
        ..Settings::default()
    };
    Some((Lab::with(CREDENCE, settings), clock))
}

fn tempfile_path() -> PathBuf {
    crate::cache().join(format!(
        "clock-{:?}-{}",
        std::thread::current().id(),
        std::process::id()
    ))
}

fn step(clock: &Path, offset: &str) {
    let fresh = clock.with_extension("new");
    std::fs::write(&fresh, format!("{offset}\n")).expect("write the offset");
    std::fs::rename(&fresh, clock).expect("move the clock");
}

/// The certificate of the one identity, if it is served. The client doesn't look at its times: it lives on this
/// process's clock, which nobody moves.
fn served(lab: &Lab) -> Option<Vec<u8>> {
    let runtime = tokio::runtime::Runtime::new().expect("start a runtime");
    runtime.block_on(async {
        let client = spiffe::WorkloadApiClient::connect_to(lab.workload_api("node"))
            .await
            .ok()?;
        let svid = client.fetch_x509_svid().await.ok()?;
        Some(svid.leaf().as_bytes().to_vec())
    })
}

#[test]
fn a_step_forwards_re_issues_at_once_and_a_step_back_drops_nothing() {
    let Some((lab, clock)) = lab("agent_ttl = \"12h\"") else {
        return;
    };
    let _server = lab.server();
    let mut agent = lab.agent("node");
    lab.entry("node", "web", &[]);
    let first = wait_until("the identity arrives", Duration::from_secs(10), || served(&lab));
    let published = lab.ok(&["bundle", "show"]);

    step(&clock, "+2h");
    let second = wait_until(
        "the expired SVID is issued again",
        Duration::from_secs(15),
        || served(&lab).filter(|leaf| *leaf != first),
    );

    step(&clock, "+0");
    for _ in 0..20 {
        assert_eq!(
            served(&lab).as_ref(),
            Some(&second),
            "the identity was dropped or replaced"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(
        lab.ok(&["bundle", "show"]),
        published,
        "an authority was replaced"
    );
    assert!(agent.is_running());
    counterparts::record(NAME, "ran");
}

#[test]
fn an_agent_whose_svid_died_in_a_step_exits_so_that_it_can_attest_again() {
    let Some((lab, clock)) = lab("") else { return };
    let _server = lab.server();
    let mut agent = lab.agent("node");
    step(&clock, "+2h");
    let status = agent.wait(Duration::from_secs(30));
    assert!(
        !status.success(),
        "a join token can't attest twice, so the agent must end with an error"
    );
    counterparts::record(NAME, "ran");
}
