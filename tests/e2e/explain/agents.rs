//! Misconfigured agents: one that works is stopped, one thing is changed, and it is put right again.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::bundle::certificate_to_pem;
use credence_crypto::x509::{CaSubject, X509Ca};
use credence_crypto::{KeyType, PrivateKey};
use credence_identity::{Timestamp, TrustDomain};
use credence_test_support::{Lab, Process, Settings, counterparts};

use super::Case;
use super::world::{Workload, World, read, replaced};
use crate::node_certificate::make_certificates;
use crate::{CREDENCE, clock, said};

/// The agent that is changed.
const AGENT: &str = "changed";

/// A change of the agent's configuration file.
pub(super) struct Change {
    pub(super) area: &'static str,
    name: &'static str,
    cause: &'static str,
    /// Whether the agent keeps its data: else it has to attest.
    keeps_data: bool,
    change: fn(&str) -> String,
}

const fn change(
    area: &'static str,
    name: &'static str,
    cause: &'static str,
    change: fn(&str) -> String,
) -> Change {
    Change {
        area,
        name,
        cause,
        keeps_data: false,
        change,
    }
}

const fn keeping(change: Change) -> Change {
    Change {
        keeps_data: true,
        ..change
    }
}

pub(super) const CHANGES: &[Change] = &[
    change("configuration", "unknown-key", "config-invalid", |conf| {
        replaced(conf, "trust_domain =", "trust_domian =")
    }),
    change("configuration", "two-bundles", "config-invalid", |conf| {
        replaced(
            conf,
            "trust_bundle_path",
            "insecure_bootstrap = true\n  trust_bundle_path",
        )
    }),
    change("configuration", "wrong-port", "server-unreachable", |conf| {
        replaced(conf, &line(conf, "server_port"), "server_port = 1")
    }),
    change(
        "configuration",
        "other-trust-domain",
        "other-trust-domain",
        |conf| {
            replaced(
                conf,
                "trust_domain = \"example.org\"",
                "trust_domain = \"example.com\"",
            )
        },
    ),
    keeping(change(
        "configuration",
        "no-discovery",
        "selector-switched-off",
        |conf| {
            replaced(
                conf,
                "discover_workload_path = true",
                "discover_workload_path = false",
            )
        },
    )),
    keeping(change(
        "configuration",
        "workload-api-off",
        "workload-api-off",
        |conf| replaced(conf, "log_level", "disable_workload_api = true\n  log_level"),
    )),
    change("configuration", "data-dir-a-file", "folder-unusable", |conf| {
        replaced(conf, "changed/data\"", "changed/agent.conf\"")
    }),
    change("attestation", "token-used", "join-token-unknown", str::to_owned),
    change("attestation", "no-token", "no-join-token", |conf| {
        replaced(conf, &line(conf, "join_token ="), "")
    }),
    change("attestation", "no-such-proof", "node-proof", |conf| {
        x509pop(conf, "/nonexistent.key", "/nonexistent.pem")
    }),
    change("bundle", "bundle-missing", "bundle-unusable", |conf| {
        replaced(conf, "/bundle.pem", "/bundel.pem")
    }),
    change(
        "bundle",
        "bundle-without-certificate",
        "bundle-unusable",
        |conf| replaced(conf, "/bundle.pem", "/server.conf"),
    ),
];

const fn case(area: &'static str, name: &'static str, run: fn(&mut World, &str)) -> Case {
    Case { area, name, run }
}

