use std::collections::BTreeMap;

use super::super::request;
use super::*;

const REGO: &str = include_str!("../../../../../deploy/conf/policy/policy.rego");
const DATA: &str = include_str!("../../../../../deploy/conf/policy/policy_data.json");
const CREATE: &str = "/spire.api.server.entry.v1.Entry/BatchCreateEntry";
const DELETE: &str = "/spire.api.server.entry.v1.Entry/BatchDeleteEntry";

fn asked(policy: &Policy, caller: &str, method: &str, req: serde_json::Value) -> Classes {
    let input = Input {
        caller: caller.to_owned(),
        full_method: method.to_owned(),
        req,
        ..Input::default()
    };
    policy.classes(input).unwrap()
}

/// The rows of SPIRE's data file for the built-in table.
fn table() -> serde_json::Value {
    let names = [
        ("allow_any", Classes::ANYONE),
        ("allow_local", Classes::LOCAL),
        ("allow_admin", Classes::ADMIN),
        ("allow_downstream", Classes::DOWNSTREAM),
        ("allow_agent", Classes::AGENT),
    ];
    let rows: BTreeMap<_, _> = methods()
        .map(|method| {
            let mut row = serde_json::Map::from_iter([("full_method".to_owned(), method.path().into())]);
            let allowed = names.iter().filter(|(_, class)| method.allow.has(*class));
            row.extend(allowed.map(|(name, _)| ((*name).to_owned(), true.into())));
            (method.path(), row)
        })
        .collect();
    json!({ "apis": rows.into_values().collect::<Vec<_>>() })
}

#[test]
fn the_policy_to_start_from_decides_as_the_built_in_table() {
    let data: serde_json::Value = serde_json::from_str(DATA).unwrap();
    assert_eq!(
        data,
        table(),
        "deploy/conf/policy/policy_data.json must hold: {:#}",
        table()
    );
    let policy = Policy::parse(REGO, DATA).unwrap();
    assert!(!policy.has_old_syntax());
    for method in methods() {
        assert_eq!(
            asked(&policy, "", &method.path(), json!({})),
            method.allow,
            "{}",
            method.path()
        );
    }
    assert_eq!(asked(&policy, "", "/no.such/Method", json!({})), Classes::NOBODY);
}

/// The form in which SPIRE's own default policy is written.
#[test]
fn rules_that_name_true_and_false_work() {
    let rego = r#"package spire
result = { "allow": allow, "allow_if_admin": false, "allow_if_local": true, "allow_if_downstream": false, "allow_if_agent": false }
default allow = false
allow = true if {
    r := data.apis[_]
    r.full_method == input.full_method
    r.allow_any
}
"#;
    let policy = Policy::parse(rego, DATA).unwrap();
    let open = asked(
        &policy,
        "",
        "/spire.api.server.bundle.v1.Bundle/GetBundle",
        json!({}),
    );
    assert_eq!(open, Classes::ANYONE.or(Classes::LOCAL));
    assert_eq!(asked(&policy, "", CREATE, json!({})), Classes::LOCAL);
}

const OLD_HEAD: &str = r#"package spire
result = { "allow": allow, "allow_if_admin": false, "allow_if_local": false, "allow_if_downstream": false, "allow_if_agent": false }
default allow = false
"#;

fn entries(paths: &[&str], admin: bool) -> serde_json::Value {
    let entries: Vec<_> = paths
        .iter()
        .map(|path| json!({ "spiffe_id": { "trust_domain": "example.org", "path": path }, "admin": admin }))
        .collect();
    json!({ "entries": entries })
}

/// Example 1 of SPIRE's documentation, in its syntax of OPA before 1.0 and with its `re_match`.
#[test]
fn documented_example_namespaces_of_entries() {
    let rego = format!(
        "{OLD_HEAD}{}",
        r#"
check_entry_create_namespace {
    input.full_method == "/spire.api.server.entry.v1.Entry/BatchCreateEntry"
    b = data.entry_create_namespaces[_]
    b.user == input.caller
    re_match(b.path_namespace, input.req.entries[_].spiffe_id.path)
    exclusions := b.path_exclusions
    exclusion_matches := { entry | entry := input.req.entries[_]; re_match(exclusions[_], entry.spiffe_id.path)}
    count(exclusion_matches) == 0
}

allow = true {
    check_entry_create_namespace
}
"#
    );
    let finance = "spiffe://example.org/schedulers/finance";
    let data = json!({ "entry_create_namespaces": [
        { "user": finance, "path_namespace": "^/finance", "path_exclusions": ["^/finance/EMEA"] },
        { "user": "spiffe://example.org/schedulers/hr", "path_namespace": "^/hr", "path_exclusions": [] },
    ] });
    let policy = Policy::parse(&rego, &data.to_string()).unwrap();
    assert!(policy.has_old_syntax());
    for (caller, path, allowed) in [
        (finance, "/finance/a", true),
        (finance, "/finance/EMEA/a", false),
        (finance, "/hr/a", false),
        ("spiffe://example.org/schedulers/hr", "/hr/a", true),
        ("spiffe://example.org/other", "/finance/a", false),
        ("", "/finance/a", false),
    ] {
        let want = if allowed { Classes::ANYONE } else { Classes::NOBODY };
        assert_eq!(
            asked(&policy, caller, CREATE, entries(&[path], false)),
            want,
            "{caller} {path}"
        );
    }
}

