//! The cases of `tests/vectors/workload_api_rpc.json`, each on a lab of its own.

use std::collections::{BTreeMap, BTreeSet};

use credence_conformance::{load, run_cases, text};
use credence_crypto::bundle::parse_jwks;
use credence_crypto::wit::WitSvid;
use credence_crypto::x509::X509Svid;
use credence_proto::spiffe_workload::Witsvid;
use prost_types::Struct;
use prost_types::value::Kind;
use serde_json::{Value, json};
use tonic::metadata::{AsciiMetadataKey, BinaryMetadataKey, MetadataValue};

use super::*;

/// When the tokens of the vectors are valid.
const TOKENS_NOW: Timestamp = Timestamp::from_unix_seconds(1_893_456_000);

/// Conforms: FED-31, JWS-01, JWS-04, JWS-09, JWS-16, JWS-18, JWS-21, WAP-01, WAP-02, WAP-04, WAP-06, WAP-12
/// Conforms: WAP-16, WAP-17, WAP-18, WAP-19, WAP-21, WAP-22, WAP-25, WAP-27, WAP-28, WAP-29, WAP-30, WAP-31
/// Conforms: WAP-32, WAP-33, WAP-34, WAP-35, WAP-36, WAP-37, WAP-38, WAP-39, WAP-41, WAP-43, WAP-44, WAP-46
/// Conforms: WAP-47, WAP-49, WAP-50, WEP-01
/// Conforms: WEP-06, WEP-07, WEP-08, WEP-09, WEP-11, WEP-18, WEP-20, WEP-21, WEP-22, WEP-24, WEP-27, WIT-31
#[test]
fn every_case() {
    run_cases(&load("workload_api_rpc.json"), "cases", |case| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(case))
    });
}

/// Conforms: WAP-45
#[tokio::test(start_paused = true)]
async fn wit_svids_are_refused_to_strangers_and_taken_from_nobody_when_the_server_is_away() {
    let options = WorkloadOptions {
        wit_svid: true,
        ..WorkloadOptions::default()
    };
    let lab = Lab::new(Setup {
        workload: Some(options),
        ..Setup::default()
    });
    let mut client = lab.client().await;
    let code = |answer: Result<_, Status>| answer.map(drop).map_err(|status: Status| status.code());
    let refused = client.fetch_witsvid(with_header(WitsvidRequest::default())).await;
    assert_eq!(code(refused), Err(Code::PermissionDenied));
    lab.put(own_entry("one"));
    let away = TokenError::Unavailable("no server".into());
    let one = EntryId::parse("one").unwrap();
    lab.issuer
        .fails_for
        .lock()
        .unwrap()
        .insert(one.clone(), away.clone());
    let refused = client.fetch_witsvid(with_header(WitsvidRequest::default())).await;
    assert_eq!(code(refused), Err(Code::Unavailable));
    lab.issuer.fails_for.lock().unwrap().clear();
    let answer = client.fetch_witsvid(with_header(WitsvidRequest::default())).await;
    let mut stream = answer.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 1);
    lab.issuer.fails_for.lock().unwrap().insert(one, away);
    lab.put(own_entry("two"));
    let next = stream.message().await.unwrap().unwrap();
    let ids: Vec<_> = next.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect();
    assert_eq!(ids, ["spiffe://example.org/one", "spiffe://example.org/two"]);
    lab.remove("one");
    lab.remove("two");
    let end = stream.message().await.unwrap_err();
    assert_eq!(end.code(), Code::PermissionDenied);
}

async fn run(case: &Value) -> Result<(), String> {
    match (text(case, "rpc"), text(case, "id")) {
        (_, "WR-032") => rate_limited(case).await,
        (_, "WR-035") => renewed().await,
        (_, "WR-036") => one_deleted().await,
        (_, "WR-037") => all_deleted().await,
        (_, "WR-075") => invalid_tokens().await,
        (_, "WR-099") => recycled().await,
        // A plain connection to a Unix socket is all that there is: no TLS, no credential, no TCP.
        (_, "WR-096" | "WR-097" | "WR-098" | "WR-100") => plain().await,
        ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", _) => {
            let names = others::reflected(&Lab::new(Setup::default())).await;
            is(
                names.iter().any(|name| name == "SpiffeWorkloadAPI"),
                "no reflection",
            )
        }
        ("grpc.health.v1.Health/Check", _) => health().await,
        (path, _) if path.starts_with('/') => unknown_path(case, path).await,
        ("FetchX509SVID", _) => x509_svid(case).await,
        ("FetchX509Bundles", _) => x509_bundles(case).await,
        ("FetchJWTSVID", _) => jwt_svid(case).await,
        ("FetchJWTBundles", _) => jwt_bundles(case).await,
        ("ValidateJWTSVID", _) => validate(case).await,
        ("FetchWITSVID", _) => wit_svid(case).await,
        ("FetchWITBundles", _) => wit_bundles(case).await,
        (other, _) => Err(format!("no such call: {other}")),
    }
}

