//! What X.509 and JWT authorities do not have in common; everything else is written once, over [`Kind`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use credence_crypto::jwt::JwtKey;
use credence_crypto::x509::{Certificate, X509Ca};
use credence_crypto::{KeyType, Signer, hex};
use credence_identity::rotation::Lifetime;
use credence_identity::{Bundle, JwtAuthority, Timestamp, X509Authority};
use credence_runtime::telemetry::Telemetry;

use super::journal::{Journal, JournalEntry};
use super::{AuthorityError, AuthorityKind, BACKDATE, Context, Issuers, Settings};

/// An authority with the key that it signs with.
pub(crate) struct Held<S> {
    /// The X.509 authority's subject key ID in hex, or the JWT authority's `kid`.
    pub(crate) id: Arc<str>,
    pub(crate) issued_at: Timestamp,
    pub(crate) not_after: Timestamp,
    /// What verifiers need of it: the certificate, or the public key; DER.
    pub(crate) document: Arc<[u8]>,
    pub(crate) signer: S,
}

impl<S> Lifetime for Held<S> {
    fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

impl<S> fmt::Debug for Held<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("id", &self.id)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// A kind of authority.
pub(crate) trait Kind: fmt::Debug + Send + Sync + 'static {
    /// What signs documents of this kind.
    type Signer: Send + Sync + 'static;
    /// What SPIRE's log calls an authority of this kind.
    const NOUN: &'static str;
    /// The kind's word in SPIRE's metrics.
    const METRIC: &'static str;
    /// The key manager's name of a slot's key is this, a dash, and the name of the slot, as SPIRE's.
    const KEY_PREFIX: &'static str;
    /// Which kind it is.
    const KIND: AuthorityKind;

    fn key_type(settings: &Settings) -> KeyType;
    /// Makes an authority of a new key.
    fn make(
        settings: &Settings,
        key: Arc<dyn Signer>,
        now: Timestamp,
    ) -> Result<Held<Self::Signer>, AuthorityError>;
    /// The authority of the journal, if it is this key's.
    fn restore(key: Arc<dyn Signer>, entry: &JournalEntry) -> Option<Held<Self::Signer>>;
    fn entries(journal: &mut Journal) -> &mut Vec<JournalEntry>;
    fn is_published(bundle: &Bundle, document: &[u8], id: &str) -> bool;
    fn publish(bundle: &mut Bundle, held: &Held<Self::Signer>);
    /// The bundle's flags of all authorities with this id: usually of one.
    fn flags<'a>(bundle: &'a mut Bundle, id: &str) -> Vec<&'a mut bool>;
    /// Drops the authorities with this id.
    fn withdraw(bundle: &mut Bundle, id: &str);
    /// Counts that an authority was activated.
    fn count_activation(telemetry: &Telemetry) {
        telemetry.count(&format!("manager.{}.activate", Self::METRIC), 1);
    }
    /// Shows when the active authority ends, where SPIRE does.
    fn show_expiry(_: &Context, _: Timestamp) {}
    /// Where the active authority is handed to those who sign.
    fn issuer(issuers: &Issuers) -> &ArcSwapOption<Held<Self::Signer>>;
}

/// Certificate authorities, self-signed.
#[derive(Debug)]
pub(crate) enum X509 {}

impl Kind for X509 {
    type Signer = X509Ca;
    const KIND: AuthorityKind = AuthorityKind::X509;
    const NOUN: &'static str = "X509 CA";
    const METRIC: &'static str = "x509_ca";
    const KEY_PREFIX: &'static str = "x509-CA";

    fn key_type(settings: &Settings) -> KeyType {
        settings.x509_key_type
    }

    fn make(
        settings: &Settings,
        key: Arc<dyn Signer>,
        now: Timestamp,
    ) -> Result<Held<X509Ca>, AuthorityError> {
        let (not_before, not_after) = (now - BACKDATE, (now + settings.ca_ttl).floor_to_second());
        let id = hex(&key.public_key().key_id()).into();
        let signer = X509Ca::self_sign(
            key,
            &settings.trust_domain,
            &settings.ca_subject,
            not_before,
            not_after,
        )?;
        let document = Arc::clone(signer.certificate().der());
        Ok(Held {
            id,
            issued_at: now,
            not_after,
            document,
            signer,
        })
    }

    fn restore(key: Arc<dyn Signer>, entry: &JournalEntry) -> Option<Held<X509Ca>> {
        let certificate = Certificate::from_der(&entry.document).ok()?;
        if certificate.public_key() != key.public_key() {
            return None;
        }
        let signer = X509Ca::new(key, certificate, Vec::new()).ok()?;
        Some(held(entry, signer))
    }

    fn entries(journal: &mut Journal) -> &mut Vec<JournalEntry> {
        &mut journal.x509
    }