pub(super) const CASES: &[Case] = &[
    case("attestation", "token-expired", token_expired),
    case("attestation", "attestor-unknown", attestor_unknown),
    case("attestation", "proof-refused", proof_refused),
    case("bundle", "bundle-of-another", bundle_of_another),
    case("bundle", "bundle-expired", bundle_expired),
    case("signing", "jwt-off", jwt_off),
    case("clock", "clock-behind", |w, n| out_of_time(w, n, "-1h", false)),
    case("clock", "clock-ahead", |w, n| out_of_time(w, n, "+3d", false)),
    case("clock", "clock-a-little-ahead", |w, n| {
        out_of_time(w, n, "+90s", true)
    }),
    case("socket", "agent-killed", agent_killed),
    case("socket", "agent-stopped", agent_stopped),
    case("attestation", "evicted", |w, n| {
        put_out(w, n, "evict", "agent-not-attested")
    }),
    case("attestation", "banned", |w, n| {
        put_out(w, n, "ban", "agent-banned")
    }),
];

fn line(conf: &str, start: &str) -> String {
    let found = conf.lines().map(str::trim).find(|line| line.starts_with(start));
    found.expect("a line").to_owned()
}

fn x509pop(conf: &str, key: &str, certificate: &str) -> String {
    let conf = replaced(conf, &line(conf, "join_token ="), "");
    let data = format!("private_key_path = \"{key}\"\n certificate_path = \"{certificate}\"");
    replaced(
        &conf,
        "NodeAttestor \"join_token\" { plugin_data {} }",
        &format!("NodeAttestor \"x509pop\" {{ plugin_data {{\n {data}\n }} }}"),
    )
}

/// The agent that works, and a workload that it serves.
pub(super) struct Working {
    process: Option<Process>,
    workload: Workload,
    conf: String,
}

impl Working {
    pub(super) fn new(world: &World) -> Self {
        let process = world.lab.agent(AGENT);
        let workload = world.workload(AGENT);
        world.entry("of-changed", "node/changed", &[&workload.selector()], &[]);
        world.of_process("an agent that works", "", AGENT, &workload, &[]);
        Self {
            process: Some(process),
            workload,
            conf: read(&world.lab.dir().join(AGENT).join("agent.conf")),
        }
    }

    fn folder(world: &World) -> PathBuf {
        world.lab.dir().join(AGENT)
    }

    /// Runs with this configuration instead, until the cause shows, and then as before until none does.
    fn with(
        &mut self,
        world: &World,
        name: &str,
        cause: &str,
        conf: &str,
        keeps_data: bool,
        environment: &[(&str, String)],
    ) {
        let folder = Self::folder(world);
        let (config, data, kept) = (
            folder.join("agent.conf"),
            folder.join("data"),
            folder.join("kept"),
        );
        if let Some(process) = self.process.take() {
            assert!(process.stop().success(), "{name}: the agent did not stop well");
        }
        if !keeps_data {
            fs::rename(&data, &kept).expect("put the data aside");
        }
        fs::write(&config, conf).expect("write the configuration");
        let mut command = Command::new(CREDENCE);
        command
            .args(["agent", "run", "-config"])
            .arg(&config)
            .envs(environment.iter().map(|(name, value)| (*name, value)));
        let mut misled = Process::spawn(command, &world.lab.dir().join("misled.log"));
        world.of_process(name, cause, AGENT, &self.workload, &[]);
        misled.kill();
        if !keeps_data {
            // There is none if the agent didn't get so far.
            drop(fs::remove_dir_all(&data));
            fs::rename(&kept, &data).expect("put the data back");
        }
        fs::write(&config, &self.conf).expect("write the configuration");
        self.process = Some(world.lab.agent_again(AGENT));
        world.of_process(name, "", AGENT, &self.workload, &[]);
    }

    pub(super) fn run(&mut self, world: &World, change: &Change) {
        let conf = (change.change)(&self.conf);
        self.with(world, change.name, change.cause, &conf, change.keeps_data, &[]);
    }
}

/// The agent of the world, made with the first case that asks for it.
fn working(world: &mut World) -> Working {
    world.working.take().expect("an agent that works")
}

