//! The `federation` block.

use super::read;

#[test]
fn what_spires_users_write_is_accepted_with_a_warning_for_each_half() {
    let (_, warnings) = read(
        r#"federation {
            bundle_endpoint {
                address = "0.0.0.0"
                port = "8443"
                refresh_hint = "10m"
                profile "https_web" {
                    serving_cert_file { cert_file_path = "c.pem" key_file_path = "k.pem" }
                }
            }
            federates_with "spiffe://domain-b.test" {
                bundle_endpoint_url = "https://b:8443"
                bundle_endpoint_profile "https_spiffe" { endpoint_spiffe_id = "spiffe://elsewhere.test/spire/server" }
            }
            federates_with "c.test" {
                bundle_endpoint_url = "HTTPS://c.test/bundle"
                bundle_endpoint_profile "https_web" {}
            }
        }"#,
    )
    .unwrap();
    assert_eq!(
        warnings,
        [
            "server.conf:3:13: server.federation.bundle_endpoint: this version serves no bundle endpoint",
            "server.conf:15:13: server.federation.federates_with: this version fetches no bundles; set them with \"bundle set\"",
        ]
    );
}

#[test]
fn endpoints_of_every_profile() {
    for (endpoint, warned) in [
        ("profile \"https_spiffe\" {}", None),
        ("profile { https_spiffe {} }", None),
        (
            "profile \"https_web\" { acme { domain_name = \"d\" email = \"e\" tos_accepted = true } }",
            None,
        ),
        (
            "acme { domain_name = \"d\" email = \"e\" }",
            Some("ACME configuration within"),
        ),
        ("", Some("Bundle endpoint is configured but has no profile set")),
        (
            "profile \"https_spiffe\" {} refresh_hint = \"24h\"",
            Some("set to a high value"),
        ),
        (
            "profile \"https_spiffe\" {} refresh_hint = \"59s\"",
            Some("set too low"),
        ),
    ] {
        let (_, warnings) = read(&format!("federation {{ bundle_endpoint {{ {endpoint} }} }}")).unwrap();
        assert_eq!(
            warnings.len(),
            1 + usize::from(warned.is_some()),
            "{endpoint}: {warnings:?}"
        );
        if let Some(warned) = warned {
            assert!(warnings[1].contains(warned), "{endpoint}: {warnings:?}");
        }
    }
}

#[test]
fn each_fault_of_the_block_is_named() {
    let web = "bundle_endpoint_profile \"https_web\" {}";
    let url = "bundle_endpoint_url = \"https://b.test\"";
    let with = |name: &str, inside: &str| format!("federates_with \"{name}\" {{ {inside} }}");
    let endpoint = |inside: &str| format!("bundle_endpoint {{ {inside} }}");
    for (block, fault) in [
        (
            with("B.test", &format!("{url}\n{web}")),
            "federates_with: could not parse \"B.test\": ",
        ),
        (with("b.test", web), "bundle_endpoint_url must be configured"),
        (
            with(
                "b.test",
                &format!("bundle_endpoint_url = \"http://b.test\"\n{web}"),
            ),
            "bundle endpoint URL must use the https scheme",
        ),
        (
            with("b.test", url),
            "trust domain \"b.test\": missing bundle endpoint configuration",
        ),
        (
            with(
                "b.test",
                &format!("{url}\n{web}\nbundle_endpoint_profile \"https_spiffe\" {{}}"),
            ),
            "exactly one bundle endpoint profile is expected",
        ),
        (
            with(
                "b.test",
                &format!("{url}\nbundle_endpoint_profile \"https_spiffe\" {{}}"),
            ),
            "endpoint_spiffe_id must be configured",
        ),
        (
            with(
                "b.test",
                &format!("{url}\nbundle_endpoint_profile \"https\" {{}}"),
            ),
            "unknown bundle endpoint profile \"https\"",
        ),
        (
            endpoint("address = \"somewhere\" profile \"https_spiffe\" {}"),
            "bundle_endpoint.address: ",
        ),
        (
            endpoint("profile \"https_spiffe\" {} refresh_hint = \"5\""),
            "bundle_endpoint.refresh_hint: ",
        ),
        (
            endpoint("profile \"https_spiffe\" {} prot = 1"),
            "unknown key \"prot\"",
        ),
        (
            endpoint("profile \"https_web\" {}"),
            "'acme' or 'serving_cert_file' is required",
        ),
        (
            endpoint("acme {} profile \"https_spiffe\" {}"),
            "can be set, but not both",
        ),
        (
            endpoint("acme {}"),
            "bundle_endpoint.acme.domain_name must be configured",
        ),
        (
            endpoint("profile \"https_web\" { serving_cert_file { cert_file_path = \"c\" } }"),
            "key_file_path must be configured",
        ),
    ] {
        let faults = read(&format!("federation {{ {block} }}")).unwrap_err();
        assert!(
            faults.iter().any(|found| found.contains(fault)),
            "{block}: {faults:?}"
        );
    }
}
