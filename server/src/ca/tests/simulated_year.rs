use std::collections::BTreeSet;

use super::*;

/// How old the verifier's bundle is at most: far longer than a push takes, and than any poll.
const BUNDLE_AGE: Duration = Duration::from_secs(60);

/// A year of rotation, with a server that is now and then restarted. Whatever is signed verifies at once by a bundle
/// that is a minute old, and at its very end by the newest one.
/// Conforms: FED-32, FED-34
#[tokio::test(start_paused = true)]
async fn a_year_without_an_svid_that_cannot_be_verified() {
    let world = World::new();
    let mut server = world.start().await;
    let (mut held, mut authorities): (Vec<Signed>, BTreeSet<_>) = Default::default();
    let mut sizes = BTreeSet::new();
    for hour in 0..24 * 365_u32 {
        let verifier = server.bundle();
        tokio::time::sleep(BUNDLE_AGE).await;
        for signed in server.sign() {
            signed.verify(&verifier, server.now()).unwrap();
            held.push(signed);
        }
        tokio::time::sleep(HOUR - BUNDLE_AGE).await;
        let (now, newest) = (server.now(), server.bundle());
        // What ends before the next look is verified once more, in its last second.
        held.retain(|signed| {
            let last_second = signed.not_after() - Duration::from_secs(1);
            let ends = last_second < now + HOUR;
            if ends && last_second >= now {
                signed.verify(&newest, last_second).unwrap();
            }
            !ends
        });
        authorities.insert(server.active());
        sizes.insert(newest.x509_authorities.len().max(newest.jwt_authorities.len()));
        if hour % 509 == 508 {
            let before = server.active();
            server.stop().await;
            server = world.start().await;
            assert_eq!(server.active(), before, "a restart replaces no authority");
        }
    }
    // Each is prepared at half of the life of the one before, and none stays in the bundle for ever.
    assert!(
        (720..=740).contains(&authorities.len()),
        "{} authorities",
        authorities.len()
    );
    assert!(*sizes.last().unwrap() <= 5, "{sizes:?} authorities in the bundle");
    server.stop().await;
}

/// Short lives, as SPIRE's suites configure them: an authority of a minute, SVIDs of ten seconds.
#[tokio::test(start_paused = true)]
async fn an_hour_of_authorities_that_live_for_a_minute() {
    let mut world = World::new();
    world.settings.ca_ttl = MINUTE;
    world.settings.x509_svid_ttl = Duration::from_secs(10);
    let server = world.start().await;
    for _ in 0..360 {
        let verifier = server.bundle();
        tokio::time::sleep(Duration::from_secs(10)).await;
        for signed in server.sign() {
            signed.verify(&verifier, server.now()).unwrap();
            assert!(signed.not_after() > server.now());
        }
    }
    server.stop().await;
}
