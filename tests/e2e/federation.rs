//! Bundles of other trust domains, set by hand, and the workloads that are to trust them.

use std::fs;
use std::time::Duration;

use credence_test_support::{Lab, wait_until};

use crate::{CREDENCE, said};

const FAR: &str = "spiffe://far.test";

/// What `api fetch jwt` shows of the foreign trust domain.
fn shows_keys(lab: &Lab) -> bool {
    let output = lab.agent_cli(
        "node",
        &["api", "fetch", "jwt", "-audience", "a", "-output", "json"],
    );
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8_lossy(&output.stdout).contains(FAR)
}

/// The foreign roots that `api fetch x509` writes.
fn roots(lab: &Lab) -> Option<String> {
    let folder = tempfile::tempdir().expect("make a folder");
    let path = folder.path().display().to_string();
    let output = lab.agent_cli("node", &["api", "fetch", "x509", "-write", &path]);
    assert!(output.status.success(), "{}", said(&output));
    fs::read_to_string(folder.path().join("federated_bundle.0.0.pem")).ok()
}

/// Conforms: FED-29, FED-31
#[test]
fn a_workload_gets_the_bundles_its_entry_federates_with_and_loses_them_again() {
    let (lab, far) = (Lab::new(CREDENCE), Lab::new(CREDENCE));
    let (_server, _far) = (lab.server(), far.server());
    let set = |format: &str| {
        let path = lab.dir().join(format);
        fs::write(&path, far.ok(&["bundle", "show", "-format", format])).expect("write a bundle");
        let path = path.display().to_string();
        drop(lab.ok(&["bundle", "set", "-id", FAR, "-path", &path, "-format", format]));
    };
    set("pem");
    let _agent = lab.agent("node");
    lab.entry("node", "workload", &["-federatesWith", FAR]);
    let pem = far.ok(&["bundle", "show"]);
    let soon = Duration::from_secs(10);
    wait_until("the entry", soon, || {
        let fetched = lab.agent_cli("node", &["api", "fetch", "x509"]);
        fetched.status.success().then_some(())
    });
    assert_eq!(roots(&lab), Some(pem.clone()));
    set("spiffe");
    wait_until("the keys of the foreign trust domain", soon, || {
        shows_keys(&lab).then_some(())
    });
    assert_eq!(roots(&lab), Some(pem));
    drop(lab.ok(&["bundle", "delete", "-id", FAR, "-mode", "dissociate"]));
    wait_until("the bundle to be withdrawn", soon, || {
        roots(&lab).is_none().then_some(())
    });
    wait_until("the keys to be withdrawn", soon, || {
        (!shows_keys(&lab)).then_some(())
    });
}
