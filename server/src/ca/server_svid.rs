//! The server's own X509-SVID, by which agents know it: its key is in memory only and new with each renewal.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::x509::{Certificate, X509SvidKey};
use credence_crypto::{PrivateKey, Signer};
use credence_identity::rotation::renew_at;
use credence_identity::{Bundle, SpiffeId, X509Authority};
use credence_runtime::clock::sleep_until;
use tokio::sync::watch;

use super::sign::Signing;
use super::{Authority, AuthorityError};
use crate::registry::Registry;

/// After a failure the renewal is tried again this much later, as often as SPIRE looks.
const RETRY: Duration = Duration::from_secs(5);

/// Makes a key and signs an SVID for it.
pub(super) async fn issue(signing: &Signing<'_>) -> Result<Arc<X509SvidKey>, AuthorityError> {
    let key_type = signing.settings.x509_key_type;
    // An RSA key takes seconds.
    let made = tokio::task::spawn_blocking(move || PrivateKey::generate(key_type)).await;
    let key = made.map_err(|_| AuthorityError::Closed)??;
    let svid = signing
        .server_svid(key.public_key())
        .map_err(AuthorityError::ServerSvid)?;
    Ok(Arc::new(X509SvidKey { svid, key }))
}

/// Renews the SVID at half of its life, and at once when an authority that could have signed it is tainted.
pub(super) async fn run(
    authority: Authority,
    registry: Registry,
    publish: watch::Sender<Arc<X509SvidKey>>,
    mut steps: watch::Receiver<u64>,
) -> Result<(), Infallible> {
    // Subscribers learn of each change of the trust domain's own bundle, whatever their ID.
    let mut bundle_changed = registry.subscribe(&SpiffeId::server(&authority.settings().trust_domain));
    let (mut renewal, mut failed) = (due(&authority, &publish), false);
    loop {
        tokio::select! {
            () = sleep_until(authority.clock(), &mut steps, renewal) => {
                tracing::debug!(subsystem_name = "svid_rotator", "Rotating server SVID");
            }
            // After a step of the clock the authorities expired too: theirs comes first.
            () = authority.issuers.activated.notified(), if failed => {}
            () = bundle_changed.changed() => {
                let distrusted = registry.read().own_bundle().is_some_and(|bundle| is_distrusted(bundle, &publish.borrow()));
                if !distrusted {
                    continue;
                }
                tracing::info!(
                    subsystem_name = "svid_rotator",
                    "Server SVID signed using a tainted authority, forcing rotation of the Server SVID"
                );
            }
        }
        let (signing, measured) = (authority.signing(), &authority.issuers.measured);
        let issued = measured.watch("svid.rotate", issue(&signing)).await;
        failed = issued.is_err();
        renewal = match issued {
            Ok(svid) => {
                publish.send_replace(svid);
                due(&authority, &publish)
            }
            Err(error) => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::error!(
                    subsystem_name = "svid_rotator",
                    error,
                    "Could not rotate server SVID"
                );
                authority.clock().now() + RETRY
            }
        };
    }
}

fn due(authority: &Authority, publish: &watch::Sender<Arc<X509SvidKey>>) -> credence_identity::Timestamp {
    renew_at(authority.clock().now(), publish.borrow().svid.not_after, 0.0)
}

/// Whether the authority that signed the SVID is tainted in the bundle, or was revoked.
fn is_distrusted(bundle: &Bundle, held: &X509SvidKey) -> bool {
    let Some(issuer) = held.svid.authority_key_id.as_deref() else {
        return false;
    };
    let issues = |authority: &&X509Authority| {
        Certificate::from_der(&authority.der).is_ok_and(|root| root.subject_key_id() == Some(issuer))
    };
    let mut issuers = bundle.x509_authorities.iter().filter(issues).peekable();
    issuers.peek().is_none() || issuers.any(|authority| authority.tainted)
}
