//! The profiles of what is signed: who gets which lifetime, subject and claims.
//!
//! Never decides who may have a document. Invariants: nothing outlives the authority that signed it, nothing is signed
//! for another trust domain, and a workload's SVID takes a verified request and an authorised entry.

use std::sync::Arc;
use std::time::Duration;

use credence_crypto::csr::VerifiedCsr;
use credence_crypto::jwt::{self, JwtClaims, JwtSignError, SignedJwt};
use credence_crypto::wit::{self, SignedToken, WitClaims};
use credence_crypto::x509::{IssueError, LeafParams, Subject, X509Svid};
use credence_crypto::{PublicKey, RandomError, random_bytes};
use credence_identity::{SpiffeId, SpiffeIdError, TrustDomain};
use credence_runtime::clock::Clock;

use super::{Authority, BACKDATE, Issuers, Settings};
use crate::registry::AuthorizedEntry;

/// Of a WIT-SVID whose entry or request says nothing (as SPIRE does).
const WIT_SVID_TTL: Duration = Duration::from_secs(60 * 60);

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// There is no X.509 authority yet.
    #[error("X509 CA is not available for signing")]
    NoX509Authority,
    /// There is no JWT authority, or tokens are disabled.
    #[error("JWT key is not available for signing")]
    NoJwtAuthority,
    /// There is no WIT authority: WIT-SVIDs are switched off.
    #[error("WIT key is not available for signing")]
    NoWitAuthority,
    /// The ID belongs to another trust domain.
    #[error("\"{0}\" is not a member of trust domain \"{1}\"")]
    ForeignId(SpiffeId, TrustDomain),
    /// An agent's SVID was asked for with the ID of something else.
    #[error("\"{0}\" is not the ID of an agent")]
    NotAnAgent(SpiffeId),
    /// A token names no audience.
    #[error("invalid JWT-SVID audience: cannot be empty")]
    NoAudience,
    /// The certificate could not be signed.
    #[error(transparent)]
    X509(#[from] IssueError),
    /// The token could not be signed.
    #[error(transparent)]
    Jwt(JwtSignError),
    /// No random token ID.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The ID cannot be built.
    #[error(transparent)]
    Id(#[from] SpiffeIdError),
}

impl From<JwtSignError> for SigningError {
    fn from(error: JwtSignError) -> Self {
        match error {
            JwtSignError::NoAudience => Self::NoAudience,
            other => Self::Jwt(other),
        }
    }
}

impl Authority {
    /// Signs a workload's X509-SVID: identity, lifetime and DNS names are the entry's, of the request only the key counts.
    ///
    /// # Errors
    /// Says why; nothing was signed.
    pub fn sign_x509_svid(
        &self,
        csr: &VerifiedCsr,
        entry: &AuthorizedEntry,
    ) -> Result<X509Svid, SigningError> {
        let ttl = or_default(entry.x509_svid_ttl, self.settings.x509_svid_ttl);
        let leaf = Leaf {
            id: &entry.spiffe_id,
            key: csr.public_key(),
            dns_names: &entry.dns_names,
            subject: None,
            ttl,
        };
        self.signing().x509_svid(&leaf)
    }

    /// Signs an agent's X509-SVID, for `agent_ttl`.
    ///
    /// # Errors
    /// Says why; nothing was signed.
    pub fn sign_agent_svid(&self, csr: &VerifiedCsr, agent: &SpiffeId) -> Result<X509Svid, SigningError> {
        // Workloads have another way, which takes an entry.
        if !agent.is_agent() {
            return Err(SigningError::NotAnAgent(agent.clone()));
        }
        let ttl = self.settings.agent_ttl;
        self.signing().x509_svid(&Leaf {
            id: agent,
            key: csr.public_key(),
            dns_names: &[],
            subject: None,
            ttl,
        })
    }

    /// Signs an X509-SVID that an operator asked for by `MintX509SVID`: the request decides on identity, DNS names and,
    /// if it has one, the subject. `ttl` in seconds; 0 for the default.
    ///
    /// # Errors
    /// Says why; nothing was signed.
    pub fn mint_x509_svid(
        &self,
        csr: &VerifiedCsr,
        id: &SpiffeId,
        ttl: u32,
    ) -> Result<X509Svid, SigningError> {
        let dns_names: Vec<Arc<str>> = csr.dns_names().iter().map(|name| name.as_str().into()).collect();
        let subject = Some(csr.subject()).filter(|subject| !subject.is_empty());
        let ttl = or_default(ttl, self.settings.x509_svid_ttl);
        self.signing().x509_svid(&Leaf {
            id,
            key: csr.public_key(),
            dns_names: &dns_names,
            subject,
            ttl,
        })
    }

    /// Signs a workload's JWT-SVID.
    ///
    /// # Errors
    /// Says why; nothing was signed.
    pub fn sign_jwt_svid(
        &self,
        entry: &AuthorizedEntry,
        audience: &[String],
    ) -> Result<SignedJwt, SigningError> {
        let ttl = or_default(entry.jwt_svid_ttl, self.settings.jwt_svid_ttl);
        self.signing()
            .jwt_svid(&entry.spiffe_id, audience, ttl, entry.jwt_svid_include_jti)
    }

    /// Signs a JWT-SVID that an operator asked for by `MintJWTSVID`. `ttl` in seconds; 0 for the default.
    ///
    /// # Errors
    /// Says why; nothing was signed.
    pub fn mint_jwt_svid(
        &self,
        id: &SpiffeId,
        audience: &[String],
        ttl: u32,
    ) -> Result<SignedJwt, SigningError> {
        self.signing()
            .jwt_svid(id, audience, or_default(ttl, self.settings.jwt_svid_ttl), false)
    }

    /// Signs the WIT-SVID of a workload for the key that `holder` has. It lives as long as the entry's X509-SVIDs, as SPIRE
    /// has it.
    ///
    /// # Errors
    /// Says why; nothing was signed.
    pub fn sign_wit_svid(
        &self,
        entry: &AuthorizedEntry,
        holder: &Holder<'_>,
    ) -> Result<SignedToken, SigningError> {
        let ttl = or_default(entry.x509_svid_ttl, WIT_SVID_TTL);
        self.signing().wit_svid(&entry.spiffe_id, holder, ttl)
    }

    /// Signs a WIT-SVID that an operator asked for by `MintWITSVID`. `ttl` in seconds; 0 for the default.
    ///
    /// # Errors
    /// Says why; nothing was signed.
    pub fn mint_wit_svid(
        &self,
        id: &SpiffeId,
        holder: &Holder<'_>,
        ttl: u32,
    ) -> Result<SignedToken, SigningError> {
        self.signing().wit_svid(id, holder, or_default(ttl, WIT_SVID_TTL))
    }

    /// Whether a certificate can be signed now: signs one and drops it (SPIRE's health check `server.ca`).
    ///
    /// # Errors
    /// Says why not.
    pub fn signing_health(&self) -> Result<(), SigningError> {
        let active = self.issuers.x509.load();
        let active = active.as_ref().ok_or(SigningError::NoX509Authority)?;
        let id = SpiffeId::from_path(&self.settings.trust_domain, "/for/health/check/only")?;
        let (key, ttl) = (active.signer.signer().public_key(), self.settings.x509_svid_ttl);
        self.signing()
            .x509_svid(&Leaf {
                id: &id,
                key,
                dns_names: &[],
                subject: None,
                ttl,
            })
            .map(drop)
    }

    pub(super) fn signing(&self) -> Signing<'_> {
        Signing {
            settings: &self.settings,
            clock: &*self.clock,
            issuers: &self.issuers,
        }
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }
}

