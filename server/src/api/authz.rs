//! Who may call what: one table of every method the server answers.
//!
//! Owns the table and the look-up by gRPC path. It decides nothing about a caller (that is [`decision`]) and never
//! reads a message.
//!
//! Invariant: a method that isn't in the table is refused, and every method of the compiled descriptors of SPIRE's
//! server APIs, of our own services (the agent's aside) and of gRPC health is in it (a test walks them).

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

pub(crate) mod decision;
pub(crate) mod policy;
pub(crate) mod request;
#[cfg(test)]
mod tests;

/// A set of caller classes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Classes(u8);

impl Classes {
    /// No certificate is needed.
    pub(crate) const ANYONE: Self = Self(1);
    /// Whoever can open the server's Unix socket.
    pub(crate) const LOCAL: Self = Self(1 << 1);
    /// A TLS caller named in `admin_ids`, or with an entry that says `admin`.
    pub(crate) const ADMIN: Self = Self(1 << 2);
    /// An attested, unexpired agent that isn't banned.
    pub(crate) const AGENT: Self = Self(1 << 3);
    /// A TLS caller with an entry that says `downstream`.
    pub(crate) const DOWNSTREAM: Self = Self(1 << 4);
    /// Nobody at all.
    pub(crate) const NOBODY: Self = Self(0);
    /// Local callers and admins.
    const OPERATOR: Self = Self::LOCAL.or(Self::ADMIN);

    /// Who is in one of the sets.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether one of the classes of `other` is in this set.
    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl fmt::Debug for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::ANYONE, "anyone"),
            (Self::LOCAL, "local"),
            (Self::ADMIN, "admin"),
            (Self::AGENT, "agent"),
            (Self::DOWNSTREAM, "downstream"),
        ];
        f.debug_set()
            .entries(
                names
                    .iter()
                    .filter(|(class, _)| self.has(*class))
                    .map(|(_, name)| name),
            )
            .finish()
    }
}

/// The services of the table, so that a call is dispatched without comparing names again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Agent,
    Bundle,
    Entry,
    Svid,
    TrustDomain,
    LocalAuthority,
    Sync,
    Authority,
    /// Explains to operators.
    Registry,
    /// Answers agents that explain.
    Matching,
    Debug,
    Logger,
    Health,
}

impl Service {
    /// Whether the service is registered on the TCP port too; the others are known on the Unix socket only.
    pub(crate) const fn on_tcp(self) -> bool {
        !matches!(self, Self::Registry | Self::Debug | Self::Logger | Self::Health)
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method {
    pub(crate) service: Service,
    pub(crate) service_name: &'static str,
    pub(crate) name: &'static str,
    pub(crate) allow: Classes,
}

impl Method {
    /// Whether a call of it has several messages one way or both.
    pub(crate) fn streams(&self) -> bool {
        self.takes_a_stream() || self.name == "Watch"
    }

    /// Whether a call of it has several messages from the caller.
    pub(crate) fn takes_a_stream(&self) -> bool {
        matches!(self.name, "AttestAgent" | "SyncAuthorizedEntries" | "Subscribe")
    }

    /// The service as SPIRE's log names it, such as `svid.v1.SVID`.
    pub(crate) fn log_service(&self) -> &'static str {
        match self.service_name {
            "spire.api.server.logger.v1.Logger" => "Logger",
            "grpc.health.v1.Health" => "Health",
            name => name.strip_prefix("spire.api.server.").unwrap_or(name),
        }
    }

    /// As a gRPC client names it: `/package.Service/Method`.
    pub(crate) fn path(&self) -> String {
        format!("/{}/{}", self.service_name, self.name)
    }

    /// The text of a refusal, which SPIRE's users know.
    pub(crate) fn refusal(&self) -> String {
        format!("authorization denied for method {}", self.path())
    }
}

/// Why a path isn't a method. The texts are those of Go's gRPC server, which clients show to their users.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnknownMethod {
    #[error("malformed method name: \"{0}\"")]
    Malformed(String),
    #[error("unknown service {0}")]
    Service(String),
    #[error("unknown method {method} for service {service}")]
    Method { service: String, method: String },
}

const ANYONE: Classes = Classes::ANYONE;
const LOCAL: Classes = Classes::LOCAL;
const OPERATOR: Classes = Classes::OPERATOR;
const AGENT: Classes = Classes::AGENT;
const DOWNSTREAM: Classes = Classes::DOWNSTREAM;

