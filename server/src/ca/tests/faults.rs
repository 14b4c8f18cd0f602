use super::*;

#[tokio::test(start_paused = true)]
async fn a_full_disk_costs_no_authority_and_shows_in_health_until_it_has_room_again() {
    let world = World::new();
    let server = world.start().await;
    let before = server.active();
    world.disk.set(Fault::Full);
    tokio::time::sleep(12 * HOUR + MINUTE).await;
    assert_eq!(
        server.authority.rotation_health(),
        Ok(()),
        "ten failures are borne"
    );
    tokio::time::sleep(11 * HOUR).await;
    assert_eq!(server.active(), before);
    assert!(server.authority.rotation_health().is_err());
    server.authority.signing_health().unwrap();
    let verifier = server.bundle();
    for signed in server.sign() {
        signed.verify(&verifier, server.now()).unwrap();
    }
    world.disk.set(Fault::None);
    tokio::time::sleep(2 * MINUTE).await;
    assert_eq!(server.authority.rotation_health(), Ok(()));
    let after = server.active();
    assert!(after.0 != before.0 && after.1 != before.1, "both were overdue");
    server.stop().await;
}

/// Conforms: FED-32
#[tokio::test(start_paused = true)]
async fn a_late_successor_signs_only_after_verifiers_could_see_it() {
    let world = World::new();
    let server = world.start().await;
    let before = server.active();
    world.disk.set(Fault::Full);
    tokio::time::sleep(22 * HOUR).await;
    world.disk.set(Fault::None);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(server.bundle().x509_authorities.len(), 2, "it is published");
    assert_eq!(server.active(), before, "and doesn't sign yet");
    tokio::time::sleep(MINUTE).await;
    assert_ne!(server.active(), before);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_manager_that_fails_costs_no_authority() {
    let world = World::new();
    let server = world.start().await;
    let before = server.active();
    *world.keys.fail.lock().unwrap() = true;
    tokio::time::sleep(23 * HOUR).await;
    assert_eq!(server.active(), before);
    assert!(server.authority.rotation_health().is_err());
    // Expired, it signs nothing: an SVID that nobody can verify is worse than none.
    tokio::time::sleep(2 * HOUR).await;
    assert!(server.authority.signing_health().is_err());
    server
        .authority
        .sign_jwt_svid(&server.entry, &["db".to_owned()])
        .unwrap_err();
    *world.keys.fail.lock().unwrap() = false;
    tokio::time::sleep(MINUTE).await;
    server.authority.signing_health().unwrap();
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_journal_stops_the_start_and_is_left_as_it_is() {
    let world = World::new();
    let server = world.start().await;
    let spoil = |_: &registry::State| {
        let journal = crate::store::Journal(Arc::from(&b"{ not a journal"[..]));
        Ok::<_, ()>((vec![Change::JournalPut(journal)], ()))
    };
    server.registry.transact(spoil).await.unwrap();
    server.stop().await;
    let started = world.try_start(&StepWatch::never(), Supervisor::new()).await;
    assert!(matches!(started.map(drop), Err(AuthorityError::Journal(_))));
    let snapshot = world.disk.store.lock().await.load().await.unwrap();
    assert_eq!(&*snapshot.journal.unwrap().0, b"{ not a journal");
}

/// Conforms: FED-34
#[tokio::test(start_paused = true)]
async fn with_lost_keys_a_new_authority_is_made_and_the_old_one_stays_in_the_bundle_to_its_end() {
    let mut world = World::new();
    let server = world.start().await;
    let (before, held) = (server.active(), server.sign());
    server.stop().await;
    world.keys = Keys::default();
    let server = world.start().await;
    let after = server.active();
    assert!(after.0 != before.0 && after.1 != before.1);
    assert_eq!(
        (
            server.bundle().x509_authorities.len(),
            server.bundle().jwt_authorities.len()
        ),
        (2, 2)
    );
    for signed in held {
        signed.verify(&server.bundle(), server.now()).unwrap();
    }
    tokio::time::sleep(47 * HOUR).await;
    assert!(
        server
            .bundle()
            .jwt_authorities_by_key_id(&before.1)
            .next()
            .is_some()
    );
    tokio::time::sleep(8 * HOUR).await;
    assert!(
        server
            .bundle()
            .jwt_authorities_by_key_id(&before.1)
            .next()
            .is_none(),
        "pruned a day after its end"
    );
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_step_back_replaces_no_authority_and_a_step_forward_renews_at_once() {
    let world = World::new();
    let supervisor = Supervisor::new();
    let steps = StepWatch::spawn(Arc::clone(&world.clock) as _, &supervisor);
    let server = world.start_watching(&steps, supervisor).await;
    let before = server.active();
    world.clock.step_back(HOUR);
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(server.active(), before);
    server.sign();
    let serial = |server: &Server| server.authority.server_svid().borrow().svid.serial.clone();
    let own = serial(&server);
    // Past the end of the server's SVID.
    world.clock.step_forward(3 * HOUR);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_ne!(serial(&server), own);
    assert_eq!(server.active(), before);
    // Past the end of everything.
    world.clock.step_forward(3 * DAY);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_ne!(server.active(), before);
    for signed in server.sign() {
        signed.verify(&server.bundle(), server.now()).unwrap();
    }
    assert_eq!(
        server.bundle().x509_authorities.len(),
        2,
        "nothing is pruned at a mere step"
    );
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_servers_svid_is_renewed_at_half_of_its_life_and_when_its_issuer_is_tainted() {
    let world = World::new();
    let server = world.start().await;
    let mut svid = server.authority.server_svid();
    assert_eq!(
        svid.borrow().svid.id.as_str(),
        "spiffe://example.org/spire/server"
    );
    let first = svid.borrow_and_update().svid.serial.clone();
    tokio::time::sleep(29 * MINUTE).await;
    assert!(!svid.has_changed().unwrap());
    tokio::time::sleep(2 * MINUTE).await;
    assert_ne!(svid.borrow_and_update().svid.serial, first);
    let taint = |state: &registry::State| {
        let change = rotation::change_bundle(state, |bundle| bundle.x509_authorities[0].tainted = true);
        Ok::<_, ()>((vec![change], ()))
    };
    server.registry.transact(taint).await.unwrap();
    tokio::time::timeout(Duration::from_secs(1), svid.changed())
        .await
        .unwrap()
        .unwrap();
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_jwt_svids_there_is_no_jwt_authority() {
    let mut world = World::new();
    world.settings.disable_jwt_svids = true;
    let server = world.start().await;
    assert!(server.bundle().jwt_authorities.is_empty());
    let refused = server
        .authority
        .sign_jwt_svid(&server.entry, &["db".to_owned()])
        .unwrap_err();
    assert!(matches!(refused, SigningError::NoJwtAuthority));
    server.stop().await;
}
