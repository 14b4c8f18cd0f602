mod federation;

use std::time::Duration;

use credence_crypto::x509::{CaSubject, X509Ca};
use credence_crypto::{KeyType, PrivateKey};
use credence_identity::Timestamp;
use credence_runtime::log::{Format, Level};
use credence_runtime::tls::KeyExchange;

use super::*;
use crate::attestor::x509pop::{PathTemplate, Trust};

const HOUR: Duration = Duration::from_secs(3600);

const PLUGINS: &str = r#"plugins {
    DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "./d/datastore.sqlite3" } }
    KeyManager "memory" {}
}"#;

type Outcome = Result<(ServerConfig, Vec<String>), Vec<String>>;

fn read_with(text: &str, overrides: &ServerOverrides) -> Outcome {
    let document = Document::parse("server.conf", text).unwrap();
    let texts = |faults: Vec<Fault>| faults.iter().map(ToString::to_string).collect::<Vec<_>>();
    match ServerConfig::read(&document, overrides) {
        Ok((config, warnings)) => Ok((config, texts(warnings))),
        Err(faults) => Err(texts(faults)),
    }
}

/// A file with these keys in `server` besides the required ones.
fn read(server: &str) -> Outcome {
    let text =
        format!("server {{ trust_domain = \"example.org\" data_dir = \"./d\"\n{server}\n}}\n{PLUGINS}");
    read_with(&text, &ServerOverrides::default())
}

/// A file with these plugins.
fn read_plugins(plugins: &str) -> Outcome {
    let text =
        format!("server {{ trust_domain = \"example.org\" data_dir = \"./d\" }}\nplugins {{\n{plugins}\n}}");
    read_with(&text, &ServerOverrides::default())
}

#[test]
fn the_example_loads_without_a_warning() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/conf/server.conf");
    let loaded = ServerConfig::load(Path::new(path), &ServerOverrides::default(), false);
    let (config, warnings) = loaded.unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(warnings, []);
    assert_eq!(config.trust_domain.as_str(), "example.org");
    assert_eq!(
        config.key_manager,
        KeyManagerConfig::Disk {
            keys_path: "./data/server/keys.json".into()
        }
    );
}

#[test]
fn defaults_are_those_of_spire() {
    let (config, warnings) = read("").unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.bind.to_string(), "0.0.0.0:8081");
    assert_eq!(
        config.socket_path,
        Path::new("/tmp/spire-server/private/api.sock")
    );
    assert_eq!(config.log, LogOptions::default());
    assert_eq!((config.log.level, config.log.format), (Level::Info, Format::Text));
    assert_eq!(
        config.rate_limits,
        RateLimits {
            attestation: true,
            signing: true
        }
    );
    assert_eq!((config.ca.ca_ttl, config.ca.x509_svid_ttl), (HOUR * 24, HOUR));
    assert_eq!(
        (config.ca.jwt_svid_ttl, config.ca.agent_ttl),
        (Duration::from_secs(300), HOUR)
    );
    assert_eq!(
        (config.ca.x509_key_type, config.ca.jwt_key_type),
        (KeyType::EcP256, KeyType::EcP256)
    );
    assert_eq!(config.ca.ca_subject, CaSubject::default());
    assert!(!config.ca.disable_jwt_svids);
    assert!(
        config.registry.node_pruning.is_none() && config.x509pop.is_none() && config.health_checks.is_none()
    );
    assert_eq!(config.data_store.path, Path::new("./d/datastore.sqlite3"));
}

#[test]
fn dependent_defaults_follow_their_key() {
    let (config, _) = read("ca_key_type = \"rsa-2048\" default_x509_svid_ttl = \"2h\"").unwrap();
    assert_eq!(
        (config.ca.jwt_key_type, config.ca.agent_ttl),
        (KeyType::Rsa2048, HOUR * 2)
    );
}

