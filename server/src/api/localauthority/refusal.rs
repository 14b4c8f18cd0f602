//! Why a step of a forced rotation was not taken, in SPIRE's words and codes.

use std::error::Error;

use tonic::{Code, Status};

use crate::api::status::{fault, invalid};
use crate::ca::{AuthorityKind, ForceError};

/// What SPIRE's texts call an authority of the kind.
pub(super) const fn noun(kind: AuthorityKind) -> &'static str {
    match kind {
        AuthorityKind::X509 => "X.509",
        AuthorityKind::Jwt => "JWT",
    }
}

pub(super) fn of_show(error: &ForceError) -> Status {
    common(error).unwrap_or_else(|| failed("failed to read the authorities", error))
}

pub(super) fn of_prepare(kind: AuthorityKind, error: &ForceError) -> Status {
    common(error).unwrap_or_else(|| failed(&format!("failed to prepare {} authority", noun(kind)), error))
}

pub(super) fn of_activate(kind: AuthorityKind, error: &ForceError) -> Status {
    common(error).unwrap_or_else(|| match error {
        ForceError::Old => fault(
            Code::Internal,
            "only Prepared authorities can be activated",
            "unsupported local authority status: OLD",
        ),
        ForceError::NoId | ForceError::Unknown => Status::invalid_argument(error.to_string()),
        error => failed(&format!("failed to activate {} authority", noun(kind)), error),
    })
}

pub(super) fn of_taint(kind: AuthorityKind, error: &ForceError) -> Status {
    let cause = |cause| {
        let what = format!("failed to taint {} authority", noun(kind));
        fault(Code::Internal, what, cause)
    };
    common(error).unwrap_or_else(|| match (error, kind) {
        (ForceError::Active, _) => Status::invalid_argument("unable to taint current local authority"),
        (ForceError::Prepared, _) => invalid(
            "only Old local authorities can be tainted",
            "unsupported local authority status: PREPARED",
        ),
        (ForceError::AlreadyTainted, AuthorityKind::X509) => cause("root CA is already tainted"),
        (ForceError::AlreadyTainted, AuthorityKind::Jwt) => cause("key is already tainted"),
        (ForceError::NotInBundle, AuthorityKind::X509) => cause("no ca found with provided subject key ID"),
        (ForceError::NotInBundle, AuthorityKind::Jwt) => cause("no JWT Key found with provided key ID"),
        (ForceError::NoId | ForceError::Unknown, _) => Status::invalid_argument(error.to_string()),
        (error, _) => failed(&format!("failed to taint {} authority", noun(kind)), error),
    })
}

pub(super) fn of_revoke(kind: AuthorityKind, error: &ForceError) -> Status {
    let bad_id = |cause: &str| invalid("invalid authority ID", cause);
    let cause = |cause| {
        let what = format!("failed to revoke {} authority", noun(kind));
        fault(Code::Internal, what, cause)
    };
    common(error).unwrap_or_else(|| match (error, kind) {
        (ForceError::NoId, _) => bad_id("no authority ID provided"),
        (ForceError::Active, _) => bad_id("unable to use current authority"),
        (ForceError::Prepared | ForceError::Unknown, AuthorityKind::X509) => {
            bad_id("only Old local authority can be revoked")
        }
        (ForceError::Prepared, AuthorityKind::Jwt) => bad_id("unable to use a prepared key"),
        (ForceError::Unknown, AuthorityKind::Jwt) => {
            bad_id("no JWT authority found with provided authority ID")
        }
        (ForceError::NotTainted, AuthorityKind::X509) => {
            cause("it is not possible to revoke an untainted root CA")
        }
        (ForceError::NotTainted, AuthorityKind::Jwt) => {
            cause("it is not possible to revoke an untainted key")
        }
        (ForceError::NotInBundle, AuthorityKind::X509) => {
            cause("no root CA found with provided subject key ID")
        }
        (ForceError::NotInBundle, AuthorityKind::Jwt) => cause("no JWT Key found with provided key ID"),
        (error, _) => failed(&format!("failed to revoke {} authority", noun(kind)), error),
    })
}

/// What all steps have in common.
fn common(error: &ForceError) -> Option<Status> {
    match error {
        ForceError::Disabled => Some(Status::unimplemented(error.to_string())),
        ForceError::Initializing => Some(Status::unavailable(error.to_string())),
        _ => None,
    }
}

/// Something broke; the log has the causes.
fn failed(what: &str, error: &ForceError) -> Status {
    tracing::error!(error = error as &(dyn Error + 'static), "{what}");
    fault(Code::Internal, what, error)
}
