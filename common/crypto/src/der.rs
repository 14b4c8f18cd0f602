//! Strict DER, the subset that X.509 and PKCS need.
//!
//! Owns the reader (definite, minimal lengths; low tag numbers; nothing left over), the writer and the conversion of
//! ASN.1 times. Never interprets what it reads. Invariant: what the reader accepts has exactly one encoding.

mod time;
mod write;

pub(crate) use time::{read_time, write_time};
pub(crate) use write::Writer;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// `[n]` with primitive content.
pub(crate) const fn context(n: u8) -> u8 {
    0x80 | n
}

/// `[n]` with constructed content.
pub(crate) const fn context_constructed(n: u8) -> u8 {
    0xa0 | n
}

/// Why bytes are no DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DerError {
    /// The bytes end inside an element.
    #[error("truncated")]
    Truncated,
    /// Bytes follow where the structure is over.
    #[error("trailing bytes")]
    TrailingBytes,
    /// Indefinite, non-minimal or huge length.
    #[error("bad length")]
    Length,
    /// Another element was due here.
    #[error("unexpected tag {0:#04x}")]
    Tag(u8),
    /// The content of an element isn't what its type allows.
    #[error("bad value")]
    Value,
}

/// One element: its tag, its content, and both with the header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) raw: &'a [u8],
}

/// Reads elements one after the other from a slice.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Errs if anything is left.
    pub(crate) fn finish(&self) -> Result<(), DerError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DerError::TrailingBytes)
        }
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, whatever its tag.
    pub(crate) fn any(&mut self) -> Result<Element<'a>, DerError> {
        let start = self.rest;
        let (&tag, after_tag) = start.split_first().ok_or(DerError::Truncated)?;
        if tag & 0x1f == 0x1f {
            return Err(DerError::Tag(tag));
        }
        let (&first, after_first) = after_tag.split_first().ok_or(DerError::Truncated)?;
        let (length, body) = if first < 0x80 {
            (usize::from(first), after_first)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 3 {
                return Err(DerError::Length);
            }
            let (digits, body) = after_first.split_at_checked(count).ok_or(DerError::Truncated)?;
            let length = digits
                .iter()
                .fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit));
            if length < 0x80 || digits.first() == Some(&0) {
                return Err(DerError::Length);
            }
            (length, body)
        };
        let (content, rest) = body.split_at_checked(length).ok_or(DerError::Truncated)?;
        let raw = start.get(..start.len() - rest.len()).ok_or(DerError::Truncated)?;
        self.rest = rest;
        Ok(Element { tag, content, raw })
    }

    /// The next element, which must have this tag.
    pub(crate) fn element(&mut self, tag: u8) -> Result<Element<'a>, DerError> {
        match self.peek() {
            None => Err(DerError::Truncated),
            Some(found) if found != tag => Err(DerError::Tag(found)),
            Some(_) => self.any(),
        }
    }

    pub(crate) fn content(&mut self, tag: u8) -> Result<&'a [u8], DerError> {
        self.element(tag).map(|element| element.content)
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, DerError> {
        if self.peek() == Some(tag) {
            self.content(tag).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Reads a constructed element with `read`, which must use all of it.
    pub(crate) fn nested<T, E: From<DerError>>(
        &mut self,
        tag: u8,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut inner = Reader::new(self.content(tag)?);
        let value = read(&mut inner)?;
        inner.finish()?;
        Ok(value)
    }

    pub(crate) fn sequence<T, E: From<DerError>>(
        &mut self,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.nested(SEQUENCE, read)
    }

    /// The magnitude of a non-negative INTEGER without leading zeros; empty for 0.
    pub(crate) fn unsigned(&mut self) -> Result<&'a [u8], DerError> {
        magnitude(self.content(INTEGER)?)
    }

    /// A small non-negative INTEGER.
    pub(crate) fn small(&mut self) -> Result<u32, DerError> {
        let digits = self.unsigned()?;
        if digits.len() > 4 {
            return Err(DerError::Value);
        }
        Ok(digits.iter().fold(0, |sum, digit| (sum << 8) | u32::from(*digit)))
    }

    /// `BOOLEAN DEFAULT FALSE`. An explicit FALSE is no DER, yet seen in the field, and means the same.
    pub(crate) fn default_false(&mut self) -> Result<bool, DerError> {
        match self.optional(BOOLEAN)? {
            None | Some([0x00]) => Ok(false),
            Some([0xff]) => Ok(true),
            Some(_) => Err(DerError::Value),
        }
    }

    /// A BIT STRING of whole bytes.
    pub(crate) fn bit_string(&mut self) -> Result<&'a [u8], DerError> {
        match self.content(BIT_STRING)?.split_first() {
            Some((0, bytes)) => Ok(bytes),
            _ => Err(DerError::Value),
        }
    }

    /// A BIT STRING of named bits, the first 16 of them: bit n of the ASN.1 is `1 << n`.
    pub(crate) fn named_bits(&mut self) -> Result<u16, DerError> {
        let (&unused, bytes) = self.content(BIT_STRING)?.split_first().ok_or(DerError::Value)?;
        if unused > 7 || (bytes.is_empty() && unused != 0) || bytes.len() > 2 {
            return Err(DerError::Value);
        }
        if bytes
            .last()
            .is_some_and(|last| last.trailing_zeros() < u32::from(unused))
        {
            return Err(DerError::Value);
        }
        let mut bits = 0;
        for (index, byte) in bytes.iter().enumerate() {
            bits |= u16::from(byte.reverse_bits()) << (8 * index);
        }
        Ok(bits)
    }
}