#[test]
fn all_keys_are_read() {
    let (config, warnings) = read(
        r#"bind_address = "::1" bind_port = 0 socket_path = "/run/x/api.sock" ca_key_type = "ec-p384" jwt_key_type = "ec-p256"
        ca_ttl = "96h" default_x509_svid_ttl = "3h" default_jwt_svid_ttl = "10m" agent_ttl = "4h" jwt_issuer = "https://iss"
        disable_jwt_svids = true admin_ids = ["spiffe://example.org/admin"] audit_log_enabled = false log_level = "warn"
        log_format = "JSON" log_file = "/var/log/s.log" log_source_location = true ratelimit { attestation = false }
        ca_subject { country = ["DE", "FR"] common_name = "cn" } prune_attested_nodes_expired_for = "720h"
        prune_attested_nodes_batch_size = 5 prune_tofu_nodes = true"#,
    )
    .unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.bind.to_string(), "[::1]:0");
    assert_eq!(
        (config.ca.x509_key_type, config.ca.jwt_key_type),
        (KeyType::EcP384, KeyType::EcP256)
    );
    assert_eq!(
        (config.ca.ca_ttl, config.ca.x509_svid_ttl, config.ca.agent_ttl),
        (HOUR * 96, HOUR * 3, HOUR * 4)
    );
    assert_eq!(config.ca.jwt_issuer.as_deref(), Some("https://iss"));
    assert_eq!(config.ca.ca_subject.country, ["DE", "FR"]);
    assert_eq!(
        (
            config.ca.ca_subject.organization.len(),
            config.ca.ca_subject.common_name.as_str()
        ),
        (0, "cn")
    );
    assert!(config.ca.disable_jwt_svids);
    assert_eq!(config.admin_ids[0].as_str(), "spiffe://example.org/admin");
    assert_eq!((config.log.level, config.log.format), (Level::Warn, Format::Json));
    assert_eq!(config.log.file.as_deref(), Some(Path::new("/var/log/s.log")));
    assert!(config.log.source_location && !config.rate_limits.attestation && config.rate_limits.signing);
    let pruning = config.registry.node_pruning.unwrap();
    assert_eq!(
        (pruning.expired_for, pruning.batch, pruning.include_tofu),
        (HOUR * 720, 5, true)
    );
}

#[test]
fn flags_win_over_the_file() {
    let overrides = ServerOverrides {
        bind_port: Some("9000".to_owned()),
        trust_domain: Some("spiffe://flag.org".to_owned()),
        log_source_location: Some(true),
        ..ServerOverrides::default()
    };
    let text =
        format!("server {{ trust_domain = \"file.org\" data_dir = \"./d\" bind_port = 1 }}\n{PLUGINS}");
    let (config, _) = read_with(&text, &overrides).unwrap();
    assert_eq!(
        (config.trust_domain.as_str(), config.bind.port()),
        ("flag.org", 9000)
    );
    assert!(config.log.source_location);
    let wrong = ServerOverrides {
        bind_port: Some("x".to_owned()),
        ..overrides
    };
    let faults = read_with(&text, &wrong).unwrap_err();
    assert_eq!(
        faults,
        ["command line: server.bind_port: expected a whole number, found \"x\""]
    );
}

