//! Entries and SVIDs for the tests of the cache.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use credence_crypto::x509::{CaSubject, LeafParams, X509Ca, X509Svid, X509SvidKey};
use credence_crypto::{KeyType, PrivateKey, PublicKey, Signer};
use credence_identity::{Bundle, Entry, EntryId, Selector, SpiffeId, Timestamp, TrustDomain};

/// When the tests begin.
pub(crate) const START: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

pub(crate) fn bundle() -> Arc<Bundle> {
    Arc::new(Bundle::empty(trust_domain()))
}

/// The selectors `unix:uid:N`.
pub(crate) fn selectors(uids: &[u8]) -> Vec<Selector> {
    uids.iter()
        .map(|uid| Selector::new("unix", &format!("uid:{uid}")).unwrap())
        .collect()
}

/// An entry for `spiffe://example.org/<id>` and `unix:uid:1`.
pub(crate) fn entry(id: &str) -> Entry {
    Entry {
        id: EntryId::parse(id).unwrap(),
        spiffe_id: SpiffeId::from_path(&trust_domain(), &format!("/{id}")).unwrap(),
        parent_id: SpiffeId::agent(&trust_domain(), "/join_token/x").unwrap(),
        selectors: selectors(&[1]),
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Vec::new(),
        admin: false,
        downstream: false,
        store_svid: false,
        expires_at: None,
        dns_names: Vec::new(),
        hint: "".into(),
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
        revision_number: 0,
        created_at: START,
    }
}

static CA: LazyLock<X509Ca> = LazyLock::new(|| {
    let signer: Arc<dyn Signer> = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
    let day = Duration::from_secs(86_400);
    X509Ca::self_sign(
        signer,
        &trust_domain(),
        &CaSubject::default(),
        START - day,
        START + 365 * day,
    )
    .unwrap()
});

/// An SVID of the entry that ends that long after `now`.
pub(crate) fn svid(entry: &Entry, now: Timestamp, ttl: Duration) -> X509SvidKey {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    X509SvidKey::new(sign(entry, key.public_key(), now, ttl), key).unwrap()
}

/// The same for a key of somebody's.
pub(crate) fn sign(entry: &Entry, public_key: &PublicKey, now: Timestamp, ttl: Duration) -> X509Svid {
    let leaf = LeafParams {
        id: &entry.spiffe_id,
        public_key,
        dns_names: &[],
        subject: None,
        not_before: now - Duration::from_secs(10),
        not_after: now + ttl,
    };
    CA.sign_svid(&leaf).unwrap()
}

/// The certificate of the authority behind these SVIDs.
pub(crate) fn authority() -> Arc<[u8]> {
    CA.certificate().der().clone()
}
