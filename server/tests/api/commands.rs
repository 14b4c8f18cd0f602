//! The admin commands against a real server: texts, JSON and exit statuses that scripts of SPIRE's users rely on.

mod bundles;

use std::fs;
use std::io::Cursor;

use credence_command::Console;
use credence_crypto::x509::{X509SvidKey, verify_svid};
use serde_json::Value;

use crate::harness::{DOMAIN, Lab, NOW};

pub(crate) struct Ran {
    pub(crate) status: u8,
    out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The output of a command that succeeded without a word on stderr, but for what is doubtful in an entry: most
    /// entries of tests are.
    pub(crate) fn ok(self) -> String {
        let said: Vec<_> = self.err.lines().filter(|line| !is_doubt(line)).collect();
        assert_eq!((self.status, said), (0, vec![]), "{}", self.out);
        self.out
    }

    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// What a command that failed wrote on stderr.
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.status, 1, "{}", self.out);
        self.err
    }
}

impl Lab {
    pub(crate) async fn command(&self, line: &str) -> Ran {
        self.command_with(line, String::new()).await
    }

    /// Runs a command as a program would, on a thread of its own: it makes its own runtime.
    async fn command_with(&self, line: &str, input: String) -> Ran {
        let mut line: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        line.extend(["-socketPath".to_owned(), self.bound.socket.display().to_string()]);
        let run = move || {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut console = Console {
                input: &mut Cursor::new(input),
                out: &mut out,
                err: &mut err,
                terminal: None,
            };
            let status = credence_server::cli::main("spire-server", &line, &mut console);
            let text = |bytes| String::from_utf8(bytes).unwrap();
            Ran {
                status,
                out: text(out),
                err: text(err),
            }
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    }
}

fn is_doubt(line: &str) -> bool {
    let doubts = [
        "no agent and no entry has the parent ID ",
        "no workload attestor makes ",
        "no attested agent has ",
    ];
    let said = line.strip_prefix("Warning: ");
    said.is_some_and(|said| doubts.iter().any(|doubt| said.starts_with(doubt)))
}

/// The value of the first `name : value` line.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    line.split_once(": ").unwrap().1
}

#[tokio::test]
async fn a_token_is_the_second_word() {
    let lab = Lab::start().await;
    assert_eq!(lab.command("healthcheck").await.ok(), "Server is healthy.\n");
    let out = lab
        .command("token generate -spiffeID spiffe://example.org/node")
        .await
        .ok();
    assert!(out.starts_with("Token: ") && out.lines().count() == 1, "{out}");
    let out = lab.command("token generate --ttl=60").await.ok();
    assert!(out.ends_with("\nWarning: Missing SPIFFE ID.\n"), "{out}");
    let json = lab.command("token generate -output json").await.json();
    let expires_at: i64 = json["expires_at"].as_str().unwrap().parse().unwrap();
    // The clock goes on while commands run.
    assert!((600..660).contains(&(expires_at - NOW.unix_seconds())), "{json}");
    assert!(json["value"].is_string());
    let err = lab.command("token generate -spiffeID nonsense").await.failed();
    assert_eq!(err, "Error: scheme is missing or invalid\n");
}

/// What is probably a mistake is said on stderr, after the fact and once; what is right is not.
#[tokio::test]
async fn an_entry_with_a_parent_that_nobody_is_or_a_selector_that_nobody_makes_is_warned_of() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let agent = format!("spiffe://example.org{}", agent.id.path);
    let create = async |parent: &str, more: &str| {
        let line = format!("entry create -parentID {parent} {more}");
        let ran = lab.command(&line).await;
        assert_eq!(ran.status, 0, "{}", ran.err);
        assert!(!ran.out.contains("Warning"), "{}", ran.out);
        ran.err
    };
    let id = "-spiffeID spiffe://example.org";
    assert_eq!(create(&agent, &format!("{id}/1 -selector unix:uid:1")).await, "");
    let node = format!("entry create -node {id}/node -selector spiffe_id:{agent}");
    assert_eq!(lab.command(&node).await.err, "");
    let below = format!("{id}/2 -selector k8s:ns:a -selector docker:label:a:b -output json");
    assert_eq!(create("spiffe://example.org/node", &below).await, "");
    let stored = format!("{id}/3 -selector disk:a -storeSVID");
    assert_eq!(create(&agent, &stored).await, "");

    let nobody = "spiffe://example.org/spire/agent/x509pop/nobody";
    let parent = |parent| format!("Warning: no agent and no entry has the parent ID {parent}\n");
    let of_workloads = "Warning: no workload attestor makes selectors of type \"unx\"\n";
    let doubtful = format!("{id}/4 -selector unx:uid:1 -selector unx:gid:1 -output json");
    assert_eq!(create(nobody, &doubtful).await, parent(nobody) + of_workloads);
    let misspelt = "spiffe://example.org/nodes";
    let plain = format!("{id}/5 -selector unix:uid:1 -entryID five");
    assert_eq!(create(misspelt, &plain).await, parent(misspelt));
    let node = format!("entry create -node {id}/other -selector x509pop:subject:cn:a");
    let of_nodes = "Warning: no attested agent has selectors of type \"x509pop\"\n";
    assert_eq!(lab.command(&node).await.err, of_nodes);
    let updated = format!("entry update -entryID five -parentID {agent} {id}/5 -selector unx:uid:1");
    assert_eq!(lab.command(&updated).await.err, of_workloads);
    // A refusal is all there is to say of a refused entry.
    let again = format!("entry create -parentID {misspelt} {plain}");
    let refused = lab.command(&again).await;
    assert!(!refused.err.contains("Warning"), "{}", refused.err);
    assert_eq!(refused.status, 1);
}

