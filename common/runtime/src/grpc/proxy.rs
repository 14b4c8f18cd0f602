//! The PROXY protocol, versions 1 and 2: who is behind a load balancer.
//!
//! Owns whose headers are believed and how a header is read; its grammar is the parser's. Invariants: a header of a
//! stranger is never read (it then fails as the TLS that it isn't), no byte behind a header is consumed, and a header is
//! bounded in length; its sender's patience is the caller's to bound.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;

/// What a header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The shortest header there is: "PROXY UNKNOWN" and the end of its line.
const SHORTEST: usize = 15;
/// The longest header of version 1.
const LONGEST_LINE: usize = 107;
/// Addresses and extensions of version 2; some balancers add a few hundred bytes.
const LONGEST_BODY: u16 = 4096;

/// The networks whose PROXY headers are believed; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// Text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct NoNetwork(String);

/// Why a header told nothing; the connection is of no use then.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("unable to read the PROXY header")]
    Read(#[from] io::Error),
    #[error("malformed PROXY header")]
    Malformed,
    #[error("PROXY header of {0} bytes is too long")]
    TooLong(u16),
}

impl TrustedProxies {
    /// Adds a network such as `10.0.0.0/8` or `fd00::/8`.
    ///
    /// # Errors
    /// [`NoNetwork`].
    pub fn add(&mut self, cidr: &str) -> Result<(), NoNetwork> {
        let network = cidr.parse().map_err(|_| NoNetwork(cidr.to_owned()))?;
        self.0.push(network);
        Ok(())
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn trusts(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// The client of a connection that came from `peer`: what its header says, if it is believed and sends one.
    pub(super) async fn client(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
    ) -> Result<SocketAddr, HeaderError> {
        if !self.trusts(peer.ip()) {
            return Ok(peer);
        }
        // TLS begins with another byte than a header of either version.
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 || !matches!(first, [b'P' | b'\r']) {
            return Ok(peer);
        }
        let header = read(stream).await?;
        Ok(source(&header)?.unwrap_or(peer))
    }
}

/// Reads a header, and nothing of what follows it.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, HeaderError> {
    let mut header = vec![0; SHORTEST];
    stream.read_exact(&mut header).await?;
    if header.starts_with(SIGNATURE) {
        header.push(stream.read_u8().await?);
        let length = match header.as_slice() {
            [.., high, low] => u16::from_be_bytes([*high, *low]),
            _ => return Err(HeaderError::Malformed),
        };
        if length > LONGEST_BODY {
            return Err(HeaderError::TooLong(length));
        }
        let mut body = vec![0; length.into()];
        stream.read_exact(&mut body).await?;
        header.extend_from_slice(&body);
    } else {
        while !header.ends_with(b"\n") {
            if header.len() >= LONGEST_LINE {
                return Err(HeaderError::Malformed);
            }
            header.push(stream.read_u8().await?);
        }
    }
    Ok(header)
}

/// The client that a header names; none for a connection of the balancer itself, and where it doesn't know.
fn source(header: &[u8]) -> Result<Option<SocketAddr>, HeaderError> {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    let (parsed, length) = ProxyHeader::parse(header, config).map_err(|_| HeaderError::Malformed)?;
    if length != header.len() {
        return Err(HeaderError::Malformed);
    }
    match parsed.proxied_address() {
        None => Ok(None),
        Some(address) if address.protocol == Protocol::Stream => Ok(Some(canonical(address.source))),
        Some(_) => Err(HeaderError::Malformed),
    }
}

/// The address without the form that IPv4 takes on an IPv6 socket.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Version 2, TCP over IPv4, from 203.0.113.7:4711, with an extension behind the addresses.
    fn version_2(command: u8, family: u8, extra: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([0x20 | command, family]);
        header.extend(u16::try_from(12 + extra.len()).unwrap().to_be_bytes());
        header.extend([203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x67, 0x1f, 0x91]);
        header.extend(extra);
        header
    }

    async fn read_from(bytes: &[u8]) -> (Result<Option<SocketAddr>, HeaderError>, usize) {
        let mut rest = bytes;
        let read = match read(&mut rest).await {
            Ok(header) => source(&header),
            Err(error) => Err(error),
        };
        (read, rest.len())
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_nothing_behind_is_read() {
        let noop = [0x04, 0, 2, 0, 0];
        for (header, client) in [
            (
                b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 8081\r\n".to_vec(),
                Some("203.0.113.7:4711"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 fd00::1 4711 8081\r\n".to_vec(),
                Some("[2001:db8::7]:4711"),
            ),
            (
                b"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:10.0.0.1 1 2\r\n".to_vec(),
                Some("203.0.113.7:1"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (version_2(1, 0x11, &[]), Some("203.0.113.7:4711")),
            (version_2(1, 0x11, &noop), Some("203.0.113.7:4711")),
            (version_2(0, 0x11, &[]), None),
        ] {
            let behind = b"\x16\x03\x01";
            let (read, left) = read_from(&[header.as_slice(), behind].concat()).await;
            let client = client.map(|text| text.parse().unwrap());
            assert_eq!((read.unwrap(), left), (client, behind.len()), "{header:?}");
        }
    }

    #[tokio::test]
    async fn garbage_is_refused() {
        let mut long = SIGNATURE.to_vec();
        long.extend([0x21, 0x11, 0xff, 0xff]);
        for garbage in [
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4711\r\n".to_vec(),
            b"PROXY TCP4 x 10.0.0.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 10.0.0.1 99999 2\r\n".to_vec(),
            b"POST / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            b"\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n".to_vec(),
            vec![b'P'; 4096],
            // A datagram's header on a stream.
            version_2(1, 0x12, &[]),
            version_2(7, 0x11, &[]),
            long,
            b"PROXY".to_vec(),
        ] {
            assert!(read_from(&garbage).await.0.is_err(), "{garbage:?}");
        }
    }

    #[test]
    fn networks() {
        let mut trusted = TrustedProxies::default();
        assert!(trusted.is_empty());
        for cidr in ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"] {
            trusted.add(cidr).unwrap();
        }
        for (ip, want) in [
            ("10.1.2.3", true),
            ("11.1.2.3", false),
            ("fd12::1", true),
            ("192.0.2.2", false),
        ] {
            assert_eq!(trusted.trusts(ip.parse().unwrap()), want, "{ip}");
        }
        for text in ["10.0.0.0", "10.0.0.0/33", "", "x/8"] {
            assert!(trusted.add(text).is_err(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_read_to_an_end(tail in prop::collection::vec(any::<u8>(), 0..200), start in 0..3_usize) {
            let start: &[u8] = [b"PROXY TCP4 ".as_slice(), SIGNATURE, b""][start];
            let bytes = [start, &tail].concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            drop(runtime.block_on(read_from(&bytes)));
        }
    }
}
