//! `bundle` and `federation`.

use super::*;

/// A file in a folder of its own.
fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn bundles_are_counted_set_listed_and_deleted() {
    let (lab, other) = (Lab::start().await, Lab::start().await);
    let pem = other.command("bundle show").await.ok();
    let spiffe = other.command("bundle show -format spiffe").await.ok();
    let folder = tempfile::tempdir().unwrap();
    let (pem_path, spiffe_path) = (file(&folder, "b.pem", &pem), file(&folder, "b.json", &spiffe));
    assert_eq!(lab.command("bundle count").await.ok(), "1 bundle\n");
    assert_eq!(lab.command("bundle list").await.ok(), "");

    let set = lab.command_with("bundle set -id b.test", pem.clone()).await;
    assert_eq!(set.ok(), "bundle set.\n");
    let line = format!("bundle set -id spiffe://c.test -format SPIFFE -path {spiffe_path}");
    assert_eq!(lab.command(&line).await.ok(), "bundle set.\n");
    assert_eq!(lab.command("bundle count").await.ok(), "3 bundles\n");
    assert_eq!(
        lab.command("bundle count -output json").await.ok(),
        "{\"count\":3}\n"
    );

    let stars = "*".repeat(40);
    let listed = lab.command("bundle list").await.ok();
    let wanted = format!("{stars}\n* b.test\n{stars}\n{pem}\n{stars}\n* c.test\n{stars}\n{pem}");
    assert_eq!(listed, wanted);
    assert!(listed.lines().all(|line| line.len() <= 64));
    // Keys and sequence number went along, and come out as they went in.
    let one = lab.command("bundle list -id c.test -format spiffe").await.ok();
    assert_eq!(one, spiffe);
    assert_eq!(lab.command("bundle list -id spiffe://b.test").await.ok(), pem);
    let json = lab.command("bundle list -output json").await.json();
    assert_eq!(json["bundles"][0]["trust_domain"], "b.test");
    assert_eq!(json["bundles"][1]["x509_authorities"][0]["tainted"], false);
    assert_eq!(json["next_page_token"], "");
    let json = lab.command("bundle list -id b.test -output json").await.json();
    assert_eq!(
        (&json["trust_domain"], &json["refresh_hint"]),
        (&"b.test".into(), &"0".into())
    );

    let line = format!("bundle set -id b.test -path {pem_path} -output json");
    let json = lab.command(&line).await.json();
    assert_eq!(json["results"][0]["status"]["message"], "OK");
    assert_eq!(json["results"][0]["bundle"]["trust_domain"], "b.test");

    let gone = lab.command("bundle delete -id b.test").await.ok();
    assert_eq!(gone, "bundle deleted.\n");
    let json = lab
        .command("bundle delete -id spiffe://c.test -mode delete -output json")
        .await
        .ok();
    let wanted =
        "{\"results\":[{\"status\":{\"code\":0,\"message\":\"OK\"},\"trust_domain\":\"spiffe://c.test\"}]}\n";
    assert_eq!(json, wanted);
    assert_eq!(lab.command("bundle count").await.ok(), "1 bundle\n");
}

