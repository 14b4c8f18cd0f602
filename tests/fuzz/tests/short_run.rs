//! A short run of every target, from the vectors and fixtures of the other tests. `CREDENCE_FUZZ_ROUNDS` makes it longer,
//! `CREDENCE_FUZZ_SEED` makes it another one.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of this is a test"
)]

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credence_fuzz::{
    fuzz_bundle, fuzz_certificate, fuzz_csr, fuzz_hcl, fuzz_hpack, fuzz_jwt, fuzz_private_key,
    fuzz_spiffe_id, run,
};
use serde_json::Value;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap())
}

fn short(target: fn(&[u8]), corpus: &[Vec<u8>]) {
    assert!(!corpus.is_empty(), "a run without a corpus reaches nothing");
    let rounds = usize::try_from(setting("CREDENCE_FUZZ_ROUNDS", 20_000)).unwrap();
    run(target, corpus, rounds, setting("CREDENCE_FUZZ_SEED", 1));
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn cases(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(repository().join("tests/vectors").join(file)).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    document["cases"].as_array().unwrap().clone()
}

/// The texts of a member of the cases.
fn texts(file: &str, member: &str) -> Vec<Vec<u8>> {
    let cases = cases(file);
    let texts = cases.iter().filter_map(|case| case[member].as_str());
    texts.map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn spiffe_ids() {
    short(fuzz_spiffe_id, &texts("spiffe_ids.json", "input"));
}

#[test]
fn requests() {
    let files = std::fs::read_dir(repository().join("common/crypto/tests/csr")).unwrap();
    let corpus: Vec<Vec<u8>> = files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    short(fuzz_csr, &corpus);
}

#[test]
fn certificates() {
    let cases = cases("x509_svids.json");
    let chain = |case: &Value| -> Vec<u8> {
        let certificates = case["chain"].as_array().unwrap().iter();
        certificates
            .flat_map(|der| STANDARD.decode(der.as_str().unwrap()).unwrap())
            .collect()
    };
    short(fuzz_certificate, &cases.iter().map(chain).collect::<Vec<_>>());
}

#[test]
fn private_keys() {
    let cases = cases("x509_svids.json");
    let keys = cases
        .iter()
        .filter_map(|case| STANDARD.decode(case["key"].as_str()?).ok());
    short(fuzz_private_key, &keys.collect::<Vec<_>>());
}

#[test]
fn tokens() {
    short(fuzz_jwt, &texts("jwt_svids.json", "token"));
}

#[test]
fn bundles() {
    short(fuzz_bundle, &texts("bundles.json", "document"));
}

#[test]
fn configurations() {
    let texts = [
        "server {\n\tbind_port = \"8081\" // port\n\tca_ttl = \"24h\"\n\tca_subject { country = [\"US\"], organization = [\"SPIFFE\",] }\n}\n",
        "plugins {\n  NodeAttestor \"join_token\" { plugin_data {} }\n  \"KeyManager\" \"disk\" {\n plugin_data = { keys_path = \"/x\" }\n }\n}\n",
        "/* a */ a = 1 b = true # c\nlist = [1, 2.5, -3e4, \"${env}\"]\ntext = <<-EOT\n  here\n  EOT\n",
        r#"{"server": {"trust_domain": "example.org", "x": [1, null, {"y": "\\u00e9\\n"}]}}"#,
        "a { a { a { a { a { a = [[[[[[]]]]]] } } } } }",
    ];
    short(fuzz_hcl, &texts.map(|text| text.as_bytes().to_vec()));
}

/// The first bytes of a connection: preface, SETTINGS, and a request whose header block is `block`, cut in two if `cut`.
fn connection(block: &[u8], cut: bool) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let mut bytes = [
        &[7][..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &frame(4, 0, 0, &[]),
    ]
    .concat();
    let (first, second) = block.split_at(if cut { block.len() / 2 } else { block.len() });
    bytes.extend(frame(1, if cut { 0 } else { 4 }, 1, first));
    if cut {
        bytes.extend(frame(9, 4, 1, second));
    }
    bytes.extend(frame(0, 1, 1, b"\0\0\0\0\0"));
    bytes
}

#[test]
fn header_blocks() {
    let (raw, encoded): (&[u8], &[u8]) = (b"/run/example/agent.sock", b"run%2Fexample%2Fagent.sock");
    let length = |value: &[u8]| u8::try_from(value.len()).unwrap();
    let java = [&[0x83, 0x86, 0x41, length(raw)][..], raw, &[0x84]].concat();
    let python = [
        &[0x40, 10][..],
        b":authority",
        &[length(encoded)],
        encoded,
        &[0x83, 0x86],
    ]
    .concat();
    let huffman_name = [
        &[
            0x40,
            0x88,
            0xb8,
            0x3b,
            0x53,
            0x39,
            0xec,
            0x32,
            0x7d,
            0x7f,
            length(raw),
        ][..],
        raw,
    ]
    .concat();
    let valid = [&[0x41, 9][..], b"localhost", &[0x83]].concat();
    let blocks = [java, python, huffman_name, valid];
    let corpus = blocks
        .iter()
        .flat_map(|block| [connection(block, false), connection(block, true)]);
    short(fuzz_hpack, &corpus.collect::<Vec<_>>());
}
