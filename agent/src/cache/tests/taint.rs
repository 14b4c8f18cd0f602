//! What a taint or a revocation of the own trust domain's authorities means to what is held.

use std::sync::LazyLock;

use credence_crypto::x509::{CaSubject, LeafParams, X509Ca};
use credence_crypto::{KeyType, PrivateKey, Signer};
use credence_identity::{JwtAuthority, X509Authority};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Three authorities of the own trust domain.
static AUTHORITIES: LazyLock<[X509Ca; 3]> = LazyLock::new(|| {
    [(); 3].map(|()| {
        let signer: Arc<dyn Signer> = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
        X509Ca::self_sign(
            signer,
            &trust_domain(),
            &CaSubject::default(),
            START - HOUR,
            START + 24 * HOUR,
        )
        .unwrap()
    })
});

/// A bundle of these authorities, each tainted or not.
fn bundle_of(authorities: &[(usize, bool)], keys: &[(&str, bool)], number: u64) -> Arc<Bundle> {
    let x509 = authorities.iter().map(|(at, tainted)| X509Authority {
        der: AUTHORITIES[*at].certificate().der().clone(),
        tainted: *tainted,
    });
    let jwt = keys.iter().map(|(key_id, tainted)| JwtAuthority {
        key_id: (*key_id).into(),
        public_key: [1].into(),
        expires_at: None,
        tainted: *tainted,
    });
    Arc::new(Bundle {
        x509_authorities: x509.collect(),
        jwt_authorities: jwt.collect(),
        sequence_number: number,
        ..Bundle::empty(trust_domain())
    })
}

impl Fixture {
    fn learn(&self, bundle: Arc<Bundle>) {
        self.cache.apply(CacheUpdate {
            bundles: vec![bundle],
            ..CacheUpdate::default()
        });
    }

    /// Signs all that is wanted now under that authority; how many that were.
    fn sign_under(&self, authority: usize) -> usize {
        let now = self.clock.now();
        // One key for all of them: making keys takes time, and nobody looks at them.
        static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(KeyType::EcP256).unwrap());
        let sign = |wanted: Wanted| {
            let leaf = LeafParams {
                id: &wanted.entry.spiffe_id,
                public_key: KEY.public_key(),
                dns_names: &[],
                subject: None,
                not_before: now,
                not_after: now + HOUR,
            };
            let svid = AUTHORITIES[authority].sign_svid(&leaf).unwrap();
            (wanted.entry.clone(), X509SvidKey::new(svid, KEY.clone()).unwrap())
        };
        let svids: Vec<_> = self.cache.wanted().into_iter().map(sign).collect();
        let count = svids.len();
        self.cache.put_x509_svids(svids);
        count
    }

    /// How many of the caller's SVIDs are under which authority.
    fn served_under(&self, authority: usize) -> usize {
        let id = AUTHORITIES[authority].certificate().subject_key_id().unwrap();
        let update = self.cache.identities(&caller(&[1]));
        assert!(
            !update.is_pending(),
            "what is held is served until it is replaced"
        );
        let under = |identity: &&Identity| identity.svid.svid.authority_key_id.as_deref() == Some(id);
        update.identities.iter().filter(under).count()
    }
}

fn entries(count: usize) -> Vec<Entry> {
    (0..count).map(|number| entry(&format!("e{number:03}"))).collect()
}

/// Conforms: WAP-09
#[tokio::test(start_paused = true)]
async fn svids_of_a_tainted_authority_are_replaced_a_hundred_every_five_seconds_and_served_meanwhile() {
    let fixture = Fixture::with_entries(1000, entries(250));
    fixture.learn(bundle_of(&[(0, false), (1, false)], &[], 1));
    assert_eq!(fixture.sign_under(0), 250);
    assert_eq!(fixture.wanted(), [] as [&str; 0]);
    advance(Duration::from_secs(60)).await;
    fixture.learn(bundle_of(&[(0, true), (1, false)], &[], 2));
    assert_eq!(fixture.cache.due_in(), Some(Duration::ZERO));
    for (replaced, left) in [(100, 150), (100, 50), (50, 0)] {
        assert_eq!(fixture.sign_under(1), replaced);
        assert_eq!(fixture.sign_under(1), 0);
        assert_eq!(fixture.served_under(0), left);
        let due = fixture.cache.due_in().unwrap();
        assert_eq!(due == Duration::from_secs(5), left > 0, "{due:?}");
        advance(Duration::from_secs(5)).await;
    }
    assert_eq!(fixture.sign_under(1), 0);
    assert_eq!(fixture.served_under(1), 250);
    // The revocation that follows concerns nobody, nor does another change of the bundle.
    fixture.learn(bundle_of(&[(1, false)], &[], 3));
    fixture.learn(bundle_of(&[(1, false), (2, false)], &[], 4));
    advance(Duration::from_secs(5)).await;
    assert_eq!(fixture.sign_under(2), 0);
}

/// An agent that was cut off hears of the revocation alone, and perhaps of more changes before its line is through.
#[tokio::test(start_paused = true)]
async fn svids_of_an_authority_that_left_the_bundle_are_replaced_too() {
    let fixture = Fixture::with_entries(1000, entries(150));
    fixture.learn(bundle_of(&[(0, false), (1, false)], &[], 1));
    fixture.sign_under(0);
    fixture.learn(bundle_of(&[(1, false)], &[], 2));
    assert_eq!(fixture.sign_under(1), 100);
    fixture.learn(bundle_of(&[(1, false), (2, false)], &[], 3));
    advance(Duration::from_secs(5)).await;
    assert_eq!(fixture.sign_under(1), 50);
    assert_eq!(fixture.served_under(1), 150);
}

