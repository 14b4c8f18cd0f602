use credence_runtime::audit::AuditSink;
use credence_runtime::log::Level;

use super::*;
use crate::api::limits::RateLimits;
use crate::sync::{BundleFormat, RebootstrapMode};

const PLUGINS: &str = r#"
    KeyManager "memory" {}
    NodeAttestor "join_token" {}
    WorkloadAttestor "unix" {}"#;

const REQUIRED: &str =
    "trust_domain = \"example.org\" server_address = \"server.test\" server_port = \"8081\"";

pub(super) type Outcome = Result<(AgentConfig, Vec<String>), Vec<String>>;

fn read_whole(agent: &str, plugins: &str, overrides: &AgentOverrides) -> Outcome {
    let text = format!("agent {{ {agent}\n}}\nplugins {{ {plugins} }}");
    let document = Document::parse("agent.conf", &text).unwrap();
    let texts = |faults: Vec<Fault>| faults.iter().map(ToString::to_string).collect::<Vec<_>>();
    match AgentConfig::read(&document, overrides) {
        Ok((config, warnings)) => Ok((config, texts(warnings))),
        Err(faults) => Err(texts(faults)),
    }
}

/// A file with these keys in `agent` besides the required ones and a bundle.
pub(super) fn read(agent: &str) -> Outcome {
    let agent = format!("{REQUIRED} trust_bundle_path = \"b.pem\"\n{agent}");
    read_whole(&agent, PLUGINS, &AgentOverrides::default())
}

fn read_plugins(plugins: &str) -> Outcome {
    let agent = format!("{REQUIRED} insecure_bootstrap = true");
    read_whole(&agent, plugins, &AgentOverrides::default())
}

#[track_caller]
pub(super) fn assert_fault(outcome: &Outcome, part: &str) {
    let faults = outcome.as_ref().expect_err(part);
    assert!(
        faults.iter().any(|fault| fault.contains(part)),
        "{part} is not in {faults:#?}"
    );
}

