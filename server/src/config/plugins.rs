//! The server's `plugins` block.

use std::fs;
use std::path::{Path, PathBuf};

use credence_crypto::x509::Certificate;
use credence_runtime::config::{
    Document, Fault, Located, Report, Section, UnknownKeys, each_plugin, missing_plugin,
};

use crate::attestor::x509pop::{PathTemplate, Trust, X509PopConfig};
use crate::store::SqliteOptions;

/// Where the authorities' keys live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyManagerConfig {
    /// In memory only: a restart makes new authorities.
    Memory,
    /// In a file.
    Disk {
        /// The file.
        keys_path: PathBuf,
    },
}

/// What is in the block; none where a fault was reported.
pub(super) struct Plugins {
    pub(super) data_store: Option<SqliteOptions>,
    pub(super) key_manager: Option<KeyManagerConfig>,
    pub(super) x509pop: Option<X509PopConfig>,
    pub(super) x509pop_file: Option<PathBuf>,
}

pub(super) fn read(root: &Section<'_>) -> Option<Plugins> {
    let Some(plugins) = root.block("plugins") else {
        root.report()
            .fault(root.place().clone(), "plugins section must be configured");
        return None;
    };
    let mut read = Plugins {
        data_store: None,
        key_manager: None,
        x509pop: None,
        x509pop_file: None,
    };
    let stores = each_plugin(
        &plugins,
        "DataStore",
        &mut |name, data| match name.value.as_str() {
            "sql" => {
                read.data_store = sqlite(&data);
                data.finish(UnknownKeys::Fatal);
            }
            _ => missing(&plugins, "DataStore", name, data, &["sql"]),
        },
    );
    exactly_one(&plugins, "DataStore", stores);
    let managers = each_plugin(
        &plugins,
        "KeyManager",
        &mut |name, data| match name.value.as_str() {
            "memory" => {
                read.key_manager = Some(KeyManagerConfig::Memory);
                data.finish(UnknownKeys::Warn);
            }
            "disk" => {
                let keys_path = data.required("keys_path").map(PathBuf::from);
                read.key_manager = keys_path.map(|keys_path| KeyManagerConfig::Disk { keys_path });
                data.finish(UnknownKeys::Fatal);
            }
            _ => missing(&plugins, "KeyManager", name, data, &["disk", "memory"]),
        },
    );
    exactly_one(&plugins, "KeyManager", managers);
    each_plugin(
        &plugins,
        "NodeAttestor",
        &mut |name, data| match name.value.as_str() {
            "join_token" => data.finish(UnknownKeys::Warn),
            "x509pop" => {
                read.x509pop_file = data.whole_file().map(PathBuf::from);
                read.x509pop = x509pop(&data);
                data.finish(UnknownKeys::Fatal);
            }
            _ => missing(&plugins, "NodeAttestor", name, data, &["join_token", "x509pop"]),
        },
    );
    each_plugin(&plugins, "UpstreamAuthority", &mut |name, data| {
        let files = ["cert_file_path", "key_file_path"];
        if name.value == "disk" && !files.iter().all(|key| data.string(key).is_some()) {
            data.report().fault(
                data.place().clone(),
                "'cert_file_path' and 'key_file_path' must be set and not empty",
            );
        }
        missing(&plugins, "UpstreamAuthority", name, data, &[]);
    });
    for kind in ["CredentialComposer", "Notifier", "BundlePublisher"] {
        each_plugin(&plugins, kind, &mut |name, data| {
            missing(&plugins, kind, name, data, &[])
        });
    }
    plugins.finish(UnknownKeys::Fatal);
    Some(read)
}

fn missing(plugins: &Section<'_>, kind: &str, name: &Located<String>, data: Section<'_>, available: &[&str]) {
    missing_plugin(plugins, kind, name, available);
    data.discard();
}

fn exactly_one(plugins: &Section<'_>, kind: &'static str, count: usize) {
    if count != 1 {
        let message = format!("exactly one {kind} plugin must be configured, found {count}");
        plugins.report().fault(plugins.place_of(kind), message);
    }
}

