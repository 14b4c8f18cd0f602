//! The reasons why an entry reaches no workload, and why a call was refused, each with its fix.

use std::fmt;

use credence_identity::diagnosis::Cause;
use credence_identity::{EntryId, Selector, SpiffeId, Timestamp};

/// Why an entry reaches no workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryCause {
    Unknown {
        id: EntryId,
        meant: Option<String>,
    },
    NoEntry {
        id: SpiffeId,
        meant: Option<String>,
    },
    Expired {
        id: EntryId,
        at: Timestamp,
    },
    WorkloadBelowServer {
        id: EntryId,
    },
    ParentUnknown {
        id: EntryId,
        parent: SpiffeId,
        meant: Option<String>,
    },
    AgentUnknown {
        id: EntryId,
        agent: SpiffeId,
        meant: Option<String>,
    },
    AgentBanned {
        agent: SpiffeId,
    },
    AgentExpired {
        agent: SpiffeId,
        at: Timestamp,
    },
    AgentAway {
        agent: SpiffeId,
        seen: Option<Timestamp>,
    },
    ParentExpired {
        id: EntryId,
        parent: SpiffeId,
        at: Timestamp,
    },
    ParentLoop {
        id: EntryId,
    },
    AliasUnmatched {
        id: EntryId,
        spiffe_id: SpiffeId,
        selector: Option<Selector>,
        nearest: Option<SpiffeId>,
    },
    NotBelow {
        id: EntryId,
        agent: SpiffeId,
    },
    StrangeSelector {
        id: EntryId,
        selector: Selector,
        meant: &'static str,
    },
    BundleMissing {
        id: EntryId,
        trust_domain: String,
    },
    StoreDown(String),
    RotationStuck(String),
    CannotSign(String),
}

fn meant(meant: Option<&String>) -> String {
    meant
        .map(|meant| format!("; {meant} was meant?"))
        .unwrap_or_default()
}

impl fmt::Display for EntryCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { id, meant: text } => write!(f, "there is no entry {id}{}", meant(text.as_ref())),
            Self::NoEntry { id, meant: text } => write!(f, "no entry gives {id}{}", meant(text.as_ref())),
            Self::Expired { id, at } => write!(f, "entry {id} expired at {at}"),
            Self::WorkloadBelowServer { id } => write!(
                f,
                "entry {id} hangs below the server itself, so it names nodes, but its selectors are those of a process"
            ),
            Self::ParentUnknown {
                id,
                parent,
                meant: text,
            } => write!(
                f,
                "entry {id} hangs below {parent}, which is neither an attested agent nor the ID of an entry{}",
                meant(text.as_ref())
            ),
            Self::AgentUnknown {
                id,
                agent,
                meant: text,
            } => write!(
                f,
                "entry {id} hangs below {agent}, but no such agent is attested{}",
                meant(text.as_ref())
            ),
            Self::AgentBanned { agent } => write!(f, "the agent {agent} is banned"),
            Self::AgentExpired { agent, at } => write!(f, "the SVID of the agent {agent} expired at {at}"),
            Self::AgentAway {
                agent,
                seen: Some(at),
            } => {
                write!(
                    f,
                    "the agent {agent} was last here at {at}, so it has no news since"
                )
            }
            Self::AgentAway { agent, seen: None } => {
                write!(f, "the agent {agent} was not here since this server started")
            }
            Self::ParentExpired { id, parent, at } => {
                write!(
                    f,
                    "the parent {parent} is given by entry {id}, which expired at {at}"
                )
            }
            Self::ParentLoop { id } => write!(f, "the parents go round in a circle at entry {id}"),
            Self::AliasUnmatched {
                id,
                spiffe_id,
                selector,
                nearest,
            } => {
                write!(f, "no attested node is a {spiffe_id} (entry {id})")?;
                match (selector, nearest) {
                    (Some(selector), Some(node)) => write!(f, ": the nearest, {node}, lacks {selector}"),
                    (Some(selector), None) => write!(f, ": no node has {selector}"),
                    (None, _) => f.write_str(": it asks for no selectors"),
                }
            }
            Self::NotBelow { id, agent } => write!(f, "the parents of entry {id} do not lead to {agent}"),
            Self::StrangeSelector { id, selector, meant } => write!(
                f,
                "entry {id} asks for {selector}, which no workload attestor makes; {meant} was meant?"
            ),
            Self::BundleMissing { id, trust_domain } => {
                write!(
                    f,
                    "entry {id} federates with {trust_domain}, whose bundle is not here"
                )
            }
            Self::StoreDown(why) => write!(f, "the datastore does not take changes: {why}"),
            Self::RotationStuck(why) => write!(f, "the authorities are not renewed: {why}"),
            Self::CannotSign(why) => write!(f, "the server can't sign an X.509-SVID: {why}"),
        }
    }
}

