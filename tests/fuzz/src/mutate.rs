//! A small mutating fuzzer: the same seed gives the same inputs, so that a failure can be run again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// SplitMix64: good enough to cut and mix bytes, and the same everywhere.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence that depends on nothing but the seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next_u64() >> 1)
            .unwrap_or(0)
            .checked_rem(end)
            .unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next_u64().to_le_bytes().first().copied().unwrap_or(0)
    }
}

/// Calls `target` with each input of the corpus, with `rounds` mutations of them and with random bytes.
///
/// # Panics
/// As `target` does, after the input was written to standard error in hexadecimal.
pub fn run(target: fn(&[u8]), corpus: &[Vec<u8>], rounds: usize, seed: u64) {
    let mut random = Random::new(seed);
    corpus.iter().for_each(|input| attempt(target, input));
    attempt(target, &[]);
    for round in 0..rounds {
        let mut input = if round % 16 == 0 || corpus.is_empty() {
            (0..random.below(300)).map(|_| random.byte()).collect()
        } else {
            pick(&mut random, corpus)
        };
        for _ in 0..=random.below(4) {
            mutate(&mut random, &mut input, corpus);
        }
        attempt(target, &input);
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the input that failed is what the reader of the test needs"
)]
fn attempt(target: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("input that fails: {}", credence_crypto::hex(input));
        resume_unwind(panic);
    }
}

fn pick(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    corpus
        .get(random.below(corpus.len()))
        .cloned()
        .unwrap_or_default()
}

fn mutate(random: &mut Random, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = random.below(input.len());
    let byte = random.byte();
    match random.below(8) {
        0 => input.truncate(at),
        1 => input.insert(at, byte),
        2 if !input.is_empty() => {
            input.remove(at);
        }
        3 => {
            // Lengths and numbers like to break at their ends.
            let edge = [0x00, 0x01, 0x7f, 0x80, 0x81, 0x82, 0x84, 0xff];
            if let (Some(place), Some(value)) = (input.get_mut(at), edge.get(random.below(edge.len()))) {
                *place = *value;
            }
        }
        4 => {
            let other = pick(random, corpus);
            let from = random.below(other.len());
            input.truncate(at);
            input.extend(other.iter().skip(from));
        }
        5 => {
            let piece: Vec<u8> = input
                .iter()
                .skip(at)
                .take(1 + random.below(32))
                .copied()
                .collect();
            let place = random.below(input.len());
            input.splice(place..place, piece);
        }
        6 => {
            if let Some(place) = input.get_mut(at) {
                *place ^= 1 << random.below(8);
            }
        }
        _ => {
            if let Some(place) = input.get_mut(at) {
                *place = byte;
            }
        }
    }
}
