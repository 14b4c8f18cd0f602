//! Path validation (RFC 5280, section 6), of our own: libraries refuse dates before 1970, which certificates in the
//! field have, and ignore key usage.
//!
//! Policies, revocation lists and cross-signing loops are out of scope. Invariant: work is bounded, whatever the chain.

use credence_identity::Timestamp;

use super::certificate::SignatureFault;
use super::constraints::Verdict;
use super::{Certificate, Subject};
use crate::keys::VerifyError;

/// Longest chain that is looked at, leaf included. The standard has no cap.
pub const MAX_CHAIN: usize = 16;
/// Most signatures that are checked for one chain.
const MAX_SIGNATURES: u32 = 32;

/// Why a chain doesn't lead to an authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// More certificates than [`MAX_CHAIN`], or more possible paths than are tried.
    #[error("certificate chain is too long")]
    TooLong,
    /// No authority, and no certificate of the chain, is the issuer.
    #[error("certificate of {issuer:?} is signed by an unknown authority")]
    UnknownAuthority {
        /// The issuer that is missing.
        issuer: Subject,
    },
    /// A certificate's time is over.
    #[error("certificate of {subject:?} expired at {not_after}")]
    Expired {
        /// Whose.
        subject: Subject,
        /// When.
        not_after: Timestamp,
    },
    /// A certificate's time has not come.
    #[error("certificate of {subject:?} is not valid before {not_before}")]
    NotYetValid {
        /// Whose.
        subject: Subject,
        /// When it will be.
        not_before: Timestamp,
    },
    /// An issuer is no CA.
    #[error("issuer {0:?} is not a CA")]
    NotACa(Subject),
    /// An issuer may not sign certificates.
    #[error("issuer {0:?} may not sign certificates")]
    NoKeyCertSign(Subject),
    /// More CAs below an issuer than it allows.
    #[error("path length constraint of {0:?} is exceeded")]
    PathLenExceeded(Subject),
    /// A name that an issuer may not certify.
    #[error("name constraint of {0:?} is violated")]
    NameConstraintViolation(Subject),
    /// A constraint on names of a kind that isn't evaluated.
    #[error("name constraint of {0:?} is not supported")]
    UnsupportedNameConstraint(Subject),
    /// A critical extension that isn't understood.
    #[error("critical extension {0} is unknown")]
    UnknownCriticalExtension(String),
    /// A signature algorithm that isn't verified.
    #[error("signature algorithm {0} is not supported")]
    UnsupportedSignature(String),
    /// A signature that doesn't hold.
    #[error("certificate signature: {0}")]
    Signature(VerifyError),
}

/// Finds a path from `leaf` over `intermediates` to one of `anchors`, all of it valid at `now`, and returns it, leaf
/// first, anchor last. A leaf that is an anchor itself is its own path. Names, extended key usage and the rules for
/// SVIDs are not looked at; [`super::verify_svid`] does.
pub fn verify_chain(
    leaf: &Certificate,
    intermediates: &[Certificate],
    anchors: &[Certificate],
    now: Timestamp,
) -> Result<Vec<Certificate>, PathError> {
    if anchors.contains(leaf) {
        check_alone(leaf, now)?;
        return Ok(vec![leaf.clone()]);
    }
    verify_issued(leaf, intermediates, anchors, now)
}

/// As [`verify_chain`], but the leaf must have been issued by another certificate.
pub(super) fn verify_issued(
    leaf: &Certificate,
    intermediates: &[Certificate],
    anchors: &[Certificate],
    now: Timestamp,
) -> Result<Vec<Certificate>, PathError> {
    if intermediates.len() >= MAX_CHAIN {
        return Err(PathError::TooLong);
    }
    check_alone(leaf, now)?;
    let mut search = Search {
        intermediates,
        anchors,
        now,
        signatures_left: MAX_SIGNATURES,
    };
    let mut path = vec![leaf.clone()];
    search.extend(&mut path)?;
    Ok(path)
}