fn is(condition: bool, fault: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(fault.to_owned()) }
}

/// The lab with the caller that the case describes, and how many identities it has.
fn caller(case: &Value) -> (Lab, usize) {
    let described = text(case, "caller");
    let disabled = text(case, "name") == "profile disabled by the operator";
    let verifiers = text(case, "name").ends_with("unauthenticated verifiers allowed");
    let options = WorkloadOptions {
        allow_unauthenticated_verifiers: verifiers,
        wit_svid: text(case, "name") != "profile not supported",
        ..WorkloadOptions::default()
    };
    let proc = if described == "attestation error" {
        "/nowhere"
    } else {
        "/proc"
    };
    let lab = Lab::new(Setup {
        now: if text(case, "rpc") == "ValidateJWTSVID" {
            TOKENS_NOW
        } else {
            START
        },
        proc: ProcFs::at(proc),
        workload: (!disabled).then_some(options),
        ..Setup::default()
    });
    let other = TokenKey::new("other");
    lab.put_bundle(foreign_bundle("other.test", &other));
    let federated = described.contains("federates with other.test");
    let hinted = |hint: &str, count: usize| {
        let names = ["one", "two", "six"].iter().take(count);
        names
            .map(|name| Entry {
                hint: hint.into(),
                ..own_entry(name)
            })
            .collect::<Vec<_>>()
    };
    let entries = match (described, text(case, "name")) {
        (described, _) if !described.starts_with("registered") && !described.starts_with("any") => Vec::new(),
        (_, "two entries with the same hint") => hinted("internal", 2),
        (_, "two entries with empty hint") => hinted("", 2),
        (_, "hint of 1024 bytes") => hinted(&"h".repeat(1024), 1),
        (described, _) if described.contains("3 entries") => hinted("", 3),
        _ => hinted("", 1),
    };
    let count = entries.len();
    for entry in entries {
        let federates_with = if federated {
            vec![trust_domain("other.test")]
        } else {
            Vec::new()
        };
        let entry = Entry {
            federates_with,
            ..entry
        };
        lab.put(entry.clone());
        if !described.ends_with("cache empty") && text(case, "rpc") != "ValidateJWTSVID" {
            lab.sign(entry);
        }
    }
    (lab, count)
}

/// A request with the metadata of the case.
fn request<T>(case: &Value, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = case
        .get("metadata")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    for (name, values) in metadata {
        for value in values.as_array().unwrap() {
            let value = value.as_str().unwrap();
            if name.ends_with("-bin") {
                let name = BinaryMetadataKey::from_bytes(name.as_bytes()).unwrap();
                request
                    .metadata_mut()
                    .append_bin(name, MetadataValue::from_bytes(value.as_bytes()));
            } else {
                let name = AsciiMetadataKey::from_bytes(name.as_bytes()).unwrap();
                request.metadata_mut().append(name, value.parse().unwrap());
            }
        }
    }
    request
}

/// Whether the status is the one that the case asks for; the answer, if one was asked for.
fn judge<T>(case: &Value, answer: Result<T, Status>) -> Result<Option<T>, String> {
    let wanted = text(&case["expect"], "code");
    match answer {
        Ok(answer) if matches!(wanted, "" | "OK" | "stream") => Ok(Some(answer)),
        Ok(_) => Err("answered".to_owned()),
        Err(status) => {
            let message = text(&case["expect"], "message_spire");
            let same_text = match message.strip_suffix("...") {
                Some(start) => status.message().starts_with(start),
                None => message.is_empty() || status.message() == message,
            };
            is(
                format!("{:?}", status.code()) == wanted && same_text,
                &format!("{status:?}"),
            )
            .map(|()| None)
        }
    }
}

