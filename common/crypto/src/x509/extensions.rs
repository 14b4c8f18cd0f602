//! The extensions that matter here, read once: the rest is kept by name if it is critical, and so refused by validation.

use std::net::IpAddr;

use crate::der::{self, DerError, Reader, Writer};
use crate::oid;
use crate::x509::constraints::NameConstraints;

/// More names than this in one certificate or request are refused.
const MAX_NAMES: usize = 1024;
/// More extensions than this in one certificate or request are refused.
const MAX_EXTENSIONS: usize = 64;

/// Why an extension can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionError {
    /// The list of extensions is no DER.
    #[error("extensions: {0}")]
    List(#[from] DerError),
    /// The content of one extension isn't what RFC 5280 says.
    #[error("extension {oid}: {reason}")]
    Content {
        /// Dotted OID.
        oid: String,
        /// What is wrong.
        reason: DerError,
    },
    /// An extension occurs twice.
    #[error("extension {0} occurs twice")]
    Repeated(String),
    /// More extensions or names than any honest certificate has.
    #[error("too many extensions or names")]
    TooMany,
}

/// Key usage (RFC 5280, 4.2.1.3): bit n of the ASN.1 is `1 << n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage {
    bits: u16,
    critical: bool,
}

impl KeyUsage {
    pub(crate) const DIGITAL_SIGNATURE: u8 = 1;
    pub(crate) const KEY_ENCIPHERMENT: u8 = 1 << 2;
    pub(crate) const KEY_AGREEMENT: u8 = 1 << 4;
    pub(crate) const KEY_CERT_SIGN: u8 = 1 << 5;
    pub(crate) const CRL_SIGN: u8 = 1 << 6;

    fn has(self, bit: u8) -> bool {
        self.bits & u16::from(bit) != 0
    }

    /// May sign anything but certificates and revocation lists.
    pub fn digital_signature(self) -> bool {
        self.has(Self::DIGITAL_SIGNATURE)
    }

    /// May sign certificates.
    pub fn key_cert_sign(self) -> bool {
        self.has(Self::KEY_CERT_SIGN)
    }

    /// May sign revocation lists.
    pub fn crl_sign(self) -> bool {
        self.has(Self::CRL_SIGN)
    }

    /// Whether the extension is marked critical.
    pub fn is_critical(self) -> bool {
        self.critical
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BasicConstraints {
    pub(crate) ca: bool,
    pub(crate) path_len: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExtendedKeyUsage {
    pub(crate) server_auth: bool,
    pub(crate) client_auth: bool,
}

/// What was found in a certificate or asked for in a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Extensions {
    pub(crate) uri_sans: Vec<String>,
    pub(crate) dns_names: Vec<String>,
    pub(crate) ip_addresses: Vec<IpAddr>,
    /// Tags of the other alternative names (e-mail, IP address …).
    pub(crate) other_names: Vec<u8>,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) basic_constraints: Option<BasicConstraints>,
    pub(crate) extended_key_usage: Option<ExtendedKeyUsage>,
    pub(crate) subject_key_id: Option<Box<[u8]>>,
    pub(crate) authority_key_id: Option<Box<[u8]>>,
    pub(crate) name_constraints: Option<NameConstraints>,
    /// The first critical extension that isn't understood.
    pub(crate) unknown_critical: Option<String>,
}

impl Extensions {
    /// Reads `SEQUENCE OF Extension`.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, ExtensionError> {
        let mut extensions = Self::default();
        let mut seen: Vec<&[u8]> = Vec::new();
        let mut list = Reader::new(reader.content(der::SEQUENCE)?);
        while !list.is_empty() {
            let (oid, critical, value) = list.sequence(|extension| {
                Ok::<_, DerError>((
                    extension.content(der::OID)?,
                    extension.default_false()?,
                    extension.content(der::OCTET_STRING)?,
                ))
            })?;
            if seen.contains(&oid) {
                return Err(ExtensionError::Repeated(oid::dotted(oid)));
            }
            seen.push(oid);
            if seen.len() > MAX_EXTENSIONS {
                return Err(ExtensionError::TooMany);
            }
            extensions
                .read_one(oid, critical, value)
                .map_err(|reason| ExtensionError::Content {
                    oid: oid::dotted(oid),
                    reason,
                })?;
        }
        if extensions.uri_sans.len() + extensions.dns_names.len() + extensions.other_names.len() > MAX_NAMES {
            return Err(ExtensionError::TooMany);
        }
        Ok(extensions)
    }

