use std::fs;

use super::*;

fn read(text: &str) -> Result<(Helper, Vec<String>), Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("helper.conf");
    fs::write(&path, text).unwrap();
    let texts = |faults: Vec<credence_runtime::config::Fault>| {
        let texts = faults.iter().map(ToString::to_string);
        texts
            .map(|text| text.replace(&path.display().to_string(), ""))
            .collect()
    };
    match read_helper(&path) {
        Ok((helper, warnings)) => Ok((helper, texts(warnings))),
        Err(faults) => Err(texts(faults)),
    }
}

/// A file with every key that spiffe-helper has.
const WHOLE: &str = r#"
agent_address = "/run/agent.sock"
cmd = "ghostunnel"
cmd_args = "server --listen localhost:8002 --allow-uri-san \"spiffe://example.org/a b\""
pid_file_name = "/run/ghostunnel.pid"
cert_dir = "certs"
daemon_mode = true
add_intermediates_to_bundle = true
renew_signal = "SIGUSR1"
svid_file_name = "svid.pem"
svid_key_file_name = "svid_key.pem"
svid_bundle_file_name = "svid_bundle.pem"
jwt_svids = [{jwt_audience="your-audience", jwt_extra_audiences=["extra-1", "extra-2"], jwt_svid_file_name="jwt_svid.token"}]
jwt_bundle_file_name = "bundle.json"
include_federated_domains = true
cert_file_mode = 0444
key_file_mode = 0440
jwt_bundle_file_mode = 0400
jwt_svid_file_mode = 0640
hint = "external"
omit_expired = true
health_checks {
    listener_enabled = true
    bind_port = 8090
    liveness_path = "/l"
    readiness_path = "/r"
}
"#;

#[test]
fn everything_that_spiffe_helper_can_be_told_is_understood() {
    let (helper, warnings) = read(WHOLE).unwrap();
    assert_eq!(warnings, [] as [&str; 0]);
    assert_eq!(helper.agent_address.as_deref(), Some("/run/agent.sock"));
    assert!(helper.daemon_mode);
    let checks = helper.health_checks.unwrap();
    assert_eq!(
        (
            checks.bind_port,
            checks.live_path.as_str(),
            checks.ready_path.as_str()
        ),
        (8090, "/l", "/r")
    );
    let job = helper.job;
    assert_eq!(
        (job.choice.hint.as_str(), job.target.folder.to_str()),
        ("external", Some("certs"))
    );
    let files = job.x509.unwrap();
    assert!(files.intermediates_in_bundle && files.federated && files.omit_expired);
    let (svid, key) = files.pair.unwrap();
    assert_eq!(
        (svid.mode, key.mode, files.bundle.unwrap().mode),
        (0o444, 0o440, 0o444)
    );
    assert_eq!(job.jwt_bundle.unwrap().mode, 0o400);
    assert_eq!(job.tokens[0].file.mode, 0o640);
    assert_eq!(job.tokens[0].audience, ["your-audience", "extra-1", "extra-2"]);
    let hooks = job.hooks;
    let (command, arguments) = hooks.command.unwrap();
    assert_eq!(command, "ghostunnel");
    assert_eq!(arguments[4], "spiffe://example.org/a b");
    assert_eq!(hooks.signal, Some(Signal::SIGUSR1));
    assert_eq!(hooks.pid_file.unwrap().to_str(), Some("/run/ghostunnel.pid"));
    assert!(hooks.inherit);
}

/// What its documentation shows for one kind of software or another.
#[test]
fn configurations_in_use_are_understood() {
    for text in [
        "cmd = \"/usr/bin/psql\"\n# Query for the reload\ncmd_args = \"-p 5432 -c \\\"SELECT pg_reload_conf();\\\"\"\n\
         renew_signal = \"\"\nsvid_file_name = \"svid.pem\"\nsvid_key_file_name = \"svid.key\"\n\
         svid_bundle_file_name = \"ca.pem\"",
        "cmd = \"\"\ncmd_args = \"\"\ncert_dir = \"\"\nrenew_signal = \"\"\nsvid_file_name = \"tls.crt\"\n\
         svid_key_file_name = \"tls.key\"\nsvid_bundle_file_name = \"ca.pem\"\njwt_bundle_file_name = \"cert.jwt\"\n\
         jwt_svids = [{jwt_audience=\"test\", jwt_svid_file_name=\"jwt_svid.token\"}]\ndaemon_mode = false",
        "jwt_svids = [\n  {\n    jwt_svid_file_name = \"/sub/a.token\"\n    jwt_audience = \"a\"\n\n  },\n  {\n\
         jwt_svid_file_name = \"./b.token\"\n    jwt_audience = \"b\"\n  }\n]",
        r#"{"jwt_svids": [{"jwt_audience": "a", "jwt_svid_file_name": "a"}], "daemon_mode": false}"#,
    ] {
        let (helper, warnings) = read(text).unwrap();
        assert_eq!(warnings, [] as [&str; 0], "{text}");
        if text.contains("/sub/a.token") {
            let names = helper
                .job
                .tokens
                .iter()
                .map(|token| token.file.name.display().to_string());
            assert_eq!(names.collect::<Vec<_>>(), ["sub/a.token", "b.token"]);
        }
    }
}