impl Cause for EntryCause {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "entry-unknown",
            Self::NoEntry { .. } => "no-entry",
            Self::Expired { .. } => "entry-expired",
            Self::WorkloadBelowServer { .. } => "workload-below-server",
            Self::ParentUnknown { .. } => "parent-unknown",
            Self::AgentUnknown { .. } => "parent-agent-unknown",
            Self::AgentBanned { .. } => "agent-banned",
            Self::AgentExpired { .. } => "agent-svid-expired",
            Self::AgentAway { .. } => "agent-away",
            Self::ParentExpired { .. } => "parent-expired",
            Self::ParentLoop { .. } => "parent-loop",
            Self::AliasUnmatched { .. } => "alias-selector-missing",
            Self::NotBelow { .. } => "other-parent",
            Self::StrangeSelector { .. } => "selector-unknown",
            Self::BundleMissing { .. } => "bundle-missing",
            Self::StoreDown(_) => "datastore-down",
            Self::RotationStuck(_) => "authority-stuck",
            Self::CannotSign(_) => "authority-unusable",
        }
    }

    fn fix(&self) -> String {
        match self {
            Self::Unknown { .. } => "`server entry show` lists the entries".into(),
            Self::NoEntry { id, .. } => {
                format!("`server entry create -spiffeID {id} -parentID … -selector …`")
            }
            Self::Expired { id, .. } | Self::ParentExpired { id, .. } => {
                format!(
                    "`server entry update -entryID {id} -entryExpiry …` with a later time, or create it anew"
                )
            }
            Self::WorkloadBelowServer { id } => format!(
                "`server entry update -entryID {id} -parentID AGENT`: `server agent list` shows the agents' IDs"
            ),
            Self::ParentUnknown { id, .. } => {
                format!(
                    "`server entry update -entryID {id} -parentID …` with an agent's ID or the ID of a node's entry"
                )
            }
            Self::AgentUnknown { id, .. } => format!(
                "attest that agent, or `server entry update -entryID {id} -parentID …`: `server agent list` shows the agents"
            ),
            Self::AgentBanned { agent } => {
                format!(
                    "if the ban was a mistake: `server agent evict -spiffeID {agent}`, then attest the agent anew"
                )
            }
            Self::AgentExpired { .. } => "attest the agent anew".into(),
            Self::AgentAway { .. } => {
                "start the agent, and see on its node what `credence explain pid` says".into()
            }
            Self::ParentLoop { id } => format!("give entry {id} an agent's ID as parent"),
            Self::AliasUnmatched { id, .. } => {
                format!(
                    "update the selectors of entry {id} to what `server agent show` prints of the node that is meant"
                )
            }
            Self::NotBelow { id, agent } => {
                format!("`server entry update -entryID {id} -parentID {agent}`, or an ID that this agent has")
            }
            Self::StrangeSelector { id, .. } => format!("correct the selector of entry {id}"),
            Self::BundleMissing { trust_domain, .. } => {
                format!("`server bundle set -id spiffe://{trust_domain}`")
            }
            Self::StoreDown(_) => "free the disk or the database; what is there is served meanwhile".into(),
            Self::CannotSign(_) => {
                "`server localauthority x509 show` tells until when the authority is good; compare the clock, and see the \
                 server's log"
                    .into()
            }
            Self::RotationStuck(_) => {
                "see the server's log for what the key manager or the datastore says".into()
            }
        }
    }
}

/// Why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallCause {
    SvidExpired,
    NotAttested,
    Banned,
    Superseded,
    NotAllowedLocal,
    NotAllowed,
    Anonymous,
    Unimplemented,
    JoinTokenUnknown,
    JoinTokenExpired,
    AttestorUnknown,
    ProofRefused,
    Invalid,
    NotFound,
    Exhausted,
    Fault,
}

impl CallCause {
    const fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::SvidExpired => (
                "agent-svid-expired",
                "the agent's SVID has expired",
                "attest the agent anew, and compare the clocks of both machines",
            ),
            Self::NotAttested => (
                "agent-not-attested",
                "no agent with this ID is attested: it was evicted, or the datastore is another one",
                "attest the agent anew",
            ),
            Self::Banned => (
                "agent-banned",
                "the agent is banned",
                "if the ban was a mistake: `server agent evict`, then attest the agent anew",
            ),
            Self::Superseded => (
                "agent-svid-superseded",
                "the agent shows an SVID that is not its newest: two agents share one data_dir, or it was restored",
                "give each agent its own data_dir, and attest this one anew",
            ),
            Self::NotAllowedLocal => (
                "not-allowed",
                "the call is for agents, not for who calls over the Unix socket",
                "let the agent make the call",
            ),
            Self::NotAllowed => (
                "not-allowed",
                "the caller's SPIFFE ID has no right to the call: it is no agent, and no entry marks it as admin or downstream",
                "mark its entry with -admin or -downstream, name it in admin_ids, or call over the Unix socket",
            ),
            Self::Anonymous => (
                "no-certificate",
                "the caller showed no certificate",
                "call with an X.509-SVID, or over the Unix socket",
            ),
            Self::Unimplemented => (
                "not-implemented",
                "the server has no such call, or not on this port",
                "compare the versions of both programs; some calls are on the Unix socket only",
            ),
            Self::JoinTokenUnknown => (
                "join-token-unknown",
                "the join token does not exist or has been used",
                "make a new one with `server token generate`: a token works once",
            ),
            Self::JoinTokenExpired => (
                "join-token-expired",
                "the join token has expired",
                "make a new one with `server token generate`, with a longer -ttl if need be",
            ),
            Self::AttestorUnknown => (
                "node-attestor-unknown",
                "the server has no node attestor of this type",
                "configure the same NodeAttestor in the server's plugins as in the agent's",
            ),
            Self::ProofRefused => (
                "node-proof-refused",
                "the node attestor does not take what the agent shows of its node",
                "the answer says what is wrong; compare what the agent's NodeAttestor shows with what the server's trusts",
            ),
            Self::Invalid => ("bad-request", "the request can't be answered", "correct the call"),
            Self::NotFound => (
                "not-found",
                "what was asked for is not there, or is not the caller's",
                "`credence explain entry` or `credence explain spiffe-id` says more of an entry",
            ),
            Self::Exhausted => (
                "limit",
                "the call was more than the limits allow",
                "ask for less at a time",
            ),
            Self::Fault => ("server-fault", "the server failed", "see the server's log"),
        }
    }
}

impl fmt::Display for CallCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().1)
    }
}

impl Cause for CallCause {
    fn code(&self) -> &'static str {
        self.row().0
    }

    fn fix(&self) -> String {
        self.row().2.to_owned()
    }
}
