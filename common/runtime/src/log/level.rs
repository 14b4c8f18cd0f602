//! logrus' levels, of which tracing has five.

use std::fmt;
use std::str::FromStr;

/// How grave an event must be to be shown. Nothing is logged at [`Level::Fatal`] or [`Level::Panic`]: they silence the
/// log but for SPIRE's Logger API can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Level {
    /// Nothing.
    Panic,
    /// Nothing.
    Fatal,
    /// What failed for good.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happens in normal work.
    #[default]
    Info,
    /// What helps to find a fault.
    Debug,
    /// Everything.
    Trace,
}

const NAMES: [(Level, &str); 7] = [
    (Level::Panic, "panic"),
    (Level::Fatal, "fatal"),
    (Level::Error, "error"),
    (Level::Warn, "warning"),
    (Level::Info, "info"),
    (Level::Debug, "debug"),
    (Level::Trace, "trace"),
];

/// A level that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid log level: {0:?}")]
pub struct UnknownLevel(pub String);

impl Level {
    pub(super) fn from_number(number: u8) -> Self {
        NAMES
            .get(usize::from(number))
            .map_or(Level::Trace, |(level, _)| *level)
    }

    /// The name that logrus prints: "warning", not "warn".
    pub fn as_str(self) -> &'static str {
        NAMES
            .iter()
            .find(|(level, _)| *level == self)
            .map_or("trace", |(_, name)| name)
    }

    /// Its number in SPIRE's Logger API, where 0 stands for none: 1 (panic) to 7 (trace).
    pub fn api_number(self) -> i32 {
        i32::from(self as u8) + 1
    }

    /// The level that has this number in SPIRE's Logger API.
    pub fn from_api_number(number: i32) -> Option<Self> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        NAMES.get(index).map(|(level, _)| *level)
    }

    pub(super) fn allows(self, level: tracing::Level) -> bool {
        Level::from(level) <= self
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    /// As logrus: any case, "warn" and "warning".
    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        let lower = text.to_ascii_lowercase();
        if lower == "warn" {
            return Ok(Level::Warn);
        }
        let found = NAMES.iter().find(|(_, name)| *name == lower);
        found
            .map(|(level, _)| *level)
            .ok_or_else(|| UnknownLevel(text.to_owned()))
    }
}
