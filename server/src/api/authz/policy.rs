//! The operator's own authorization policy, in Rego (`experimental.auth_opa_policy_engine`).
//!
//! Owns the engine, and the shape of its input and answer, which are SPIRE's: `data.spire.result` with five truth values.
//! It says which classes of callers may make a call; whether this caller belongs to one is [`super::decision`]'s.
//! Invariant: a policy that can't be evaluated, or doesn't answer all five questions, allows nothing.

use std::fmt;
use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};
use serde_json::json;

use super::{Classes, methods};

/// What is asked of the policy.
const RULE: &str = "data.spire.result";
/// What it must answer, and what each answer allows.
const ANSWERS: [(&str, Classes); 5] = [
    ("allow", Classes::ANYONE),
    ("allow_if_local", Classes::LOCAL),
    ("allow_if_admin", Classes::ADMIN),
    ("allow_if_downstream", Classes::DOWNSTREAM),
    ("allow_if_agent", Classes::AGENT),
];
/// A built-in function that the documented examples use and OPA 1 has no more.
const OLD_FUNCTION: &str = "re_match";
const OLD_FUNCTION_TODAY: &str = "package spire\n\nre_match(pattern, value) if regex.match(pattern, value)\n";
/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(1);
const LOOK_AT_THE_CLOCK_EVERY: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);

/// Why a policy is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file of it can't be read.
    #[error("unable to read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The data are no JSON object.
    #[error("error decoding JSON databindings: {0}")]
    Data(String),
    /// The policy is no Rego.
    #[error("unable to parse the policy: {0}")]
    Parse(String),
    /// The policy fails.
    #[error("policy is misconfigured: {0}")]
    Evaluate(String),
    /// The policy says nothing that counts.
    #[error("policy: result did not contain {0:?} bool value")]
    NoAnswer(&'static str),
}

/// What a policy is asked about.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// The SPIFFE ID of a TLS caller, or nothing.
    pub(crate) caller: String,
    /// The program of a local caller, or nothing.
    pub(crate) caller_file_path: String,
    /// As `/package.Service/Method`.
    pub(crate) full_method: String,
    /// The message of a call that has just one; else null.
    pub(crate) req: serde_json::Value,
}

/// A policy that was tried on every method; clones share it.
#[derive(Clone)]
pub struct Policy {
    engine: Engine,
    old_syntax: bool,
}

impl Policy {
    /// Reads a policy and its data, and asks it about every method.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn load(rego: &Path, data: Option<&Path>) -> Result<Self, PolicyError> {
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| PolicyError::Read {
                path: path.to_owned(),
                source,
            })
        };
        let data = data.map(read).transpose()?;
        Self::parse(&read(rego)?, data.as_deref().unwrap_or("{}"))
    }

    fn parse(rego: &str, data: &str) -> Result<Self, PolicyError> {
        let data: serde_json::Value =
            serde_json::from_str(data).map_err(|error| PolicyError::Data(error.to_string()))?;
        if !data.is_object() {
            return Err(PolicyError::Data("the data are no object".to_owned()));
        }
        let policy = match engine(rego, false) {
            Ok(engine) => Self {
                engine,
                old_syntax: false,
            },
            // The documentation's examples are in the syntax of OPA before 1.0. What is said of a policy that is neither
            // is said of the syntax of today.
            Err(error) => Self {
                engine: engine(rego, true).map_err(|_| error)?,
                old_syntax: true,
            },
        };
        policy.tried(data)
    }

    fn tried(mut self, data: serde_json::Value) -> Result<Self, PolicyError> {
        let added = self.engine.add_data(Value::from(data));
        added.map_err(|error| PolicyError::Data(error.to_string()))?;
        // Prepared here, the clone for each call needn't be.
        self.engine.set_input(Value::new_object());
        drop(self.engine.eval_rule(RULE.to_owned()));
        let requests = [
            json!({}),
            json!({ "entries": [{ "spiffe_id": { "trust_domain": "example.org", "path": "/x" } }] }),
        ];
        for method in methods() {
            for (caller, req) in ["", "spiffe://example.org/x"].into_iter().zip(&requests) {
                self.classes(Input {
                    caller: caller.to_owned(),
                    full_method: method.path(),
                    req: req.clone(),
                    ..Input::default()
                })?;
            }
        }
        Ok(self)
    }

    /// Whether it is in the syntax of OPA before 1.0.
    pub fn has_old_syntax(&self) -> bool {
        self.old_syntax
    }

    /// Who may make this call.
    ///
    /// # Errors
    /// [`PolicyError::Evaluate`], [`PolicyError::NoAnswer`]: then nobody may.
    pub(crate) fn classes(&self, input: Input) -> Result<Classes, PolicyError> {
        let mut engine = self.engine.clone();
        engine.set_input(Value::from(json!({
            "caller": input.caller,
            "caller_file_path": input.caller_file_path,
            "full_method": input.full_method,
            "req": input.req,
        })));
        let failed = |error: &dyn fmt::Display| PolicyError::Evaluate(error.to_string());
        let result = engine
            .eval_rule(RULE.to_owned())
            .map_err(|error| failed(&error))?;
        let answers = result
            .as_object()
            .map_err(|_| failed(&"no matching policies found"))?;
        let mut allowed = Classes::NOBODY;
        for (answer, classes) in ANSWERS {
            match answers.get(&Value::from(answer)) {
                Some(Value::Bool(true)) => allowed = allowed.or(classes),
                Some(Value::Bool(false)) => {}
                _ => return Err(PolicyError::NoAnswer(answer)),
            }
        }
        Ok(allowed)
    }
}

fn engine(rego: &str, old_syntax: bool) -> Result<Engine, PolicyError> {
    let mut engine = Engine::new();
    // A function that fails is undefined, as in OPA unless it is told otherwise.
    engine.set_strict_builtin_errors(false);
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: LIMIT,
        check_interval: LOOK_AT_THE_CLOCK_EVERY,
    });
    let failed = |error: &dyn fmt::Display| PolicyError::Parse(error.to_string());
    if rego.contains(OLD_FUNCTION) {
        let today = (format!("{OLD_FUNCTION}.rego"), OLD_FUNCTION_TODAY.to_owned());
        engine
            .add_policy(today.0, today.1)
            .map_err(|error| failed(&error))?;
    }
    engine.set_rego_v0(old_syntax);
    engine
        .add_policy("spire.rego".to_owned(), rego.to_owned())
        .map_err(|error| failed(&error))?;
    Ok(engine)
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("old_syntax", &self.old_syntax)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
