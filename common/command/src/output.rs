//! Where a command reads and writes, and in which form.

use std::{
    fmt,
    io::{Read, Write},
};

use clap::Args;

/// The streams of a command.
pub struct Console<'a> {
    /// What `-data -` and the like read.
    pub input: &'a mut (dyn Read + Send),
    /// Results.
    pub out: &'a mut (dyn Write + Send),
    /// Errors and warnings.
    pub err: &'a mut (dyn Write + Send),
}

impl fmt::Debug for Console<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// For people; the texts are SPIRE's.
    #[default]
    Pretty,
    /// For scripts; see [`crate::json`].
    Json,
}

impl Format {
    /// `pretty` (or `prettyprint`) and `json`, in any case.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "pretty" | "prettyprint" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(format!("unknown format option: {text:?}")),
        }
    }
}

/// The flag `-output`.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Output {
    /// Form of the result: pretty or json
    #[arg(id = "output", long = "output", value_name = "FORMAT", value_parser = Format::parse, default_value = "pretty")]
    pub format: Format,
}

/// `1 agent`, `2 agents`.
pub fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}
