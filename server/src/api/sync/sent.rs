//! What an agent was told, and how that differs from what it may have now.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use credence_crypto::sha256;
use credence_identity::{Bundle, Entry, EntryId, TrustDomain};

use crate::registry::State;

/// What an agent may have at one moment.
#[derive(Debug)]
pub(super) struct View {
    pub(super) revision: u64,
    /// By id.
    pub(super) entries: Vec<Arc<Entry>>,
    /// The own bundle and those that the entries federate with.
    pub(super) bundles: BTreeMap<TrustDomain, Arc<Bundle>>,
}

impl View {
    pub(super) fn new(state: &State, mut entries: Vec<Arc<Entry>>) -> Self {
        entries.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let federated: BTreeSet<&TrustDomain> =
            entries.iter().flat_map(|entry| &entry.federates_with).collect();
        let wanted = federated.into_iter().chain([state.trust_domain()]);
        let bundles = wanted
            .filter_map(|name| state.bundle(name))
            .map(|b| (b.trust_domain.clone(), Arc::clone(b)));
        Self {
            revision: state.revision().0,
            bundles: bundles.collect(),
            entries,
        }
    }

    /// Whether an agent that holds a set of this digest holds the entries of this view. No digest is that of nothing.
    pub(super) fn is_held(&self, digest: &[u8]) -> bool {
        if digest.is_empty() {
            self.entries.is_empty()
        } else {
            self.digest() == digest
        }
    }

    /// SHA-256 over id, revision and creation time of each entry, by id.
    fn digest(&self) -> [u8; 32] {
        let mut text = String::new();
        for entry in &self.entries {
            let (id, revision, created) = (&entry.id, entry.revision_number, entry.created_at.unix_seconds());
            text.push_str(&format!("{id}\0{revision}\0{created}\n"));
        }
        sha256(text.as_bytes())
    }
}

/// What an agent was told.
#[derive(Debug, Default)]
pub(super) struct Sent {
    entries: HashMap<EntryId, Arc<Entry>>,
    bundles: BTreeMap<TrustDomain, Arc<Bundle>>,
}

/// How a view differs from what was told.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) removed: Vec<EntryId>,
    pub(super) bundles: Vec<Arc<Bundle>>,
    pub(super) removed_domains: Vec<TrustDomain>,
}

impl Difference {
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            entries,
            removed,
            bundles,
            removed_domains,
        } = self;
        entries.is_empty() && removed.is_empty() && bundles.is_empty() && removed_domains.is_empty()
    }
}

impl Sent {
    /// What has to be told so that the agent knows `view`; from then on that counts as told.
    pub(super) fn advance(&mut self, view: &View) -> Difference {
        let mut difference = Difference::default();
        let mut entries = HashMap::with_capacity(view.entries.len());
        for entry in &view.entries {
            // The whole entry is compared: one that was deleted and made again within a second has the old revision.
            if self.entries.get(&entry.id) != Some(entry) {
                difference.entries.push(Arc::clone(entry));
            }
            entries.insert(entry.id.clone(), Arc::clone(entry));
        }
        let gone = self.entries.keys().filter(|id| !entries.contains_key(*id));
        difference.removed = gone.cloned().collect();
        difference.removed.sort_unstable();
        let is_new = |bundle: &&Arc<Bundle>| self.bundles.get(&bundle.trust_domain) != Some(*bundle);
        difference.bundles = view.bundles.values().filter(is_new).map(Arc::clone).collect();
        let gone = self
            .bundles
            .keys()
            .filter(|name| !view.bundles.contains_key(*name));
        difference.removed_domains = gone.cloned().collect();
        self.entries = entries;
        self.bundles.clone_from(&view.bundles);
        difference
    }
}

