//! Certificates for keys that stay with somebody else.

use std::fmt;

use credence_crypto::x509::X509Svid;
use credence_identity::EntryId;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::server::{CallError, Server};

/// Who signs CSRs that others made.
pub(crate) trait SignCsr: fmt::Debug + Send + Sync {
    /// An SVID of the entry for the key of that CSR (DER), within the deadline of calls to the server. What the server
    /// answers is as it came: whether it fits the CSR is for the caller to check.
    ///
    /// Cancel safe.
    fn sign(&self, entry: EntryId, csr: Vec<u8>) -> BoxFuture<'static, Result<X509Svid, CallError>>;
}

impl SignCsr for Server {
    fn sign(&self, entry: EntryId, csr: Vec<u8>) -> BoxFuture<'static, Result<X509Svid, CallError>> {
        let server = self.clone();
        async move { server.lend_x509_svid(entry, csr).await }.boxed()
    }
}
