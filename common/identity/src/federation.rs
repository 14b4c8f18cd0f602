//! Federation relationships: from where, and how, the bundle of another trust domain comes (SPIFFE Federation, 5.1).
//!
//! Owns what such a relationship is. Fetching, and the bundle itself, are others' business.

use std::fmt;
use std::str::FromStr;

use crate::{SpiffeId, TrustDomain};

/// Where the bundle of a foreign trust domain is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederationRelationship {
    /// Whose bundle it is.
    pub trust_domain: TrustDomain,
    /// Where it is served.
    pub bundle_endpoint_url: BundleEndpointUrl,
    /// How the endpoint proves that it may serve it.
    pub bundle_endpoint_profile: BundleEndpointProfile,
}

/// How a bundle endpoint is authenticated (SPIFFE Federation, 5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleEndpointProfile {
    /// By a certificate of the public web for the URL's host.
    HttpsWeb,
    /// By an X.509-SVID.
    HttpsSpiffe {
        /// The SPIFFE ID the endpoint must show, not necessarily of the trust domain whose bundle it serves.
        endpoint_spiffe_id: SpiffeId,
    },
}

impl BundleEndpointProfile {
    /// The name of the profile in configuration files and command lines.
    pub fn name(&self) -> &'static str {
        match self {
            Self::HttpsWeb => "https_web",
            Self::HttpsSpiffe { .. } => "https_spiffe",
        }
    }
}

/// An `https` URL with a host and without user info (SPIFFE Federation, 5.2.1.1 and 5.2.2.1). Its scheme is in lower
/// case; the rest stays as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BundleEndpointUrl(String);

/// Why a text is no URL of a bundle endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleEndpointUrlError {
    /// Another scheme, or none.
    #[error("bundle endpoint URL must use the https scheme")]
    Scheme,
    /// Nothing between `https://` and the path or port.
    #[error("bundle endpoint URL must specify the host")]
    NoHost,
    /// Something before an `@`.
    #[error("bundle endpoint URL must not contain user info")]
    UserInfo,
    /// Neither a DNS name nor an IP address.
    #[error("failed to parse bundle endpoint URL: invalid host")]
    BadHost,
    /// A port outside 1 to 65535.
    #[error("failed to parse bundle endpoint URL: invalid port")]
    BadPort,
    /// A `%` that two hexadecimal digits do not follow.
    #[error("failed to parse bundle endpoint URL: invalid percent escape")]
    BadPercent,
    /// A character that a URL doesn't have (RFC 3986, appendix A).
    #[error("failed to parse bundle endpoint URL: invalid character {0:?}")]
    BadCharacter(char),
}

impl BundleEndpointUrl {
    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BundleEndpointUrl {
    type Err = BundleEndpointUrlError;

    fn from_str(text: &str) -> Result<Self, BundleEndpointUrlError> {
        let (_, rest) = text
            .split_once(':')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))
            .ok_or(BundleEndpointUrlError::Scheme)?;
        check_characters(text)?;
        let hierarchy = rest.strip_prefix("//").ok_or(BundleEndpointUrlError::NoHost)?;
        let end = hierarchy.find(['/', '?', '#']).unwrap_or(hierarchy.len());
        let (authority, _) = hierarchy.split_at(end);
        if authority.contains('@') {
            return Err(BundleEndpointUrlError::UserInfo);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (address, rest) = bracketed.split_once(']').ok_or(BundleEndpointUrlError::BadHost)?;
                address
                    .parse::<std::net::Ipv6Addr>()
                    .map_err(|_| BundleEndpointUrlError::BadHost)?;
                match rest.strip_prefix(':') {
                    Some(port) => (address, Some(port)),
                    None if rest.is_empty() => (address, None),
                    None => return Err(BundleEndpointUrlError::BadHost),
                }
            }
            None => {
                let (host, port) = match authority.split_once(':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (authority, None),
                };
                let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
                if !host.bytes().all(of_name) {
                    return Err(BundleEndpointUrlError::BadHost);
                }
                (host, port)
            }
        };
        if host.is_empty() {
            return Err(BundleEndpointUrlError::NoHost);
        }
        // An empty port is the default one (RFC 3986, 3.2.3).
        if let Some(port) = port.filter(|port| !port.is_empty()) {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            if !digits || !matches!(port.parse::<u16>(), Ok(1..)) {
                return Err(BundleEndpointUrlError::BadPort);
            }
        }
        Ok(Self(format!("https:{rest}")))
    }
}

impl fmt::Display for BundleEndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_characters(text: &str) -> Result<(), BundleEndpointUrlError> {
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '%' => {
                let mut digit = || rest.next().is_some_and(|next| next.is_ascii_hexdigit());
                if !(digit() && digit()) {
                    return Err(BundleEndpointUrlError::BadPercent);
                }
            }
            'a'..='z' | 'A'..='Z' | '0'..='9' => {}
            '-' | '.' | '_' | '~' | ':' | '/' | '?' | '#' | '[' | ']' | '@' => {}
            '!' | '$' | '&' | '\'' | '(' | ')' | '*' | '+' | ',' | ';' | '=' => {}
            other => return Err(BundleEndpointUrlError::BadCharacter(other)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Conforms: FED-05
    #[test]
    fn a_url_keeps_all_but_the_case_of_its_scheme() {
        for (text, kept) in [
            ("https://example.org", "https://example.org"),
            (
                "HTTPS://Example.org:8443/B?td=a&x=%20#f",
                "https://Example.org:8443/B?td=a&x=%20#f",
            ),
            (
                "https://[2001:db8::1]:8443/bundle",
                "https://[2001:db8::1]:8443/bundle",
            ),
            ("https://10.0.0.1/a/../b", "https://10.0.0.1/a/../b"),
        ] {
            assert_eq!(text.parse::<BundleEndpointUrl>().unwrap().as_str(), kept);
        }
    }

    /// Conforms: FED-05
    #[test]
    fn what_is_no_url_of_a_bundle_endpoint() {
        use BundleEndpointUrlError::{BadCharacter, BadHost, BadPercent, BadPort, NoHost, Scheme, UserInfo};
        for (text, error) in [
            ("", Scheme),
            ("/b", Scheme),
            ("http://example.org", Scheme),
            ("https://", NoHost),
            ("https:///b", NoHost),
            ("https:example.org/b", NoHost),
            ("https://:8443/b", NoHost),
            ("https://user@example.org", UserInfo),
            ("https://:pw@example.org", UserInfo),
            ("https://@example.org", UserInfo),
            ("https://[::1/b", BadHost),
            ("https://[::1]x/b", BadHost),
            ("https://exa$mple.org", BadHost),
            ("https://example.org:8a", BadPort),
            ("https://example.org:0", BadPort),
            ("https://example.org:99999", BadPort),
            ("https://example.org/%zz", BadPercent),
            ("https://example.org/%a", BadPercent),
            (" https://example.org", Scheme),
            ("x y", Scheme),
            ("https://example.org/\n", BadCharacter('\n')),
            ("https://exämple.org", BadCharacter('ä')),
        ] {
            assert_eq!(text.parse::<BundleEndpointUrl>(), Err(error), "{text}");
        }
    }
}
