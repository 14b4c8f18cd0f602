//! The authorities of the trust domain, and everything that is signed by them.
//!
//! Owns the X.509, JWT and WIT authorities (one mechanism over `kind::Kind`), their rotation, their journal, the server's own
//! SVID and the profiles of what is signed. It decides nobody's entitlement: what a workload gets comes as a
//! [`VerifiedCsr`](credence_crypto::csr::VerifiedCsr) and an [`AuthorizedEntry`](crate::registry::AuthorizedEntry), which only their checkers make. All of its writes go
//! through the registry. Invariants: an authority is in the published bundle and in the journal before it signs; if
//! store or key manager fail, the authority that signs goes on; a clock that steps back replaces none.

mod downstream;
mod force;
pub(crate) mod journal;
mod kind;
mod owner;
mod rotation;
mod server_svid;
mod sign;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use credence_crypto::jwt::{JwtKey, JwtSignError};
use credence_crypto::wit::WitKey;
use credence_crypto::x509::{CaSubject, IssueError, X509Ca, X509SvidKey};
use credence_crypto::{KeyType, RandomError};
use credence_identity::TrustDomain;
use credence_runtime::clock::{Clock, StepWatch};
use credence_runtime::supervisor::Supervisor;
use credence_runtime::telemetry::Measured;
use tokio::sync::{Notify, mpsc, watch};

use crate::keymanager::{KeyManager, KeyManagerError};
use crate::registry::Registry;
use crate::store::StoreError;
use kind::{Held, Jwt, Kind, Wit, X509};

pub use force::{AuthorityKind, ForceError, LocalAuthorities, LocalAuthority};
pub(crate) use force::{Step, past};
pub use journal::JournalError;
pub use sign::{Holder, SigningError};

/// How far back a certificate's validity begins, for verifiers whose clocks are behind; as SPIRE does.
const BACKDATE: Duration = Duration::from_secs(10);
/// So many failed rotations in a row are borne before health says so; as SPIRE does.
const BORNE_FAILURES: u32 = 10;

/// What the configuration says about authorities and what they sign.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whose authorities these are.
    pub trust_domain: TrustDomain,
    /// `ca_key_type`: of X.509 authorities and of the server's own SVID.
    pub x509_key_type: KeyType,
    /// `jwt_key_type`.
    pub jwt_key_type: KeyType,
    /// `ca_ttl`: lifetime of X.509 and JWT authorities.
    pub ca_ttl: Duration,
    /// `ca_subject`.
    pub ca_subject: CaSubject,
    /// `default_x509_svid_ttl`.
    pub x509_svid_ttl: Duration,
    /// `default_jwt_svid_ttl`.
    pub jwt_svid_ttl: Duration,
    /// `agent_ttl`.
    pub agent_ttl: Duration,
    /// `jwt_issuer`: the `iss` of tokens.
    pub jwt_issuer: Option<String>,
    /// `disable_jwt_svids`: no JWT authority is made, and no token signed.
    pub disable_jwt_svids: bool,
    /// What WIT-SVIDs are signed with; none unless the feature flag `wit-svid` is set.
    pub wit: Option<WitSettings>,
}

/// What the configuration says about WIT-SVIDs.
#[derive(Debug, Clone)]
pub struct WitSettings {
    /// `wit_key_type`.
    pub key_type: KeyType,
    /// `wit_issuer`: the `iss` of tokens.
    pub issuer: Option<String>,
}

impl Settings {
    /// SPIRE's defaults for the trust domain.
    pub fn defaults(trust_domain: TrustDomain) -> Self {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        Self {
            trust_domain,
            x509_key_type: KeyType::EcP256,
            jwt_key_type: KeyType::EcP256,
            ca_ttl: 24 * HOUR,
            ca_subject: CaSubject::default(),
            x509_svid_ttl: HOUR,
            jwt_svid_ttl: Duration::from_secs(5 * 60),
            agent_ttl: HOUR,
            jwt_issuer: None,
            disable_jwt_svids: false,
            wit: None,
        }
    }
}

