//! By what the very first contact with the server is trusted.
//!
//! Owns the operator's bundle: a file, a URL, another agent's, or none by explicit wish. Never writes one.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::bundle;
use credence_crypto::x509::Certificate;
use credence_identity::{Bundle, Timestamp, TrustDomain, X509Authority};
use credence_proto::spiffe_workload::X509BundlesRequest;
use credence_proto::spiffe_workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use credence_runtime::grpc::connect_unix_lazy;
use reqwest::{Client, Url};
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use super::contact::{BundleFormat, BundleSource, ServerAddress};

const DOWNLOAD_DEADLINE: Duration = Duration::from_secs(30);
/// As SPIRE's agent has it.
const WORKLOAD_API_DEADLINE: Duration = Duration::from_secs(60);
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
    /// The other agent gave nothing.
    #[error("unable to fetch trust bundle from SPIFFE Workload API unix://{}", socket.display())]
    WorkloadApi {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: Box<Status>,
    },
    /// The other agent knows nothing of the trust domain.
    #[error(
        "SPIFFE Workload API unix://{} did not provide a trust bundle for trust domain {trust_domain:?}",
        socket.display()
    )]
    NotProvided {
        /// Its socket.
        socket: PathBuf,
        /// The trust domain's name.
        trust_domain: String,
    },
    /// The text isn't a bundle of the form configured.
    #[error("could not parse trust bundle")]
    Parse(#[source] Box<dyn Error + Send + Sync>),
    /// There is no certificate in it.
    #[error("no certificates found in trust bundle")]
    Empty,
}

/// Who asks for a bundle, and the how manieth time: a service behind a Unix socket is told.
#[derive(Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) trust_domain: &'a TrustDomain,
    pub(crate) server: &'a ServerAddress,
    /// Whether the server was trusted before.
    pub(crate) again: bool,
    pub(crate) began: Timestamp,
    pub(crate) attempts: u32,
}

/// The first bundle; none if whoever answers is to be believed.
pub(crate) async fn load(
    source: &BundleSource,
    asker: &Asker<'_>,
) -> Result<Option<Arc<Bundle>>, BootstrapError> {
    let trust_domain = asker.trust_domain;
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
        BundleSource::Url(url, format) => {
            let client = Client::builder().https_only(true);
            (download(client, url).await?, *format)
        }
        BundleSource::Socket { url, socket, format } => {
            let client = Client::builder().unix_socket(socket.as_path());
            (download(client, &asker.signed(url)).await?, *format)
        }
        BundleSource::WorkloadApi(socket) => {
            return from_workload_api(socket, trust_domain)
                .await
                .map(|bundle| Some(Arc::new(bundle)));
        }
    };
    parse(&text, format, trust_domain).map(|bundle| Some(Arc::new(bundle)))
}

impl Asker<'_> {
    /// The URL with the parameters that SPIRE's agent adds.
    fn signed(&self, url: &Url) -> Url {
        let mut url = url.clone();
        url.query_pairs_mut()
            .append_pair(
                "spire-attest-mode",
                if self.again { "rebootstrap" } else { "bootstrap" },
            )
            .append_pair("spire-connection-attempts", &self.attempts.to_string())
            .append_pair("spire-attest-start-time", &self.began.to_string())
            .append_pair("spire-server-address", &self.server.host)
            .append_pair("spire-server-port", &self.server.port.to_string())
            .append_pair("spiffe-trust-domain", self.trust_domain.as_str());
        url
    }
}

/// The bundle of that trust domain as another agent has it.
async fn from_workload_api(socket: &Path, trust_domain: &TrustDomain) -> Result<Bundle, BootstrapError> {
    let failed = |status: Status| BootstrapError::WorkloadApi {
        socket: socket.to_owned(),
        source: Box::new(status),
    };
    let mut request = Request::new(X509BundlesRequest {});
    let header = MetadataValue::from_static("true");
    request.metadata_mut().insert("workload.spiffe.io", header);
    let mut client = SpiffeWorkloadApiClient::new(connect_unix_lazy(socket));
    let first = async {
        client
            .fetch_x509_bundles(request)
            .await?
            .into_inner()
            .message()
            .await
    };
    let answer = match timeout(WORKLOAD_API_DEADLINE, first).await {
        Ok(answer) => answer.map_err(failed)?,
        Err(_) => return Err(failed(Status::deadline_exceeded("context deadline exceeded"))),
    };
    let bundles = answer.map(|answer| answer.bundles).unwrap_or_default();
    let der = bundles.get(&trust_domain.id().to_string());
    let der = der.ok_or_else(|| BootstrapError::NotProvided {
        socket: socket.to_owned(),
        trust_domain: trust_domain.to_string(),
    })?;
    let x509_authorities =
        bundle::x509_from_der(der).map_err(|error| BootstrapError::Parse(Box::new(error)))?;
    of_authorities(x509_authorities, trust_domain)
}

fn of_authorities(
    x509_authorities: Vec<X509Authority>,
    trust_domain: &TrustDomain,
) -> Result<Bundle, BootstrapError> {
    if x509_authorities.is_empty() {
        return Err(BootstrapError::Empty);
    }
    Ok(Bundle {
        x509_authorities,
        ..Bundle::empty(trust_domain.clone())
    })
}

fn parse(text: &str, format: BundleFormat, trust_domain: &TrustDomain) -> Result<Bundle, BootstrapError> {
    match format {
        BundleFormat::Pem => {
            let authorities =
                bundle::x509_from_pem(text).map_err(|error| BootstrapError::Parse(Box::new(error)))?;
            of_authorities(authorities, trust_domain)
        }
        BundleFormat::Spiffe => {
            let bundle = bundle::parse_spiffe(trust_domain, text.as_bytes())
                .map_err(|error| BootstrapError::Parse(Box::new(error)))?;
            if bundle.x509_authorities.is_empty() {
                return Err(BootstrapError::Empty);
            }
            Ok(bundle)
        }
    }
}

/// When the last of the bundle's authorities expired, if none is left at that moment.
pub(crate) fn expired_at(bundle: &Bundle, now: Timestamp) -> Option<Timestamp> {
    let ends = bundle
        .x509_authorities
        .iter()
        .filter_map(|authority| Certificate::from_der(&authority.der).ok())
        .map(|certificate| certificate.not_after());
    ends.max().filter(|end| *end <= now)
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

async fn download(client: reqwest::ClientBuilder, url: &Url) -> Result<String, BootstrapError> {
    let failed = |source: reqwest::Error| BootstrapError::Download {
        url: url.to_string(),
        // It names the URL too.
        source: source.without_url(),
    };
    let client = client.timeout(DOWNLOAD_DEADLINE).build().map_err(failed)?;
    let mut response = client
        .get(url.clone())
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(failed)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_DOWNLOAD_BYTES {
            return Err(BootstrapError::TooLarge { url: url.to_string() });
        }
    }
    String::from_utf8(body).map_err(|error| BootstrapError::Parse(Box::new(error)))
}

#[cfg(test)]
mod tests;
