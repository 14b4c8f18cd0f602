//! Name constraints (RFC 5280, 4.2.1.10) for the names of SVIDs: URIs and DNS names.
//!
//! Fails closed: a constraint on a kind of name that the certificate has and that isn't evaluated here refuses it.

use crate::der::{self, DerError, Reader};

const DNS: u8 = der::context(2);
const DIRECTORY: u8 = der::context_constructed(4);
const URI: u8 = der::context(6);

/// How a certificate stands to the constraints of its issuers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    Forbidden,
    /// Constrains a kind of name that is present and not evaluated here.
    Unsupported,
}

/// Names that are constrained: those of one certificate.
pub(crate) struct Names<'a> {
    pub(crate) uris: &'a [String],
    pub(crate) dns: &'a [String],
    pub(crate) others: &'a [u8],
    pub(crate) has_subject: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Subtree {
    tag: u8,
    /// The constraint's text; empty for the kinds that aren't evaluated.
    base: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct NameConstraints {
    permitted: Vec<Subtree>,
    excluded: Vec<Subtree>,
}

impl NameConstraints {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DerError> {
        reader.sequence(|constraints| {
            let permitted = read_subtrees(constraints.optional(der::context_constructed(0))?)?;
            let excluded = read_subtrees(constraints.optional(der::context_constructed(1))?)?;
            Ok(Self { permitted, excluded })
        })
    }

    pub(crate) fn check(&self, names: &Names<'_>) -> Verdict {
        let all = self.permitted.iter().chain(&self.excluded);
        let unsupported = |subtree: &Subtree| match subtree.tag {
            URI | DNS => false,
            DIRECTORY => names.has_subject || names.others.contains(&DIRECTORY),
            tag => names.others.contains(&tag),
        };
        if all.into_iter().any(unsupported) {
            return Verdict::Unsupported;
        }
        let on_uris = self
            .permitted
            .iter()
            .chain(&self.excluded)
            .any(|subtree| subtree.tag == URI);
        if on_uris && names.uris.iter().any(|uri| host(uri).is_none()) {
            return Verdict::Forbidden;
        }
        let uris = names.uris.iter().all(|uri| self.allows(URI, uri, uri_matches));
        let dns = names.dns.iter().all(|name| self.allows(DNS, name, dns_matches));
        if uris && dns {
            Verdict::Allowed
        } else {
            Verdict::Forbidden
        }
    }

    fn allows(&self, tag: u8, name: &str, matches: fn(&str, &str) -> bool) -> bool {
        let within = |subtrees: &[Subtree]| subtrees.iter().any(|s| s.tag == tag && matches(name, &s.base));
        let constrained = self.permitted.iter().any(|subtree| subtree.tag == tag);
        (!constrained || within(&self.permitted)) && !within(&self.excluded)
    }
}

fn read_subtrees(list: Option<&[u8]>) -> Result<Vec<Subtree>, DerError> {
    let mut subtrees = Vec::new();
    let Some(list) = list else { return Ok(subtrees) };
    let mut list = Reader::new(list);
    while !list.is_empty() {
        subtrees.push(list.sequence(|subtree| {
            let base = subtree.any()?;
            // `minimum` must be 0 and `maximum` absent, so nothing else may stand here.
            let text = if matches!(base.tag, DNS | URI) {
                der::ia5(base.content)?
            } else {
                String::new()
            };
            Ok::<_, DerError>(Subtree {
                tag: base.tag,
                base: text,
            })
        })?);
    }
    Ok(subtrees)
}

/// The host of a URI, without user and port.
fn host(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(host.split_once(':').map_or(host, |(host, _)| host)).filter(|host| !host.is_empty())
}

/// A leading period asks for hosts below that domain, else the very host is meant.
fn uri_matches(uri: &str, base: &str) -> bool {
    let Some(host) = host(uri) else { return false };
    let (host, base) = (host.to_ascii_lowercase(), base.to_ascii_lowercase());
    if base.is_empty() {
        return true;
    }
    if base.starts_with('.') {
        host.ends_with(&base)
    } else {
        host == base
    }
}

/// The name itself or any below it.
fn dns_matches(name: &str, base: &str) -> bool {
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    let base = base.strip_prefix('.').unwrap_or(&base);
    base.is_empty() || name == base || name.strip_suffix(base).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<'a>(uris: &'a [String], dns: &'a [String], others: &'a [u8]) -> Names<'a> {
        Names {
            uris,
            dns,
            others,
            has_subject: true,
        }
    }

    fn subtree(tag: u8, base: &str) -> Subtree {
        Subtree {
            tag,
            base: base.to_owned(),
        }
    }

    #[test]
    fn uri_constraints_match_host_or_domain() {
        for (uri, base, matches) in [
            ("spiffe://example.org/a", "example.org", true),
            ("spiffe://a.example.org/a", "example.org", false),
            ("spiffe://a.example.org/a", ".example.org", true),
            ("spiffe://example.org/a", ".example.org", false),
            ("spiffe://notexample.org/a", "example.org", false),
            ("spiffe://example.org/a", "", true),
            ("urn:x", "", false),
        ] {
            assert_eq!(uri_matches(uri, base), matches, "{uri} in {base}");
        }
        assert!(dns_matches("a.b.example", "b.example") && !dns_matches("ab.example", "b.example"));
    }

    #[test]
    fn constraints_on_kinds_that_are_not_evaluated_fail_closed() {
        let ip = der::context(7);
        let constraints = NameConstraints {
            permitted: vec![subtree(ip, "")],
            excluded: vec![],
        };
        assert_eq!(constraints.check(&names(&[], &[], &[])), Verdict::Allowed);
        assert_eq!(constraints.check(&names(&[], &[], &[ip])), Verdict::Unsupported);
        let directory = NameConstraints {
            permitted: vec![],
            excluded: vec![subtree(DIRECTORY, "")],
        };
        assert_eq!(directory.check(&names(&[], &[], &[])), Verdict::Unsupported);
    }

    #[test]
    fn excluded_wins_over_permitted() {
        let uri = ["spiffe://example.org/a".to_owned()];
        let both = NameConstraints {
            permitted: vec![subtree(URI, "example.org")],
            excluded: vec![subtree(URI, "example.org")],
        };
        assert_eq!(both.check(&names(&uri, &[], &[])), Verdict::Forbidden);
        let hostless = ["urn:x".to_owned()];
        assert_eq!(both.check(&names(&hostless, &[], &[])), Verdict::Forbidden);
    }
}
