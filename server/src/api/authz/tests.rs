//! The authorization matrix: every method of the compiled descriptors, for every caller class.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use credence_identity::{Entry, EntryId, Selector, SpiffeId, Timestamp, TrustDomain};
use credence_proto::spire::api::types::permission_denied_details::Reason;
use prost::Message;
use prost_types::FileDescriptorSet;

use super::decision::{Authorized, Verdict, decide};
use super::*;
use crate::api::caller::Caller;
use crate::registry::State;
use crate::store::{Node, Row, Snapshot};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);
/// The serials of each node: current, and renewed but unused.
const SERIAL: &str = "1001";
const RENEWED: &str = "1002";

/// Who calls, and what they may.
const CALLERS: [(&str, Classes); 15] = [
    ("local", Classes::LOCAL),
    ("anonymous", Classes(0)),
    ("workload", Classes(0)),
    ("admin of the configuration", Classes::ADMIN),
    ("foreign admin of the configuration", Classes::ADMIN),
    ("admin by entry", Classes::ADMIN),
    ("admin by expired entry", Classes(0)),
    ("admin with expired SVID", Classes(0)),
    ("downstream", Classes::DOWNSTREAM),
    ("agent", Classes::AGENT),
    ("agent with renewed SVID", Classes::AGENT),
    ("agent with old SVID", Classes(0)),
    ("agent with expired SVID", Classes(0)),
    ("banned agent", Classes(0)),
    ("evicted agent", Classes(0)),
];

fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://example.org{path}")).unwrap()
}

fn peer(id: SpiffeId, serial: &str, not_after: Timestamp) -> Caller {
    let address = SocketAddr::from(([192, 0, 2, 1], 1));
    Caller::Peer {
        id,
        serial: Arc::from(serial),
        not_after,
        address,
    }
}

fn caller(class: &str) -> Caller {
    let later = NOW + Duration::from_secs(60);
    match class {
        "local" => Caller::Local {
            uid: 0,
            gid: 0,
            pid: Some(1),
        },
        "anonymous" => Caller::Anonymous {
            address: SocketAddr::from(([192, 0, 2, 1], 1)),
        },
        "workload" => peer(id("/workload"), "1", later),
        "admin of the configuration" => peer(id("/operator"), "1", later),
        "foreign admin of the configuration" => peer(
            SpiffeId::parse("spiffe://other.org/operator").unwrap(),
            "1",
            later,
        ),
        "admin by entry" => peer(id("/admin"), "1", later),
        "admin by expired entry" => peer(id("/former-admin"), "1", later),
        "admin with expired SVID" => peer(id("/admin"), "1", NOW),
        "downstream" => peer(id("/downstream"), "1", later),
        "agent" => peer(id("/spire/agent/join_token/good"), SERIAL, later),
        "agent with renewed SVID" => peer(id("/spire/agent/join_token/good"), RENEWED, later),
        "agent with old SVID" => peer(id("/spire/agent/join_token/good"), "7", later),
        "agent with expired SVID" => peer(id("/spire/agent/join_token/good"), SERIAL, NOW),
        "banned agent" => peer(id("/spire/agent/join_token/banned"), SERIAL, later),
        "evicted agent" => peer(id("/spire/agent/join_token/gone"), SERIAL, later),
        other => panic!("no such caller: {other}"),
    }
}

fn state() -> State {
    let entries = [
        entry("/admin", |entry| entry.admin = true),
        entry("/former-admin", |entry| {
            entry.admin = true;
            entry.downstream = true;
            entry.expires_at = Some(NOW);
        }),
        entry("/downstream", |entry| entry.downstream = true),
        entry("/workload", |_| {}),
    ];
    let nodes = [node("good", SERIAL), node("banned", "")];
    let rows = |at: usize| Row(u64::try_from(at).unwrap() + 1);
    State::build(
        TrustDomain::parse("example.org").unwrap(),
        Snapshot {
            entries: entries
                .into_iter()
                .enumerate()
                .map(|(at, entry)| (rows(at), Arc::new(entry)))
                .collect(),
            nodes: nodes
                .into_iter()
                .enumerate()
                .map(|(at, node)| (rows(at), Arc::new(node)))
                .collect(),
            ..Snapshot::default()
        },
    )
}

fn node(name: &str, serial: &str) -> Node {
    Node {
        id: id(&format!("/spire/agent/join_token/{name}")),
        attestation_type: Arc::from("join_token"),
        serial: serial.to_owned(),
        not_after: NOW + Duration::from_secs(60),
        new_serial: Some(RENEWED.to_owned()).filter(|_| !serial.is_empty()),
        new_not_after: None,
        can_reattest: false,
        selectors: Vec::new(),
        agent_version: Arc::from(""),
    }
}

fn entry(path: &str, change: impl FnOnce(&mut Entry)) -> Entry {
    let mut entry = Entry {
        id: EntryId::parse(path.trim_start_matches('/')).unwrap(),
        spiffe_id: id(path),
        parent_id: id("/spire/agent/join_token/good"),
        selectors: vec![Selector::parse("unix:uid:0").unwrap()],
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Vec::new(),
        admin: false,
        downstream: false,
        store_svid: false,
        expires_at: None,
        dns_names: Vec::new(),
        hint: Arc::from(""),
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
        revision_number: 0,
        created_at: NOW,
    };
    change(&mut entry);
    entry
}