/// What holds for each certificate of a path by itself.
fn check_alone(certificate: &Certificate, now: Timestamp) -> Result<(), PathError> {
    let subject = || certificate.subject().clone();
    if let Some(oid) = &certificate.extensions().unknown_critical {
        return Err(PathError::UnknownCriticalExtension(oid.clone()));
    }
    if now < certificate.not_before() {
        return Err(PathError::NotYetValid {
            subject: subject(),
            not_before: certificate.not_before(),
        });
    }
    // The last second belongs to the validity, all of it.
    if now.floor_to_second() > certificate.not_after() {
        return Err(PathError::Expired {
            subject: subject(),
            not_after: certificate.not_after(),
        });
    }
    Ok(())
}

struct Search<'a> {
    intermediates: &'a [Certificate],
    anchors: &'a [Certificate],
    now: Timestamp,
    signatures_left: u32,
}

impl Search<'_> {
    /// Completes `path`, whose last certificate wants an issuer, or leaves it as it was and says the first reason that
    /// speaks of more than a missing issuer.
    fn extend(&mut self, path: &mut Vec<Certificate>) -> Result<(), PathError> {
        let Some(child) = path.last().cloned() else {
            return Err(PathError::TooLong);
        };
        if path.len() >= MAX_CHAIN {
            return Err(PathError::TooLong);
        }
        let mut reason = PathError::UnknownAuthority {
            issuer: child.issuer().clone(),
        };
        for (issuer, is_anchor) in self.candidates(&child, path) {
            let attempt = self.check_issuer(&issuer, &child, path).and_then(|()| {
                path.push(issuer);
                let rest = if is_anchor { Ok(()) } else { self.extend(path) };
                if rest.is_err() {
                    path.pop();
                }
                rest
            });
            match attempt {
                Ok(()) => return Ok(()),
                Err(error) if matches!(reason, PathError::UnknownAuthority { .. }) => reason = error,
                Err(_) => {}
            }
        }
        Err(reason)
    }

    /// Certificates that bear the issuer's name: anchors first, and those whose key identifier fits before others.
    fn candidates(&self, child: &Certificate, path: &[Certificate]) -> Vec<(Certificate, bool)> {
        let anchors = self.anchors.iter().map(|certificate| (certificate, true));
        let intermediates = self.intermediates.iter().map(|certificate| (certificate, false));
        let mut found: Vec<_> = anchors
            .chain(intermediates)
            .filter(|(certificate, _)| certificate.subject() == child.issuer() && !path.contains(certificate))
            .map(|(certificate, is_anchor)| (certificate.clone(), is_anchor))
            .collect();
        found.sort_by_key(|(certificate, _)| {
            match (child.authority_key_id(), certificate.subject_key_id()) {
                (Some(wanted), Some(found)) if wanted == found => 0,
                (Some(_), Some(_)) => 2,
                _ => 1,
            }
        });
        found
    }

    fn check_issuer(
        &mut self,
        issuer: &Certificate,
        child: &Certificate,
        below: &[Certificate],
    ) -> Result<(), PathError> {
        let subject = || issuer.subject().clone();
        check_alone(issuer, self.now)?;
        if !issuer.is_ca() {
            return Err(PathError::NotACa(subject()));
        }
        if issuer.key_usage().is_some_and(|usage| !usage.key_cert_sign()) {
            return Err(PathError::NoKeyCertSign(subject()));
        }
        let authorities_below = below
            .iter()
            .skip(1)
            .filter(|certificate| !certificate.is_self_issued())
            .count();
        let limit = issuer
            .extensions()
            .basic_constraints
            .and_then(|constraints| constraints.path_len);
        if limit.is_some_and(|limit| authorities_below > usize::try_from(limit).unwrap_or(usize::MAX)) {
            return Err(PathError::PathLenExceeded(subject()));
        }
        if let Some(constraints) = &issuer.extensions().name_constraints {
            for certificate in below {
                match constraints.check(&certificate.names()) {
                    Verdict::Allowed => {}
                    Verdict::Forbidden => return Err(PathError::NameConstraintViolation(subject())),
                    Verdict::Unsupported => return Err(PathError::UnsupportedNameConstraint(subject())),
                }
            }
        }
        self.signatures_left = self.signatures_left.checked_sub(1).ok_or(PathError::TooLong)?;
        child
            .verify_signature(issuer.public_key())
            .map_err(|fault| match fault {
                SignatureFault::Unsupported(algorithm) => PathError::UnsupportedSignature(algorithm),
                SignatureFault::Invalid(error) => PathError::Signature(error),
            })
    }
}

#[cfg(test)]
mod tests;
