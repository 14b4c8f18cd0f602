//! What is wrong with a configuration, and where.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::hcl::Position;

/// A place in a file (or on the command line, which has no lines).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as named by the operator.
    pub file: Arc<str>,
    /// The line and column; line 0 is the whole file.
    pub position: Position,
}

impl Place {
    pub(super) fn file(file: &Arc<str>) -> Self {
        Place {
            file: file.clone(),
            position: Position::default(),
        }
    }

    pub(super) fn at(file: &Arc<str>, position: Position) -> Self {
        Place {
            file: file.clone(),
            position,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Position { line: 0, .. } => f.write_str(&self.file),
            Position { line, column } => write!(f, "{}:{line}:{column}", self.file),
        }
    }
}

/// One complaint; prints as `file:line:column: message`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What, naming the key.
    pub message: String,
    /// A warning about a key that will go: the log marks it for alerts, as SPIRE's does.
    pub deprecated: bool,
}

impl Fault {
    /// Something that is wrong, or that the operator should know.
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Fault {
            place,
            message: message.into(),
            deprecated: false,
        }
    }

    /// Writes it to the log as a warning.
    pub fn log(&self) {
        if self.deprecated {
            tracing::warn!(alert = true, alert_type = "deprecated_config", "{self}");
        } else {
            tracing::warn!("{self}");
        }
    }
}

/// Collects complaints, so that an operator sees all of them at once.
#[derive(Debug, Default)]
pub struct Report {
    faults: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Fault>>,
}

impl Report {
    /// An empty report.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a reason not to start.
    pub fn fault(&self, place: Place, message: impl Into<String>) {
        self.faults.borrow_mut().push(Fault::new(place, message));
    }

    /// Adds something the operator should know.
    pub fn warn(&self, place: Place, message: impl Into<String>) {
        self.warnings.borrow_mut().push(Fault::new(place, message));
    }

    /// Adds a warning about a key that will go.
    pub fn deprecated(&self, place: Place, message: impl Into<String>) {
        self.warnings.borrow_mut().push(Fault {
            deprecated: true,
            ..Fault::new(place, message)
        });
    }

    /// `value` with the warnings if no fault was found.
    ///
    /// # Errors
    /// All faults. When `value` is none there is always at least one.
    pub fn finish<T>(self, file: &str, value: Option<T>) -> Result<(T, Vec<Fault>), Vec<Fault>> {
        let mut faults = self.faults.into_inner();
        match value {
            Some(value) if faults.is_empty() => Ok((value, self.warnings.into_inner())),
            _ => {
                if faults.is_empty() {
                    let place = Place::file(&file.into());
                    faults.push(Fault::new(place, "the configuration is incomplete"));
                }
                Err(faults)
            }
        }
    }
}