#[test]
fn every_fault_at_once_with_its_line() {
    let faults = read_with(
        "server {\n trust_domain = \"Not Valid\"\n bind_address = \"no host\"\n bind_port = 8081\n ca_key_type = \"dsa\"\n ca_ttl = \"0s\"\n \
         log_level = \"LOUD\"\n log_format = \"xml\"\n admin_ids = [\"x\"]\n trust_domian = 1\n ratelimit { signing = true sining = 1 }\n \
         proxy_protocol_trusted_cidrs = [\"10.0.0.0/88\"] audit_log_enabled = 1 audit_log { sink = \"x\" }\n experimental { auth_opa_policy_engine {} require_pq_kem = true feature_flags = [\"x\"] }\n}\nsrever {}\n",
        &ServerOverrides::default(),
    )
    .unwrap_err();
    for (place, part) in [
        ("server.conf", "plugins section must be configured"),
        ("server.conf:1:1", "server.data_dir must be configured"),
        (
            "server.conf:2:2",
            "server.trust_domain: could not parse \"Not Valid\"",
        ),
        (
            "server.conf:3:2",
            "server.bind_address: could not resolve \"no host\"",
        ),
        ("server.conf:5:2", "server.ca_key_type"),
        ("server.conf:6:2", "server.ca_ttl: must be at least one second"),
        ("server.conf:7:2", "server.log_level: not a valid log level"),
        (
            "server.conf:8:2",
            "server.log_format: must be \"text\" or \"json\"",
        ),
        ("server.conf:9:15", "server.admin_ids: could not parse \"x\""),
        (
            "server.conf:10:2",
            "unknown key \"trust_domian\" in server; did you mean \"trust_domain\"?",
        ),
        (
            "server.conf:11:29",
            "unknown key \"sining\" in server.ratelimit; did you mean \"signing\"?",
        ),
        (
            "server.conf:12:34",
            "invalid proxy_protocol_trusted_cidrs value \"10.0.0.0/88\": invalid CIDR address: 10.0.0.0/88",
        ),
        (
            "server.conf:12:83",
            "server.audit_log.sink: must be \"log\", \"stdout\" or \"file\"",
        ),
        (
            "server.conf:13:17",
            "server.experimental.auth_opa_policy_engine: policy engine configuration must define a provider",
        ),
        ("server.conf:13:82", "unknown feature flag \"x\""),
        (
            "server.conf:15:1",
            "unknown key \"srever\" at the top level; did you mean \"server\"?",
        ),
    ] {
        let found = faults
            .iter()
            .any(|fault| fault.starts_with(&format!("{place}: ")) && fault.contains(part));
        assert!(found, "{place} {part} is not in {faults:#?}");
    }
    assert_eq!(faults.len(), 16, "{faults:#?}");
}

#[test]
fn keys_of_parts_to_come_are_warned_of_once() {
    let (_, warnings) = read(
        "federation { bundle_endpoint { port = 1 profile \"https_spiffe\" {} } }\nprofiling_enabled = true\n\
         experimental { events_based_cache = true future = 1 feature_flags = [\"wit-svid\"] }",
    )
    .unwrap();
    assert_eq!(
        warnings,
        [
            "server.conf:2:14: server.federation.bundle_endpoint: this version serves no bundle endpoint",
            "server.conf:3:1: server.profiling_enabled: this version accepts the key but it has no effect",
            "server.conf:4:16: server.experimental.events_based_cache: this version accepts the key but it has no effect",
            "server.conf:4:42: unknown key \"future\" in server.experimental",
        ]
    );
}

#[test]
fn a_key_that_will_go_is_marked_for_alerts() {
    let text = format!(
        "server {{ trust_domain = \"example.org\" data_dir = \"./d\" experimental {{ sql_transaction_timeout = \"1m\" }} }}\n{PLUGINS}"
    );
    let document = Document::parse("server.conf", &text).unwrap();
    let (_, warnings) = ServerConfig::read(&document, &ServerOverrides::default()).unwrap();
    let [deprecated] = warnings.as_slice() else {
        panic!("{warnings:?}")
    };
    assert!(deprecated.deprecated);
    assert_eq!(
        deprecated.message,
        "experimental.sql_transaction_timeout is deprecated, use experimental.event_timeout instead"
    );
    let faults =
        read("experimental { sql_transaction_timeout = \"1m\" event_timeout = \"1m\" }").unwrap_err();
    assert!(
        faults[0].contains("both sql_transaction_timeout and event_timeout set, only set event_timeout"),
        "{faults:?}"
    );
}

