//! Bundles of other trust domains, from a server that keeps them to the agents whose entries federate with them.

use bundle_pb::batch_delete_federated_bundle_request::Mode;
use credence_proto::spire::api::server::bundle::v1 as bundle_pb;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::entry::v1 as entry_pb;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::types;

use super::equivalence::Poller;
use super::*;

const FAR: &str = "far.test";

fn far() -> TrustDomain {
    TrustDomain::parse(FAR).unwrap()
}

async fn set(lab: &Lab, sequence_number: u64) {
    let bundle = types::Bundle {
        trust_domain: FAR.to_owned(),
        sequence_number,
        ..Default::default()
    };
    let request = bundle_pb::BatchSetFederatedBundleRequest {
        bundle: vec![bundle],
        output_mask: None,
    };
    let answer = BundleClient::new(lab.local())
        .batch_set_federated_bundle(request)
        .await;
    let answer = answer.unwrap().into_inner();
    assert_eq!(answer.results[0].status.as_ref().unwrap().code, 0, "{answer:?}");
}

async fn delete(lab: &Lab, mode: Mode) {
    let request = bundle_pb::BatchDeleteFederatedBundleRequest {
        trust_domains: vec![FAR.to_owned()],
        mode: mode.into(),
    };
    let answer = BundleClient::new(lab.local())
        .batch_delete_federated_bundle(request)
        .await;
    let answer = answer.unwrap().into_inner();
    assert_eq!(answer.results[0].status.as_ref().unwrap().code, 0, "{answer:?}");
}

async fn federate(lab: &Lab, id: &str) {
    let entry = types::Entry {
        id: id.to_owned(),
        federates_with: vec![FAR.to_owned()],
        ..Default::default()
    };
    let request = entry_pb::BatchUpdateEntryRequest {
        entries: vec![entry],
        input_mask: Some(types::EntryMask {
            federates_with: true,
            ..Default::default()
        }),
        output_mask: None,
    };
    let answer = EntryClient::new(lab.local()).batch_update_entry(request).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!(answer.results[0].status.as_ref().unwrap().code, 0, "{answer:?}");
}

/// What a workload of the entries sees of the foreign bundle.
fn seen(cache: &Cache) -> Option<u64> {
    let caller: SelectorSet = selectors(&[1]).into_iter().collect();
    let federated = cache.identities(&caller).federated;
    let seen = federated.get(&far()).map(|bundle| bundle.sequence_number);
    assert_eq!(cache.bundle_of(&far()).map(|bundle| bundle.sequence_number), seen);
    seen
}

/// Both ways end in this.
async fn both(agent: &Agent, poller: &Poller, wanted: Option<u64>) {
    poller.synchroniser.poll().await.unwrap();
    assert_eq!(seen(&poller.synchroniser.cache), wanted, "by poll");
    let cache = &agent.synced.cache;
    let mut subscription = cache.subscribe(selectors(&[1]).into_iter().collect());
    let wait = async {
        while seen(cache) != wanted {
            subscription.changed().await;
        }
    };
    assert!(
        timeout(PATIENCE, wait).await.is_ok(),
        "by push: {:?}",
        seen(cache)
    );
}

/// Conforms: FED-31
#[tokio::test]
async fn federated_bundles_come_change_and_go_by_push_and_by_poll() {
    let lab = Lab::new().await;
    let agent = Agent::new(&lab).await;
    let poller = Poller::of(&agent, &lab);
    set(&lab, 1).await;
    lab.create(&agent.id, &[("e1", "one", 1)]).await;
    both(&agent, &poller, None).await;
    federate(&lab, "e1").await;
    both(&agent, &poller, Some(1)).await;
    set(&lab, 2).await;
    both(&agent, &poller, Some(2)).await;
    delete(&lab, Mode::Dissociate).await;
    both(&agent, &poller, None).await;
    set(&lab, 3).await;
    federate(&lab, "e1").await;
    both(&agent, &poller, Some(3)).await;
    delete(&lab, Mode::Delete).await;
    both(&agent, &poller, None).await;
    assert_eq!(poller.synchroniser.cache.entry_count(), 0);
}
