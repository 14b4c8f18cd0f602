//! What follows when an authority of the own trust domain is tainted and revoked: against a real server, and by poll.

use credence_proto::spire::api::server::localauthority::v1 as pb;
use credence_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;
use credence_proto::spire::api::types;
use tonic::transport::Channel;

use credence_crypto::Signer as _;

use super::fake::{Script, connect, message};
use super::*;
use crate::cache::testing::{self, bundle, entry};

/// What the operator does; each step answers with the authority's ID.
struct Operator(LocalAuthorityClient<Channel>);

impl Operator {
    fn of(lab: &Lab) -> Self {
        Self(LocalAuthorityClient::new(lab.local()))
    }

    /// Prepares and activates; answers with the authority that signed before.
    async fn rotate_x509(&mut self) -> String {
        let request = pb::PrepareX509AuthorityRequest {};
        let prepared = self.0.prepare_x509_authority(request).await.unwrap();
        let authority_id = prepared.into_inner().prepared_authority.unwrap().authority_id;
        let request = pb::ActivateX509AuthorityRequest { authority_id };
        self.0.activate_x509_authority(request).await.unwrap();
        let request = pb::GetX509AuthorityStateRequest {};
        let shown = self.0.get_x509_authority_state(request).await.unwrap();
        shown.into_inner().old.unwrap().authority_id
    }

    async fn rotate_jwt(&mut self) -> String {
        let request = pb::PrepareJwtAuthorityRequest {};
        let prepared = self.0.prepare_jwt_authority(request).await.unwrap();
        let authority_id = prepared.into_inner().prepared_authority.unwrap().authority_id;
        let request = pb::ActivateJwtAuthorityRequest { authority_id };
        self.0.activate_jwt_authority(request).await.unwrap();
        let request = pb::GetJwtAuthorityStateRequest {};
        let shown = self.0.get_jwt_authority_state(request).await.unwrap();
        shown.into_inner().old.unwrap().authority_id
    }
}

async fn soon(what: impl Future<Output = ()>) {
    timeout(PATIENCE, what).await.expect("in time");
}

#[tokio::test]
async fn a_taint_replaces_the_agents_svid_and_its_workloads_and_drops_tokens() {
    let lab = Lab::new().await;
    let mut agent = Agent::new(&lab).await;
    lab.create(&agent.id, &[("a", "one", 1)]).await;
    let mut open = agent.synced.cache.subscribe(caller(1));
    let before = agent.serves(1, &["/one"]).await.identities.remove(0);
    let audience = ["db".to_owned()];
    let token = agent
        .synced
        .cache
        .jwt_svid(&before.entry, &audience)
        .await
        .unwrap();
    let mut operator = Operator::of(&lab);
    let (old, old_key) = (operator.rotate_x509().await, operator.rotate_jwt().await);
    assert_eq!(*token.key_id, *old_key);
    let own = agent.synced.svid.borrow_and_update().svid.clone();
    assert_eq!(
        credence_crypto::hex(own.authority_key_id.as_deref().unwrap()),
        old
    );

    let request = pb::TaintX509AuthorityRequest {
        authority_id: old.clone(),
    };
    operator.0.taint_x509_authority(request).await.unwrap();
    soon(async {
        agent.synced.svid.changed().await.unwrap();
        // On the stream that is open.
        loop {
            let update = open.update();
            assert_eq!(update.identities.len(), 1, "it is served all the time");
            if update.identities[0].svid.svid.authority_key_id != own.authority_key_id {
                break;
            }
            open.changed().await;
        }
    })
    .await;
    assert_ne!(
        agent.synced.svid.borrow().svid.authority_key_id,
        own.authority_key_id
    );

    let request = pb::TaintJwtAuthorityRequest {
        authority_id: old_key.clone(),
    };
    operator.0.taint_jwt_authority(request).await.unwrap();
    soon(async {
        while agent.synced.cache.jwt_svid_count() > 0 {
            open.changed().await;
        }
    })
    .await;
    let fresh = agent
        .synced
        .cache
        .jwt_svid(&before.entry, &audience)
        .await
        .unwrap();
    assert_ne!(*fresh.key_id, *old_key);

    let request = pb::RevokeX509AuthorityRequest { authority_id: old };
    operator.0.revoke_x509_authority(request).await.unwrap();
    let request = pb::RevokeJwtAuthorityRequest {
        authority_id: old_key,
    };
    operator.0.revoke_jwt_authority(request).await.unwrap();
    lab.create(&agent.id, &[("b", "two", 1)]).await;
    let update = agent.serves(1, &["/one", "/two"]).await;
    soon(async {
        let is_one = || {
            let bundle = agent.synced.cache.bundle();
            bundle.x509_authorities.len() == 1 && bundle.jwt_authorities.len() == 1
        };
        while !is_one() {
            open.changed().await;
        }
    })
    .await;
    let bundle = agent.synced.cache.bundle();
    for identity in &update.identities {
        let chain = &identity.svid.svid.chain;
        credence_crypto::x509::verify_svid(chain, &bundle.x509_authorities, lab.clock.now()).unwrap();
    }
    agent.stop().await;
}

