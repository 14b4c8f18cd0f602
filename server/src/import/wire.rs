//! What SPIRE keeps as protobuf in its tables: bundles, the journal of authorities, rare attributes of entries.
//!
//! Owns the shape of these messages and nothing else. Times are seconds since the Unix epoch, 0 for none.

/// `spire.common.Bundle`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Bundle {
    #[prost(message, repeated, tag = "2")]
    pub(super) root_cas: Vec<Certificate>,
    #[prost(message, repeated, tag = "3")]
    pub(super) jwt_signing_keys: Vec<PublicKey>,
    /// Seconds.
    #[prost(int64, tag = "4")]
    pub(super) refresh_hint: i64,
    #[prost(uint64, tag = "5")]
    pub(super) sequence_number: u64,
    #[prost(message, repeated, tag = "6")]
    pub(super) wit_signing_keys: Vec<PublicKey>,
}

/// `spire.common.Certificate`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Certificate {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) der_bytes: Vec<u8>,
    #[prost(bool, tag = "2")]
    pub(super) tainted_key: bool,
}

/// `spire.common.PublicKey`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct PublicKey {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) pkix_bytes: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) kid: String,
    #[prost(int64, tag = "3")]
    pub(super) not_after: i64,
    #[prost(bool, tag = "4")]
    pub(super) tainted_key: bool,
}

/// `spire.common.RegistrationEntry.AdditionalAttributes`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct AdditionalAttributes {
    #[prost(bool, tag = "1")]
    pub(super) disable_x509_svid_prefetch: bool,
    #[prost(bool, tag = "2")]
    pub(super) jwt_svid_include_jti: bool,
}

/// `Entries` of the journal.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Journal {
    #[prost(message, repeated, tag = "1")]
    pub(super) x509_cas: Vec<X509CaEntry>,
    #[prost(message, repeated, tag = "2")]
    pub(super) jwt_keys: Vec<TokenKeyEntry>,
    #[prost(message, repeated, tag = "3")]
    pub(super) wit_keys: Vec<TokenKeyEntry>,
}

/// `X509CAEntry` of the journal.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct X509CaEntry {
    #[prost(string, tag = "1")]
    pub(super) slot_id: String,
    #[prost(int64, tag = "2")]
    pub(super) issued_at: i64,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) certificate: Vec<u8>,
    #[prost(int32, tag = "5")]
    pub(super) status: i32,
}

/// `JWTKeyEntry` and `WITKeyEntry` of the journal, which are alike.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct TokenKeyEntry {
    #[prost(string, tag = "1")]
    pub(super) slot_id: String,
    #[prost(int64, tag = "2")]
    pub(super) issued_at: i64,
    #[prost(int64, tag = "3")]
    pub(super) not_after: i64,
    #[prost(string, tag = "4")]
    pub(super) kid: String,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) public_key: Vec<u8>,
    #[prost(int32, tag = "6")]
    pub(super) status: i32,
}

/// `Status` of the journal.
pub(super) mod status {
    pub(in super::super) const ACTIVE: i32 = 3;
    pub(in super::super) const OLD: i32 = 4;
}
