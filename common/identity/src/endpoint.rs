//! Addresses of the Workload Endpoint and the Broker Endpoint (SPIFFE Workload Endpoint 4, Broker Endpoint 4).

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// Where a SPIFFE endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A Unix domain socket, by its absolute path.
    Unix(PathBuf),
    /// A TCP port of an address.
    Tcp(IpAddr, u16),
    /// A TCP port of a host name, in lower case; only for the Broker Endpoint.
    TcpHost(String, u16),
}

/// Why a text is no endpoint address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither the configuration nor the environment names an address.
    #[error("endpoint address is not configured")]
    NoAddress,
    /// The text is empty.
    #[error("endpoint address is empty")]
    Empty,
    /// A control character, a stray newline for instance.
    #[error("endpoint address contains a control character")]
    ControlChar,
    /// A `%` that two hexadecimal digits do not follow, or escapes that are no UTF-8.
    #[error("endpoint address contains an invalid percent escape")]
    BadPercent,
    /// Neither `unix:` nor `tcp:`.
    #[error("endpoint address must have a \"tcp:\" or \"unix:\" scheme")]
    BadScheme,
    /// A query, even an empty one.
    #[error("endpoint address must not have a query")]
    QueryNotAllowed,
    /// A fragment, even an empty one.
    #[error("endpoint address must not have a fragment")]
    FragmentNotAllowed,
    /// A host between `unix://` and the path.
    #[error("unix endpoint address must not have an authority")]
    UnixAuthority,
    /// No path.
    #[error("unix endpoint address must have a path")]
    UnixMissingPath,
    /// A relative path.
    #[error("unix endpoint address must have an absolute path")]
    UnixNotAbsolute,
    /// No host.
    #[error("tcp endpoint address must have a host")]
    TcpMissingHost,
    /// A host name where only an IP address is allowed.
    #[error("tcp endpoint address must name an IP address")]
    TcpHostNotIp,
    /// A host that is neither an IP address nor a DNS name.
    #[error("tcp endpoint address has an invalid host")]
    TcpBadHost,
    /// No port.
    #[error("tcp endpoint address must have a port")]
    TcpMissingPort,
    /// A port outside 1 to 65535.
    #[error("tcp endpoint address has an invalid port")]
    TcpBadPort,
    /// A path after the port.
    #[error("tcp endpoint address must not have a path")]
    TcpPath,
    /// User info before the host.
    #[error("tcp endpoint address must not have user info")]
    TcpUserinfo,
}

impl Endpoint {
    /// Parses the address of a Workload Endpoint: TCP hosts are IP addresses.
    pub fn parse_workload(text: &str) -> Result<Self, EndpointError> {
        Self::parse(text, false)
    }

    /// Parses the address of a Broker Endpoint: TCP hosts may be DNS names.
    pub fn parse_broker(text: &str) -> Result<Self, EndpointError> {
        Self::parse(text, true)
    }

    fn parse(text: &str, dns_names: bool) -> Result<Self, EndpointError> {
        if text.is_empty() {
            return Err(EndpointError::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(EndpointError::ControlChar);
        }
        let (scheme, rest) = text.split_once(':').ok_or(EndpointError::BadScheme)?;
        let unix = scheme.eq_ignore_ascii_case("unix");
        if !unix && !scheme.eq_ignore_ascii_case("tcp") {
            return Err(EndpointError::BadScheme);
        }
        if rest.contains('#') {
            return Err(EndpointError::FragmentNotAllowed);
        }
        if rest.contains('?') {
            return Err(EndpointError::QueryNotAllowed);
        }
        if unix {
            parse_unix(rest)
        } else {
            parse_tcp(rest, dns_names)
        }
    }
}

/// The address to use: the configured one, else that of the environment variable. A configured one that is malformed is
/// an error and not rescued by the variable.
pub fn locate<'a>(configured: Option<&'a str>, variable: Option<&'a str>) -> Result<&'a str, EndpointError> {
    configured
        .or(variable.filter(|value| !value.is_empty()))
        .ok_or(EndpointError::NoAddress)
}

fn parse_unix(rest: &str) -> Result<Endpoint, EndpointError> {
    let path = match rest.strip_prefix("//") {
        Some(hierarchy) => {
            let (authority, path) = hierarchy.split_at(hierarchy.find('/').unwrap_or(hierarchy.len()));
            if !authority.is_empty() {
                return Err(EndpointError::UnixAuthority);
            }
            path
        }
        None => rest,
    };
    if path.is_empty() {
        return Err(EndpointError::UnixMissingPath);
    }
    if !path.starts_with('/') {
        return Err(EndpointError::UnixNotAbsolute);
    }
    let path = percent_decode(path)?;
    // An escaped control character names no socket that anyone means, and NUL ends the path for the kernel.
    if path.chars().any(char::is_control) {
        return Err(EndpointError::ControlChar);
    }
    Ok(Endpoint::Unix(path.into()))
}

fn parse_tcp(rest: &str, dns_names: bool) -> Result<Endpoint, EndpointError> {
    let hierarchy = rest.strip_prefix("//").ok_or(EndpointError::TcpMissingHost)?;
    let (authority, path) = hierarchy.split_at(hierarchy.find('/').unwrap_or(hierarchy.len()));
    if authority.contains('@') {
        return Err(EndpointError::TcpUserinfo);
    }
    let bad_host = if dns_names {
        EndpointError::TcpBadHost
    } else {
        EndpointError::TcpHostNotIp
    };
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (address, port) = bracketed.split_once(']').ok_or(bad_host)?;
            let address = address.parse::<std::net::Ipv6Addr>().map_err(|_| bad_host)?;
            (
                Host::Ip(address.into()),
                port.strip_prefix(':').unwrap_or_default(),
            )
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            if host.is_empty() {
                return Err(EndpointError::TcpMissingHost);
            }
            (parse_host(host, dns_names).ok_or(bad_host)?, port)
        }
    };
    if !path.is_empty() {
        return Err(EndpointError::TcpPath);
    }
    if port.is_empty() {
        return Err(EndpointError::TcpMissingPort);
    }
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port = port
        .parse()
        .ok()
        .filter(|number| digits && *number != 0)
        .ok_or(EndpointError::TcpBadPort)?;
    Ok(match host {
        Host::Ip(address) => Endpoint::Tcp(address, port),
        Host::Name(name) => Endpoint::TcpHost(name, port),
    })
}

enum Host {
    Ip(IpAddr),
    Name(String),
}

fn parse_host(host: &str, dns_names: bool) -> Option<Host> {
    if let Ok(address) = host.parse::<std::net::Ipv4Addr>() {
        return Some(Host::Ip(address.into()));
    }
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    // A name whose last label is a number is a mistyped address (RFC 3696, section 2).
    let numeric_end = host
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    (dns_names && !numeric_end && host.split('.').all(label)).then(|| Host::Name(host.to_ascii_lowercase()))
}

fn percent_decode(text: &str) -> Result<String, EndpointError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            rest.next()
                .and_then(|b| char::from(b).to_digit(16))
                .and_then(|d| u8::try_from(d).ok())
        };
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.push(high << 4 | low),
            _ => return Err(EndpointError::BadPercent),
        }
    }
    String::from_utf8(bytes).map_err(|_| EndpointError::BadPercent)
}

/// `unix:<path>` or `<host>:<port>`, as gRPC writes targets.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(IpAddr::V4(address), port) => write!(f, "{address}:{port}"),
            Self::Tcp(IpAddr::V6(address), port) => write!(f, "[{address}]:{port}"),
            Self::TcpHost(host, port) => write!(f, "{host}:{port}"),
        }
    }
}
