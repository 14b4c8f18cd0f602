//! Keys about the sockets, and about who may do what on the admin socket.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use credence_identity::{SpiffeId, TrustDomain};
use credence_runtime::config::{Section, safe_path};

use super::DEFAULT_SOCKET_PATH;
use crate::api::admin::AdminPlan;

/// Where the agent listens.
pub(super) struct Sockets {
    /// None if nothing would be served there.
    pub(super) public: Option<PathBuf>,
    pub(super) admin: Option<AdminPlan>,
}

/// `trust_domain` is that of the agent, if it could be read; `is_public` whether anything is served to workloads.
pub(super) fn read(agent: &Section<'_>, trust_domain: Option<&TrustDomain>, is_public: bool) -> Sockets {
    let path = safe_path(agent, "socket_path", DEFAULT_SOCKET_PATH);
    let public = is_public.then_some(path);
    let delegates = delegates(agent, trust_domain);
    let admin = agent.string("admin_socket_path").map(|_| {
        let socket = safe_path(agent, "admin_socket_path", "");
        if public.as_ref().is_some_and(|public| is_beside(&socket, public)) {
            agent.fault(
                "admin_socket_path",
                "admin socket cannot be in the same directory or a subdirectory as that containing the Workload API \
                 socket",
            );
        }
        AdminPlan { socket, delegates }
    });
    Sockets { public, admin }
}

/// Whether the path is in the folder of the other, or below it: workloads can open what is there.
fn is_beside(path: &Path, other: &Path) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let other = absolute(other);
    other
        .parent()
        .is_some_and(|folder| absolute(path).starts_with(folder))
}

fn delegates(agent: &Section<'_>, trust_domain: Option<&TrustDomain>) -> BTreeSet<SpiffeId> {
    let mut delegates = BTreeSet::new();
    for text in agent.strings("authorized_delegates") {
        let fault = match SpiffeId::parse(&text.value) {
            Ok(id) if trust_domain.is_none_or(|ours| id.is_member_of(ours)) => {
                delegates.insert(id);
                continue;
            }
            Ok(id) => format!("{:?} is not a member of the agent's trust domain", id.as_str()),
            Err(error) => error.to_string(),
        };
        let message = format!("error validating authorized delegate: {fault}");
        agent.report().fault(text.place, message);
    }
    delegates
}
