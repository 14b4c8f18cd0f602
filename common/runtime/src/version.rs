//! What this program calls itself to people, scripts and servers.

/// SPIRE's version that this one stands in for, and our own behind it (SemVer's build metadata). Scripts that compare
/// versions find a SPIRE of that age; a person finds out what really runs.
pub const VERSION: &str = concat!("1.16.0-credence+", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::VERSION;

    #[test]
    fn it_begins_as_spires_does_and_ends_with_our_own() {
        assert!(VERSION.starts_with("1.16.0-credence"));
        assert!(VERSION.ends_with(env!("CARGO_PKG_VERSION")));
        assert!(
            VERSION.len() <= 255,
            "more than a server takes as an agent's version"
        );
        assert_eq!(VERSION.split_whitespace().count(), 1);
    }
}
