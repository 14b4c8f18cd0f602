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
    fuzz_bundle, fuzz_certificate, fuzz_csr, fuzz_jwt, fuzz_private_key, fuzz_spiffe_id, run,
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
