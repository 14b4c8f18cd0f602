use std::time::Duration;

use credence_crypto::x509::{CaSubject, LeafParams, X509Ca};
use credence_crypto::{KeyType, PrivateKey, Signer};
use credence_identity::TrustDomain;

use super::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

fn svid(at: Timestamp, ttl: Duration) -> X509Svid {
    let key: Arc<dyn Signer> = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
    let ca = X509Ca::self_sign(
        Arc::clone(&key),
        &domain(),
        &CaSubject::default(),
        NOW - HOUR,
        NOW + 100 * HOUR,
    )
    .unwrap();
    let leaf = LeafParams {
        id: &SpiffeId::from_path(&domain(), "/w").unwrap(),
        public_key: key.public_key(),
        dns_names: &[],
        subject: None,
        not_before: at - Duration::from_secs(10),
        not_after: at + ttl,
    };
    ca.sign_svid(&leaf).unwrap()
}

/// Agents and entries come and go; only what is valid is kept.
#[test]
fn what_has_ended_is_dropped_as_new_things_come() {
    let holdings = Holdings::new(NOW);
    let template = svid(NOW, HOUR);
    let mut now = NOW;
    for round in 0..20 {
        let svid = X509Svid {
            not_after: now + HOUR,
            ..template.clone()
        };
        for number in 0..100 {
            let agent = SpiffeId::agent(&domain(), &format!("/a/{round}-{number}")).unwrap();
            holdings.agent_svid_issued(&agent, &svid, now);
            let steady = SpiffeId::agent(&domain(), "/steady").unwrap();
            let entry = EntryId::parse(&format!("{round}-{number}")).unwrap();
            holdings.svid_issued(&steady, &entry, &svid, now);
        }
        holdings.minted(svid.authority_key_id.as_deref(), svid.not_after, now);
        now = now + 2 * HOUR;
    }
    let known = holdings.lock();
    assert!(known.agents.len() <= 400, "{} agents", known.agents.len());
    let most = known.agents.values().map(|agent| agent.svids.len()).max();
    assert!(most <= Some(400), "{most:?} SVIDs");
    assert_eq!(known.minted.len(), 1);
}

fn bundle(sequence_number: u64) -> Arc<Bundle> {
    Arc::new(Bundle {
        sequence_number,
        ..Bundle::empty(domain())
    })
}

/// The sequence number of the bundle that the agent and its workloads have for certain.
fn held(holdings: &Holdings, agent: &SpiffeId, now: Timestamp) -> Option<u64> {
    let known = holdings.lock();
    Some(known.agents.get(agent)?.bundles.held(now)?.sequence_number)
}

/// One that was replaced, or whose receipt isn't certain, doesn't count; the one before goes on to.
#[test]
fn a_bundle_counts_when_it_was_taken_over_and_has_settled() {
    let holdings = Holdings::new(NOW);
    let agent = SpiffeId::agent(&domain(), "/a").unwrap();
    let at = |seconds: u64| NOW + Duration::from_secs(seconds);
    let give = |number, way| holdings.bundle_given(&agent, NOW + HOUR, &bundle(number), way);
    give(1, Way::Poll);
    assert_eq!(held(&holdings, &agent, at(100)), None);
    holdings.polled(&agent, at(100));
    assert_eq!(held(&holdings, &agent, at(101)), None);
    assert_eq!(held(&holdings, &agent, at(102)), Some(1));

    holdings.stream_opened(&agent);
    give(2, Way::Push(7));
    give(3, Way::Push(9));
    // A poll says nothing of what came by the stream.
    holdings.polled(&agent, at(103));
    holdings.told(&agent, 8, at(110));
    assert_eq!(held(&holdings, &agent, at(111)), Some(1));
    assert_eq!(held(&holdings, &agent, at(112)), Some(2));
    holdings.stream_opened(&agent);
    holdings.told(&agent, 9, at(120));
    assert_eq!(held(&holdings, &agent, at(130)), Some(2), "3 is lost");
    give(4, Way::Push(9));
    holdings.told(&agent, 9, at(131));
    assert_eq!(held(&holdings, &agent, at(133)), Some(4));

    for number in 5..100 {
        give(number, Way::Push(number));
    }
    assert_eq!(
        held(&holdings, &agent, at(200)),
        Some(4),
        "it never said that it has them"
    );
    holdings.told(&agent, 99, at(201));
    assert_eq!(held(&holdings, &agent, at(203)), Some(99));
}

/// What is replaced is in use until the agent serves the other, and until workloads have it.
#[test]
fn an_svid_that_was_replaced_counts_until_the_agent_serves_the_other() {
    let holdings = Holdings::new(NOW);
    let agent = SpiffeId::agent(&domain(), "/a").unwrap();
    let entry = EntryId::parse("one").unwrap();
    let (old, new) = (svid(NOW, HOUR), svid(NOW, HOUR));
    let in_use = |now: Timestamp| {
        let known = holdings.lock();
        known.agents[&agent]
            .in_use(now)
            .values()
            .map(Vec::len)
            .sum::<usize>()
    };
    holdings.svid_issued(&agent, &entry, &old, NOW);
    assert_eq!(in_use(NOW), 1, "one from before the start may be there");
    holdings.svids_taken(&agent, NOW);
    assert_eq!(in_use(NOW + 3 * SETTLES), 0);
    holdings.svid_issued(&agent, &entry, &new, NOW + 3 * SETTLES);
    assert_eq!(in_use(NOW + 9 * SETTLES), 1);
    holdings.svids_taken(&agent, NOW + 9 * SETTLES);
    assert_eq!((in_use(NOW + 9 * SETTLES), in_use(NOW + 10 * SETTLES)), (1, 0));
    // It has ended, whatever the agent says.
    holdings.svid_issued(&agent, &entry, &old, NOW + 10 * SETTLES);
    assert_eq!(in_use(NOW + 2 * HOUR), 0);
}