fn token_expired(world: &mut World, name: &str) {
    let mut agent = working(world);
    let printed = world.lab.ok(&["token", "generate", "-ttl", "1"]);
    let token = printed.split_whitespace().nth(1).expect("a token");
    std::thread::sleep(Duration::from_millis(1100));
    let conf = replaced(
        &agent.conf,
        &line(&agent.conf, "join_token ="),
        &format!("join_token = \"{token}\""),
    );
    agent.with(world, name, "join-token-expired", &conf, false, &[]);
    world.working = Some(agent);
}

/// A key and a certificate that it signed itself, in PEM files; none without openssl.
fn self_signed(world: &World) -> Option<(String, String)> {
    if !counterparts::installed("openssl", "openssl") {
        return None;
    }
    let file = |name| world.lab.dir().join(name).display().to_string();
    let (key, certificate) = (file("node.key"), file("node.pem"));
    let made = Command::new("openssl")
        .args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=node -days 1".split(' '),
        )
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .expect("run openssl");
    assert!(made.status.success(), "{}", said(&made));
    Some((key, certificate))
}

/// A certificate of an authority that the server doesn't trust for this; the twin is one that it does.
fn proof_refused(world: &mut World, name: &str) {
    let mut agent = working(world);
    let Some((key, certificate)) = self_signed(world) else {
        world.skip(name, "openssl is not installed");
        world.working = Some(agent);
        return;
    };
    let certificates = world.lab.dir().join("certificates");
    make_certificates(&certificates);
    fs::copy(
        certificates.join("ca.pem"),
        world.lab.dir().join("x509pop-ca.pem"),
    )
    .expect("trust the root");
    world.restart_server();
    let conf = x509pop(&agent.conf, &key, &certificate);
    agent.with(world, name, "node-refused", &conf, false, &[]);
    let file = |name| certificates.join(name).display().to_string();
    let conf = x509pop(&agent.conf, &file("leaf.key"), &file("leaf.pem"));
    // Attested, but as another node, which has no entry.
    agent.with(world, name, "other-parent", &conf, false, &[]);
    fs::remove_file(world.lab.dir().join("x509pop-ca.pem")).expect("trust it no more");
    world.restart_server();
    world.working = Some(agent);
}

/// The bundle of a trust domain that was left lying.
fn bundle_expired(world: &mut World, name: &str) {
    let mut agent = working(world);
    let signer = Arc::new(PrivateKey::generate(KeyType::EcP256).expect("make a key"));
    let trust_domain = TrustDomain::parse("example.org").expect("a trust domain");
    let at = Timestamp::from_unix_seconds;
    let old = X509Ca::self_sign(
        signer,
        &trust_domain,
        &CaSubject::default(),
        at(1_600_000_000),
        at(1_600_086_400),
    )
    .expect("make an authority");
    let pem = certificate_to_pem(old.certificate().der());
    fs::write(world.lab.dir().join("old.pem"), pem).expect("write the bundle");
    let conf = replaced(&agent.conf, "/bundle.pem", "/old.pem");
    agent.with(world, name, "bundle-expired", &conf, false, &[]);
    world.working = Some(agent);
}

fn attestor_unknown(world: &mut World, name: &str) {
    let mut agent = working(world);
    if let Some((key, certificate)) = self_signed(world) {
        let conf = x509pop(&agent.conf, &key, &certificate);
        agent.with(world, name, "node-attestor-unknown", &conf, false, &[]);
    } else {
        world.skip(name, "openssl is not installed");
    }
    world.working = Some(agent);
}

fn other_world() -> World {
    World::around(Lab::with(
        CREDENCE,
        Settings {
            server: "disable_jwt_svids = true".into(),
            ..Settings::default()
        },
    ))
}

fn bundle_of_another(world: &mut World, name: &str) {
    let mut agent = working(world);
    let other = world.other.get_or_insert_with(|| Box::new(other_world()));
    let bundle = other.lab.ok(&["bundle", "show"]);
    fs::write(world.lab.dir().join("other.pem"), bundle).expect("write the bundle");
    let conf = replaced(&agent.conf, "/bundle.pem", "/other.pem");
    agent.with(world, name, "server-not-trusted", &conf, false, &[]);
    world.working = Some(agent);
}