#[test]
fn defaults_are_those_of_spiffe_helper() {
    let text = "svid_file_name = \"a\"\nsvid_key_file_name = \"b\"\nsvid_bundle_file_name = \"c\"\ncmd = \"\"\n\
                health_checks { listener_enabled = true }\njwt_bundle_file_name = \"d\"";
    let (helper, _) = read(text).unwrap();
    assert_eq!((helper.agent_address, helper.daemon_mode), (None, true));
    assert_eq!(helper.health_checks.unwrap().bind_port, 8081);
    let files = helper.job.x509.unwrap();
    let (svid, key) = files.pair.unwrap();
    assert_eq!((svid.mode, key.mode), (0o644, 0o600));
    assert_eq!(helper.job.jwt_bundle.unwrap().mode, 0o600);
    assert_eq!(helper.job.target.folder.to_str(), Some(""));
    assert_eq!(helper.job.hooks.command, None);
}

#[test]
fn what_spiffe_helper_refuses_is_refused_with_the_place() {
    let all = "svid_file_name = \"a\"\nsvid_key_file_name = \"b\"\nsvid_bundle_file_name = \"c\"\n";
    for (text, fault) in [
        (
            "svid_file_name = \"a\"".to_owned(),
            "all or none of svid_file_name",
        ),
        (String::new(), "names no file"),
        (format!("{all}foo = 1"), "unknown key \"foo\""),
        (
            format!("{all}jwt_svids = [{{jwt_audience = \"a\"}}]"),
            "jwt_svids.jwt_svid_file_name must be configured",
        ),
        (
            format!("{all}jwt_svids = [{{jwt_svid_file_name = \"a\"}}]"),
            "jwt_svids.jwt_audience must be configured",
        ),
        (format!("{all}pid_file_name = \"p\""), "needs renew_signal"),
        (
            format!("{all}pid_file_name = \"p\"\nrenew_signal = \"SIGHUP\"\ndaemon_mode = false"),
            "needs daemon_mode",
        ),
        (format!("{all}renew_signal = \"HUP\""), "is no signal such as"),
        (format!("{all}cert_file_mode = -1"), "out of range"),
        (
            format!("{all}cmd = \"x\"\ncmd_args = \"a\\\"b\""),
            "a double quote stands within",
        ),
        (
            format!("{all}jwt_bundle_file_name = \"a\""),
            "a is the name of two files",
        ),
        (
            format!("{all}jwt_bundle_file_name = \"../a\""),
            "is no name of a file",
        ),
        (
            format!("{all}jwt_bundle_file_name = \"sub/\""),
            "is no name of a file",
        ),
        (
            format!("{all}pkcs12_file_name = \"p\""),
            "needs keystore_password_file",
        ),
        (format!("{all}renew_url = \"file:///x\""), "must begin with"),
        (
            format!("{all}owner = \"nobody-of-that-name\""),
            "there is no user",
        ),
    ] {
        let faults = read(&text).unwrap_err().join("\n");
        assert!(faults.contains(fault), "{text}: {faults}");
    }
}

/// `444` is what spiffe-helper's users write who mean `0444`; it takes it for the decimal number, and so do we.
#[test]
fn a_decimal_mode_is_taken_as_it_is_and_warned_of() {
    let text = "svid_combined_file_name = \"a\"\nkey_file_mode = 444\ncmd = \"x\"\ndaemon_mode = false";
    let (helper, warnings) = read(text).unwrap();
    assert_eq!(helper.job.x509.unwrap().combined.unwrap().mode, 0o674);
    assert_eq!(warnings.len(), 2);
    assert!(
        warnings[0].contains("444 is a decimal number, mode 0674: octal ones begin with 0"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("has no effect without daemon_mode"),
        "{warnings:?}"
    );
}
