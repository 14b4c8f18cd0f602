use std::sync::Arc;
use std::time::Duration;

use credence_identity::TrustDomain;

use super::*;
use crate::store::{Node, Row, Snapshot};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://example.org{path}")).unwrap()
}

fn entry(name: &str, parent: &str, selectors: &[&str]) -> Entry {
    Entry {
        id: EntryId::parse(name).unwrap(),
        spiffe_id: id(&format!("/{name}")),
        parent_id: id(parent),
        selectors: selectors
            .iter()
            .map(|text| Selector::parse(text).unwrap())
            .collect(),
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
    }
}

fn node(name: &str, change: impl FnOnce(&mut Node)) -> Node {
    let mut node = Node {
        id: id(&format!("/spire/agent/{name}")),
        attestation_type: Arc::from("x509pop"),
        serial: "1".to_owned(),
        not_after: NOW + Duration::from_secs(60),
        new_serial: None,
        new_not_after: None,
        can_reattest: true,
        selectors: vec![Selector::parse("x509pop:subject:cn:gpu").unwrap()],
        agent_version: Arc::from(""),
    };
    change(&mut node);
    node
}

fn state(entries: Vec<Entry>) -> State {
    let nodes = [
        node("a", |_| {}),
        node("banned", |node| node.serial.clear()),
        node("old", |node| node.not_after = NOW),
    ];
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

fn view(state: &State) -> View<'_> {
    View {
        state,
        now: NOW,
        seen: &|_| {
            Some(Seen {
                at: NOW,
                connected: true,
                polls: false,
            })
        },
        settled: true,
        store: Health::Ready,
        rotation: None,
        signing: None,
    }
}

/// What keeps the server from signing is found whatever is asked for.
#[test]
fn a_server_that_cannot_sign_says_so() {
    let state = state(vec![entry("web", "/spire/agent/a", &["unix:uid:0"])]);
    let expired = View {
        signing: Some("the authority has expired".to_owned()),
        ..view(&state)
    };
    let explanation = expired.entry(&"web".parse().unwrap(), None);
    assert_eq!(causes(&explanation), ["authority-unusable"]);
}

fn causes(explanation: &Explanation) -> Vec<&'static str> {
    explanation.findings.iter().map(|finding| finding.cause).collect()
}

fn of_entry(entries: Vec<Entry>, name: &str) -> Vec<&'static str> {
    causes(&view(&state(entries)).entry(&EntryId::parse(name).unwrap(), None))
}

#[test]
fn each_break_of_the_chain_is_named() {
    let uid = &["unix:uid:0"][..];
    let below = |parent: &str| vec![entry("web", parent, uid)];
    assert!(of_entry(below("/spire/agent/a"), "web").is_empty());
    for (entries, cause) in [
        (below("/spire/agent/banned"), "agent-banned"),
        (below("/spire/agent/old"), "agent-svid-expired"),
        (below("/spire/agent/nobody"), "parent-agent-unknown"),
        (below("/node/nobody"), "parent-unknown"),
        (below("/spire/server"), "workload-below-server"),
        (
            vec![entry("web", "/spire/agent/a", &["unx:uid:0"])],
            "selector-unknown",
        ),
        (
            vec![entry("web", "/spire/agent/a", &["unix:usr:root"])],
            "selector-unknown",
        ),
        (
            vec![
                entry("web", "/gpus", uid),
                entry("gpus", "/spire/server", &["x509pop:subject:cn:cpu"]),
            ],
            "alias-selector-missing",
        ),
        (
            vec![
                entry("web", "/between", uid),
                Entry {
                    expires_at: Some(NOW),
                    ..entry("between", "/spire/agent/a", uid)
                },
            ],
            "parent-expired",
        ),
        (
            vec![entry("web", "/other", uid), entry("other", "/web", uid)],
            "parent-loop",
        ),
        (
            vec![Entry {
                expires_at: Some(NOW),
                ..entry("web", "/spire/agent/a", uid)
            }],
            "entry-expired",
        ),
    ] {
        assert_eq!(of_entry(entries, "web"), [cause]);
    }
    assert_eq!(of_entry(Vec::new(), "web"), ["entry-unknown"]);
}

#[test]
fn a_whole_chain_over_aliases_has_no_fault() {
    let entries = vec![
        entry("web", "/between", &["unix:uid:0"]),
        entry("between", "/gpus", &["unix:uid:1"]),
        entry("gpus", "/spire/server", &["x509pop:subject:cn:gpu"]),
    ];
    let state = state(entries);
    let view = view(&state);
    let web = view.spiffe_id(&id("/web"), None);
    assert!(web.findings.is_empty(), "{web:?}");
    let below = view.spiffe_id(&id("/web"), Some(&id("/spire/agent/a")));
    assert!(below.findings.is_empty(), "{below:?}");
    let elsewhere = view.spiffe_id(&id("/web"), Some(&id("/spire/agent/banned")));
    assert_eq!(causes(&elsewhere).first(), Some(&"other-parent"));
    // The way up comes to the agents that the way down gives the entry to.
    for (_, entry) in state.entries() {
        let agents: BTreeSet<SpiffeId> = state
            .nodes()
            .filter(|(_, node)| NOW < node.not_after)
            .filter(|(_, node)| {
                let authorized = state.authorized_entries(&node.id, NOW);
                authorized.iter().any(|one| one.id == entry.id)
            })
            .map(|(_, node)| node.id.clone())
            .collect();
        if entry.parent_id != id("/spire/server") {
            assert_eq!(climb(&state, entry, NOW).agents, agents, "{}", entry.id);
        }
    }
}

#[test]
fn a_typing_error_gets_the_name_that_was_meant() {
    let state = state(vec![entry("web", "/spire/agent/a", &["unix:uid:0"])]);
    let explanation = view(&state).spiffe_id(&id("/wbe"), None);
    assert_eq!(causes(&explanation), ["no-entry"]);
    assert!(
        explanation.findings[0]
            .text
            .contains("spiffe://example.org/web was meant?")
    );
    let agent = view(&state).spiffe_id(&id("/spire/agent/banned"), None);
    assert_eq!(causes(&agent), ["agent-banned"]);
}

#[test]
fn an_agent_that_is_away_is_named_once_agents_had_time_to_come_back() {
    let state = state(vec![entry("web", "/spire/agent/a", &["unix:uid:0"])]);
    let view = View {
        seen: &|_| None,
        ..view(&state)
    };
    assert_eq!(causes(&view.spiffe_id(&id("/web"), None)), ["agent-away"]);
    let fresh = View {
        settled: false,
        ..view
    };
    assert!(fresh.spiffe_id(&id("/web"), None).findings.is_empty());
}
