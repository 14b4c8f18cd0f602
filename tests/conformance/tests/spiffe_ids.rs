//! `spiffe_ids.json` and `trust_domains_and_paths.json`: parsing, building and matching of SPIFFE IDs.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a vector that is not as it should be must fail the test"
)]

use credence_conformance::{judge, load, run_cases, text};
use credence_identity::{SpiffeId, SpiffeIdError, TrustDomain};
use serde_json::Value;

/// Conforms: SID-01, SID-02, SID-03, SID-04, SID-05, SID-06, SID-07, SID-09, SID-10, SID-11, SID-12, SID-14
/// Conforms: SID-15, SID-16, SID-17, SID-18, SID-30
#[test]
fn spiffe_ids() {
    run_cases(&load("spiffe_ids.json"), "cases", |case| {
        let Some(id) = judge(case, SpiffeId::parse(text(case, "input")).map_err(class))? else {
            return Ok(());
        };
        expect(id.trust_domain().as_str(), text(case, "trust_domain"))?;
        expect(id.path(), text(case, "path"))?;
        expect(&id.to_string(), text(case, "input"))
    });
}

/// Conforms: SID-08, SID-19
#[test]
fn every_byte_is_allowed_or_refused_in_its_place() {
    let document = load("spiffe_ids.json");
    let allowed = |set: &str| text(&document["byte_sweep"], set).to_owned();
    let (in_name, in_path) = (allowed("trust_domain_allowed"), allowed("path_segment_allowed"));
    assert_eq!((in_name.len(), in_path.len()), (39, 65));
    for c in (0..=0xFF_u8).map(char::from).filter(|c| *c != '/') {
        let parsed = SpiffeId::parse(&format!("spiffe://trustdomain{c}/path"));
        assert_eq!(parsed.is_ok(), in_name.contains(c), "{c:?} in the trust domain");
        assert!(parsed.is_ok() || parsed == Err(SpiffeIdError::BadTrustDomainChar));
        let parsed = SpiffeId::parse(&format!("spiffe://trustdomain/path{c}"));
        assert_eq!(parsed.is_ok(), in_path.contains(c), "{c:?} in the path");
        assert!(parsed.is_ok() || parsed == Err(SpiffeIdError::BadPathSegmentChar));
    }
}

/// Conforms: SID-13, SID-20, SID-31, SID-32
#[test]
fn trust_domains_and_paths() {
    run_cases(
        &load("trust_domains_and_paths.json"),
        "cases",
        |case| match text(case, "op") {
            "trust_domain" => {
                let parsed = TrustDomain::parse_lenient(text(case, "input")).map_err(class);
                match judge(case, parsed)? {
                    Some(domain) => expect(domain.as_str(), text(case, "trust_domain")),
                    None => Ok(()),
                }
            }
            "from_segments" => {
                let id = SpiffeId::from_segments(&domain(case), segments(case)).map_err(class);
                match judge(case, id)? {
                    Some(id) => expect(id.as_str(), text(case, "id_out")),
                    None => Ok(()),
                }
            }
            "from_path" => {
                let id = SpiffeId::from_path(&domain(case), text(case, "path")).map_err(class);
                match judge(case, id)? {
                    Some(id) => expect(id.path(), text(case, "path")),
                    None => Ok(()),
                }
            }
            "match" => matches(case),
            "compare" => {
                let equal = SpiffeId::parse(text(case, "a")) == SpiffeId::parse(text(case, "b"));
                expect(&equal.to_string(), &case["equal"].to_string())
            }
            "member_of" => {
                let id = SpiffeId::parse(text(case, "spiffe_id")).map_err(|e| e.to_string())?;
                expect(
                    &id.is_member_of(&domain(case)).to_string(),
                    &case["member"].to_string(),
                )
            }
            other => Err(format!("unknown operation {other}")),
        },
    );
}

/// The matchers of the vectors, said with equality and membership. Their empty ID is what we have no value for: `None`.
fn matches(case: &Value) -> Result<(), String> {
    let arg = &case["arg"];
    let parse = |text: &str| SpiffeId::parse(text).ok();
    for (input, expected) in case["results"].as_object().ok_or("no results")? {
        let id = parse(input);
        let matched = match text(case, "matcher") {
            "any" => true,
            "id" => id.is_some() && id == arg.as_str().and_then(parse),
            "one_of" => arg.as_array().is_some_and(|all| {
                all.iter()
                    .any(|one| id.is_some() && id == one.as_str().and_then(parse))
            }),
            "member_of" => {
                let domain = arg.as_str().and_then(|name| TrustDomain::parse(name).ok());
                id.zip(domain)
                    .is_some_and(|(id, domain)| id.is_member_of(&domain))
            }
            other => return Err(format!("unknown matcher {other}")),
        };
        if Some(matched) != expected.as_bool() {
            return Err(format!("{input:?}: we answer {matched}"));
        }
    }
    Ok(())
}

fn domain(case: &Value) -> TrustDomain {
    TrustDomain::parse(text(case, "trust_domain")).unwrap()
}

fn segments(case: &Value) -> Vec<String> {
    let strings = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(repeat) = case["segments_repeat"].as_array() {
        let times = usize::try_from(repeat[1].as_u64().unwrap()).unwrap();
        return vec![strings(&repeat[0]).unwrap(); times];
    }
    case["segments"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(strings)
        .collect()
}

fn expect(ours: &str, theirs: &str) -> Result<(), String> {
    if ours == theirs {
        Ok(())
    } else {
        Err(format!("we answer {ours:?} instead of {theirs:?}"))
    }
}

fn class(error: SpiffeIdError) -> &'static str {
    match error {
        SpiffeIdError::Empty => "Empty",
        SpiffeIdError::WrongScheme => "WrongScheme",
        SpiffeIdError::MissingTrustDomain => "MissingTrustDomain",
        SpiffeIdError::BadTrustDomainChar => "BadTrustDomainChar",
        SpiffeIdError::TrustDomainTooLong => "TrustDomainTooLong",
        SpiffeIdError::NoLeadingSlash => "NoLeadingSlash",
        SpiffeIdError::BadPathSegmentChar => "BadPathSegmentChar",
        SpiffeIdError::EmptySegment => "EmptySegment",
        SpiffeIdError::DotSegment => "DotSegment",
        SpiffeIdError::TrailingSlash => "TrailingSlash",
        SpiffeIdError::TooLong => "TooLong",
    }
}
