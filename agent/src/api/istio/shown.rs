//! The SVID that the listener shows: that of its entry, or the agent's own.

use std::convert::Infallible;
use std::sync::Arc;

use credence_crypto::x509::X509SvidKey;
use credence_identity::SpiffeId;
use credence_runtime::supervisor::Supervisor;
use tokio::sync::watch;

use crate::cache::Cache;

/// Follows the SVID of the entry of that name, or the agent's own. None while there is no such entry, or no signature for
/// it; the entry may come, go and come back.
pub(super) fn follow(
    entry: Option<SpiffeId>,
    cache: &Cache,
    agent: watch::Receiver<Arc<X509SvidKey>>,
    supervisor: &Supervisor,
) -> watch::Receiver<Option<Arc<X509SvidKey>>> {
    let (shown, followed) = watch::channel(None);
    match entry {
        Some(id) => {
            let cache = cache.clone();
            supervisor.spawn("istio-svid", follow_entry(id, cache, shown));
        }
        None => {
            supervisor.spawn("istio-svid", follow_agent(agent, shown));
        }
    }
    followed
}

async fn follow_entry(
    id: SpiffeId,
    cache: Cache,
    shown: watch::Sender<Option<Arc<X509SvidKey>>>,
) -> Result<(), Infallible> {
    let mut subscription = cache.subscribe_to(id.clone());
    let mut warned = false;
    loop {
        let mut identities = subscription.update().identities;
        // Of several entries the oldest, as for callers.
        identities.sort_by(|a, b| (a.entry.created_at, &a.entry.id).cmp(&(b.entry.created_at, &b.entry.id)));
        let first = identities.into_iter().next();
        match &first {
            Some(identity) if identity.entry.dns_names.is_empty() => {
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(
                        spiffe_id = %id,
                        "Istio's clients verify a host name, and the entry of the listener has no DNS names"
                    );
                }
            }
            Some(_) => {}
            None => tracing::warn!(spiffe_id = %id, "The listener for Istio waits for the SVID of its entry"),
        }
        shown.send_replace(first.map(|identity| identity.svid));
        subscription.changed().await;
    }
}

async fn follow_agent(
    mut agent: watch::Receiver<Arc<X509SvidKey>>,
    shown: watch::Sender<Option<Arc<X509SvidKey>>>,
) -> Result<(), Infallible> {
    loop {
        shown.send_replace(Some(agent.borrow_and_update().clone()));
        if agent.changed().await.is_err() {
            // Nothing newer comes any more; what is held ends by itself.
            std::future::pending::<()>().await;
        }
    }
}