    fn read_one(&mut self, oid: &[u8], critical: bool, value: &[u8]) -> Result<(), DerError> {
        let mut reader = Reader::new(value);
        match oid {
            oid::SUBJECT_ALT_NAME => self.read_alternative_names(&mut reader)?,
            oid::KEY_USAGE => {
                self.key_usage = Some(KeyUsage {
                    bits: reader.named_bits()?,
                    critical,
                })
            }
            oid::BASIC_CONSTRAINTS => self.basic_constraints = Some(read_basic_constraints(&mut reader)?),
            oid::EXTENDED_KEY_USAGE => self.extended_key_usage = Some(read_extended_key_usage(&mut reader)?),
            oid::SUBJECT_KEY_ID => self.subject_key_id = Some(reader.content(der::OCTET_STRING)?.into()),
            oid::AUTHORITY_KEY_ID => {
                self.authority_key_id = reader.sequence(|id| {
                    let key_id = id.optional(der::context(0))?;
                    id.optional(der::context_constructed(1))?;
                    id.optional(der::context(2))?;
                    Ok::<_, DerError>(key_id.map(Into::into))
                })?;
            }
            oid::NAME_CONSTRAINTS => self.name_constraints = Some(NameConstraints::read(&mut reader)?),
            // Without a policy to ask for, any set of policies is acceptable (RFC 5280, 6.1.1 (c)).
            oid::CERTIFICATE_POLICIES => return Ok(()),
            other => {
                if critical && self.unknown_critical.is_none() {
                    self.unknown_critical = Some(oid::dotted(other));
                }
                return Ok(());
            }
        }
        reader.finish()
    }

    fn read_alternative_names(&mut self, reader: &mut Reader<'_>) -> Result<(), DerError> {
        reader.sequence(|names| {
            while !names.is_empty() {
                let name = names.any()?;
                match name.tag {
                    tag if tag == der::context(6) => self.uri_sans.push(der::ia5(name.content)?),
                    tag if tag == der::context(2) => self.dns_names.push(der::ia5(name.content)?),
                    tag => {
                        if tag == der::context(7) {
                            self.ip_addresses.extend(ip_address(name.content));
                        }
                        self.other_names.push(tag);
                    }
                }
            }
            Ok(())
        })
    }
}

/// An address as RFC 5280, 4.2.1.6 has it; others mean nothing.
fn ip_address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

fn read_basic_constraints(reader: &mut Reader<'_>) -> Result<BasicConstraints, DerError> {
    reader.sequence(|constraints| {
        let ca = constraints.default_false()?;
        let path_len = if constraints.is_empty() {
            None
        } else {
            Some(constraints.small()?)
        };
        Ok(BasicConstraints { ca, path_len })
    })
}

fn read_extended_key_usage(reader: &mut Reader<'_>) -> Result<ExtendedKeyUsage, DerError> {
    reader.sequence(|usages| {
        let mut found = ExtendedKeyUsage {
            server_auth: false,
            client_auth: false,
        };
        while !usages.is_empty() {
            let usage = usages.content(der::OID)?;
            let any = usage == oid::ANY_EXTENDED_KEY_USAGE;
            found.server_auth |= any || usage == oid::SERVER_AUTH;
            found.client_auth |= any || usage == oid::CLIENT_AUTH;
        }
        Ok(found)
    })
}

/// Writes one extension; `critical` is left out when false, as DER wants.
pub(crate) fn write_extension(w: &mut Writer, oid: &[u8], critical: bool, value: impl FnOnce(&mut Writer)) {
    w.sequence(|w| {
        w.oid(oid);
        if critical {
            w.boolean(true);
        }
        w.octet_string(value);
    });
}

/// Writes the alternative names: DNS names first, then the one URI, in the order of Go's encoder.
pub(crate) fn write_subject_alt_name<'a>(
    w: &mut Writer,
    critical: bool,
    uri: Option<&str>,
    dns_names: impl Iterator<Item = &'a str>,
) {
    write_extension(w, oid::SUBJECT_ALT_NAME, critical, |w| {
        w.sequence(|w| {
            dns_names.for_each(|name| w.element(der::context(2), name.as_bytes()));
            if let Some(uri) = uri {
                w.element(der::context(6), uri.as_bytes());
            }
        });
    });
}
