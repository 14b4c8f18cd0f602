//! An agent as its operator and a trusted delegate see it: its commands, its admin socket, and what becomes of it when the
//! server's operator throws it out.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use credence_proto::spire::api::agent::delegatedidentity::v1 as delegated;
use credence_proto::spire::api::agent::delegatedidentity::v1::delegated_identity_client::DelegatedIdentityClient;
use credence_proto::spire::api::types::Selector;
use credence_runtime::grpc::connect_unix;
use credence_test_support::{Lab, Process, counterparts, wait_until};
use tonic::Code;

use crate::node_certificate::make_certificates;
use crate::{CREDENCE, said};

const SOON: Duration = Duration::from_secs(10);
const SVID_TTL: &str = "3";

fn admin_socket(lab: &Lab) -> PathBuf {
    lab.dir().join("node/admin.sock")
}

/// Starts agent `node` with a join token and an admin socket, whose delegate is `/delegate`.
fn agent_with_admin_socket(lab: &Lab) -> Process {
    let printed = lab.ok(&["token", "generate", "-spiffeID", "spiffe://example.org/node/node"]);
    let token = printed.split_whitespace().nth(1).expect("a token");
    let more = format!(
        "join_token = \"{token}\"\n  admin_socket_path = \"{}\"\n  \
         authorized_delegates = [\"spiffe://example.org/delegate\"]",
        admin_socket(lab).display()
    );
    let attestor = "NodeAttestor \"join_token\" { plugin_data {} }";
    drop(lab.agent_config("node", attestor, &more));
    let began = Instant::now();
    let agent = lab.agent_again("node");
    wait_until("the agent is healthy", SOON, || {
        let checked = lab.agent_cli("node", &["healthcheck"]);
        checked.status.success().then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    agent
}

/// Runs a program's command on a socket, and returns what it printed; it must succeed.
fn ask(program: &str, socket: PathBuf, arguments: &[&str]) -> String {
    let mut command = Command::new(CREDENCE);
    command
        .arg(program)
        .args(arguments)
        .arg("-socketPath")
        .arg(socket);
    let output = command.output().expect("run the command line");
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("output is UTF-8")
}

fn exit_and_error(output: &Output) -> (Option<i32>, String) {
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn an_agent_is_watched_and_steered_from_the_command_line() {
    let lab = Lab::new(CREDENCE);
    let server = lab.server();
    assert_eq!(lab.ok(&["agent", "list"]).trim(), "No attested agents found");
    let agent = agent_with_admin_socket(&lab);

    let mut away = Command::new(CREDENCE);
    away.args(["agent", "healthcheck", "-socketPath", "invalid/path"]);
    let (code, error) = exit_and_error(&away.output().expect("run healthcheck"));
    assert_eq!(
        (code, error.as_str()),
        (Some(1), "Agent is unhealthy: unable to determine health\n")
    );
    let validate = |path: PathBuf| {
        let mut command = Command::new(CREDENCE);
        command.args(["agent", "validate", "-config"]).arg(path);
        command.output().expect("run validate")
    };
    let valid = validate(lab.dir().join("node/agent.conf"));
    assert_eq!(
        said(&valid),
        "exit status: 0SPIRE agent configuration file is valid.\n"
    );
    let (code, error) = exit_and_error(&validate(lab.dir().join("none.conf")));
    assert_eq!(code, Some(1));
    assert!(
        error.contains("SPIRE agent configuration file is invalid"),
        "{error}"
    );

    let watched = lab.dir().join("watched");
    let mut watch = Command::new(CREDENCE)
        .args(["agent", "api", "watch", "-socketPath"])
        .arg(lab.agent_socket("node"))
        .stdout(File::create(&watched).expect("make a file"))
        .stderr(Stdio::null())
        .spawn()
        .expect("run watch");
    lab.entry("node", "workload-", &["-x509SVIDTTL", SVID_TTL]);
    wait_until("three updates are watched", Duration::from_secs(20), || {
        let text = fs::read_to_string(&watched).expect("read what was watched");
        (text.matches("Received 1 svid after ").count() >= 3).then_some(())
    });
    watch.kill().expect("stop watching");
    watch.wait().expect("reap the watcher");

    let fetched = || agent.output().matches("Fetched JWT SVID").count();
    let fetch = |audience: &str| {
        let output = lab.agent_cli("node", &["api", "fetch", "jwt", "-audience", audience]);
        assert!(output.status.success(), "{}", said(&output));
    };
    let level = |arguments: &[&str]| {
        let line = [arguments, &["-output", "json"]].concat();
        let printed = ask("agent", admin_socket(&lab), &line);
        let json: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
        json["current_level"].as_str().expect("a level").to_owned()
    };
    assert_eq!(level(&["logger", "get"]), "DEBUG");
    fetch("a");
    assert_eq!(fetched(), 1);
    assert_eq!(level(&["logger", "set", "-level", "info"]), "INFO");
    fetch("b");
    assert_eq!(fetched(), 1, "nothing at info");
    assert_eq!(level(&["logger", "reset"]), "DEBUG");
    fetch("a");
    let log = agent.output();
    let line = log
        .lines()
        .rfind(|line| line.contains("Fetched JWT SVID"))
        .expect("a line");
    assert_eq!(fetched(), 2, "what comes from the cache is logged too");
    assert!(line.contains("method=FetchJWTSVID"), "{line}");
    assert!(
        line.contains("spiffe_id=\"spiffe://example.org/workload-\""),
        "{line}"
    );
    let set = ask("agent", admin_socket(&lab), &["logger", "set", "-level", "warn"]);
    assert_eq!(set, "Logger Level : warning\nLaunch Level : debug\n\n");

    let shown = ask("agent", admin_socket(&lab), &["debug", "getinfo"]);
    assert!(
        shown.starts_with("Agent Debug Info:\n  Uptime:                          "),
        "{shown}"
    );
    assert!(
        shown.contains("\n  Cached JWT SVIDs:                2\n"),
        "{shown}"
    );
    assert!(
        shown.contains("\n    [0] SPIFFE ID:  spiffe://example.org/spire/agent/join_token/"),
        "{shown}"
    );
    assert!(
        shown.contains("\n    [1] SPIFFE ID:  spiffe://example.org\n"),
        "with the root: {shown}"
    );
    let mut none = Command::new(CREDENCE);
    none.args([
        "agent",
        "debug",
        "getinfo",
        "-socketPath",
        "/nonexistent/admin.sock",
    ]);
    let (code, error) = exit_and_error(&none.output().expect("run getinfo"));
    assert_eq!(code, Some(1));
    assert!(
        error.starts_with("Error: rpc error: code = Unavailable"),
        "{error}"
    );

    let shown = ask("server", lab.server_socket(), &["debug", "getinfo"]);
    for line in [
        "Server Debug Info:",
        "  Registered Agents:       1",
        "  Registration Entries:    2",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    let set = ask(
        "server",
        lab.server_socket(),
        &["logger", "set", "-level", "info"],
    );
    assert_eq!(set, "Logger Level : info\nLaunch Level : debug\n\n");
    let reset = ask(
        "server",
        lab.server_socket(),
        &["logger", "reset", "-output", "json"],
    );
    assert!(reset.contains("\"current_level\":\"DEBUG\""), "{reset}");
    let refused = lab.cli(&["logger", "set", "-level", "loud"]);
    let text = "Error: the value \"loud\" is not a valid setting\n".to_owned();
    assert_eq!(exit_and_error(&refused), (Some(1), text));
    assert!(server.stop().success());
}

#[test]
fn a_delegate_gets_what_its_charges_have() {
    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let _agent = agent_with_admin_socket(&lab);
    let parent = "spiffe://example.org/node/node";
    let id = "spiffe://example.org/charge";
    let entry = [
        "entry",
        "create",
        "-parentID",
        parent,
        "-spiffeID",
        id,
        "-selector",
        "unix:uid:4711",
    ];
    drop(lab.ok(&entry));
    let runtime = tokio::runtime::Runtime::new().expect("start a runtime");
    runtime.block_on(async {
        let channel = connect_unix(&admin_socket(&lab)).await.expect("connect");
        let mut client = DelegatedIdentityClient::new(channel);
        let selectors = vec![Selector {
            r#type: "unix".to_owned(),
            value: "uid:4711".to_owned(),
        }];
        let svids = delegated::SubscribeToX509sviDsRequest {
            selectors: selectors.clone(),
            pid: 0,
        };
        let tokens = delegated::FetchJwtsviDsRequest {
            audience: vec!["test".to_owned()],
            selectors,
            pid: 0,
        };
        let codes = [
            client.subscribe_to_x509svi_ds(svids.clone()).await.err(),
            client
                .subscribe_to_x509_bundles(delegated::SubscribeToX509BundlesRequest {})
                .await
                .err(),
            client.fetch_jwtsvi_ds(tokens.clone()).await.err(),
            client
                .subscribe_to_jwt_bundles(delegated::SubscribeToJwtBundlesRequest {})
                .await
                .err(),
        ];
        for refused in codes {
            assert_eq!(refused.expect("no delegate yet").code(), Code::PermissionDenied);
        }
        lab.entry("node", "delegate", &[]);
        let deadline = Instant::now() + SOON;
        let mut stream = loop {
            match client.subscribe_to_x509svi_ds(svids.clone()).await {
                Ok(stream) => break stream.into_inner(),
                Err(refused) => assert!(Instant::now() < deadline, "{refused}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let first = stream.message().await.expect("a message").expect("a message");
        let shown = first.x509_svids.first().and_then(|svid| svid.x509_svid.as_ref());
        assert_eq!(
            shown.and_then(|svid| svid.id.as_ref()).expect("an SVID").path,
            "/charge"
        );
        let tokens = client.fetch_jwtsvi_ds(tokens).await.expect("tokens").into_inner();
        assert_eq!(tokens.svids.len(), 1);
        let x509 = client
            .subscribe_to_x509_bundles(delegated::SubscribeToX509BundlesRequest {})
            .await
            .expect("bundles");
        let x509 = x509
            .into_inner()
            .message()
            .await
            .expect("a message")
            .expect("a message");
        let jwt = client
            .subscribe_to_jwt_bundles(delegated::SubscribeToJwtBundlesRequest {})
            .await
            .expect("bundles");
        let jwt = jwt
            .into_inner()
            .message()
            .await
            .expect("a message")
            .expect("a message");
        assert_eq!(
            x509.ca_certificates.keys().collect::<Vec<_>>(),
            ["spiffe://example.org"]
        );
        assert_eq!(jwt.bundles.keys().collect::<Vec<_>>(), ["spiffe://example.org"]);
    });
}

/// The SPIFFE IDs of the agents that the server lists.
fn agents(lab: &Lab) -> Vec<String> {
    let printed = lab.ok(&["agent", "list", "-output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    let listed = json["agents"].as_array().cloned().unwrap_or_default();
    let path = |agent: &serde_json::Value| agent["id"]["path"].as_str().expect("a path").to_owned();
    listed
        .iter()
        .map(|agent| format!("spiffe://example.org{}", path(agent)))
        .collect()
}

#[test]
fn thrown_out_agents_end_or_attest_again_as_they_may() {
    if !counterparts::installed("openssl", "openssl") {
        return;
    }
    let lab = Lab::new(CREDENCE);
    let certificates = lab.dir().join("certificates");
    make_certificates(&certificates);
    fs::copy(certificates.join("ca.pem"), lab.dir().join("x509pop-ca.pem")).expect("trust the root");
    let mut server = lab.server();
    let attestor = format!(
        "NodeAttestor \"x509pop\" {{ plugin_data {{ private_key_path = \"{0}/leaf.key\" certificate_path = \
         \"{0}/leaf.pem\" }} }}",
        certificates.display()
    );
    drop(lab.agent_config("popped", &attestor, ""));
    let mut popped = lab.agent_again("popped");
    popped.wait_for_line("Starting agent APIs", 1);
    let id = agents(&lab).pop().expect("an agent");

    // Banned, it forgets its SVID and ends; it is refused until it is deleted, and attests then.
    drop(lab.ok(&["agent", "ban", "-spiffeID", &id]));
    assert!(!popped.wait(SOON).success());
    for line in [
        "Agent is banned: removing SVID and shutting down",
        "failed to fetch authorized entries:",
    ] {
        assert!(popped.output().contains(line), "{line}: {}", popped.output());
    }
    server.wait_for_line("Agent banned", 1);
    let mut popped = lab.agent_again("popped");
    assert!(!popped.wait(SOON).success());
    assert!(
        popped.output().contains("failed to attest: agent is banned"),
        "{}",
        popped.output()
    );
    drop(lab.ok(&["agent", "evict", "-spiffeID", &id]));
    server.wait_for_line("Agent deleted", 1);
    let mut popped = lab.agent_again("popped");
    for line in [
        "SVID is not found. Starting node attestation",
        "Node attestation was successful",
        "Starting agent APIs",
    ] {
        popped.wait_for_line(line, 1);
    }

    // Evicted, it attests again by itself; an agent that had a join token can't, and ends.
    let mut tokened = lab.agent("tokened");
    let both = agents(&lab);
    assert_eq!(both.len(), 2, "{both:?}");
    for id in &both {
        drop(lab.ok(&["agent", "evict", "-spiffeID", id]));
    }
    for id in &both {
        wait_until("the server refuses the evicted agent", SOON, || {
            let log = server.output();
            let mut lines = log.lines().filter(|line| line.contains("Agent is not attested"));
            lines
                .any(|line| line.contains(&format!("caller_id=\"{id}\"")))
                .then_some(())
        });
    }
    assert!(!tokened.wait(SOON).success());
    let mut again = lab.agent_again("tokened");
    assert!(!again.wait(SOON).success());
    wait_until("the other attests again", SOON, || {
        (agents(&lab) == [id.clone()]).then_some(())
    });
    assert!(popped.is_running());
    counterparts::record("openssl", "ran");
}
