//! The agent's `plugins` block, and the join token, which replaces a node attestor.

use std::fs;
use std::path::PathBuf;

use credence_runtime::config::{
    Document, Fault, Located, Report, Section, UnknownKeys, each_plugin, missing_plugin,
};

use crate::attestor::node::{JoinToken, X509Pop};
use crate::attestor::workload::UnixOptions;

/// Where the agent's own keys live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyManagerConfig {
    /// In memory only: a restart attests anew.
    Memory,
    /// In a file `keys.json`.
    Disk {
        /// Its folder.
        directory: PathBuf,
    },
}

/// How the host is proved.
#[derive(Debug, Clone)]
pub enum NodeAttestorConfig {
    /// By a join token; none is needed where the state file holds an SVID.
    JoinToken(Option<JoinToken>),
    /// By a certificate.
    X509Pop(X509Pop),
}

/// What is in the block; none where a fault was reported.
pub(super) struct Plugins {
    node_attestor: Option<NodeAttestorConfig>,
    attestors: usize,
    pub(super) key_manager: Option<KeyManagerConfig>,
    pub(super) unix: Option<UnixOptions>,
    pub(super) unix_file: Option<PathBuf>,
}

impl Plugins {
    /// A join token wins over whatever attestor the block names, as in SPIRE.
    pub(super) fn node_attestor(
        &self,
        agent: &Section<'_>,
        join_token: Option<JoinToken>,
    ) -> Option<NodeAttestorConfig> {
        if let Some(token) = join_token {
            if matches!(self.node_attestor, Some(NodeAttestorConfig::X509Pop(_))) {
                agent.warn(
                    "join_token",
                    "the node attests by the join token, not by the NodeAttestor of the plugins",
                );
            }
            return Some(NodeAttestorConfig::JoinToken(Some(token)));
        }
        if self.attestors != 1 {
            let message = format!(
                "exactly one NodeAttestor plugin must be configured unless there is a join token, found {}",
                self.attestors
            );
            agent.report().fault(agent.place().clone(), message);
        }
        self.node_attestor.clone()
    }
}

pub(super) fn read(root: &Section<'_>) -> Option<Plugins> {
    let Some(plugins) = root.block("plugins") else {
        root.report()
            .fault(root.place().clone(), "plugins section must be configured");
        return None;
    };
    let mut read = Plugins {
        node_attestor: None,
        attestors: 0,
        key_manager: None,
        unix: None,
        unix_file: None,
    };
    let managers = each_plugin(
        &plugins,
        "KeyManager",
        &mut |name, data| match name.value.as_str() {
            "memory" => {
                read.key_manager = Some(KeyManagerConfig::Memory);
                data.finish(UnknownKeys::Warn);
            }
            "disk" => {
                let directory = data.required("directory").map(PathBuf::from);
                read.key_manager = directory.map(|directory| KeyManagerConfig::Disk { directory });
                data.finish(UnknownKeys::Fatal);
            }
            _ => missing(&plugins, "KeyManager", name, data, &["disk", "memory"]),
        },
    );
    if managers != 1 {
        let message = format!("exactly one KeyManager plugin must be configured, found {managers}");
        plugins.report().fault(plugins.place_of("KeyManager"), message);
    }
    read.attestors = each_plugin(
        &plugins,
        "NodeAttestor",
        &mut |name, data| match name.value.as_str() {
            "join_token" => {
                read.node_attestor = Some(NodeAttestorConfig::JoinToken(None));
                data.finish(UnknownKeys::Warn);
            }
            "x509pop" => {
                read.node_attestor = x509pop(&data).map(NodeAttestorConfig::X509Pop);
                data.finish(UnknownKeys::Fatal);
            }
            _ => missing(&plugins, "NodeAttestor", name, data, &["join_token", "x509pop"]),
        },
    );
    let workload = each_plugin(
        &plugins,
        "WorkloadAttestor",
        &mut |name, data| match name.value.as_str() {
            "unix" => {
                read.unix = Some(unix(&data));
                read.unix_file = data.whole_file().map(PathBuf::from);
                data.finish(UnknownKeys::Fatal);
            }
            _ => missing(&plugins, "WorkloadAttestor", name, data, &["unix"]),
        },
    );
    if workload == 0 {
        let message = "at least one WorkloadAttestor plugin must be configured";
        plugins.report().fault(plugins.place().clone(), message);
    }
    each_plugin(&plugins, "SVIDStore", &mut |name, data| {
        missing(&plugins, "SVIDStore", name, data, &[])
    });
    plugins.finish(UnknownKeys::Fatal);
    Some(read)
}

fn unix(data: &Section<'_>) -> UnixOptions {
    UnixOptions {
        discover_workload_path: data.boolean("discover_workload_path").unwrap_or(false),
        workload_size_limit: data.integer("workload_size_limit").unwrap_or(0),
    }
}

/// The data of the attestor `unix` from a file of its own.
///
/// # Errors
/// All faults at once.
pub fn unix_from(document: &Document) -> Result<UnixOptions, Vec<Fault>> {
    let report = Report::new();
    let data = document.root(&report);
    let options = unix(&data);
    data.finish(UnknownKeys::Fatal);
    report.finish("unix", Some(options)).map(|(options, _)| options)
}

/// The token of `join_token`, or of the file that `join_token_file` names.
pub(super) fn join_token(agent: &Section<'_>) -> Option<JoinToken> {
    let token = agent.string("join_token");
    let Some(file) = agent.string("join_token_file") else {
        return token.map(JoinToken::new);
    };
    if token.is_some() {
        agent.fault("join_token_file", "excludes join_token");
        return None;
    }
    match fs::read_to_string(&file) {
        Ok(text) if !text.trim().is_empty() => Some(JoinToken::new(text.trim().to_owned())),
        Ok(_) => {
            agent.fault("join_token_file", format_args!("{file:?} is empty"));
            None
        }
        Err(error) => {
            agent.fault(
                "join_token_file",
                format_args!("unable to read join token file {file:?}: {error}"),
            );
            None
        }
    }
}

fn missing(plugins: &Section<'_>, kind: &str, name: &Located<String>, data: Section<'_>, available: &[&str]) {
    missing_plugin(plugins, kind, name, available);
    data.discard();
}

fn x509pop(data: &Section<'_>) -> Option<X509Pop> {
    data.refused(&["spiffe_endpoint_socket"]);
    let private_key_path = data.required("private_key_path").map(PathBuf::from);
    let certificate_path = data.required("certificate_path").map(PathBuf::from);
    let intermediates_path = data.string("intermediates_path").map(PathBuf::from);
    Some(X509Pop {
        private_key_path: private_key_path?,
        certificate_path: certificate_path?,
        intermediates_path,
    })
}
