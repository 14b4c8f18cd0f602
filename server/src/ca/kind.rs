//! What the kinds of authority do not have in common; everything else is written once, over [`Kind`], and for the two kinds
//! of token over [`Tokens`].

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use credence_crypto::x509::{Certificate, X509Ca};
use credence_crypto::{KeyType, Profile, Signer, TokenKey, hex, jwt, wit};
use credence_identity::rotation::Lifetime;
use credence_identity::{Bundle, JwtAuthority, Timestamp, X509Authority};
use credence_runtime::telemetry::Telemetry;

use super::journal::{Journal, JournalEntry};
use super::{AuthorityError, AuthorityKind, BACKDATE, Context, Issuers, Settings};

/// An authority with the key that it signs with.
pub(crate) struct Held<S> {
    /// The X.509 authority's subject key ID in hex, or the `kid`.
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
    /// As what operators rotate it by hand; one that they can't rotates by itself alone.
    const BY_HAND: Option<AuthorityKind>;

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
    const BY_HAND: Option<AuthorityKind> = Some(AuthorityKind::X509);
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

/// A kind of token, as far as its authorities differ from those of the other.
pub(crate) trait Tokens: Profile {
    const NOUN: &'static str;
    const METRIC: &'static str;
    const KEY_PREFIX: &'static str;
    const BY_HAND: Option<AuthorityKind>;

    fn key_type(settings: &Settings) -> KeyType;
    fn entries(journal: &mut Journal) -> &mut Vec<JournalEntry>;
    fn keys(bundle: &Bundle) -> &[JwtAuthority];
    fn keys_mut(bundle: &mut Bundle) -> &mut Vec<JwtAuthority>;
    fn issuer(issuers: &Issuers) -> &ArcSwapOption<Held<TokenKey<Self>>>;
}

impl Tokens for jwt::Jwt {
    const NOUN: &'static str = "JWT key";
    const METRIC: &'static str = "jwt_key";
    const KEY_PREFIX: &'static str = "JWT-Signer";
    const BY_HAND: Option<AuthorityKind> = Some(AuthorityKind::Jwt);

    fn key_type(settings: &Settings) -> KeyType {
        settings.jwt_key_type
    }

    fn entries(journal: &mut Journal) -> &mut Vec<JournalEntry> {
        &mut journal.jwt
    }

    fn keys(bundle: &Bundle) -> &[JwtAuthority] {
        &bundle.jwt_authorities
    }

    fn keys_mut(bundle: &mut Bundle) -> &mut Vec<JwtAuthority> {
        &mut bundle.jwt_authorities
    }

    fn issuer(issuers: &Issuers) -> &ArcSwapOption<Held<TokenKey<Self>>> {
        &issuers.jwt
    }
}

impl Tokens for wit::Wit {
    const NOUN: &'static str = "WIT key";
    const METRIC: &'static str = "wit_key";
    const KEY_PREFIX: &'static str = "WIT-Signer";
    const BY_HAND: Option<AuthorityKind> = None;

    fn key_type(settings: &Settings) -> KeyType {
        settings.wit.as_ref().map_or(KeyType::EcP256, |wit| wit.key_type)
    }

    fn entries(journal: &mut Journal) -> &mut Vec<JournalEntry> {
        &mut journal.wit
    }

    fn keys(bundle: &Bundle) -> &[JwtAuthority] {
        &bundle.wit_authorities
    }

    fn keys_mut(bundle: &mut Bundle) -> &mut Vec<JwtAuthority> {
        &mut bundle.wit_authorities
    }

    fn issuer(issuers: &Issuers) -> &ArcSwapOption<Held<TokenKey<Self>>> {
        &issuers.wit
    }
}

/// Keys that sign tokens of a kind.
#[derive(Debug)]
pub(crate) struct Token<P>(PhantomData<fn() -> P>);

pub(crate) type Jwt = Token<jwt::Jwt>;
pub(crate) type Wit = Token<wit::Wit>;

impl<P: Tokens> Kind for Token<P> {
    type Signer = TokenKey<P>;
    const BY_HAND: Option<AuthorityKind> = P::BY_HAND;
    const NOUN: &'static str = P::NOUN;
    const METRIC: &'static str = P::METRIC;
    const KEY_PREFIX: &'static str = P::KEY_PREFIX;

    fn key_type(settings: &Settings) -> KeyType {
        P::key_type(settings)
    }

    fn make(
        settings: &Settings,
        key: Arc<dyn Signer>,
        now: Timestamp,
    ) -> Result<Held<TokenKey<P>>, AuthorityError> {
        let id: Arc<str> = TokenKey::<P>::random_kid()?.into();
        let not_after = (now + settings.ca_ttl).floor_to_second();
        let document = key.public_key().spki_der().into();
        let signer = TokenKey::new(&id, key, not_after)?;
        Ok(Held {
            id,
            issued_at: now,
            not_after,
            document,
            signer,
        })
    }

    fn restore(key: Arc<dyn Signer>, entry: &JournalEntry) -> Option<Held<TokenKey<P>>> {
        if key.public_key().spki_der() != &*entry.document {
            return None;
        }
        let signer = TokenKey::new(&entry.authority_id, key, entry.not_after).ok()?;
        Some(held(entry, signer))
    }

    fn entries(journal: &mut Journal) -> &mut Vec<JournalEntry> {
        P::entries(journal)
    }

    fn is_published(bundle: &Bundle, document: &[u8], id: &str) -> bool {
        P::keys(bundle)
            .iter()
            .any(|authority| &*authority.key_id == id && *authority.public_key == *document)
    }

    fn publish(bundle: &mut Bundle, held: &Held<TokenKey<P>>) {
        P::keys_mut(bundle).push(JwtAuthority {
            key_id: Arc::clone(&held.id),
            public_key: Arc::clone(&held.document),
            expires_at: Some(held.not_after),
            tainted: false,
        });
    }

    fn flags<'a>(bundle: &'a mut Bundle, id: &str) -> Vec<&'a mut bool> {
        let with_id = P::keys_mut(bundle)
            .iter_mut()
            .filter(|authority| &*authority.key_id == id);
        with_id.map(|authority| &mut authority.tainted).collect()
    }

    fn withdraw(bundle: &mut Bundle, id: &str) {
        P::keys_mut(bundle).retain(|authority| &*authority.key_id != id);
    }

    fn issuer(issuers: &Issuers) -> &ArcSwapOption<Held<TokenKey<P>>> {
        P::issuer(issuers)
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
