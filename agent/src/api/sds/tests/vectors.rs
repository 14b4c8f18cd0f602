//! The cases of `tests/vectors/sds_v3.json`, each on a lab of its own.

use credence_conformance::{load, run_cases, text};
use credence_proto::envoy::config::core::v3::{BuildVersion, Node, node::UserAgentVersionType};
use credence_proto::envoy::r#type::v3::SemanticVersion;
use prost_types::{Struct, Value as ProtoValue, value::Kind};

use super::*;
use crate::attestor::workload::ProcFs;

/// The vectors' trust domain is that of the labs.
fn cases() -> Value {
    let text = load("sds_v3.json").to_string();
    let text = text.replace("spiffe://domain.test", OWN);
    serde_json::from_str(&text.replace("\"domain.test\"", "\"example.org\"")).unwrap()
}

fn block_on(test: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(test)
}

fn is(condition: bool, fault: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(fault()) }
}

/// Conforms: SDS-01, SDS-03, SDS-04, SDS-05, SDS-06, SDS-09, SDS-10, SDS-11, SDS-12, SDS-13, SDS-15, SDS-22
#[test]
fn every_case_of_one_call() {
    let cases = cases();
    run_cases(&cases, "cases", |case| block_on(fetched(&cases["state"], case)));
}

/// Conforms: SDS-17, SDS-18, SDS-20, SDS-21
#[test]
fn every_case_of_a_stream() {
    run_cases(&cases(), "stream_cases", |case| block_on(streamed(case)));
}