type Group = (Service, &'static str, &'static [(&'static str, Classes)]);

/// Every method of the server and who may call it.
const TABLE: &[Group] = &[
    (
        Service::Agent,
        "spire.api.server.agent.v1.Agent",
        &[
            ("CountAgents", OPERATOR),
            ("ListAgents", OPERATOR),
            ("GetAgent", OPERATOR),
            ("DeleteAgent", OPERATOR),
            ("BanAgent", OPERATOR),
            ("AttestAgent", ANYONE),
            ("RenewAgent", AGENT),
            ("CreateJoinToken", OPERATOR),
            ("PostStatus", AGENT),
        ],
    ),
    (
        Service::Bundle,
        "spire.api.server.bundle.v1.Bundle",
        &[
            ("CountBundles", OPERATOR),
            ("GetBundle", ANYONE),
            ("AppendBundle", OPERATOR),
            ("PublishJWTAuthority", DOWNSTREAM),
            ("PublishWITAuthority", DOWNSTREAM),
            ("ListFederatedBundles", OPERATOR),
            ("GetFederatedBundle", OPERATOR.or(AGENT)),
            ("BatchCreateFederatedBundle", OPERATOR),
            ("BatchUpdateFederatedBundle", OPERATOR),
            ("BatchSetFederatedBundle", OPERATOR),
            ("BatchDeleteFederatedBundle", OPERATOR),
        ],
    ),
    (
        Service::Entry,
        "spire.api.server.entry.v1.Entry",
        &[
            ("CountEntries", OPERATOR),
            ("ListEntries", OPERATOR),
            ("GetEntry", OPERATOR),
            ("BatchCreateEntry", OPERATOR),
            ("BatchUpdateEntry", OPERATOR),
            ("BatchDeleteEntry", OPERATOR),
            ("GetAuthorizedEntries", AGENT),
            ("SyncAuthorizedEntries", AGENT),
        ],
    ),
    (
        Service::Svid,
        "spire.api.server.svid.v1.SVID",
        &[
            ("MintX509SVID", OPERATOR),
            ("MintJWTSVID", OPERATOR),
            ("MintWITSVID", OPERATOR),
            ("BatchNewX509SVID", AGENT),
            ("NewJWTSVID", AGENT),
            ("BatchNewWITSVID", AGENT),
            ("NewDownstreamX509CA", DOWNSTREAM),
        ],
    ),
    (
        Service::TrustDomain,
        "spire.api.server.trustdomain.v1.TrustDomain",
        &[
            ("ListFederationRelationships", OPERATOR),
            ("GetFederationRelationship", OPERATOR),
            ("BatchCreateFederationRelationship", OPERATOR),
            ("BatchUpdateFederationRelationship", OPERATOR),
            ("BatchDeleteFederationRelationship", OPERATOR),
            ("RefreshBundle", OPERATOR),
        ],
    ),
    (
        Service::LocalAuthority,
        "spire.api.server.localauthority.v1.LocalAuthority",
        &[
            ("GetJWTAuthorityState", OPERATOR),
            ("PrepareJWTAuthority", OPERATOR),
            ("ActivateJWTAuthority", OPERATOR),
            ("TaintJWTAuthority", OPERATOR),
            ("RevokeJWTAuthority", OPERATOR),
            ("GetX509AuthorityState", OPERATOR),
            ("PrepareX509Authority", OPERATOR),
            ("ActivateX509Authority", OPERATOR),
            ("TaintX509Authority", OPERATOR),
            ("TaintX509UpstreamAuthority", OPERATOR),
            ("RevokeX509Authority", OPERATOR),
            ("RevokeX509UpstreamAuthority", OPERATOR),
            ("GetWITAuthorityState", OPERATOR),
            ("PrepareWITAuthority", OPERATOR),
            ("ActivateWITAuthority", OPERATOR),
            ("TaintWITAuthority", OPERATOR),
            ("RevokeWITAuthority", OPERATOR),
        ],
    ),
    (Service::Sync, "credence.sync.v1.Sync", &[("Subscribe", AGENT)]),
    (
        Service::Authority,
        "credence.authority.v1.Authority",
        &[("CheckStep", OPERATOR)],
    ),
    (
        Service::Registry,
        "credence.explain.v1.Registry",
        &[
            ("ExplainEntry", LOCAL),
            ("ExplainSpiffeId", LOCAL),
            ("ExplainRequest", LOCAL),
        ],
    ),
    (
        Service::Matching,
        "credence.explain.v1.Matching",
        &[("Match", AGENT)],
    ),
    (
        Service::Debug,
        "spire.api.server.debug.v1.Debug",
        &[("GetInfo", LOCAL)],
    ),
    (
        Service::Logger,
        "spire.api.server.logger.v1.Logger",
        &[
            ("GetLogger", LOCAL),
            ("SetLogLevel", LOCAL),
            ("ResetLogLevel", LOCAL),
        ],
    ),
    (
        Service::Health,
        "grpc.health.v1.Health",
        &[("Check", LOCAL), ("List", LOCAL), ("Watch", LOCAL)],
    ),
];

static BY_PATH: LazyLock<HashMap<String, Method>> = LazyLock::new(|| {
    TABLE
        .iter()
        .flat_map(|&(service, service_name, methods)| {
            methods.iter().map(move |&(name, allow)| {
                (
                    format!("/{service_name}/{name}"),
                    Method {
                        service,
                        service_name,
                        name,
                        allow,
                    },
                )
            })
        })
        .collect()
});

/// Every method.
pub(crate) fn methods() -> impl Iterator<Item = &'static Method> {
    BY_PATH.values()
}

/// The method of a gRPC path as `/package.Service/Method`.
///
/// `tcp` says where the call arrived: a service that is registered on the Unix socket only isn't known there.
///
/// # Errors
///
/// [`UnknownMethod`], answered as `Unimplemented` before anybody is authorized, as Go's gRPC server does.
pub(crate) fn find(path: &str, tcp: bool) -> Result<&'static Method, UnknownMethod> {
    match BY_PATH.get(path) {
        Some(method) if !tcp || method.service.on_tcp() => Ok(method),
        _ => Err(unknown(path, tcp)),
    }
}

#[cold]
fn unknown(path: &str, tcp: bool) -> UnknownMethod {
    let Some((service, method)) = path.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) else {
        return UnknownMethod::Malformed(path.to_owned());
    };
    let known = TABLE
        .iter()
        .any(|(kind, name, _)| *name == service && (!tcp || kind.on_tcp()));
    if known {
        UnknownMethod::Method {
            service: service.to_owned(),
            method: method.to_owned(),
        }
    } else {
        UnknownMethod::Service(service.to_owned())
    }
}
