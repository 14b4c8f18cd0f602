//! SPIFFE IDs and trust domain names (SPIFFE-ID, section 2).
//!
//! Parsing is strict and never repairs: upper case, escapes, dot segments and trailing slashes are refused, so that two
//! texts are the same identity exactly if their bytes are equal.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

const SCHEME: &str = "spiffe://";

/// Longest SPIFFE ID in bytes, scheme included (SPIFFE-ID 2.3).
pub const MAX_ID_BYTES: usize = 2048;
/// Longest trust domain name in bytes (SPIFFE-ID 2.1).
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// Why a text is no SPIFFE ID or trust domain name. With several faults the first in reading order is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// The text is empty.
    #[error("cannot be empty")]
    Empty,
    /// The text does not begin with `spiffe://`, in lower case.
    #[error("scheme is missing or invalid")]
    WrongScheme,
    /// Nothing stands between the scheme and the path.
    #[error("trust domain is missing")]
    MissingTrustDomain,
    /// A byte outside `a-z 0-9 . - _`: ports, user info, escapes and upper case too.
    #[error(
        "trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores"
    )]
    BadTrustDomainChar,
    /// The trust domain name is longer than [`MAX_TRUST_DOMAIN_BYTES`].
    #[error("trust domain is longer than 255 bytes")]
    TrustDomainTooLong,
    /// A path that does not begin with `/`.
    #[error("path must have a leading slash")]
    NoLeadingSlash,
    /// A byte outside `A-Z a-z 0-9 . - _` in a path segment.
    #[error("path segment characters are limited to letters, numbers, dots, dashes, and underscores")]
    BadPathSegmentChar,
    /// `//` inside the path.
    #[error("path cannot contain empty segments")]
    EmptySegment,
    /// A segment that is `.` or `..`.
    #[error("path cannot contain dot segments")]
    DotSegment,
    /// The path ends in `/`.
    #[error("path cannot have a trailing slash")]
    TrailingSlash,
    /// The whole ID is longer than [`MAX_ID_BYTES`].
    #[error("SPIFFE ID is longer than 2048 bytes")]
    TooLong,
}

/// The name of a trust domain, such as `example.org` (SPIFFE-ID 2.1). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a bare name.
    pub fn parse(name: &str) -> Result<Self, SpiffeIdError> {
        check_trust_domain(name)?;
        Ok(Self(name.into()))
    }

    /// Parses a bare name or a whole SPIFFE ID, of which the path is dropped, as SPIRE's configuration and APIs do.
    ///
    /// A text with `:/` in it is taken for an ID and must be a valid one, its path included.
    pub fn parse_lenient(id_or_name: &str) -> Result<Self, SpiffeIdError> {
        if id_or_name.contains(":/") {
            SpiffeId::parse(id_or_name).map(|id| id.trust_domain())
        } else {
            Self::parse(id_or_name)
        }
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID that names the trust domain itself: `spiffe://<name>`, without a path.
    pub fn id(&self) -> SpiffeId {
        SpiffeId {
            text: format!("{SCHEME}{}", self.0).into(),
            path_at: SCHEME.len() + self.0.len(),
        }
    }
}

/// A SPIFFE ID, such as `spiffe://example.org/billing` (SPIFFE-ID 2). Cheap to clone; compared byte by byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    // Follows from the text, so the derived comparisons are those of the text.
    path_at: usize,
}

