//! fetch-wit-svids: behind the feature flag a workload gets a token with the key that it is bound to, and the keys that
//! verify it; without the flag nothing of it is there.

use std::sync::Arc;

use credence_crypto::bundle::parse_jwks;
use credence_crypto::wit;
use credence_identity::{Bundle, TrustDomain};
use credence_proto::spiffe_workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use credence_proto::spiffe_workload::{WitBundlesRequest, Witsvid, WitsvidRequest};
use credence_runtime::clock::{Clock as _, SystemClock};
use credence_runtime::grpc::connect_unix;
use credence_test_support::Settings;
use serde_json::Value;
use tonic::{Request, Status};

use super::*;
use crate::CREDENCE;

const FLAG: &str = "experimental { feature_flags = [\"wit-svid\"] }";
const ID: &str = "spiffe://example.org/web";

fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = "true".parse().expect("a header");
    request.metadata_mut().insert("workload.spiffe.io", value);
    request
}

/// The first messages of both streams: this process's token, and the keys of the own trust domain.
async fn fetch(lab: &Lab) -> Result<(Witsvid, String), Status> {
    let channel = connect_unix(&lab.agent_socket("node"))
        .await
        .expect("connect to the agent");
    let mut client = SpiffeWorkloadApiClient::new(channel);
    let asked = WitsvidRequest {
        spiffe_id: ID.to_owned(),
    };
    let mut tokens = client.fetch_witsvid(with_header(asked)).await?.into_inner();
    let mut keys = client
        .fetch_wit_bundles(with_header(WitBundlesRequest {}))
        .await?
        .into_inner();
    let mut svids = tokens.message().await?.expect("a message").svids;
    let mut bundles = keys.message().await?.expect("a message").bundles;
    let svid = svids.pop().expect("a token");
    Ok((
        svid,
        bundles.remove("spiffe://example.org").expect("the own bundle"),
    ))
}

/// The keys for WIT-SVIDs in the server's bundle.
fn wit_keys(lab: &Lab) -> usize {
    let bundle: Value = serde_json::from_str(&lab.ok(&["bundle", "show", "-output", "json"])).expect("JSON");
    bundle["wit_authorities"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_workload_gets_a_bound_token_and_the_keys_that_verify_it_behind_the_flag_only() {
    let lab = Lab::with(
        CREDENCE,
        Settings {
            server: FLAG.to_owned(),
            agent: FLAG.to_owned(),
            ..Settings::default()
        },
    );
    let _server = lab.server();
    let _agent = lab.agent("node");
    lab.entry("node", "web", &[]);
    wait_for(&lab, "node", ID, true);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (svid, keys) = runtime.block_on(fetch(&lab)).expect("a token");
    assert_eq!(svid.spiffe_id, ID);
    let domain = TrustDomain::parse("example.org").expect("a name");
    let bundle = Arc::new(Bundle {
        wit_authorities: parse_jwks(keys.as_bytes()).expect("keys"),
        ..Bundle::empty(domain)
    });
    wit::verify(&svid.wit_svid, |_| Some(bundle), SystemClock.now()).expect("a token that verifies");
    let bound = wit::WitSvid::parse_insecure(&svid.wit_svid, SystemClock.now()).expect("a token");
    assert_eq!(bound.id.as_str(), ID);
    // The key that came along is the one of the token.
    let key: Value = serde_json::from_str(&svid.wit_svid_key).expect("a JWK");
    assert!(key["d"].is_string());
    assert_eq!(bound.claims["cnf"]["jwk"]["x"], key["x"]);
    assert_eq!(wit_keys(&lab), 1);
    let minted = lab.ok(&["wit", "mint", "-spiffeID", ID]);
    assert!(minted.contains("eyJ"), "{minted}");

    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let _agent = lab.agent("node");
    lab.entry("node", "web", &[]);
    wait_for(&lab, "node", ID, true);
    let refused = runtime.block_on(fetch(&lab)).expect_err("the flag is off");
    assert_eq!(refused.code(), tonic::Code::Unimplemented, "{refused:?}");
    assert_eq!(wit_keys(&lab), 0);
}
