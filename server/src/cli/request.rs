//! Flags that become parts of requests, and parts of answers that become text.

use std::fs;

use credence_command::{CommandError, Console};
use credence_identity::{SpiffeId, Timestamp};
use credence_proto::spire::api::types;

/// The bytes of a file, or of stdin for `-`.
pub(super) fn bytes(path: &str, console: &mut Console<'_>) -> Result<Vec<u8>, CommandError> {
    let mut bytes = Vec::new();
    if path == "-" {
        console.input.read_to_end(&mut bytes)?;
    } else {
        bytes =
            fs::read(path).map_err(|error| CommandError::from(error).context(format_args!("open {path}")))?;
    }
    Ok(bytes)
}

/// A SPIFFE ID as the API wants it.
pub(super) fn id(text: &str) -> Result<types::Spiffeid, CommandError> {
    let id = SpiffeId::parse(text)?;
    Ok(types::Spiffeid {
        trust_domain: id.trust_domain_name().to_owned(),
        path: id.path().to_owned(),
    })
}

/// The SPIFFE ID a command can't do without.
pub(super) fn required_id(text: &str) -> Result<types::Spiffeid, CommandError> {
    if text.is_empty() {
        return Err(CommandError::new("a SPIFFE ID is required"));
    }
    id(text)
}

/// A SPIFFE ID that a filter may name; `what` is for the error.
pub(super) fn filter_id(what: &str, text: &str) -> Result<Option<types::Spiffeid>, CommandError> {
    if text.is_empty() {
        return Ok(None);
    }
    let context = |error: CommandError| error.context(format_args!("error parsing {what} {text:?}"));
    id(text).map(Some).map_err(context)
}

/// The text of an ID; nothing for none.
pub(super) fn id_text(id: Option<&types::Spiffeid>) -> String {
    id.map(|id| format!("spiffe://{}{}", id.trust_domain, id.path))
        .unwrap_or_default()
}

/// Selectors as they were given, `type:value`.
pub(super) fn selectors(texts: &[String]) -> Result<Vec<types::Selector>, CommandError> {
    texts
        .iter()
        .map(|text| {
            // What is wrong with the two parts is for the server to say.
            let (kind, value) = text.split_once(':').ok_or_else(|| {
                CommandError::new(format!("selector {text:?} must be formatted as type:value"))
            })?;
            Ok(types::Selector {
                r#type: kind.to_owned(),
                value: value.to_owned(),
            })
        })
        .collect()
}

/// A filter by selectors; none without selectors. An unknown behaviour is refused even then: it would have been a
/// mistake to find out about later.
pub(super) fn selector_match(
    texts: &[String],
    behavior: &str,
) -> Result<Option<types::SelectorMatch>, CommandError> {
    use types::selector_match::MatchBehavior as Match;
    let behavior = match behavior {
        "exact" => Match::MatchExact,
        "any" => Match::MatchAny,
        "superset" => Match::MatchSuperset,
        "subset" => Match::MatchSubset,
        _ => return Err(unknown_behavior(behavior)),
    };
    let selectors = selectors(texts).map_err(|error| error.context("error parsing selectors"))?;
    Ok((!selectors.is_empty()).then(|| types::SelectorMatch {
        selectors,
        r#match: behavior.into(),
    }))
}

/// As [`selector_match`], by federated trust domains.
pub(super) fn federates_with_match(
    trust_domains: &[String],
    behavior: &str,
) -> Result<Option<types::FederatesWithMatch>, CommandError> {
    use types::federates_with_match::MatchBehavior as Match;
    let behavior = match behavior {
        "exact" => Match::MatchExact,
        "any" => Match::MatchAny,
        "superset" => Match::MatchSuperset,
        "subset" => Match::MatchSubset,
        _ => return Err(unknown_behavior(behavior)),
    };
    Ok((!trust_domains.is_empty()).then(|| types::FederatesWithMatch {
        trust_domains: trust_domains.to_vec(),
        r#match: behavior.into(),
    }))
}

fn unknown_behavior(behavior: &str) -> CommandError {
    CommandError::new(format!("match behavior {behavior:?} unknown"))
}

/// The code and message of an item that failed; nothing if it succeeded.
pub(super) fn failure(status: Option<&types::Status>) -> Option<(&'static str, &str)> {
    let status = status.filter(|status| status.code != 0)?;
    Some((
        credence_command::error::code_name(status.code.into()),
        status.message.as_str(),
    ))
}

/// A time of the API as Go prints it.
pub(super) fn date(unix_seconds: i64) -> String {
    credence_command::date::utc(Timestamp::from_unix_seconds(unix_seconds))
}

/// The seconds of a `-ttl`, rounded up.
pub(super) fn ttl(span: credence_command::GoDuration) -> Result<i32, CommandError> {
    if span.is_negative() {
        return Err(CommandError::new(
            "invalid value for TTL: it must not be negative",
        ));
    }
    i32::try_from(span.seconds_rounded_up())
        .map_err(|_| CommandError::new("invalid value for TTL: it is too long"))
}
