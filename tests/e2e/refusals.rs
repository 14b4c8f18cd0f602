//! Bad input gets a clear error that names the field, and changes nothing.

use std::process::Command;
use std::time::Duration;

use credence_test_support::{Lab, Settings};

use crate::{CREDENCE, said};

/// Runs a server command that must fail, and returns its standard error.
fn refused(lab: &Lab, arguments: &[&str]) -> String {
    let output = lab.cli(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn entries_with_a_bad_field_are_refused_by_name() {
    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let parent = "spiffe://example.org/node/a";
    let long = format!("spiffe://example.org/{}", "x".repeat(2049 - 21));
    let cases: [(&str, &str, &str); 6] = [
        (
            "spiffe://other.org/x",
            "unix:uid:0",
            "not a member of trust domain",
        ),
        ("spiffe://example.org/spire/x", "unix:uid:0", "reserved"),
        ("spiffe://example.org/a//b", "unix:uid:0", "path"),
        ("spiffe://example.org", "unix:uid:0", "path"),
        (&long, "unix:uid:0", "2048"),
        ("spiffe://example.org/x", "unix", "selector"),
    ];
    for (id, selector, named) in cases {
        let arguments = [
            "entry",
            "create",
            "-parentID",
            parent,
            "-spiffeID",
            id,
            "-selector",
            selector,
        ];
        let error = refused(&lab, &arguments);
        assert!(error.to_lowercase().contains(named), "{id} {selector}: {error}");
    }
    assert_eq!(lab.ok(&["entry", "count"]).trim(), "0 registration entries");
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    let lab = Lab::with(
        CREDENCE,
        Settings {
            server: "defualt_x509_svid_ttl = \"1h\"".into(),
            ..Settings::default()
        },
    );
    let config = lab.server_config();
    let checked = Command::new(CREDENCE)
        .args(["server", "validate", "-config"])
        .arg(&config)
        .output()
        .expect("run validate");
    assert_eq!(checked.status.code(), Some(1), "{}", said(&checked));
    let text = said(&checked);
    assert!(
        text.contains("defualt_x509_svid_ttl") && text.contains("default_x509_svid_ttl"),
        "{text}"
    );
    assert!(text.contains("server.conf:"), "{text}");
    let mut server = lab.server_unready();
    assert!(!server.wait(Duration::from_secs(10)).success());
}