#[tokio::test]
async fn entries_are_created_shown_updated_and_deleted() {
    let lab = Lab::start().await;
    let create =
        "entry create -parentID spiffe://example.org/p -spiffeID spiffe://example.org/w -selector s1:v1";
    let out = lab
        .command(&format!("{create} -admin true -entryID NAME -hint h"))
        .await
        .ok();
    assert_eq!(value(&out, "Entry ID"), "NAME");
    assert_eq!(value(&out, "Revision"), "0");
    assert_eq!(value(&out, "Admin"), "true");
    assert_eq!(value(&out, "X509-SVID TTL"), "default");

    let again = lab.command(create).await;
    assert_eq!(again.out, "");
    let err = again.failed();
    assert!(
        err.starts_with("Failed to create the following entry (code: AlreadyExists, msg: "),
        "{err}"
    );
    assert_eq!(value(&err, "Entry ID"), "(none)");
    assert!(
        err.ends_with("\n\nError: failed to create one or more entries\n"),
        "{err}"
    );
    let json = lab.command(&format!("{create} -output json")).await.json();
    assert_eq!(json["results"][0]["status"]["code"], 6);

    let node = "entry create -node -spiffeID spiffe://example.org/n -selector a:b -selector c:d -downstream";
    assert_eq!(
        value(&lab.command(node).await.ok(), "Parent ID"),
        "spiffe://example.org/spire/server"
    );

    let out = lab.command("entry show").await.ok();
    assert!(
        out.starts_with("Found 2 entries\nEntry ID                : "),
        "{out}"
    );
    assert_eq!(lab.command("entry count").await.ok(), "2 registration entries\n");
    assert_eq!(
        lab.command("entry count -downstream").await.ok(),
        "1 registration entry\n"
    );
    for (filter, found) in [
        ("-selector a:b", "1 entry"),
        ("-selector a:b -matchSelectorsOn exact", "0 entries"),
        ("-spiffeID spiffe://example.org/w", "1 entry"),
        ("-parentID spiffe://example.org/spire/server", "1 entry"),
        ("-hint h", "1 entry"),
        ("-entryID NAME", "1 entry"),
    ] {
        let out = lab.command(&format!("entry show {filter}")).await.ok();
        assert_eq!(
            out.lines().next(),
            Some(format!("Found {found}").as_str()),
            "{filter}"
        );
    }

    let update = "entry update -entryID NAME -parentID spiffe://example.org/p -spiffeID spiffe://example.org/w2 \
                  -selector s1:v1 -x509SVIDTTL 60";
    let out = lab
        .command(&format!("{update} -disableX509SVIDPrefetch -jwtSVIDIncludeJTI"))
        .await
        .ok();
    assert_eq!(value(&out, "Revision"), "1");
    assert_eq!(value(&out, "X509-SVID TTL"), "60");
    assert!(
        !out.contains("Admin") && !out.contains("Hint"),
        "an update replaces the entry: {out}"
    );
    let out = lab
        .command(&format!("{update} -jwtSVIDIncludeJTI=false"))
        .await
        .ok();
    assert_eq!(value(&out, "DisableX509SvidPrefetch"), "true");
    assert!(!out.contains("JwtSvidIncludeJti"), "{out}");

    let out = lab.command("entry delete -entryID NAME").await.ok();
    assert!(out.starts_with("Deleted entry with ID: NAME\n"), "{out}");
    let err = lab.command("entry delete -entryID NAME").await.failed();
    assert!(
        err.starts_with("Failed to delete entry with ID NAME (code: NotFound, msg: "),
        "{err}"
    );
}

