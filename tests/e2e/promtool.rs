//! What Prometheus's own tool says of the pages that server and agent show it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use credence_test_support::{Lab, Settings, counterparts, wait_until};

use crate::CREDENCE;

/// What is wrong with SPIRE's names by today's rules; the names stay, for SPIRE's dashboards.
const OF_NAMES: &[&str] = &[
    "should have \"_total\" suffix",
    "should not have \"_total\" suffix",
    "should not have \"_count\" suffix",
    "should be written in 'snake_case'",
    "should not contain abbreviated units",
];

fn telemetry() -> (u16, String) {
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("find a free port")
        .port();
    let block = format!("telemetry {{\n  Prometheus {{ host = \"127.0.0.1\" port = {port} }}\n}}\n");
    (port, block)
}

/// The page on `port`, once it is there.
fn page(port: u16) -> String {
    wait_until("a page of metrics", Duration::from_secs(20), || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream
            .write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        head.contains("200 OK").then(|| body.to_owned())
    })
}

/// Each line of what `promtool check metrics` says of a page that it can read.
fn lints(page: &str) -> Vec<String> {
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start promtool");
    let mut stdin = tool.stdin.take().expect("a pipe");
    stdin.write_all(page.as_bytes()).expect("give it the page");
    drop(stdin);
    let output = tool.wait_with_output().expect("wait for promtool");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    // 3: it has found something; 1: it can't read the page.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
    said.lines().map(str::to_owned).collect()
}

#[test]
fn promtool_finds_fault_with_nothing_but_spires_names() {
    const NAME: &str = "promtool";
    if !counterparts::installed(NAME, "promtool") {
        return;
    }
    let (of_server, top) = telemetry();
    let lab = Lab::with(
        CREDENCE,
        Settings {
            top,
            ..Settings::default()
        },
    );
    let _server = lab.server();
    assert!(lab.agent("node").stop().success());
    let (of_agent, block) = telemetry();
    let file = lab.dir().join("node/agent.conf");
    let text = fs::read_to_string(&file).expect("read the configuration") + &block;
    fs::write(&file, text).expect("write the configuration");
    let mut agent = lab.agent_again("node");
    agent.wait_for_line("Starting agent APIs", 1);
    drop(lab.entry("node", "web", &[]));
    wait_until("an SVID", Duration::from_secs(20), || {
        let fetched = lab.agent_cli("node", &["api", "fetch", "x509"]);
        fetched.status.success().then_some(())
    });
    let mut found = 0;
    for port in [of_server, of_agent] {
        let page = page(port);
        assert!(page.contains("_elapsed_time_sum"), "{page}");
        for lint in lints(&page) {
            assert!(
                OF_NAMES.iter().any(|known| lint.contains(known)),
                "not about a name of SPIRE's: {lint}"
            );
            assert!(lint.starts_with("spire_"), "a name of our own: {lint}");
            found += 1;
        }
    }
    counterparts::record(NAME, &format!("ran: {found} lints, all of SPIRE's names"));
}