fn sqlite(data: &Section<'_>) -> Option<SqliteOptions> {
    data.without_effect(&[
        "ro_connection_string",
        "conn_max_lifetime",
        "max_open_conns",
        "max_idle_conns",
        "disable_migration",
        "log_sql",
    ]);
    data.without_effect(&["root_ca_path", "client_cert_path", "client_key_path"]);
    let kind = data.required("database_type");
    let connection = data.required("connection_string");
    if kind? != "sqlite3" {
        data.fault(
            "database_type",
            "not supported: this version has only \"sqlite3\"",
        );
        return None;
    }
    let connection = connection?;
    let path = connection.strip_prefix("file:").unwrap_or(&connection);
    let (path, options) = path.split_once('?').unwrap_or((path, ""));
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path == ":memory:" || options.contains("mode=memory") {
        data.fault(
            "connection_string",
            "must name a file: a database in memory would forget every identity",
        );
        return None;
    }
    Some(SqliteOptions::new(path))
}

fn x509pop(data: &Section<'_>) -> Option<X509PopConfig> {
    let paths = ca_bundle_paths(data);
    let prefix = svid_prefix(data);
    let trust = match data.string("mode").as_deref() {
        None | Some("external_pki") => {
            if paths.is_empty() {
                data.fault(
                    "ca_bundle_path",
                    "one of ca_bundle_path and ca_bundle_paths must be configured",
                );
            }
            Trust::Authorities(authorities(data, paths))
        }
        Some("spiffe") => {
            if !paths.is_empty() {
                data.fault(
                    "mode",
                    "you can not use ca_bundle_path or ca_bundle_paths in spiffe mode",
                );
            }
            Trust::OwnSvids { prefix }
        }
        Some(_) => {
            data.fault("mode", "can only be either \"spiffe\" or \"external_pki\"");
            Trust::OwnSvids { prefix }
        }
    };
    let defaults = X509PopConfig::of(trust);
    let most = |key, default| match data.number::<usize>(key) {
        Some(0) => {
            data.fault(key, "must be greater than 0");
            default
        }
        other => other.unwrap_or(default),
    };
    let path = match data.string("agent_path_template") {
        None => defaults.path,
        Some(text) => PathTemplate::parse(&text)
            .map_err(|error| data.fault("agent_path_template", error))
            .unwrap_or(defaults.path),
    };
    Some(X509PopConfig {
        trust: defaults.trust,
        path,
        max_intermediates: most("max_intermediates", defaults.max_intermediates),
        max_rsa_bits: most("max_rsa_key_size", defaults.max_rsa_bits),
        verify_client_ip: data.boolean("verify_client_ip").unwrap_or(false),
    })
}

/// By the name that SPIRE reads, or else by the one in its documentation; with a slash at the end, and the empty text
/// means any path.
fn svid_prefix(data: &Section<'_>) -> String {
    let key = if data.has("spiffe_prefix") {
        "spiffe_prefix"
    } else {
        "svid_prefix"
    };
    let mut prefix = match data.string(key) {
        None if !data.has(key) => "/spire-exchange".to_owned(),
        other => other.unwrap_or_default(),
    };
    if !prefix.ends_with('/') {
        prefix.push('/');
    }
    prefix
}

fn ca_bundle_paths(data: &Section<'_>) -> Vec<Located<String>> {
    let mut paths = data.strings("ca_bundle_paths");
    if let Some(path) = data.string("ca_bundle_path") {
        if !paths.is_empty() {
            data.fault("ca_bundle_path", "excludes ca_bundle_paths");
        }
        paths.push(Located {
            value: path,
            place: data.place_of("ca_bundle_path"),
        });
    }
    paths
}

fn authorities(data: &Section<'_>, paths: Vec<Located<String>>) -> Vec<Certificate> {
    let mut roots = Vec::new();
    for path in paths {
        match read_certificates(Path::new(&path.value)) {
            Ok(read) => roots.extend(read),
            Err(why) => data.report().fault(
                path.place,
                format!("unable to load trust bundle {:?}: {why}", path.value),
            ),
        }
    }
    roots
}

/// Reads x509pop's data file again, while the server runs.
///
/// # Errors
/// All faults at once.
pub fn x509pop_from(document: &Document) -> Result<X509PopConfig, Vec<Fault>> {
    let report = Report::new();
    let data = document.root(&report);
    let config = x509pop(&data);
    data.finish(UnknownKeys::Fatal);
    report.finish("x509pop", config).map(|(config, _)| config)
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let certificates = Certificate::parse_pem(&text).map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        Err("it holds no certificate".to_owned())
    } else {
        Ok(certificates)
    }
}
