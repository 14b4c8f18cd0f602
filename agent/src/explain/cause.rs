//! The reasons why a workload of this node has no identity, each with its fix.

use std::fmt;
use std::path::PathBuf;

use credence_identity::diagnosis::{Cause, Gap};
use credence_identity::{EntryId, Selector, SpiffeId, Timestamp};

use super::trouble::Trouble;

/// An entry as a reason names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its key.
    pub(crate) id: EntryId,
    /// The identity it gives.
    pub(crate) spiffe_id: SpiffeId,
}

/// Why a workload has no identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkloadCause {
    /// There is no such process.
    NoProcess(i32),
    /// `disable_workload_api` is set.
    WorkloadApiOff,
    /// The file of the Workload API's socket is gone or another one.
    SocketRemoved(PathBuf),
    /// The process is told of another socket.
    OtherSocket { theirs: String, ours: PathBuf },
    /// A folder or the socket doesn't let the user of the process in.
    SocketShut { part: PathBuf, mode: u32, uid: u32 },
    /// The socket isn't in the mount namespace of the process.
    SocketNotMounted(PathBuf),
    /// A workload attestor failed.
    NotAttested(String),
    /// An entry was meant, but a selector of it is missing.
    SelectorMissing {
        entry: Named,
        selector: Selector,
        gap: Gap,
    },
    /// The agent holds entries, and none has anything in common with the workload.
    NoEntry { held: usize, wanted: Option<SpiffeId> },
    /// The entry that matches has expired.
    EntryExpired { entry: Named, at: Timestamp },
    /// The entry that matched isn't this agent's any more.
    EntryRemoved(Named),
    /// The entry that matches is for SVID stores.
    StoreSvid(Named),
    /// Another entry of the workload has the same hint, and is older.
    HintTaken { entry: Named, by: EntryId },
    /// The agent is authorised for an entry that hasn't reached it.
    NotYetHere(Vec<String>),
    /// An entry matches that hangs under another parent.
    OtherParent,
    /// What the agent holds is out of date.
    OutOfStep {
        since: Option<Timestamp>,
        trouble: Trouble,
    },
    /// The server hasn't signed, and why.
    NotSigned { entry: Named, trouble: Trouble },
    /// The server hasn't signed yet.
    NotSignedYet(Named),
    /// The X.509-SVID is out of its time by this node's clock.
    SvidOutOfTime {
        entry: Named,
        not_before: Timestamp,
        not_after: Timestamp,
    },
    /// A JWT-SVID couldn't be had.
    JwtFailed(String),
    /// The client doesn't send the security header.
    HeaderMissing,
    /// The request makes no sense.
    BadRequest(String),
    /// The agent was stopping.
    Stopping,
    /// This node's clock and the server's are apart by so many seconds; negative: this one is behind.
    ClockApart(i64),
    /// A bundle that an entry of the workload federates with isn't there.
    BundleMissing { entry: Named, trust_domain: String },
    /// The agent has only just started.
    Starting,
    /// The agent isn't attested.
    Agent(Trouble),
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} ({})", self.id, self.spiffe_id)
    }
}

/// Why a selector is missing, in words.
fn why(gap: &Gap) -> String {
    match gap {
        Gap::UnknownType(_) => "and no workload attestor of this agent makes selectors of that type".into(),
        Gap::UnknownKind(_) => "and the attestor makes no selectors of that kind".into(),
        Gap::SwitchedOff(_) => "which the attestor is not configured to find out".into(),
        Gap::OtherValue(found) => format!("the workload has {found}"),
        Gap::Absent => "the workload has nothing of the kind".into(),
    }
}

/// How far apart two clocks are, in words.
fn apart(seconds: i64) -> String {
    let count = seconds.unsigned_abs();
    if seconds < 0 {
        format!("this node's clock is {count} s behind the server's, so new SVIDs are not valid here yet")
    } else {
        format!("this node's clock is {count} s ahead of the server's")
    }
}