impl SpiffeId {
    /// Parses the text of an ID.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        if text.is_empty() {
            return Err(SpiffeIdError::Empty);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::WrongScheme)?;
        let (name, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        check_trust_domain(name)?;
        check_path(path)?;
        if text.len() > MAX_ID_BYTES {
            return Err(SpiffeIdError::TooLong);
        }
        Ok(Self {
            text: text.into(),
            path_at: SCHEME.len() + name.len(),
        })
    }

    /// The ID of that path within the trust domain. The path begins with `/` or is empty.
    pub fn from_path(trust_domain: &TrustDomain, path: &str) -> Result<Self, SpiffeIdError> {
        check_path(path)?;
        let text = format!("{SCHEME}{trust_domain}{path}");
        if text.len() > MAX_ID_BYTES {
            return Err(SpiffeIdError::TooLong);
        }
        Ok(Self {
            text: text.into(),
            path_at: SCHEME.len() + trust_domain.as_str().len(),
        })
    }

    /// The ID whose path has these segments; nothing is escaped, so a `/` within a segment is refused.
    pub fn from_segments<S: AsRef<str>>(
        trust_domain: &TrustDomain,
        segments: impl IntoIterator<Item = S>,
    ) -> Result<Self, SpiffeIdError> {
        let mut path = String::new();
        for segment in segments {
            let segment = segment.as_ref();
            if segment.contains('/') {
                return Err(SpiffeIdError::BadPathSegmentChar);
            }
            check_segment(segment)?;
            path.push('/');
            path.push_str(segment);
        }
        Self::from_path(trust_domain, &path)
    }

    /// The ID of the trust domain's server, `/spire/server`, as SPIRE names it.
    pub fn server(trust_domain: &TrustDomain) -> Self {
        let text = format!("{SCHEME}{trust_domain}/spire/server");
        Self {
            text: text.into(),
            path_at: SCHEME.len() + trust_domain.as_str().len(),
        }
    }

    /// The ID of an agent, `/spire/agent` followed by `suffix`, which begins with `/` (for instance `/x509pop/<digest>`).
    pub fn agent(trust_domain: &TrustDomain, suffix: &str) -> Result<Self, SpiffeIdError> {
        if suffix.is_empty() {
            return Err(SpiffeIdError::TrailingSlash);
        }
        check_path(suffix)?;
        Self::from_path(trust_domain, &format!("/spire/agent{suffix}"))
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path with its leading `/`; empty for the ID of a trust domain.
    pub fn path(&self) -> &str {
        self.text.get(self.path_at..).unwrap_or_default()
    }

    /// The trust domain, as a value of its own.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.trust_domain_name().into())
    }

    /// The name of the trust domain, borrowed.
    pub fn trust_domain_name(&self) -> &str {
        self.text.get(SCHEME.len()..self.path_at).unwrap_or_default()
    }

    /// Whether the ID belongs to that trust domain.
    pub fn is_member_of(&self, trust_domain: &TrustDomain) -> bool {
        self.trust_domain_name() == trust_domain.as_str()
    }

    /// Whether the ID lies in `/spire`, which is kept for servers and agents: no workload can be registered there.
    pub fn is_reserved(&self) -> bool {
        self.path()
            .strip_prefix("/spire")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether the ID is an agent's: below `/spire/agent/`.
    pub fn is_agent(&self) -> bool {
        self.path().starts_with("/spire/agent/")
    }
}

fn check_trust_domain(name: &str) -> Result<(), SpiffeIdError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    if name.is_empty() {
        Err(SpiffeIdError::MissingTrustDomain)
    } else if !name.bytes().all(allowed) {
        Err(SpiffeIdError::BadTrustDomainChar)
    } else if name.len() > MAX_TRUST_DOMAIN_BYTES {
        Err(SpiffeIdError::TrustDomainTooLong)
    } else {
        Ok(())
    }
}

fn check_path(path: &str) -> Result<(), SpiffeIdError> {
    if path.is_empty() {
        return Ok(());
    }
    let mut segments = path
        .strip_prefix('/')
        .ok_or(SpiffeIdError::NoLeadingSlash)?
        .split('/')
        .peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_none() {
            return Err(SpiffeIdError::TrailingSlash);
        }
        check_segment(segment)?;
    }
    Ok(())
}

fn check_segment(segment: &str) -> Result<(), SpiffeIdError> {
    match segment {
        "" => Err(SpiffeIdError::EmptySegment),
        "." | ".." => Err(SpiffeIdError::DotSegment),
        _ if segment
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) =>
        {
            Ok(())
        }
        _ => Err(SpiffeIdError::BadPathSegmentChar),
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(name: &str) -> Result<Self, SpiffeIdError> {
        Self::parse(name)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        Self::parse(text)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