    fn is_published(bundle: &Bundle, document: &[u8], _id: &str) -> bool {
        bundle
            .x509_authorities
            .iter()
            .any(|authority| *authority.der == *document)
    }

    fn publish(bundle: &mut Bundle, held: &Held<X509Ca>) {
        bundle.x509_authorities.push(X509Authority {
            der: Arc::clone(&held.document),
            tainted: false,
        });
    }

    fn flags<'a>(bundle: &'a mut Bundle, id: &str) -> Vec<&'a mut bool> {
        let with_id = bundle
            .x509_authorities
            .iter_mut()
            .filter(|authority| is_x509(&authority.der, id));
        with_id.map(|authority| &mut authority.tainted).collect()
    }

    fn withdraw(bundle: &mut Bundle, id: &str) {
        bundle
            .x509_authorities
            .retain(|authority| !is_x509(&authority.der, id));
    }

    // SPIRE's word for this one alone is longer.
    fn count_activation(telemetry: &Telemetry) {
        telemetry.count("ca.manager.x509_ca.activate", 1);
    }

    fn show_expiry(context: &Context, end: Timestamp) {
        let labels = &[("trust_domain_id", context.settings.trust_domain.as_str())];
        let (seconds, left) = (
            Duration::from_secs(end.unix_seconds().max(0).unsigned_abs()),
            context.clock.now().until(end),
        );
        let measured = &context.issuers.measured;
        measured.gauge_with("manager.x509_ca.rotate.expiration", seconds.as_secs_f64(), labels);
        measured.gauge_with("manager.x509_ca.rotate.ttl", left.as_secs_f64(), labels);
    }

    fn issuer(issuers: &Issuers) -> &ArcSwapOption<Held<X509Ca>> {
        &issuers.x509
    }
}

/// Keys that sign tokens.
#[derive(Debug)]
pub(crate) enum Jwt {}

impl Kind for Jwt {
    type Signer = JwtKey;
    const KIND: AuthorityKind = AuthorityKind::Jwt;
    const NOUN: &'static str = "JWT key";
    const METRIC: &'static str = "jwt_key";
    const KEY_PREFIX: &'static str = "JWT-Signer";

    fn key_type(settings: &Settings) -> KeyType {
        settings.jwt_key_type
    }

    fn make(
        settings: &Settings,
        key: Arc<dyn Signer>,
        now: Timestamp,
    ) -> Result<Held<JwtKey>, AuthorityError> {
        let id: Arc<str> = JwtKey::random_kid()?.into();
        let not_after = (now + settings.ca_ttl).floor_to_second();
        let document = key.public_key().spki_der().into();
        let signer = JwtKey::new(&id, key, not_after)?;
        Ok(Held {
            id,
            issued_at: now,
            not_after,
            document,
            signer,
        })
    }

    fn restore(key: Arc<dyn Signer>, entry: &JournalEntry) -> Option<Held<JwtKey>> {
        if key.public_key().spki_der() != &*entry.document {
            return None;
        }
        let signer = JwtKey::new(&entry.authority_id, key, entry.not_after).ok()?;
        Some(held(entry, signer))
    }

    fn entries(journal: &mut Journal) -> &mut Vec<JournalEntry> {
        &mut journal.jwt
    }

    fn is_published(bundle: &Bundle, document: &[u8], id: &str) -> bool {
        bundle
            .jwt_authorities_by_key_id(id)
            .any(|authority| *authority.public_key == *document)
    }

    fn publish(bundle: &mut Bundle, held: &Held<JwtKey>) {
        bundle.jwt_authorities.push(JwtAuthority {
            key_id: Arc::clone(&held.id),
            public_key: Arc::clone(&held.document),
            expires_at: Some(held.not_after),
            tainted: false,
        });
    }

    fn flags<'a>(bundle: &'a mut Bundle, id: &str) -> Vec<&'a mut bool> {
        let with_id = bundle
            .jwt_authorities
            .iter_mut()
            .filter(|authority| &*authority.key_id == id);
        with_id.map(|authority| &mut authority.tainted).collect()
    }

    fn withdraw(bundle: &mut Bundle, id: &str) {
        bundle
            .jwt_authorities
            .retain(|authority| &*authority.key_id != id);
    }

    fn issuer(issuers: &Issuers) -> &ArcSwapOption<Held<JwtKey>> {
        &issuers.jwt
    }
}

/// Whether this is the certificate with that subject key ID, in hex.
fn is_x509(der: &[u8], id: &str) -> bool {
    Certificate::from_der(der).is_ok_and(|certificate| {
        certificate
            .subject_key_id()
            .is_some_and(|key_id| hex(key_id) == id)
    })
}

fn held<S>(entry: &JournalEntry, signer: S) -> Held<S> {
    Held {
        id: Arc::clone(&entry.authority_id),
        issued_at: entry.issued_at,
        not_after: entry.not_after,
        document: Arc::clone(&entry.document),
        signer,
    }
}