impl fmt::Display for WorkloadCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProcess(pid) => write!(f, "there is no process {pid}"),
            Self::WorkloadApiOff => {
                f.write_str("the agent serves no Workload API: disable_workload_api is set")
            }
            Self::SocketRemoved(path) => write!(
                f,
                "the socket {} was removed or replaced while the agent serves it",
                path.display()
            ),
            Self::OtherSocket { theirs, ours } => write!(
                f,
                "the process looks for the Workload API at {theirs} (SPIFFE_ENDPOINT_SOCKET), the agent serves it at {}",
                ours.display()
            ),
            Self::SocketShut { part, mode, uid } => write!(
                f,
                "{} (mode {mode:04o}) does not let uid {uid} through to the Workload API's socket",
                part.display()
            ),
            Self::SocketNotMounted(path) => write!(
                f,
                "the process does not see {} in its mount namespace (a container without the volume?)",
                path.display()
            ),
            Self::NotAttested(why) => write!(f, "the workload can't be attested: {why}"),
            Self::SelectorMissing { entry, selector, gap } => {
                write!(f, "{entry} asks for {selector}, {}", why(gap))
            }
            Self::NoEntry { wanted: Some(id), .. } => {
                write!(f, "the agent holds no entry that gives {id}")
            }
            Self::NoEntry { held: 0, .. } => f.write_str("the agent is authorised for no entry at all"),
            Self::NoEntry { held, .. } => write!(
                f,
                "none of the {held} entries of this agent has anything in common with the workload"
            ),
            Self::EntryExpired { entry, at } => write!(f, "{entry} matches, but expired at {at}"),
            Self::EntryRemoved(entry) => write!(
                f,
                "{entry} matched, but was deleted, or its parent no longer leads to this agent"
            ),
            Self::StoreSvid(entry) => write!(
                f,
                "{entry} matches, but is marked for SVID stores (storeSVID), so it is not served to callers"
            ),
            Self::HintTaken { entry, by } => {
                write!(
                    f,
                    "{entry} matches, but entry {by} has the same hint and is older"
                )
            }
            Self::NotYetHere(ids) => write!(
                f,
                "entry {} matches and is this agent's, but has not reached it yet",
                ids.join(", ")
            ),
            Self::OtherParent => f.write_str(
                "an entry with these selectors exists, but its parent does not lead to this agent",
            ),
            Self::OutOfStep {
                since: Some(at),
                trouble,
            } => {
                write!(
                    f,
                    "the agent holds what it was told at {at}, and nothing newer: {trouble}"
                )
            }
            Self::OutOfStep { since: None, trouble } => {
                write!(f, "the agent was told of no entries yet: {trouble}")
            }
            Self::NotSigned { entry, trouble } => {
                write!(f, "{entry} matches, but is not signed for: {trouble}")
            }
            Self::NotSignedYet(entry) => write!(f, "{entry} matches, but is not signed for yet"),
            Self::SvidOutOfTime {
                entry,
                not_before,
                not_after,
            } => write!(
                f,
                "the X.509-SVID of {entry} is valid from {not_before} to {not_after}, which is not now by this node's clock"
            ),
            Self::JwtFailed(why) => write!(f, "the JWT-SVID could not be had: {why}"),
            Self::HeaderMissing => f.write_str(
                "the client did not send the metadata workload.spiffe.io: true, as every SPIFFE client does",
            ),
            Self::BadRequest(why) => write!(f, "the request can't be answered: {why}"),
            Self::Stopping => f.write_str("the agent was stopping"),
            Self::ClockApart(seconds) => f.write_str(&apart(*seconds)),
            Self::BundleMissing { entry, trust_domain } => {
                write!(
                    f,
                    "{entry} federates with {trust_domain}, whose bundle the server has not got"
                )
            }
            Self::Starting => f.write_str("the agent has only just started and serves nobody yet"),
            Self::Agent(trouble) => write!(f, "the agent is not attested: {trouble}"),
        }
    }
}

