use credence_proto::spire::api::types;

use super::*;
use crate::cli::{
    self,
    tests::{Streams, read},
};

/// The entries that a command line asks for, or why not, and what was said on stderr.
fn entries(line: &[&str], input: &str) -> (Result<Vec<types::Entry>, String>, String) {
    let (command, mut streams) = read(line, input).unwrap();
    let entries = match command {
        cli::Command::Entry(Command::Create(create)) => create.command.entries(&mut streams.console()),
        cli::Command::Entry(Command::Update(update)) => update.command.entries(&mut streams.console()),
        other => panic!("{other:?}"),
    };
    (entries.map_err(|error| error.to_string()), streams.err())
}

fn id(path: &str) -> Option<types::Spiffeid> {
    Some(types::Spiffeid {
        trust_domain: "domain.test".into(),
        path: path.into(),
    })
}

fn selector(value: &str) -> types::Selector {
    types::Selector {
        r#type: "unix".into(),
        value: value.into(),
    }
}

#[test]
fn flags_become_an_entry() {
    let line = "entry create -parentID spiffe://domain.test/p -spiffeID spiffe://domain.test/w -selector unix:uid:0 \
                -storeSVID true -entryID NAME -dns a.test -dns b.test -federatesWith spiffe://f.test -hint h \
                -disableX509SVIDPrefetch --x509SVIDTTL=60 --admin -entryExpiry 17";
    let (entries, err) = entries(
        &line
            .split(' ')
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>(),
        "",
    );
    let expected = types::Entry {
        id: "NAME".into(),
        spiffe_id: id("/w"),
        parent_id: id("/p"),
        selectors: vec![selector("uid:0")],
        x509_svid_ttl: 60,
        federates_with: vec!["spiffe://f.test".into()],
        admin: true,
        expires_at: 17,
        dns_names: vec!["a.test".into(), "b.test".into()],
        store_svid: true,
        hint: "h".into(),
        additional_attributes: Some(types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: false,
        }),
        ..Default::default()
    };
    assert_eq!(entries.as_deref(), Ok(&[expected][..]));
    assert_eq!(err, "");
}

#[test]
fn a_node_entry_stands_under_the_server() {
    let (entries, _) = entries(
        &[
            "entry",
            "create",
            "-node",
            "-spiffeID",
            "spiffe://domain.test/n",
            "-selector",
            "unix:a",
        ],
        "",
    );
    assert_eq!(entries.unwrap()[0].parent_id, id("/spire/server"));
}

#[test]
fn what_is_missing_is_named() {
    for (line, fault) in [
        ("create", "at least one selector is required"),
        (
            "create -selector a:b",
            "a parent ID is required if the node flag is not set",
        ),
        ("create -selector a:b -node", "a SPIFFE ID is required"),
        (
            "create -selector a:b -node -federatesWith f",
            "node entries can not federate",
        ),
        (
            "create -selector a:b -parentID p -spiffeID s -x509SVIDTTL -1",
            "a positive x509-SVID TTL is required",
        ),
        (
            "create -selector a:b -parentID p -spiffeID s -jwtSVIDTTL=-1",
            "a positive JWT-SVID TTL is required",
        ),
        (
            "create -selector a:b -parentID p -spiffeID s",
            "scheme is missing or invalid",
        ),
        (
            "create -selector ab -parentID spiffe://a/b -spiffeID spiffe://a/c",
            "selector \"ab\" must be formatted as type:value",
        ),
        ("update", "entry ID is required"),
        ("update -entryID x", "at least one selector is required"),
        ("update -entryID x -selector a:b", "a parent ID is required"),
    ] {
        let line: Vec<_> = std::iter::once("entry").chain(line.split(' ')).collect();
        let (entries, _) = entries(&line, "");
        assert_eq!(entries, Err(fault.to_owned()), "{line:?}");
    }
}

#[test]
fn entries_come_from_a_file_or_stdin() {
    let json = r#"{"entries": [
        {"parent_id": "spiffe://domain.test/p", "spiffe_id": "spiffe://domain.test/w", "selectors": [{"type": "unix",
         "value": "uid:0"}], "entryExpiry": 9, "federates_with": ["spiffe://f.test"], "dns_names": ["x"], "ttl": 3,
         "additional_attributes": {"jwt_svid_include_jti": true}}]}"#;
    let (entries, err) = entries(&["entry", "create", "-data", "-"], json);
    let expected = types::Entry {
        spiffe_id: id("/w"),
        parent_id: id("/p"),
        selectors: vec![selector("uid:0")],
        expires_at: 9,
        federates_with: vec!["f.test".into()],
        dns_names: vec!["x".into()],
        additional_attributes: Some(types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: true,
        }),
        ..Default::default()
    };
    assert_eq!(entries.as_deref(), Ok(&[expected][..]));
    assert_eq!(err, "Warning: field \"ttl\" of entry 0 is ignored\n");
}

