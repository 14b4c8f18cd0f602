//! `agent_path_template`: how the path of an agent's ID is made of its certificate.
//!
//! Of Go's templates the plain form `{{ .Field }}` is understood, which is what SPIRE's documentation shows; anything
//! else is refused when the configuration is read, not when an agent attests.

use std::collections::BTreeMap;

use credence_crypto::x509::Certificate;
use credence_identity::TrustDomain;

use super::TYPE;

/// Why a text is no template, or can't be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without `}}`.
    #[error("unclosed action in agent path template {0:?}")]
    Unclosed(String),
    /// Not a field of those there are.
    #[error("{0:?} is no field of an agent path template")]
    UnknownField(String),
    /// The certificate hasn't got what the template asks for.
    #[error("certificate has no value for {0:?}")]
    NoValue(String),
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    PluginName,
    TrustDomain,
    Fingerprint,
    SerialNumberHex,
    CommonName,
    SvidPathTrimmed,
    San(String),
}

/// What a template is filled in with.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) trust_domain: &'a TrustDomain,
    pub(super) leaf: &'a Certificate,
    pub(super) sans: &'a BTreeMap<String, String>,
    /// Known where SVIDs of the own trust domain prove nodes.
    pub(super) svid_path: Option<&'a str>,
}

impl Default for PathTemplate {
    /// `/{{ .PluginName }}/{{ .Fingerprint }}`, as SPIRE has it.
    fn default() -> Self {
        let slash = || Part::Text("/".to_owned());
        Self(vec![slash(), Part::PluginName, slash(), Part::Fingerprint])
    }
}

impl PathTemplate {
    /// `/{{ .PluginName }}/{{ .SVIDPathTrimmed }}`, SPIRE's default where SVIDs prove nodes.
    pub fn svid_path() -> Self {
        let slash = || Part::Text("/".to_owned());
        Self(vec![slash(), Part::PluginName, slash(), Part::SvidPathTrimmed])
    }

    /// Parses a template. One without a leading slash gets one.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] for what isn't understood.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        if !text.starts_with('/') {
            parts.push(Part::Text("/".to_owned()));
        }
        let mut rest = text;
        while let Some((before, action)) = rest.split_once("{{") {
            let (action, after) = action
                .split_once("}}")
                .ok_or_else(|| TemplateError::Unclosed(text.to_owned()))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(field(action.trim())?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    pub(super) fn render(&self, fields: &Fields<'_>) -> Result<String, TemplateError> {
        let mut path = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::PluginName => path.push_str(TYPE),
                Part::TrustDomain => path.push_str(fields.trust_domain.as_str()),
                Part::Fingerprint => path.push_str(&fields.leaf.sha1_fingerprint()),
                Part::SerialNumberHex => path.push_str(&fields.leaf.serial_hex()),
                Part::CommonName => path.push_str(
                    &(fields.leaf.subject().common_name())
                        .ok_or_else(|| TemplateError::NoValue(".Subject.CommonName".to_owned()))?,
                ),
                Part::SvidPathTrimmed => {
                    let missing = || TemplateError::NoValue(".SVIDPathTrimmed".to_owned());
                    path.push_str(fields.svid_path.ok_or_else(missing)?);
                }
                Part::San(key) => {
                    let value = fields.sans.get(key);
                    let missing = || TemplateError::NoValue(format!(".URISanSelectors.{key}"));
                    path.push_str(value.ok_or_else(missing)?);
                }
            }
        }
        Ok(path)
    }
}

fn field(action: &str) -> Result<Part, TemplateError> {
    match action {
        ".PluginName" => Ok(Part::PluginName),
        ".TrustDomain" => Ok(Part::TrustDomain),
        ".Fingerprint" => Ok(Part::Fingerprint),
        ".SerialNumberHex" => Ok(Part::SerialNumberHex),
        ".Subject.CommonName" => Ok(Part::CommonName),
        ".SVIDPathTrimmed" => Ok(Part::SvidPathTrimmed),
        _ => match action.strip_prefix(".URISanSelectors.") {
            Some(key) if !key.is_empty() && !key.contains(char::is_whitespace) => {
                Ok(Part::San(key.to_owned()))
            }
            _ => Err(TemplateError::UnknownField(action.to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_the_documented_text_parses_to() {
        assert_eq!(
            PathTemplate::parse("/{{ .PluginName }}/{{ .Fingerprint }}"),
            Ok(PathTemplate::default())
        );
        assert_eq!(
            PathTemplate::parse("{{.PluginName}}/{{.Fingerprint}}"),
            Ok(PathTemplate::default())
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "/{{ .PluginName",
            "/{{ .Nope }}",
            "/{{ .Subject.CommonName | lower }}",
            "/{{ }}",
        ] {
            assert!(PathTemplate::parse(text).is_err(), "{text}");
        }
    }
}
