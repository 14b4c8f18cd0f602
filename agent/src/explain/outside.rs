//! What is wrong when no agent answers: its configuration, its data folder, its socket, or its last start.
//!
//! Owns the look from outside, with the rights of whoever asks. Never starts, changes or removes anything.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use credence_identity::Timestamp;
use credence_identity::diagnosis::{Cause, Explanation};

use super::failure::LastFailure;
use super::trouble::Trouble;
use crate::config::{AgentConfig, AgentOverrides};

/// Where an agent is to be asked.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its own socket.
    pub socket: PathBuf,
    data_dir: Option<PathBuf>,
}

/// Why no agent answers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum OutsideCause {
    /// There is no configuration file.
    ConfigMissing(PathBuf),
    /// The agent wouldn't start with its configuration.
    ConfigInvalid(Vec<String>),
    /// There is no socket.
    NotRunning(PathBuf),
    /// There is a socket that nobody listens on.
    Died(PathBuf),
    /// This user may not ask.
    NotPermitted { part: PathBuf, owner: u32, mode: u32 },
    /// The data folder is something else.
    NoFolder(PathBuf),
    /// The agent ended, and left word why.
    Ended { at: Timestamp, trouble: Trouble },
    /// Something else.
    Unanswered { socket: PathBuf, why: String },
}

impl Place {
    /// Where a socket was named.
    pub fn at_socket(socket: PathBuf) -> Self {
        let data_dir = socket.parent().map(Path::to_owned);
        Self { socket, data_dir }
    }

    /// Where the configuration says.
    ///
    /// # Errors
    /// The explanation, if no agent could start with this configuration.
    pub fn of_config(path: &Path, expand_env: bool) -> Result<Self, Box<Explanation>> {
        let failed = |cause: OutsideCause| {
            let mut explanation = Explanation::of(format!("the agent of {}", path.display()));
            explanation.found(cause);
            Box::new(explanation)
        };
        if !path.exists() {
            return Err(failed(OutsideCause::ConfigMissing(path.to_owned())));
        }
        match AgentConfig::load(path, &AgentOverrides::default(), expand_env) {
            Ok((config, _)) => Ok(Self {
                socket: config.data_dir.join(super::SOCKET),
                data_dir: Some(config.data_dir),
            }),
            Err(faults) => {
                let faults = faults.iter().map(ToString::to_string).collect();
                Err(failed(OutsideCause::ConfigInvalid(faults)))
            }
        }
    }

    /// Why nobody answers there, given how the attempt to connect ended.
    pub fn explain(&self, error: &io::Error) -> Explanation {
        let mut explanation = Explanation::of(format!("the agent's socket {}", self.socket.display()));
        explanation.found(self.cause(error));
        explanation
    }

    fn cause(&self, error: &io::Error) -> OutsideCause {
        if error.kind() == io::ErrorKind::PermissionDenied {
            return self.not_permitted();
        }
        if let Some(folder) = &self.data_dir {
            match fs::metadata(folder) {
                Ok(found) if !found.is_dir() => return OutsideCause::NoFolder(folder.clone()),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return self.not_permitted(),
                _ => {}
            }
            if let Some(failure) = LastFailure::of(folder) {
                return OutsideCause::Ended {
                    at: failure.at(),
                    trouble: failure.trouble,
                };
            }
        }
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                OutsideCause::NotRunning(self.socket.clone())
            }
            io::ErrorKind::ConnectionRefused => OutsideCause::Died(self.socket.clone()),
            _ => OutsideCause::Unanswered {
                socket: self.socket.clone(),
                why: error.to_string(),
            },
        }
    }

    /// The innermost part of the way that can be looked at.
    fn not_permitted(&self) -> OutsideCause {
        let seen = self
            .socket
            .ancestors()
            .find_map(|part| fs::metadata(part).ok().map(|found| (part.to_owned(), found)));
        match seen {
            Some((part, found)) => OutsideCause::NotPermitted {
                part,
                owner: found.uid(),
                mode: found.mode() & 0o7777,
            },
            None => OutsideCause::NotRunning(self.socket.clone()),
        }
    }
}

impl fmt::Display for OutsideCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConfigMissing(path) => write!(f, "there is no configuration file {}", path.display()),
            Self::ConfigInvalid(faults) => {
                write!(
                    f,
                    "no agent starts with this configuration: {}",
                    faults.join("; ")
                )
            }
            Self::NotRunning(socket) => write!(
                f,
                "no agent is running here: there is no socket {}",
                socket.display()
            ),
            Self::Died(socket) => write!(
                f,
                "the agent is not running: its socket {} is there, but nobody listens on it, so it was killed",
                socket.display()
            ),
            Self::NotPermitted { part, owner, mode } => write!(
                f,
                "this user may not ask the agent: {} belongs to uid {owner} and has mode {mode:04o}",
                part.display()
            ),
            Self::NoFolder(path) => write!(f, "data_dir {} is not a folder", path.display()),
            Self::Ended { at, trouble } => write!(f, "the agent is not running, it ended at {at}: {trouble}"),
            Self::Unanswered { socket, why } => write!(f, "{} does not answer: {why}", socket.display()),
        }
    }
}

impl Cause for OutsideCause {
    fn code(&self) -> &'static str {
        match self {
            Self::ConfigMissing(_) => "config-missing",
            Self::ConfigInvalid(_) => "config-invalid",
            Self::NotRunning(_) => "agent-not-running",
            Self::Died(_) => "agent-died",
            Self::NotPermitted { .. } => "explain-not-permitted",
            Self::NoFolder(_) => "folder-unusable",
            Self::Ended { trouble, .. } => trouble.code(),
            Self::Unanswered { .. } => "agent-unanswered",
        }
    }

    fn fix(&self) -> String {
        match self {
            Self::ConfigMissing(_) => {
                "name the agent's configuration with -config, or its socket with -socketPath".into()
            }
            Self::ConfigInvalid(_) => "correct it; `agent validate` names all faults too".into(),
            Self::NotRunning(_) => {
                "start the agent; if it runs, name its configuration with -config: its socket is explain.sock in data_dir"
                    .into()
            }
            Self::Died(_) => "start the agent again, and see the end of its log and of the kernel's".into(),
            Self::NotPermitted { .. } => "ask as root, or as the user that the agent runs as".into(),
            Self::NoFolder(_) => "correct data_dir in the agent's configuration".into(),
            Self::Ended { trouble, .. } => trouble.fix(),
            Self::Unanswered { .. } => "see the agent's log".into(),
        }
    }
}