#[test]
fn a_bad_file_is_refused_as_a_whole() {
    for (json, fault) in [
        (
            r#"{"entries": [{"spiffe_id": "x"}]}"#,
            "entry 0: invalid SPIFFE ID: scheme is missing or invalid",
        ),
        (
            r#"{"entries": [{"spiffe_id": "spiffe://a/b", "parent_id": ""}]}"#,
            "entry 0: invalid parent ID: cannot be empty",
        ),
    ] {
        assert_eq!(
            entries(&["entry", "update", "-data", "-"], json).0,
            Err(fault.to_owned())
        );
    }
    assert!(entries(&["entry", "create", "-data", "-"], "{").0.is_err());
    let (missing, _) = entries(&["entry", "create", "-data", "/nonexistent"], "");
    assert_eq!(
        missing,
        Err("open /nonexistent: no such file or directory".to_owned())
    );
}

#[test]
fn attributes_can_be_switched_off_and_the_other_is_kept() {
    let line = "entry update -entryID x -selector a:b -parentID spiffe://a/b -spiffeID spiffe://a/c -jwtSVIDIncludeJTI=false";
    let (command, _) = read(&line.split(' ').collect::<Vec<_>>(), "").unwrap();
    let cli::Command::Entry(Command::Update(update)) = command else {
        panic!("not an update");
    };
    let stored = types::entry::AdditionalAttributes {
        disable_x509_svid_prefetch: true,
        jwt_svid_include_jti: true,
    };
    let merged = update.command.attributes.additional(Some(stored)).unwrap();
    assert!(merged.disable_x509_svid_prefetch && !merged.jwt_svid_include_jti);
}

#[test]
fn an_entry_as_text() {
    let entry = types::Entry {
        id: "NAME".into(),
        spiffe_id: id("/w"),
        parent_id: id("/p"),
        selectors: vec![selector("uid:0"), selector("gid:0")],
        x509_svid_ttl: 60,
        federates_with: vec!["f.test".into()],
        admin: true,
        downstream: true,
        expires_at: 1_787_426_917,
        dns_names: vec!["a.test".into()],
        revision_number: 3,
        store_svid: true,
        hint: "h".into(),
        additional_attributes: Some(types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: true,
        }),
        ..Default::default()
    };
    let mut out = Vec::new();
    print::entry(&mut out, &entry).unwrap();
    let expected = "\
Entry ID                : NAME
SPIFFE ID               : spiffe://domain.test/w
Parent ID               : spiffe://domain.test/p
Revision                : 3
Downstream              : true
X509-SVID TTL           : 60
JWT-SVID TTL            : default
Expiration time         : 2026-08-22 19:28:37 +0000 UTC
Selector                : unix:uid:0
Selector                : unix:gid:0
FederatesWith           : f.test
DNS name                : a.test
Admin                   : true
StoreSvid               : true
Hint                    : h
DisableX509SvidPrefetch : true
JwtSvidIncludeJti       : true

";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

fn status(code: i32, message: &str) -> Option<types::Status> {
    Some(types::Status {
        code,
        message: message.into(),
    })
}

#[test]
fn what_failed_goes_to_stderr_and_fails_the_command() {
    let entry = Some(types::Entry {
        spiffe_id: id("/w"),
        ..Default::default()
    });
    let mut streams = Streams::new("");
    let (good, bad) = (status(0, "OK"), status(6, "similar entry already exists"));
    let results = [(&good, &entry), (&bad, &entry)];
    let error = change::report("create", results.into_iter(), &mut streams.console()).unwrap_err();
    assert_eq!(error.to_string(), "failed to create one or more entries");
    assert!(
        streams.out().starts_with("Entry ID                : (none)\n"),
        "{}",
        streams.out()
    );
    let expected = "Failed to create the following entry (code: AlreadyExists, msg: \"similar entry already exists\"):\n\
                    Entry ID                : (none)\n";
    assert!(streams.err().starts_with(expected), "{}", streams.err());
}

#[test]
fn deletions_are_told_one_by_one() {
    use credence_proto::spire::api::server::entry::v1::{
        BatchDeleteEntryResponse, batch_delete_entry_response::Result as Item,
    };
    let item = |id: &str, status| Item {
        status,
        id: id.into(),
    };
    let mut streams = Streams::new("");
    let mut response = BatchDeleteEntryResponse {
        results: vec![item("a", status(0, "OK"))],
    };
    delete::report(&response, &mut streams.console()).unwrap();
    assert_eq!(
        streams.out(),
        "Deleted entry with ID: a\n\n\nDeleted 1 entries successfully\n"
    );

    let mut streams = Streams::new("");
    response.results.push(item("b", status(5, "entry not found")));
    delete::report(&response, &mut streams.console()).unwrap_err();
    assert_eq!(
        streams.err(),
        "Failed to delete entry with ID b (code: NotFound, msg: \"entry not found\")\n"
    );
    assert!(
        streams
            .out()
            .ends_with("\nDeleted 1 entries successfully, but failed to delete 1 entries\n"),
        "{}",
        streams.out()
    );
}

#[test]
fn a_list_is_sorted() {
    let entry = |path: &str, values: &[&str]| types::Entry {
        spiffe_id: id(path),
        selectors: values.iter().map(|value| selector(value)).collect(),
        ..Default::default()
    };
    let mut entries = [
        entry("/b", &["z"]),
        entry("/b", &["y", "x"]),
        entry("/a", &["q"]),
        entry("/b", &["a"]),
    ];
    show::sort(&mut entries);
    let expected = [
        entry("/a", &["q"]),
        entry("/b", &["a"]),
        entry("/b", &["z"]),
        entry("/b", &["x", "y"]),
    ];
    assert_eq!(entries, expected);
}
