//! By what the very first contact with the server is trusted.
//!
//! Owns the operator's bundle: a file, a URL, or none by explicit wish. Never writes one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::bundle;
use credence_identity::{Bundle, TrustDomain, X509Authority};

use crate::config::{BundleFormat, BundleSource};

const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(30);
/// Larger than any bundle.
const MAX_DOWNLOAD_BYTES: usize = 4 * 1024 * 1024;

/// Why there is no first bundle.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The file can't be read.
    #[error("could not parse trust bundle: unable to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The download failed.
    #[error("unable to fetch trust bundle URL {url}")]
    Download {
        /// The URL.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The download is larger than any bundle.
    #[error("trust bundle at {url} is too large")]
    TooLarge {
        /// The URL.
        url: String,
    },
    /// The text isn't a bundle of the form configured.
    #[error("could not parse trust bundle")]
    Parse(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no certificate in it.
    #[error("no certificates found in trust bundle")]
    Empty,
}

/// The first bundle; none if whoever answers is to be believed.
pub(crate) async fn load(
    source: &BundleSource,
    trust_domain: &TrustDomain,
) -> Result<Option<Arc<Bundle>>, BootstrapError> {
    let (text, format) = match source {
        BundleSource::Insecure => return Ok(None),
        BundleSource::Path(path, format) => {
            let read = tokio::fs::read_to_string(path).await;
            (
                read.map_err(|source| BootstrapError::Read {
                    path: path.clone(),
                    source,
                })?,
                *format,
            )
        }
        BundleSource::Url(url, format) => (download(url).await?, *format),
    };
    parse(&text, format, trust_domain).map(|bundle| Some(Arc::new(bundle)))
}

fn parse(text: &str, format: BundleFormat, trust_domain: &TrustDomain) -> Result<Bundle, BootstrapError> {
    let bundle = match format {
        BundleFormat::Pem => {
            let x509_authorities =
                bundle::x509_from_pem(text).map_err(|error| BootstrapError::Parse(Box::new(error)))?;
            Bundle {
                x509_authorities,
                ..Bundle::empty(trust_domain.clone())
            }
        }
        BundleFormat::Spiffe => bundle::parse_spiffe(trust_domain, text.as_bytes())
            .map_err(|error| BootstrapError::Parse(Box::new(error)))?,
    };
    if bundle.x509_authorities.is_empty() {
        return Err(BootstrapError::Empty);
    }
    Ok(bundle)
}

/// A bundle of these roots alone, as the state file keeps it.
pub(crate) fn from_certificates(
    trust_domain: &TrustDomain,
    certificates: impl IntoIterator<Item = Arc<[u8]>>,
) -> Bundle {
    let authorities = certificates
        .into_iter()
        .map(|der| X509Authority { der, tainted: false });
    Bundle {
        x509_authorities: authorities.collect(),
        ..Bundle::empty(trust_domain.clone())
    }
}

async fn download(url: &str) -> Result<String, BootstrapError> {
    let failed = |source| BootstrapError::Download {
        url: url.to_owned(),
        source,
    };
    let client = reqwest::Client::builder()
        .https_only(true)
        .timeout(DOWNLOAD_DEADLINE)
        .build()
        .map_err(failed)?;
    let mut response = client
        .get(url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(failed)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_DOWNLOAD_BYTES {
            return Err(BootstrapError::TooLarge { url: url.to_owned() });
        }
    }
    String::from_utf8(body).map_err(|error| BootstrapError::Parse(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use credence_crypto::x509::{CaSubject, X509Ca};
    use credence_crypto::{KeyType, PrivateKey};

    use super::*;
    use crate::cache::testing::{START, trust_domain};

    #[tokio::test]
    async fn a_file_of_either_form_gives_the_roots() {
        let key = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
        let end = START + Duration::from_secs(3600);
        let ca = X509Ca::self_sign(key, &trust_domain(), &CaSubject::default(), START, end).unwrap();
        let expected = from_certificates(&trust_domain(), [ca.certificate().der().clone()]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle");
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE", ca.certificate().der().to_vec()));
        for (text, format) in [
            (pem, BundleFormat::Pem),
            (bundle::to_spiffe_json(&expected), BundleFormat::Spiffe),
        ] {
            std::fs::write(&path, text).unwrap();
            let source = BundleSource::Path(path.clone(), format);
            let loaded = load(&source, &trust_domain()).await.unwrap().unwrap();
            assert_eq!(loaded.x509_authorities, expected.x509_authorities);
        }
        for bad in [
            "",
            "{}",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&path, bad).unwrap();
            for format in [BundleFormat::Pem, BundleFormat::Spiffe] {
                let source = BundleSource::Path(path.clone(), format);
                load(&source, &trust_domain()).await.unwrap_err();
            }
        }
        let missing = BundleSource::Path(folder.path().join("none"), BundleFormat::Pem);
        assert!(matches!(
            load(&missing, &trust_domain()).await,
            Err(BootstrapError::Read { .. })
        ));
        assert!(
            load(&BundleSource::Insecure, &trust_domain())
                .await
                .unwrap()
                .is_none()
        );
    }

    #[tokio::test]
    async fn a_url_without_tls_is_refused() {
        let source = BundleSource::Url("http://127.0.0.1:1/bundle".to_owned(), BundleFormat::Pem);
        assert!(matches!(
            load(&source, &trust_domain()).await,
            Err(BootstrapError::Download { .. })
        ));
    }
}