#[test]
fn the_examples_load_without_a_warning() {
    for name in ["conf/agent.conf", "istio/agent.conf"] {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy")).join(name);
        let loaded = AgentConfig::load(&path, &AgentOverrides::default(), false);
        let (_, warnings) = loaded.unwrap_or_else(|faults| panic!("{faults:?}"));
        assert_eq!(warnings, [], "{name}");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/conf/agent.conf");
    let loaded = AgentConfig::load(Path::new(path), &AgentOverrides::default(), false);
    let (config, _) = loaded.unwrap();
    assert_eq!(
        config.server,
        ServerAddress {
            host: "127.0.0.1".to_owned(),
            port: 8081
        }
    );
    assert_eq!(
        config.key_manager,
        KeyManagerConfig::Disk {
            directory: "./data/agent".into()
        }
    );
    assert!(matches!(
        config.node_attestor,
        NodeAttestorConfig::JoinToken(None)
    ));
}

/// Conforms: WEP-02, WEP-04
#[test]
fn defaults_are_those_of_spire() {
    let (config, warnings) = read("").unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(
        (config.trust_domain.as_str(), config.data_dir.as_path()),
        ("example.org", Path::new("."))
    );
    let socket = Some("/tmp/spire-agent/public/api.sock".into());
    assert_eq!((config.socket_path, config.admin), (socket, None));
    assert_eq!(
        config.bootstrap,
        BundleSource::Path("b.pem".into(), BundleFormat::Pem)
    );
    assert_eq!((config.cache.x509_svids, config.cache.jwt_svids), (1000, 1000));
    assert_eq!(
        (config.workload_key_type, config.sync_interval),
        (KeyType::EcP256, Duration::from_secs(5))
    );
    let workload = config.workload.unwrap();
    assert!(!workload.allow_unauthenticated_verifiers && workload.allowed_foreign_jwt_claims.is_empty());
    assert_eq!(
        (workload.rate_limits, config.whole_sets),
        (RateLimits::default(), false)
    );
    assert_eq!(
        (config.cache.availability_target, config.sds),
        (None, Some(SdsOptions::default()))
    );
    assert_eq!(config.istio, None);
    let unix = config.unix.unwrap();
    assert_eq!(
        (unix.discover_workload_path, unix.workload_size_limit),
        (false, 0)
    );
}

#[test]
fn all_keys_are_read() {
    let (config, warnings) = read(
        r#"data_dir = "/var/a" socket_path = "/run/a/public/api.sock"
        log_level = "debug" trust_bundle_format = "spiffe" workload_x509_svid_key_type = "rsa-2048"
        x509_svid_cache_max_size = 7 jwt_svid_cache_max_size = "8" allow_unauthenticated_verifiers = true
        allowed_foreign_jwt_claims = ["a", "b"] disable_sds_api = false rebootstrap_mode = "auto" rebootstrap_delay = "90s"
        availability_target = "48h" log_selectors = ["unix:uid"]
        sds { default_svid_name = "s" default_bundle_name = "b" default_all_bundles_name = "a" disable_spiffe_cert_validation = true }
        experimental { sync_interval = "1s" jwt_svid_cache_hit_timeout = "6s"
            ratelimit { fetch_x509_svid = 7 fetch_secrets = "9" fetch_jwt_svid = 0 } }"#,
    )
    .unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(
        config.bootstrap,
        BundleSource::Path("b.pem".into(), BundleFormat::Spiffe)
    );
    assert_eq!(
        (config.log.level, config.workload_key_type),
        (Level::Debug, KeyType::Rsa2048)
    );
    assert_eq!((config.cache.x509_svids, config.cache.jwt_svids), (7, 8));
    assert_eq!(
        config.rebootstrap,
        Rebootstrap {
            mode: RebootstrapMode::Auto,
            delay: Duration::from_secs(90)
        }
    );
    assert_eq!(config.cache.jwt_cache_hit_timeout, Duration::from_secs(6));
    assert_eq!(config.sync_interval, Duration::from_secs(1));
    let workload = config.workload.unwrap();
    assert!(workload.allow_unauthenticated_verifiers);
    assert_eq!(
        (
            workload.allowed_foreign_jwt_claims.len(),
            workload.log_selectors.len()
        ),
        (2, 1)
    );
    let limits = workload.rate_limits;
    assert_eq!(
        (
            limits.fetch_x509_svid,
            limits.fetch_jwt_svid,
            limits.fetch_secrets
        ),
        (Some(7), None, Some(9))
    );
    assert_eq!(
        config.cache.availability_target,
        Some(Duration::from_secs(48 * 3600))
    );
    let sds = config.sds.unwrap();
    assert!(sds.disable_spiffe_cert_validation && sds.default_all_bundles_name == "a");
    assert_eq!(sds.rate_limits, limits);
}

#[test]
fn flags_win_over_the_file() {
    let overrides = AgentOverrides {
        server_port: Some("9".to_owned()),
        join_token: Some("secret-token".to_owned()),
        insecure_bootstrap: Some(true),
        ..AgentOverrides::default()
    };
    let (config, _) = read_whole(REQUIRED, PLUGINS, &overrides).unwrap();
    assert_eq!(
        (config.server.port, &config.bootstrap),
        (9, &BundleSource::Insecure)
    );
    assert!(matches!(
        config.node_attestor,
        NodeAttestorConfig::JoinToken(Some(_))
    ));
    assert!(
        !format!("{config:?}").contains("secret-token"),
        "a token must not be shown"
    );
}

#[test]
fn what_is_required_and_what_excludes_what() {
    let none = read_whole("", "", &AgentOverrides::default());
    for part in [
        "agent.trust_domain must be configured",
        "agent.server_address must be configured",
        "agent.server_port must be configured",
        "trust_bundle_spiffe_workload_api must be configured unless insecure_bootstrap is set",
        "exactly one KeyManager plugin must be configured, found 0",
        "at least one WorkloadAttestor plugin must be configured",
    ] {
        assert_fault(&none, part);
    }
    for (agent, part) in [
        ("insecure_bootstrap = true", "only one of trust_bundle_path"),
        (
            "trust_bundle_url = \"https://x\"",
            "only one of trust_bundle_path",
        ),
        (
            "trust_bundle_url = \"http://x\"",
            "agent.trust_bundle_url: must begin with https://",
        ),
        (
            "trust_bundle_format = \"der\"",
            "agent.trust_bundle_format: must be",
        ),
        (
            "trust_bundle_spiffe_workload_api = \"tcp://127.0.0.1:1\"",
            "agent.trust_bundle_spiffe_workload_api: must be the address of a Unix socket",
        ),
        (
            "trust_bundle_spiffe_workload_api = \"unix:///a\"",
            "only one of trust_bundle_path, trust_bundle_spiffe_workload_api can be configured",
        ),
        (
            "trust_bundle_unix_socket = \"/a\"",
            "agent.trust_bundle_unix_socket: needs trust_bundle_url",
        ),
        (
            "insecure_bootstrap = true rebootstrap_mode = \"always\"",
            "insecure_bootstrap option can not be used with rebootstrapping",
        ),
        ("server_port = 0", "agent.server_port: must not be 0"),
        (
            "workload_x509_svid_key_type = \"rsa-4096\"",
            "agent.workload_x509_svid_key_type: key type \"rsa-4096\" is too slow for workloads",
        ),
        (
            "join_token = \"x\" join_token_file = \"y\"",
            "agent.join_token_file: excludes join_token",
        ),
        (
            "join_token_file = \"/none\"",
            "agent.join_token_file: unable to read",
        ),
        ("rebootstrap_mode = \"maybe\"", "agent.rebootstrap_mode: must be"),
        (
            "experimental { jwt_svid_cache_hit_timeout = \"30s\" }",
            "jwt_svid_cache_hit_timeout: must be at least 5s",
        ),
        (
            "availability_target = \"23h\"",
            "availability_target: must be at least 24h",
        ),
        (
            "experimental { ratelimit { fetch_jwt_svid = -1 } }",
            "fetch_jwt_svid: must not be negative",
        ),
        (
            "experimental { ratelimit { fetch_jwt = 1 } }",
            "unknown key \"fetch_jwt\"",
        ),
        (
            "experimental { named_pipe_name = \"x\" }",
            "named_pipe_name: is not supported on this platform",
        ),
        (
            "experimental { sync_interval = \"0\" }",
            "sync_interval: must be greater than zero",
        ),
        (
            "jion_token = \"x\"",
            "agent.conf:2:1: unknown key \"jion_token\" in agent; did you mean \"join_token\"?",
        ),
    ] {
        assert_fault(&read(agent), part);
    }
}

/// A file with these keys and no other source of the bundle.
fn read_source(agent: &str) -> Outcome {
    read_whole(
        &format!("{REQUIRED}\n{agent}"),
        PLUGINS,
        &AgentOverrides::default(),
    )
}

#[test]
fn the_first_bundle_has_one_source() {
    let source = |agent| read_source(agent).unwrap().0.bootstrap;
    assert_eq!(
        source("trust_bundle_url = \"https://h/b\" trust_bundle_format = \"spiffe\""),
        BundleSource::Url("https://h/b".parse().unwrap(), BundleFormat::Spiffe)
    );
    assert_eq!(
        source("trust_bundle_url = \"http://h/b?a=1\" trust_bundle_unix_socket = \"/run/b.sock\""),
        BundleSource::Socket {
            url: "http://h/b?a=1".parse().unwrap(),
            socket: "/run/b.sock".into(),
            format: BundleFormat::Pem
        }
    );
    assert_eq!(
        source("trust_bundle_spiffe_workload_api = \"unix:///run/a.sock\""),
        BundleSource::WorkloadApi("/run/a.sock".into())
    );
    for (agent, part) in [
        ("", "must be configured unless insecure_bootstrap is set"),
        (
            "trust_bundle_url = \"https://h/b\" trust_bundle_unix_socket = \"/s\"",
            "agent.trust_bundle_url: must begin with http:// when used with trust_bundle_unix_socket",
        ),
        (
            "trust_bundle_url = \"http://h/b?spire-x=1\" trust_bundle_unix_socket = \"/s\"",
            "agent.trust_bundle_url: must not have query parameters that begin with spire-",
        ),
        (
            "trust_bundle_url = \"http://h/b?spiffe-x\" trust_bundle_unix_socket = \"/s\"",
            "agent.trust_bundle_url: must not have query parameters that begin with spiffe-",
        ),
        ("trust_bundle_url = \"h\"", "agent.trust_bundle_url: is no URL"),
        (
            "trust_bundle_spiffe_workload_api = \"unix://a.sock\"",
            "must be the address of a Unix socket",
        ),
    ] {
        assert_fault(&read_source(agent), part);
    }
}

#[test]
fn keys_of_parts_to_come_are_warned_of() {
    let (_, warnings) = read(
        "retry_bootstrap = true sds { default_bundle_name = \"ALL\" }\n\
         experimental { broker {} nonsense = 1 use_sync_authorized_entries = false }",
    )
    .unwrap();
    for part in [
        "agent.sds",
        "retry_bootstrap",
        "use_sync_authorized_entries: is deprecated",
        "experimental.broker",
        "\"nonsense\"",
    ] {
        assert!(
            warnings.iter().any(|warning| warning.contains(part)),
            "{part} is not in {warnings:#?}"
        );
    }
    assert_eq!(warnings.len(), 5, "{warnings:#?}");
}

#[test]
fn plugins() {
    let base = "KeyManager \"memory\" {} WorkloadAttestor \"unix\" { plugin_data { discover_workload_path = true workload_size_limit = -1 } }";
    let pop =
        "NodeAttestor \"x509pop\" { plugin_data { private_key_path = \"k\" certificate_path = \"c\" } }";
    let (config, _) = read_plugins(&format!("{base}\n{pop}")).unwrap();
    let NodeAttestorConfig::X509Pop(x509pop) = config.node_attestor else {
        panic!("not x509pop")
    };
    assert_eq!(
        (x509pop.private_key_path.as_path(), x509pop.intermediates_path),
        (Path::new("k"), None)
    );
    let unix = config.unix.unwrap();
    assert_eq!(
        (unix.discover_workload_path, unix.workload_size_limit),
        (true, -1)
    );

    let token = AgentOverrides {
        join_token: Some("t".to_owned()),
        ..AgentOverrides::default()
    };
    let agent = format!("{REQUIRED} insecure_bootstrap = true");
    let (config, warnings) = read_whole(&agent, &format!("{base}\n{pop}"), &token).unwrap();
    assert!(matches!(
        config.node_attestor,
        NodeAttestorConfig::JoinToken(Some(_))
    ));
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(read_whole(&agent, base, &token).is_ok(), "a token needs no block");

    assert_fault(
        &read_plugins(base),
        "exactly one NodeAttestor plugin must be configured unless there is a join token",
    );
    assert_fault(
        &read_plugins(&format!("{base}\nNodeAttestor \"x509pop\" {{}}")),
        "private_key_path must be configured",
    );
    assert_fault(
        &read_plugins(&format!("{base}\nNodeAttestor \"k8s_psat\" {{}}")),
        "NodeAttestor plugin \"k8s_psat\" is not supported: this version has only join_token and x509pop",
    );
    assert_fault(
        &read_plugins(&format!("{base}\nWorkloadAttestor \"docker\" {{}}")),
        "WorkloadAttestor plugin \"docker\" is not supported: this version has only unix",
    );
}

#[test]
fn a_join_token_can_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, " abc \n").unwrap();
    let (config, _) = read(&format!("join_token_file = \"{}\"", file.display())).unwrap();
    assert!(matches!(
        config.node_attestor,
        NodeAttestorConfig::JoinToken(Some(_))
    ));
    std::fs::write(&file, "\n").unwrap();
    assert_fault(
        &read(&format!("join_token_file = \"{}\"", file.display())),
        "is empty",
    );
}

