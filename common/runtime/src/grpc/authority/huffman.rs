//! HPACK's Huffman code (RFC 7541, appendix B), both ways, for the rare peer that codes its `:authority`.
//!
//! The code is canonical, so the lengths of the appendix are the whole table: codes of one length follow each
//! other in the order of their symbols. Invariant: `decode(encode(x)) == x`, and only the one valid coding decodes.

/// Code length of each byte, and of the end-of-string symbol (256).
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const SYMBOLS: usize = 257;
const LONGEST: usize = 30;

/// The code, laid out for both directions.
struct Code {
    /// The code of each symbol, right-aligned.
    codes: [u32; SYMBOLS],
    /// Symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// For each length: its first code, the place of that code's symbol in `symbols`, and how many there are.
    lengths: [(u32, usize, u32); LONGEST + 1],
}

static CODE: Code = Code::build();

impl Code {
    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "evaluated at compile time, where a bad index doesn't build"
    )]
    const fn build() -> Self {
        let mut code = Self {
            codes: [0; SYMBOLS],
            symbols: [0; SYMBOLS],
            lengths: [(0, 0, 0); LONGEST + 1],
        };
        let (mut next, mut place, mut length) = (0_u32, 0, 1);
        while length <= LONGEST {
            next <<= 1;
            code.lengths[length] = (next, place, 0);
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == length {
                    code.codes[symbol] = next;
                    code.symbols[place] = symbol as u16;
                    code.lengths[length].2 += 1;
                    next += 1;
                    place += 1;
                }
                symbol += 1;
            }
            length += 1;
        }
        code
    }

    /// The symbol whose code is the `length` low bits of `bits`.
    fn symbol(&self, bits: u32, length: usize) -> Option<u16> {
        let &(first, place, count) = self.lengths.get(length)?;
        let offset = bits.checked_sub(first).filter(|offset| *offset < count)?;
        self.symbols.get(place + usize::try_from(offset).ok()?).copied()
    }
}

/// The bytes that `coded` stands for; `None` unless it is a valid coding (padding of at most seven one bits).
pub(super) fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(coded.len() * 8 / 5);
    let (mut bits, mut length) = (0_u32, 0);
    for byte in coded {
        for shift in (0..8).rev() {
            bits = bits << 1 | u32::from(byte >> shift & 1);
            length += 1;
            if let Some(symbol) = CODE.symbol(bits, length) {
                plain.push(u8::try_from(symbol).ok()?);
                (bits, length) = (0, 0);
            } else if length >= LONGEST {
                return None;
            }
        }
    }
    (length < 8 && bits + 1 == 1 << length).then_some(plain)
}

/// The coding of `plain`, padded with ones.
pub(super) fn encode(plain: &[u8]) -> Vec<u8> {
    let mut coded = Vec::with_capacity(plain.len());
    let (mut bits, mut pending) = (0_u64, 0_u32);
    for byte in plain {
        let symbol = usize::from(*byte);
        let (Some(code), Some(length)) = (CODE.codes.get(symbol), LENGTHS.get(symbol)) else {
            continue;
        };
        bits = bits << length | u64::from(*code);
        pending += u32::from(*length);
        while pending >= 8 {
            pending -= 8;
            coded.push(low_byte(bits >> pending));
        }
    }
    if pending > 0 {
        let padding = 8 - pending;
        coded.push(low_byte(bits << padding | ((1 << padding) - 1)));
    }
    coded
}

fn low_byte(bits: u64) -> u8 {
    (bits & 0xff) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_rfc() {
        let plain = b"www.example.com";
        let coded = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(encode(plain), coded);
        assert_eq!(decode(&coded).as_deref(), Some(&plain[..]));
        assert_eq!(
            encode(b":authority"),
            [0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f]
        );
    }

    #[test]
    fn every_byte_survives_both_ways() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)), Some(all));
        for byte in 0..=255_u8 {
            assert_eq!(decode(&encode(&[byte])), Some(vec![byte]));
        }
        assert_eq!(decode(&[]), Some(vec![]));
    }

    #[test]
    fn bad_padding_and_the_end_symbol_are_refused() {
        assert_eq!(decode(&[0b0000_0000]), None, "padding of zeros");
        assert_eq!(decode(&[0xff]), None, "eight bits of padding");
        assert_eq!(
            decode(&[0xff, 0xff, 0xff, 0xff]),
            None,
            "the end-of-string symbol"
        );
    }
}