impl Cause for WorkloadCause {
    fn code(&self) -> &'static str {
        match self {
            Self::NoProcess(_) => "no-process",
            Self::WorkloadApiOff => "workload-api-off",
            Self::SocketRemoved(_) => "socket-removed",
            Self::OtherSocket { .. } => "other-socket",
            Self::SocketShut { .. } => "socket-shut",
            Self::SocketNotMounted(_) => "socket-not-mounted",
            Self::NotAttested(_) => "workload-not-attested",
            Self::SelectorMissing { gap, .. } => match gap {
                Gap::UnknownType(_) => "selector-type-unknown",
                Gap::UnknownKind(_) => "selector-kind-unknown",
                Gap::SwitchedOff(_) => "selector-switched-off",
                Gap::OtherValue(_) | Gap::Absent => "selector-missing",
            },
            Self::NoEntry { .. } => "no-entry",
            Self::EntryExpired { .. } => "entry-expired",
            Self::EntryRemoved(_) => "entry-removed",
            Self::StoreSvid(_) => "store-svid",
            Self::HintTaken { .. } => "hint-taken",
            Self::NotYetHere(_) => "not-yet-here",
            Self::OtherParent => "other-parent",
            Self::OutOfStep { .. } => "out-of-step",
            Self::NotSigned { .. } => "not-signed",
            Self::NotSignedYet(_) => "not-signed-yet",
            Self::SvidOutOfTime { .. } => "svid-out-of-time",
            Self::JwtFailed(_) => "jwt-failed",
            Self::HeaderMissing => "header-missing",
            Self::BadRequest(_) => "bad-request",
            Self::Stopping => "agent-stopping",
            Self::ClockApart(_) => "clock",
            Self::BundleMissing { .. } => "bundle-missing",
            Self::Starting => "agent-starting",
            Self::Agent(trouble) => trouble.code(),
        }
    }

    fn fix(&self) -> String {
        match self {
            Self::NoProcess(_) => "name a process that runs on this node, by its number in the agent's pid namespace".into(),
            Self::WorkloadApiOff => "remove disable_workload_api from the agent's configuration and restart it".into(),
            Self::SocketRemoved(_) => "restart the agent, and keep clean-up jobs off the socket's folder".into(),
            Self::OtherSocket { ours, .. } => format!(
                "start the process with SPIFFE_ENDPOINT_SOCKET=unix://{}",
                ours.display()
            ),
            Self::SocketShut { part, .. } => format!("let other users walk through: chmod o+x {}", part.display()),
            Self::SocketNotMounted(path) => {
                let folder = path.parent().unwrap_or(path);
                format!("mount {} into the container", folder.display())
            }
            Self::NotAttested(_) => {
                "remove what the attestor stumbles over, or change its plugin_data; the agent's log has the same line".into()
            }
            Self::SelectorMissing { entry, selector, gap } => match gap {
                Gap::UnknownType(Some(meant)) | Gap::UnknownKind(Some(meant)) => {
                    format!("{meant} was meant, most likely: `server entry update -entryID {}` with that", entry.id)
                }
                Gap::UnknownType(None) => format!(
                    "configure the WorkloadAttestor that makes {:?} selectors, or update entry {}",
                    selector.selector_type(),
                    entry.id
                ),
                Gap::SwitchedOff(fix) => (*fix).to_owned(),
                Gap::OtherValue(found) => format!(
                    "update entry {} to {found} if this is the right workload, else run the workload so that it has {selector}",
                    entry.id
                ),
                Gap::UnknownKind(None) | Gap::Absent => format!(
                    "run the workload so that it has {selector}, or update entry {}",
                    entry.id
                ),
            },
            Self::NoEntry { wanted: Some(id), .. } => {
                format!("on the server: `credence explain spiffe-id {id}`")
            }
            Self::NoEntry { .. } => {
                "create an entry with this agent's ID, or one of its aliases, as parent and with selectors of those above".into()
            }
            Self::EntryExpired { entry, .. } => {
                format!("`server entry update -entryID {} -entryExpiry …` with a later time", entry.id)
            }
            Self::EntryRemoved(entry) => format!("on the server: `credence explain spiffe-id {}`", entry.spiffe_id),
            Self::StoreSvid(entry) => {
                format!("update entry {} with -storeSVID=false if a process of this node is to have it", entry.id)
            }
            Self::HintTaken { entry, .. } => format!("give entry {} another hint", entry.id),
            Self::NotYetHere(_) => "wait for the next synchronisation; if it stays so, see the agent's log".into(),
            Self::OtherParent => {
                "on the server: `credence explain spiffe-id ID -agentID THIS_AGENT` says where the chain breaks; then \
                 correct the entry's parentID"
                    .into()
            }
            Self::OutOfStep { trouble, .. } | Self::NotSigned { trouble, .. } | Self::Agent(trouble) => trouble.fix(),
            Self::NotSignedYet(_) => "try again in a moment".into(),
            Self::SvidOutOfTime { .. } | Self::ClockApart(_) => {
                "compare the clocks of this node and of the server (`date -u`), and set the wrong one".into()
            }
            Self::JwtFailed(_) => "see what the server says; with JWT-SVIDs switched off there, use X.509-SVIDs".into(),
            Self::HeaderMissing => "use a SPIFFE library, or send that metadata with each call".into(),
            Self::BadRequest(_) => "correct the call".into(),
            Self::Stopping | Self::Starting => "try again when it runs".into(),
            Self::BundleMissing { trust_domain, .. } => {
                format!("`server bundle set -id spiffe://{trust_domain}`, or remove it from the entry's federatesWith")
            }
        }
    }
}