#[test]
fn an_address_may_be_a_name_or_in_brackets() {
    let bound = |address: &str| {
        read(&format!("bind_address = \"{address}\" bind_port = \"1\"")).map(|read| read.0.bind)
    };
    assert!(bound("localhost").unwrap().ip().is_loopback());
    assert_eq!(bound("[::1]").unwrap().to_string(), "[::1]:1");
    assert!(read("bind_port = 70000").unwrap_err()[0].contains("server.bind_port: 70000 is out of range"));
}

#[test]
fn times_without_effect_are_read_all_the_same() {
    let faults = read(
        "max_attested_node_info_staleness = \"soon\" experimental { cache_reload_interval = \"5\" full_cache_reload_interval = \"x\" }",
    )
    .unwrap_err();
    assert_eq!(faults.len(), 3, "{faults:#?}");
    let (config, warnings) = read(
        "max_attested_node_info_staleness = \"10s\" ca_subject {} experimental { agent_spiffe_id_as_selector = true event_timeout = \"1m\" }",
    )
    .unwrap();
    assert!(config.operations.agent_id_as_selector);
    for part in [
        "max_attested_node_info_staleness",
        "ca_subject: is set but empty",
        "event_timeout",
    ] {
        assert!(
            warnings.iter().any(|warning| warning.contains(part)),
            "{part}: {warnings:#?}"
        );
    }
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
}

#[test]
fn what_an_operator_switches_on_is_read() {
    let (config, warnings) = read(
        "proxy_protocol_trusted_cidrs = [\"10.0.0.0/8\", \"fd00::/8\"] experimental { require_pq_kem = true }",
    )
    .unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.operations.key_exchange, KeyExchange::QuantumSafe);
    assert!(!config.operations.trusted_proxies.is_empty());
    let (config, _) = read("experimental { require_pq_kem = false }").unwrap();
    assert_eq!(config.operations.key_exchange, KeyExchange::Any);
    assert!(config.operations.trusted_proxies.is_empty());
}

/// What SPIRE's suite spire-server-cli looks for in what `validate` says.
#[test]
fn faults_of_several_plugins_come_in_the_words_that_scripts_know() {
    let faults = read_plugins(
        "DataStore \"sql\" { plugin_data { database_type = \"sqlite3\" connection_string = \"x\" } }\nKeyManager \"memory\" {}\n\
         NodeAttestor \"x509pop\" { plugin_data_file = \"conf/server/x509pop.conf\" }\nUpstreamAuthority \"disk\" { plugin_data { cert_file_path = \"\" } }\n\
         NodeAttestor \"join_token\" {}\nNodeAttestor \"join_token\" {}",
    )
    .unwrap_err();
    for part in [
        "failed to read plugin configuration: open conf/server/x509pop.conf: no such file or directory",
        "'cert_file_path' and 'key_file_path' must be set and not empty",
        "plugin \"NodeAttestor\"/\"join_token\" declared more than once",
    ] {
        assert!(
            faults.iter().any(|fault| fault.contains(part)),
            "{part}: {faults:#?}"
        );
    }
}

#[test]
fn lifetimes_that_would_be_cut_are_warned_of() {
    let (_, warnings) = read("default_x509_svid_ttl = \"5h\"").unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("set it to 14400s or less, or ca_ttl to 108000s or more"),
        "{}",
        warnings[0]
    );
    let (_, warnings) = read("ca_ttl = \"10000h\" default_jwt_svid_ttl = \"169h\"").unwrap();
    assert!(
        warnings[0].contains("at most 604800s is guaranteed"),
        "{}",
        warnings[0]
    );
    assert!(read("ca_ttl = \"6h\"").unwrap().1.is_empty());
}