fn jwt_off(world: &mut World, name: &str) {
    let fetch = ["api", "fetch", "jwt", "-audience", "a"];
    let other = world.other.get_or_insert_with(|| Box::new(other_world()));
    let workload = other.workload(name);
    other.entry(name, "node/node", &[&super::world::own_uid()], &[]);
    other.of_process(name, "", "node", &workload, &[]);
    let refused = other.lab.agent_cli("node", &fetch);
    assert!(!refused.status.success(), "{}", said(&refused));
    let log = other.node.as_ref().expect("an agent").output();
    let line = log.lines().find(|line| line.contains("Could not fetch JWT-SVID"));
    let number = line
        .and_then(|line| line.split("request_id=").nth(1))
        .expect("a request id");
    let number = number
        .split_whitespace()
        .next()
        .expect("a number")
        .trim_matches('"')
        .to_owned();
    other.of_request(name, "jwt-failed", "node", &number);
    // The same with the other server, which signs them.
    world.entry(name, "node/changed", &[&super::world::own_uid()], &[]);
    let workload = world.workload(name);
    world.of_process(name, "", AGENT, &workload, &[]);
    let fetched = world.lab.agent_cli(AGENT, &fetch);
    assert!(fetched.status.success(), "{}", said(&fetched));
    world.delete(name);
}

fn out_of_time(world: &mut World, name: &str, offset: &str, keeps_data: bool) {
    let Some(library) = clock::library() else {
        world.skip(name, "libfaketime.so.1 is not installed");
        return;
    };
    let mut agent = working(world);
    let environment = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME", offset.to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ("DONT_FAKE_MONOTONIC", "1".into()),
    ];
    // The token in it was used, but without its data the agent doesn't come to that.
    let conf = agent.conf.clone();
    agent.with(world, name, "clock", &conf, keeps_data, &environment);
    world.working = Some(agent);
}

fn agent_killed(world: &mut World, name: &str) {
    let mut agent = working(world);
    agent.process.as_mut().expect("an agent").kill();
    world.of_process(name, "agent-died", AGENT, &agent.workload, &[]);
    agent.process = Some(world.lab.agent_again(AGENT));
    world.of_process(name, "", AGENT, &agent.workload, &[]);
    world.working = Some(agent);
}

fn agent_stopped(world: &mut World, name: &str) {
    let mut agent = working(world);
    assert!(agent.process.take().expect("an agent").stop().success());
    world.of_process(name, "agent-not-running", AGENT, &agent.workload, &[]);
    agent.process = Some(world.lab.agent_again(AGENT));
    world.of_process(name, "", AGENT, &agent.workload, &[]);
    world.working = Some(agent);
}

/// Banned or evicted by the operator; the twin is the agent before, and a new one after.
fn put_out(world: &mut World, name: &str, how: &str, cause: &str) {
    let mut agent = working(world);
    let id = world.agent_id(AGENT);
    world.of_id(name, "", &World::id("of-changed"), &[]);
    drop(world.lab.ok(&["agent", how, "-spiffeID", &id]));
    world.of_process(name, cause, AGENT, &agent.workload, &[]);
    let of_the_entry = if how == "ban" { cause } else { "parent-unknown" };
    world.of_id(name, of_the_entry, &World::id("of-changed"), &[]);
    drop(agent.process.take());
    drop(fs::remove_dir_all(Working::folder(world).join("data")));
    let again = world.lab.agent(AGENT);
    agent.conf = read(&Working::folder(world).join("agent.conf"));
    agent.process = Some(again);
    world.of_process(name, "", AGENT, &agent.workload, &[]);
    world.working = Some(agent);
}
