//! Envoy's configuration, put together of what the tests vary: which secrets by which of the two protocols, and who may
//! be on the other end.

use std::path::Path;

use serde_json::{Value, json};

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// How Envoy asks for secrets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Protocol {
    /// StreamSecrets.
    Whole,
    /// DeltaSecrets.
    Delta,
}

/// A secret of that name from the agent. Listeners wait for one that doesn't come, but no longer than `patience`.
pub(super) fn secret(name: &str, protocol: Protocol, patience: &str) -> Value {
    let api_type = match protocol {
        Protocol::Whole => "GRPC",
        Protocol::Delta => "DELTA_GRPC",
    };
    json!({"name": name, "sds_config": {
        "resource_api_version": "V3",
        "initial_fetch_timeout": patience,
        "api_config_source": {
            "api_type": api_type,
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "agent"}}],
        },
    }})
}

/// One end of a TLS connection.
#[derive(Debug, Clone)]
pub(super) struct End {
    certificate: Value,
    validation: Value,
}

impl End {
    /// With the SVID of that name, and peers that the bundle of that name lets in.
    pub(super) fn new(svid: &str, bundle: &str, protocol: Protocol) -> Self {
        Self {
            certificate: json!({"tls_certificate_sds_secret_configs": [secret(svid, protocol, "2s")]}),
            validation: json!({"validation_context_sds_secret_config": secret(bundle, protocol, "15s")}),
        }
    }

    /// With that one peer alone.
    pub(super) fn with_peer(mut self, spiffe_id: &str) -> Self {
        let names = json!([{"san_type": "URI", "matcher": {"exact": spiffe_id}}]);
        self.validation = json!({"combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": names},
            "validation_context_sds_secret_config": self.validation["validation_context_sds_secret_config"],
        }});
        self
    }

    /// With a certificate from files, `leaf.pem` and `leaf.key`.
    pub(super) fn with_files(mut self, folder: &Path) -> Self {
        let file = |name: &str| json!({"filename": folder.join(name)});
        self.certificate = json!({"tls_certificates": [
            {"certificate_chain": file("leaf.pem"), "private_key": file("leaf.key")},
        ]});
        self
    }

    fn context(&self) -> Value {
        let mut context = self.certificate.clone();
        let fields = context.as_object_mut().expect("an object");
        fields.extend(self.validation.as_object().expect("an object").clone());
        context
    }
}

/// An Envoy under construction.
#[derive(Debug)]
pub(super) struct Config {
    admin: u16,
    listeners: Vec<Value>,
    clusters: Vec<Value>,
}

impl Config {
    /// Asks the agent behind that socket.
    pub(super) fn new(admin: u16, agent: &Path) -> Self {
        let http2 = json!({"explicit_http_config": {"http2_protocol_options": {}}});
        let agent = cluster("agent", json!({"pipe": {"path": agent}}), http2);
        Self {
            admin,
            listeners: Vec::new(),
            clusters: vec![agent],
        }
    }

    /// Answers `hello` on that port to whoever `end` lets in.
    pub(super) fn serve(mut self, port: u16, end: &End) -> Self {
        let answer = json!({"direct_response": {"status": 200, "body": {"inline_string": "hello"}}});
        let socket = json!({"name": "tls", "typed_config": {
            "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": true,
            "disable_stateless_session_resumption": true,
            "common_tls_context": end.context(),
        }});
        self.listeners.push(listener(port, answer, Some(socket)));
        self
    }

    /// Passes what comes to one port, in the clear, on to another as `end`: each request by a handshake of its own.
    pub(super) fn call(mut self, port: u16, to: u16, end: &End) -> Self {
        let name = format!("from-{port}");
        let http = json!({
            "common_http_protocol_options": {"max_requests_per_connection": 1},
            "explicit_http_config": {"http_protocol_options": {}},
        });
        let mut cluster = cluster(&name, json!({"socket_address": address(to)}), http);
        cluster["transport_socket"] = json!({"name": "tls", "typed_config": {
            "@type": format!("{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"),
            "max_session_keys": 0,
            "common_tls_context": end.context(),
        }});
        self.clusters.push(cluster);
        self.listeners
            .push(listener(port, json!({"route": {"cluster": name}}), None));
        self
    }

    /// As Envoy reads it.
    pub(super) fn build(self) -> Value {
        json!({
            "node": {"id": "test", "cluster": "test"},
            "admin": {"address": {"socket_address": address(self.admin)}},
            "static_resources": {"listeners": self.listeners, "clusters": self.clusters},
        })
    }
}

fn address(port: u16) -> Value {
    json!({"address": "127.0.0.1", "port_value": port})
}

fn cluster(name: &str, address: Value, http: Value) -> Value {
    let mut http = http;
    http["@type"] = json!("type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
    json!({
        "name": name,
        "connect_timeout": "2s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http},
        "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address}}]},
        ]},
    })
}

fn listener(port: u16, answer: Value, transport_socket: Option<Value>) -> Value {
    let mut route = answer;
    route["match"] = json!({"prefix": "/"});
    let manager = json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {
            "@type": format!("{TYPES}.filters.http.router.v3.Router"),
        }}],
    });
    let mut chain = json!({"filters": [{"name": "http", "typed_config": manager}]});
    if let Some(socket) = transport_socket {
        chain["transport_socket"] = socket;
    }
    json!({
        "name": format!("on-{port}"),
        "address": {"socket_address": address(port)},
        "filter_chains": [chain],
    })
}
