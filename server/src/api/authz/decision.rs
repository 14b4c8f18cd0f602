//! Whether a caller may call a method.
//!
//! Owns the order of the questions, SPIRE's: anyone, local, admin, downstream, agent. It reads the registry's state in
//! memory and changes nothing: the first use of a renewed SVID is reported, and [`super::super::gate`] activates it.
//!
//! Invariant: an expired SVID, an expired entry and a banned node authorise nothing.

use std::collections::HashSet;

use credence_identity::{SpiffeId, Timestamp};
use credence_proto::spire::api::types::permission_denied_details::Reason;

use super::super::caller::Caller;
use super::Classes;
use crate::registry::State;

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allow(Authorized),
    /// An agent that shows a renewed SVID for the first time: allowed once its serial is the current one.
    Activate,
    /// With the reason that goes into the status, if the caller could have been an agent.
    Deny(Option<Reason>),
}

/// As whom a caller was let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Authorized {
    /// Anyone may, or nobody was.
    #[default]
    Nobody,
    Local,
    ConfiguredAdmin,
    Admin,
    Downstream,
    Agent,
}

impl Authorized {
    /// In the words of SPIRE's audit log.
    pub(crate) const fn who(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Local => "local",
            Self::ConfiguredAdmin | Self::Admin => "admin",
            Self::Downstream => "downstream",
            Self::Agent => "agent",
        }
    }

    /// By what that was known, in the same words.
    pub(crate) const fn how(self) -> &'static str {
        match self {
            Self::Nobody => "",
            Self::Local => "transport",
            Self::ConfiguredAdmin => "config",
            Self::Admin | Self::Downstream => "entries",
            Self::Agent => "datastore",
        }
    }
}

/// Where an agent's SVID stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its serial is the node's current one.
    Current,
    /// Its serial is that of the SVID the node was last renewed with, which it hasn't used yet.
    Renewed,
}

/// Decides for a method that `allow` may call. `admins` are the `admin_ids` of the configuration.
pub(crate) fn decide(
    state: &State,
    admins: &HashSet<SpiffeId>,
    caller: &Caller,
    allow: Classes,
    now: Timestamp,
) -> Verdict {
    if allow.has(Classes::ANYONE) {
        return Verdict::Allow(Authorized::Nobody);
    }
    if allow.has(Classes::LOCAL) && caller.is_local() {
        return Verdict::Allow(Authorized::Local);
    }
    let Caller::Peer {
        id,
        serial,
        not_after,
        ..
    } = caller
    else {
        return Verdict::Deny(None);
    };
    let by_id = by_spiffe_id(state, admins, id, allow, now);
    if let Some(authorized) = by_id.filter(|_| now < *not_after) {
        return Verdict::Allow(authorized);
    }
    if !allow.has(Classes::AGENT) {
        return Verdict::Deny(None);
    }
    match standing(state, id, serial, *not_after, now) {
        Ok(Standing::Current) => Verdict::Allow(Authorized::Agent),
        Ok(Standing::Renewed) => Verdict::Activate,
        Err(reason) => Verdict::Deny(Some(reason)),
    }
}

/// Whether the SPIFFE ID alone allows it: an admin or a downstream server.
fn by_spiffe_id(
    state: &State,
    admins: &HashSet<SpiffeId>,
    id: &SpiffeId,
    allow: Classes,
    now: Timestamp,
) -> Option<Authorized> {
    let (admin, downstream) = (allow.has(Classes::ADMIN), allow.has(Classes::DOWNSTREAM));
    if admin && admins.contains(id) {
        return Some(Authorized::ConfiguredAdmin);
    }
    if !admin && !downstream {
        return None;
    }
    let mut found = None;
    let entries = state.entries_by_spiffe_id(id);
    for (_, entry) in entries.filter(|(_, entry)| !entry.is_expired_at(now)) {
        if admin && entry.admin {
            return Some(Authorized::Admin);
        }
        if downstream && entry.downstream {
            found = Some(Authorized::Downstream);
        }
    }
    found
}

/// Where the SVID of an agent stands: its node must exist, must not be banned, and must know the serial.
///
/// # Errors
///
/// The reason that agents act on.
pub(crate) fn standing(
    state: &State,
    id: &SpiffeId,
    serial: &str,
    not_after: Timestamp,
    now: Timestamp,
) -> Result<Standing, Reason> {
    if now >= not_after {
        return Err(Reason::AgentExpired);
    }
    let node = state.node(id).ok_or(Reason::AgentNotAttested)?;
    if node.is_banned() {
        Err(Reason::AgentBanned)
    } else if node.serial == serial {
        Ok(Standing::Current)
    } else if node.new_serial.as_deref() == Some(serial) {
        Ok(Standing::Renewed)
    } else {
        Err(Reason::AgentNotActive)
    }
}