#[tokio::test]
async fn a_bundle_in_use_is_restricted_dissociated_or_deleted_with_its_entries() {
    let lab = Lab::start().await;
    let pem = lab.command("bundle show").await.ok();
    let set = lab.command_with("bundle set -id b.test", pem).await;
    assert_eq!(set.ok(), "bundle set.\n");
    let create = "entry create -parentID spiffe://example.org/node -spiffeID spiffe://example.org/w -selector a:b \
                  -federatesWith b.test";
    lab.command(create).await.ok();
    assert_eq!(
        lab.command("bundle delete -id b.test").await.failed(),
        "Error: failed to delete federated bundle \"b.test\": failed to delete federated bundle: datastore-sql: \
         cannot delete bundle; federated with 1 registration entries\n"
    );
    let gone = lab
        .command("bundle delete -id b.test -mode dissociate")
        .await
        .ok();
    assert_eq!(gone, "bundle deleted.\n");
    let shown = lab.command("entry show").await.ok();
    assert!(
        shown.contains("Revision                : 1\n") && !shown.contains("FederatesWith"),
        "{shown}"
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_bundle_command() {
    let lab = Lab::start().await;
    let pem = lab.command("bundle show").await.ok();
    let folder = tempfile::tempdir().unwrap();
    let (pem, json) = (file(&folder, "b.pem", &pem), file(&folder, "b.json", "{}"));
    let missing = folder.path().join("missing").display().to_string();
    for (line, error) in [
        ("bundle set".to_owned(), "id flag is required".to_owned()),
        (format!("bundle set -id b.test -path {pem} -format x"), "invalid format: \"x\"".to_owned()),
        (
            format!("bundle set -id b.test -path {missing}"),
            format!("unable to load bundle data: open {missing}: no such file or directory"),
        ),
        (
            format!("bundle set -id example.org -path {pem}"),
            "failed to set federated bundle: setting a federated bundle for the server's own trust domain is not allowed"
                .to_owned(),
        ),
        (
            format!("bundle set -id Bad -path {pem}"),
            "failed to set federated bundle: trust domain argument is not valid: trust domain characters are limited to \
             lowercase letters, numbers, dots, dashes, and underscores"
                .to_owned(),
        ),
        ("bundle list -format x".to_owned(), "invalid format: \"x\"".to_owned()),
        (
            "bundle list -id b.test".to_owned(),
            "rpc error: code = NotFound desc = bundle not found".to_owned(),
        ),
        ("bundle delete".to_owned(), "id is required".to_owned()),
        ("bundle delete -id b.test -mode x".to_owned(), "unsupported mode \"x\"".to_owned()),
        (
            "bundle delete -id b.test".to_owned(),
            "failed to delete federated bundle \"b.test\": bundle not found".to_owned(),
        ),
    ] {
        assert_eq!(lab.command(&line).await.failed(), format!("Error: {error}\n"), "{line}");
    }
    for (line, start) in [
        (
            format!("bundle set -id b.test -path {json}"),
            "Error: unable to parse bundle data: ",
        ),
        (
            format!("bundle set -id b.test -path {json} -format spiffe"),
            "Error: unable to parse to spiffe bundle: ",
        ),
    ] {
        let error = lab.command(&line).await.failed();
        assert!(error.starts_with(start), "{line}: {error}");
    }
    // A script that asks for JSON reads the refusal there.
    let line = format!("bundle set -id example.org -path {pem} -output json");
    let json = lab.command(&line).await.json();
    assert_eq!(json["results"][0]["status"]["code"], 3);
    assert_eq!(json["results"][0].get("bundle"), None);
}

const WEB: &str = "-bundleEndpointURL https://b.test/x -bundleEndpointProfile https_web";

#[tokio::test]
async fn relationships_are_created_updated_listed_and_deleted() {
    let (lab, other) = (Lab::start().await, Lab::start().await);
    assert_eq!(
        lab.command("federation list").await.ok(),
        "Found 0 federation relationships\n"
    );
    let web = "\nTrust domain              : b.test\nBundle endpoint URL       : https://b.test/x\n\
               Bundle endpoint profile   : https_web\n";
    let created = lab
        .command(&format!("federation create -trustDomain b.test {WEB}"))
        .await;
    assert_eq!(created.ok(), web);
    let again = lab
        .command(&format!("federation create -trustDomain b.test {WEB}"))
        .await;
    assert_eq!(again.out, "\n");
    let error = again.failed();
    let mut lines = error.lines();
    let first = lines.next().unwrap();
    let start = "Failed to create the following federation relationship (code: Internal, msg: \"failed to create federation relationship: ";
    assert!(first.starts_with(start), "{first}");
    assert_eq!(lines.next(), Some("Trust domain              : b.test"));
    assert_eq!(
        error.lines().last(),
        Some("Error: failed to create one or more federation relationships")
    );

    // The endpoint may belong to another trust domain than the bundle it serves.
    let folder = tempfile::tempdir().unwrap();
    let spiffe = other.command("bundle show -format spiffe").await.ok();
    let path = file(&folder, "c.json", &spiffe);
    let line = format!(
        "federation create -trustDomain spiffe://c.test -bundleEndpointURL https://c -bundleEndpointProfile https_spiffe \
         -endpointSpiffeID spiffe://d.test/e -trustDomainBundlePath {path} -trustDomainBundleFormat spiffe -output json"
    );
    let json = lab.command(&line).await.json();
    let made = &json["results"][0]["federation_relationship"];
    assert_eq!(made["https_spiffe"]["endpoint_spiffe_id"], "spiffe://d.test/e");
    assert_eq!(made["trust_domain_bundle"]["trust_domain"], "c.test");
    assert_eq!(
        lab.command("bundle list -id c.test -format spiffe").await.ok(),
        spiffe
    );

    let line = "federation update -trustDomain b.test -bundleEndpointURL https://new.test -bundleEndpointProfile https_web";
    let updated = lab.command(line).await.ok();
    assert_eq!(updated, web.replace("b.test/x", "new.test"));
    let listed = lab.command("federation list").await.ok();
    let second = "\nTrust domain              : c.test\nBundle endpoint URL       : https://c\n\
                  Bundle endpoint profile   : https_spiffe\nEndpoint SPIFFE ID        : spiffe://d.test/e\n";
    assert_eq!(
        listed,
        format!("Found 2 federation relationships\n{updated}{second}")
    );
    let shown = lab.command("federation show -trustDomain c.test").await.ok();
    assert_eq!(
        shown,
        format!("Found a federation relationship with trust domain c.test:\n{second}")
    );
    let json = lab.command("federation list -output json").await.json();
    assert_eq!(
        json["federation_relationships"][0]["https_web"],
        serde_json::json!({})
    );
    assert_eq!(json["next_page_token"], "");
    let json = lab
        .command("federation show -trustDomain b.test -output json")
        .await
        .ok();
    let wanted =
        "{\"bundle_endpoint_url\":\"https://new.test\",\"https_web\":{},\"trust_domain\":\"b.test\"}\n";
    assert_eq!(json, wanted);

    let gone = lab.command("federation delete -id spiffe://b.test").await.ok();
    assert_eq!(gone, "federation relationship deleted.\n");
    let json = lab
        .command("federation delete -id c.test -output json")
        .await
        .json();
    assert_eq!(json["results"][0]["trust_domain"], "c.test");
    assert_eq!(
        lab.command("federation list").await.ok(),
        "Found 0 federation relationships\n"
    );
}

#[tokio::test]
async fn relationships_come_from_a_file() {
    let (lab, other) = (Lab::start().await, Lab::start().await);
    let pem = other.command("bundle show").await.ok();
    let spiffe: Value =
        serde_json::from_str(&other.command("bundle show -format spiffe").await.ok()).unwrap();
    let item = |name: &str| {
        serde_json::json!({
            "trustDomain": name, "bundleEndpointURL": "https://x", "bundleEndpointProfile": "https_web",
        })
    };
    let (mut first, mut second) = (item("b.test"), item("c.test"));
    first["trustDomainBundle"] = pem.clone().into();
    first["trustDomainBundleFormat"] = "pem".into();
    second["trustDomainBundle"] = spiffe;
    second["trustDomainBundleFormat"] = "spiffe".into();
    second["bundleEndpointProfile"] = "https_spiffe".into();
    second["endpointSPIFFEID"] = "spiffe://c.test/e".into();
    let data = serde_json::json!({ "federationRelationships": [first, second] }).to_string();
    let created = lab
        .command_with("federation create -data -", data.clone())
        .await
        .ok();
    assert_eq!(created.matches("Trust domain ").count(), 2, "{created}");
    assert_eq!(lab.command("bundle count").await.ok(), "3 bundles\n");
    assert_eq!(lab.command("bundle list -id b.test").await.ok(), pem);
    let updated = lab.command_with("federation update -data -", data).await.ok();
    assert_eq!(updated, created);

    let mut odd = item("d.test");
    odd["oops"] = 1.into();
    let data = serde_json::json!({ "federationRelationships": [odd] }).to_string();
    let ran = lab.command_with("federation create -data -", data).await;
    assert_eq!(
        (ran.status, ran.err.as_str()),
        (0, "Warning: field \"oops\" of item 0 is ignored\n")
    );

    let mut formless = item("e.test");
    formless["trustDomainBundle"] = pem.into();
    for (data, error) in [
        ("{".to_owned(), "failed to parse JSON: "),
        (
            serde_json::json!({ "federationRelationships": [{ "trustDomain": "e.test" }] }).to_string(),
            "could not parse item 0: bundle endpoint URL is required",
        ),
        (
            serde_json::json!({ "federationRelationships": [formless] }).to_string(),
            "could not parse item 0: cannot parse bundle raw message: bundle format \"\" is unsupported",
        ),
    ] {
        let ran = lab.command_with("federation create -data -", data).await.failed();
        assert!(ran.starts_with(&format!("Error: {error}")), "{ran}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_federation_command() {
    let lab = Lab::start().await;
    let spiffe = "-trustDomain b.test -bundleEndpointURL https://x -bundleEndpointProfile https_spiffe";
    for (line, error) in [
        ("create".to_owned(), "trust domain is required"),
        (
            "create -trustDomain b.test".to_owned(),
            "bundle endpoint URL is required",
        ),
        (
            "create -trustDomain b.test -bundleEndpointURL x".to_owned(),
            "unknown bundle endpoint profile type: \"\"",
        ),
        (
            format!("create {spiffe}"),
            "endpoint SPIFFE ID is required if 'https_spiffe' endpoint profile is set",
        ),
        (
            format!("create {spiffe} -endpointSpiffeID x"),
            "cannot parse bundle endpoint SPIFFE ID: scheme is missing or invalid",
        ),
        (
            format!("create -trustDomain b.test {WEB} -trustDomainBundlePath /nowhere"),
            "cannot read bundle file: open /nowhere: no such file or directory",
        ),
        (
            "create -data /nowhere".to_owned(),
            "open /nowhere: no such file or directory",
        ),
        (
            "update -data - -trustDomain x".to_owned(),
            "cannot use other flags to specify relationship fields when 'data' flag is set",
        ),
        ("delete".to_owned(), "id is required"),
        (
            "delete -id b.test".to_owned(),
            "failed to delete federation relationship \"b.test\": federation relationship not found",
        ),
        ("show".to_owned(), "a trust domain name is required"),
        (
            "show -trustDomain b.test".to_owned(),
            "error showing federation relationship: rpc error: code = NotFound desc = federation relationship does not exist",
        ),
    ] {
        let error = format!("Error: {error}\n");
        assert_eq!(
            lab.command(&format!("federation {line}")).await.failed(),
            error,
            "{line}"
        );
    }
    let unknown = lab
        .command(&format!("federation update -trustDomain b.test {WEB}"))
        .await;
    assert!(
        unknown
            .failed()
            .contains("(code: Internal, msg: \"failed to update federation relationship: ")
    );
}