async fn rate_limited(case: &Value) -> Result<(), String> {
    let rate_limits = RateLimits {
        fetch_x509_svid: Some(1),
        ..RateLimits::default()
    };
    let options = WorkloadOptions {
        rate_limits,
        ..WorkloadOptions::default()
    };
    let lab = Lab::new(Setup {
        workload: Some(options),
        ..Setup::default()
    });
    lab.put(own_entry("one"));
    lab.sign(own_entry("one"));
    let mut client = lab.client().await;
    let first = client.fetch_x509svid(request(case, X509svidRequest {})).await;
    is(first.is_ok(), "the first call is refused")?;
    let second = client.fetch_x509svid(request(case, X509svidRequest {})).await;
    judge(case, second).map(drop)
}

async fn x509_svid(case: &Value) -> Result<(), String> {
    let (lab, _) = caller(case);
    let answer = lab
        .client()
        .await
        .fetch_x509svid(request(case, X509svidRequest {}))
        .await;
    let Some(stream) = judge(case, answer)? else {
        return Ok(());
    };
    let first = stream
        .into_inner()
        .message()
        .await
        .map_err(|status| status.to_string())?
        .ok_or("no message")?;
    let wanted = &case["expect"]["first"];
    if let Some(count) = wanted.get("svids").and_then(Value::as_u64) {
        is(
            u64::try_from(first.svids.len()) == Ok(count),
            "another number of SVIDs",
        )?;
    }
    is(first.crl.is_empty(), "a CRL")?;
    for svid in &first.svids {
        let parsed = X509Svid::parse_chain(&svid.x509_svid).map_err(|error| error.to_string())?;
        is(
            parsed.id == spiffe_id(&svid.spiffe_id),
            "another SPIFFE ID than the certificate's",
        )?;
        is(
            credence_crypto::PrivateKey::from_pkcs8_der(&svid.x509_svid_key).is_ok(),
            "no key",
        )?;
        is(!svid.bundle.is_empty(), "no bundle")?;
    }
    if wanted.get("hints_unique").is_some() {
        let hints: Vec<_> = first.svids.iter().map(|svid| svid.hint.as_str()).collect();
        is(
            hints == ["internal"] && ids(&first) == ["spiffe://example.org/one"],
            "not the older entry alone",
        )?;
    }
    if let Some(length) = wanted.get("hint_bytes").and_then(Value::as_u64) {
        is(
            first
                .svids
                .iter()
                .all(|svid| u64::try_from(svid.hint.len()) == Ok(length)),
            "hint is cut",
        )?;
    }
    Ok(())
}

