//! Where a command reads and writes, and in which form.

use std::{
    fmt,
    io::{Read, Write},
};

use clap::Args;
use prost::{Message, Name};
use serde_json::Value;
use serde_saphyr::{SerializerOptions, ser_options};

use crate::{CommandError, json};

/// The streams of a command.
pub struct Console<'a> {
    /// What `-data -` and the like read.
    pub input: &'a mut (dyn Read + Send),
    /// Results.
    pub out: &'a mut (dyn Write + Send),
    /// Errors and warnings.
    pub err: &'a mut (dyn Write + Send),
    /// The width of the terminal that `out` is, in columns; nothing where it is none. Lists become tables there.
    pub terminal: Option<u16>,
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
    /// The same data, easier to read and to keep in files.
    Yaml,
}

impl Format {
    /// `pretty` (or `prettyprint`), `json` and `yaml`, in any case.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "pretty" | "prettyprint" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            _ => Err(format!("unknown format option: {text:?}")),
        }
    }

    /// Whether data are wanted, and not a text for people.
    pub fn is_data(self) -> bool {
        self != Self::Pretty
    }

    /// Writes data: one value as itself, several as an array.
    pub fn print(self, out: &mut dyn Write, values: &[Value]) -> Result<(), CommandError> {
        if self != Self::Yaml {
            return json::print(out, values);
        }
        let text = match values {
            [value] => serde_saphyr::to_string_with_options(value, plain()),
            values => serde_saphyr::to_string_with_options(&values, plain()),
        };
        let text = text.map_err(|error| CommandError::chain(&error))?;
        Ok(writeln!(out, "{}", text.trim_end())?)
    }
}

/// Texts of several lines as blocks, but no long line folded: what stands there is what was said.
fn plain() -> SerializerOptions {
    ser_options! { folded_wrap_chars: usize::MAX, min_fold_chars: usize::MAX }
}

/// The flag `-output`.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Output {
    /// Form of the result: pretty, json or yaml
    #[arg(id = "output", long = "output", value_name = "FORMAT", value_parser = Format::parse, default_value = "pretty")]
    pub format: Format,
}

impl Output {
    /// Prints an answer of the API if it is wanted as data; false if people are to read it, which is left to the caller.
    ///
    /// # Errors
    /// What can't be written.
    pub fn print_data<M: Message + Name>(
        self,
        console: &mut Console<'_>,
        answer: &M,
    ) -> Result<bool, CommandError> {
        if self.format.is_data() {
            self.format.print(console.out, &[json::message(answer)?])?;
        }
        Ok(self.format.is_data())
    }
}

/// `1 agent`, `2 agents`.
pub fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn yaml(values: &[Value]) -> String {
        let mut out = Vec::new();
        Format::parse("YAML").unwrap().print(&mut out, values).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn yaml_says_what_json_says() {
        let value = json!({
            "agents": [{ "id": { "path": "/a", "trust_domain": "example.org" }, "banned": false, "selectors": [] }],
            "next_page_token": "",
        });
        assert_eq!(
            yaml(&[value]),
            "agents:\n- banned: false\n  id:\n    path: /a\n    trust_domain: example.org\n  selectors: []\n\
             next_page_token: \"\"\n"
        );
        assert_eq!(yaml(&[json!({})]), "{}\n");
        assert_eq!(yaml(&[json!(1), json!("two")]), "- 1\n- two\n");
    }

    /// Texts that a reader of YAML would take for something else.
    #[test]
    fn texts_stay_texts() {
        for text in [
            "17", "1e3", "0x1f", "true", "null", "~", "- a", "a: b", "#a", "*", "", " a", "[a",
        ] {
            let line = yaml(&[json!({ "x": text })]);
            assert!(
                line == format!("x: {text:?}\n") || line == format!("x: '{text}'\n"),
                "{line}"
            );
        }
        // 64-bit numbers are texts in protobuf's JSON, and long texts aren't folded.
        let long = "aGVsbG8gd29ybGQ ".repeat(20) + "x";
        assert_eq!(yaml(&[json!({ "x": long })]), format!("x: {long}\n"));
        assert_eq!(yaml(&[json!({ "x": "a\nb\n" })]), "x: |\n  a\n  b\n");
    }
}
