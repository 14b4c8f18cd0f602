//! The wire: messages and services of SPIRE's public APIs, of the SPIFFE Workload and Broker APIs, of gRPC health,
//! of Envoy's secrets, of Istio's certificate signing, and of our own push protocol, compiled from `proto/`.
//!
//! Modules mirror the protobuf packages; the Workload API, which has no package, is [`spiffe_workload`]. Nothing is
//! checked here: whoever receives a message turns it into types of `credence-identity` at its edge.
//!
//! Invariant: names, numbers and types are those of the published APIs (`tests/wire-facts.tsv`), and `Debug` of a
//! message never shows a private key or a token.

mod redacted;

/// All files of `proto/` and what they import as an encoded `google.protobuf.FileDescriptorSet`, without comments.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// A module that holds what was generated for one package.
macro_rules! package {
    ($(#[$doc:meta])* $module:ident, $package:literal) => {
        $(#[$doc])*
        #[allow(
            missing_docs,
            missing_debug_implementations,
            unreachable_pub,
            unused_qualifications,
            clippy::all,
            clippy::restriction,
            clippy::pedantic,
            rustdoc::all,
            reason = "generated code"
        )]
        pub mod $module {
            tonic::include_proto!($package);
        }
    };
}

package!(
    /// The SPIFFE Workload API (no protobuf package).
    spiffe_workload,
    "spiffe_workload"
);

/// `spiffe`.
pub mod spiffe {
    package!(
        /// `spiffe.broker`: the SPIFFE Broker API.
        broker,
        "spiffe.broker"
    );
}

/// `spire`.
pub mod spire {
    /// `spire.agent`: one API of the agent was published without `api` in its package.
    pub mod agent {
        /// `spire.agent.debug`.
        pub mod debug {
            package!(
                /// `spire.agent.debug.v1`: facts about a running agent.
                v1,
                "spire.agent.debug.v1"
            );
        }
    }
    /// `spire.api`.
    pub mod api {
        package!(
            /// `spire.api.types`: messages the APIs share.
            types,
            "spire.api.types"
        );

        /// `spire.api.agent`: APIs of the agent's admin socket.
        pub mod agent {
            /// `spire.api.agent.delegatedidentity`.
            pub mod delegatedidentity {
                package!(
                    /// `spire.api.agent.delegatedidentity.v1`: SVIDs for a trusted delegate.
                    v1,
                    "spire.api.agent.delegatedidentity.v1"
                );
            }
            /// `spire.api.agent.logger`.
            pub mod logger {
                package!(
                    /// `spire.api.agent.logger.v1`: log level of a running agent.
                    v1,
                    "spire.api.agent.logger.v1"
                );
            }
        }

        /// `spire.api.server`: APIs of the server.
        pub mod server {
            /// `spire.api.server.agent`.
            pub mod agent {
                package!(
                    /// `spire.api.server.agent.v1`: attested nodes.
                    v1,
                    "spire.api.server.agent.v1"
                );
            }
            /// `spire.api.server.bundle`.
            pub mod bundle {
                package!(
                    /// `spire.api.server.bundle.v1`: bundles.
                    v1,
                    "spire.api.server.bundle.v1"
                );
            }
            /// `spire.api.server.debug`.
            pub mod debug {
                package!(
                    /// `spire.api.server.debug.v1`: facts about a running server.
                    v1,
                    "spire.api.server.debug.v1"
                );
            }
            /// `spire.api.server.entry`.
            pub mod entry {
                package!(
                    /// `spire.api.server.entry.v1`: registration entries.
                    v1,
                    "spire.api.server.entry.v1"
                );
            }
            /// `spire.api.server.localauthority`.
            pub mod localauthority {
                package!(
                    /// `spire.api.server.localauthority.v1`: signing keys of the server.
                    v1,
                    "spire.api.server.localauthority.v1"
                );
            }
            /// `spire.api.server.logger`.
            pub mod logger {
                package!(
                    /// `spire.api.server.logger.v1`: log level of a running server.
                    v1,
                    "spire.api.server.logger.v1"
                );
            }
            /// `spire.api.server.svid`.
            pub mod svid {
                package!(
                    /// `spire.api.server.svid.v1`: issuing of SVIDs.
                    v1,
                    "spire.api.server.svid.v1"
                );
            }
            /// `spire.api.server.trustdomain`.
            pub mod trustdomain {
                package!(
                    /// `spire.api.server.trustdomain.v1`: federation relationships.
                    v1,
                    "spire.api.server.trustdomain.v1"
                );
            }
        }
    }
}

/// `envoy`: the part of Envoy's API that its secrets need.
pub mod envoy {
    /// `envoy.config`.
    pub mod config {
        /// `envoy.config.core`.
        pub mod core {
            package!(
                /// `envoy.config.core.v3`: who asks, and where bytes are.
                v3,
                "envoy.config.core.v3"
            );
        }
    }
    /// `envoy.extensions`.
    pub mod extensions {
        /// `envoy.extensions.transport_sockets`.
        pub mod transport_sockets {
            /// `envoy.extensions.transport_sockets.tls`.
            pub mod tls {
                package!(
                    /// `envoy.extensions.transport_sockets.tls.v3`: secrets.
                    v3,
                    "envoy.extensions.transport_sockets.tls.v3"
                );
            }
        }
    }
    /// `envoy.service`.
    pub mod service {
        /// `envoy.service.discovery`.
        pub mod discovery {
            package!(
                /// `envoy.service.discovery.v3`: the discovery protocol.
                v3,
                "envoy.service.discovery.v3"
            );
        }
        /// `envoy.service.secret`.
        pub mod secret {
            package!(
                /// `envoy.service.secret.v3`: the service that gives out secrets.
                v3,
                "envoy.service.secret.v3"
            );
        }
    }
    /// `envoy.type`.
    pub mod r#type {
        package!(
            /// `envoy.type.v3`: versions.
            v3,
            "envoy.r#type.v3"
        );
    }
}

/// `google`.
pub mod google {
    package!(
        /// `google.rpc`: how something ended.
        rpc,
        "google.rpc"
    );
}

/// `grpc`.
pub mod grpc {
    /// `grpc.health`.
    pub mod health {
        package!(
            /// `grpc.health.v1`: the gRPC health protocol.
            v1,
            "grpc.health.v1"
        );
    }
}

/// `istio`.
pub mod istio {
    /// `istio.v1`.
    pub mod v1 {
        package!(
            /// `istio.v1.auth`: Istio's certificate signing service.
            auth,
            "istio.v1.auth"
        );
    }
}

/// `credence`.
pub mod credence {
    /// `credence.authority`.
    pub mod authority {
        package!(
            /// `credence.authority.v1`: what a forced rotation of the authorities waits for.
            v1,
            "credence.authority.v1"
        );
    }
    /// `credence.explain`.
    pub mod explain {
        package!(
            /// `credence.explain.v1`: why a workload has no identity.
            v1,
            "credence.explain.v1"
        );
    }
    /// `credence.sync`.
    pub mod sync {
        package!(
            /// `credence.sync.v1`: push of entries and bundles to agents.
            v1,
            "credence.sync.v1"
        );
    }
}
