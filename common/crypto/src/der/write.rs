//! Writes DER into one growing buffer.

use super::{BIT_STRING, BOOLEAN, INTEGER, NULL, OCTET_STRING, OID, PRINTABLE_STRING, SEQUENCE, UTF8_STRING};

/// A DER buffer. Constructed elements are written by closures, so that lengths always fit.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(128))
    }

    /// What `write` writes.
    pub(crate) fn build(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Self::new();
        write(&mut writer);
        writer.0
    }

    /// Bytes that are DER already.
    pub(crate) fn raw(&mut self, der: &[u8]) {
        self.0.extend_from_slice(der);
    }

    pub(crate) fn element(&mut self, tag: u8, content: &[u8]) {
        self.0.push(tag);
        let length = content.len();
        if let Ok(short) = u8::try_from(length)
            && short < 0x80
        {
            self.0.push(short);
        } else {
            let digits = length.to_be_bytes();
            let significant = digits.iter().skip_while(|digit| **digit == 0);
            let count = significant.clone().count();
            self.0.push(0x80 | u8::try_from(count).unwrap_or(0x7f));
            self.0.extend(significant);
        }
        self.raw(content);
    }

    pub(crate) fn nested(&mut self, tag: u8, write: impl FnOnce(&mut Writer)) {
        let content = Self::build(write);
        self.element(tag, &content);
    }

    pub(crate) fn sequence(&mut self, write: impl FnOnce(&mut Writer)) {
        self.nested(SEQUENCE, write);
    }

    pub(crate) fn oid(&mut self, oid: &[u8]) {
        self.element(OID, oid);
    }

    pub(crate) fn null(&mut self) {
        self.element(NULL, &[]);
    }

    pub(crate) fn boolean(&mut self, value: bool) {
        self.element(BOOLEAN, &[if value { 0xff } else { 0 }]);
    }

    /// A non-negative INTEGER from its big-endian magnitude, leading zeros or not.
    pub(crate) fn unsigned(&mut self, magnitude: &[u8]) {
        let mut content: Vec<u8> = magnitude
            .iter()
            .copied()
            .skip_while(|digit| *digit == 0)
            .collect();
        if content.first().is_none_or(|first| *first >= 0x80) {
            content.insert(0, 0);
        }
        self.element(INTEGER, &content);
    }

    pub(crate) fn octet_string(&mut self, write: impl FnOnce(&mut Writer)) {
        self.nested(OCTET_STRING, write);
    }

    /// A BIT STRING of whole bytes.
    pub(crate) fn bit_string(&mut self, bytes: &[u8]) {
        let mut content = Vec::with_capacity(bytes.len() + 1);
        content.push(0);
        content.extend_from_slice(bytes);
        self.element(BIT_STRING, &content);
    }

    /// A BIT STRING of named bits (bit n is `1 << n`), without trailing zeros.
    pub(crate) fn named_bits(&mut self, bits: u8) {
        let byte = bits.reverse_bits();
        if byte == 0 {
            self.element(BIT_STRING, &[0]);
        } else {
            let unused = u8::try_from(byte.trailing_zeros()).unwrap_or(0);
            self.element(BIT_STRING, &[unused, byte]);
        }
    }

    /// A DirectoryString: PrintableString unless the text needs UTF-8, as Go's encoder does.
    pub(crate) fn directory_string(&mut self, text: &str) {
        let printable = |byte: u8| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte);
        let tag = if text.bytes().all(printable) {
            PRINTABLE_STRING
        } else {
            UTF8_STRING
        };
        self.element(tag, text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Reader, SEQUENCE, single};
    use super::*;

    #[test]
    fn long_contents_read_back() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let der = Writer::build(|w| w.element(SEQUENCE, &content));
            assert_eq!(
                single(&der, SEQUENCE).unwrap().content,
                content,
                "length {length}"
            );
        }
    }

    #[test]
    fn integers_and_bits_read_back() {
        for magnitude in [&[][..], &[1], &[0x7f], &[0x80], &[0xff, 0]] {
            let der = Writer::build(|w| w.unsigned(magnitude));
            assert_eq!(Reader::new(&der).unsigned(), Ok(magnitude));
        }
        for bits in [0, 1, 0b110_0000, 0b1_0101, 0xff] {
            let der = Writer::build(|w| w.named_bits(bits));
            assert_eq!(Reader::new(&der).named_bits(), Ok(u16::from(bits)));
        }
    }

    #[test]
    fn strings_are_printable_unless_utf8_is_needed() {
        assert_eq!(
            Writer::build(|w| w.directory_string("SPIRE")).first(),
            Some(&PRINTABLE_STRING)
        );
        assert_eq!(
            Writer::build(|w| w.directory_string("*.example")).first(),
            Some(&UTF8_STRING)
        );
        assert_eq!(
            Writer::build(|w| w.directory_string("Zürich")).first(),
            Some(&UTF8_STRING)
        );
    }
}