#[tokio::test]
async fn many_entries_come_in_one_call_and_are_shown_over_pages() {
    let lab = Lab::start().await;
    let entries: Vec<Value> = (0..511)
        .map(|number| {
            serde_json::json!({
                "parent_id": "spiffe://example.org/p",
                "spiffe_id": format!("spiffe://example.org/w{number}"),
                "selectors": [{ "type": "unix", "value": format!("uid:{number}") }],
            })
        })
        .collect();
    let input = serde_json::json!({ "entries": entries }).to_string();
    let out = lab.command_with("entry create -data -", input).await.ok();
    assert_eq!(
        out.lines().filter(|line| line.starts_with("Entry ID")).count(),
        511
    );
    let json = lab.command("entry show -output json").await.json();
    let entries = json["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 511);
    assert_eq!(entries[0]["spiffe_id"]["path"], "/w0");
    assert_eq!(entries[0]["store_svid"], false);
    let ids: Vec<&str> = entries.iter().filter_map(|entry| entry["id"].as_str()).collect();
    let ids = serde_json::json!({ "ids": ids }).to_string();
    let out = lab.command_with("entry delete -file -", ids).await.ok();
    assert!(out.ends_with("\nDeleted 511 entries successfully\n"), "{out}");
}

#[tokio::test]
async fn agents_are_listed_banned_and_evicted() {
    let lab = Lab::start().await;
    assert_eq!(lab.command("agent list").await.ok(), "No attested agents found\n");
    let agent = lab.agent().await;
    let id = format!("spiffe://{DOMAIN}{}", agent.id.path);
    let out = lab.command("agent list").await.ok();
    assert!(
        out.starts_with(&format!("Found 1 attested agent:\n\nSPIFFE ID         : {id}\n")),
        "{out}"
    );
    assert!(
        out.contains("\nAttestation type  : join_token\n") && out.contains("\nSerial number     : "),
        "{out}"
    );
    assert_eq!(lab.command("agent count").await.ok(), "1 attested agent\n");
    assert_eq!(
        lab.command("agent count -banned true").await.ok(),
        "0 attested agents\n"
    );
    assert_eq!(lab.command("agent purge").await.ok(), "No agents to purge.\n");
    let json = lab.command("agent list -output json").await.json();
    assert_eq!(json["agents"][0]["id"]["path"], agent.id.path);

    assert_eq!(
        lab.command(&format!("agent ban -spiffeID {id}")).await.ok(),
        "Agent banned successfully\n"
    );
    let out = lab.command(&format!("agent show -spiffeID {id}")).await.ok();
    assert!(
        out.starts_with("Found an attested agent given its SPIFFE ID\n\nSPIFFE ID         : "),
        "{out}"
    );
    assert!(out.contains("\nBanned            : true\n"), "{out}");
    assert_eq!(
        lab.command(&format!("agent evict -spiffeID {id} -output json"))
            .await
            .ok(),
        "{}\n"
    );
    let err = lab.command(&format!("agent show -spiffeID {id}")).await.failed();
    assert!(
        err.starts_with("Error: rpc error: code = NotFound desc = "),
        "{err}"
    );
    let err = lab.command("agent purge -expiredFor -1h").await.failed();
    assert!(err.starts_with("Error: invalid value for -expiredFor"), "{err}");
}

#[tokio::test]
async fn authorities_are_rotated_by_hand_in_spires_words() {
    let lab = Lab::start().await;
    for (kind, noun) in [("x509", "X.509"), ("jwt", "JWT")] {
        let run = |step: &str| format!("localauthority {kind} {step}");
        let shown = lab.command(&run("show -output json")).await.json();
        assert_eq!(shown.as_object().unwrap().len(), 1, "{shown}");
        let first = shown["active"]["authority_id"].as_str().unwrap().to_owned();
        let upstream = if kind == "x509" {
            "  Upstream authority ID: No upstream authority\n"
        } else {
            ""
        };
        let block = |id: &str, date: &str| format!("  Authority ID: {id}\n  Expires at: {date}\n{upstream}");
        let end = "2023-11-15 22:13:20 +0000 UTC";
        assert_eq!(
            lab.command(&run("show")).await.ok(),
            format!(
                "Active {noun} authority:\n{}\nPrepared {noun} authority:\n  No prepared {noun} authority found\n\n\
                 Old {noun} authority:\n  No old {noun} authority found\n",
                block(&first, end)
            )
        );
        let prepared = lab.command(&run("prepare")).await.ok();
        let shown = lab.command(&run("show -output json")).await.json();
        let second = shown["prepared"]["authority_id"].as_str().unwrap().to_owned();
        assert_eq!(
            prepared,
            format!("Prepared {noun} authority:\n{}", block(&second, end))
        );
        let json = lab
            .command(&run(&format!("activate -authorityID {second} -output json")))
            .await
            .json();
        assert_eq!(json["activated_authority"]["authority_id"], *second);
        let none = "1970-01-01 00:00:00 +0000 UTC";
        let tainted = lab
            .command(&run(&format!("taint -authorityID {first}")))
            .await
            .ok();
        let date = if kind == "x509" { end } else { none };
        assert_eq!(
            tainted,
            format!("Tainted {noun} authority:\n{}", block(&first, date))
        );
        let err = lab
            .command(&run(&format!("taint -authorityID {first}")))
            .await
            .failed();
        assert!(
            err.starts_with(&format!(
                "Error: could not taint {noun} authority: rpc error: code = Internal desc = failed to taint {noun} authority: "
            )),
            "{err}"
        );
        let revoked = lab
            .command(&run(&format!("revoke -authorityID {first}")))
            .await
            .ok();
        assert_eq!(
            revoked,
            format!("Revoked {noun} authority:\n{}", block(&first, none))
        );
        for step in ["activate", "taint", "revoke"] {
            let err = lab.command(&run(step)).await.failed();
            assert_eq!(err, "Error: an authority ID is required\n");
        }
    }
}

#[tokio::test]
async fn the_bundle_is_nothing_but_pem_or_a_document() {
    let lab = Lab::start().await;
    let pem = lab.command("bundle show").await.ok();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{pem}");
    assert!(pem.ends_with("-----END CERTIFICATE-----\n"), "{pem}");
    let document: Value = lab.command("bundle show -format spiffe").await.json();
    assert_eq!(document["keys"].as_array().map(Vec::len), Some(2));
    let json = lab.command("bundle show -output json").await.json();
    assert_eq!(json["x509_authorities"][0]["tainted"], false);
    assert!(json["jwt_authorities"][0]["key_id"].is_string());
    let err = lab.command("bundle show -format der").await.failed();
    assert_eq!(err, "Error: invalid format: \"der\"\n");
}

#[tokio::test]
async fn minted_documents_are_good() {
    let lab = Lab::start().await;
    let folder = tempfile::tempdir().unwrap();
    let line = format!(
        "x509 mint -spiffeID spiffe://example.org/m -dns a.test -write {}",
        folder.path().display()
    );
    let out = lab.command(&line).await.ok();
    assert!(
        out.starts_with("X509-SVID written to ") && out.contains("svid.pem\nPrivate key written to "),
        "{out}"
    );
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let ders = |name| -> Vec<Vec<u8>> {
        let blocks = pem::parse_many(read(name)).unwrap();
        blocks.into_iter().map(pem::Pem::into_contents).collect()
    };
    let chain = ders("svid.pem");
    let svid = X509SvidKey::parse(&chain.concat(), &ders("key.pem").concat()).unwrap();
    assert_eq!(svid.svid.id.as_str(), "spiffe://example.org/m");
    verify_svid(&chain, &lab.bundle().await.x509_authorities, NOW).unwrap();

    let out = lab
        .command("x509 mint -spiffeID spiffe://example.org/m")
        .await
        .ok();
    for title in [
        "X509-SVID:\n-----BEGIN",
        "\n\nPrivate key:\n-----BEGIN",
        "\n\nRoot CAs:\n-----BEGIN",
    ] {
        assert!(out.contains(title), "{title} in {out}");
    }
    let json = lab
        .command("x509 mint -spiffeID spiffe://example.org/m -output json")
        .await
        .json();
    assert!(
        json["x509_svid"][0].is_string()
            && json["private_key"].is_string()
            && json["root_cas"][0].is_string()
    );

    let token = lab
        .command("jwt mint -spiffeID spiffe://example.org/m -audience a -audience b")
        .await
        .ok();
    assert_eq!(token.trim_end().split('.').count(), 3, "{token}");
    let file = folder.path().join("token");
    let line = format!(
        "jwt mint -spiffeID spiffe://example.org/m -audience a -write {}",
        file.display()
    );
    assert_eq!(
        lab.command(&line).await.ok(),
        format!("JWT-SVID written to {}\n", file.display())
    );
    assert_eq!(fs::read_to_string(file).unwrap().split('.').count(), 3);
    let err = lab
        .command("jwt mint -spiffeID spiffe://other.test/m -audience a")
        .await
        .failed();
    assert!(
        err.starts_with("Error: unable to mint SVID: rpc error: code = InvalidArgument desc = "),
        "{err}"
    );
}
