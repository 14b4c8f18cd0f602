//! SPIFFE bundle maps: the bundles of several trust domains in one document (Trust Domain and Bundle, 5).

use std::collections::BTreeMap;

use credence_identity::{Bundle, TrustDomain};
use serde_json::Value;

use super::BundleError;
use super::spiffe::{from_object, parse_object};

/// Parses a bundle map: all of it or nothing. A trust domain named twice is refused, as is any other repeated member. A
/// refresh hint within a bundle says nothing: how often a map is read is the business of who distributes it.
///
/// # Errors
/// [`BundleError`], with the trust domain whose bundle is at fault.
pub fn parse_spiffe_map(document: &[u8]) -> Result<BTreeMap<TrustDomain, Bundle>, BundleError> {
    let document = parse_object(document)?;
    let Some(Value::Object(members)) = document.get("trust_domains") else {
        return Err(BundleError::MissingTrustDomains);
    };
    let bundle = |(name, value): (&String, &Value)| {
        let domain =
            TrustDomain::parse(name).map_err(|error| BundleError::BadTrustDomain(name.clone(), error))?;
        let read = match value {
            Value::Object(bundle) => from_object(&domain, bundle),
            _ => Err(BundleError::NotABundle("not a JSON object".to_owned())),
        };
        let bundle = read.map_err(|error| BundleError::InMap(domain.clone(), Box::new(error)))?;
        let bundle = Bundle {
            refresh_hint: None,
            ..bundle
        };
        Ok((domain, bundle))
    };
    members.iter().map(bundle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Conforms: BMP-04, BMP-06, BMP-07
    #[test]
    fn a_map_is_read_as_a_whole_or_not_at_all() {
        let document = br#"{"trust_domains":{"a.test":{"keys":[],"spiffe_sequence":7,"spiffe_refresh_hint":1},"b.test":{"keys":[]}}}"#;
        let map = parse_spiffe_map(document).unwrap();
        let a = &map[&TrustDomain::parse("a.test").unwrap()];
        assert_eq!((map.len(), a.sequence_number, a.refresh_hint), (2, 7, None));
        for (document, error) in [
            ("{}", "bundle map has no trust_domains object"),
            (
                r#"{"trust_domains":{"a.test":{"keys":[]},"b.test":{}}}"#,
                "bundle of b.test in bundle map: bundle document has no keys member",
            ),
            (
                r#"{"trust_domains":{"a.test":[]}}"#,
                "bundle of a.test in bundle map: not a bundle document: not a JSON object",
            ),
            (
                r#"{"trust_domains":{"spiffe://a.test":{"keys":[]}}}"#,
                "bundle map names \"spiffe://a.test\", which is no trust domain: ",
            ),
            (
                r#"{"trust_domains":{"a.test":{"keys":[]},"a.test":{"keys":[]}}}"#,
                "not a bundle document: ",
            ),
        ] {
            let found = parse_spiffe_map(document.as_bytes()).unwrap_err().to_string();
            assert!(found.starts_with(error), "{document}: {found}");
        }
    }
}
