use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use credence_identity::X509Authority;

use super::*;
use crate::cache::testing::{START, bundle, entry, svid};

#[test]
fn what_was_stored_is_there_after_a_restart_in_spires_form() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFile::open(folder.path()).unwrap();
    assert!(state.svid().unwrap().is_none() && state.bundle().unwrap().is_empty());
    let svid = svid(&entry("a"), START, Duration::from_secs(60)).svid;
    state.store_svid(&svid, true).unwrap();
    let mut bundle = (*bundle()).clone();
    bundle.x509_authorities.push(X509Authority {
        der: svid.chain[0].clone(),
        tainted: false,
    });
    state.store_bundle(&bundle).unwrap();

    let file = folder.path().join("agent-data.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let pem = STANDARD.decode(json["svid"][0].as_str().unwrap()).unwrap();
    assert!(pem.starts_with(b"-----BEGIN CERTIFICATE-----\n"));
    assert_eq!(json["bootstrap_start_time"], "0001-01-01T00:00:00Z");

    let again = StateFile::open(folder.path()).unwrap();
    let saved = again.svid().unwrap().unwrap();
    assert_eq!((saved.svid, saved.reattestable), (svid.clone(), true));
    assert_eq!(again.bundle().unwrap(), [svid.chain[0].clone()]);
    again.delete_svid().unwrap();
    assert!(StateFile::open(folder.path()).unwrap().svid().unwrap().is_none());
}

#[test]
fn a_file_of_spires_is_read_and_a_damaged_one_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent-data.json");
    fs::write(
        &file,
        r#"{"svid":null,"bundle":null,"reattestable":false,"bootstrap_use":2,
        "bootstrap_start_time":"2026-01-01T00:00:00Z","connection_attempts":3}"#,
    )
    .unwrap();
    let state = StateFile::open(folder.path()).unwrap();
    let spires = BootstrapState {
        again: true,
        began: Some(Timestamp::from_unix_seconds(1_767_225_600)),
        attempts: 3,
    };
    assert_eq!(state.bootstrap(), spires);
    state.delete_svid().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(json["bootstrap_use"], 2);
    for damaged in ["", "7", r#"{"svid":["AAAA"]}"#, r#"{"bundle":["?"]}"#] {
        fs::write(&file, damaged).unwrap();
        StateFile::open(folder.path()).unwrap_err();
        assert_eq!(fs::read_to_string(&file).unwrap(), damaged);
    }
}

#[test]
fn bootstrapping_is_counted_and_begun_again_in_spires_form() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFile::open(folder.path()).unwrap();
    let untouched = BootstrapState {
        again: false,
        began: None,
        attempts: 0,
    };
    assert_eq!(state.bootstrap(), untouched);
    let svid = svid(&entry("a"), START, Duration::from_secs(60)).svid;
    state.store_svid(&svid, true).unwrap();
    let authority = X509Authority {
        der: svid.chain[0].clone(),
        tainted: false,
    };
    let bundle = Bundle {
        x509_authorities: vec![authority],
        ..(*bundle()).clone()
    };
    state.store_bundle(&bundle).unwrap();
    assert!(state.bootstrap().again, "it has a bundle");

    let began = START + Duration::from_secs(7);
    state.begin_again(began).unwrap();
    let file = folder.path().join("agent-data.json");
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(
        (&json["svid"], &json["bundle"], &json["bootstrap_use"]),
        (&serde_json::Value::Null, &serde_json::Value::Null, &2.into())
    );
    assert_eq!(json["bootstrap_start_time"], began.to_string());
    let again = StateFile::open(folder.path()).unwrap();
    let begun = BootstrapState {
        again: true,
        began: Some(began),
        attempts: 0,
    };
    assert_eq!(again.bootstrap(), begun);
    again
        .store_bootstrap(BootstrapState { attempts: 1, ..begun })
        .unwrap();
    assert_eq!(StateFile::open(folder.path()).unwrap().bootstrap().attempts, 1);
}