async fn x509_bundles(case: &Value) -> Result<(), String> {
    let answer = caller(case)
        .0
        .client()
        .await
        .fetch_x509_bundles(request(case, X509BundlesRequest {}))
        .await;
    let Some(stream) = judge(case, answer)? else {
        return Ok(());
    };
    let first = stream
        .into_inner()
        .message()
        .await
        .map_err(|status| status.to_string())?
        .ok_or("no message")?;
    let wanted: Vec<&str> = strings(&case["expect"]["first"]["bundles"]);
    is(
        first.bundles.keys().map(String::as_str).collect::<Vec<_>>() == wanted,
        "other bundles",
    )
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array()
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

async fn jwt_svid(case: &Value) -> Result<(), String> {
    let (lab, count) = caller(case);
    if text(case, "caller").ends_with("server away") || text(case, "name") == "one of three signings failed" {
        let last = if count == 3 { "six" } else { "one" };
        let failure = TokenError::Unavailable("no server".into());
        lab.issuer
            .fails_for
            .lock()
            .unwrap()
            .insert(EntryId::parse(last).unwrap(), failure);
    }
    let audience = strings(&case["request"]["audience"])
        .into_iter()
        .map(str::to_owned)
        .collect();
    let message = JwtsvidRequest {
        audience,
        spiffe_id: text(&case["request"], "spiffe_id").to_owned(),
    };
    let answer = lab.client().await.fetch_jwtsvid(request(case, message)).await;
    let Some(answer) = judge(case, answer)? else {
        return Ok(());
    };
    let svids = answer.into_inner().svids;
    let wanted = case["expect"]["svids"].as_u64();
    is(
        u64::try_from(svids.len()).ok() == wanted,
        "another number of SVIDs",
    )?;
    for svid in svids {
        let parsed = credence_crypto::jwt::JwtSvid::parse_insecure(&svid.svid, &["a"], START);
        let parsed = parsed.map_err(|error| error.to_string())?;
        is(
            parsed.id == spiffe_id(&svid.spiffe_id) && parsed.audience == ["a"],
            "another token",
        )?;
    }
    Ok(())
}

async fn wit_svid(case: &Value) -> Result<(), String> {
    let (lab, count) = caller(case);
    let message = WitsvidRequest {
        spiffe_id: text(&case["request"], "spiffe_id").to_owned(),
    };
    let answer = lab.client().await.fetch_witsvid(request(case, message)).await;
    let Some(stream) = judge(case, answer)? else {
        return Ok(());
    };
    let mut stream = stream.into_inner();
    let mut shown: Vec<Witsvid> = Vec::new();
    let messages = if case["expect"].get("next").is_some() {
        2
    } else {
        1
    };
    for _ in 0..messages {
        let message = stream.message().await.map_err(|status| status.to_string())?;
        let svids = message.ok_or("no message")?.svids;
        let wanted = case["expect"]["first"]["svids"].as_u64();
        is(
            u64::try_from(svids.len()).ok() == wanted.or(u64::try_from(count).ok()),
            "another number of SVIDs",
        )?;
        for svid in &svids {
            let token = WitSvid::parse_insecure(&svid.wit_svid, START).map_err(|error| error.to_string())?;
            is(token.id == spiffe_id(&svid.spiffe_id), "another token")?;
            let key: Value = serde_json::from_str(&svid.wit_svid_key).map_err(|error| error.to_string())?;
            let public = &token.claims["cnf"]["jwk"];
            is(
                key["d"].is_string() && key["x"] == public["x"] && key["y"] == public["y"],
                "not the private key of the token",
            )?;
            is(
                shown.iter().all(|old| old.wit_svid_key != svid.wit_svid_key),
                "not renewed",
            )?;
        }
        shown = svids;
    }
    Ok(())
}

async fn wit_bundles(case: &Value) -> Result<(), String> {
    let (lab, _) = caller(case);
    let answer = lab
        .client()
        .await
        .fetch_wit_bundles(request(case, WitBundlesRequest {}))
        .await;
    let Some(stream) = judge(case, answer)? else {
        return Ok(());
    };
    let first = stream.into_inner().message().await;
    let bundles = first
        .map_err(|status| status.to_string())?
        .ok_or("no message")?
        .bundles;
    for wanted in strings(&case["expect"]["first"]["bundles_contain"]) {
        let document = bundles.get(wanted).ok_or("no such bundle")?;
        let document: Value = serde_json::from_str(document).map_err(|error| error.to_string())?;
        let keys = document["keys"].as_array().ok_or("no keys")?;
        let kids: BTreeSet<_> = keys.iter().filter_map(|key| key["kid"].as_str()).collect();
        let plain = |key: &Value| key.get("x5c").is_none() && key.get("use").is_none();
        is(!keys.is_empty() && kids.len() == keys.len(), "kids")?;
        is(keys.iter().all(plain), "other keys")?;
    }
    Ok(())
}

async fn jwt_bundles(case: &Value) -> Result<(), String> {
    let (lab, _) = caller(case);
    if text(case, "name").ends_with("without JWT keys") {
        lab.put_bundle(Bundle {
            jwt_authorities: Vec::new(),
            ..Bundle::clone(&lab.cache.bundle())
        });
    }
    let answer = lab
        .client()
        .await
        .fetch_jwt_bundles(request(case, JwtBundlesRequest {}))
        .await;
    let Some(stream) = judge(case, answer)? else {
        return Ok(());
    };
    let first = stream
        .into_inner()
        .message()
        .await
        .map_err(|status| status.to_string())?
        .ok_or("no message")?;
    let own = first.bundles.get("spiffe://example.org").ok_or("no own bundle")?;
    let own = std::str::from_utf8(own).map_err(|error| error.to_string())?;
    match case["expect"]["first"].get("bundle").and_then(Value::as_str) {
        // The document, however it is indented.
        Some(exact) => is(
            serde_json::from_str::<Value>(own).ok() == serde_json::from_str(exact).ok(),
            own,
        ),
        None => {
            let document: Value = serde_json::from_str(own).map_err(|error| error.to_string())?;
            let keys = document["keys"].as_array().ok_or("no keys")?;
            let jwt_only = |key: &Value| {
                key.get("kid").is_some() && key.get("x5c").is_none() && key.get("use").is_none()
            };
            is(!keys.is_empty() && keys.iter().all(jwt_only), own)
        }
    }
}

/// The token that the case means, and the bundle to verify it with.
fn token(case: &Value, lab: &Lab) -> String {
    let foreign = |more| TokenKey::new("other").token(&claims("spiffe://other.test/x", more));
    match text(&case["request"], "svid") {
        "" => String::new(),
        // The plain valid token; the file has it no more.
        "JW-001" => lab.own_token(json!({})),
        "WI-001" => vector(&load("wit_svids.json"), "WI-001"),
        "token with \"aud\":\"a\"" => lab.own_token(json!({"aud": "a"})),
        "token for a" => lab.own_token(json!({})),
        "expired" => lab.own_token(json!({"exp": TOKENS_NOW.unix_seconds() - 3600})),
        "token of other.test" => foreign(json!({})),
        "token with exp 4102444800 and a 2^60 claim" => lab.own_token(json!({"big": 1_u64 << 60})),
        "token with object, list, null, bool claims" => lab.own_token(nested()),
        _ => lab.own_token(json!({})),
    }
}

fn vector(document: &Value, id: &str) -> String {
    let cases = document["cases"].as_array().unwrap();
    cases
        .iter()
        .find(|case| text(case, "id") == id)
        .map(|case| text(case, "token").to_owned())
        .unwrap()
}

fn nested() -> Value {
    json!({"object": {"a": [1, {"b": null}]}, "list": [true, "x", []], "null": null, "bool": false})
}

async fn validate(case: &Value) -> Result<(), String> {
    let (lab, _) = caller(case);
    let audience = text(&case["request"], "audience").to_owned();
    let svid = token(case, &lab);
    let message = ValidateJwtsvidRequest { audience, svid };
    let answer = lab.client().await.validate_jwtsvid(request(case, message)).await;
    let Some(answer) = judge(case, answer)? else {
        return Ok(());
    };
    let answer = answer.into_inner();
    let shown = json_of(answer.claims.ok_or("no claims")?);
    is(
        shown["sub"] == answer.spiffe_id.as_str() && shown["exp"] == json!(4_102_444_800.0),
        "sub or exp",
    )?;
    is(shown["aud"].is_array(), "aud is no list")?;
    if text(case, "name") == "nested claims" {
        let numbers_are_doubles = json!({"a": [1.0, {"b": null}]});
        is(
            shown["object"] == numbers_are_doubles && shown["list"] == nested()["list"],
            "nested claims",
        )?;
        is(
            shown["null"].is_null() && shown["bool"] == json!(false),
            "null or bool",
        )?;
    }
    if let Some(aud) = case["expect"].get("claims.aud") {
        is(shown["aud"] == *aud, "another aud")?;
    }
    Ok(())
}

fn vector_bundle() -> Bundle {
    let keys = load("jwt_svids.json")["jwt_bundle"].to_string();
    Bundle {
        jwt_authorities: parse_jwks(keys.as_bytes()).unwrap(),
        ..Bundle::empty(trust_domain("example.org"))
    }
}

fn json_of(claims: Struct) -> Value {
    fn value(claim: prost_types::Value) -> Value {
        match claim.kind.unwrap() {
            Kind::NullValue(_) => Value::Null,
            Kind::NumberValue(number) => json!(number),
            Kind::StringValue(text) => json!(text),
            Kind::BoolValue(truth) => json!(truth),
            Kind::StructValue(members) => json_of(members),
            Kind::ListValue(list) => list.values.into_iter().map(value).collect(),
        }
    }
    let members: BTreeMap<String, Value> = claims
        .fields
        .into_iter()
        .map(|(name, member)| (name, value(member)))
        .collect();
    json!(members)
}

async fn invalid_tokens() -> Result<(), String> {
    let tokens = load("jwt_svids.json");
    for case in tokens["cases"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| text(case, "verdict") == "invalid")
    {
        let now = Timestamp::from_unix_seconds(case["now"].as_i64().unwrap());
        let lab = Lab::new(Setup {
            now,
            ..Setup::default()
        });
        lab.put_bundle(vector_bundle());
        // Without an audience to expect, the call is refused for that.
        let audience = strings(&case["expected_audience"])
            .first()
            .copied()
            .unwrap_or_default()
            .to_owned();
        let message = ValidateJwtsvidRequest {
            audience,
            svid: text(case, "token").to_owned(),
        };
        let answer = lab.client().await.validate_jwtsvid(with_header(message)).await;
        let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        is(
            code == Code::InvalidArgument,
            &format!("{}: {code:?}", text(case, "id")),
        )?;
    }
    Ok(())
}

async fn unknown_path(case: &Value, path: &str) -> Result<(), String> {
    let (lab, _) = caller(case);
    let mut grpc = tonic::client::Grpc::new(lab.channel().await);
    grpc.ready().await.map_err(|error| error.to_string())?;
    let codec = tonic_prost::ProstCodec::<X509svidRequest, X509svidResponse>::default();
    let answer = grpc
        .unary(request(case, X509svidRequest {}), path.parse().unwrap(), codec)
        .await;
    judge(case, answer).map(drop)
}

async fn health() -> Result<(), String> {
    use credence_proto::grpc::health::v1::{HealthCheckRequest, health_client::HealthClient};
    let lab = Lab::new(Setup::default());
    let checked = HealthClient::new(lab.channel().await)
        .check(HealthCheckRequest::default())
        .await;
    checked.map(drop).map_err(|status| status.to_string())
}

async fn plain() -> Result<(), String> {
    let lab = Lab::with_identities(1);
    let answer = lab
        .client()
        .await
        .fetch_x509svid(with_header(X509svidRequest {}))
        .await;
    answer.map(drop).map_err(|status| status.to_string())
}

/// A stream that has shown two identities.
async fn two_shown() -> (Lab, tonic::Streaming<X509svidResponse>) {
    let lab = Lab::with_identities(2);
    let mut stream = lab
        .client()
        .await
        .fetch_x509svid(with_header(X509svidRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 2);
    (lab, stream)
}

async fn renewed() -> Result<(), String> {
    let (lab, mut stream) = two_shown().await;
    lab.sign(own_entry("two"));
    let next = stream.message().await.unwrap().unwrap();
    is(
        next.svids.len() == 2 && next.svids.iter().all(|svid| !svid.x509_svid.is_empty()),
        "incomplete",
    )
}

async fn one_deleted() -> Result<(), String> {
    let (lab, mut stream) = two_shown().await;
    lab.remove("one");
    is(
        ids(&stream.message().await.unwrap().unwrap()) == ["spiffe://example.org/two"],
        "not the other one",
    )
}

async fn all_deleted() -> Result<(), String> {
    let (lab, mut stream) = two_shown().await;
    let removed_entries = ["one", "two"].map(|id| EntryId::parse(id).unwrap()).into();
    lab.cache.apply(crate::cache::CacheUpdate {
        removed_entries,
        ..crate::cache::CacheUpdate::default()
    });
    let end = stream
        .message()
        .await
        .map_or_else(|status| status.code(), |_| Code::Ok);
    is(end == Code::PermissionDenied, &format!("{end:?}"))
}

/// The number of the caller is another process's now, which would have an identity.
async fn recycled() -> Result<(), String> {
    let root = tempfile::tempdir().unwrap();
    let lab = Lab::new(Setup {
        proc: pretend(&root, ""),
        ..Setup::default()
    });
    lab.put(own_entry("one"));
    lab.sign(own_entry("one"));
    let (connection, _other) = tokio::net::UnixStream::pair().unwrap();
    let stat = root.path().join(std::process::id().to_string()).join("stat");
    std::fs::remove_file(&stat).unwrap();
    let answer = lab.open_as(&connection).await.map(drop);
    is(
        answer.is_err_and(|status| status.code() == Code::Unavailable),
        "answered",
    )
}