#[tokio::test]
async fn wit_svids_of_the_server_are_bound_to_keys_of_the_configured_type() {
    let lab = Lab::new().await;
    let agent = Agent::new(&lab).await;
    lab.create(&agent.id, &[("a", "one", 1)]).await;
    let entry = agent.serves(1, &["/one"]).await.identities.remove(0).entry;
    let cache = &agent.synced.cache;
    let issued = cache.wit_svid(&entry).await.unwrap();
    let again = cache.wit_svid(&entry).await.unwrap();
    assert!(Arc::ptr_eq(&issued, &again));
    let bundle = cache.bundle();
    let now = lab.clock.now();
    credence_crypto::wit::verify(&issued.svid.token, |_| Some(bundle), now).unwrap();
    assert_eq!(&issued.svid.public_key, issued.key.public_key());
    assert_eq!(issued.key.key_type(), KeyType::EcP256);
    agent.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_taint_that_comes_by_poll_has_the_same_effect() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new();
    let published = |tainted| types::Bundle {
        trust_domain: "example.org".to_owned(),
        x509_authorities: vec![types::X509Certificate {
            asn1: testing::authority().to_vec(),
            tainted,
        }],
        sequence_number: u64::from(tainted),
        ..types::Bundle::default()
    };
    let whole = || credence_proto::spire::api::server::entry::v1::SyncAuthorizedEntriesResponse {
        entries: vec![message("a", 0)],
        ..Default::default()
    };
    let script = Arc::new(Script {
        entries: std::sync::Mutex::new((0..20).map(|_| vec![Ok(whole())]).collect()),
        bundle: std::sync::Mutex::new(Some(published(false))),
        largest_batch: 10,
        ..Script::default()
    });
    let (server, _refused) = connect(&script, &supervisor);
    let clock = Arc::new(credence_runtime::clock::ManualClock::new(START));
    let issuer = Arc::new(ServerTokenIssuer {
        server: server.clone(),
        key_type: KeyType::EcP256,
    });
    let cache = Cache::new(clock.clone(), bundle(), CacheLimits::default(), issuer);
    let own = Arc::new(testing::svid(&entry("x"), START, PATIENCE));
    let (bundles, own_bundle) = watch::channel(bundle());
    let (stepped, in_step) = watch::channel(0);
    let synchroniser = Synchroniser {
        server: server.clone(),
        svid: watch::channel(own).1,
        cache: cache.clone(),
        trust: fake::trust(folder.path(), clock.clone()),
        bundle: bundles,
        in_step: stepped,
        last_sync: watch::channel(None).0,
        clock: clock.clone(),
        interval: Duration::from_secs(5),
        whole_sets: false,
        version: "1.2.3",
        signing: watch::channel(Signing::default()).1,
        journal: Journal::new(clock.clone()),
    };
    let issuing = Issuing {
        server,
        cache: cache.clone(),
        key_type: KeyType::EcP256,
        steps: StepWatch::never().subscribe(),
        in_step,
        signing: watch::channel(Signing::default()).0,
        journal: Journal::new(clock.clone()),
    };
    supervisor.spawn("synchroniser", async move { synchroniser.run().await.map(drop) });
    supervisor.spawn("issuing", issuing.run());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let signed = || script.batches.lock().unwrap().len();
    assert_eq!(signed(), 1);
    *script.bundle.lock().unwrap() = Some(published(true));
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(
        own_bundle.borrow().x509_authorities[0].tainted,
        "the keeper learns of it"
    );
    assert_eq!(signed(), 2);
    supervisor.shutdown();
}
