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
