//! SPIRE's suites force-rotation-jwt-authority and force-rotation-self-signed, with one server: each step by the command
//! line, each line of the logs that operators wait for, and OpenSSL as judge of what workloads get.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use credence_test_support::{Lab, counterparts, wait_until};
use serde_json::Value;

use crate::{CREDENCE, said};

const PATIENCE: Duration = Duration::from_secs(20);

/// The JSON that a server command prints.
fn json(lab: &Lab, arguments: &str) -> Value {
    let line = format!("{arguments} -output json");
    let words: Vec<&str> = line.split_whitespace().collect();
    serde_json::from_str(&lab.ok(&words)).expect("JSON")
}

/// The text at that place.
fn text(of: &Value, pointer: &str) -> String {
    let found = of.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no {pointer} in {of}")).to_owned()
}

fn id(of: &Value) -> String {
    text(of, "/authority_id")
}

/// The token that the agent hands out, its key, and the keys that the agent publishes.
fn token(lab: &Lab) -> (String, String, Vec<String>) {
    let line = ["api", "fetch", "jwt", "-audience", "aud", "-output", "json"];
    let output = lab.agent_cli("node", &line);
    assert!(output.status.success(), "{}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let token = text(&answer, "/0/svids/0/svid");
    let header = token.split('.').next().expect("a header");
    let header = URL_SAFE_NO_PAD.decode(header).expect("base64url");
    let header: Value = serde_json::from_slice(&header).expect("a header");
    let bundle = STANDARD
        .decode(text(&answer, "/1/bundles/spiffe:~1~1example.org"))
        .expect("base64");
    let bundle: Value = serde_json::from_slice(&bundle).expect("a JWKS");
    let keys = bundle.pointer("/keys").and_then(Value::as_array).expect("keys");
    let keys = keys.iter().map(|key| text(key, "/kid"));
    let kid = text(&header, "/kid");
    (token, kid, keys.collect())
}

fn authorities(lab: &Lab, kind: &str) -> Vec<Value> {
    let bundle = json(lab, "bundle show");
    bundle
        .get(kind)
        .and_then(Value::as_array)
        .expect("authorities")
        .clone()
}

#[test]
fn a_jwt_authority_is_replaced_by_hand() {
    let lab = Lab::new(CREDENCE);
    let mut server = lab.server();
    let mut agent = lab.agent("node");
    lab.entry("node", "workload", &[]);
    let fetched = || lab.agent_cli("node", &["api", "fetch", "x509"]).status.success();
    wait_until("the entry arrives", PATIENCE, || fetched().then_some(()));

    assert_eq!(authorities(&lab, "jwt_authorities").len(), 1);
    let prepared = id(&json(&lab, "localauthority jwt prepare")["prepared_authority"]);
    server.wait_for_line("JWT key prepared", 2);
    server.wait_for_line(&format!("local_authority_id={prepared}"), 1);
    let keys: Vec<_> = authorities(&lab, "jwt_authorities")
        .iter()
        .map(|key| key["key_id"].clone())
        .collect();
    assert!(
        keys.len() == 2 && keys.contains(&Value::from(&*prepared)),
        "{keys:?}"
    );

    let old = id(&json(&lab, "localauthority jwt show")["active"]);
    let (first, kid, _) = token(&lab);
    assert_eq!(kid, old);
    wait_until("the agent has both keys", PATIENCE, || {
        (token(&lab).2.len() == 2).then_some(())
    });

    let activate = format!("localauthority jwt activate -authorityID {prepared}");
    let activated = id(&json(&lab, &activate)["activated_authority"]);
    assert_eq!(activated, prepared);
    server.wait_for_line("JWT key activated", 2);
    assert_eq!(token(&lab).0, first, "what is valid stays in the cache");

    assert_eq!(id(&json(&lab, "localauthority jwt show")["old"]), old);
    drop(lab.ok(&["localauthority", "jwt", "taint", "-authorityID", &old]));
    server.wait_for_line("JWT authority tainted successfully", 1);
    agent.wait_for_line(
        "JWT-SVIDs were removed from the JWT cache because they were issued by a tainted authority",
        1,
    );
    agent.wait_for_line("count_jwt_svids=1", 1);
    let (second, kid, keys) = token(&lab);
    assert!(second != first && kid == prepared && keys.len() == 2);
    let tainted: Vec<_> = authorities(&lab, "jwt_authorities")
        .iter()
        .map(|key| key["tainted"].clone())
        .collect();
    assert_eq!(tainted, [true, false]);

    let revoked = format!("localauthority jwt revoke -authorityID {old}");
    drop(json(&lab, &revoked));
    server.wait_for_line("JWT authority revoked successfully", 1);
    wait_until("the agent has the new key alone", PATIENCE, || {
        (token(&lab).2 == [&*prepared]).then_some(())
    });
    assert_eq!(token(&lab).0, second);
    let validate = ["api", "validate", "jwt", "-audience", "aud", "-svid"];
    let valid = |token: &str| {
        lab.agent_cli("node", &[&validate[..], &[token]].concat())
            .status
            .success()
    };
    assert!(valid(&second) && !valid(&first));
}

/// What `openssl verify` says of the workload's chain with that authority alone.
fn verifies(folder: &Path, authority: &Value) -> bool {
    let der = text(authority, "/asn1");
    let lines: Vec<&[u8]> = der.as_bytes().chunks(64).collect();
    let text = [
        b"-----BEGIN CERTIFICATE-----",
        &*lines.join(&b'\n'),
        b"-----END CERTIFICATE-----\n",
    ];
    let root = folder.join("root.pem");
    fs::write(&root, text.join(&b'\n')).expect("write the root");
    let svid = folder.join("svid.0.pem");
    let mut openssl = Command::new("openssl");
    openssl
        .args(["verify", "-CAfile"])
        .arg(&root)
        .arg("-untrusted")
        .arg(&svid)
        .arg(&svid);
    openssl.output().expect("run openssl").status.success()
}

#[test]
fn an_x509_authority_is_replaced_by_hand() {
    if !counterparts::installed("openssl", "openssl") {
        return;
    }
    let lab = Lab::new(CREDENCE);
    let mut server = lab.server();
    let mut agent = lab.agent("node");
    lab.entry("node", "workload", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().display().to_string();
    let fetch = || {
        lab.agent_cli("node", &["api", "fetch", "x509", "-write", &target])
            .status
            .success()
    };
    wait_until("the entry arrives", PATIENCE, || fetch().then_some(()));

    let first = authorities(&lab, "x509_authorities");
    assert_eq!(first.len(), 1);
    assert!(first.iter().all(|authority| verifies(folder.path(), authority)));
    let prepared = id(&json(&lab, "localauthority x509 prepare")["prepared_authority"]);
    server.wait_for_line("X509 CA prepared", 2);
    assert_eq!(authorities(&lab, "x509_authorities").len(), 2);
    let prepared_shown = id(&json(&lab, "localauthority x509 show")["prepared"]);
    assert_eq!(prepared_shown, prepared);
    drop(json(
        &lab,
        &format!("localauthority x509 activate -authorityID {prepared}"),
    ));
    server.wait_for_line("X509 CA activated", 2);
    server.wait_for_line("Successfully rotated X.509 CA", 2);

    let old = id(&json(&lab, "localauthority x509 show")["old"]);
    drop(lab.ok(&["localauthority", "x509", "taint", "-authorityID", &old]));
    server.wait_for_line("X.509 authority tainted successfully", 1);
    server.wait_for_line(
        "Server SVID signed using a tainted authority, forcing rotation of the Server SVID",
        1,
    );
    agent.wait_for_line("New tainted X.509 authorities found", 1);
    agent.wait_for_line(&format!("subject_key_ids={old}"), 1);
    agent.wait_for_line(
        "Scheduled rotation for SVID entries due to tainted X.509 authorities",
        1,
    );
    agent.wait_for_line("Agent SVID is tainted by a root authority, forcing rotation", 1);
    let both = authorities(&lab, "x509_authorities");
    let flag = |tainted: bool| both.iter().find(|authority| authority["tainted"] == tainted);
    let (before, after) = (
        flag(true).expect("a tainted one"),
        flag(false).expect("a new one"),
    );
    wait_until(
        "the new SVID verifies with the new authority alone",
        PATIENCE,
        || (fetch() && verifies(folder.path(), after)).then_some(()),
    );
    assert!(!verifies(folder.path(), before));

    // Nothing of the agent's is under it any more, so no force is needed; its own SVID may still be under way.
    let revoke = ["localauthority", "x509", "revoke", "-authorityID", &old];
    wait_until("the agent is ready", PATIENCE, || {
        lab.cli(&revoke).status.success().then_some(())
    });
    server.wait_for_line("X.509 authority revoked successfully", 1);
    let left = authorities(&lab, "x509_authorities");
    assert_eq!(left.as_slice(), std::slice::from_ref(after));
    let bundle = folder.path().join("bundle.0.pem");
    wait_until("the workload's bundle has one authority", PATIENCE, || {
        let pem = fetch().then(|| fs::read_to_string(&bundle).expect("the bundle"))?;
        (pem.matches("BEGIN CERTIFICATE").count() == 1).then_some(())
    });
    // Both ends of the agent's connection are under the new authority.
    lab.entry("node", "second", &[]);
    wait_until("the second entry arrives", PATIENCE, || {
        let fetched = lab.agent_cli("node", &["api", "fetch", "x509"]);
        let listed = String::from_utf8_lossy(&fetched.stdout);
        (listed.matches("SPIFFE ID:").count() == 2).then_some(())
    });
    counterparts::record("openssl", "ran: judged a forced rotation");
}
