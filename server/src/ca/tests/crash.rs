use super::*;

/// How far a run goes: two rotations of both kinds.
const RUN: u32 = 45;

/// The server dies at each commit in turn, right before it is on disk or right after, and is started again.
#[tokio::test(start_paused = true)]
async fn whatever_step_a_crash_hits_everything_signed_verifies_and_signing_goes_on() {
    let commits = {
        let world = World::new();
        let server = world.start().await;
        tokio::time::sleep(RUN * HOUR).await;
        server.stop().await;
        world.disk.commits()
    };
    assert!(commits >= 12, "{commits} commits: too few to prove anything");
    for at in 0..commits {
        for fault in [Fault::DiesBefore(at), Fault::DiesAfter(at)] {
            for keys_lost in [false, true] {
                die_and_return(fault, keys_lost).await;
            }
        }
    }
}

async fn die_and_return(fault: Fault, keys_lost: bool) {
    let mut world = World::new();
    world.disk.set(fault);
    let context = format!("{fault:?}, keys lost: {keys_lost}");
    let mut signed = Vec::new();
    let mut seen = None;
    // It may die while it starts; then nothing was signed.
    if let Ok(server) = world.try_start(&StepWatch::never(), Supervisor::new()).await {
        while !world.disk.is_dead() {
            signed = server.sign();
            seen = Some((server.bundle(), server.active()));
            tokio::time::sleep(MINUTE * 5).await;
        }
        server.stop().await;
    }
    world.disk.set(Fault::None);
    if keys_lost {
        world.keys = Keys::default();
    }
    let server = world.start().await;
    let (now, bundle) = (server.now(), server.bundle());
    for one in signed.iter().filter(|one| one.not_after() > now) {
        one.verify(&bundle, now)
            .unwrap_or_else(|e| panic!("{context}: held before: {e}"));
    }
    for one in server.sign() {
        one.verify(&bundle, now)
            .unwrap_or_else(|e| panic!("{context}: signed after: {e}"));
    }
    if let Some((known, active)) = seen.filter(|_| !keys_lost) {
        // Who signs now is the one that did, or the one that had been published long before.
        for one in server.sign() {
            one.verify(&known, now)
                .unwrap_or_else(|e| panic!("{context}: by the bundle of before: {e}"));
        }
        let still = server.active();
        let published = |id: &str| known.jwt_authorities_by_key_id(id).next().is_some();
        assert!(still.1 == active.1 || published(&still.1), "{context}");
    }
    let journal = journal::Journal::read(&server.registry.read()).unwrap();
    for (entries, id) in [
        (&journal.x509, server.active().0),
        (&journal.jwt, server.active().1),
    ] {
        let active: Vec<_> = entries
            .iter()
            .filter(|e| e.status == journal::Status::Active)
            .collect();
        assert_eq!(active.len(), 1, "{context}");
        assert_eq!(active[0].authority_id, id, "{context}");
    }
    server.stop().await;
}
