//! What kept the agent from being attested, in step or signed for, told apart.
//!
//! Owns the kinds of trouble and how an error becomes one. Never decides what follows. Invariant: a text kept here has a
//! bound, and holds no secret: it is what the log has too.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use credence_identity::diagnosis::Cause;
use credence_runtime::fs::FsError;
use credence_runtime::grpc::LinkFault;
use credence_runtime::supervisor::TaskFailure;
use credence_runtime::tls::PeerFault;
use serde::{Deserialize, Serialize};
use tonic::Code;

use crate::app::{RunError, StartError};
use crate::attestor::node::NodeAttestorError;
use crate::keymanager::KeyManagerError;
use crate::state::StateError;
use crate::sync::{AgentEnd, AttestError, BootstrapError, CallError, FirstError, Refusal, RenewError};

const LONGEST_TEXT: usize = 2048;

/// Something that went wrong between this agent and its server, or at its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What it is.
    pub kind: TroubleKind,
    /// What was said of it.
    pub text: String,
}

/// The kinds that ask for different fixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TroubleKind {
    /// Nobody answers at the server's address.
    ServerUnreachable,
    /// The server's name can't be looked up.
    ServerNameUnknown,
    /// The server's certificate is signed by an authority that isn't in the bundle.
    ServerNotTrusted,
    /// The same, and no authority of the bundle lives any more.
    BundleExpired,
    /// The server belongs to another trust domain.
    OtherTrustDomain,
    /// The server's certificate is out of its time by this node's clock.
    Clock,
    /// The server doesn't accept the agent's certificate.
    AgentCertificateRefused,
    /// The join token doesn't exist, or was used.
    JoinTokenUnknown,
    /// The join token is too old.
    JoinTokenExpired,
    /// The agent has neither a token nor a saved SVID.
    NoJoinToken,
    /// The server has no such node attestor.
    AttestorUnknown,
    /// The server refuses the proof.
    NodeRefused,
    /// The proof can't be made here.
    NodeProof,
    /// The agent was banned.
    AgentBanned,
    /// The agent was evicted, or has to attest again and can't.
    AgentNotAttested,
    /// The agent's SVID expired before there was a new one.
    AgentSvidExpired,
    /// The bundle for the first contact can't be read.
    BundleUnusable,
    /// The saved state can't be used.
    StateUnusable,
    /// The agent's keys can't be used.
    KeysUnusable,
    /// A folder or a socket can't be used.
    FolderUnusable,
    /// Another process has the socket.
    SocketInUse,
    /// The server issues no such SVIDs.
    SvidKindOff,
    /// The server refused a call.
    ServerRefused,
    /// Anything else.
    Other,
}

impl Trouble {
    /// The trouble that this error is.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        Self {
            kind: kind(error).unwrap_or(TroubleKind::Other),
            text: text(error),
        }
    }

    /// One without an error of its own.
    pub fn new(kind: TroubleKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: cut(text.into()),
        }
    }
}

fn text(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    cut(text)
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    text
}

