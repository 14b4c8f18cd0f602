//! The certificate we show: that of the SVID of the moment.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use credence_crypto::x509::X509SvidKey;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::{TlsError, provider};
use crate::clock::Clock;

/// Follows a watch; what it holds is made ready for rustls once per SVID.
pub(super) struct OwnCertificate {
    own: watch::Receiver<Arc<X509SvidKey>>,
    ready: ArcSwap<Ready>,
}

struct Ready {
    svid: Arc<X509SvidKey>,
    certified: Arc<CertifiedKey>,
}

impl OwnCertificate {
    pub(super) fn new(own: watch::Receiver<Arc<X509SvidKey>>) -> Result<Self, TlsError> {
        let ready = Ready::of(own.borrow().clone())?;
        Ok(OwnCertificate {
            own,
            ready: ArcSwap::from_pointee(ready),
        })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let svid = self.own.borrow().clone();
        let ready = self.ready.load();
        if Arc::ptr_eq(&ready.svid, &svid) {
            return ready.certified.clone();
        }
        match Ready::of(svid) {
            Ok(fresh) => {
                let certified = fresh.certified.clone();
                self.ready.store(Arc::new(fresh));
                certified
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "Keeping the last X509-SVID for TLS"
                );
                ready.certified.clone()
            }
        }
    }
}

impl Ready {
    fn of(svid: Arc<X509SvidKey>) -> Result<Self, TlsError> {
        let chain = svid
            .svid
            .chain
            .iter()
            .map(|der| CertificateDer::from(der.to_vec()))
            .collect();
        let key = PrivatePkcs8KeyDer::from(svid.key.pkcs8_der().as_slice());
        let key = provider()
            .key_provider
            .load_private_key(PrivateKeyDer::Pkcs8(key).clone_key());
        let certified = Arc::new(CertifiedKey::new(chain, key.map_err(TlsError::OwnCertificate)?));
        Ok(Ready { svid, certified })
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCertificate")
            .field("id", &self.own.borrow().svid.id)
            .finish_non_exhaustive()
    }
}

/// Follows a watch that may hold nothing; then, and when what it holds has ended, nothing is shown.
pub(super) struct LiveCertificate {
    own: watch::Receiver<Option<Arc<X509SvidKey>>>,
    clock: Arc<dyn Clock>,
    ready: ArcSwapOption<Ready>,
}

impl LiveCertificate {
    pub(super) fn new(own: watch::Receiver<Option<Arc<X509SvidKey>>>, clock: Arc<dyn Clock>) -> Self {
        LiveCertificate {
            own,
            clock,
            ready: ArcSwapOption::empty(),
        }
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        let svid = self.own.borrow().clone()?;
        if self.clock.now() >= svid.svid.not_after {
            return None;
        }
        let ready = self.ready.load();
        if let Some(ready) = ready.as_ref().filter(|ready| Arc::ptr_eq(&ready.svid, &svid)) {
            return Some(ready.certified.clone());
        }
        let fresh = Ready::of(svid).inspect_err(|error| {
            tracing::error!(
                error = error as &(dyn std::error::Error + 'static),
                "Unable to use the X509-SVID for TLS"
            );
        });
        let fresh = Arc::new(fresh.ok()?);
        self.ready.store(Some(fresh.clone()));
        Some(fresh.certified.clone())
    }
}

impl ResolvesServerCert for LiveCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

impl fmt::Debug for LiveCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveCertificate").finish_non_exhaustive()
    }
}

/// Shows none: an anonymous caller.
#[derive(Debug)]
pub(super) struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
