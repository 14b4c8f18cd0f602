//! Every client of the field gets its identity: our own command line, openssl, and the SPIFFE libraries of Go, Rust,
//! Python (gRPC C-core) and Java (Netty).

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use credence_test_support::{Lab, Process, counterparts};
use spiffe::WorkloadApiClient;

use crate::{CREDENCE, cache, said};

const ID: &str = "spiffe://example.org/inference";

/// A server, an agent and one workload that this process is.
fn lab() -> (Lab, [Process; 2]) {
    let lab = Lab::new(CREDENCE);
    let server = lab.server();
    let agent = lab.agent("node");
    lab.entry("node", "inference", &["-dns", "inference.local"]);
    wait_for_identity(&lab);
    (lab, [server, agent])
}

fn wait_for_identity(lab: &Lab) {
    credence_test_support::wait_until("the identity arrives", std::time::Duration::from_secs(10), || {
        lab.agent_cli("node", &["api", "fetch", "x509"])
            .status
            .success()
            .then_some(())
    });
}

/// Conforms: WAP-40, WEP-01, WEP-05
#[test]
fn the_command_line_fetches_and_openssl_verifies() {
    let (lab, _running) = lab();
    let out = lab.dir().join("out");
    fs::create_dir(&out).expect("make a folder");
    let fetched = lab.agent_cli(
        "node",
        &[
            "api",
            "fetch",
            "x509",
            "-write",
            &out.display().to_string(),
            "-silent",
        ],
    );
    assert!(fetched.status.success(), "{}", said(&fetched));
    openssl_verifies(&out);

    let jwt = lab.agent_cli("node", &["api", "fetch", "jwt", "-audience", "feature-store"]);
    assert!(jwt.status.success(), "{}", said(&jwt));
    let text = String::from_utf8_lossy(&jwt.stdout).into_owned();
    assert!(text.starts_with(&format!("token({ID}):")), "{text}");
    let token = text.lines().nth(1).expect("a token").trim().to_owned();
    let valid = lab.agent_cli(
        "node",
        &[
            "api",
            "validate",
            "jwt",
            "-audience",
            "feature-store",
            "-svid",
            &token,
        ],
    );
    assert!(
        String::from_utf8_lossy(&valid.stdout).contains("SVID is valid."),
        "{}",
        said(&valid)
    );
    let other = lab.agent_cli(
        "node",
        &["api", "validate", "jwt", "-audience", "vault", "-svid", &token],
    );
    assert_eq!(other.status.code(), Some(1), "{}", said(&other));
}

fn openssl_verifies(out: &Path) {
    if !counterparts::installed("openssl", "openssl") {
        return;
    }
    let verified = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"])
        .args([out.join("bundle.0.pem"), out.join("svid.0.pem")])
        .output()
        .expect("run openssl");
    assert!(verified.status.success(), "{}", said(&verified));
    let shown = Command::new("openssl")
        .args([
            "x509",
            "-noout",
            "-ext",
            "subjectAltName,keyUsage,basicConstraints",
            "-in",
        ])
        .arg(out.join("svid.0.pem"))
        .output()
        .expect("run openssl");
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(
        text.contains(&format!("URI:{ID}")) && text.contains("DNS:inference.local"),
        "{text}"
    );
    counterparts::record("openssl", "ran");
}

#[test]
fn rust_spiffe_fetches_and_verifies() {
    let (lab, _running) = lab();
    let runtime = tokio::runtime::Runtime::new().expect("start a runtime");
    runtime.block_on(async {
        let client = WorkloadApiClient::connect_to(lab.workload_api("node"))
            .await
            .expect("connect");
        let context = client
            .fetch_x509_context()
            .await
            .expect("fetch the X.509 context");
        let svid = context.default_svid().expect("an SVID");
        assert_eq!(svid.spiffe_id().to_string(), ID);
        let token = client
            .fetch_jwt_token(["feature-store"], None)
            .await
            .expect("fetch a token");
        let bundles = client.fetch_jwt_bundles().await.expect("fetch the JWT bundles");
        let verified =
            spiffe::JwtSvid::parse_and_validate(&token, &bundles, &["feature-store"]).expect("verify");
        assert_eq!(verified.spiffe_id().to_string(), ID);
        let validated = client
            .validate_jwt_token("feature-store", &token)
            .await
            .expect("validate");
        assert_eq!(validated.spiffe_id().to_string(), ID);
    });
    counterparts::record("rust spiffe", "ran");
}

/// What both foreign clients print.
fn expected(printed: &str) {
    let lines: Vec<&str> = printed.lines().collect();
    let (x509, jwt, validated) = (
        format!("x509 {ID}"),
        format!("jwt {ID}"),
        format!("validated {ID}"),
    );
    assert_eq!(
        lines,
        [x509.as_str(), "authorities 1", &jwt, &validated, "jwt-bundles 1"]
    );
}

#[test]
fn python_spiffe_fetches_and_validates() {
    let Some(python) = counterparts::python_spiffe(cache()) else {
        return;
    };
    let (lab, _running) = lab();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/python/workload.py");
    let output = Command::new(python)
        .arg(script)
        .args([lab.workload_api("node"), "feature-store".into()])
        .output()
        .expect("run python");
    assert!(output.status.success(), "{}", said(&output));
    expected(&String::from_utf8_lossy(&output.stdout));
    counterparts::record("python spiffe", "ran");
}

#[test]
fn java_spiffe_fetches_and_validates() {
    let Some(class_path) = counterparts::java_spiffe(cache()) else {
        return;
    };
    let (lab, _running) = lab();
    let output = Command::new("java")
        .args(["-cp", &class_path, "org.credence.tests.Workload"])
        .args([
            format!("unix:{}", lab.agent_socket("node").display()),
            "feature-store".into(),
        ])
        .output()
        .expect("run java");
    assert!(output.status.success(), "{}", said(&output));
    expected(&String::from_utf8_lossy(&output.stdout));
    counterparts::record("java-spiffe", "ran");
}

#[test]
fn go_spiffe_fetches_and_validates() {
    let Some(program) = counterparts::go_spiffe(cache()) else {
        return;
    };
    let (lab, _running) = lab();
    let output = Command::new(program)
        .args([lab.workload_api("node"), "feature-store".into()])
        .output()
        .expect("run the client");
    assert!(output.status.success(), "{}", said(&output));
    expected(&String::from_utf8_lossy(&output.stdout));
    counterparts::record("go-spiffe", "ran");
}

/// A watcher is told of every renewal, and each SVID verifies by the bundle that comes with it.
#[test]
fn go_spiffe_watches_renewals() {
    let Some(program) = counterparts::go_spiffe(cache()) else {
        return;
    };
    let lab = Lab::new(CREDENCE);
    let (_server, _agent) = (lab.server(), lab.agent("node"));
    lab.entry("node", "inference", &["-x509SVIDTTL", "8"]);
    wait_for_identity(&lab);
    let mut watching = Command::new(program)
        .args([lab.workload_api("node"), "feature-store".into(), "watch".into()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run the client");
    let lines = BufReader::new(watching.stdout.take().expect("its output")).lines();
    let serials: HashSet<String> = lines.take(3).map(|line| line.expect("a line")).collect();
    drop(watching.stdin.take());
    assert!(watching.wait().expect("its end").success());
    assert_eq!(serials.len(), 3, "{serials:?}");
}