async fn fetched(state: &Value, case: &Value) -> Result<(), String> {
    let list = |name: &str| -> Vec<String> {
        let list = case.get(name).unwrap_or(&state[name]).as_array().unwrap();
        list.iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let identities = list("identities");
    let federated: Vec<String> = list("federated")
        .iter()
        .map(|id| id.trim_start_matches("spiffe://").to_owned())
        .collect();
    let lab = lab_with(
        Setup {
            sds: Some(options(case)),
            ..Setup::default()
        },
        &identities.iter().map(String::as_str).collect::<Vec<_>>(),
        &federated.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let names = case["resource_names"].as_array().unwrap();
    let names: Vec<&str> = names.iter().map(|name| name.as_str().unwrap()).collect();
    let mut request = request(&names);
    request.node = case.get("node").map(node);
    if let Some(url) = case.get("type_url") {
        request.type_url = url.as_str().unwrap().to_owned();
    }
    let type_url = request.type_url.clone();
    let expect = &case["expect"];
    match envoy(&lab).await.fetch_secrets(request).await {
        Err(status) => is(
            format!("{:?}", status.code()) == text(expect, "code")
                && status.message() == text(expect, "message"),
            || format!("{status:?}"),
        ),
        Ok(answer) => {
            let answer = answer.into_inner();
            is(expect.get("code").is_none(), || {
                format!("{:?}", names_of(&answer))
            })?;
            is(
                answer.version_info.is_empty() && answer.nonce.is_empty() && answer.type_url == type_url,
                || format!("{answer:?}"),
            )?;
            match expect.get("resources") {
                Some(resources) => judge(&lab, &answer.resources, resources.as_array().unwrap()),
                None => Ok(()),
            }
        }
    }
}

fn options(case: &Value) -> SdsOptions {
    let mut options = SdsOptions::default();
    if let Some(names) = case.get("defaults") {
        options.default_svid_name = text(names, "svid").to_owned();
        options.default_bundle_name = text(names, "bundle").to_owned();
        options.default_all_bundles_name = text(names, "all_bundles").to_owned();
    }
    let disabled = case.pointer("/config/disable_spiffe_cert_validation");
    options.disable_spiffe_cert_validation = disabled.is_some_and(|value| value == true);
    options
}

fn node(node: &Value) -> Node {
    let number = |name: &str| {
        let version = node.pointer(&format!("/user_agent_build_version/version/{name}"))?;
        u32::try_from(version.as_u64()?).ok()
    };
    let version = number("major_number").map(|major_number| {
        UserAgentVersionType::UserAgentBuildVersion(BuildVersion {
            version: Some(SemanticVersion {
                major_number,
                minor_number: number("minor_number").unwrap(),
                patch: 0,
            }),
        })
    });
    let kind = |value: &Value| match value {
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::String(text) => Kind::StringValue(text.clone()),
        other => Kind::NumberValue(other.as_f64().unwrap()),
    };
    let metadata = node
        .get("metadata")
        .and_then(Value::as_object)
        .map(|fields| Struct {
            fields: fields
                .iter()
                .map(|(name, value)| {
                    let kind = Some(kind(value));
                    (name.clone(), ProtoValue { kind })
                })
                .collect(),
        });
    Node {
        metadata,
        user_agent_version_type: version,
    }
}

/// The resources in the order that the case has.
fn judge(lab: &Lab, resources: &[Any], wanted: &[Value]) -> Result<(), String> {
    let found: Vec<String> = resources.iter().map(|any| secret(any).name).collect();
    is(resources.len() == wanted.len(), || format!("{found:?}"))?;
    for (any, wanted) in resources.iter().zip(wanted) {
        let name = text(wanted, "name");
        is(secret(any).name == name, || format!("{found:?}"))?;
        match (text(wanted, "kind"), text(wanted, "validator")) {
            ("tls_certificate", _) => {
                let id = if name == "default" { WORKLOAD } else { name };
                let svid = svid_of(any).svid;
                is(svid.id.as_str() == id, || svid.id.to_string())?;
            }
            (_, "spiffe") => {
                let domains = wanted["trust_domains"].as_array().unwrap();
                let bundle = |name: &Value| {
                    let name = name.as_str().unwrap();
                    (name.to_owned(), pem_of(lab, name))
                };
                let wanted: BTreeMap<_, _> = domains.iter().map(bundle).collect();
                is(validator_of(any) == wanted, || format!("{:?}", validator_of(any)))?;
            }
            _ => {
                let name = text(wanted, "of").trim_start_matches("spiffe://");
                is(trusted_ca_of(any) == pem_of(lab, name), || trusted_ca_of(any))?;
            }
        }
    }
    Ok(())
}

fn pem_of(lab: &Lab, name: &str) -> String {
    x509_to_pem(&lab.cache.bundle_of(&trust_domain(name)).unwrap())
}

/// A lab without the entry, and the stream with what the case's versions and nonces stand for.
async fn streamed(case: &Value) -> Result<(), String> {
    let proc = match text(case, "name") {
        "attestation failed" => "/nowhere",
        _ => "/proc",
    };
    let lab = Lab::new(Setup {
        proc: ProcFs::at(proc),
        ..Setup::default()
    });
    lab.put(numbered(2, SECOND));
    lab.sign(numbered(2, SECOND));
    if proc == "/nowhere" {
        let (_requests, received) = mpsc::channel(8);
        let answer = envoy(&lab)
            .await
            .stream_secrets(ReceiverStream::new(received))
            .await;
        let code = answer.map(drop).unwrap_err().code();
        return is(code == Code::Unavailable, || format!("{code:?}"));
    }
    let mut stream = Stream::open(&lab).await;
    let mut versions: BTreeMap<String, String> = BTreeMap::new();
    let mut nonces: Vec<String> = Vec::new();
    for step in case["steps"].as_array().unwrap() {
        if let Some(send) = step.get("send") {
            let names = send["resource_names"].as_array().unwrap();
            let names: Vec<&str> = names.iter().map(|name| name.as_str().unwrap()).collect();
            let nonce = match text(send, "response_nonce") {
                "last" => nonces.last().cloned().unwrap_or_default(),
                other => other.to_owned(),
            };
            let version = versions.get(text(send, "version_info"));
            stream
                .send(DiscoveryRequest {
                    version_info: version.cloned().unwrap_or_default(),
                    response_nonce: nonce,
                    error_detail: send.get("error_detail").and_then(|_| bad()),
                    ..request(&names)
                })
                .await;
        } else if let Some(event) = step.get("event") {
            match event.as_str().unwrap() {
                "update" => {
                    lab.put(numbered(1, WORKLOAD));
                    lab.sign(numbered(1, WORKLOAD));
                }
                _ => lab.remove("1"),
            }
        } else if let Some(recv) = step.get("recv") {
            let answer = stream.next().await;
            let (Some(answer), false) = (&answer, recv.is_null()) else {
                is(answer.is_none() == recv.is_null(), || {
                    format!("{answer:?}, not {recv}")
                })?;
                continue;
            };
            is(json!(names_of(answer)) == recv["resources"], || {
                format!("{:?}", names_of(answer))
            })?;
            // The same number is the same version, another another.
            let (label, version) = (text(recv, "version_info"), &answer.version_info);
            let known = versions
                .entry(label.to_owned())
                .or_insert_with(|| version.clone());
            is(known == version, || format!("{label} is {known} and {version}"))?;
            let others = versions.iter().filter(|(other, _)| *other != label);
            is(others.into_iter().all(|(_, other)| other != version), || {
                format!("{label} has a version that was there")
            })?;
            let is_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
            let is_nonce = answer.nonce.len() == 8 && answer.nonce.bytes().all(is_hex);
            is(is_nonce && !nonces.contains(&answer.nonce), || {
                answer.nonce.clone()
            })?;
            nonces.push(answer.nonce.clone());
        } else {
            let end = stream.end().await.map(|code| format!("{code:?}"));
            is(end.as_deref() == step["end"].as_str(), || format!("{end:?}"))?;
        }
    }
    Ok(())
}