#[test]
fn plugins_we_do_not_have_are_named() {
    let faults = read_plugins(
        "DataStore \"sql\" { plugin_data { database_type = \"postgres\" connection_string = \"x\" } }\n\
         KeyManager \"aws_kms\" {}\nNodeAttestor \"k8s_psat\" {}\nUpstreamAuthority \"disk\" {}\nNodeAttestor \"aws_iid\" { enabled = false }\nThing \"x\" {}",
    )
    .unwrap_err();
    for part in [
        "database_type: not supported: this version has only \"sqlite3\"",
        "server.conf:4:12: KeyManager plugin \"aws_kms\" is not supported: this version has only disk and memory",
        "server.conf:5:14: NodeAttestor plugin \"k8s_psat\" is not supported: this version has only join_token and x509pop",
        "server.conf:6:19: UpstreamAuthority plugin \"disk\" is not supported: this version has none of this type yet",
        "server.conf:6:19: 'cert_file_path' and 'key_file_path' must be set and not empty",
        "server.conf:8:1: unknown key \"Thing\" in plugins",
    ] {
        assert!(
            faults.iter().any(|fault| fault.contains(part)),
            "{part} is not in {faults:#?}"
        );
    }
    assert_eq!(faults.len(), 6, "{faults:#?}");
}

#[test]
fn one_store_and_one_key_manager() {
    let faults =
        read_plugins("KeyManager \"memory\" {}\nKeyManager \"disk\" { plugin_data {} }").unwrap_err();
    for part in [
        "exactly one DataStore plugin must be configured, found 0",
        "exactly one KeyManager plugin must be configured, found 2",
        "plugins.KeyManager \"disk\".plugin_data.keys_path must be configured",
    ] {
        assert!(
            faults.iter().any(|fault| fault.contains(part)),
            "{part} is not in {faults:#?}"
        );
    }
}

#[test]
fn sqlite_takes_files_only() {
    let store = |connection: &str| {
        let data = format!("database_type = \"sqlite3\" connection_string = \"{connection}\"");
        read_plugins(&format!(
            "DataStore \"sql\" {{ plugin_data {{ {data} }} }}\nKeyManager \"memory\" {{}}"
        ))
    };
    for (connection, path) in [
        ("/var/d.sqlite3", "/var/d.sqlite3"),
        ("file:d.sqlite3?cache=shared", "d.sqlite3"),
        ("file:///var/d.sqlite3", "/var/d.sqlite3"),
    ] {
        assert_eq!(store(connection).unwrap().0.data_store.path, Path::new(path));
    }
    for connection in [":memory:", "file:x?mode=memory", "file:?x=1"] {
        assert!(
            store(connection).unwrap_err()[0].contains("must name a file"),
            "{connection}"
        );
    }
}

