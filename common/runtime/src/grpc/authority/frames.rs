//! Walks the frames that an HTTP/2 client sends and mends the header blocks among them (RFC 9113, sections 4 and 6).
//!
//! It never judges: what can't be read goes on as it is, and so does all that follows, so that the HTTP/2 library
//! behind gives its own verdict. Invariant: frames stay frames; no CONTINUATION is joined, none is added.

use std::ops::Range;

use super::hpack::{self, Edit};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER: usize = 9;
/// `SETTINGS_MAX_FRAME_SIZE` that our servers announce (the standard's default); more is an error of the peer.
const MAX_PAYLOAD: usize = 16_384;
/// What may be held back while a header block is incomplete.
const MAX_HELD: usize = 65_536;
const MAX_CONTINUATIONS: usize = 16;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Where in the peer's byte stream we are.
#[derive(Debug, Default)]
pub(super) struct Walker {
    /// Bytes of the preface seen so far.
    preface: usize,
    /// Bytes left of a frame that holds no header block.
    skip: usize,
    /// Something couldn't be read: all the rest passes.
    raw: bool,
}

/// What became of the bytes given to [`Walker::walk`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// How many bytes at the start are final; the rest is an incomplete frame and must be given again, with more.
    pub(super) ready: usize,
    /// How many bytes there are now: a mended Huffman value can be shorter.
    pub(super) len: usize,
}

enum Step {
    Pass(usize),
    Block(Vec<Frame>),
    Incomplete,
    Unreadable,
}

/// A HEADERS or CONTINUATION frame, complete, as ranges of the bytes given.
struct Frame {
    whole: Range<usize>,
    fragment: Range<usize>,
}

impl Walker {
    /// All the rest passes as it is.
    pub(super) fn is_raw(&self) -> bool {
        self.raw
    }

    /// Walks over the next bytes of the stream and mends them in place.
    pub(super) fn walk(&mut self, bytes: &mut [u8]) -> Walked {
        let mut len = bytes.len();
        let mut at = 0;
        while !self.raw && at < len {
            let Some(rest) = bytes.get_mut(at..len) else { break };
            match self.step(rest) {
                Step::Pass(count) => at += count,
                Step::Incomplete => return Walked { ready: at, len },
                Step::Unreadable => self.raw = true,
                Step::Block(frames) => match mend(rest, &frames) {
                    Some((end, cut)) => {
                        at += end;
                        len -= cut;
                    }
                    None => self.raw = true,
                },
            }
        }
        Walked { ready: len, len }
    }

    fn step(&mut self, rest: &[u8]) -> Step {
        if let Some(expected) = PREFACE.get(self.preface..).filter(|left| !left.is_empty()) {
            let count = expected.len().min(rest.len());
            if expected.get(..count) != rest.get(..count) {
                return Step::Unreadable;
            }
            self.preface += count;
            return Step::Pass(count);
        }
        if self.skip > 0 {
            let count = self.skip.min(rest.len());
            self.skip -= count;
            return Step::Pass(count);
        }
        let Some(head) = Head::read(rest) else {
            return Step::Incomplete;
        };
        if head.payload > MAX_PAYLOAD {
            return Step::Unreadable;
        }
        if head.kind == HEADERS {
            return block(rest, head);
        }
        self.skip = HEADER + head.payload;
        self.step(rest)
    }
}

/// A frame's header.
struct Head {
    payload: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes.first_chunk::<HEADER>()?;
        let payload = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        Some(Self {
            payload,
            kind,
            flags,
            stream: [s0 & 0x7f, s1, s2, s3],
        })
    }
}

/// The frames of the header block that begins with `head`.
fn block(rest: &[u8], mut head: Head) -> Step {
    let stream = head.stream;
    let mut frames: Vec<Frame> = Vec::with_capacity(1);
    let mut start = 0;
    loop {
        let end = start + HEADER + head.payload;
        if end > MAX_HELD || frames.len() > MAX_CONTINUATIONS {
            return Step::Unreadable;
        }
        let Some(whole) = rest.get(start..end) else {
            return Step::Incomplete;
        };
        let Some(fragment) = fragment(whole, &head) else {
            return Step::Unreadable;
        };
        frames.push(Frame {
            whole: start..end,
            fragment: start + fragment.start..start + fragment.end,
        });
        if head.flags & END_HEADERS != 0 {
            return Step::Block(frames);
        }
        let Some(next) = rest.get(end..).and_then(Head::read) else {
            return Step::Incomplete;
        };
        if next.kind != CONTINUATION || next.stream != stream || next.payload > MAX_PAYLOAD {
            return Step::Unreadable;
        }
        (head, start) = (next, end);
    }
}

/// Where in the frame `whole` its part of the header block stands: without padding and priority.
fn fragment(whole: &[u8], head: &Head) -> Option<Range<usize>> {
    let (mut start, mut end) = (HEADER, whole.len());
    if head.kind == HEADERS {
        if head.flags & PADDED != 0 {
            end = end.checked_sub(usize::from(*whole.get(HEADER)?))?;
            start += 1;
        }
        if head.flags & PRIORITY != 0 {
            start += 5;
        }
    }
    (start <= end).then_some(start..end)
}

/// Mends the block made of `frames`, which begin at the start of `bytes`. Returns where the block ends now, and how
/// many bytes were cut from it; what follows has moved up by as many. `None`: the block can't be read.
fn mend(bytes: &mut [u8], frames: &[Frame]) -> Option<(usize, usize)> {
    let old_end = frames.last()?.whole.end;
    let edits = match frames {
        [only] => hpack::edits(bytes.get(only.fragment.clone())?)?,
        several => {
            let mut joined = Vec::with_capacity(old_end);
            for frame in several {
                joined.extend_from_slice(bytes.get(frame.fragment.clone())?);
            }
            hpack::edits(&joined)?
        }
    };
    if edits.is_empty() {
        return Some((old_end, 0));
    }
    let mended = rebuild(bytes, frames, &edits)?;
    let cut = old_end.checked_sub(mended.len())?;
    bytes.get_mut(..mended.len())?.copy_from_slice(&mended);
    if cut > 0 {
        bytes.copy_within(old_end.., mended.len());
    }
    Some((mended.len(), cut))
}

/// The frames with the edits applied; a fragment that lost bytes has its frame's length adjusted.
fn rebuild(bytes: &[u8], frames: &[Frame], edits: &[Edit]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(frames.last()?.whole.end);
    let mut edits = edits.iter().peekable();
    let mut offset = 0;
    for frame in frames {
        let start = out.len();
        out.extend_from_slice(bytes.get(frame.whole.start..frame.fragment.start)?);
        for byte in bytes.get(frame.fragment.clone())? {
            while edits.next_if(|edit| edit.range.end <= offset).is_some() {}
            match edits.peek().filter(|edit| edit.range.contains(&offset)) {
                Some(edit) => out.extend(edit.replacement.get(offset - edit.range.start)),
                None => out.push(*byte),
            }
            offset += 1;
        }
        out.extend_from_slice(bytes.get(frame.fragment.end..frame.whole.end)?);
        let payload = u32::try_from(out.len() - start - HEADER).ok()?.to_be_bytes();
        out.get_mut(start..start + 3)?.copy_from_slice(payload.get(1..)?);
    }
    Some(out)
}
