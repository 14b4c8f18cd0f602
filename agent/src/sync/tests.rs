//! The whole side of the server against a real one. Tests wait for what they expect and never for a time.

mod edge;
mod equivalence;
mod fake;
mod federation;
mod lab;
mod measured;
mod rebootstrap;
mod simulated_year;
mod taint;

use credence_identity::{SelectorSet, SpiffeId};
use credence_runtime::supervisor::TaskFailure;
use tokio::time::timeout;

use super::*;
use crate::attestor::node::{JoinToken, NoJoinToken};
use crate::cache::WorkloadUpdate;
use crate::cache::testing::{START, selectors, trust_domain};
use crate::sync::server::{CallError, Refused};
use lab::Lab;

/// Far more than anything takes, so that a test that fails ends.
const PATIENCE: Duration = Duration::from_secs(60);

struct Agent {
    synced: Synced,
    supervisor: Supervisor,
    id: SpiffeId,
}

impl Agent {
    async fn try_start(plan: SyncPlan, lab: &Lab) -> Result<Self, FirstError> {
        let supervisor = Supervisor::new();
        let steps = StepWatch::spawn(lab.clock.clone(), &supervisor);
        let synced = start(plan, lab.clock.clone(), &steps, &supervisor).await?;
        let id = synced.svid.borrow().svid.id.clone();
        Ok(Self {
            synced,
            supervisor,
            id,
        })
    }

    async fn start(plan: SyncPlan, lab: &Lab) -> Self {
        let mut agent = Self::try_start(plan, lab).await.unwrap();
        agent.in_step().await;
        agent
    }

    /// A new agent with a new token, that keeps nothing.
    async fn new(lab: &Lab) -> Self {
        let token = Arc::new(JoinToken::new(lab.token().await));
        Self::start(lab.plan(token, "agent", KeyManager::memory()), lab).await
    }

    async fn in_step(&mut self) {
        let stepped = timeout(PATIENCE, self.synced.in_step.wait_for(|times| *times > 0)).await;
        stepped.expect("in time").expect("running");
    }

    /// Waits until a caller with that uid has exactly these identities, signed.
    async fn serves(&self, uid: u8, names: &[&str]) -> WorkloadUpdate {
        let mut subscription = self.synced.cache.subscribe(caller(uid));
        let wait = async {
            loop {
                let update = subscription.update();
                let mut found: Vec<_> = update
                    .identities
                    .iter()
                    .map(|one| one.svid.svid.id.path())
                    .collect();
                found.sort_unstable();
                if !update.is_pending() && found == names {
                    return update;
                }
                subscription.changed().await;
            }
        };
        timeout(PATIENCE, wait).await.expect("in time")
    }

    /// Waits until a part of the agent fails.
    async fn end(&self) -> TaskFailure {
        timeout(PATIENCE, self.supervisor.wait())
            .await
            .expect("in time")
            .expect_err("ended by a failure")
    }

    async fn stop(self) {
        self.supervisor.shutdown();
        self.supervisor.wait().await.unwrap();
    }
}

fn caller(uid: u8) -> SelectorSet {
    selectors(&[uid]).into_iter().collect()
}

fn end_of(failure: &TaskFailure) -> &AgentEnd {
    failure.cause.downcast_ref().expect("the keeper's verdict")
}

#[tokio::test]
async fn attests_and_serves_what_is_registered_as_it_changes() {
    let lab = Lab::new().await;
    let agent = Agent::new(&lab).await;
    assert!(agent.id.path().starts_with("/spire/agent/join_token/"));
    lab.create(&agent.id, &[("b", "two", 1), ("a", "one", 1), ("c", "other", 2)])
        .await;
    let update = agent.serves(1, &["/one", "/two"]).await;
    let ids: Vec<_> = update
        .identities
        .iter()
        .map(|one| one.entry.id.as_str())
        .collect();
    assert_eq!(ids, ["a", "b"]);
    let jwt_authorities = || agent.synced.cache.bundle().jwt_authorities.len();
    assert!(
        jwt_authorities() > 0,
        "the bundle is the server's, not the bootstrap's"
    );

    lab.update(&agent.id, "a", "renamed", 1).await;
    agent.serves(1, &["/renamed", "/two"]).await;
    lab.delete("b").await;
    agent.serves(1, &["/renamed"]).await;

    let entry = agent.synced.cache.matching(&caller(2)).remove(0);
    let token = agent
        .synced
        .cache
        .jwt_svid(&entry, &["somebody".to_owned()])
        .await
        .unwrap();
    assert_eq!(
        (token.id.path(), token.audience.as_slice()),
        ("/other", &["somebody".to_owned()][..])
    );
    assert_eq!(lab.version_of(&agent.id).await, "1.2.3-test");
}

#[tokio::test]
async fn a_restarted_agent_goes_on_with_its_saved_svid_though_the_token_is_spent() {
    let lab = Lab::new().await;
    let token: Arc<dyn NodeAttestor> = Arc::new(JoinToken::new(lab.token().await));
    let keys = || KeyManager::disk(&lab.path("keys")).unwrap();
    let first = Agent::start(lab.plan(token.clone(), "data", keys()), &lab).await;
    let serial = first.synced.svid.borrow().svid.serial.clone();
    first.stop().await;
    let again = Agent::start(lab.plan(token.clone(), "data", keys()), &lab).await;
    assert_eq!(again.synced.svid.borrow().svid.serial, serial);
    again.stop().await;
    let no_token = Agent::start(lab.plan(Arc::new(NoJoinToken), "data", keys()), &lab).await;
    no_token.stop().await;

    // Without its key the SVID is of no use, and the token can't be used twice.
    let error = Agent::try_start(lab.plan(token, "data", KeyManager::memory()), &lab)
        .await
        .err()
        .unwrap();
    let text = error.to_string();
    assert!(
        text.contains("failed to attest: join token does not exist or has already been used"),
        "{text}"
    );
}