/// Checks a two's complement INTEGER to be minimal and not negative, and strips the sign byte.
fn magnitude(content: &[u8]) -> Result<&[u8], DerError> {
    match content {
        [] => Err(DerError::Value),
        [0] => Ok(&[]),
        [0, second, ..] if *second < 0x80 => Err(DerError::Value),
        [0, digits @ ..] => Ok(digits),
        [first, ..] if *first >= 0x80 => Err(DerError::Value),
        digits => Ok(digits),
    }
}

/// The one element that `bytes` hold, with this tag and nothing after it.
pub(crate) fn single(bytes: &[u8], tag: u8) -> Result<Element<'_>, DerError> {
    let mut reader = Reader::new(bytes);
    let element = reader.element(tag)?;
    reader.finish()?;
    Ok(element)
}

/// The text of an IA5String.
pub(crate) fn ia5(bytes: &[u8]) -> Result<String, DerError> {
    if !bytes.is_ascii() {
        return Err(DerError::Value);
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| DerError::Value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_must_be_minimal_and_definite() {
        assert_eq!(
            single(&[0x30, 0x80, 0, 0], SEQUENCE).unwrap_err(),
            DerError::Length
        );
        assert_eq!(
            single(&[0x30, 0x81, 0x00], SEQUENCE).unwrap_err(),
            DerError::Length
        );
        assert_eq!(
            single(&[0x30, 0x82, 0x00, 0x80], SEQUENCE).unwrap_err(),
            DerError::Length
        );
        assert_eq!(
            single(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], SEQUENCE).unwrap_err(),
            DerError::Length
        );
        assert_eq!(single(&[0x30, 0x01], SEQUENCE).unwrap_err(), DerError::Truncated);
        assert_eq!(
            single(&[0x30, 0x00, 0x00], SEQUENCE).unwrap_err(),
            DerError::TrailingBytes
        );
    }

    #[test]
    fn integers_are_minimal_and_not_negative() {
        assert_eq!(Reader::new(&[2, 1, 0]).unsigned(), Ok(&[][..]));
        assert_eq!(Reader::new(&[2, 2, 0, 0x80]).unsigned(), Ok(&[0x80][..]));
        assert_eq!(Reader::new(&[2, 2, 0, 0x7f]).unsigned(), Err(DerError::Value));
        assert_eq!(Reader::new(&[2, 1, 0x80]).unsigned(), Err(DerError::Value));
        assert_eq!(Reader::new(&[2, 0]).unsigned(), Err(DerError::Value));
    }

    #[test]
    fn named_bits_read_from_the_left() {
        assert_eq!(Reader::new(&[3, 2, 7, 0x80]).named_bits(), Ok(1));
        assert_eq!(Reader::new(&[3, 2, 1, 0x06]).named_bits(), Ok(0b110_0000));
        assert_eq!(Reader::new(&[3, 2, 1, 0x01]).named_bits(), Err(DerError::Value));
    }
}
