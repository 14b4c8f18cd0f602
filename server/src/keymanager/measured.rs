//! A key manager whose operations are counted.
//!
//! Owns no key: it passes everything on. A signature is a span of the call that asked for it.

use std::sync::Arc;

use credence_crypto::{KeyType, PublicKey, SignError, SignatureForm, Signer};
use credence_runtime::telemetry::{CallCounter, Telemetry};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{KeyManager, KeyManagerError};

/// Counts what `inner` does.
#[derive(Debug)]
pub struct MeasuredKeyManager {
    inner: Arc<dyn KeyManager>,
    telemetry: Telemetry,
    signatures: CallCounter,
}

impl MeasuredKeyManager {
    /// `inner` itself if nothing is measured.
    pub fn wrap(inner: Arc<dyn KeyManager>, telemetry: &Telemetry) -> Arc<dyn KeyManager> {
        if !telemetry.is_on() {
            return inner;
        }
        Arc::new(Self {
            inner,
            telemetry: telemetry.clone(),
            signatures: telemetry.call_counter("server_key_manager.sign_data"),
        })
    }

    fn measured(&self, inner: Arc<dyn Signer>) -> Arc<dyn Signer> {
        Arc::new(MeasuredSigner {
            inner,
            signatures: self.signatures.clone(),
        })
    }
}

impl KeyManager for MeasuredKeyManager {
    fn generate<'a>(
        &'a self,
        id: &'a str,
        key_type: KeyType,
    ) -> BoxFuture<'a, Result<Arc<dyn Signer>, KeyManagerError>> {
        let generated = self.inner.generate(id, key_type);
        async move {
            let generated = self
                .telemetry
                .watch("server_key_manager.generate_key", generated)
                .await;
            generated.map(|key| self.measured(key))
        }
        .boxed()
    }

    fn key(&self, id: &str) -> Option<Arc<dyn Signer>> {
        let found = self.telemetry.measure("server_key_manager.get_public_key", || {
            self.inner.key(id).ok_or(())
        });
        found.ok().map(|key| self.measured(key))
    }
}

#[derive(Debug)]
struct MeasuredSigner {
    inner: Arc<dyn Signer>,
    signatures: CallCounter,
}

impl Signer for MeasuredSigner {
    fn public_key(&self) -> &PublicKey {
        self.inner.public_key()
    }

    fn key_type(&self) -> KeyType {
        self.inner.key_type()
    }

    fn sign(&self, message: &[u8], form: SignatureForm) -> Result<Vec<u8>, SignError> {
        let call = self.signatures.start();
        let signed = self.inner.sign(message, form);
        call.end(&signed);
        signed
    }
}