#[cfg(test)]
mod tests {
    use credence_identity::{Selector, SpiffeId, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn entry(id: &str, revision: i64) -> Arc<Entry> {
        Arc::new(Entry {
            id: EntryId::parse(id).unwrap(),
            spiffe_id: SpiffeId::parse("spiffe://example.org/w").unwrap(),
            parent_id: SpiffeId::parse("spiffe://example.org/spire/agent/a").unwrap(),
            selectors: vec![Selector::parse("unix:uid:0").unwrap()],
            x509_svid_ttl: 0,
            jwt_svid_ttl: 0,
            federates_with: Vec::new(),
            admin: false,
            downstream: false,
            store_svid: false,
            expires_at: None,
            dns_names: Vec::new(),
            hint: Arc::from(""),
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: false,
            revision_number: revision,
            created_at: Timestamp::from_unix_seconds(7),
        })
    }

    fn view(entries: &[Arc<Entry>], bundles: &[Bundle]) -> View {
        let bundles = bundles
            .iter()
            .map(|bundle| (bundle.trust_domain.clone(), Arc::new(bundle.clone())));
        View {
            revision: 1,
            entries: entries.to_vec(),
            bundles: bundles.collect(),
        }
    }

    fn bundle(name: &str, sequence_number: u64) -> Bundle {
        Bundle {
            sequence_number,
            ..Bundle::empty(TrustDomain::parse(name).unwrap())
        }
    }

    #[test]
    fn the_digest_is_the_documented_one() {
        let held = view(&[entry("a", 0), entry("b", 3)], &[]);
        assert!(held.is_held(&sha256(b"a\x000\x007\nb\x003\x007\n")));
        assert!(!held.is_held(&[]));
        assert!(!held.is_held(&sha256(b"a\x000\x007\n")));
        assert!(view(&[], &[]).is_held(&[]));
    }

    #[test]
    fn only_what_changed_is_told_and_once() {
        let mut sent = Sent::default();
        let first = view(
            &[entry("a", 0), entry("b", 0), entry("c", 0)],
            &[bundle("x", 1), bundle("y", 1)],
        );
        assert_eq!(sent.advance(&first).entries.len(), 3);
        assert!(sent.advance(&first).is_empty());
        let second = view(&[entry("a", 0), entry("b", 1), entry("d", 0)], &[bundle("x", 2)]);
        let difference = sent.advance(&second);
        let ids: Vec<_> = difference.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["b", "d"]);
        assert_eq!(difference.removed, [EntryId::parse("c").unwrap()]);
        assert_eq!(difference.bundles.len(), 1);
        assert_eq!(difference.removed_domains, [TrustDomain::parse("y").unwrap()]);
        assert!(sent.advance(&second).is_empty());
    }

    fn any_view() -> impl Strategy<Value = View> {
        let entries = prop::collection::btree_map(0..12_u8, (0..3_i64, any::<bool>()), 0..10);
        let bundles = prop::collection::btree_map(0..3_u8, 0..3_u64, 0..3);
        (entries, bundles).prop_map(|(entries, bundles)| {
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(id, (revision, admin))| {
                    let mut made = Entry::clone(&entry(&format!("e{id:02}"), revision));
                    made.admin = admin;
                    Arc::new(made)
                })
                .collect();
            let bundles: Vec<_> = bundles
                .into_iter()
                .map(|(name, sequence)| bundle(&format!("td{name}"), sequence))
                .collect();
            view(&entries, &bundles)
        })
    }

    proptest! {
        /// Push against poll: who applies each difference holds what who asks for everything gets.
        #[test]
        fn differences_add_up_to_the_view(views in prop::collection::vec(any_view(), 1..12)) {
            let mut sent = Sent::default();
            let mut held: BTreeMap<EntryId, Arc<Entry>> = BTreeMap::new();
            let mut bundles: BTreeMap<TrustDomain, Arc<Bundle>> = BTreeMap::new();
            for view in views {
                let told = sent.advance(&view);
                for id in &told.removed {
                    prop_assert!(held.remove(id).is_some(), "{id} was removed without having been told of");
                }
                for name in &told.removed_domains {
                    prop_assert!(bundles.remove(name).is_some());
                }
                held.extend(told.entries.into_iter().map(|entry| (entry.id.clone(), entry)));
                bundles.extend(told.bundles.into_iter().map(|bundle| (bundle.trust_domain.clone(), bundle)));
                let whole: Vec<_> = held.values().cloned().collect();
                prop_assert_eq!(&whole, &view.entries);
                prop_assert_eq!(&bundles, &view.bundles);
            }
        }
    }
}
