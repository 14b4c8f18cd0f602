//! Issued SVIDs on the wire.

use credence_crypto::jwt::SignedJwt;
use credence_crypto::wit::SignedToken;
use credence_crypto::x509::X509Svid;
use credence_identity::SpiffeId;
use credence_proto::spire::api::types;

use super::id_to_proto;

/// An X509-SVID. The hint stays empty, as with SPIRE: agents know it from the entry.
pub(crate) fn x509_to_proto(svid: &X509Svid) -> types::X509svid {
    types::X509svid {
        cert_chain: svid
            .chain
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect(),
        id: Some(id_to_proto(&svid.id)),
        expires_at: svid.not_after.unix_seconds(),
        hint: String::new(),
    }
}

/// A JWT-SVID, without the hint. The token is moved, not copied.
pub(crate) fn jwt_to_proto(id: &SpiffeId, signed: SignedJwt) -> types::Jwtsvid {
    types::Jwtsvid {
        token: signed.token,
        id: Some(id_to_proto(id)),
        expires_at: signed.expires_at.unix_seconds(),
        issued_at: signed.issued_at.unix_seconds(),
        hint: String::new(),
    }
}

/// A WIT-SVID, without the hint. The token is moved, not copied.
pub(crate) fn wit_to_proto(id: &SpiffeId, signed: SignedToken) -> types::Witsvid {
    types::Witsvid {
        token: signed.token,
        id: Some(id_to_proto(id)),
        expires_at: signed.expires_at.unix_seconds(),
        issued_at: signed.issued_at.unix_seconds(),
        hint: String::new(),
    }
}
