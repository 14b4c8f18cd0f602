use super::*;
use proptest::prelude::*;

fn example() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

/// Conforms: SID-34
#[test]
fn reserved_and_agent_ids_are_told_by_whole_segments() {
    let id = |path: &str| SpiffeId::from_path(&example(), path).unwrap();
    assert!(id("/spire").is_reserved());
    assert!(id("/spire/server").is_reserved());
    assert!(!id("/spirella/x").is_reserved());
    assert!(!id("/a/spire").is_reserved());
    assert!(id("/spire/agent/x509pop/1").is_agent());
    assert!(!id("/spire/agent").is_agent());
    assert!(!id("/spire/agents/x").is_agent());
    assert_eq!(SpiffeId::server(&example()), id("/spire/server"));
    assert_eq!(
        SpiffeId::agent(&example(), "/join_token/4f").unwrap(),
        id("/spire/agent/join_token/4f")
    );
    assert_eq!(
        SpiffeId::agent(&example(), "x"),
        Err(SpiffeIdError::NoLeadingSlash)
    );
    assert_eq!(SpiffeId::agent(&example(), ""), Err(SpiffeIdError::TrailingSlash));
}

/// Conforms: SID-21, SID-22, SID-23
#[test]
fn the_longest_id_is_2048_bytes_however_it_is_made() {
    let path = |length: usize| format!("/{}", "a".repeat(length - 1));
    let room = MAX_ID_BYTES - "spiffe://example.org".len();
    let longest = SpiffeId::from_path(&example(), &path(room)).unwrap();
    assert_eq!(longest.as_str().len(), MAX_ID_BYTES);
    assert_eq!(SpiffeId::parse(longest.as_str()), Ok(longest));
    assert_eq!(
        SpiffeId::from_path(&example(), &path(room + 1)),
        Err(SpiffeIdError::TooLong)
    );
    assert_eq!(
        SpiffeId::parse(&format!("spiffe://example.org{}", path(room + 1))),
        Err(SpiffeIdError::TooLong)
    );
}

proptest! {
    #[test]
    fn what_parses_displays_as_it_was_and_comes_apart_into_its_parts(
        name in "[a-z0-9._-]{1,40}",
        segments in prop::collection::vec("[A-Za-z0-9_-][A-Za-z0-9._-]{0,12}", 0..6),
    ) {
        let domain = TrustDomain::parse(&name).unwrap();
        let id = SpiffeId::from_segments(&domain, &segments).unwrap();
        let again: SpiffeId = id.to_string().parse().unwrap();
        prop_assert_eq!(&again, &id);
        prop_assert_eq!(again.trust_domain(), domain.clone());
        prop_assert!(again.is_member_of(&domain));
        prop_assert_eq!(SpiffeId::from_path(&domain, again.path()).unwrap(), id.clone());
        prop_assert_eq!(TrustDomain::parse_lenient(id.as_str()).unwrap(), domain.clone());
        prop_assert_eq!(domain.id().trust_domain(), domain);
    }

    #[test]
    fn any_text_is_refused_or_kept_byte_by_byte(text in "(spiffe://)?[a-zA-Z./:?#%@ é\\-]{0,24}") {
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert_eq!(id.as_str(), &text);
            prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain_name(), id.path()), text);
        }
    }
}
