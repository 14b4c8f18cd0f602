//! Reading configuration files: HCL 1 or its JSON form, in SPIRE's shape, with a place for every complaint.
//!
//! Owns syntax, weak typing and the collecting of faults; which keys there are is the callers' business. It never panics
//! on any input, and it never stops at the first fault of a well-formed file.

pub mod hcl;

mod env;
mod plugins;
mod reconfigure;
mod report;
mod section;
mod shared;
mod telemetry;
mod value;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

pub use env::expand;
pub use plugins::{each_plugin, missing_plugin};
pub use reconfigure::{Apply, Reconfigurable, reconfigure_on_signal};
pub use report::{Fault, Place, Report};
pub use section::{Located, Section, UnknownKeys};
pub use shared::{
    FeatureFlags, HealthChecks, audit_sink, feature_flags, health_checks, key_exchange, log_options,
    safe_path,
};
pub use telemetry::{
    OtlpConfig, PrometheusConfig, PrometheusTls, Selection, TelemetryConfig, TlsCertificate, TlsReaders,
    telemetry,
};
pub use value::parse_duration;

/// Larger files are refused; SPIRE's have a few kilobytes.
pub const MAX_SIZE: usize = 1 << 20;

/// Says what an environment variable holds, if it is set.
pub type EnvLookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A file that was read and is well-formed.
#[derive(Debug, Clone)]
pub struct Document {
    file: Arc<str>,
    body: hcl::Body,
}

impl Document {
    /// Reads a file; with `env`, variables are expanded first, as `-expandEnv` asks for (see [`expand`]).
    ///
    /// # Errors
    /// One [`Fault`]: the file can't be read (in Go's words, which scripts look for), is too large or not well-formed.
    pub fn load(path: &Path, env: Option<EnvLookup<'_>>) -> Result<Self, Fault> {
        let name = path.display().to_string();
        let text = read_text(path)?;
        match env {
            Some(lookup) => Self::parse(&name, &expand(&text, lookup)),
            None => Self::parse(&name, &text),
        }
    }

    /// As [`Document::load`] by the environment of this process, where `expand_env` asks for its variables.
    ///
    /// # Errors
    /// As [`Document::load`].
    pub fn load_expanded(path: &Path, expand_env: bool) -> Result<Self, Fault> {
        let env = |name: &str| std::env::var(name).ok();
        Self::load(path, expand_env.then_some(&env as EnvLookup<'_>))
    }

    /// Parses a text; `name` is what faults call it.
    ///
    /// # Errors
    /// One [`Fault`] when the text is not well-formed.
    pub fn parse(name: &str, text: &str) -> Result<Self, Fault> {
        let file: Arc<str> = name.into();
        match hcl::parse(text) {
            Ok(body) => Ok(Document { file, body }),
            Err(error) => Err(Fault::new(Place::at(&file, error.position), error.message)),
        }
    }

    /// Reads the configuration of a program: `read` gets the top level, and the block of the program with the flags of
    /// the command line over it, or none where the file has no such block (which is a fault).
    ///
    /// # Errors
    /// All faults at once, each with its place; beside the configuration come the warnings.
    pub fn read<T>(
        &self,
        block: &'static str,
        flags: &hcl::Body,
        read: impl FnOnce(&Section<'_>, Option<&Section<'_>>) -> Option<T>,
    ) -> Result<(T, Vec<Fault>), Vec<Fault>> {
        let report = Report::new();
        let root = self.root(&report);
        let program = root.block(block).map(|mut program| {
            program.overlay("command line", flags);
            program
        });
        if program.is_none() {
            report.fault(
                root.place().clone(),
                format!("{block} section must be configured"),
            );
        }
        let config = read(&root, program.as_ref());
        if let Some(program) = program {
            program.finish(UnknownKeys::Fatal);
        }
        root.finish(UnknownKeys::Fatal);
        report.finish(&self.file, config)
    }

    /// The top level, for reading; faults go to `report`.
    pub fn root<'a>(&'a self, report: &'a Report) -> Section<'a> {
        Section::root(&self.file, &self.body, report)
    }
}

/// The text of a file of bounded size.
///
/// # Errors
/// As [`Document::load`].
pub fn read_text(path: &Path) -> Result<String, Fault> {
    let name: Arc<str> = path.display().to_string().into();
    let whole = |message: String| Fault::new(Place::file(&name), message);
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_SIZE).unwrap_or(u64::MAX) + 1;
    File::open(path)
        .map_err(|error| whole(format!("open {name}: {}", go_words(&error))))?
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| whole(format!("read {name}: {}", go_words(&error))))?;
    if bytes.len() > MAX_SIZE {
        return Err(whole(format!("the file has more than {MAX_SIZE} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| whole("the file is not UTF-8".to_owned()))
}

/// The texts of the errors that scripts look for, as Go prints them.
fn go_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
