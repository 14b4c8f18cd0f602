//! Walks a header block and says which `:authority` values must change (RFC 7541, section 6).
//!
//! Only lengths are followed, so no dynamic table is kept. Invariant: an edit keeps the decoded length of the value,
//! because the entry's size decides what both ends evict from their tables.

use std::ops::Range;

use http::uri::Authority;

use super::huffman;

/// Index of `:authority` in the static table.
const STATIC_AUTHORITY: usize = 1;
const AUTHORITY: &[u8] = b":authority";
const AUTHORITY_HUFFMAN: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];
/// First bit of a string: its bytes are Huffman-coded.
const HUFFMAN: u8 = 0x80;

/// One string literal, its length prefix included, and what stands there instead. Never longer than what it replaces.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) range: Range<usize>,
    pub(super) replacement: Vec<u8>,
}

/// The edits that `block`, a whole header block, needs; none as a rule. `None`: the block can't be read.
pub(super) fn edits(block: &[u8]) -> Option<Vec<Edit>> {
    let mut edits = Vec::new();
    let mut reader = Reader { block, at: 0 };
    while let Some(first) = reader.peek() {
        match first {
            0x80.. => reader.skip_integer(7)?,
            0x40.. => reader.literal(6, &mut edits)?,
            0x20.. => reader.skip_integer(5)?,
            _ => reader.literal(4, &mut edits)?,
        }
    }
    Some(edits)
}

struct Reader<'a> {
    block: &'a [u8],
    at: usize,
}

/// A string literal as it stands in the block.
struct Text<'a> {
    range: Range<usize>,
    huffman: bool,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.block.get(self.at).copied()
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// An integer with a prefix of `bits` bits (section 5.1); anything over 2^28 is no length of ours.
    fn integer(&mut self, bits: u32) -> Option<usize> {
        let mask = (1_u8 << bits).wrapping_sub(1);
        let prefix = self.byte()? & mask;
        let mut value = usize::from(prefix);
        if prefix < mask {
            return Some(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn skip_integer(&mut self, bits: u32) -> Option<()> {
        self.integer(bits).map(|_| ())
    }

    fn text(&mut self) -> Option<Text<'a>> {
        let start = self.at;
        let huffman = self.peek()? & HUFFMAN != 0;
        let length = self.integer(7)?;
        let bytes = self.block.get(self.at..)?.get(..length)?;
        self.at += length;
        Some(Text {
            range: start..self.at,
            huffman,
            bytes,
        })
    }

    fn literal(&mut self, index_bits: u32, edits: &mut Vec<Edit>) -> Option<()> {
        let is_authority = match self.integer(index_bits)? {
            0 => {
                let name = self.text()?;
                name.bytes
                    == if name.huffman {
                        AUTHORITY_HUFFMAN
                    } else {
                        AUTHORITY
                    }
            }
            index => index == STATIC_AUTHORITY,
        };
        let value = self.text()?;
        if is_authority {
            edits.extend(value.edit()?);
        }
        Some(())
    }
}

impl Text<'_> {
    /// The edit that turns this value into a valid authority: `Some(None)` where it is one already (or empty, which
    /// no edit of the same length can help), `None` where it can't be decoded.
    fn edit(self) -> Option<Option<Edit>> {
        let decoded;
        let plain = if self.huffman {
            decoded = huffman::decode(self.bytes)?;
            decoded.as_slice()
        } else {
            self.bytes
        };
        if plain.is_empty() || Authority::try_from(plain).is_ok() {
            return Some(None);
        }
        let mended: Vec<u8> = plain
            .iter()
            .map(|byte| if unreserved(*byte) { *byte } else { b'-' })
            .collect();
        let (flag, bytes) = if self.huffman {
            (HUFFMAN, huffman::encode(&mended))
        } else {
            (0, mended)
        };
        let mut replacement = length_prefix(flag, bytes.len());
        replacement.extend(bytes);
        // A peer may write its length with more bytes than needed; keeping the decoded value is what counts.
        (replacement.len() <= self.range.len()).then_some(Some(Edit {
            range: self.range,
            replacement,
        }))
    }
}

/// What RFC 3986 allows in every place of a name.
fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// A string's length with a prefix of seven bits.
fn length_prefix(flag: u8, length: usize) -> Vec<u8> {
    let Some(mut rest) = length.checked_sub(0x7f) else {
        return vec![flag | low_bits(length)];
    };
    let mut bytes = vec![flag | 0x7f];
    while rest > 0x7f {
        bytes.push(0x80 | low_bits(rest));
        rest >>= 7;
    }
    bytes.push(low_bits(rest));
    bytes
}

#[expect(clippy::cast_possible_truncation, reason = "masked to seven bits")]
fn low_bits(value: usize) -> u8 {
    (value & 0x7f) as u8
}

#[cfg(test)]
mod tests;
