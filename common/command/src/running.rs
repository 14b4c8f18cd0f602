//! What `debug getinfo` and `logger …` of server and agent share: facts about a running program, and its log level.
//!
//! The texts are SPIRE's.

use std::io::{self, Write};

use clap::Args;
use credence_identity::Timestamp;
use credence_proto::spire::api::types;
use credence_runtime::log::Level;

use crate::{CommandError, Console, date, json, output::Output};

/// The flag `-level` of `logger set`.
#[derive(Args, Clone, Debug)]
pub struct LevelFlag {
    /// The new log level: panic, fatal, error, warn, info, debug or trace
    #[arg(
        long = "level",
        value_name = "LEVEL",
        default_value = "",
        hide_default_value = true
    )]
    level: String,
}

impl LevelFlag {
    /// The level as the API numbers it.
    pub fn number(&self) -> Result<i32, CommandError> {
        if self.level.is_empty() {
            return Err(CommandError::new("a value (-level) must be set"));
        }
        let unknown = |_| CommandError::new(format!("the value {:?} is not a valid setting", self.level));
        Ok(self.level.parse::<Level>().map_err(unknown)?.api_number())
    }
}

/// Shows the answer of a logger command.
pub fn show_logger(
    console: &mut Console<'_>,
    output: Output,
    logger: &types::Logger,
) -> Result<(), CommandError> {
    if output.format.is_data() {
        return output.format.print(console.out, &[json::message(logger)?]);
    }
    let name = |number| {
        let level = Level::from_api_number(number);
        level.map_or("unknown", Level::as_str)
    };
    let (now, launch) = (name(logger.current_level), name(logger.launch_level));
    Ok(write!(
        console.out,
        "Logger Level : {now}\nLaunch Level : {launch}\n\n"
    )?)
}

/// One certificate of a chain that a program shows.
#[derive(Clone, Copy, Debug)]
pub struct ShownCertificate<'a> {
    /// Its SPIFFE ID, if it has one.
    pub id: Option<&'a types::Spiffeid>,
    /// Its subject.
    pub subject: &'a str,
    /// Its end, in Unix seconds.
    pub expires_at: i64,
}

/// The last part of `debug getinfo`; nothing without a certificate.
pub fn print_chain<'a>(
    out: &mut dyn Write,
    chain: impl Iterator<Item = ShownCertificate<'a>>,
) -> io::Result<()> {
    for (index, certificate) in chain.enumerate() {
        if index == 0 {
            writeln!(out, "  SVID Chain:")?;
        }
        let id = certificate.id.map_or_else(
            || "(none)".to_owned(),
            |id| format!("spiffe://{}{}", id.trust_domain, id.path),
        );
        let end = date::rfc3339(Timestamp::from_unix_seconds(certificate.expires_at));
        writeln!(out, "    [{index}] SPIFFE ID:  {id}")?;
        writeln!(out, "        Subject:    {}", certificate.subject)?;
        writeln!(out, "        Expires At: {end}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(level: &str) -> LevelFlag {
        LevelFlag { level: level.into() }
    }

    #[test]
    fn levels_are_those_of_logrus() {
        for (text, number) in [
            ("panic", 1),
            ("WARN", 4),
            ("warning", 4),
            ("debug", 6),
            ("Trace", 7),
        ] {
            assert_eq!(flag(text).number().unwrap(), number, "{text}");
        }
        for (text, said) in [
            ("", "a value (-level) must be set"),
            ("loud", "the value \"loud\" is not a valid setting"),
        ] {
            assert_eq!(flag(text).number().unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn a_chain_reads_as_spires() {
        let id = types::Spiffeid {
            trust_domain: "example.org".into(),
            path: "/spire/agent/x".into(),
        };
        let chain = [
            ShownCertificate {
                id: Some(&id),
                subject: "O=SPIRE,C=US",
                expires_at: 0,
            },
            ShownCertificate {
                id: None,
                subject: "CN=root",
                expires_at: 60,
            },
        ];
        let mut out = Vec::new();
        print_chain(&mut out, chain.into_iter()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "  SVID Chain:\n    [0] SPIFFE ID:  spiffe://example.org/spire/agent/x\n        Subject:    O=SPIRE,C=US\n        \
             Expires At: 1970-01-01T00:00:00Z\n    [1] SPIFFE ID:  (none)\n        Subject:    CN=root\n        Expires \
             At: 1970-01-01T00:01:00Z\n"
        );
        let mut out = Vec::new();
        print_chain(&mut out, [].into_iter()).unwrap();
        assert!(out.is_empty());
    }
}
