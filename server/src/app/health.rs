//! What the HTTP health endpoint says of a server.

use credence_runtime::health::Findings;

use crate::api::{Context, is_serving};
use crate::registry::Health;

/// As SPIRE names the parts. A server that can't write is live: restarting it would help nobody.
pub(super) fn findings(context: &Context) -> Findings {
    let signing = context
        .authority
        .signing_health()
        .err()
        .map(|error| error.to_string());
    let rotation = context
        .authority
        .rotation_health()
        .err()
        .map(|error| error.to_string());
    let store = match context.registry.health() {
        Health::Ready => None,
        Health::Degraded(why) => Some(why),
    };
    let serving = is_serving(context);
    let live = signing.is_none();
    Findings {
        live,
        ready: live && rotation.is_none() && store.is_none() && serving,
        subsystems: [
            ("server.ca", signing),
            ("server.ca.rotator", rotation),
            ("catalog.datastore", store),
            ("server", (!serving).then(|| "not serving".to_owned())),
        ]
        .into(),
    }
}
