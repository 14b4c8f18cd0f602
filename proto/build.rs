//! Compiles the `.proto` files with protox, so that no `protoc` has to be installed.

use std::{env, error::Error, fs, path::PathBuf};

/// Messages whose `Debug` is written by hand in `src/redacted.rs`: they carry private keys or bearer tokens.
const SECRET: &[&str] = &[
    ".X509SVID",
    ".JWTSVID",
    ".WITSVID",
    ".ValidateJWTSVIDRequest",
    ".envoy.config.core.v3.DataSource",
    ".envoy.config.core.v3.DataSource.specifier",
    ".envoy.service.discovery.v3.DiscoveryResponse",
    ".envoy.service.discovery.v3.Resource",
    ".spiffe.broker.X509SVID",
    ".spiffe.broker.JWTSVID",
    ".spire.api.agent.delegatedidentity.v1.X509SVIDWithKey",
    ".spire.api.server.agent.v1.CreateJoinTokenRequest",
    ".spire.api.types.AttestationData",
    ".spire.api.types.JoinToken",
    ".spire.api.types.JWTSVID",
    ".spire.api.types.WITSVID",
];

const FILES: &[&str] = &[
    "credence/authority/v1/authority.proto",
    "credence/explain/v1/explain.proto",
    "credence/sync/v1/sync.proto",
    "envoy/extensions/transport_sockets/tls/v3/common.proto",
    "envoy/extensions/transport_sockets/tls/v3/secret.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config.proto",
    "envoy/service/secret/v3/sds.proto",
    "grpc/health/v1/health.proto",
    "istio/v1/auth/ca.proto",
    "spiffe/broker/api.proto",
    "spiffe/workload/workload.proto",
    "spire/api/agent/debug/v1/debug.proto",
    "spire/api/agent/delegatedidentity/v1/delegatedidentity.proto",
    "spire/api/agent/logger/v1/logger.proto",
    "spire/api/server/agent/v1/agent.proto",
    "spire/api/server/bundle/v1/bundle.proto",
    "spire/api/server/debug/v1/debug.proto",
    "spire/api/server/entry/v1/entry.proto",
    "spire/api/server/localauthority/v1/localauthority.proto",
    "spire/api/server/logger/v1/logger.proto",
    "spire/api/server/svid/v1/svid.proto",
    "spire/api/server/trustdomain/v1/trustdomain.proto",
    // Imported by none of the above.
    "spire/api/types/status.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(FILES)?;
    let descriptors = compiler.file_descriptor_set();

    // The embedded set names JSON fields and answers reflection; comments would only swell the binary.
    compiler.include_source_info(false);
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let mut config = tonic_prost_build::Config::new();
    config.default_package_filename("spiffe_workload");
    // For the type URLs of `Any` and for JSON.
    config.enable_type_names();
    config.type_name_domain(["."], "type.googleapis.com");
    tonic_prost_build::configure()
        // Sorted maps: the same content has the same bytes.
        .btree_map(".")
        .skip_debug(SECRET)
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