#[test]
fn x509pop_reads_its_authorities() {
    let dir = tempfile::tempdir().unwrap();
    let signer = std::sync::Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
    let domain = TrustDomain::parse("hosts.test").unwrap();
    let (from, to) = (
        Timestamp::from_unix_seconds(1_700_000_000),
        Timestamp::from_unix_seconds(1_800_000_000),
    );
    let ca = X509Ca::self_sign(signer, &domain, &CaSubject::default(), from, to).unwrap();
    let path = dir.path().join("ca.pem");
    std::fs::write(
        &path,
        pem::encode(&pem::Pem::new("CERTIFICATE", ca.certificate().der().to_vec())),
    )
    .unwrap();
    let pop = |data: &str| {
        let base = "DataStore \"sql\" { plugin_data { database_type = \"sqlite3\" connection_string = \"x\" } }\nKeyManager \"memory\" {}";
        read_plugins(&format!(
            "{base}\nNodeAttestor \"x509pop\" {{ plugin_data {{ {data} }} }}"
        ))
    };
    let good = format!("ca_bundle_path = \"{}\" max_intermediates = 2", path.display());
    let x509pop = pop(&good).unwrap().0.x509pop.unwrap();
    assert!(matches!(&x509pop.trust, Trust::Authorities(roots) if roots.len() == 1));
    assert_eq!((x509pop.max_intermediates, x509pop.max_rsa_bits), (2, 8192));
    for (data, prefix) in [
        ("mode = \"spiffe\"", "/spire-exchange/"),
        ("mode = \"spiffe\" svid_prefix = \"/hosts\"", "/hosts/"),
        (
            "mode = \"spiffe\" spiffe_prefix = \"\" verify_client_ip = true",
            "/",
        ),
    ] {
        let config = pop(data).unwrap().0.x509pop.unwrap();
        let want = Trust::OwnSvids {
            prefix: prefix.to_owned(),
        };
        assert_eq!(
            (config.trust, config.path),
            (want, PathTemplate::svid_path()),
            "{data}"
        );
        assert_eq!(config.verify_client_ip, data.contains("verify_client_ip"));
    }
    for (data, part) in [
        ("", "one of ca_bundle_path and ca_bundle_paths must be configured"),
        (
            "ca_bundle_paths = [\"/none.pem\"]",
            "unable to load trust bundle \"/none.pem\"",
        ),
        (
            &format!("{good} mode = \"spiffe\""),
            "you can not use ca_bundle_path or ca_bundle_paths in spiffe mode",
        ),
        (
            &format!("{good} agent_path_template = \"/{{{{ .Nope }}}}\""),
            "agent_path_template",
        ),
        (&format!("{good} ca_bundel = 1"), "unknown key \"ca_bundel\""),
        (
            &format!("{good} max_rsa_key_size = 0"),
            "max_rsa_key_size: must be greater than 0",
        ),
        (&format!("{good} mode = \"x\""), "can only be either"),
    ] {
        let faults = pop(data).unwrap_err();
        assert!(
            faults.iter().any(|fault| fault.contains(part)),
            "{part} is not in {faults:#?}"
        );
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let faults =
        ServerConfig::load(Path::new("conf/none.conf"), &ServerOverrides::default(), false).unwrap_err();
    assert_eq!(
        faults[0].to_string(),
        "conf/none.conf: open conf/none.conf: no such file or directory"
    );
}

#[test]
fn the_feature_flag_switches_wit_svids_on() {
    let wit = |keys: &str| read(keys).unwrap().0.ca.wit;
    assert!(wit("experimental { wit_key_type = \"rsa-2048\" }").is_none());
    let on =
        wit("ca_key_type = \"ec-p384\"\nexperimental { feature_flags = [\"wit-svid\"] wit_issuer = \"i\" }")
            .unwrap();
    assert_eq!((on.key_type, on.issuer.as_deref()), (KeyType::EcP384, Some("i")));
    let own = wit("experimental { feature_flags = [\"wit-svid\"] wit_key_type = \"rsa-2048\" }").unwrap();
    assert_eq!((own.key_type, own.issuer), (KeyType::Rsa2048, None));
}

/// Whole files. A line "#! fault ..." or "#! warning ..." holds a part of something that is said of the file; what it
/// doesn't announce must not be said.
#[test]
fn every_file_of_the_corpus_is_judged_as_it_announces() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/corpus"));
    let (mut files, mut wrong) = (0, Vec::new());
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let announced = |kind: &str| -> Vec<String> {
            let parts = text
                .lines()
                .filter_map(|line| line.strip_prefix("#! ")?.strip_prefix(kind));
            parts.map(|part| part.trim().to_owned()).collect()
        };
        let read = Document::parse(&name, &text)
            .map_err(|fault| vec![fault])
            .and_then(|document| ServerConfig::read(&document, &ServerOverrides::default()));
        let texts = |said: Vec<Fault>| said.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (faults, warnings) = match read {
            Ok((_, warnings)) => (Vec::new(), texts(warnings)),
            Err(faults) => (texts(faults), Vec::new()),
        };
        for (kind, said) in [("fault", faults), ("warning", warnings)] {
            let announced = announced(kind);
            let missed = announced
                .iter()
                .filter(|part| !said.iter().any(|text| text.contains(*part)));
            wrong.extend(missed.map(|part| format!("{name}: no {kind} {part}")));
            if said.len() != announced.len() {
                wrong.push(format!(
                    "{name}: {} {kind}s are announced, not {said:#?}",
                    announced.len()
                ));
            }
        }
        files += 1;
    }
    assert_eq!(files, 9);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
