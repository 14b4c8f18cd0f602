//! The raw cost of the cryptography, on this machine and in this run: the limit that the figures are compared with.

use std::time::Instant;

use anyhow::Result;
use credence_crypto::{KeyType, PrivateKey, SignatureForm, Signer};

/// Microseconds of one core per operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw {
    pub(crate) sign: f64,
    pub(crate) verify: f64,
}

impl Raw {
    /// One signature checked and one made: the floor of an issuance.
    pub(crate) fn verify_and_sign(&self) -> f64 {
        self.sign + self.verify
    }
}

/// Medians of seven runs.
pub(crate) fn measure() -> Result<Raw> {
    let key = PrivateKey::generate(KeyType::EcP256)?;
    let message = [7_u8; 300];
    let signature = key.sign(&message, SignatureForm::X509)?;
    let sign = median(|| key.sign(&message, SignatureForm::X509).map(drop).is_ok());
    let (public, algorithm) = (key.public_key().clone(), KeyType::EcP256.signature_algorithm());
    let verify = median(|| {
        public
            .verify(algorithm, SignatureForm::X509, &message, &signature)
            .is_ok()
    });
    Ok(Raw { sign, verify })
}

fn median(mut operation: impl FnMut() -> bool) -> f64 {
    const ROUNDS: u32 = 2_000;
    let mut runs: Vec<f64> = (0..7)
        .map(|_| {
            let began = Instant::now();
            let good = (0..ROUNDS).filter(|_| operation()).count();
            assert_eq!(good, ROUNDS as usize, "an operation failed");
            began.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS)
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs.get(3).copied().unwrap_or_default()
}
