//! From documents to the bytes of files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use credence_crypto::bundle::{certificate_to_pem, private_key_to_pem};
use credence_crypto::keystore::{KeyStoreError, StoreContents, to_jks, to_pkcs12};
use credence_crypto::x509::Certificate;
use credence_identity::Timestamp;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::batch::{Batch, Named, Rendered};
use super::job::{StoreForm, X509Files};
use super::material::Material;
use super::password::{PasswordError, read_password};
use super::target::Target;

/// Why there is nothing to be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenderError {
    /// No password for a key store.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// No key store.
    #[error("unable to make the key store {}", name.display())]
    KeyStore {
        /// Its name.
        name: PathBuf,
        /// Why.
        #[source]
        source: KeyStoreError,
    },
}

impl X509Files {
    /// The files, those first that others follow. Blocks on the disk and on the derivation of keys from passwords.
    ///
    /// # Errors
    /// [`RenderError`]: all or none are written.
    pub(crate) fn render(
        &self,
        material: &Material,
        target: &Target,
        now: Timestamp,
    ) -> Result<Vec<Batch>, RenderError> {
        let valid = |certificate: &&Certificate| !self.omit_expired || now <= certificate.not_after();
        let (mut chain, mut bundle): (Vec<_>, Vec<_>) =
            (material.chain.iter().collect(), material.bundle.iter().collect());
        let stores = self.stores(material, target, now)?;
        if self.intermediates_in_bundle {
            bundle.extend(chain.drain(chain.len().min(1)..));
        }
        if self.federated {
            bundle.extend(material.federated.values().flatten());
        }
        chain.retain(valid);
        bundle.retain(valid);

        let key = private_key_to_pem(material.svid.key.pkcs8_der());
        let key = || Zeroizing::new(key.as_bytes().to_vec());
        let mut batches = Vec::new();
        let bundle_file = self.bundle.as_ref().map(|file| Rendered::new(file, pem(&bundle)));
        match (&self.pair, bundle_file) {
            (Some((svid_file, key_file)), bundle_file) => {
                let mut files = vec![
                    Rendered::new(svid_file, pem(&chain)),
                    Rendered::new(key_file, key()),
                ];
                files.extend(bundle_file);
                batches.push(Batch::Generation(files));
            }
            (None, bundle_file) => batches.extend(bundle_file.map(Batch::Single)),
        }
        if let Some(file) = &self.combined {
            // Sized beforehand: growing would leave a copy of the key behind.
            let (chain, key) = (pem(&chain), key());
            let mut bytes = Zeroizing::new(Vec::with_capacity(chain.len() + key.len()));
            bytes.extend_from_slice(&chain);
            bytes.extend_from_slice(&key);
            batches.push(Batch::Single(Rendered::new(file, bytes)));
        }
        batches.extend(stores.into_iter().map(Batch::Single));
        Ok(batches)
    }

    /// Key stores have the whole chain beside the key, wherever other files have it.
    fn stores(
        &self,
        material: &Material,
        target: &Target,
        now: Timestamp,
    ) -> Result<Vec<Rendered>, RenderError> {
        let valid = |certificate: &&Certificate| !self.omit_expired || now <= certificate.not_after();
        let ders = |certificates: &mut dyn Iterator<Item = &Certificate>| -> Vec<Arc<[u8]>> {
            let valid = certificates.filter(|certificate| valid(certificate));
            valid.map(|certificate| certificate.der().clone()).collect()
        };
        let foreign = material.federated.values().flatten().filter(|_| self.federated);
        let contents = StoreContents {
            key: &material.svid.key,
            chain: &ders(&mut material.chain.iter()),
            authorities: &ders(&mut material.bundle.iter().chain(foreign)),
            now,
        };
        let render = |store: &super::job::StoreFile| {
            let password = read_password(&store.password_file, target)?;
            let made = match store.form {
                StoreForm::Pkcs12 => to_pkcs12(&contents, &password),
                StoreForm::Jks => to_jks(&contents, &password),
            };
            let bytes = made.map_err(|source| RenderError::KeyStore {
                name: store.file.name.clone(),
                source,
            })?;
            Ok(Rendered::new(&store.file, Zeroizing::new(bytes)))
        };
        self.stores.iter().map(render).collect()
    }
}

/// All JWT bundles as spiffe-helper writes them: a JSON object of Base64 JWK Sets by trust domain.
pub(crate) fn jwt_bundles(file: &Named, bundles: &BTreeMap<String, String>) -> Batch {
    // Without the blanks of what is meant for people.
    let compact = |keys: &String| {
        serde_json::from_str(keys).map_or_else(|_| keys.clone(), |keys: Value| keys.to_string())
    };
    let encoded = bundles
        .iter()
        .map(|(name, keys)| (name.clone(), Value::String(STANDARD.encode(compact(keys)))));
    let text = Value::Object(Map::from_iter(encoded)).to_string();
    Batch::Single(Rendered::new(file, Zeroizing::new(text.into_bytes())))
}

fn pem(certificates: &[&Certificate]) -> Zeroizing<Vec<u8>> {
    let blocks = certificates
        .iter()
        .map(|certificate| certificate_to_pem(certificate.der()));
    Zeroizing::new(blocks.collect::<String>().into_bytes())
}