#[test]
fn the_admin_socket_is_away_from_the_public_one() {
    let (config, _) = read(
        "socket_path = \"/run/a/public/api.sock\" admin_socket_path = \"/run/a/admin.sock\"\n\
         authorized_delegates = [\"spiffe://example.org/proxy\"]",
    )
    .unwrap();
    let admin = config.admin.unwrap();
    assert_eq!(admin.socket, Path::new("/run/a/admin.sock"));
    assert_eq!(
        admin.delegates.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
        ["spiffe://example.org/proxy"]
    );
    for path in ["/run/a/public/admin.sock", "/run/a/public/x/admin.sock"] {
        let beside = format!("socket_path = \"/run/a/public/api.sock\" admin_socket_path = \"{path}\"");
        assert_fault(&read(&beside), "admin socket cannot be in the same directory");
        let (config, _) = read(&format!(
            "{beside} disable_workload_api = true disable_sds_api = true"
        ))
        .unwrap();
        assert!(config.socket_path.is_none(), "nothing would be served there");
        assert!(config.workload.is_none() && config.sds.is_none());
    }
    for id in ["spiffe://other.org/x", "proxy"] {
        let delegates = format!("authorized_delegates = [\"{id}\"]");
        assert_fault(&read(&delegates), "error validating authorized delegate");
    }
}