#[tokio::test]
async fn a_banned_agent_forgets_its_svid_and_ends() {
    let lab = Lab::new().await;
    let agent = Agent::new(&lab).await;
    lab.ban(&agent.id).await;
    let failure = agent.end().await;
    assert!(matches!(end_of(&failure), AgentEnd::Banned(_)), "{failure:?}");
    assert!(
        StateFile::open(&lab.path("agent"))
            .unwrap()
            .svid()
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn an_evicted_agent_that_cannot_attest_again_ends() {
    let lab = Lab::new().await;
    let agent = Agent::new(&lab).await;
    lab.evict(&agent.id).await;
    let failure = agent.end().await;
    assert!(
        matches!(end_of(&failure), AgentEnd::NotAttested(_)),
        "{failure:?}"
    );
    assert!(
        StateFile::open(&lab.path("agent"))
            .unwrap()
            .svid()
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn an_evicted_agent_that_can_attest_again_does_and_goes_on() {
    let hour = Duration::from_secs(3600);
    let (lab, attestor) = Lab::with_certificate().await;
    let plan = lab.plan(Arc::new(attestor), "agent", KeyManager::memory());
    let mut agent = Agent::start(plan, &lab).await;
    let serial = agent.synced.svid.borrow_and_update().svid.serial.clone();
    lab.evict(&agent.id).await;
    timeout(PATIENCE, agent.synced.svid.changed())
        .await
        .expect("in time")
        .unwrap();
    assert_ne!(agent.synced.svid.borrow().svid.serial, serial);
    assert_eq!(agent.synced.svid.borrow().svid.id, agent.id);
    lab.create(&agent.id, &[("a", "one", 1)]).await;
    agent.serves(1, &["/one"]).await;

    // A step past the end of its SVID: it attests again, and what it serves is signed anew.
    lab.clock.step_forward(2 * hour);
    agent.synced.svid.mark_unchanged();
    timeout(PATIENCE, agent.synced.svid.changed())
        .await
        .expect("in time")
        .unwrap();
    let update = agent.serves(1, &["/one"]).await;
    assert!(update.identities[0].svid.svid.not_after > START + 2 * hour);
}

#[tokio::test]
async fn an_agent_outlives_its_server_and_finds_it_again() {
    let mut lab = Lab::new().await;
    let agent = Agent::new(&lab).await;
    lab.create(&agent.id, &[("a", "one", 1)]).await;
    agent.serves(1, &["/one"]).await;
    lab.stop().await;
    assert_eq!(
        agent.synced.cache.identities(&caller(1)).identities.len(),
        1,
        "what is cached is served"
    );
    lab.start().await;
    lab.create(&agent.id, &[("b", "two", 1)]).await;
    agent.serves(1, &["/one", "/two"]).await;
    lab.delete("a").await;
    agent.serves(1, &["/two"]).await;
}

/// On several threads: a refusal of the old SVID must not be laid to the new one, whoever is quicker.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_renews_its_svid_and_keeps_its_place() {
    let lab = Lab::new().await;
    let mut agent = Agent::new(&lab).await;
    let mut names = Vec::new();
    for (id, path) in [("a", "/one"), ("b", "/tri"), ("c", "/two")] {
        let serial = agent.synced.svid.borrow_and_update().svid.serial.clone();
        // Past the renewal, but not past the end.
        lab.clock.step_forward(Duration::from_secs(35 * 60));
        timeout(PATIENCE, agent.synced.svid.changed())
            .await
            .expect("in time")
            .unwrap();
        assert_ne!(agent.synced.svid.borrow().svid.serial, serial);
        lab.create(&agent.id, &[(id, path.trim_start_matches('/'), 1)])
            .await;
        names.push(path);
        agent.serves(1, &names).await;
    }
    let saved = StateFile::open(&lab.path("agent"))
        .unwrap()
        .svid()
        .unwrap()
        .unwrap();
    assert_eq!(saved.svid.serial, agent.synced.svid.borrow().svid.serial);
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_whose_svid_died_and_that_cannot_attest_again_ends() {
    let lab = Lab::new().await;
    let agent = Agent::new(&lab).await;
    lab.clock.step_forward(Duration::from_secs(2 * 3600));
    let failure = agent.end().await;
    // Whoever notices first: the agent, or the server on whose connection it still is.
    assert!(
        matches!(end_of(&failure), AgentEnd::Expired(_) | AgentEnd::NotAttested(_)),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_step_back_drops_nothing() {
    let lab = Lab::new().await;
    let agent = Agent::new(&lab).await;
    lab.create(&agent.id, &[("a", "one", 1)]).await;
    agent.serves(1, &["/one"]).await;
    lab.clock.step_back(Duration::from_secs(3600));
    lab.create(&agent.id, &[("b", "two", 1)]).await;
    agent.serves(1, &["/one", "/two"]).await;
}