/// Examples 2 and 3b.
#[test]
fn documented_examples_of_the_admin_flag_and_of_single_users() {
    let rego = format!(
        "{OLD_HEAD}{}",
        r#"
check_entry_create_admin_flag {
    input.full_method == "/spire.api.server.entry.v1.Entry/BatchCreateEntry"
    admin_entries := { entry | entry := input.req.entries[_]; entry.admin == true}
    count(admin_entries) == 0
}
allow = true { check_entry_create_admin_flag }
check_entry_delete_users {
    input.full_method == "/spire.api.server.entry.v1.Entry/BatchDeleteEntry"
    input.caller == data.entry_delete_users[_]
}
allow = true { check_entry_delete_users }
"#
    );
    let data = json!({ "entry_delete_users": ["spiffe://example.org/super"] });
    let policy = Policy::parse(&rego, &data.to_string()).unwrap();
    assert_eq!(
        asked(&policy, "", CREATE, entries(&["/a", "/b"], false)),
        Classes::ANYONE
    );
    assert_eq!(
        asked(&policy, "", CREATE, entries(&["/a"], true)),
        Classes::NOBODY
    );
    assert_eq!(
        asked(&policy, "spiffe://example.org/super", DELETE, json!({})),
        Classes::ANYONE
    );
    assert_eq!(
        asked(&policy, "spiffe://example.org/x", DELETE, json!({})),
        Classes::NOBODY
    );
}

#[test]
fn a_policy_that_fails_or_says_too_little_is_refused_when_it_is_read() {
    for (rego, data, part) in [
        ("package spire\nresult := ", "{}", "unable to parse the policy"),
        ("package other\nresult := {}", "{}", "policy is misconfigured"),
        ("package spire\nresult := 1", "{}", "no matching policies found"),
        (
            "package spire\nresult := { \"allow\": true }",
            "{}",
            "\"allow_if_local\" bool value",
        ),
        (REGO, "[]", "error decoding JSON databindings"),
        (REGO, "{", "error decoding JSON databindings"),
        (
            "package spire\nresult := { \"allow\": \"yes\", \"allow_if_local\": false, \"allow_if_admin\": false, \
             \"allow_if_downstream\": false, \"allow_if_agent\": false }",
            "{}",
            "\"allow\" bool value",
        ),
    ] {
        let error = Policy::parse(rego, data).unwrap_err().to_string();
        assert!(error.contains(part), "{rego}: {error}");
    }
    let error = Policy::load(Path::new("/none.rego"), None).unwrap_err();
    assert!(matches!(error, PolicyError::Read { .. }));
}

/// What passes when it is read can still fail on a call: then nobody is let in.
#[test]
fn a_policy_that_is_undefined_for_a_call_allows_nothing() {
    let rego = r#"package spire
result := { "allow": true, "allow_if_local": false, "allow_if_admin": false, "allow_if_downstream": false, "allow_if_agent": false } if input.caller != "spiffe://example.org/odd"
"#;
    let policy = Policy::parse(rego, "{}").unwrap();
    assert_eq!(asked(&policy, "", CREATE, json!({})), Classes::ANYONE);
    let odd = Input {
        caller: "spiffe://example.org/odd".to_owned(),
        ..Input::default()
    };
    assert!(policy.classes(odd).is_err());
}

#[test]
fn an_endless_evaluation_is_cut_off() {
    let rego = r#"package spire
result := { "allow": slow, "allow_if_local": false, "allow_if_admin": false, "allow_if_downstream": false, "allow_if_agent": false }
default slow := false
slow if {
    input.caller == "slow"
    some a in numbers.range(1, 100000)
    some b in numbers.range(1, 100000)
    a + b == -1
}
"#;
    let policy = Policy::parse(rego, "{}").unwrap();
    let slow = Input {
        caller: "slow".to_owned(),
        ..Input::default()
    };
    assert!(matches!(policy.classes(slow), Err(PolicyError::Evaluate(_))));
}

#[test]
fn requests_reach_the_policy_in_their_form() {
    let method = super::super::find(CREATE, false).unwrap();
    assert_eq!(request::json(method, b"").unwrap(), json!({}));
}