#[test]
fn the_audit_log_is_off_unless_switched_on() {
    let sink = |agent: &str| read(agent).unwrap().0.audit;
    assert_eq!(sink(""), None);
    assert_eq!(sink("audit_log_enabled = true"), Some(AuditSink::Log));
    assert_eq!(
        sink("audit_log_enabled = true audit_log { path = \"/a.json\" }"),
        Some(AuditSink::File("/a.json".into()))
    );
    assert_eq!(
        sink("audit_log_enabled = true audit_log { sink = \"stdout\" }"),
        Some(AuditSink::Stdout)
    );
    for (agent, part) in [
        (
            "audit_log { sink = \"stdout\" }",
            "needs audit_log_enabled = true",
        ),
        (
            "audit_log_enabled = true audit_log { sink = \"file\" }",
            "audit_log.path: must be configured",
        ),
        (
            "audit_log_enabled = true audit_log { sink = \"log\" path = \"x\" }",
            "audit_log.path: is for the sink",
        ),
    ] {
        assert_fault(&read(agent), part);
    }
}

#[test]
fn files_blocks_name_an_identity_and_a_folder() {
    let trio = "svid_file_name = \"a\" svid_key_file_name = \"b\" svid_bundle_file_name = \"c\"";
    let block = |label: &str, text: &str| format!("files \"{label}\" {{ {text} }}\n");
    let db = format!("spiffe_id = \"spiffe://example.org/db\" cert_dir = \"/db\" {trio}");
    let two = block("db", &db) + &block("web", &db.replace("db\"", "web\""));
    let (config, _) = read(&two.replace("} }", "}\n}")).unwrap();
    let jobs: Vec<_> = config
        .files
        .iter()
        .map(|job| {
            (
                job.name.as_str(),
                job.target.folder.as_path(),
                job.target.guarded,
                job.hooks.inherit,
            )
        })
        .collect();
    assert_eq!(
        jobs,
        [
            ("db", Path::new("/db"), true, false),
            ("web", Path::new("/web"), true, false)
        ]
    );
    for (text, fault) in [
        (
            db.replace("\"/db\"", "\"db\""),
            "files \"db\".cert_dir: must be an absolute path",
        ),
        (trio.to_owned(), "files \"db\".spiffe_id must be configured"),
        (
            format!("{db} agent_address = \"x\""),
            "unknown key \"agent_address\"",
        ),
        (
            db.replace("spiffe://example.org/db", "db"),
            "files \"db\".spiffe_id: ",
        ),
    ] {
        assert_fault(&read(&block("db", &text)), fault);
    }
    assert_fault(
        &read(&(block("db", &db) + &block("db", &db))),
        "there is another files block \"db\"",
    );
}
