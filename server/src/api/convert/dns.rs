//! DNS names of entries and CSRs.
//!
//! Owns the rule of which texts are names a certificate may carry, as SPIRE's server applies it: wider than a host
//! name (underscores and single words pass), never something a verifier could take for another name.

/// Why a text is no DNS name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DnsNameFault {
    #[error("empty or only whitespace")]
    Empty,
    #[error("name must be ascii")]
    NotAscii,
    #[error("too many wildcards")]
    Wildcards,
    #[error("wildcard must be first label")]
    Wildcard,
    #[error("domain ends with dot")]
    TrailingDot,
    #[error("\"{0}\" is longer than 255 bytes")]
    TooLong(String),
    #[error("\"{0}\" contains an empty label")]
    EmptyLabel(String),
    #[error("\"{0}\" contains a label longer than 63 bytes")]
    LongLabel(String),
    #[error("\"{0}\" contains a character that is not printable ASCII")]
    BadCharacter(String),
    #[error("\"{0}\" contains a label that begins or ends with a hyphen")]
    Hyphen(String),
    #[error("\"{0}\" contains a label that is no valid internationalized name")]
    Punycode(String),
}

/// Checks one name.
pub(crate) fn check(name: &str) -> Result<(), DnsNameFault> {
    let fault = |kind: fn(String) -> DnsNameFault| Err(kind(name.to_owned()));
    if !name.is_ascii() {
        return Err(DnsNameFault::NotAscii);
    }
    if name.matches('*').count() > 1 {
        return Err(DnsNameFault::Wildcards);
    }
    let rest = name.strip_prefix("*.").unwrap_or(name);
    if rest.contains('*') {
        return Err(DnsNameFault::Wildcard);
    }
    if rest.trim().is_empty() {
        return Err(DnsNameFault::Empty);
    }
    if rest.ends_with('.') {
        return Err(DnsNameFault::TrailingDot);
    }
    if !rest.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        || rest.starts_with(char::is_whitespace) && rest.len() == 1
    {
        return fault(DnsNameFault::BadCharacter);
    }
    if name.len() > 255 {
        return fault(DnsNameFault::TooLong);
    }
    for label in rest.split('.') {
        if label.is_empty() {
            return fault(DnsNameFault::EmptyLabel);
        }
        if label.len() > 63 {
            return fault(DnsNameFault::LongLabel);
        }
        if label.starts_with('-') || label.ends_with('-') {
            return fault(DnsNameFault::Hyphen);
        }
        if label.get(2..4) == Some("--") && !is_punycode(label) {
            return fault(DnsNameFault::Punycode);
        }
    }
    Ok(())
}

/// Whether a label with hyphens in its third and fourth place is the encoding of an internationalized one.
fn is_punycode(label: &str) -> bool {
    label
        .get(..4)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--"))
        && idna::domain_to_unicode(label).1.is_ok()
}

/// A name that a wildcard among the names covers already, which no certificate may carry beside it.
pub(crate) fn covered_by_wildcard(names: &[String]) -> Option<&str> {
    names.iter().map(String::as_str).find(|name| {
        let Some((_, parent)) = name.split_once('.') else {
            return false;
        };
        !name.starts_with("*.") && names.iter().any(|other| other.strip_prefix("*.") == Some(parent))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_pass() {
        for name in [
            "db",
            "db.example.org",
            "*.example.org",
            "under_score",
            "inner space.org",
            "user@host",
            "a:1",
            "a/b",
            "192.0.2.1",
            "123",
            "UPPER.example",
            "xn--bcher-kva.example",
            " leading",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_are_refused() {
        let long_label = format!("{}.org", "a".repeat(64));
        let long_name = ["abcdefg"; 33].join(".");
        for name in [
            "",
            "  ",
            "bücher.example",
            "trailing.dot.",
            "a..b",
            ".a",
            "-a.org",
            "a-.org",
            "ab--c.org",
            "xn--a.org",
            "a.*.org",
            "*",
            "*.*.org",
            "a*.org",
            "x\n",
            long_label.as_str(),
            long_name.as_str(),
        ] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            covered_by_wildcard(&names(&["*.example.org", "a.example.org"])),
            Some("a.example.org")
        );
        assert_eq!(
            covered_by_wildcard(&names(&["*.example.org", "a.b.example.org", "example.org"])),
            None
        );
    }
}