/// Why an authority could not be made, found or moved on.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The key manager failed.
    #[error("key manager failed")]
    KeyManager(#[from] KeyManagerError),
    /// The authority could not be signed.
    #[error("unable to sign the authority")]
    Issue(#[from] IssueError),
    /// The JWT authority could not be named.
    #[error("unable to make the JWT authority")]
    Jwt(#[from] JwtSignError),
    /// No random key ID.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The journal does not parse.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store could not commit; what was there before is.
    #[error("unable to commit the authority")]
    Store(#[source] StoreError),
    /// The server is shutting down.
    #[error("the registry is closed")]
    Closed,
    /// The server's own SVID could not be signed.
    #[error("unable to sign the server's SVID")]
    ServerSvid(#[source] SigningError),
    /// The key of the server's own SVID could not be made.
    #[error("unable to make a key for the server's SVID")]
    ServerKey(#[from] credence_crypto::PrivateKeyError),
}

/// What a rotation works with.
#[derive(Debug)]
pub(crate) struct Context {
    settings: Arc<Settings>,
    registry: Registry,
    keys: Arc<dyn KeyManager>,
    clock: Arc<dyn Clock>,
    issuers: Arc<Issuers>,
}

/// The active authorities.
#[derive(Default)]
pub(crate) struct Issuers {
    x509: ArcSwapOption<Held<X509Ca>>,
    jwt: ArcSwapOption<Held<JwtKey>>,
    wit: ArcSwapOption<Held<WitKey>>,
    x509_failures: AtomicU32,
    jwt_failures: AtomicU32,
    wit_failures: AtomicU32,
    /// Told when another authority signs from now on; the server's own SVID may wait for that.
    activated: Notify,
    measured: Measured,
}

/// The handle by which everything is signed. Clones share the authorities.
#[derive(Clone)]
pub struct Authority {
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    issuers: Arc<Issuers>,
    server_svid: watch::Receiver<Arc<X509SvidKey>>,
    orders: mpsc::Sender<force::Order>,
}

impl Authority {
    /// Finds the authorities again or makes the first ones, signs the server's own SVID, and starts the tasks that
    /// rotate them.
    ///
    /// # Errors
    /// If there is no authority that could sign now, or the journal is corrupt.
    pub async fn start(
        settings: Settings,
        registry: Registry,
        keys: Arc<dyn KeyManager>,
        clock: Arc<dyn Clock>,
        steps: &StepWatch,
        supervisor: &Supervisor,
    ) -> Result<Self, AuthorityError> {
        let (settings, issuers) = (Arc::new(settings), Arc::new(Issuers::default()));
        issuers.measured.by(registry.telemetry());
        let context = Context {
            settings: Arc::clone(&settings),
            registry: registry.clone(),
            keys,
            clock: Arc::clone(&clock),
            issuers: Arc::clone(&issuers),
        };
        let owner = owner::Owner::start(context).await?;
        let signer = sign::Signing {
            settings: &settings,
            clock: &*clock,
            issuers: &issuers,
        };
        let (publish, server_svid) = watch::channel(
            issuers
                .measured
                .watch("svid.rotate", server_svid::issue(&signer))
                .await?,
        );
        let (orders, queue) = mpsc::channel(force::QUEUE);
        let authority = Self {
            settings,
            clock,
            issuers,
            server_svid,
            orders,
        };
        supervisor.spawn("ca-manager", owner.run(steps.subscribe(), queue));
        let rotator = server_svid::run(authority.clone(), registry, publish, steps.subscribe());
        supervisor.spawn("server-svid", rotator);
        Ok(authority)
    }

    /// The server's own SVID; changes with each renewal.
    pub fn server_svid(&self) -> watch::Receiver<Arc<X509SvidKey>> {
        self.server_svid.clone()
    }

    /// What the configuration says.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether authorities are rotated: an error after more than ten failures in a row (SPIRE's `server.ca.rotator`).
    pub fn rotation_health(&self) -> Result<(), RotationStuck> {
        for (noun, failures) in [
            (X509::NOUN, &self.issuers.x509_failures),
            (Jwt::NOUN, &self.issuers.jwt_failures),
            (Wit::NOUN, &self.issuers.wit_failures),
        ] {
            let failures = failures.load(Ordering::Relaxed);
            if failures > BORNE_FAILURES {
                return Err(RotationStuck { noun, failures });
            }
        }
        Ok(())
    }
}

/// Rotation fails again and again. What is active still signs, to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{noun} rotation has failed {failures} times in a row")]
pub struct RotationStuck {
    /// The kind of authority, in SPIRE's words.
    pub noun: &'static str,
    /// How often.
    pub failures: u32,
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (x509, jwt) = (self.x509.load(), self.jwt.load());
        f.debug_struct("Issuers")
            .field("x509", &*x509)
            .field("jwt", &*jwt)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("issuers", &self.issuers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
