use credence_proto::spire::api::types;

use super::*;
use crate::cli::{self, tests::read};

fn agent() -> types::Agent {
    types::Agent {
        id: Some(types::Spiffeid {
            trust_domain: "domain.test".into(),
            path: "/spire/agent/join_token/x".into(),
        }),
        attestation_type: "join_token".into(),
        x509svid_serial_number: "1234".into(),
        x509svid_expires_at: 1_787_426_917,
        can_reattest: false,
        agent_version: "0.1.0".into(),
        ..Default::default()
    }
}

#[test]
fn an_agent_as_text() {
    let mut out = Vec::new();
    list::print(&mut out, &agent()).unwrap();
    let banned = types::Agent {
        banned: true,
        agent_version: String::new(),
        ..agent()
    };
    list::print(&mut out, &banned).unwrap();
    let expected = "\
SPIFFE ID         : spiffe://domain.test/spire/agent/join_token/x
Attestation type  : join_token
Expiration time   : 2026-08-22 19:28:37 +0000 UTC
Serial number     : 1234
Can re-attest     : false
Agent version     : 0.1.0

SPIFFE ID         : spiffe://domain.test/spire/agent/join_token/x
Attestation type  : join_token
Expiration time   : 2026-08-22 19:28:37 +0000 UTC
Banned            : true
Can re-attest     : false

";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

fn filter(line: &str) -> Result<String, String> {
    let line: Vec<_> = ["agent", "list"]
        .into_iter()
        .chain(line.split_whitespace())
        .collect();
    let (command, _) = read(&line, "").unwrap();
    let cli::Command::Agent(Command::List(list)) = command else {
        panic!("not a list");
    };
    match list.command.filter.build() {
        Ok(filter) => Ok(format!("{:?} {:?}", filter.by_banned, filter.by_can_reattest)),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn filters() {
    assert_eq!(filter(""), Ok("None None".into()));
    assert_eq!(
        filter("-banned true -canReattest=false"),
        Ok("Some(true) Some(false)".into())
    );
    assert_eq!(filter("-banned maybe"), Ok("None None".into()));
    assert_eq!(
        filter("-matchSelectorsOn nope"),
        Err("unsupported match behavior".into())
    );
    assert!(
        filter("-expiresBefore tomorrow")
            .unwrap_err()
            .starts_with("date is not valid: ")
    );
}

#[test]
fn purged_agents_as_text_and_json() {
    use purge::Expired;
    let expired = [
        Expired {
            id: "spiffe://a/1".into(),
            outcome: Some(Ok(())),
        },
        Expired {
            id: "spiffe://a/2".into(),
            outcome: Some(Err(CommandError::new("no"))),
        },
    ];
    let text = |expired: &[Expired], dry_run| {
        let mut out = Vec::new();
        purge::print(&mut out, expired, dry_run).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(text(&[], false), "No agents to purge.\n");
    assert_eq!(
        text(&expired, false),
        "Found 2 expired agents\n\nAgents purged:\nSPIFFE ID         : spiffe://a/1\n\
         Agents not purged:\nSPIFFE ID         : spiffe://a/2\nError             : no\n"
    );
    assert_eq!(
        expired[0].json().to_string(),
        r#"{"agent_id":"spiffe://a/1","deleted":true}"#
    );
    assert_eq!(
        expired[1].json().to_string(),
        r#"{"agent_id":"spiffe://a/2","deleted":false,"error":"no"}"#
    );
    let dry = [Expired {
        id: "spiffe://a/1".into(),
        outcome: None,
    }];
    assert_eq!(
        text(&dry, true),
        "Found 1 expired agent\n\n\nAgents that can be purged:\nSPIFFE ID         : spiffe://a/1\n"
    );
}
