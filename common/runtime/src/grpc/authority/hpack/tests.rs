use super::*;

fn raw(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut block = name.to_vec();
    block.extend(length_prefix(0, value.len()));
    block.extend(value);
    block
}

fn coded(name: &[u8], value: &[u8]) -> Vec<u8> {
    let value = huffman::encode(value);
    let mut block = name.to_vec();
    block.extend(length_prefix(HUFFMAN, value.len()));
    block.extend(value);
    block
}

/// `:authority` as each representation can spell its name.
fn names() -> Vec<Vec<u8>> {
    let mut names = vec![vec![0x41], vec![0x01], vec![0x11]];
    for first in [0x40, 0x00, 0x10] {
        names.push([&[first, 0x0a], AUTHORITY].concat());
        names.push([&[first, 0x88], AUTHORITY_HUFFMAN].concat());
    }
    names
}

#[test]
fn what_http_refuses_is_mended_and_keeps_its_length() {
    for (given, wanted) in [
        (
            &b"run%2Fexample%2Fagent.sock"[..],
            &b"run-2Fexample-2Fagent.sock"[..],
        ),
        (b"/run/example/agent.sock", b"-run-example-agent.sock"),
        (b"a:b:c", b"a-b-c"),
        (b"[", b"-"),
        (b"name@", b"name-"),
        (b"\xff\x00 ", b"---"),
    ] {
        assert!(Authority::try_from(given).is_err());
        for name in names() {
            let block = [&[0x83][..], &raw(&name, given), &[0x86]].concat();
            let [edit] = &edits(&block).unwrap()[..] else {
                panic!("one edit")
            };
            assert_eq!(edit.replacement, raw(&[], wanted));
            assert_eq!(edit.range.len(), edit.replacement.len());

            let block = [&[0x83][..], &coded(&name, given), &[0x86]].concat();
            let [edit] = &edits(&block).unwrap()[..] else {
                panic!("one edit")
            };
            assert_eq!(edit.replacement, coded(&[], wanted));
        }
    }
}

#[test]
fn valid_values_and_other_headers_are_left_alone() {
    for value in [
        &b"localhost"[..],
        b"spire_agent",
        b"example.org:8081",
        b"user@host",
        b"[::1]:80",
        b"",
    ] {
        for name in names() {
            assert_eq!(edits(&raw(&name, value)), Some(vec![]));
            assert_eq!(edits(&coded(&name, value)), Some(vec![]));
        }
    }
    for name in [
        &[0x44][..],
        b"\x40\x04host",
        b"\x40\x0a:authoritz",
        &[0x7f, 0x01],
        &[0x1f, 0x80, 0x01],
    ] {
        assert_eq!(edits(&raw(name, b"/a%b")), Some(vec![]));
    }
    assert_eq!(
        edits(&[0x3f, 0xe1, 0x1f, 0xbe, 0xff, 0x80, 0x01]),
        Some(vec![]),
        "table size, indexed fields"
    );
}

#[test]
fn values_of_every_length_around_the_prefix() {
    for length in [1, 126, 127, 128, 254, 255, 256, 5_000] {
        let value = vec![b'/'; length];
        let block = raw(&[0x41], &value);
        let found = edits(&block).unwrap();
        assert_eq!(found[0].replacement, raw(&[], &vec![b'-'; length]));
        // Fifteen bits each become six: the prefix itself gets shorter.
        let block = coded(&[0x41], &vec![b'<'; length]);
        let found = edits(&block).unwrap();
        assert_eq!(found[0].replacement, coded(&[], &vec![b'-'; length]));
    }
}

#[test]
fn what_cannot_be_read_is_said_to_be_so() {
    for block in [
        &[0x41][..],
        &[0x41, 0x05, b'a'],
        &[0x41, 0xff],
        &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0x41, 0x81, 0x00],
        &[0x40, 0x0a, b':'],
    ] {
        assert_eq!(edits(block), None, "{block:x?}");
    }
}

#[test]
fn mended_values_are_accepted() {
    use rand::{Rng as _, SeedableRng as _};
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    for _ in 0..20_000 {
        let mut value = vec![0_u8; random.random_range(1..40)];
        random.fill(&mut value[..]);
        for block in [raw(&[0x41], &value), coded(&[0x41], &value)] {
            for edit in edits(&block).unwrap() {
                let after = [
                    &block[..edit.range.start],
                    &edit.replacement,
                    &block[edit.range.end..],
                ]
                .concat();
                assert_eq!(edits(&after), Some(vec![]));
            }
        }
    }
}
