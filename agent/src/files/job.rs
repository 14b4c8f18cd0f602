//! What is to be written, where, and what happens then: a `files` block, or a file as spiffe-helper has it.
//!
//! Invariant: a [`Job`] needs no further checks, and no two of its files have one name.

mod arguments;
mod read;

use std::ffi::OsString;
use std::path::PathBuf;

use credence_identity::SpiffeId;
use credence_runtime::config::HealthChecks;
use nix::sys::signal::Signal;

use super::batch::Named;
use super::target::Target;

pub(crate) use read::{read_block, read_helper};

/// One identity, its files, and who is told when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What the log calls it.
    pub name: String,
    /// Whose identity it is.
    pub choice: Choice,
    /// Where the files go.
    pub target: Target,
    /// The files of the X.509-SVID, if there are to be any.
    pub x509: Option<X509Files>,
    /// The file with all JWT bundles.
    pub jwt_bundle: Option<Named>,
    /// Files with a JWT-SVID.
    pub tokens: Vec<TokenFile>,
    /// What follows a renewal.
    pub hooks: HookSettings,
}

/// Which of several identities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The one with this SPIFFE ID.
    pub spiffe_id: Option<SpiffeId>,
    /// The one with this hint; empty for the first.
    pub hint: String,
}

/// The files of an X.509-SVID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X509Files {
    /// Certificates and key in two files that change together, with the bundle.
    pub pair: Option<(Named, Named)>,
    /// The bundle: with the pair, or by itself.
    pub bundle: Option<Named>,
    /// Certificates and key in one file.
    pub combined: Option<Named>,
    /// Key stores, which have the bundle too.
    pub stores: Vec<StoreFile>,
    /// Intermediate certificates go into the bundle instead.
    pub intermediates_in_bundle: bool,
    /// The bundle has those of federated trust domains too.
    pub federated: bool,
    /// Expired certificates are left out.
    pub omit_expired: bool,
}

/// A key store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFile {
    /// The file.
    pub file: Named,
    /// Its form.
    pub form: StoreForm,
    /// The file whose first line is its password.
    pub password_file: PathBuf,
}

/// Forms of key stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreForm {
    /// RFC 7292.
    Pkcs12,
    /// Java's own.
    Jks,
}

/// A file with a JWT-SVID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFile {
    /// The file.
    pub file: Named,
    /// Whom the token is for, at least one.
    pub audience: Vec<String>,
}

/// What follows a renewal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookSettings {
    /// A program and its arguments: started, or told by the signal while it runs.
    pub command: Option<(OsString, Vec<OsString>)>,
    /// What it, and the process of the pid file, are sent.
    pub signal: Option<Signal>,
    /// Holds the number of a process to be sent the signal.
    pub pid_file: Option<PathBuf>,
    /// Gets a POST.
    pub url: Option<String>,
    /// Whether the command gets this process's environment and input.
    pub inherit: bool,
}

/// All that a configuration file as spiffe-helper has it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Helper {
    pub(crate) job: Job,
    /// The Workload API, if it is named.
    pub(crate) agent_address: Option<String>,
    /// Whether the files are kept current, or written once.
    pub(crate) daemon_mode: bool,
    /// HTTP probes, if switched on.
    pub(crate) health_checks: Option<HealthChecks>,
}

impl Choice {
    /// Whether an identity is the one: of several that are, the first.
    pub(crate) fn fits(&self, spiffe_id: &str, hint: &str) -> bool {
        let named = self
            .spiffe_id
            .as_ref()
            .is_none_or(|wanted| wanted.to_string() == spiffe_id);
        named && (self.hint.is_empty() || self.hint == hint)
    }
}

impl Job {
    /// Whether JWT bundles are of any concern to it.
    pub(crate) fn wants_jwt(&self) -> bool {
        self.jwt_bundle.is_some() || !self.tokens.is_empty()
    }
}

#[cfg(test)]
mod tests;