/// What signing takes.
pub(super) struct Signing<'a> {
    pub(super) settings: &'a Settings,
    pub(super) clock: &'a dyn Clock,
    pub(super) issuers: &'a Issuers,
}

/// What goes into a certificate.
struct Leaf<'a> {
    id: &'a SpiffeId,
    key: &'a PublicKey,
    dns_names: &'a [Arc<str>],
    subject: Option<&'a Subject>,
    ttl: Duration,
}

/// To which key a WIT-SVID is bound, and what that key signs proofs with.
#[derive(Debug)]
pub struct Holder<'a> {
    /// The key.
    pub public_key: &'a PublicKey,
    /// One of [`wit::confirmation_algorithm`]'s.
    pub algorithm: &'static str,
}

impl Signing<'_> {
    /// The server's own SVID: without DNS names, for the default lifetime.
    pub(super) fn server_svid(&self, key: &PublicKey) -> Result<X509Svid, SigningError> {
        let (id, ttl) = (
            SpiffeId::server(&self.settings.trust_domain),
            self.settings.x509_svid_ttl,
        );
        self.x509_svid(&Leaf {
            id: &id,
            key,
            dns_names: &[],
            subject: None,
            ttl,
        })
    }

    fn x509_svid(&self, leaf: &Leaf<'_>) -> Result<X509Svid, SigningError> {
        self.check_member(leaf.id)?;
        let active = self.issuers.x509.load();
        let active = active.as_ref().ok_or(SigningError::NoX509Authority)?;
        let now = self.clock.now();
        let svid = active.signer.sign_svid(&LeafParams {
            id: leaf.id,
            public_key: leaf.key,
            dns_names: leaf.dns_names,
            subject: leaf.subject,
            not_before: now - BACKDATE,
            not_after: now + leaf.ttl,
        })?;
        self.issuers.measured.count("server_ca.sign.x509_svid", 1);
        tracing::debug!(subsystem_name = "ca", spiffe_id = %svid.id, expiration = %svid.not_after, "Signed X509 SVID");
        Ok(svid)
    }

    fn jwt_svid(
        &self,
        id: &SpiffeId,
        audience: &[String],
        ttl: Duration,
        include_jti: bool,
    ) -> Result<SignedJwt, SigningError> {
        self.check_member(id)?;
        let active = self.issuers.jwt.load();
        let active = active.as_ref().ok_or(SigningError::NoJwtAuthority)?;
        let now = self.clock.now();
        let jti = include_jti.then(token_id).transpose()?;
        let claims = JwtClaims {
            sub: id,
            aud: audience,
            iat: now,
            exp: now + ttl,
            iss: self.settings.jwt_issuer.as_deref(),
            jti: jti.as_deref(),
        };
        let signed = jwt::sign_svid(&active.signer, &claims)?;
        self.issuers.measured.count("server_ca.sign.jwt_svid", 1);
        tracing::debug!(subsystem_name = "ca", spiffe_id = %id, expiration = %signed.expires_at, "Signed JWT SVID");
        Ok(signed)
    }

    fn wit_svid(
        &self,
        id: &SpiffeId,
        holder: &Holder<'_>,
        ttl: Duration,
    ) -> Result<SignedToken, SigningError> {
        self.check_member(id)?;
        let active = self.issuers.wit.load();
        let active = active.as_ref().ok_or(SigningError::NoWitAuthority)?;
        let now = self.clock.now();
        let claims = WitClaims {
            sub: id,
            public_key: holder.public_key,
            algorithm: holder.algorithm,
            iat: now,
            exp: now + ttl,
            iss: self.settings.wit.as_ref().and_then(|wit| wit.issuer.as_deref()),
        };
        let signed = wit::sign_svid(&active.signer, &claims)?;
        self.issuers.measured.count("server_ca.sign.wit_svid", 1);
        tracing::debug!(subsystem_name = "ca", spiffe_id = %id, expiration = %signed.expires_at, "Signed WIT SVID");
        Ok(signed)
    }

    fn check_member(&self, id: &SpiffeId) -> Result<(), SigningError> {
        let own = &self.settings.trust_domain;
        if id.is_member_of(own) {
            Ok(())
        } else {
            Err(SigningError::ForeignId(id.clone(), own.clone()))
        }
    }
}

/// A `jti`: the 16 bytes of a random UUID in base64url, as SPIRE's.
fn token_id() -> Result<String, RandomError> {
    use base64::Engine as _;
    let id = uuid::Builder::from_random_bytes(random_bytes()?).into_uuid();
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id.as_bytes()))
}

pub(super) fn or_default(seconds: u32, default: Duration) -> Duration {
    if seconds == 0 {
        default
    } else {
        Duration::from_secs(seconds.into())
    }
}