#[tokio::test(start_paused = true)]
async fn whom_somebody_waits_for_comes_first() {
    let mut all = entries(150);
    let last = Entry {
        selectors: selectors(&[2]),
        ..all.pop().unwrap()
    };
    all.push(last);
    let fixture = Fixture::with_entries(1000, all);
    fixture.learn(bundle_of(&[(0, false), (1, false)], &[], 1));
    fixture.sign_under(0);
    let mut waiting = fixture.cache.subscribe(caller(&[2]));
    let before = waiting.update().identities[0].svid.clone();
    fixture.learn(bundle_of(&[(0, true), (1, false)], &[], 2));
    assert!(was_told(&mut waiting).await);
    fixture.sign_under(1);
    assert!(
        was_told(&mut waiting).await,
        "the new SVID comes on the open stream"
    );
    let after = waiting.update().identities[0].svid.clone();
    assert_ne!(after.svid.authority_key_id, before.svid.authority_key_id);
}

#[tokio::test(start_paused = true)]
async fn an_svid_that_was_under_way_at_the_taint_is_replaced_once() {
    let fixture = Fixture::with_entries(10, vec![entry("a")]);
    fixture.learn(bundle_of(&[(0, false), (1, false)], &[], 1));
    fixture.learn(bundle_of(&[(0, true), (1, false)], &[], 2));
    assert_eq!(fixture.sign_under(0), 1);
    // A server that goes on signing under it isn't asked for ever.
    assert_eq!(fixture.sign_under(0), 1);
    advance(Duration::from_secs(60)).await;
    assert_eq!(fixture.sign_under(0), 0);
}

#[tokio::test(start_paused = true)]
async fn a_taint_before_the_first_svid_schedules_nothing() {
    let fixture = Fixture::with_entries(10, vec![entry("a")]);
    fixture.learn(bundle_of(&[(0, true), (1, false)], &[("old", true)], 1));
    assert_eq!(fixture.sign_under(1), 1);
    advance(Duration::from_secs(60)).await;
    assert_eq!(fixture.sign_under(1), 0);
}

#[tokio::test(start_paused = true)]
async fn tokens_of_a_tainted_key_are_dropped_and_the_others_kept() {
    let issuer = Arc::new(tokens::tests::Issuer::default());
    let clock = Arc::new(ManualClock::new(START));
    let cache = Cache::new(clock.clone(), bundle(), CacheLimits::default(), issuer.clone());
    let fixture = Fixture { clock, cache };
    let entries = [entry("a"), entry("b")].map(Arc::new);
    let fetch = async |entry: &Arc<Entry>| {
        let audience = ["db".to_owned()];
        fixture.cache.jwt_svid(entry, &audience).await.unwrap()
    };
    fixture.learn(bundle_of(&[], &[("old", false), ("new", false)], 1));
    issuer.sign_with("old");
    let first = fetch(&entries[0]).await;
    issuer.sign_with("new");
    let second = fetch(&entries[1]).await;
    assert_eq!((&*first.key_id, &*second.key_id), ("old", "new"));
    fixture.learn(bundle_of(&[], &[("old", true), ("new", false)], 2));
    assert_eq!(fixture.cache.jwt_svid_count(), 1);
    assert_eq!(fetch(&entries[1]).await.token, second.token);
    // One that was under way is handed out, but not kept.
    issuer.sign_with("old");
    assert_eq!(&*fetch(&entries[0]).await.key_id, "old");
    assert_eq!(fixture.cache.jwt_svid_count(), 1);
    issuer.sign_with("new");
    assert_eq!(&*fetch(&entries[0]).await.key_id, "new");
    assert_eq!(fixture.cache.jwt_svid_count(), 2);
    // A revocation that comes without a taint.
    fixture.learn(bundle_of(&[], &[("newest", false)], 3));
    assert_eq!(fixture.cache.jwt_svid_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn wit_svids_of_a_tainted_key_are_dropped_and_open_streams_told() {
    let issuer = Arc::new(tokens::tests::Issuer::default());
    let clock = Arc::new(ManualClock::new(START));
    let cache = Cache::new(clock.clone(), bundle(), CacheLimits::default(), issuer.clone());
    let fixture = Fixture { clock, cache };
    let entry = Arc::new(entry("a"));
    let learn = |tainted: bool| {
        let mut bundle = Bundle::clone(&bundle_of(&[], &[("old", tainted), ("new", false)], 1));
        std::mem::swap(&mut bundle.jwt_authorities, &mut bundle.wit_authorities);
        fixture.learn(Arc::new(bundle));
    };
    learn(false);
    issuer.sign_with("old");
    let first = fixture.cache.wit_svid(&entry).await.unwrap();
    issuer.sign_with("new");
    let mut open = fixture.cache.subscribe(caller(&[1]));
    learn(true);
    assert!(was_told(&mut open).await);
    assert_eq!(fixture.cache.wit_svid_due_in(&entry), None);
    let second = fixture.cache.wit_svid(&entry).await.unwrap();
    assert_eq!((&*first.svid.key_id, &*second.svid.key_id), ("old", "new"));
}