/// Wrappers are taken off one by one: some of them are transparent, so that what they hold isn't their source.
fn kind(error: &(dyn Error + 'static)) -> Option<TroubleKind> {
    let inner: Option<&(dyn Error + 'static)> = if let Some(error) = error.downcast_ref::<RunError>() {
        match error {
            RunError::Folder(error) => Some(error),
            RunError::Keys(error) => Some(error),
            RunError::State(error) => Some(error),
            RunError::Start(error) => Some(error),
            RunError::Task(error) => Some(error),
            _ => None,
        }
    } else if let Some(error) = error.downcast_ref::<StartError>() {
        match error {
            StartError::First(error) => Some(error),
            StartError::Socket(error) => Some(error),
            _ => None,
        }
    } else if let Some(error) = error.downcast_ref::<FirstError>() {
        match error {
            FirstError::State(error) => Some(error),
            FirstError::Bootstrap(error) => Some(error),
            FirstError::Connection(error) => Some(error),
            FirstError::NoRebootstrap(error) => Some(error),
            FirstError::Attest(error) => Some(&**error),
            // What it is made of says less.
            FirstError::BundleExpired { .. } => return Some(TroubleKind::BundleExpired),
        }
    } else if let Some(error) = error.downcast_ref::<RenewError>() {
        match error {
            RenewError::Key(error) => Some(error),
            RenewError::Call(error) => Some(error),
            RenewError::Attest(error) => Some(error),
            _ => None,
        }
    } else if let Some(error) = error.downcast_ref::<AttestError>() {
        match error {
            AttestError::Attestor(error) => Some(error),
            AttestError::Call(error) => Some(error),
        }
    } else if let Some(error) = error.downcast_ref::<TaskFailure>() {
        Some(&*error.cause)
    } else {
        // As a source it is an error of its own kind.
        let shared = error.downcast_ref::<Arc<dyn Error + Send + Sync>>();
        shared.map(|shared| -> &(dyn Error + 'static) { &**shared })
    };
    match inner {
        Some(inner) => kind(inner),
        None => own_kind(error).or_else(|| error.source().and_then(kind)),
    }
}

fn own_kind(error: &(dyn Error + 'static)) -> Option<TroubleKind> {
    use TroubleKind as Kind;
    if let Some(error) = error.downcast_ref::<CallError>() {
        return Some(of_call(error));
    }
    if let Some(error) = error.downcast_ref::<AgentEnd>() {
        return Some(match error {
            AgentEnd::Banned(_) => Kind::AgentBanned,
            AgentEnd::NotAttested(_) => Kind::AgentNotAttested,
            AgentEnd::Expired(_) => Kind::AgentSvidExpired,
            AgentEnd::Rebootstrap(_) => Kind::ServerNotTrusted,
        });
    }
    if let Some(error) = error.downcast_ref::<NodeAttestorError>() {
        return Some(match error {
            NodeAttestorError::NoToken => Kind::NoJoinToken,
            _ => Kind::NodeProof,
        });
    }
    if let Some(error) = error.downcast_ref::<FsError>() {
        return Some(match error {
            FsError::SocketInUse { .. } => Kind::SocketInUse,
            _ => Kind::FolderUnusable,
        });
    }
    let kinds: [(bool, Kind); 3] = [
        (error.is::<BootstrapError>(), Kind::BundleUnusable),
        (error.is::<StateError>(), Kind::StateUnusable),
        (error.is::<KeyManagerError>(), Kind::KeysUnusable),
    ];
    kinds.into_iter().find(|(is, _)| *is).map(|(_, kind)| kind)
}

fn of_call(error: &CallError) -> TroubleKind {
    use TroubleKind as Kind;
    match error.link() {
        Some(LinkFault::Refused | LinkFault::Unreachable) => return Kind::ServerUnreachable,
        Some(LinkFault::UnknownName) => return Kind::ServerNameUnknown,
        Some(LinkFault::Certificate(fault)) => {
            return match fault {
                PeerFault::OtherTrustDomain(_) => Kind::OtherTrustDomain,
                PeerFault::Expired | PeerFault::NotYetValid => Kind::Clock,
                PeerFault::RefusedOurs => Kind::AgentCertificateRefused,
                PeerFault::UnknownAuthority | PeerFault::Other => Kind::ServerNotTrusted,
            };
        }
        None => {}
    }
    // The words are the wire's: SPIRE's server has no other way to say it.
    let said = error.message();
    match (error.refusal(), error.code()) {
        (Some(Refusal::Banned), _) => Kind::AgentBanned,
        (Some(Refusal::MustReattest), _) => Kind::AgentNotAttested,
        _ if said.contains("agent is banned") => Kind::AgentBanned,
        _ if said.contains("join token expired") || said.contains("join token has expired") => {
            Kind::JoinTokenExpired
        }
        _ if said.contains("join token") => Kind::JoinTokenUnknown,
        _ if said.contains("could not find node attestor") => Kind::AttestorUnknown,
        _ if said.contains("failed to attest") || said.contains("nodeattestor(") => Kind::NodeRefused,
        (None, Code::Unimplemented) => Kind::SvidKindOff,
        (None, Code::Unavailable | Code::DeadlineExceeded) => Kind::ServerUnreachable,
        _ => Kind::ServerRefused,
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use TroubleKind as Kind;
        let what = match self.kind {
            Kind::ServerUnreachable => "the agent can't reach the server",
            Kind::ServerNameUnknown => "the server's name can't be looked up",
            Kind::ServerNotTrusted => {
                "the server's certificate is not signed by an authority of the agent's bundle"
            }
            Kind::BundleExpired => {
                "the server's certificate can't be verified: the agent's bundle, or this node's clock, is out of date"
            }
            Kind::OtherTrustDomain => {
                "the server belongs to another trust domain than the agent is configured for"
            }
            Kind::Clock => "the server's certificate is out of its time by this node's clock",
            Kind::AgentCertificateRefused => "the server refuses the agent's certificate",
            Kind::JoinTokenUnknown => "the join token does not exist or has been used",
            Kind::JoinTokenExpired => "the join token has expired",
            Kind::NoJoinToken => "the agent has neither a join token nor a saved SVID",
            Kind::AttestorUnknown => "the server has no node attestor of this type",
            Kind::NodeRefused => "the server refuses the proof of this node",
            Kind::NodeProof => "the proof of this node can't be made",
            Kind::AgentBanned => "the agent is banned",
            Kind::AgentNotAttested => "the server no longer knows this agent, and it can't attest again",
            Kind::AgentSvidExpired => "the agent's own SVID expired before it was renewed",
            Kind::BundleUnusable => "the bundle for the first contact with the server can't be used",
            Kind::StateUnusable => "the agent's saved state can't be used",
            Kind::KeysUnusable => "the agent's keys can't be used",
            Kind::FolderUnusable => "a folder or socket of the agent can't be used",
            Kind::SocketInUse => "another process answers on the agent's socket",
            Kind::SvidKindOff => "the server does not issue SVIDs of this kind",
            Kind::ServerRefused => "the server refuses",
            Kind::Other => "the agent failed",
        };
        write!(f, "{what}: {}", self.text)
    }
}

impl Cause for Trouble {
    fn code(&self) -> &'static str {
        use TroubleKind as Kind;
        match self.kind {
            Kind::ServerUnreachable => "server-unreachable",
            Kind::ServerNameUnknown => "server-name-unknown",
            Kind::ServerNotTrusted => "server-not-trusted",
            Kind::BundleExpired => "bundle-expired",
            Kind::OtherTrustDomain => "other-trust-domain",
            Kind::Clock => "clock",
            Kind::AgentCertificateRefused => "agent-certificate-refused",
            Kind::JoinTokenUnknown => "join-token-unknown",
            Kind::JoinTokenExpired => "join-token-expired",
            Kind::NoJoinToken => "no-join-token",
            Kind::AttestorUnknown => "node-attestor-unknown",
            Kind::NodeRefused => "node-refused",
            Kind::NodeProof => "node-proof",
            Kind::AgentBanned => "agent-banned",
            Kind::AgentNotAttested => "agent-not-attested",
            Kind::AgentSvidExpired => "agent-svid-expired",
            Kind::BundleUnusable => "bundle-unusable",
            Kind::StateUnusable => "state-unusable",
            Kind::KeysUnusable => "keys-unusable",
            Kind::FolderUnusable => "folder-unusable",
            Kind::SocketInUse => "socket-in-use",
            Kind::SvidKindOff => "svid-kind-off",
            Kind::ServerRefused => "server-refused",
            Kind::Other => "agent-failed",
        }
    }

    fn fix(&self) -> String {
        use TroubleKind as Kind;
        let fix = match self.kind {
            Kind::ServerUnreachable => {
                "start the server, or correct server_address and server_port in the agent's configuration"
            }
            Kind::ServerNameUnknown => {
                "correct server_address in the agent's configuration, or the name service"
            }
            Kind::ServerNotTrusted => {
                "put what `server bundle show` prints into the file of trust_bundle_path; for an agent that once \
                 attested elsewhere, empty its data_dir too"
            }
            Kind::BundleExpired => {
                "compare this node's clock with the server's (`date -u`); if it is right, put what `server bundle show` \
                 prints into the file of trust_bundle_path, and empty the agent's data_dir or set rebootstrap_mode"
            }
            Kind::OtherTrustDomain => {
                "set trust_domain in the agent's configuration to the server's, or correct server_address"
            }
            Kind::Clock => {
                "compare the clocks of this node and of the server (`date -u`), and set the wrong one"
            }
            Kind::AgentCertificateRefused => "empty the agent's data_dir and attest it anew",
            Kind::JoinTokenUnknown | Kind::JoinTokenExpired | Kind::NoJoinToken => {
                "make a new one with `server token generate` and start the agent with it: a token works once"
            }
            Kind::AttestorUnknown => {
                "configure the same NodeAttestor in the server's plugins as in the agent's, and restart the server"
            }
            Kind::NodeRefused => {
                "compare the agent's proof with what the server's NodeAttestor is configured to accept"
            }
            Kind::NodeProof => "correct the files that the agent's NodeAttestor names",
            Kind::AgentBanned => {
                "if the ban was a mistake: `server agent evict` removes it, then attest the agent anew"
            }
            Kind::AgentNotAttested | Kind::AgentSvidExpired => {
                "attest the agent anew: restart it with a new join token"
            }
            Kind::BundleUnusable => "put what `server bundle show` prints into the file of trust_bundle_path",
            Kind::StateUnusable | Kind::KeysUnusable => {
                "restore the file that is named, or remove it and attest the agent anew"
            }
            Kind::FolderUnusable => {
                "correct the path, its owner or its mode, or data_dir in the configuration"
            }
            Kind::SocketInUse => "stop the other agent, or give this one another socket_path",
            Kind::SvidKindOff => "switch it on in the server's configuration (disable_jwt_svids = false)",
            Kind::ServerRefused => "`credence explain request` on the server says more",
            Kind::Other => "see the agent's log",
        };
        fix.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_hide_no_kind() {
        let no_token = || FirstError::Attest(Box::new(RenewError::Attest(NodeAttestorError::NoToken.into())));
        let started: RunError = StartError::First(no_token()).into();
        assert_eq!(Trouble::of(&started).kind, TroubleKind::NoJoinToken);
        let ended = AgentEnd::NotAttested(Arc::new(no_token()));
        let failed = TaskFailure {
            task: "agent-svid",
            cause: Arc::new(ended),
        };
        assert_eq!(
            Trouble::of(&RunError::Task(failed)).kind,
            TroubleKind::AgentNotAttested
        );
    }
}
