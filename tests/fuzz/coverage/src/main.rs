//! Any fuzz target under libFuzzer; `CREDENCE_FUZZ_TARGET` names it. `just fuzz-coverage jwt 60`.
#![no_main]

use std::sync::LazyLock;

use credence_fuzz as fuzz;

static TARGET: LazyLock<fn(&[u8])> =
    LazyLock::new(|| match std::env::var("CREDENCE_FUZZ_TARGET").as_deref() {
        Ok("spiffe_id") => fuzz::fuzz_spiffe_id,
        Ok("csr") => fuzz::fuzz_csr,
        Ok("certificate") => fuzz::fuzz_certificate,
        Ok("private_key") => fuzz::fuzz_private_key,
        Ok("jwt") => fuzz::fuzz_jwt,
        Ok("bundle") => fuzz::fuzz_bundle,
        Ok("hcl") => fuzz::fuzz_hcl,
        Ok("hpack") => fuzz::fuzz_hpack,
        other => panic!("CREDENCE_FUZZ_TARGET is {other:?}: see this file for the names"),
    });

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