fn admins() -> HashSet<SpiffeId> {
    [
        id("/operator"),
        SpiffeId::parse("spiffe://other.org/operator").unwrap(),
    ]
    .into()
}

/// The paths of all methods that SPIRE's server, our own services and gRPC health have in the descriptors.
fn described() -> Vec<String> {
    let set = FileDescriptorSet::decode(credence_proto::FILE_DESCRIPTOR_SET).unwrap();
    let ours = |package: &str| {
        package.starts_with("spire.api.server.")
            || package == "credence.explain.v1"
            || package == "credence.sync.v1"
            || package == "credence.authority.v1"
            || package == "grpc.health.v1"
    };
    let mut paths = Vec::new();
    for file in set.file.iter().filter(|file| ours(file.package())) {
        // What the agent serves of our own package.
        let of_server = file.service.iter().filter(|service| service.name() != "Node");
        for service in of_server {
            let service_name = format!("{}.{}", file.package(), service.name());
            paths.extend(
                service
                    .method
                    .iter()
                    .map(|method| format!("/{service_name}/{}", method.name())),
            );
        }
    }
    paths
}

#[test]
fn the_table_holds_every_described_method_and_no_other() {
    let described: HashSet<String> = described().into_iter().collect();
    let table: HashSet<String> = BY_PATH.keys().cloned().collect();
    assert_eq!(described, table);
    assert_eq!(
        table.len(),
        62 + 2 + 4 + 3,
        "SPIRE's 62 methods, Subscribe, CheckStep, explain's four, and Health's three"
    );
}

#[test]
fn every_method_for_every_caller_class() {
    let (state, admins) = (state(), admins());
    for path in described() {
        let method = find(&path, false).unwrap();
        for (name, classes) in CALLERS {
            let verdict = decide(&state, &admins, &caller(name), method.allow, NOW);
            let allowed = method.allow.has(Classes::ANYONE) || method.allow.has(classes);
            let expected = match (allowed, name) {
                (true, "agent with renewed SVID") if !method.allow.has(Classes::ANYONE) => Verdict::Activate,
                (true, _) => Verdict::Allow(authorized(name, method.allow)),
                (false, _) => Verdict::Deny(reason(name).filter(|_| method.allow.has(Classes::AGENT))),
            };
            assert_eq!(
                verdict, expected,
                "{name} calling {path}, which {:?} may",
                method.allow
            );
        }
    }
}

/// The detail for a TLS caller with an SVID that is refused where agents are allowed.
fn reason(caller: &str) -> Option<Reason> {
    match caller {
        "local" | "anonymous" => None,
        "admin with expired SVID" | "agent with expired SVID" => Some(Reason::AgentExpired),
        "agent with old SVID" => Some(Reason::AgentNotActive),
        "banned agent" => Some(Reason::AgentBanned),
        _ => Some(Reason::AgentNotAttested),
    }
}

#[test]
fn what_is_not_in_the_table_is_unknown() {
    let text = |path: &str, tcp: bool| find(path, tcp).unwrap_err().to_string();
    assert_eq!(
        text("/no.such.Service/Do", false),
        "unknown service no.such.Service"
    );
    assert_eq!(
        text("/spire.api.server.entry.v1.Entry/Nope", true),
        "unknown method Nope for service spire.api.server.entry.v1.Entry"
    );
    assert_eq!(text("nonsense", true), "malformed method name: \"nonsense\"");
}

#[test]
fn services_of_the_socket_are_unknown_on_the_port() {
    for service in [
        "spire.api.server.debug.v1.Debug",
        "spire.api.server.logger.v1.Logger",
        "grpc.health.v1.Health",
    ] {
        for path in described().iter().filter(|path| path.contains(service)) {
            assert!(find(path, false).is_ok());
            assert_eq!(
                find(path, true).unwrap_err(),
                UnknownMethod::Service(service.to_owned())
            );
        }
    }
}

/// As whom a caller is let in that may call the method.
fn authorized(class: &str, allow: Classes) -> Authorized {
    if allow.has(Classes::ANYONE) {
        return Authorized::Nobody;
    }
    match class {
        "local" => Authorized::Local,
        "admin of the configuration" | "foreign admin of the configuration" => Authorized::ConfiguredAdmin,
        "admin by entry" => Authorized::Admin,
        "downstream" => Authorized::Downstream,
        _ => Authorized::Agent,
    }
}

#[test]
fn which_methods_stream_is_what_the_descriptors_say() {
    let set = FileDescriptorSet::decode(credence_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut seen = 0;
    for file in &set.file {
        for service in &file.service {
            for described in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), described.name());
                let Ok(method) = find(&path, false) else { continue };
                seen += 1;
                assert_eq!(method.takes_a_stream(), described.client_streaming(), "{path}");
                let streams = described.client_streaming() || described.server_streaming();
                assert_eq!(method.streams(), streams, "{path}");
            }
        }
    }
    assert_eq!(seen, methods().count());
}
