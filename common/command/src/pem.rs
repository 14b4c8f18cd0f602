//! PEM as OpenSSL and Go write it: lines of 64 columns that end with LF.

use pem::{EncodeConfig, LineEnding, Pem};

/// A certificate.
pub fn certificate(der: &[u8]) -> String {
    encode("CERTIFICATE", der)
}

/// A private key in PKCS #8.
pub fn private_key(der: &[u8]) -> String {
    encode("PRIVATE KEY", der)
}

fn encode(label: &str, der: &[u8]) -> String {
    pem::encode_config(
        &Pem::new(label, der),
        EncodeConfig::new().set_line_ending(LineEnding::LF),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_have_64_columns() {
        let text = super::certificate(&[0; 96]);
        let lines: Vec<_> = text.lines().map(str::len).collect();
        assert_eq!(lines, [27, 64, 64, 25], "{text}");
        assert!(
            text.ends_with("-----END CERTIFICATE-----\n") && !text.contains('\r'),
            "{text}"
        );
    }
}
